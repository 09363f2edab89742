//! The objects of a test: their tags and ACLs, as the store itself has them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use batchplan_store::object::{ObjectAcl, TagSet};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use serde_json::Value as Json;

use crate::scene::{Dialect, Scene, client};

/// The tags and the ACL of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) acl: &'static str,
}

/// The states of objects by their keys.
pub(crate) type States = BTreeMap<String, State>;

pub(crate) const ACLS: [&str; 3] = ["private", "public-read", "public-read-write"];

impl State {
    pub(crate) fn drawn(random: &mut fastrand::Rng) -> Self {
        let mut tags = BTreeMap::new();
        for key in ["a", "b", "c"] {
            if random.bool() {
                tags.insert(key.to_owned(), ["1", "2"][random.usize(..2)].to_owned());
            }
        }
        Self { tags, acl: ACLS[random.usize(..ACLS.len())] }
    }
}

/// The table that a sandbox with these objects is filled from.
pub(crate) fn table(states: &States) -> String {
    let mut table = String::from("bucket,key,tags,acl\n");
    for (key, State { tags, acl }) in states {
        let tags: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = writeln!(table, "bkt,{key},{},{acl}", tags.join("&"));
    }
    table
}

pub(crate) fn scene(dialect: Dialect, states: &States) -> Scene {
    Scene::filled(dialect, &table(states), |_| {})
}

/// Reads the objects, past the gate.
pub(crate) fn read(scene: &Scene, keys: &States) -> States {
    keys.keys().map(|key| (key.clone(), state(scene, key))).collect()
}

pub(crate) fn state(scene: &Scene, key: &str) -> State {
    let ask = |call| scene.ask("bkt", key, &call).unwrap_or_else(|fault| panic!("{key}: {fault}"));
    let (ResponseData::Tags(tags), ResponseData::Acl(acl)) = (ask(ObjectRequest::GetTags), ask(ObjectRequest::GetAcl))
    else {
        panic!("neither tags nor an ACL")
    };
    let tags = tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    State { tags, acl: acl.as_str() }
}

/// Gives an object another state, past the gate.
pub(crate) fn write(scene: &Scene, key: &str, State { tags, acl }: &State) {
    let tags: TagSet = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let tags = if tags.is_empty() { ObjectRequest::DeleteTags } else { ObjectRequest::PutTags(tags) };
    scene.ask("bkt", key, &tags).expect("written");
    let acl = match *acl {
        "private" => ObjectAcl::Private,
        "public-read" => ObjectAcl::PublicRead,
        _ => ObjectAcl::PublicReadWrite,
    };
    scene.ask("bkt", key, &ObjectRequest::PutAcl(acl)).expect("written");
}

/// The keys of the rows that a job's report has as failed, with the rows.
pub(crate) fn failed(scene: &Scene, job: &str) -> BTreeMap<String, String> {
    let folder = scene.world.path(&format!(".batchplan/jobs/{job}/report"));
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: Json = serde_json::from_str(&manifest).expect("JSON");
    let mut rows = BTreeMap::new();
    for file in manifest["Results"].as_array().expect("files") {
        if file["TaskExecutionStatus"] != "failed" {
            continue;
        }
        let name = file["Key"].as_str().expect("a key").rsplit('/').next().expect("a name").to_owned();
        let path = [folder.join(&name), folder.join("results").join(&name)].into_iter().find(|path| path.exists());
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path.expect("a file")).expect("rows");
        for row in reader.records() {
            let row: Vec<_> = row.expect("a row").iter().map(str::to_owned).collect();
            rows.insert(row[1].replace("%2F", "/"), row.concat());
        }
    }
    rows
}

/// The ID in the result of a command about a job.
pub(crate) fn id(result: &Json) -> String {
    result["job_id"].as_str().expect("an ID").to_owned()
}

/// Has the bucket keep versions.
pub(crate) fn keep_versions(scene: &Scene) {
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    run(client(&scene.gate.behind()).put_bucket_versioning().bucket("bkt").versioning_configuration(enabled).send());
}

/// Writes an object, which then has no tags.
pub(crate) fn put(scene: &Scene, key: &str, content: &'static str) {
    let content = ByteStream::from_static(content.as_bytes());
    run(client(&scene.gate.behind()).put_object().bucket("bkt").key(key).body(content).send());
}

/// Deletes an object. In a bucket with versions, a delete marker takes its place.
pub(crate) fn delete(scene: &Scene, key: &str) {
    run(client(&scene.gate.behind()).delete_object().bucket("bkt").key(key).send());
}

fn run<T, E: std::fmt::Debug>(request: impl Future<Output = Result<T, E>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(request).expect("done");
}
