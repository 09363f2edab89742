//! `--json=lines`: every line is an event of the schema, and a reader that leaves or does not read stops nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use serde_json::Value as Json;

use crate::world::{Ran, World};

const TAG: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// A world with two objects, and a plan that also names one that does not exist.
fn world() -> World {
    let world = World::filled("bucket,key\nbkt,a\nbkt,b\n");
    world.write("list.csv", "bkt,a\nbkt,gone\nbkt,b\n");
    world.plan(&format!("[manifest.csv]\npath = \"list.csv\"\n{TAG}[limits]\nfailure_threshold = 1\n"));
    world
}

/// Returns why a value does not match a schema of the kind that `schema --events` prints.
fn mismatch(schema: &Json, value: &Json) -> Option<String> {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_u64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    let fits = |wanted: &Json| wanted == kind || (wanted == "number" && kind == "integer");
    let types = match &schema["type"] {
        Json::Null => true,
        Json::Array(types) => types.iter().any(fits),
        one => fits(one),
    };
    if !types {
        return Some(format!("{value} is {kind}, not {}", schema["type"]));
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        return Some(format!("{value} is not {}", schema["const"]));
    }
    if value.as_f64().zip(schema["minimum"].as_f64()).is_some_and(|(value, least)| value < least) {
        return Some(format!("{value} is too small"));
    }
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) else { return None };
    let required = schema["required"].as_array().expect("required").iter().filter_map(Json::as_str);
    if let Some(missing) = required.into_iter().find(|name| !fields.contains_key(*name)) {
        return Some(format!("{missing} is missing"));
    }
    fields.iter().find_map(|(name, value)| match properties.get(name) {
        Some(schema) => mismatch(schema, value).map(|why| format!("{name}: {why}")),
        None => Some(format!("{name} is not in the schema")),
    })
}

/// Returns the events of a run, each checked against the schema.
#[track_caller]
fn events(world: &World, text: &str) -> Vec<Json> {
    let schema = world.run(&["schema", "--events"]).ended(0).json();
    let kinds = schema["oneOf"].as_array().expect("events");
    let events: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for event in &events {
        let kind = kinds.iter().find(|kind| kind["properties"]["event"]["const"] == event["event"]);
        let kind = kind.unwrap_or_else(|| panic!("the schema has no such event: {event}"));
        assert_eq!(mismatch(kind, event), None, "{event}");
    }
    events
}

fn names(events: &[Json]) -> Vec<&str> {
    let mut names: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    names.dedup();
    names
}

fn apply(world: &World) -> Ran {
    world.run(&["apply", "plan.toml", "--auto-approve", "--json=lines"])
}

#[test]
fn every_line_of_an_apply_is_an_event_of_the_schema() {
    let world = world();
    let ran = apply(&world).ended(3);
    let events = events(&world, &ran.stdout);
    let names = names(&events);
    assert_eq!((names[0], names[names.len() - 1]), ("started", "ended"), "{names:?}");
    for name in ["progress", "checkpoint", "failure"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let failure = events.iter().find(|event| event["event"] == "failure").expect("a failure");
    assert_eq!((&failure["code"], &failure["example"]["key"]), (&"NoSuchKey".into(), &"gone".into()));
    let ended = events.last().expect("an event");
    assert_eq!((&ended["exit_code"], &ended["error"]), (&3.into(), &Json::Null));
    assert_eq!((&ended["result"]["succeeded"], &ended["result"]["failed"]), (&2.into(), &1.into()));
    assert!(events.iter().all(|event| event["job_id"] == ended["result"]["job_id"]));
    let last = events.iter().rfind(|event| event["event"] == "checkpoint").expect("a checkpoint");
    assert_eq!((&last["succeeded"], &last["failed"], &last["not_attempted"]), (&2.into(), &1.into(), &0.into()));
}

#[test]
fn the_events_of_run_say_how_each_job_ended() {
    let world = world();
    let created = world.run(&["create", "plan.toml", "--json=lines"]).ended(0);
    let created = events(&world, &created.stdout);
    let job = created.last().expect("an event")["result"]["job_id"].as_str().expect("a job").to_owned();
    world.run(&["confirm", &job]).ended(0);
    let ran = world.run(&["run", "--json=lines"]).ended(3);
    let events = events(&world, &ran.stdout);
    let ended: Vec<_> = events.iter().filter(|event| event["event"] == "job_ended").collect();
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0]["job_id"], &ended[0]["result"]["failed"]), (&job.as_str().into(), &1.into()));
    let last = events.last().expect("an event");
    assert_eq!((&last["exit_code"], &last["result"]["jobs"][0]["job_id"]), (&3.into(), &job.as_str().into()));
    // A retry begins with a job that has not processed anything.
    let ran = world.run(&["retry", &job, "--auto-approve", "--json=lines"]).ended(3);
    assert_eq!(self::events(&world, &ran.stdout)[0]["resumed"], false);
}

#[test]
fn a_command_that_fails_ends_with_its_error() {
    let world = world();
    world.write("bad.toml", "name = 1\n");
    let ran = world.run(&["apply", "bad.toml", "--json=lines"]).ended(2);
    let events = events(&world, &ran.stdout);
    assert_eq!(names(&events), ["ended"]);
    assert_eq!((&events[0]["exit_code"], &events[0]["error"]["code"]), (&2.into(), &"InvalidPlan".into()));
    // Without jobs there are no events.
    let ran = world.run(&["list", "--json=lines"]).ended(2).json();
    assert_eq!((&ran["version"], &ran["error"]["code"]), (&2.into(), &"InvalidUsage".into()));
    let ran = world.run(&["apply", "plan.toml", "--json=xml"]).ended(2).json();
    assert_eq!(ran["error"]["code"], "InvalidUsage");
}

#[test]
fn a_reader_that_leaves_does_not_stop_the_job() {
    let world = world();
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve", "--json=lines"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.next().expect("a line").expect("text").contains("started"));
    drop(lines);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(3), "{said}");
    assert!(!said.contains("pipe"), "{said}");
    assert_eq!(world.objects().tags("b", None), "t=1");
}

#[test]
fn a_reader_that_does_not_read_does_not_stop_the_job() {
    let world = world();
    // The pipe is full from the beginning: not even the first event can be written.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = rustix::fs::fcntl_getfl(&writer).expect("flags");
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).expect("set");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).expect("set");
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve", "--json=lines"]);
    command.env("BATCHPLAN_MINUTE_MS", "600").stdout(writer);
    let output = command.stderr(Stdio::piped()).spawn().expect("the binary runs").wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    drop(reader);
    assert_eq!(world.objects().tags("b", None), "t=1");
}
