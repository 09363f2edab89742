//! Strangers' words in plans, keys and inputs: none of them commands the runner, sets an output, or is Markdown.

use serde_json::json;

use crate::cloud::{Cloud, expect};
use crate::expression::Status;
use crate::install;
use crate::machine::{Job, Machine};

/// A machine whose steps have the sandbox's keys.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.env.insert("AWS_ACCESS_KEY_ID".to_owned(), "sandbox".to_owned());
    machine.env.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "sandboxsecret".to_owned());
    machine
}

/// Keys that want to be something else, URL-encoded as a CSV has them.
const KEYS: [&str; 10] = [
    "%0A%3A%3Aset-output%20name=job-id%3A%3Aforged",
    "%0A%3A%3Aerror%3A%3Aforged",
    "x%23%23%5Bset-output%20name=status%5Dforged",
    "%0Ajob-id=forged%0A",
    "%60%60%60%0A%3C/details%3E%3Cscript%3Ealert(1)%3C/script%3E",
    "%7C%20a%20%7C%20%60%20**b**%20%7C",
    "%40everyone%20%231%20https%3A//evil.example",
    "%E2%80%AEgnp.exe",
    "%250A%253A%253Aerror",
    "%1B%5B2J%0D%3A%3Awarning%3A%3Aforged",
];

#[test]
fn keys_that_fail_are_told_as_they_are_and_obeyed_by_nobody() {
    let (cloud, machine) = (Cloud::start(), machine());
    let list: Vec<_> = KEYS.iter().map(|key| format!("acme-archive,{key}\n")).collect();
    machine.write("list.csv", list.concat());
    machine.write("plan.toml", cloud.plan("tag", "[manifest.csv]\npath = \"list.csv\"\n"));
    let state = machine.path("state").display().to_string();
    let apply = json!({ "command": "apply", "plan": "plan.toml", "args": "--auto-approve --json", "state": state });
    let job = machine.action(&apply);
    job.ended(Status::Failure);
    let outputs = job.action().outputs.clone();
    assert_eq!((outputs["status"].as_str(), outputs["failed"].as_str()), ("Complete", "10"), "{outputs:?}");
    assert_eq!(job.action().told(), []);
    for command in ["show", "plan"] {
        let args = format!("{} --examples", outputs["job-id"]);
        let job = machine.action(&match command {
            "show" => json!({ "command": "show", "args": args, "state": state }),
            _ => json!({ "command": "plan", "plan": "plan.toml", "args": "--all", "state": state }),
        });
        assert_eq!(job.action().told(), [], "{command}: {}", job.log());
        assert!(job.log().contains("alert(1)"), "{command} tells of them: {}", job.log());
    }
    let retried =
        machine.action(&json!({ "command": "show", "args": format!("{} --json", outputs["job-id"]), "state": state }));
    assert_eq!(retried.action().told(), []);
    // What is in the summary can be looked at.
    expect(
        "hostile.md",
        &cloud.normal(
            &job.summary(),
            &[(&outputs["job-id"], "JOB"), (&machine.path("").display().to_string(), "/machine/")],
        ),
    );
}

#[test]
fn each_mistake_is_an_annotation_at_its_line_and_nothing_that_a_plan_says_is_one() {
    let machine = machine();
    let plan = "name = \"x\\n::error::forged ##[group]\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n\
                regoin = \"##[set-output name=status]forged\" # ##[error]forged\n[manifest.prefix]\nbucket = 1\nprefix = \"\"\n\
                [operation.put_object_acl]\nacl = \"privat\"\n";
    machine.write("plans/a,b.toml", plan);
    let job = machine.action(&json!({ "command": "validate", "plan": "plans" }));
    job.ended(Status::Failure);
    assert_eq!(job.action().code, Some(2));
    let told = job.action().told();
    assert!(told.iter().all(|told| told.command == "error"), "{told:?}");
    let places: Vec<_> = told.iter().map(|told| told.properties.split(",endLine").next().unwrap_or_default()).collect();
    let file = "file=plans/a%2Cb.toml";
    let expected = ["1", "5", "7", "10"].map(|line| format!("{file},line={line}"));
    assert_eq!(places, expected, "{}", job.log());
    assert!(job.log().contains("#\\u0023[set-output"), "the line is shown all the same: {}", job.log());
}

