//! `apply` end to end: the real binary, the real path, on a sandbox of each test's own.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::folders::copy;
use crate::world::{Objects, World};
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};

/// What a new bucket holds, and two versions of an object in it.
const FILL: &str = "\
bucket,key,size,storage_class,last_modified,tags,acl,version_id
bkt,a,10,DEEP_ARCHIVE,2024-01-01T00:00:00Z,old=1&team=x,private,v1
bkt,a,20,DEEP_ARCHIVE,2024-02-01T00:00:00Z,old=2,private,v2
bkt,b%20c,30,DEEP_ARCHIVE,2024-03-01T00:00:00Z,,private,v3
bkt,kept,30,DEEP_ARCHIVE,2024-03-01T00:00:00Z,kept=1,private,v4
";

/// What to do, and how an object with the tags `old=…` is afterwards.
struct Operation {
    plan: &'static str,
    holds: fn(&Objects, &str, Option<&str>) -> bool,
}

const OPERATIONS: [Operation; 6] = [
    Operation {
        plan: "[operation.put_object_tagging]\ntags = { new = \"1\" }\n",
        holds: |objects, key, version| objects.tags(key, version) == "new=1",
    },
    Operation {
        plan: "[operation.add_object_tagging]\ntags = { new = \"1\" }\n",
        holds: |objects, key, version| {
            let tags = objects.tags(key, version);
            tags.starts_with("new=1") && (key != "a" || tags.contains("old="))
        },
    },
    Operation {
        plan: "[operation.delete_object_tagging]\n",
        holds: |objects, key, version| objects.tags(key, version).is_empty(),
    },
    Operation {
        plan: "[operation.delete_object_tagging]\nkeys = [\"old\"]\n",
        holds: |objects, key, version| !objects.tags(key, version).contains("old="),
    },
    Operation {
        plan: "[operation.put_object_acl]\nacl = \"public-read\"\n",
        holds: |objects, key, version| objects.acl(key, version) == "public-read",
    },
    Operation {
        plan: "[operation.restore_object]\ndays = 3\ntier = \"Bulk\"\n",
        holds: |objects, key, version| objects.restored(key, version),
    },
];

/// A manifest, and the objects that it names.
struct Manifest {
    name: &'static str,
    plan: &'static str,
    names: &'static [(&'static str, Option<&'static str>)],
}

const CURRENT: &[(&str, Option<&str>)] = &[("a", None), ("b c", None)];
const VERSIONS: &[(&str, Option<&str>)] = &[("a", Some("v1")), ("a", Some("v2")), ("b c", Some("v3"))];

const MANIFESTS: [Manifest; 7] = [
    Manifest { name: "prefix", plan: "[manifest.prefix]\nbucket = \"bkt\"\n", names: CURRENT },
    Manifest {
        name: "prefix, all versions",
        plan: "[manifest.prefix]\nbucket = \"bkt\"\nversions = \"all\"\n",
        names: VERSIONS,
    },
    Manifest { name: "local csv", plan: "[manifest.csv]\npath = \"list.csv\"\n", names: CURRENT },
    Manifest {
        name: "csv in the bucket, versions",
        plan: "[manifest.csv]\nbucket = \"lists\"\nobject = \"list.csv\"\nfields = [\"VersionId\", \"Bucket\", \"Ignore\", \"Key\"]\n",
        names: VERSIONS,
    },
    Manifest {
        name: "aws inventory",
        plan: "[manifest.inventory]\nbucket = \"lists\"\nobject = \"aws/manifest.json\"\n",
        names: VERSIONS,
    },
    Manifest {
        name: "oss inventory",
        plan: "[manifest.inventory]\nbucket = \"lists\"\nobject = \"oss/manifest.json\"\n",
        names: CURRENT,
    },
    Manifest {
        name: "latest inventory",
        plan: "[manifest.inventory]\nbucket = \"lists\"\nlatest = \"daily/\"\n",
        names: CURRENT,
    },
];

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("compressed");
    encoder.finish().expect("compressed")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Puts an inventory into the bucket `lists`: `<folder>/manifest.json`, its data and its checksum.
