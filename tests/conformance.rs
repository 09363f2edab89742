//! One battery for every store. Each check has the answer that AWS gives; where a server answers otherwise, the table
//! of deviations says so, with the reason, and holds the server to that answer instead.
//!
//! The sandbox is always run. Other servers are run when the environment names them: for `MOTO`,
//! `BATCHPLAN_TEST_MOTO_ENDPOINT`, `_ACCESS_KEY`, `_SECRET_KEY` and `_REGION` (`tests/servers/run.py` sets them).
//! Those that `BATCHPLAN_TEST_SERVERS` lists must be up.

#[path = "conformance/checks.rs"]
mod checks;
#[path = "conformance/deviations.rs"]
mod deviations;
#[path = "conformance/parallel.rs"]
mod parallel;
#[path = "support/sdk_http.rs"]
mod sdk_http;
#[path = "conformance/server.rs"]
mod server;

use batchplan::manifest::ListedVersions;
use batchplan_store::object::BucketName;
use checks::Check;
use server::Fixture;

/// Runs the battery against one server and compares it, check by check.
async fn hold_to_account(name: &str, fixture: &Fixture) {
    let checks = checks::battery(fixture).await;
    assert!(checks.len() > 50, "the battery has shrunk to {} checks", checks.len());
    let mut wrong = Vec::new();
    for Check { name: check, aws, got } in &checks {
        let deviation = deviations::of(name, check);
        let expected = deviation.map_or(aws.as_str(), |deviation| deviation.answer);
        if got != expected {
            let reason = deviation.map_or("", |deviation| deviation.reason);
            wrong.push(format!("{check}: expected {expected:?}, got {got:?} {reason}"));
        }
    }
    for unknown in deviations::unknown(name, &checks) {
        wrong.push(format!("the deviation {unknown:?} belongs to no check"));
    }
    assert!(wrong.is_empty(), "{name} is not as expected:\n  {}", wrong.join("\n  "));
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output wants to know what it did not do")]
async fn run(name: &str) {
    let required = std::env::var("BATCHPLAN_TEST_SERVERS").unwrap_or_default();
    match server::named(name).await {
        Some(fixture) => hold_to_account(name, &fixture).await,
        None if required.split(' ').any(|server| server == name) => panic!("{name} is required and not up"),
        None => eprintln!("{name} is not up: its endpoint is not in the environment"),
    }
}

#[tokio::test]
async fn sandbox() {
    let (fixture, _server) = server::sandbox().await;
    hold_to_account("SANDBOX", &fixture).await;
}

#[tokio::test]
async fn sandbox_in_oss() {
    let (fixture, _server) = server::sandbox_in_oss().await;
    hold_to_account("OSS", &fixture).await;
}

#[tokio::test]
async fn ministack() {
    run("MINISTACK").await;
}

#[tokio::test]
async fn moto() {
    run("MOTO").await;
}

#[tokio::test]
async fn radosgw() {
    run("RADOSGW").await;
}

#[tokio::test]
async fn seaweedfs() {
    run("SEAWEEDFS").await;
}

#[tokio::test]
async fn sandbox_is_listed_in_parallel() {
    let (fixture, _server) = server::sandbox_of(&parallel::table(0)).await;
    parallel::same(&fixture, &BucketName::new("filled"), ListedVersions::Current, 1).await;
    let (fixture, _server) = server::sandbox_of(&parallel::table(2)).await;
    parallel::same(&fixture, &BucketName::new("versioned"), ListedVersions::Current, 1).await;
    parallel::same(&fixture, &BucketName::new("versioned"), ListedVersions::All, 2).await;
}

#[tokio::test]
async fn radosgw_is_listed_in_parallel() {
    let Some(fixture) = server::named("RADOSGW").await else { return };
    parallel::write(&fixture).await;
    parallel::same(&fixture, &fixture.plain, ListedVersions::Current, 1).await;
    parallel::same(&fixture, &fixture.versioned, ListedVersions::Current, 1).await;
    parallel::same(&fixture, &fixture.versioned, ListedVersions::All, 1).await;
}
