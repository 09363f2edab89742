//! Writing what is there already.

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use batchplan_store::object::{BucketName, ObjectAcl, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::{AddressingStyle, HttpStore, Store as _};

use crate::gate::{Act, Rule, denied, refused};
use crate::scene::{PREFIX, Scene, TABLE};

const TAGS: &str = "[operation.delete_object_tagging]\nkeys = [\"old\"]\n";
const ACL: &str = "[operation.put_object_acl]\nacl = \"private\"\n";
const REPORT: &str = "[report]\nbucket = \"audit\"\nprefix = \"reports\"\n";

fn plan(rest: &str) -> String {
    format!("{PREFIX}{rest}")
}

/// What becomes of requests about an object, past the gate.
fn ask(endpoint: &str, key: &str, calls: &[ObjectRequest]) -> Vec<ResponseData> {
    let credentials = aws_credential_types::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
    let store = HttpStore::oss(endpoint, AddressingStyle::Path, "cn-hangzhou", provider).expect("a store");
    let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from(key), version: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    calls.iter().map(|call| runtime.block_on(store.send_request(&object, call)).expect("an answer").data).collect()
}

/// The tags and the ACL of an object.
fn state(scene: &Scene, key: &str) -> Vec<ResponseData> {
    ask(&scene.gate.behind(), key, &[ObjectRequest::GetTags, ObjectRequest::GetAcl])
}

#[test]
fn an_object_is_written_as_it_is_and_found_so_again() {
    for provider in ["s3", "oss"] {
        let scene = Scene::new(provider, &plan(&format!("{TAGS}{ACL}{REPORT}")), &[]);
        let before = state(&scene, "docs/a.txt");
        let ran = scene.check(&["--write-probe", "docs/a.txt", "--report-probe"]);
        scene.says(&format!("probe-{provider}"), &ran);
        assert_eq!(state(&scene, "docs/a.txt"), before);
        let writes = scene.gate.writes();
        let [tags, acl, report] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!((tags.as_str(), acl.as_str()), ("PUT /bkt/docs/a.txt?tagging", "PUT /bkt/docs/a.txt?acl"));
        assert!(report.starts_with("PUT /audit/reports/.batchplan-check-"), "{report}");
    }
}

#[test]
fn tags_are_deleted_only_where_there_are_none() {
    for provider in ["s3", "oss"] {
        let scene = Scene::new(provider, &plan("[operation.delete_object_tagging]\n"), &[]);
        let full = scene.check(&["--write-probe", "docs/a.txt"]);
        assert!(full.code == 0 && full.stdout.contains("name an object without tags"), "{}", full.stdout);
        assert_eq!(scene.gate.writes(), Vec::<String>::new());
        let bare = scene.check(&["--write-probe", "docs/b.txt"]);
        assert!(bare.stdout.contains("ok           delete tags of bkt/docs/b.txt"), "{}", bare.stdout);
        assert_eq!(scene.gate.writes(), ["DELETE /bkt/docs/b.txt?tagging"]);
    }
}

#[test]
fn writes_that_are_denied_name_their_actions() {
    let rules =
        [denied("PUT", "?tagging"), denied("DELETE", "?tagging"), denied("PUT", "?acl"), denied("PUT", "reports/")];
    for provider in ["s3", "oss"] {
        let scene = Scene::new(provider, &plan(&format!("{TAGS}{ACL}{REPORT}")), &rules);
        let ran = scene.check(&["--write-probe", "docs/b.txt", "--report-probe"]);
        scene.says(&format!("probe-denied-{provider}"), &ran);
    }
}

#[test]
fn a_read_that_only_the_probe_needs_is_nothing_that_the_plan_lacks() {
    let put = "[operation.put_object_tagging]\ntags = { a = \"1\" }\n";
    let scene = Scene::new("s3", &plan(put), &[denied("GET", "?tagging")]);
    scene.says("probe-unread", &scene.check(&["--write-probe", "docs/a.txt"]));
    assert_eq!(scene.gate.writes(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_put_back_is_not_written() {
    let restore = "[operation.restore_object]\ndays = 1\n";
    let scene = Scene::new("s3", &plan(&format!("{ACL}{restore}")), &[]);
    scene.says("probe-custom", &scene.check(&["--write-probe", "docs/known.txt"]));
    assert_eq!(scene.gate.writes(), Vec::<String>::new());
}

#[test]
fn a_bucket_that_takes_no_acls_is_told_from_a_permission_that_lacks() {
    let refused = refused("PUT", "?acl", 400, "AccessControlListNotSupported");
    let scene = Scene::new("s3", &plan(ACL), &[refused]);
    scene.says("probe-no-acls", &scene.check(&["--write-probe", "docs/b.txt"]));
}

#[test]
fn a_version_has_permissions_of_its_own() {
    let table = "bucket,key,size,version_id,tags\nbkt,docs/v,1,v1,a=1\nbkt,docs/v,1,v2,\n";
    let plan = format!("{PREFIX}versions = \"all\"\n{TAGS}");
    let scene = Scene::with("s3", &plan, table, &[denied("PUT", "?tagging&versionId=v1")]);
    let ran = scene.check(&["--write-probe", "docs/v", "--version-id", "v1", "--json"]);
    assert_eq!((ran.code, &ran.json()["missing"]), (6, &serde_json::json!(["s3:PutObjectVersionTagging"])));
    assert_eq!(scene.gate.writes(), ["PUT /bkt/docs/v?tagging&versionId=v1"]);
}

#[test]
fn where_the_manifest_names_the_buckets_the_probe_must() {
    let csv = format!("[manifest.csv]\npath = \"list.csv\"\nfields = [\"Bucket\", \"Key\"]\n{TAGS}");
    let scene = Scene::with("oss", &csv, TABLE, &[]);
    scene.write("list.csv", "bkt,docs/a.txt\n");
    let unnamed = scene.check(&["--write-probe", "docs/a.txt"]);
    assert!(unnamed.code == 2 && unnamed.stderr.contains("--bucket NAME"), "{}", unnamed.stderr);
    let ran = scene.check(&["--write-probe", "docs/a.txt", "--bucket", "bkt"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(scene.gate.writes(), ["PUT /bkt/docs/a.txt?tagging"]);
}

#[test]
fn what_somebody_else_changes_meanwhile_is_noticed() {
    let meanwhile = |method, target, act| Rule { method, target, act: Act::Meanwhile(act) };
    let rules = [
        meanwhile("PUT", "?tagging", |endpoint| drop(ask(endpoint, "docs/a.txt", &[ObjectRequest::DeleteTags]))),
        meanwhile("PUT", "?acl", |endpoint| {
            drop(ask(endpoint, "docs/a.txt", &[ObjectRequest::PutAcl(ObjectAcl::Private)]));
        }),
    ];
    let put = "[operation.put_object_tagging]\ntags = { a = \"1\" }\n";
    let scene = Scene::new("oss", &plan(&format!("{put}{ACL}")), &rules);
    scene.says("probe-changed", &scene.check(&["--write-probe", "docs/a.txt"]));
}
