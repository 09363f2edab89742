//! What an undo shows, narrows, and refuses.

use std::collections::BTreeMap;

use serde_json::json;

use crate::objects::{State, States, delete, failed, id, read, scene, state, table, write};
use crate::scene::{Dialect, Scene};

fn tagged(tags: &[(&str, &str)]) -> State {
    State { tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), acl: "private" }
}

fn objects() -> States {
    let states =
        [("d/a", tagged(&[("team", "ops"), ("x", "1")])), ("d/b", tagged(&[])), ("e/c", tagged(&[("x", "2")]))];
    states.into_iter().map(|(key, state)| (key.to_owned(), state)).collect()
}

const REPLACE: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { team = \"web\" }\n\
     [limits]\nfailure_threshold = 1.0\n[undo]\ncapture = true\n";

/// Objects that a job has changed, and its ID.
fn applied(dialect: Dialect, plan: &str) -> (Scene, States, String) {
    let before = objects();
    let scene = scene(dialect, &before);
    scene.plan(plan);
    let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
    let id = id(&job);
    (scene, before, id)
}

#[test]
fn what_an_undo_would_change_is_shown_first() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let (scene, before, job) = applied(dialect, REPLACE);
        scene.gate.forget();
        let shown = scene.run(&["undo", &job, "--plan", "--full"]).ended(0);
        let change = "  ~ bkt/d/a\n      - tag team = \"web\"\n      + tag team = \"ops\"\n      + tag x = \"1\"\n";
        assert!(shown.stdout.contains(change), "{}", shown.stdout);
        assert!(shown.stdout.contains("3 objects: 3 to change, 0 unchanged, 0 would fail"), "{}", shown.stdout);
        assert!(shown.stdout.contains("  undo of    put_object_tagging  team=web\n"), "{}", shown.stdout);
        assert!(shown.stdout.contains(&format!("next: batchplan undo {}", &job[..8])), "{}", shown.stdout);
        assert_eq!(scene.gate.writes(), Vec::<String>::new());
        let said = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(0).json();
        assert_eq!((&said["total"], &said["succeeded"]), (&json!(3), &json!(3)));
        assert_eq!(read(&scene, &before), before);
        let refused = scene.run(&["verify", &id(&said)]).ended(6);
        assert!(refused.stderr.contains("--plan --full"), "{}", refused.stderr);
        // Undone twice, nothing is left to do.
        let writes = scene.gate.writes().len();
        let said = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(0).json();
        assert_eq!((&said["succeeded"], scene.gate.writes().len()), (&json!(3), writes));
    }
}

#[test]
fn what_others_changed_is_left_alone_unless_forced() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let (scene, mut before, job) = applied(dialect, REPLACE);
        let other = tagged(&[("other", "1")]);
        write(&scene, "d/a", &other);
        let shown = scene.run(&["undo", &job, "--plan"]).ended(0);
        assert!(shown.stdout.contains("1 object would fail: ChangedSince (put_object_tagging)"), "{}", shown.stdout);
        let said = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(3).json();
        let failures = failed(&scene, &id(&said));
        assert_eq!(failures.keys().collect::<Vec<_>>(), ["d/a"]);
        assert!(failures["d/a"].contains("its tags changed after the job that is undone"), "{failures:?}");
        let was = before.insert("d/a".to_owned(), other).expect("a state");
        assert_eq!(read(&scene, &before), before);
        // Only what was left alone.
        let report = format!(".batchplan/jobs/{}/report/manifest.json", id(&said));
        let args = ["undo", &job, "--report", &report, "--force", "--auto-approve", "--json"];
        let said = scene.run(&args).ended(0).json();
        assert_eq!((&said["total"], state(&scene, "d/a")), (&json!(1), was));
    }
}

#[test]
fn globs_narrow_an_undo() {
    let (scene, before, job) = applied(Dialect::Aws, REPLACE);
    let said = scene.run(&["undo", &job, "--include", "d/*", "--exclude", "*b", "--auto-approve", "--json"]).ended(0);
    assert_eq!(said.json()["total"], 1);
    let web = tagged(&[("team", "web")]);
    assert_eq!((state(&scene, "d/a"), state(&scene, "d/b")), (before["d/a"].clone(), web.clone()));
    assert_eq!(state(&scene, "e/c"), web);
    let refused = scene.run(&["undo", &job, "--include", "[", "--auto-approve"]).ended(2);
    assert!(refused.stderr.contains("invalid glob"), "{}", refused.stderr);
}