fn inventory(world: &World, folder: &str, destination: &str, schema: &str, rows: &str) {
    let data = gz(rows);
    let manifest = serde_json::json!({
        "sourceBucket": "bkt", "destinationBucket": destination, "version": "2016-11-30",
        "creationTimestamp": "1730419200000", "fileFormat": "CSV", "fileSchema": schema,
        "files": [{ "key": format!("{folder}/data.csv.gz"), "size": data.len(), "MD5checksum": hex(&Md5::digest(&data)) }],
    })
    .to_string();
    world.write(&format!("fill.files/lists/{folder}/data.csv.gz"), data);
    world.write(&format!("fill.files/lists/{folder}/manifest.checksum"), hex(&Md5::digest(&manifest)));
    world.write(&format!("fill.files/lists/{folder}/manifest.json"), manifest);
}

/// A world in which every manifest of [`MANIFESTS`] is there.
fn world_of_manifests() -> World {
    let world = World::filled(FILL);
    world.write("list.csv", "bkt,a\nbkt,b%20c\n");
    world.write("fill.files/lists/list.csv", "v1,bkt,x,a\nv2,bkt,x,a\nv3,bkt,x,b%20c\n");
    let aws = "\"bkt\",\"a\",\"v1\",\"false\",\"false\",\"10\"\n\"bkt\",\"a\",\"v2\",\"true\",\"false\",\"20\"\n\
               \"bkt\",\"gone\",\"v9\",\"true\",\"true\",\"\"\n\"bkt\",\"b+c\",\"v3\",\"true\",\"false\",\"30\"\n";
    let schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size";
    inventory(&world, "aws", "arn:aws:s3:::lists", schema, aws);
    let oss = "bkt,a,20,DEEP_ARCHIVE\nbkt,b%20c,30,DEEP_ARCHIVE\n";
    inventory(&world, "oss", "acs:oss:::lists", "Bucket, Key, Size, StorageClass", oss);
    let schema = "Key, Bucket";
    inventory(&world, "daily/2024-11-01T00-00Z", "arn:aws:s3:::lists", schema, "kept,bkt\n");
    inventory(&world, "daily/2024-11-02T00-00Z", "arn:aws:s3:::lists", schema, "a,bkt\nb%20c,bkt\n");
    world
}

#[test]
fn every_operation_works_with_every_manifest() {
    for manifest in &MANIFESTS {
        for operation in &OPERATIONS {
            let world = world_of_manifests();
            let rest = "[manifest.filter]\nexclude = [\"kept\"]\n[report]\nbucket = \"lists\"\nprefix = \"reports\"\n";
            world.plan(&format!("{}{rest}{}", manifest.plan, operation.plan));
            let result = world.apply().ended(0).json();
            let what = format!("{} with {}", manifest.name, operation.plan);
            assert_eq!(result["succeeded"], manifest.names.len(), "{what}");
            assert_eq!((&result["failed"], &result["status"]), (&0.into(), &"Complete".into()), "{what}");
            let objects = world.objects();
            for (key, version) in manifest.names {
                assert!((operation.holds)(&objects, key, *version), "{what}: {key} {version:?}");
            }
            assert_eq!(objects.tags("kept", None), "kept=1", "{what}");
            assert_eq!(objects.acl("kept", None), "private", "{what}");
            assert!(!objects.restored("kept", None), "{what}");
            let mut reported: Vec<_> = world.report_rows(&result).into_iter().map(|row| row[1].clone()).collect();
            reported.sort();
            let mut named: Vec<_> = manifest.names.iter().map(|(key, _)| key.replace(' ', "%20")).collect();
            named.sort();
            assert_eq!(reported, named, "{what}");
        }
    }
}

#[test]
fn several_operations_are_one_pass() {
    let world = World::filled(FILL);
    world.plan(
        "[manifest.prefix]\nbucket = \"bkt\"\n[operation.add_object_tagging]\ntags = { new = \"1\" }\n\
         [operation.delete_object_tagging]\nkeys = [\"old\"]\n[operation.put_object_acl]\nacl = \"public-read\"\n\
         [operation.restore_object]\ndays = 1\n",
    );
    assert_eq!(world.apply().ended(0).json()["succeeded"], 3);
    let objects = world.objects();
    assert_eq!((objects.tags("a", None), objects.acl("a", None)), ("new=1".to_owned(), "public-read"));
    assert!(objects.restored("a", None));
    assert_eq!(objects.tags("kept", None), "kept=1 new=1");
}

