//! Access to a bucket of the sandbox, for tests.

use std::sync::Arc;

use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{AddressingStyle, StoreConfig, StoreProvider};

use super::prefix_store::PrefixStore;
use crate::connect::{StoreConnection, connect};

/// A bucket of the sandbox, removed when the test ends.
pub(super) struct SandboxStates {
    pub(super) store: PrefixStore,
    pub(super) folder: tempfile::TempDir,
    _connection: StoreConnection,
}

pub(super) async fn place() -> SandboxStates {
    let folder = tempfile::tempdir().expect("a folder");
    let fill = folder.path().join("fill.csv");
    std::fs::write(&fill, "bucket,key\nstates,readme\n").expect("written");
    let config = StoreConfig {
        provider: StoreProvider::Sandbox,
        endpoint: None,
        region: None,
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: Some(folder.path().join("data")),
        fill: Some(fill),
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    let connection = connect(&config).await.unwrap_or_else(|error| panic!("{error}"));
    let store = PrefixStore::new(Arc::clone(connection.store()), BucketName::new("states"), ObjectKey::from("team"));
    SandboxStates { store, folder, _connection: connection }
}