#[test]
fn of_many_mistakes_nine_are_annotated_and_the_others_counted() {
    let machine = machine();
    let many = (0..15).map(|number| format!("unknown{number} = 1\n")).collect::<Vec<_>>().concat();
    machine.write("plan.toml", format!("{many}name = \"x\"\n"));
    let told = machine.action(&json!({ "command": "validate", "plan": "plan.toml" })).action().told();
    assert_eq!(told.len(), 10, "GitHub shows no more");
    assert!(told[9].text.starts_with("... and ") && told[9].properties.is_empty(), "{:?}", told[9]);
}

/// The words that the binary gets for the input `args`: it repeats what it does not know.
fn words(args: &str) -> Job {
    machine().action(&json!({ "command": "validate", "args": args }))
}

#[test]
fn arguments_are_words_and_nothing_in_them_is_evaluated() {
    let job = words("\"a b\" 'c  d' e\\ f\n$(touch /tmp/never) `id` $HOME * ; exit 0");
    job.ended(Status::Failure);
    let log = job.log();
    for word in ["a b", "c  d", "e f", "$(touch", "/tmp/never)", "`id`", "$HOME", "*", ";", "exit"] {
        assert!(log.contains(&format!("{word}: ")) || log.contains(word), "{word}: {log}");
    }
    assert_eq!(job.action().code, Some(2), "{log}");
    let job = words("--flag \"no end");
    assert_eq!(job.action().told()[0].text, "the input args has an unclosed quote");
    words("  \n ").ended(Status::Failure);
}

#[test]
fn a_backslash_at_the_end_of_a_line_joins_the_next_one() {
    // A release's binary that writes each of its words on a line.
    let mut machine = machine();
    machine.cached = false;
    let key = "batchplan-0.1.0-x86_64-unknown-linux-musl-release";
    for (name, content) in install::release(key, "printf 'word:%s\\n' \"$@\"") {
        let entry = machine.path("cache").join(key);
        std::fs::create_dir_all(&entry).expect("a folder");
        std::fs::write(entry.join(name), content).expect("written");
    }
    let run = |args: &str| machine.action(&json!({ "command": "validate", "version": "0.1.0", "args": args }));
    let words = |args: &str| -> Vec<String> {
        let log = run(args).ended(Status::Success).log();
        log.lines().filter_map(|line| line.strip_prefix("word:")).skip(1).map(str::to_owned).collect()
    };
    assert_eq!(words("--a \\\n  --b x\\\n--c\n"), ["--a", "--b", "x", "--c"]);
    assert_eq!(words("--a \\\n"), ["--a"]);
    assert_eq!(words(" \\\n\\\n"), Vec::<String>::new());
    // What is a backslash, and what is no comment.
    assert_eq!(words("a\\\\\nb\\\\\\\nc"), ["a\\", "b\\", "c"]);
    assert_eq!(words("'a\\b' \"c\\\\d\" e\\ f # \"\""), ["a\\b", "c\\\\d", "e f", "#", ""]);
    for args in ["\\", "--a \\", "--a\n\\\\\\", "--a \\\n\\"] {
        let job = run(args);
        job.ended(Status::Failure);
        assert_eq!(job.action().told()[0].text, "the input args ends with a backslash", "{args:?}");
        assert_eq!(job.action().code, Some(2));
    }
}

#[test]
fn an_input_that_is_no_command_or_looks_like_an_option_is_none() {
    let machine = machine();
    for command in ["plan; id", "--help", "$(id)", "Plan", "a\nb"] {
        let job = machine.action(&json!({ "command": command }));
        job.ended(Status::Failure);
        assert_eq!(job.action().told()[0].text, "the input command is not a batchplan command", "{command}");
    }
    let job = machine.action(&json!({ "command": "validate", "plan": "--help" }));
    assert!(job.ended(Status::Failure).log().contains("./--help"), "{}", job.log());
}
