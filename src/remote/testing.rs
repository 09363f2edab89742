//! Access to a bucket of the sandbox, for tests.

use std::sync::Arc;

use super::door::Door;
use crate::object::{Bucket, Key};
use crate::store::{Addressing, Connection, Provider, StoreConfig, connect};

/// A bucket of the sandbox, removed when the test ends.
pub(super) struct Place {
    pub(super) door: Door,
    pub(super) folder: tempfile::TempDir,
    _connection: Connection,
}

pub(super) async fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let fill = folder.path().join("fill.csv");
    std::fs::write(&fill, "bucket,key\nstates,readme\n").expect("written");
    let config = StoreConfig {
        provider: Provider::Sandbox,
        endpoint: None,
        region: None,
        addressing: Addressing::Path,
        role_arn: None,
        data: Some(folder.path().join("data")),
        fill: Some(fill),
    };
    let connection = connect(&config).await.unwrap_or_else(|error| panic!("{error}"));
    let door = Door::new(Arc::clone(connection.cabinet()), Bucket::new("states"), Key::from("team"));
    Place { door, folder, _connection: connection }
}
