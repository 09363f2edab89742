//! The log and the other options that every command has, as the real binary meets them.

mod destinations;
mod documented;
mod events;
mod options;
mod screen;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "tests of apply look closer at jobs and objects")]
mod world;

use crate::world::World;

/// The arguments that apply `plan.toml`.
pub(crate) const APPLY: [&str; 3] = ["apply", "plan.toml", "--auto-approve"];

/// One object to tag.
pub(crate) fn one_object() -> World {
    object_named("a")
}

/// One object with this key, which is written as in a CSV file.
pub(crate) fn object_named(key: &str) -> World {
    let world = World::filled(&format!("bucket,key\nbkt,{key}\n"));
    world.plan("[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n");
    world
}

/// Replaces what differs between runs: times, job ids, ports, sizes and durations.
pub(crate) fn normal(world: &World, text: &str) -> String {
    let mut out = String::new();
    for line in world.normal(text).lines() {
        let mut line = line.to_owned();
        if is_log_line(&line) {
            line.replace_range(..TIME_LENGTH, "[TIME]");
        }
        for (before, shown) in [
            ("\"timestamp\":\"", "[TIME]"),
            ("127.0.0.1:", "[PORT]"),
            (" us=", "[US]"),
            ("\"us\":", "[US]"),
            (" bytes=", "[BYTES]"),
            ("\"bytes\":", "[BYTES]"),
            (" version=", "[VERSION]"),
            ("\"version\":\"", "[VERSION]"),
            ("{id=", "[JOB]"),
            (" job=", "[JOB]"),
        ] {
            line = replace_after(&line, before, shown);
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The number of characters of a time, such as `2026-03-08T11:59:59.123456Z`.
const TIME_LENGTH: usize = 27;

/// What `apply -q` prints about [`one_object`], with the job's id replaced.
pub(crate) const RESULT: &str = "1 changed, 0 failed\nreport: .batchplan/jobs/[JOB]/report/manifest.json\n";

/// Returns whether a line is one of [`RESULT`].
pub(crate) fn is_result(line: &str) -> bool {
    line == "1 changed, 0 failed" || line.starts_with("report: ")
}

/// Returns whether a line is one of the log in text: it begins with a time.
pub(crate) fn is_log_line(line: &str) -> bool {
    line.get(..TIME_LENGTH).is_some_and(|time| time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok())
}

/// Replaces the words behind each `before`.
fn replace_after(line: &str, before: &str, shown: &str) -> String {
    let mut parts = line.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || ".:-=".contains(c))).unwrap_or(part.len());
        out.push_str(before);
        out.push_str(shown);
        out.push_str(&part[end..]);
    }
    out
}
