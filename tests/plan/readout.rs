//! `plan --full --csv`: the tags and ACLs of every object, without a job.

use std::fs;

use crate::gate::denied;
use crate::scene::{Dialect, Scene};

const TABLE: &str = "bucket,key,size,tags,acl\n\
     bkt,d/a,3,team=ops&b%2Bc=1%3D2,public-read\n\
     bkt,d/b,3,,private\n\
     bkt,\"d/c,\"\"d\"\"\",3,a=1,public-read-write\n\
     bkt,d/e,3,a=1,private\n";

const BOTH: &str = "[operation.delete_object_tagging]\n[operation.put_object_acl]\nacl = \"private\"\n";

#[test]
fn tags_and_acls_of_all_objects_are_written() {
    for dialect in [Dialect::Aws, Dialect::Oss] {
        let rules = [denied("GET", "d/e?tagging"), denied("GET", "d%2Fe?tagging")];
        let scene = Scene::guarded(dialect, TABLE, |world| world.write("tags.csv", "an earlier one"), &rules);
        scene.plan_unchecked(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{BOTH}"));
        scene.look(&["--full", "--csv", "tags.csv"]).ended(0);
        let expected = "bucket,key,version_id,tags,acl,error\n\
                        bkt,d%2Fa,,b%2Bc=1%3D2&team=ops,public-read,\n\
                        bkt,d%2Fb,,,private,\n\
                        bkt,d%2Fc%2C%22d%22,,a=1,public-read-write,\n\
                        bkt,d%2Fe,,,,403 AccessDenied\n";
        assert_eq!(fs::read_to_string(scene.world.path("tags.csv")).expect("the file"), expected);
        assert_eq!(scene.gate.writes(), Vec::<String>::new());
    }
}

#[test]
fn only_what_is_read_completely_is_written() {
    let scene = Scene::filled(Dialect::Aws, TABLE, |_| {});
    scene.plan(&format!("[manifest.prefix]\nbucket = \"bkt\"\n{BOTH}"));
    let refused = scene.look(&["--csv", "tags.csv"]).ended(2);
    assert!(refused.stderr.contains("help: add --full"), "{}", refused.stderr);
    scene.plan("[manifest.prefix]\nbucket = \"bkt\"\n[operation.restore_object]\ndays = 1\n");
    let refused = scene.look(&["--full", "--csv", "tags.csv"]).ended(2);
    assert!(refused.stderr.contains("this plan is about neither"), "{}", refused.stderr);
    assert!(!scene.world.path("tags.csv").exists());
}
