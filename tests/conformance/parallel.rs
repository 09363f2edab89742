//! A prefix that is large enough for several workers: they freeze what one does, row by row, of all versions, too.

use std::fmt::Write as _;
use std::sync::Arc;

use batchplan::manifest::{Filter, FreezeLimits, ListedVersions, Manifest, ManifestSource, OnUnlistable, freeze};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::task::TaskId;
use batchplan_store::{ObjectContent, Store};
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::server::Fixture;

/// Keys of a bucket; cuts are tried behind the eighth page of a thousand.
pub(crate) const KEYS: usize = 12_500;

/// Keys of several kinds; not in their order.
pub(crate) fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|n| match n % 5 {
        0 => format!("p/2024/{:02}/{:02}/{n:x}.json", n / 5 % 12 + 1, n % 28 + 1),
        1 => format!("p/2025/12/31/{:08x}", (n as u64).wrapping_mul(0x9e37_79b9) & 0xffff_ffff),
        2 => format!("p/größe/日本 {n}+%20"),
        3 => format!("p/zz/{n:06}~"),
        _ => format!("p/{n:05}/a&b"),
    })
}

/// A table for the sandbox, with so many versions of each key; without versions where that is 0.
pub(crate) fn table(versions: usize) -> String {
    let mut table = String::from("bucket,key,version_id\n");
    for key in keys() {
        let encoded = ObjectKey::from(key.as_str()).encoded();
        if versions == 0 {
            let _ = writeln!(table, "filled,{encoded},");
        }
        for version in 0..versions {
            let _ = writeln!(table, "versioned,{encoded},v{version}");
        }
    }
    table
}

/// Writes the keys into the fixture's buckets; one version of each.
pub(crate) async fn write(fixture: &Fixture) {
    for bucket in [&fixture.plain, &fixture.versioned] {
        let writes = keys().map(|key| async move {
            let content = ObjectContent::Bytes(bytes::Bytes::from_static(b"x"));
            fixture.store.write(bucket, &ObjectKey::from(key.as_str()), content, "ndTkYSaMgDT1yFZOFVxnpg==").await
        });
        let mut writing = stream::iter(writes).buffer_unordered(16);
        while let Some(written) = writing.next().await {
            written.expect("written");
        }
    }
}

async fn frozen(fixture: &Fixture, bucket: &BucketName, versions: ListedVersions, workers: u32) -> Vec<ObjectId> {
    let folder = tempfile::tempdir().expect("a folder");
    let source = ManifestSource::Prefix {
        bucket: bucket.clone(),
        prefix: ObjectKey::from("p/"),
        versions,
        on_unlistable: OnUnlistable::Fail,
    };
    let manifest = Manifest { source, filter: Filter::default() };
    let bounds = FreezeLimits { max_disk: None, max_objects: None, concurrency: Some(workers) };
    let stop = CancellationToken::new();
    let store: Arc<dyn Store> = fixture.store.clone();
    let frozen = freeze(&manifest, &store, folder.path(), bounds, &|_| {}, &stop).await.expect("frozen");
    assert!(frozen.warnings().is_empty(), "{:?}", frozen.warnings());
    // One part for each range: this many rows fill none. Whether sixteen workers come to cut depends on how fast the
    // server answers which of them.
    assert!(workers > 1 || frozen.parts().len() == 1, "{:?}", frozen.parts());
    frozen.tasks(TaskId { part: 0, row: 0 }, 10_000).flat_map(|rows| rows.expect("rows")).map(|it| it.object).collect()
}

/// Freezes a bucket's current versions, or all of them, by one worker and by sixteen; `each` is how often a key is
/// there.
pub(crate) async fn same(fixture: &Fixture, bucket: &BucketName, versions: ListedVersions, each: usize) {
    let one = frozen(fixture, bucket, versions, 1).await;
    let many = frozen(fixture, bucket, versions, 16).await;
    assert!(one == many, "{bucket}, {versions:?}: {} and {} rows", one.len(), many.len());
    let mut expected: Vec<_> =
        keys().flat_map(|key| std::iter::repeat_n(ObjectKey::from(key.as_str()), each)).collect();
    expected.sort();
    let wrong = many.iter().map(|object| &object.key).zip(&expected).position(|(got, key)| got != key);
    let at = wrong.map(|at| (at, &many[at], &expected[at]));
    assert!(
        at.is_none() && many.len() == expected.len(),
        "{bucket}, {versions:?}: {} of {}, {at:?}",
        many.len(),
        expected.len()
    );
}
