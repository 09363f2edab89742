//! What is remembered of a server, and what becomes of a first write that nobody saw the end of.

use std::process::Command;
use std::sync::{Arc, Mutex};

use batchplan::job::JobStatus;

use crate::bucket::{Kind, Moment, Nature};
use crate::scene::{APPLY, Running, key};
use crate::stage::{COUNT, NO_TAGS, ONE, PUT, Stage};

/// Starts `apply`, and kills it when its n-th request of these kinds has been carried out.
fn killed_at(stage: &Stage, nth: u64, of: fn(Kind) -> bool) {
    let pid = Arc::new(Mutex::new(None::<u32>));
    let victim = Arc::clone(&pid);
    stage.scene.server.call_at(nth, of, Moment::CarriedOut, move || {
        let pid = loop {
            if let Some(pid) = *victim.lock().expect("sound") {
                break pid;
            }
            std::thread::yield_now();
        };
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill");
        assert!(killed.success());
    });
    let mut command = stage.scene.command(&APPLY);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the binary runs");
    *pid.lock().expect("sound") = Some(child.id());
    let status = child.wait().expect("it ends");
    assert!(!status.success());
}

#[test]
fn a_proof_is_remembered_for_the_job() {
    let stage = Stage::new(Nature::Proper, &format!("{PUT}{ONE}"));
    killed_at(&stage, 5, |kind| kind == Kind::PutTags);
    let reads = stage.scene.server.count(Kind::GetTags).arrived;
    let job = stage.scene.newest();
    assert_eq!(job.status, JobStatus::Active);
    let _ = stage.scene.run(&["resume", job.id.as_str()]).ended(0);
    assert_eq!(stage.scene.server.count(Kind::GetTags).arrived, reads, "nothing is proven twice");
    assert_eq!(stage.changed(), Vec::<String>::new());
}

#[test]
fn a_first_write_that_nobody_saw_the_end_of_is_looked_at_before_another() {
    let stage = Stage::of(Nature::IgnoresSilently, &format!("{PUT}{ONE}"), |_| NO_TAGS.to_owned());
    killed_at(&stage, 1, |kind| kind == Kind::PutTags);
    assert_eq!(stage.changed().len(), 1);
    let job = stage.scene.newest();
    stage.refused(&["resume", job.id.as_str()], "an earlier run sent the first write");
    assert_eq!(stage.changed().len(), 1);
    let requests = stage.scene.server.requests();
    stage.refused(&["resume", job.id.as_str()], "an earlier run sent the first write");
    assert_eq!(stage.scene.server.requests(), requests);

    let stage = Stage::new(Nature::Proper, &format!("{PUT}{ONE}"));
    killed_at(&stage, 1, |kind| kind == Kind::PutTags);
    let resumed = stage.scene.run(&["resume", stage.scene.newest().id.as_str(), "--json"]).ended(0);
    assert_eq!(resumed.json()["succeeded"], COUNT);
}

#[test]
fn nothing_else_is_written_before_that_look_either() {
    let tag = |key: &str| format!("<Tag><Key>{key}</Key><Value>1</Value></Tag>");
    let content = |n| {
        format!(
            "<Tagging><TagSet>{}{}</TagSet></Tagging>",
            tag("Sprint"),
            if n > 0 { tag("Own") } else { String::new() }
        )
    };
    let rest = format!("[operation.delete_object_tagging]\nkeys = [\"Sprint\"]\n{ONE}");
    let stage = Stage::of(Nature::IgnoresSilently, &rest, content);
    // The tags of the first object are deleted, those of the others put.
    killed_at(&stage, 1, |kind| kind == Kind::DeleteTags);
    assert_eq!(stage.changed(), [key(0)]);
    let job = stage.scene.newest();
    stage.refused(&["resume", job.id.as_str()], "an earlier run sent the first write");
    assert_eq!(stage.changed(), [key(0)]);
}

#[test]
fn objects_that_were_only_read_are_not_in_doubt() {
    let rest = format!("{}[limits]\nconcurrency = 8\n", crate::stage::ADD);
    let stage = Stage::new(Nature::Proper, &rest);
    let plan = std::fs::read_to_string(stage.scene.path("plan.toml")).expect("a plan");
    stage.scene.write("plan.toml", plan.replace("[store]\n", "[store]\nskip_server_check = true\n"));
    // Two objects are written and wait for their answers; the others are being read.
    let mut read = 0;
    stage.scene.server.behave(move |seen| match seen.kind {
        Kind::GetTags if read < 2 => {
            read += 1;
            crate::bucket::Manner::Serve
        }
        kind if kind.works() => crate::bucket::Manner::Wait,
        _ => crate::bucket::Manner::Serve,
    });
    let running: Running = stage.scene.start(&APPLY);
    crate::scene::until("all are under way", || {
        let count = |kind| stage.scene.server.count(kind).arrived;
        (count(Kind::GetTags), count(Kind::PutTags)) == (8, 2)
    });
    running.signal("TERM");
    let ran = running.over().ended(5);
    assert_eq!(ran.json()["in_doubt"], 2, "{}", ran.stderr);
}
