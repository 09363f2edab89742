//! How far a peek at the first objects reads, and what it finds.

use std::sync::Arc;

use batchplan_store::{ListPage, ListPosition};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::manifest::testing::MemoryStore;
use crate::manifest::{CsvField, FileLocation, Filter, KeyGlobs, ListedVersions, ManifestSource, OnUnlistable};

async fn glance(
    source: ManifestSource,
    filter: Filter,
    store: &Arc<MemoryStore>,
) -> Result<FirstObjects, ManifestError> {
    glance_at(source, filter, store, 1).await
}

async fn glance_at(
    source: ManifestSource,
    filter: Filter,
    store: &Arc<MemoryStore>,
    most: usize,
) -> Result<FirstObjects, ManifestError> {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(store);
    Manifest { source, filter }.peek(&store, most, &CancellationToken::new()).await
}

fn prefix() -> ManifestSource {
    ManifestSource::Prefix {
        on_unlistable: OnUnlistable::Fail,
        bucket: BucketName::new("b"),
        prefix: ObjectKey::from("p/"),
        versions: ListedVersions::Current,
    }
}

fn csv() -> ManifestSource {
    let place = FileLocation::Object { bucket: BucketName::new("b"), key: ObjectKey::from("list.csv"), etag: None };
    ManifestSource::Csv {
        location: place,
        fields: vec![CsvField::Bucket, CsvField::Key, CsvField::VersionId],
        plus_is_space: false,
    }
}

fn object(bucket: &str, key: &str, version: Option<&str>) -> ObjectId {
    ObjectId { bucket: BucketName::new(bucket), key: ObjectKey::from(key), version: version.map(VersionId::new) }
}

fn only(glob: &str) -> Filter {
    let globs = KeyGlobs::new([globset::Glob::new(glob).unwrap()]).unwrap();
    Filter { include: Some(globs), ..Filter::default() }
}

#[tokio::test]
async fn a_listing_is_read_to_its_first_object_that_is_taken() {
    let mut store = MemoryStore { page: 2, ..MemoryStore::default() };
    for n in 0..40 {
        store.put(&format!("p/{n:02}"), b"");
    }
    let store = Arc::new(store);
    let seen = glance(prefix(), Filter::default(), &store).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: vec![object("b", "p/00", None)], rows_read: 1, complete: false });
    assert!(store.requests.lock().unwrap().len() <= 3, "{:?}", store.requests);
    let seen = glance(prefix(), only("p/05"), &store).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: vec![object("b", "p/05", None)], rows_read: 6, complete: false });
    let seen = glance(prefix(), only("q*"), &store).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: Vec::new(), rows_read: 40, complete: true });
    let of = |numbers: &[u8]| numbers.iter().map(|n| object("b", &format!("p/{n:02}"), None)).collect::<Vec<_>>();
    let seen = glance_at(prefix(), only("p/?5"), &store, 2).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: of(&[5, 15]), rows_read: 16, complete: false });
    let seen = glance_at(prefix(), only("p/?5"), &store, 9).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: of(&[5, 15, 25, 35]), rows_read: 40, complete: true });
    let nothing = Arc::new(MemoryStore::default());
    let seen = glance(prefix(), Filter::default(), &nothing).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: Vec::new(), rows_read: 0, complete: true });
}

#[tokio::test]
async fn a_filter_that_takes_nothing_is_not_looked_for_without_end() {
    let mut store = MemoryStore { page: 1000, ..MemoryStore::default() };
    for n in 0..6000 {
        store.put(&format!("p/{n:04}"), b"");
    }
    let seen = glance(prefix(), only("q*"), &Arc::new(store)).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: Vec::new(), rows_read: 5000, complete: false });
}

#[tokio::test]
async fn pages_without_an_object_are_not_read_without_end() {
    let page = |n: u32| ListPage { next: Some(ListPosition::Token(format!("{n}"))), ..ListPage::default() };
    let store = MemoryStore { pages: std::sync::Mutex::new((0..1000).map(page).collect()), ..MemoryStore::default() };
    let store = Arc::new(store);
    let seen = glance(prefix(), Filter::default(), &store).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: Vec::new(), rows_read: 0, complete: false });
    assert!(store.requests.lock().unwrap().len() <= 110, "{:?}", store.requests);
}

#[cfg(unix)]
#[tokio::test]
async fn rejects_a_pipe_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("list.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let source = ManifestSource::Csv {
        location: FileLocation::Local(pipe),
        fields: vec![CsvField::Bucket, CsvField::Key],
        plus_is_space: false,
    };
    let error = glance(source, Filter::default(), &Arc::default()).await.unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn peek_stops_at_the_first_row_and_reports_errors_before_it() {
    let rows = "other,a%20b,v1\nother,c,\n";
    let store = Arc::new(MemoryStore::with(&[("list.csv", rows.as_bytes())]));
    let seen = glance(csv(), Filter::default(), &store).await.unwrap();
    assert_eq!(seen, FirstObjects { objects: vec![object("other", "a b", Some("v1"))], rows_read: 1, complete: false });
    let bad = Arc::new(MemoryStore::with(&[("list.csv", b"other,%zz,\nother,c,\n")]));
    let Err(ManifestError::BadRows { total, .. }) = glance(csv(), Filter::default(), &bad).await else {
        panic!("the first row names nothing")
    };
    assert_eq!(total, 1);
    let gone = glance(csv(), Filter::default(), &Arc::new(MemoryStore::default())).await.unwrap_err();
    let (fault, listing) = gone.refused_request().expect("the store said so");
    assert_eq!((fault.status, listing), (Some(404), false));
}
