//! Servers that are in order, each in its own way, and what the check costs them.

use crate::bucket::{Kind, Manner, Nature, Object};
use crate::scene::{APPLY, key, until};
use crate::stage::{ACL, ADD, COUNT, DELETE, ONE, PUT, RESTORE, Stage};

#[test]
fn servers_that_do_what_they_are_asked_are_trusted() {
    let natures = [Nature::Proper, Nature::RangesEverywhere, Nature::NoTagSet, Nature::KeepsLater, Nature::WeakHeads];
    for nature in natures {
        for operation in [PUT, ADD, ACL, RESTORE] {
            let stage = Stage::new(nature, operation);
            let _ = stage.scene.run(&["check", "plan.toml", "--write-probe", "k0003"]).ended(0);
            let _ = stage.scene.run(&["plan", "plan.toml"]).ended(0);
            let ran = stage.scene.run(&APPLY).ended(0);
            assert_eq!(ran.json()["succeeded"], COUNT, "{nature:?} {operation}");
            assert_eq!(stage.changed(), Vec::<String>::new(), "{nature:?} {operation}");
        }
    }
    for nature in [Nature::Proper, Nature::RangesEverywhere, Nature::NoTagSet] {
        let stage = Stage::new(nature, DELETE);
        let _ = stage.scene.run(&APPLY).ended(0);
    }
}

#[test]
fn an_object_that_somebody_else_writes_meanwhile_is_written_to_again() {
    let stage = Stage::new(Nature::Rewritten("k0000", 2), &format!("{PUT}{ONE}"));
    let ran = stage.scene.run(&APPLY).ended(0);
    assert_eq!(ran.json()["succeeded"], COUNT, "{}", ran.stderr);
    assert_eq!(stage.scene.server.count(Kind::PutTags).arrived, COUNT as u64 + 1);
    assert_eq!(stage.changed(), [key(0)]);

    // Where that goes on, it is the server's doing.
    let stage = Stage::new(Nature::Rewritten("k0000", u32::MAX), &format!("{PUT}{ONE}"));
    stage.refused(&APPLY, "HEAD returned");
    assert_eq!(stage.changed(), [key(0)]);

    // The second write is looked at as well, and costs no more than its object.
    let stage = Stage::new(Nature::Rewritten("k0001", 2), &format!("{PUT}{ONE}"));
    let ran = stage.scene.run(&APPLY).ended(3);
    assert_eq!((&ran.json()["succeeded"], &ran.json()["failed"]), (&(COUNT - 1).into(), &1.into()), "{}", ran.stderr);
    assert!(ran.stderr.contains("object contents changed during writes (1 object)"), "{}", ran.stderr);
    let shown = stage.scene.run(&["show", stage.scene.newest().id.as_str()]).ended(0);
    assert!(shown.stdout.contains("ContentChanged"), "{}", shown.stdout);
}

#[test]
fn no_tag_set_is_no_tags() {
    let stage = Stage::new(Nature::NoTagSet, &format!("{DELETE}[job]\nskip_unchanged = true\n"));
    let ran = stage.scene.run(&APPLY).ended(0);
    assert_eq!(ran.json()["succeeded"], COUNT);
    assert_eq!(stage.scene.written(), Vec::<String>::new(), "there was nothing to delete");
}

#[test]
fn the_check_costs_a_handful_of_requests_a_job() {
    let stage = Stage::new(Nature::Proper, PUT);
    let _ = stage.scene.run(&APPLY).ended(0);
    let count = |kind| stage.scene.server.count(kind).arrived;
    assert_eq!(count(Kind::PutTags), COUNT as u64);
    // The object's and an invented key's before, the object's again after; HEAD before and after the writes 1, 2, 4,
    // 8, 16.
    assert_eq!((count(Kind::GetTags), count(Kind::Head)), (3, 10));
}

#[test]
fn objects_that_need_no_write_prove_nothing() {
    let stage = Stage::new(Nature::Proper, &format!("{PUT}[job]\nskip_unchanged = true\n"));
    for n in 0..COUNT {
        let tags = [("t".to_owned(), "1".to_owned())].into();
        stage.scene.server.put("bkt", key(n), Object { tags, body: "x".into(), ..Object::default() });
    }
    let _ = stage.scene.run(&APPLY).ended(0);
    assert_eq!((stage.scene.server.count(Kind::GetTags).arrived, stage.scene.written().len()), (COUNT as u64, 0));
    assert_eq!(stage.scene.server.count(Kind::Head).arrived, 0);
}

#[test]
fn objects_that_are_gone_fail_unwritten_and_the_next_one_is_tried() {
    for operation in [PUT, DELETE, ACL] {
        let stage = Stage::new(Nature::Proper, &format!("{operation}[limits]\nconcurrency = 1\n"));
        for n in 0..3 {
            stage.scene.server.put("bkt", key(n), Object { gone: true, ..Object::default() });
        }
        let ran = stage.scene.run(&APPLY).ended(3);
        assert_eq!((&ran.json()["succeeded"], &ran.json()["failed"]), (&(COUNT - 3).into(), &3.into()));
        assert!(!stage.scene.written().iter().any(|written| *written < key(3)), "{:?}", stage.scene.written());
        let shown = stage.scene.run(&["show", stage.scene.newest().id.as_str()]).ended(0);
        assert!(shown.stdout.contains("NoSuchKey"), "{}", shown.stdout);
    }
}

#[test]
fn writes_that_are_refused_on_their_merits_are_failures_of_their_objects() {
    let stage = Stage::new(Nature::Proper, PUT);
    stage.scene.server.behave(|seen| {
        let denied = seen.kind.writes() && seen.kind.works() && ["k0000", "k0001"].contains(&seen.key.as_str());
        if denied { Manner::Refuse(403, "AccessDenied") } else { Manner::Serve }
    });
    let ran = stage.scene.run(&APPLY).ended(3);
    assert_eq!((&ran.json()["succeeded"], &ran.json()["failed"]), (&(COUNT - 2).into(), &2.into()));
}

#[test]
fn one_unproven_write_is_in_flight_at_a_time() {
    let stage = Stage::new(Nature::Proper, &format!("{PUT}[limits]\nconcurrency = 16\n"));
    stage.scene.server.behave(|seen| if seen.kind == Kind::PutTags { Manner::Wait } else { Manner::Serve });
    let running = stage.scene.start(&APPLY);
    until("the first write is sent", || stage.scene.server.count(Kind::PutTags).arrived == 1);
    // Whoever else might write asks nothing either, for as long as it takes.
    let heads = stage.scene.server.count(Kind::Head).arrived;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let count = |kind| stage.scene.server.count(kind).arrived;
    assert_eq!((count(Kind::PutTags), count(Kind::Head), count(Kind::GetTags)), (1, heads, 2));
    stage.scene.let_go();
    let _ = running.over().ended(0);
}
