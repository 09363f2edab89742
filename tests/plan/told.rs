//! What an inventory tells of objects is not asked again, and is told with its age.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::gate::denied;
use crate::scene::{Dialect, INVENTORY, Scene, inventory};

/// When the inventory was begun, in milliseconds and in words.
const BEGUN: (&str, &str) = ("1730419200000", "2024-11-01T00:00:00Z");

/// Key, class, ACL as it is told, ACL as it is by now.
const OBJECTS: [(&str, &str, &str, &str); 4] = [
    ("d/a", "GLACIER", "private", "private"),
    ("d/b", "STANDARD", "public-read", "public-read"),
    ("d/c", "STANDARD", "private", "public-read"),
    ("d/e", "DEEP_ARCHIVE", "public-read-write", "public-read-write"),
];

/// An ACL as the dialect's inventory has it, with its further columns.
fn column(dialect: Dialect, acl: &str) -> String {
    if dialect == Dialect::Oss {
        return acl.to_owned();
    }
    let everyone = |permission: &str| json!({ "uri": "http://acs.amazonaws.com/groups/global/AllUsers", "permission": permission, "type": "Group" });
    let mut grants = vec![json!({ "canonicalId": "me", "permission": "FULL_CONTROL", "type": "CanonicalUser" })];
    if acl != "private" {
        grants.push(everyone("READ"));
    }
    if acl == "public-read-write" {
        grants.push(everyone("WRITE"));
    }
    let list = json!({ "version": "2022-11-10", "status": "AVAILABLE", "grants": grants });
    format!("{},me", STANDARD.encode(list.to_string()))
}

/// A bucket with an inventory that tells ACLs and classes, of which one ACL is another by now.
fn scene(dialect: Dialect) -> Scene {
    let (mut table, mut rows) = (String::from("bucket,key,size,storage_class,acl\n"), String::new());
    for (key, class, told, is) in OBJECTS {
        let _ = writeln!(table, "bkt,{key},5,{class},{is}");
        let class = match (dialect, class) {
            (Dialect::Oss, "GLACIER") => "Archive",
            (Dialect::Oss, "DEEP_ARCHIVE") => "DeepColdArchive",
            (Dialect::Oss, _) => "Standard",
            (Dialect::Aws, class) => class,
        };
        let _ = writeln!(rows, "bkt,{key},5,{class},{}", column(dialect, told));
    }
    let acl = if dialect == Dialect::Oss { "ObjectAcl" } else { "ObjectAccessControlList, ObjectOwner" };
    let schema = format!("Bucket, Key, Size, StorageClass, {acl}");
    Scene::filled(dialect, &table, |world| inventory(world, dialect, &schema, &rows, BEGUN.0))
}

/// The requests about objects so far.
fn about_objects(scene: &Scene) -> Vec<String> {
    let log = scene.gate.log().into_iter();
    log.filter(|request| request.split(' ').nth(1).is_some_and(|target| target.starts_with("/bkt/d/"))).collect()
}

fn keys(objects: &[Json], action: &str) -> Vec<String> {
    let some = objects.iter().filter(|object| object["action"] == action);
    some.map(|object| object["key"].as_str().expect("a key").replace("%2F", "/")).collect()
}

#[test]
fn no_request_is_made_for_what_the_inventory_tells() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let scene = scene(dialect);
        scene.plan_unchecked(&format!("{INVENTORY}[operation.put_object_acl]\nacl = \"private\"\n"));
        for how in [&[][..], &["--full"]] {
            let ran = scene.look(how).ended(0);
            assert_eq!(about_objects(&scene), Vec::<String>::new(), "{dialect:?}");
            assert!(ran.stdout.contains("ACLs and storage classes are from the inventory, taken"), "{}", ran.stdout);
            assert!(ran.stdout.contains(BEGUN.1) && ran.stdout.contains(" d "), "{}", ran.stdout);
            let markdown = scene.look(&[how, &["--format", "markdown"]].concat()).ended(0).stdout;
            assert!(markdown.contains(BEGUN.1), "{markdown}");
        }
        let (objects, whole) = scene.objects();
        assert_eq!(about_objects(&scene), Vec::<String>::new(), "{dialect:?}");
        assert_eq!(whole["facts"], json!({ "acls": 4, "classes": 4, "since": BEGUN.1 }));
        // What has changed since is not seen: that is what the age is told for.
        assert_eq!(keys(&objects, "change"), ["d/b", "d/e"]);
        assert_eq!(keys(&objects, "unchanged"), ["d/a", "d/c"]);
        assert_eq!(whole["objects"], 4);
    }
}

#[test]
fn only_archived_objects_are_looked_at_for_their_copies() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let scene = scene(dialect);
        scene.plan(&format!("{INVENTORY}[operation.restore_object]\ndays = 2\n"));
        let (objects, whole) = scene.objects();
        let mut asked = about_objects(&scene);
        asked.sort();
        assert_eq!(asked, ["HEAD /bkt/d/a", "HEAD /bkt/d/e"], "{dialect:?}");
        assert_eq!(keys(&objects, "change"), ["d/a", "d/e"]);
        assert_eq!(keys(&objects, "fail"), ["d/b", "d/c"]);
        assert_eq!((&whole["facts"]["acls"], &whole["facts"]["classes"]), (&json!(0), &json!(4)), "{dialect:?}");
    }
}

#[test]
fn who_may_not_see_an_objects_class_is_told_its_fate_all_the_same() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let table = "bucket,key,tags\nbkt,d/a,a=1\n";
        let scene = Scene::guarded(dialect, table, |_| {}, &[denied("HEAD", "/bkt/")]);
        scene.world.write("list.csv", "bkt,d/a\n");
        let manifest = "[manifest.csv]\npath = \"list.csv\"\n";
        scene.plan_unchecked(&format!("{manifest}[operation.add_object_tagging]\ntags = {{ b = \"2\" }}\n"));
        let (objects, whole) = scene.objects();
        assert_eq!(keys(&objects, "change"), ["d/a"], "{dialect:?}");
        assert!(about_objects(&scene).contains(&"HEAD /bkt/d/a".to_owned()), "{dialect:?}");
        assert_eq!(objects[0]["before"]["class"], json!(null));
        assert_eq!(whole["counts"]["unknown"]["likely"], 0);
        // A restore hangs on it.
        scene.plan_unchecked(&format!("{manifest}[operation.restore_object]\ndays = 1\n"));
        assert_eq!(keys(&scene.objects().0, "unknown"), ["d/a"], "{dialect:?}");
    }
}