#[test]
fn one_object_in_ten_that_fails_leaves_nine_done() {
    let world = World::filled("bucket,key\nbkt,k0\nbkt,k1\nbkt,k2\nbkt,k3\nbkt,k4\nbkt,k5\nbkt,k6\nbkt,k7\nbkt,k8\n");
    let list = (0..10).fold(String::new(), |list, n| list + &format!("bkt,k{n}\n"));
    world.write("list.csv", list);
    world.plan(
        "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n\
         [report]\nbucket = \"bkt\"\nprefix = \"r/\"\n",
    );
    let ran = world.apply().ended(3);
    let result = ran.json();
    assert_eq!((&result["succeeded"], &result["failed"], &result["total"]), (&9.into(), &1.into(), &10.into()));
    assert!(ran.stderr.contains("\n9 changed, 1 failed\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nreport: s3://bkt/r/"), "{}", ran.stderr);
    let rows = world.report_rows(&result);
    let (failed, fine): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row[3] != "200");
    assert_eq!((failed.len(), fine.len()), (1, 9));
    assert_eq!((failed[0][1].as_str(), failed[0][3].as_str()), ("k9", "404"));
    assert!(failed[0][4].contains("\"Error Code\":\"NoSuchKey\""), "{:?}", failed[0]);
    assert!(fine.iter().all(|row| row[4].is_empty()));
    let objects = world.objects();
    assert!((0..9).all(|n| objects.tags(&format!("k{n}"), None) == "t=1"));
}

#[test]
fn odd_keys_arrive_as_they_are_and_come_back_in_the_report() {
    let long = "k".repeat(1024);
    let keys =
        ["a+b", "a%2Fb", "a b", "?x#y", "//", "../x", "é", "\n", "\u{1}", "quote\" and, comma", "a/../b", "%", &long];
    let encoded: Vec<_> = keys.iter().map(|key| batchplan_store::object::ObjectKey::from(*key).encoded()).collect();
    let lines = encoded.iter().fold(String::new(), |lines, key| lines + &format!("bkt,{key}\n"));
    let world = World::filled(&format!("bucket,key\n{lines}"));
    world.write("list.csv", &lines);
    for source in ["[manifest.csv]\npath = \"list.csv\"\n", "[manifest.prefix]\nbucket = \"bkt\"\n"] {
        world.plan(&format!(
            "{source}[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n[report]\nbucket = \"bkt\"\nprefix = \"r\"\n"
        ));
        let mut reported: Vec<_> = Vec::new();
        let result = world.apply().json();
        reported.extend(world.report_rows(&result).into_iter().map(|row| row[1].clone()));
        reported.sort();
        let mut expected = encoded.clone();
        expected.sort();
        assert_eq!(reported, expected, "{source}");
        let objects = world.objects();
        for key in keys {
            assert_eq!(objects.tags(key, None), "t=1", "{key:?}");
        }
    }
}

#[test]
fn duplicates_run_once_for_each_entry() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.write("list.csv", "bkt,a\nbkt,a\nbkt,a\n");
    world.plan(
        "[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n\
         [report]\nbucket = \"bkt\"\nformat = \"aws\"\n",
    );
    let result = world.apply().ended(0).json();
    assert_eq!(result["succeeded"], 3);
    let results = world.path(result["report_folder"].as_str().expect("a folder")).join("results");
    let files: Vec<_> = fs::read_dir(results).expect("a folder").map(|file| file.expect("a file").path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let rows = fs::read_to_string(file).expect("a report");
    assert_eq!(rows, "bkt,a,,succeeded,200,,Successful\n".repeat(3));
}

#[test]
fn a_filter_that_takes_nothing_is_no_error() {
    let world = World::filled("bucket,key\nbkt,a\n");
    let tag = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    world.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n[manifest.filter]\ninclude = [\"*.pdf\"]\n{tag}"));
    let result = world.apply().ended(0).json();
    assert_eq!(result["total"], 0);
    assert_eq!(world.objects().tags("a", None), "");
}

