//! Looking without writing, by the server's own log.

use crate::scene::{Dialect, INVENTORY, Scene, inventory};

/// Objects of every kind, in a bucket that keeps no versions.
const TABLE: &str = "bucket,key,size,storage_class,tags,acl\n\
     bkt,d/a,3,GLACIER,team=web&old=1,public-read\n\
     bkt,d/b,3,STANDARD,,private\n\
     bkt,d/c,3,DEEP_ARCHIVE,a=1,private\n\
     bkt,d/d,3,STANDARD,a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10,private\n\
     audit,x,1,STANDARD,,private\n";

const PREFIX: &str = "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"d/\"\n";
const CSV: &str = "[manifest.csv]\npath = \"list.csv\"\n";
const STORED: &str = "[manifest.csv]\nbucket = \"lists\"\nobject = \"list.csv\"\n";
const LIST: &str = "bkt,d/a\nbkt,d/b\nbkt,d/c\nbkt,d/d\nbkt,gone\nnowhere,d/a\n";

const REPORT: &str = "[report]\nbucket = \"audit\"\nprefix = \"r/\"\n";

/// What is done: each operation alone and all at once, with and without skipping.
fn operations() -> Vec<String> {
    let restore = "[operation.restore_object]\ndays = 1\ntier = \"Standard\"\n";
    let acl = "[operation.put_object_acl]\nacl = \"private\"\n";
    let add = "[operation.add_object_tagging]\ntags = { team = \"ops\" }\n";
    let put = "[operation.put_object_tagging]\ntags = { team = \"ops\" }\n";
    let delete = "[operation.delete_object_tagging]\n";
    let all = format!("{add}{acl}{restore}");
    vec![put.to_owned(), delete.to_owned(), all.clone(), format!("{all}[job]\nskip_unchanged = true\n")]
}

#[test]
fn nothing_is_written_whatever_the_manifest_and_however_closely_it_looks() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let scene = Scene::filled(dialect, TABLE, |world| {
            world.write("fill.files/lists/list.csv", LIST);
            let rows = "bkt,d/a,3,GLACIER\nbkt,d/b,3,STANDARD\nbkt,d/c,3,DEEP_ARCHIVE\nbkt,gone,3,STANDARD\n";
            inventory(world, dialect, "Bucket, Key, Size, StorageClass", rows, "1730419200000");
        });
        scene.world.write("list.csv", LIST);
        let mut asked = 0;
        for manifest in [PREFIX, CSV, STORED, INVENTORY] {
            for operations in operations() {
                scene.plan(&format!("{manifest}{operations}{REPORT}"));
                for how in [&["--sample", "2"][..], &["--full"], &["--all"], &["--all", "--json"]] {
                    let ran = scene.look(how).ended(0);
                    assert_eq!(scene.gate.writes(), Vec::<String>::new(), "{manifest}{operations}{how:?}");
                    let log = scene.gate.log();
                    assert!(!log.is_empty(), "{manifest}{operations}{how:?}: {}", ran.stdout);
                    asked += log.len();
                    scene.gate.forget();
                }
            }
        }
        assert!(asked > 500, "{asked}");
        assert!(!scene.world.path(".batchplan").exists(), "it leaves no job behind");
    }
}

#[test]
fn a_plan_leaves_nothing_in_its_folder() {
    let scene = Scene::filled(Dialect::Aws, TABLE, |_| {});
    scene.plan(&format!("{PREFIX}[operation.delete_object_tagging]\n"));
    let there = || std::fs::read_dir(scene.world.path(".")).expect("a folder").count();
    let before = there();
    scene.look(&["--full"]).ended(0);
    assert_eq!(there(), before);
}
