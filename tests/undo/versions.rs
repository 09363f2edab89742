//! Undo in buckets with versions: what was overwritten, deleted or created again is left alone.

use crate::objects::{State, States, delete, failed, id, keep_versions, put, scene, state};
use crate::scene::{Dialect, Scene};

fn objects() -> States {
    let state = || State { tags: [("x".to_owned(), "1".to_owned())].into(), acl: "private" };
    ["deleted", "kept", "overwritten", "recreated"].map(|key| (key.to_owned(), state())).into()
}

const PLAN: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { team = \"web\" }\n\
                    [limits]\nfailure_threshold = 1.0\n[undo]\ncapture = true\n";

fn versioned(dialect: Dialect) -> (Scene, String) {
    let scene = scene(dialect, &objects());
    keep_versions(&scene);
    // Objects that were there before have no version ID of their own. These have.
    for key in objects().keys() {
        put(&scene, key, "first");
        crate::objects::write(&scene, key, &objects()[key]);
    }
    scene.plan(PLAN);
    let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
    let id = id(&job);
    (scene, id)
}

#[test]
fn only_the_version_that_the_job_changed_is_undone() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let (scene, job) = versioned(dialect);
        let web = state(&scene, "kept");
        put(&scene, "overwritten", "second");
        crate::objects::write(&scene, "overwritten", &web);
        delete(&scene, "deleted");
        delete(&scene, "recreated");
        put(&scene, "recreated", "third");
        crate::objects::write(&scene, "recreated", &web);
        let said = scene.run(&["undo", &job, "--auto-approve", "--json"]).ended(3).json();
        let failures = failed(&scene, &id(&said));
        assert_eq!(failures.keys().collect::<Vec<_>>(), ["deleted", "overwritten", "recreated"], "{dialect:?}");
        assert!(failures["deleted"].contains("NoSuchKey"), "{failures:?}");
        for key in ["overwritten", "recreated"] {
            assert!(failures[key].contains("ChangedSince"), "{failures:?}");
            assert_eq!(state(&scene, key), web, "{dialect:?}: {key} is left alone");
        }
        assert_eq!(state(&scene, "kept"), objects()["kept"]);
        let csv = scene.run(&["captured", &job, "--csv"]).ended(0).stdout;
        assert!(csv.lines().skip(1).all(|row| row.split(',').nth(2).is_some_and(|id| !id.is_empty())), "{csv}");
        scene.run(&["undo", &job, "--include", "overwritten", "--force", "--auto-approve"]).ended(0);
        assert_eq!(state(&scene, "overwritten"), objects()["overwritten"]);
    }
}

#[test]
fn rows_that_name_a_version_undo_that_version() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let scene = scene(dialect, &objects());
        keep_versions(&scene);
        put(&scene, "kept", "first");
        put(&scene, "kept", "second");
        scene.plan(&PLAN.replace("bucket = \"bkt\"\n", "bucket = \"bkt\"\nprefix = \"kept\"\nversions = \"all\"\n"));
        let job = scene.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0).json();
        assert_eq!(job["total"], 3);
        put(&scene, "kept", "third");
        let third = state(&scene, "kept");
        let said = scene.run(&["undo", &id(&job), "--auto-approve", "--json"]).ended(0).json();
        assert_eq!(said["succeeded"], 3);
        assert_eq!(state(&scene, "kept"), third);
        let shown = scene.run(&["undo", &id(&job), "--plan", "--full"]).ended(0).stdout;
        assert!(shown.contains("3 objects: 0 to change, 3 unchanged"), "{shown}");
    }
}
