//! Servers that are refused.

use batchplan::job::JobStatus;
use batchplan::journal::PauseCause;

use crate::bucket::{Kind, Manner, Nature};
use crate::scene::{APPLY, Running, assert_stands, key, until};
use crate::stage::{ACL, ADD, COUNT, DELETE, NO_TAGS, ONE, PRIVATE, PUT, RESTORE, Stage};

/// Every command that looks at a plan or works on it, before and after there is a job: refused, with nothing written.
#[track_caller]
fn refused_whatever_the_command(stage: &Stage, why: &str) {
    let scene = &stage.scene;
    stage.refused(&["plan", "plan.toml"], why);
    stage.refused(&["plan", "plan.toml", "--full", "--out", "saved.bpl"], why);
    stage.refused(&["check", "plan.toml"], why);
    stage.refused(&["check", "plan.toml", "--write-probe", "k0003"], why);
    let result = stage.refused(&APPLY, why).json();
    assert_eq!((&result["status"], &result["succeeded"], &result["failed"]), (&"Paused".into(), &0.into(), &0.into()));
    let job = scene.newest();
    assert_eq!(job.pause_cause, Some(PauseCause::Server), "{:?}", job.reason);
    assert_eq!(job.in_doubt, 0);
    stage.refused(&["resume", job.id.as_str()], why);
    stage.refused(&["apply", "plan.toml", "--auto-approve"], why);
    let run = scene.run(&["run"]).ended(0);
    assert!(run.stderr.contains("no jobs are ready"), "not run by itself: {}", run.stderr);
    let _ = scene.run(&["cancel", job.id.as_str()]).ended(0);
    stage.refused(&["retry", job.id.as_str(), "--auto-approve"], why);
    scene.plan_named(
        "queued",
        &std::fs::read_to_string(scene.path("plan.toml"))
            .expect("a plan")
            .split_once("[report]")
            .map(|(_, rest)| format!("[report]{rest}"))
            .expect("a report"),
    );
    let created = scene.run(&["create", "queued.toml", "--json"]).ended(0).json();
    let _ = scene.run(&["confirm", created["job_id"].as_str().expect("an id")]).ended(0);
    stage.refused(&["run"], why);
    assert_eq!(stage.changed(), Vec::<String>::new());
    assert_eq!(scene.written(), Vec::<String>::new(), "nothing is written to a server that reading shows to be odd");
}

#[test]
fn a_server_that_ignores_sub_resources_loses_no_byte() {
    for (operation, resource) in [(PUT, "?tagging"), (DELETE, "?tagging"), (ADD, "?tagging"), (ACL, "?acl")] {
        let stage = Stage::new(Nature::IgnoresSubresources, operation);
        let why = format!("this server treats {resource} requests as requests for the object itself");
        refused_whatever_the_command(&stage, &why);
    }
}

#[test]
fn a_server_that_has_tags_for_any_key_is_refused_before_it_stores_a_document() {
    for operation in [PUT, DELETE] {
        let stage = Stage::new(Nature::StoresTagsAsObject, operation);
        refused_whatever_the_command(&stage, "returned 200, although the object does not exist");
    }
}

#[test]
fn objects_that_are_documents_of_tags_are_told_from_tags() {
    let stage = Stage::of(Nature::IgnoresQuietly, PUT, |_| NO_TAGS.to_owned());
    refused_whatever_the_command(&stage, "the header Accept-Ranges, like a request for the object itself");
    let stage = Stage::of(Nature::IgnoresSubresources, PUT, |_| NO_TAGS.to_owned());
    refused_whatever_the_command(&stage, "the header ETag, like a request for the object itself");
}