#[test]
fn only_what_a_job_changed_is_undone() {
    let (scene, before, job) = applied(Dialect::Aws, &REPLACE.replace("put_object_tagging", "add_object_tagging"));
    // The second job finds the tags as it wants them.
    let second = scene.run(&["apply", "plan.toml", "--new", "--auto-approve", "--json"]).ended(0).json();
    let said = scene.run(&["undo", &id(&second), "--auto-approve", "--json"]).ended(0).json();
    assert_eq!(said["total"], 0);
    let said = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(0).json();
    assert_eq!((&said["total"], read(&scene, &before)), (&json!(3), before));
}

#[test]
fn an_undo_is_undone() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let (scene, before, job) = applied(dialect, REPLACE);
        let first = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(0).json();
        write(&scene, "d/b", &tagged(&[("other", "1")]));
        let second = scene.run(&["undo", &id(&first), "--auto-approve", "--json"]).ended(3).json();
        let web = tagged(&[("team", "web")]);
        assert_eq!((state(&scene, "d/a"), state(&scene, "e/c")), (web.clone(), web));
        assert_eq!(failed(&scene, &id(&second)).keys().collect::<Vec<_>>(), ["d/b"]);
        // And once more.
        scene.run(&["undo", &id(&second), "--auto-approve"]).ended(0);
        assert_eq!((state(&scene, "d/a"), state(&scene, "e/c")), (before["d/a"].clone(), before["e/c"].clone()));
    }
}

#[test]
fn an_undo_is_retried_as_an_undo() {
    let (scene, before, job) = applied(Dialect::Aws, REPLACE);
    write(&scene, "d/a", &tagged(&[("other", "1")]));
    let first = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(3).json();
    write(&scene, "d/a", &tagged(&[("team", "web")]));
    let again = scene.run(&["retry", &id(&first), "--auto-approve", "--json"]).ended(0).json();
    assert_eq!((&again["total"], read(&scene, &before)), (&json!(3), before));
    let shown = scene.run(&["show", &id(&again), "--json"]).ended(0).json();
    assert_eq!((&shown["origin"], &shown["undo_of"]), (&json!("undo"), &json!(job)));
}

#[test]
fn an_object_that_is_gone_fails() {
    let (scene, before, job) = applied(Dialect::Aws, REPLACE);
    delete(&scene, "d/a");
    let said = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(3).json();
    let failures = failed(&scene, &id(&said));
    assert!(failures.len() == 1 && failures["d/a"].contains("NoSuchKey"), "{failures:?}");
    assert_eq!(state(&scene, "d/b"), before["d/b"]);
}

#[test]
fn what_cannot_be_undone_is_said() {
    let scene = Scene::filled(Dialect::Aws, "bucket,key,storage_class\nbkt,a,GLACIER\n", |_| {});
    scene.plan("[manifest.prefix]\nbucket = \"bkt\"\n[operation.restore_object]\ndays = 1\n");
    let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
    let refused = scene.run(&["undo", &id(&job), "--auto-approve"]).ended(6);
    assert!(refused.stderr.contains("a restore cannot be undone"), "{}", refused.stderr);
    let (scene, _, job) = applied(Dialect::Aws, &REPLACE.replace("capture = true", "capture = false"));
    let refused = scene.run(&["undo", &job, "--auto-approve"]).ended(6);
    assert!(refused.stderr.contains("it kept nothing of what the objects were like before"), "{}", refused.stderr);
    scene.run(&["captured", &job]).ended(2);
    scene.run(&["undo", "nothing", "--auto-approve"]).ended(2);
}

#[test]
fn what_was_captured_is_printed() {
    let mut before = objects();
    before.insert("f,\"g".to_owned(), State { tags: BTreeMap::new(), acl: "public-read" });
    let scene = Scene::filled(Dialect::Aws, &table(&before).replace("bkt,f,\"g,", "bkt,\"f,\"\"g\","), |_| {});
    scene.plan(&format!("{REPLACE}[operation.put_object_acl]\nacl = \"private\"\n"));
    let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
    let csv = scene.run(&["captured", &id(&job), "--csv"]).ended(0).stdout;
    let expected = "bucket,key,version_id,tags,acl,error\n\
                    bkt,d%2Fa,,team=ops&x=1,private,\n\
                    bkt,d%2Fb,,,private,\n\
                    bkt,e%2Fc,,x=2,private,\n\
                    bkt,f%2C%22g,,,public-read,\n";
    assert_eq!(csv, expected);
    let text = scene.run(&["captured", &id(&job)]).ended(0).stdout;
    assert!(text.starts_with("bkt/d/a\n    tag team = \"ops\"\n    tag x = \"1\"\n    acl private\n"), "{text}");
}
