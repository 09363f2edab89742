//! States in a bucket: heads, locks and pieces, as another machine left them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batchplan::remote::{LeaseConfig, RemoteStateConfig, overview, pull_to_folder, update_cache};
use batchplan_sandbox::{Sandbox, SandboxOptions};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{AddressingStyle, StoreConfig, StoreProvider};

use super::{choice, files, repository, scratch};

/// The folder of the bucket that keeps a state.
const KEPT: &str = "tests/checkpoints/kept/0.1.0/remote-interrupted/bucket";

/// Each object of the state, behind its number.
pub(super) fn objects() -> Vec<Vec<u8>> {
    let names = names();
    (0..u8::MAX).zip(&names).map(|(number, path)| [vec![number], fs::read(path).expect("a file")].concat()).collect()
}

fn names() -> Vec<std::path::PathBuf> {
    assert!(!files(KEPT, "state.log").is_empty());
    let folder = repository(KEPT).join("bodies");
    let mut names: Vec<_> =
        fs::read_dir(folder).expect("bodies").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    names
}

fn opening(folder: &Path) -> RemoteStateConfig {
    RemoteStateConfig {
        location: "s3://states/team".to_owned(),
        store: StoreConfig {
            provider: StoreProvider::Sandbox,
            endpoint: None,
            region: None,
            addressing: AddressingStyle::Path,
            role_arn: None,
            data: Some(folder.join("bucket")),
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
        },
        bucket: BucketName::new("states"),
        prefix: ObjectKey::from("team"),
        use_lock: true,
        folder: folder.join("mirror"),
        process_name: "fuzz".to_owned(),
        lease_config: LeaseConfig { lease: Duration::from_millis(10), push_interval: Duration::from_secs(1) },
        lock_timeout: Duration::ZERO,
        notify: Arc::new(|_: &str| {}),
        exit: Arc::new(|_: &str| {}),
    }
}

/// A state one of whose objects has other bytes, looked at and copied.
pub(super) fn remote_state(input: &[u8]) {
    let names = names();
    let (number, content) = choice(input, names.len());
    let folder = scratch();
    let bucket = folder.path().join("bucket");
    fs::create_dir_all(bucket.join("bodies")).expect("a folder");
    fs::copy(repository(KEPT).join("state.log"), bucket.join("state.log")).expect("copied");
    for path in &names {
        fs::copy(path, bucket.join("bodies").join(path.file_name().expect("a name"))).expect("copied");
    }
    // The length that the bucket has on record is kept, since servers keep it.
    let target = bucket.join("bodies").join(names[number].file_name().expect("a name"));
    let length = usize::try_from(fs::metadata(&target).expect("a file").len()).expect("it fits");
    let mut content = content.to_vec();
    content.resize(length, b' ');
    fs::write(target, content).expect("written");
    if Sandbox::open(&bucket, None, SandboxOptions::default()).is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let opening = opening(folder.path());
    let _ = runtime.block_on(overview(&opening));
    let _ = runtime.block_on(update_cache(&opening, |_| true));
    let _ = runtime.block_on(pull_to_folder(&opening, true));
}