#[test]
fn a_server_that_only_a_write_shows_costs_one_object_and_no_other() {
    for (operation, content) in [(PUT, NO_TAGS), (DELETE, NO_TAGS), (ACL, PRIVATE)] {
        let stage = Stage::of(Nature::IgnoresSilently, operation, |_| content.to_owned());
        let scene = &stage.scene;
        let _ = scene.run(&["plan", "plan.toml"]).ended(0);
        let _ = scene.run(&["check", "plan.toml"]).ended(0);
        assert_eq!(stage.changed(), Vec::<String>::new(), "reading shows nothing, and changes nothing");
        let why = "as requests for the object itself";
        let ran = stage.refused(&APPLY, why);
        let lost = stage.changed();
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert!(ran.stderr.contains(&format!("bkt/{}", lost[0])), "{}", ran.stderr);
        assert!(ran.stderr.contains("HEAD returned") && ran.stderr.contains("bytes"), "{}", ran.stderr);
        assert!(ran.stderr.contains("batchplan cancel") && ran.stderr.contains("batchplan retry"), "{}", ran.stderr);
        let result = ran.json();
        assert!(result["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{result}");
        let job = scene.newest();
        assert_stands(&job, JobStatus::Paused, 0, 1);
        assert_eq!((job.pause_cause, job.in_doubt), (Some(PauseCause::Server), 0));
        // The same words again, and not one request.
        let requests = scene.server.requests();
        for again in [&["resume", job.id.as_str()][..], &APPLY] {
            stage.refused(again, why);
        }
        let _ = scene.run(&["run"]).ended(0);
        assert_eq!(scene.server.requests(), requests);
        assert!(!ran.stderr.contains("Earlier writes"), "{}", ran.stderr);
        let _ = scene.run(&["cancel", job.id.as_str()]).ended(0);
        scene.assert_reported(&scene.newest(), lost.clone());
        let shown = scene.run(&["show", job.id.as_str()]).ended(0);
        assert!(shown.stdout.contains("ServerCheckFailed"), "{}", shown.stdout);
        assert_eq!(stage.changed(), lost);
        let retry = scene.run(&["retry", job.id.as_str(), "--auto-approve"]).ended(6);
        assert!(retry.stderr.contains("warning: 1 object failed because the server"), "{}", retry.stderr);
    }
}

#[test]
fn plan_says_how_far_the_server_was_checked() {
    let stage = Stage::new(Nature::IgnoresSubresources, PUT);
    let found = &stage.scene.run(&["plan", "plan.toml", "--json"]).ended(6).json()["server_check"];
    assert_eq!((&found["state"], &found["found"]), (&"refused".into(), &"takes_for_object".into()), "{found}");

    let plan = std::fs::read_to_string(stage.scene.path("plan.toml")).expect("a plan");
    stage.scene.write("plan.toml", plan.replace("[store]\n", "[store]\nskip_server_check = true\n"));
    let off = stage.scene.run(&["plan", "plan.toml", "--json"]).json();
    assert_eq!(off["server_check"]["state"], "off");

    let csv = "[manifest.csv]\npath = \"list.csv\"\nfields = [\"Bucket\", \"Key\"]\n";
    stage.scene.write("list.csv", "bkt,gone\n");
    stage.scene.plan(&format!("{csv}{PUT}"));
    let unchecked = stage.scene.run(&["plan", "plan.toml"]);
    assert!(unchecked.stdout.contains("warning: the server could not be checked"), "{}", unchecked.stdout);
}

#[test]
fn an_object_that_is_what_is_sent_proves_nothing() {
    let sent = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>t</Key><Value>1</Value></Tag>\
                </TagSet></Tagging>";
    let rest = format!("{PUT}{ONE}");
    let stage = Stage::of(Nature::IgnoresSilently, &rest, |n| if n < 2 { sent } else { NO_TAGS }.to_owned());
    stage.refused(&APPLY, "is the body that PUT");
    assert_eq!(stage.changed(), Vec::<String>::new());
    assert_stands(&stage.scene.newest(), JobStatus::Paused, 0, 1);

    // One that is as long, and another.
    let other = sent.replace("<Value>1", "<Value>2");
    let stage = Stage::of(Nature::IgnoresSilently, &rest, |n| if n < 2 { &other } else { NO_TAGS }.to_owned());
    stage.refused(&APPLY, "as requests for the object itself");
    assert_eq!(stage.changed().len(), 1);
}

#[test]
fn a_write_probe_costs_at_most_the_object_that_it_is_about() {
    for (operation, content) in [(PUT, NO_TAGS), (DELETE, NO_TAGS), (ACL, PRIVATE)] {
        let stage = Stage::of(Nature::IgnoresSilently, operation, |n| {
            // Written back just as it is, a document would not show it.
            if n == 3 { format!("{content}\n") } else { content.to_owned() }
        });
        let ran = stage.refused(&["check", "plan.toml", "--write-probe", "k0003"], "HEAD returned");
        assert!(ran.stdout.contains("refused"), "{}", ran.stdout);
        assert_eq!(stage.changed(), [key(3)]);
    }
}

#[test]
fn what_is_not_kept_is_no_success() {
    for (operation, found) in [(PUT, "returns no tags"), (ACL, "private")] {
        let stage = Stage::new(Nature::KeepsNothing, operation);
        let ran = stage.refused(&APPLY, "does not store changes");
        assert!(ran.stderr.contains(found), "{}", ran.stderr);
        assert_eq!(stage.changed(), Vec::<String>::new());
        assert_eq!(stage.scene.written().len(), 1);
        assert_stands(&stage.scene.newest(), JobStatus::Paused, 0, 1);
    }
}

#[test]
fn a_server_that_says_that_it_knows_none_of_it_is_refused() {
    for nature in [Nature::Refuses(501), Nature::Refuses(405)] {
        for operation in [PUT, ADD, ACL] {
            refused_whatever_the_command(&Stage::new(nature, operation), "does not support ?");
        }
    }
    for nature in [Nature::RefusesWrites(501), Nature::RefusesWrites(405)] {
        let stage = Stage::new(nature, PUT);
        stage.refused(&APPLY, "does not support ?tagging");
        assert_eq!(stage.scene.written().len(), 1);
        assert_stands(&stage.scene.newest(), JobStatus::Paused, 0, 0);
    }
}

#[test]
fn a_read_that_is_denied_names_the_permission_and_the_way_out() {
    for (nature, operation, action) in [
        (Nature::DeniesReads, PUT, "s3:GetObjectTagging"),
        (Nature::DeniesReads, ACL, "s3:GetObjectAcl"),
        (Nature::DeniesHead, PUT, "s3:GetObject"),
    ] {
        let stage = Stage::new(nature, operation);
        for command in [&["plan", "plan.toml"][..], &["check", "plan.toml"]] {
            stage.refused(command, &format!("{action} is missing"));
        }
        let ran = stage.refused(&APPLY, &format!("{action} is missing"));
        assert!(ran.stderr.contains("skip_server_check = true"), "{}", ran.stderr);
        assert_eq!(stage.scene.written(), Vec::<String>::new());
        let id = stage.scene.newest().id;
        // Set in the plan file, the job goes on: it is the same work.
        let plan = std::fs::read_to_string(stage.scene.path("plan.toml")).expect("a plan");
        stage.scene.write("plan.toml", plan.replace("[store]\n", "[store]\nskip_server_check = true\n"));
        let plan = stage.scene.run(&["plan", "plan.toml"]).ended(0);
        assert!(plan.stdout.contains("the server check is off"), "{}", plan.stdout);
        let check = stage.scene.run(&["check", "plan.toml"]);
        assert!(check.stdout.contains("skip_server_check"), "{}", check.stdout);
        let resumed = stage.scene.run(&["resume", id.as_str()]).ended(0);
        assert!(resumed.stderr.contains("warning: the server check is off"), "{}", resumed.stderr);
        assert_eq!(stage.scene.written().len(), COUNT);
    }
}

#[test]
fn a_server_that_stops_knowing_tags_in_mid_job_ends_it() {
    let stage = Stage::new(Nature::Proper, &format!("{PUT}{ONE}"));
    stage.scene.server.turn_after(5, Nature::IgnoresInWrites);
    stage.refused(&APPLY, "returned the header ETag");
    assert_eq!(stage.changed(), [key(5)]);
    let job = stage.scene.newest();
    assert_stands(&job, JobStatus::Paused, 5, 1);
    let requests = stage.scene.server.requests();
    stage.refused(&["resume", job.id.as_str()], "returned the header ETag");
    assert_eq!(stage.scene.server.requests(), requests);

    let stage = Stage::new(Nature::Proper, &format!("{ADD}{ONE}"));
    stage.scene.server.turn_after(5, Nature::IgnoresInWrites);
    let _ = stage.refused(&APPLY, "returned the header ETag");
    assert_eq!(stage.changed().len(), 1);
}

#[test]
fn a_server_that_turns_in_mid_job_without_a_word_is_found_out() {
    for operation in [PUT, DELETE] {
        let stage = Stage::of(Nature::Proper, &format!("{operation}{ONE}"), |_| NO_TAGS.to_owned());
        stage.scene.server.turn_after(5, Nature::IgnoresSilently);
        let ran = stage.refused(&APPLY, "HEAD returned");
        // Writes 6 and 7 say nothing; a look at write 8 shows it.
        assert_eq!(stage.changed(), [key(5), key(6), key(7)]);
        let job = stage.scene.newest();
        assert_stands(&job, JobStatus::Paused, 7, 1);
        assert!(ran.stderr.contains(&format!("bkt/{}", key(7))), "{}", ran.stderr);
        assert!(ran.stderr.contains("Earlier writes succeeded"), "{}", ran.stderr);
        let shown = stage.scene.run(&["show", job.id.as_str()]).ended(0);
        assert!(shown.stdout.contains("ServerCheckFailed"), "{}", shown.stdout);
        stage.refused(&["resume", job.id.as_str()], "Earlier writes succeeded");
    }
    // All of the others are in flight when a look shows it: the job is not Complete for all that.
    let stage = Stage::of(Nature::Proper, PUT, |_| NO_TAGS.to_owned());
    stage.scene.server.turn_after(1, Nature::IgnoresSilently);
    let ran = stage.refused(&APPLY, "HEAD returned");
    assert!(ran.stderr.contains("Earlier writes succeeded"), "{}", ran.stderr);
    assert_eq!(stage.scene.newest().status, JobStatus::Paused);
}

#[test]
fn a_server_that_turns_and_lets_nobody_look_is_not_written_to_any_more() {
    // The 8th write is the first that is to be looked at, and the 17th the last without a look.
    for (nature, changed) in [(Nature::IgnoresBlindly, (5..16).map(key).collect()), (Nature::DeniesHead, Vec::new())] {
        let stage = Stage::of(Nature::Proper, &format!("{PUT}{ONE}"), |_| NO_TAGS.to_owned());
        stage.scene.server.turn_after(5, nature);
        stage.refused(&APPLY, "s3:GetObject is missing");
        assert_eq!((stage.changed(), stage.scene.written().len()), (changed, 16));
    }
}

#[test]
fn a_resumed_job_looks_at_its_first_write_again() {
    let stage = Stage::of(Nature::Proper, &format!("{PUT}{ONE}"), |_| NO_TAGS.to_owned());
    stage.scene.server.behave(|seen| if seen.kind == Kind::PutTags { Manner::Wait } else { Manner::Serve });
    let running = stage.scene.start(&APPLY);
    until("the first write is sent", || stage.scene.server.count(Kind::PutTags).arrived == 1);
    running.signal("TERM");
    stage.scene.let_go();
    let _ = running.over().ended(5);
    let job = stage.scene.newest();
    stage.scene.server.turn(Nature::IgnoresSilently);
    stage.refused(&["resume", job.id.as_str()], "HEAD returned");
    assert_eq!(stage.changed().len(), 1, "the one that shows it");
}

#[test]
fn a_server_that_answers_nothing_usable_pauses_the_job_after_three_objects() {
    let stage = Stage::new(Nature::Proper, PUT);
    stage.scene.server.behave(|seen| match seen.kind {
        Kind::PutTags => Manner::Refuse(500, "InternalError"),
        _ => Manner::Serve,
    });
    // A minute and a half of retries each otherwise.
    let mut command = stage.scene.command(&APPLY);
    command.env("BATCHPLAN_MINUTE_MS", "3000");
    let ran = Running::of(command).over().ended(6);
    assert!(ran.stderr.contains("3 objects in a row failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("check that the server responds"), "{}", ran.stderr);
    let job = stage.scene.newest();
    assert_stands(&job, JobStatus::Paused, 0, 3);
    assert_eq!(job.pause_cause, Some(PauseCause::Server));
    stage.scene.server.behave(|_| Manner::Serve);
    let resumed = stage.scene.run(&["resume", job.id.as_str(), "--json"]).ended(3).json();
    assert_eq!((&resumed["succeeded"], &resumed["failed"]), (&(COUNT - 3).into(), &3.into()));
}

#[test]
fn a_restore_that_is_none_ends_the_job() {
    let stage = Stage::new(Nature::RestoresNothing, RESTORE);
    stage.refused(&APPLY, "HEAD shows no restore");
    assert_eq!((stage.scene.server.count(Kind::Restore).arrived, stage.changed().len()), (1, 0));

    let stage = Stage::new(Nature::Proper, &format!("{RESTORE}{ONE}"));
    stage.scene.server.turn_after(5, Nature::RestoresAsObject);
    stage.refused(&APPLY, "as requests for the object itself");
    assert_eq!(stage.changed(), [key(5), key(6), key(7)], "a look at restore 8 shows it");

    let stage = Stage::new(Nature::RestoresAsObject, RESTORE);
    stage.refused(&APPLY, "as requests for the object itself");
    assert_eq!(stage.changed().len(), 1);
    let requests = stage.scene.server.requests();
    stage.refused(&["resume", stage.scene.newest().id.as_str()], "as requests for the object itself");
    assert_eq!(stage.scene.server.requests(), requests);

    for nature in [Nature::RestoresAsForm, Nature::IgnoresSubresources, Nature::Refuses(501), Nature::Refuses(405)] {
        let stage = Stage::new(nature, RESTORE);
        stage.refused(&APPLY, "does not support ?restore");
        assert_eq!((stage.scene.server.count(Kind::Restore).arrived, stage.changed().len()), (1, 0), "{nature:?}");
    }
}