#[test]
fn filters_take_what_they_say() {
    let tag = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
    let cases = [
        ("larger_than = \"15 B\"", 3),
        ("smaller_than = 30", 1),
        ("modified_after = \"2024-02-15\"", 2),
        ("older_than = \"1d\"", 3),
        ("storage_class = [\"GLACIER\"]", 0),
        ("include = [\"a\", \"b*\"]\nexclude = [\"* c\"]", 1),
    ];
    for (filter, count) in cases {
        let world = World::filled(FILL);
        world.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n[manifest.filter]\n{filter}\n{tag}"));
        assert_eq!(world.apply().ended(0).json()["total"], count, "{filter}");
    }
}

/// What is in a file, and what the message must say of it.
const HOSTILE: [(&str, &[u8], &str); 9] = [
    ("header", b"Bucket,Key\nbkt,a\n", "row 1"),
    ("mixed line ends", b"bkt,a\r\nbkt,b\n", "row 2"),
    ("utf-16", b"\xff\xfeb\0k\0t\0,\0a\0\n\0", "row 1"),
    ("utf-8", b"bkt,a\nbkt,\xff\xfe\n", "row 2"),
    ("empty", b"", "contains no objects"),
    ("columns", b"bkt,a\nbkt\n", "row 2"),
    ("escape", b"bkt,a\nbkt,%zz\n", "row 2"),
    ("not a key", b"bkt,a\nbkt,%ff\n", "row 2"),
    ("open quote", b"bkt,a\nbkt,\"b\n", "row 2"),
];

#[test]
fn a_hostile_csv_gives_a_clear_error_and_touches_nothing() {
    for (name, content, place) in HOSTILE {
        let world = World::filled("bucket,key\nbkt,a\n");
        world.write("list.csv", content);
        world.plan("[manifest.csv]\npath = \"list.csv\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n");
        let ran = world.apply().ended(4);
        assert!(ran.stderr.contains("no objects were changed"), "{name}: {}", ran.stderr);
        assert_eq!(ran.json()["status"], "Failed", "{name}");
        assert!(ran.stderr.contains(place), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("help: "), "{name}: {}", ran.stderr);
        assert_eq!(world.objects().tags("a", None), "", "{name}");
    }
}

