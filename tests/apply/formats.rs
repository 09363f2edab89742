//! Inventories in every format that the clouds write, end to end.

use crate::inventory::{Format, Layout, Row, write};
use crate::world::World;

const FILL: &str = "\
bucket,key,size,storage_class,last_modified,tags,acl,version_id
bkt,a+b,10,STANDARD,2024-01-01T00:00:00Z,,private,v1
bkt,a+b,20,STANDARD,2024-02-01T00:00:00Z,,private,v2
bkt,with%20%25%20and%20%C3%A9,30,STANDARD,2024-03-01T00:00:00Z,,private,v3
bkt,small,1,STANDARD,2024-03-01T00:00:00Z,,private,v4
";

const LATEST: &str = "latest = \"inv/daily\"";

const REST: &str = "[manifest.filter]\nlarger_than = 5\n\
                    modified_before = 2024-06-01T00:00:00Z\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// The inventory's folder where its bucket is filled from.
const LISTS: &str = "fill.files/lists";

fn row(key: &str, version: &str, size: u64) -> Row {
    Row {
        bucket: "bkt".to_owned(),
        key: key.into(),
        version_id: Some(version.to_owned()),
        is_latest: version != "v1",
        is_delete_marker: version == "v9",
        size: Some(size),
        last_modified: Some(1_704_067_200_000),
        etag: None,
        storage_class: Some("STANDARD".to_owned()),
    }
}

/// A world with an inventory in this format, which names an older version and a delete marker too; and its
/// `manifest.json`.
fn world(format: Format) -> (World, String) {
    let world = World::filled(FILL);
    let rows = [
        row("a+b", "v1", 10),
        row("gone", "v9", 100),
        row("with % and é", "v3", 30),
        row("small", "v4", 1),
        row("a+b", "v2", 20),
    ];
    let (source, destination, prefix, date) = ("bkt", "lists", "inv/daily/", "2024-11-02T00-00Z");
    let inventory = write(Layout { format, source, destination, prefix, date, versions: true, files: 2 }, rows);
    for (key, content) in inventory.objects {
        world.write(&format!("{LISTS}/{key}"), content);
    }
    plan(&world, LATEST);
    (world, inventory.manifest)
}

fn plan(world: &World, which: &str) {
    world.plan(&format!("[manifest.inventory]\nbucket = \"lists\"\n{which}\n{REST}"));
}

#[test]
fn a_plan_works_alike_on_every_format() {
    let mut previews = Vec::new();
    for format in Format::ALL {
        let (world, _) = world(format);
        let mut preview = world.run(&["plan", "plan.toml", "--json", "--full"]).ended(0).json();
        // It is measured.
        assert!(preview["duration"]["latency_ms"].take().is_number());
        previews.push(preview);
        let result = world.apply().ended(0).json();
        assert_eq!((&result["succeeded"], &result["failed"]), (&3.into(), &0.into()), "{format:?}");
        let objects = world.objects();
        for (key, version, tags) in
            [("a+b", "v1", "t=1"), ("a+b", "v2", "t=1"), ("with % and é", "v3", "t=1"), ("small", "v4", "")]
        {
            assert_eq!(objects.tags(key, Some(version)), tags, "{format:?}: {key}");
        }
    }
    assert_eq!(previews[0]["objects"], 3);
    for (preview, format) in previews.iter().zip(Format::ALL) {
        assert_eq!(preview, &previews[0], "{format:?}");
    }
}

#[test]
fn a_damaged_file_touches_nothing_and_is_named() {
    for (format, ending) in [(Format::Parquet, "parquet"), (Format::Orc, "orc")] {
        let (world, _) = world(format);
        let path = format!("{LISTS}/inv/daily/data/2024-11-02T00-00Z-1.{ending}");
        let mut data = std::fs::read(world.path(&path)).expect("data");
        data[7] ^= 1;
        world.write(&path, data);
        let ran = world.apply().ended(4);
        assert!(ran.stderr.contains("no objects were changed"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("2024-11-02T00-00Z-1.{ending}: its MD5 is ")), "{}", ran.stderr);
        assert!(ran.stderr.contains("help: "), "{}", ran.stderr);
        assert_eq!(world.objects().tags("a+b", Some("v2")), "");
    }
}

#[test]
fn a_check_glances_at_an_object() {
    for format in Format::ALL {
        let (world, manifest) = world(format);
        for which in [LATEST, &format!("object = \"{manifest}\"")] {
            plan(&world, which);
            let ran = world.run(&["check", "plan.toml"]).ended(0);
            assert!(ran.stdout.contains("first object: bkt/"), "{format:?}: {}", ran.stdout);
        }
    }
}
