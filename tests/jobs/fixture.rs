//! Jobs in every status, and outputs in which nothing is left to chance.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{Ran, World};
use serde_json::Value as Json;

/// Tags every object of the bucket.
pub(crate) const TAG: &str =
    "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// Three objects of which one is not there, all attempted, with a report in the bucket.
pub(crate) const ONE_FAILS: &str = "description = \"two\\nlines\"\n[manifest.csv]\npath = \"list.csv\"\n\
    [operation.put_object_tagging]\ntags = { t = \"1\" }\n[report]\nbucket = \"bkt\"\nprefix = \"r/\"\n\
    [limits]\nfailure_threshold = 1\n";

/// A world with two objects and a list of three, and this plan.
pub(crate) fn world(plan: &str) -> World {
    let world = World::filled("bucket,key\nbkt,a\nbkt,b%20c\n");
    world.write("list.csv", "bkt,a\nbkt,not%2Fthere\nbkt,b%20c\n");
    let (top, tables) = plan.split_once('[').map_or((plan, String::new()), |(top, rest)| (top, format!("[{rest}")));
    let store = "[store]\nprovider = \"sandbox\"\ndata = \"data\"\nfill = \"fill.csv\"\n";
    world.write("plan.toml", format!("name = \"test\"\n{top}{store}{tables}"));
    world
}

/// `create plan.toml --new`: the job's id.
pub(crate) fn create(world: &World) -> String {
    id(&world.run(&["create", "plan.toml", "--new", "--json"]).ended(0))
}

/// The job of a result.
pub(crate) fn id(ran: &Ran) -> String {
    ran.json()["job_id"].as_str().expect("an id").to_owned()
}

/// A job's id as messages show it.
pub(crate) fn short(id: &str) -> &str {
    &id[..8]
}

/// What `show --json` says of a job.
pub(crate) fn show(world: &World, job: &str) -> Json {
    world.run(&["show", job, "--json"]).ended(0).json()
}

/// The newest job.
pub(crate) fn newest(world: &World) -> String {
    let listed = world.run(&["list", "--json", "--limit", "1"]).ended(0).json();
    listed["jobs"][0]["job_id"].as_str().expect("a job").to_owned()
}

/// Applies the plan and has the process killed at this instant; the job.
pub(crate) fn killed(world: &World, failpoint: &str) -> String {
    let mut command = world.command(&["apply", "plan.toml", "--auto-approve", "--new"]);
    command.env("BATCHPLAN_FAILPOINT", failpoint).env("BATCHPLAN_CHECKPOINT_EVERY", "1");
    let ran = Ran::of(&command.output().expect("the binary runs"));
    assert_eq!(ran.code, -1, "it was killed: {}", ran.stderr);
    newest(world)
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Compares a text with the fixture of this name, or writes that where `UPDATE_EXPECTED` is set.
#[track_caller]
pub(crate) fn expect(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jobs").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, text).expect("written");
    }
    assert_eq!(text, fs::read_to_string(path).expect("the expected output"), "{name}");
}

/// An output with names in the place of whatever is another each time.
pub(crate) fn normal(world: &World, text: &str) -> String {
    let mut out = String::new();
    for line in world.normal(text).lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            words.push(normal_word(word));
        }
        let line = words.join(" ");
        let line = measured(&line, "  active         ", &[" s, ", " objects/s"]);
        let line = ["<CreationTime>", "<TerminationDate>", "<ElapsedTimeInActiveSeconds>"]
            .iter()
            .fold(line, |line, element| element_of(&line, element));
        out.push_str(&bytes(&line));
        out.push('\n');
    }
    out
}

fn normal_word(word: &str) -> String {
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let is_time = inner.contains('T') && inner.ends_with('Z') && inner.parse::<jiff::Timestamp>().is_ok();
    let is_hash = inner.len() == 64 && inner.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (is_time, is_hash) {
        (true, _) => word.replace(inner, "[TIME]"),
        (_, true) => word.replace(inner, "[HASH]"),
        _ => word.to_owned(),
    }
}

/// A line of measurements behind a label, with `[N]` for each.
fn measured(line: &str, label: &str, units: &[&str]) -> String {
    if line.starts_with(label) { format!("{label}[N]{}", units.join("[N]")) } else { line.to_owned() }
}

/// The text of an element, unless it is -1.
fn element_of(line: &str, element: &str) -> String {
    match line.split_once(element) {
        Some((before, rest)) if !rest.starts_with('-') => {
            let (_, after) = rest.split_once('<').expect("it is closed");
            format!("{before}{element}[N]<{after}")
        }
        _ => line.to_owned(),
    }
}

/// `1,565 bytes` as `[N] bytes`.
fn bytes(line: &str) -> String {
    match line.strip_suffix(" bytes").and_then(|rest| rest.rsplit_once(' ')) {
        Some((before, _)) => format!("{before} [N] bytes"),
        None => line.to_owned(),
    }
}

/// As [`normal`], for a JSON object: whole values by their names.
pub(crate) fn normal_json(world: &World, json: &Json) -> String {
    let mut json = json.clone();
    redact(&mut json);
    normal(world, &format!("{json:#}"))
}

fn redact(json: &mut Json) {
    const MEASURED: [&str; 3] = ["active_seconds", "objects_per_second", "bytes"];
    match json {
        Json::Object(fields) => {
            for (name, value) in fields {
                if MEASURED.contains(&name.as_str()) {
                    *value = "[N]".into();
                }
                redact(value);
            }
        }
        Json::Array(values) => values.iter_mut().for_each(redact),
        _ => {}
    }
}