#[test]
fn a_source_without_objects_is_a_job_with_nothing_to_do() {
    let inventories = "[manifest.inventory]\nbucket = \"lists\"\nobject = ";
    let prefix = |prefix: &str| format!("[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"{prefix}\"\n");
    for (manifest, place, help) in [
        (format!("{inventories}\"rows/manifest.json\"\n"), "lists/rows/manifest.json", "the right bucket and day"),
        (format!("{inventories}\"files/manifest.json\"\n"), "lists/files/manifest.json", "the right bucket and day"),
        (prefix("/docs/"), "the listing of bkt//docs/", "`docs/`: remove the slash at the start"),
        (prefix("Docs/a"), "the listing of bkt/Docs/a", "`docs/`: keys are case-sensitive"),
        (prefix("none/"), "the listing of bkt/none/", "check the prefix"),
    ] {
        let world = World::filled("bucket,key\nbkt,docs/a\n");
        inventory(&world, "rows", "arn:aws:s3:::lists", "Bucket, Key", "");
        inventory(&world, "files", "arn:aws:s3:::lists", "Bucket, Key", "");
        let path = "fill.files/lists/files/manifest.json";
        let text = fs::read_to_string(world.path(path)).expect("a manifest");
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["files"] = serde_json::json!([]);
        world.write(path, json.to_string());
        let report = "[report]\nbucket = \"lists\"\nprefix = \"reports\"\nformat = \"aws\"\n";
        world.plan(&format!("{manifest}{report}[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n"));
        let warning = format!("warning: {place} contains no objects: there is nothing to do");
        let planned = world.run(&["plan", "plan.toml", "--detailed-exitcode"]).ended(0);
        let shown = format!("{}{}", planned.stdout, planned.stderr);
        assert!(shown.contains(&warning) && shown.contains(help), "{shown}");
        let ran = world.apply().ended(0);
        assert!(ran.stderr.contains(&warning) && ran.stderr.contains(help), "{}", ran.stderr);
        assert!(ran.stderr.contains("\nnothing to do: there were no objects to process\n"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("0 changed"), "{}", ran.stderr);
        let result = ran.json();
        assert_eq!((&result["status"], &result["total"]), (&"Complete".into(), &0.into()), "{result}");
        assert_eq!((&result["succeeded"], &result["failed"]), (&0.into(), &0.into()), "{result}");
        assert!(world.report_rows(&result).is_empty());
        let said = world.run(&["apply", "plan.toml", "--auto-approve"]).ended(0);
        assert!(said.stderr.contains(&warning), "{}{}", said.stdout, said.stderr);
        world.run(&["check", "plan.toml"]).ended(0);
    }
}

#[test]
fn a_csv_of_a_spreadsheet_is_read_as_it_is_meant() {
    for (fields, content) in [
        ("", "\u{feff}bkt;a\r\nbkt;b%20c\r\n"),
        ("", "bkt\ta\nbkt\tb c\n"),
        ("fields = [\"Key\", \"Bucket\"]\n", "a, bkt\nb%20c, bkt"),
    ] {
        let world = World::filled("bucket,key\nbkt,a\nbkt,b%20c\n");
        world.write("list.csv", content);
        world.plan(&format!(
            "[manifest.csv]\npath = \"list.csv\"\n{fields}[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n"
        ));
        assert_eq!(world.apply().ended(0).json()["succeeded"], 2, "{content:?}");
        let objects = world.objects();
        assert_eq!((objects.tags("a", None), objects.tags("b c", None)), ("t=1".to_owned(), "t=1".to_owned()));
    }
}

#[test]
fn a_hostile_inventory_gives_a_clear_error_and_touches_nothing() {
    let break_data = |world: &World, change: fn(Vec<u8>) -> Vec<u8>, mend_md5: bool| {
        let path = "fill.files/lists/aws/data.csv.gz";
        let data = change(fs::read(world.path(path)).expect("data"));
        if mend_md5 {
            let manifest = "fill.files/lists/aws/manifest.json";
            let text = fs::read_to_string(world.path(manifest)).expect("a manifest");
            let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            json["files"][0]["MD5checksum"] = hex(&Md5::digest(&data)).into();
            json["files"][0]["size"] = data.len().into();
            world.write(manifest, json.to_string());
        }
        world.write(path, data);
    };
    let truncated = |data: Vec<u8>| data[..data.len() - 12].to_vec();
    let other = |mut data: Vec<u8>| {
        data[4] ^= 1;
        data
    };
    for (name, change, mend, says) in
        [("truncated", truncated as fn(_) -> _, true, "data.csv.gz"), ("wrong MD5", other, false, "MD5")]
    {
        let world = world_of_manifests();
        break_data(&world, change, mend);
        world.plan(&format!("{}{}", MANIFESTS[4].plan, OPERATIONS[0].plan));
        let ran = world.apply().ended(4);
        assert!(ran.stderr.contains("no objects were changed"), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{name}: {}", ran.stderr);
        assert_eq!(world.objects().tags("a", Some("v1")), "old=1 team=x", "{name}");
    }
}

#[test]
fn a_changed_manifest_is_refused_by_its_etag() {
    let world = world_of_manifests();
    let pinned =
        "[manifest.csv]\nbucket = \"lists\"\nobject = \"list.csv\"\netag = \"1466CA50719515AAE6F92101D83B6A20\"\n";
    world.plan(&format!("{pinned}fields = [\"VersionId\", \"Bucket\", \"Ignore\", \"Key\"]\n{}", OPERATIONS[0].plan));
    let ran = world.apply().ended(4);
    assert!(ran.stderr.to_lowercase().contains("1466ca50719515aae6f92101d83b6a20"), "{}", ran.stderr);
    assert_eq!(world.objects().tags("a", Some("v1")), "old=1 team=x");
}

#[test]
fn the_quickstart_works_twice() {
    let world = World::filled("");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("plans"), &world.path("plans"));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let ran = world.run(&["apply", "plans/quickstart.toml", "--auto-approve"]).ended(0);
        seen.push(world.normal(&ran.stderr));
    }
    let again = seen[0].replace("96 changed, 0 failed", "0 changed, 96 already right, 0 failed");
    assert_eq!(again.replace("requests  192", "requests  96"), seen[1]);
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quickstart.stderr");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected, &seen[0]).expect("written");
    }
    assert_eq!(seen[0], fs::read_to_string(expected).expect("the expected output"));
}
