//! How far a peek at the first objects reads, and what it finds.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::manifest::testing::MemoryStore;
use crate::manifest::{CsvField, CsvPlace, Filter, KeyGlobs, Versions};
use crate::store::{ListMark, ListPage};

async fn glance(source: Source, filter: Filter, store: &Arc<MemoryStore>) -> Result<Glanced, ManifestError> {
    glance_at(source, filter, store, 1).await
}

async fn glance_at(
    source: Source,
    filter: Filter,
    store: &Arc<MemoryStore>,
    most: usize,
) -> Result<Glanced, ManifestError> {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(store);
    Manifest { source, filter }.glance(&store, most, &CancellationToken::new()).await
}

fn prefix() -> Source {
    Source::Prefix { bucket: Bucket::new("b"), prefix: Key::from("p/"), versions: Versions::Current }
}

fn csv() -> Source {
    let place = CsvPlace::Object { bucket: Bucket::new("b"), key: Key::from("list.csv"), etag: None };
    Source::Csv { place, fields: vec![CsvField::Bucket, CsvField::Key, CsvField::VersionId], plus_is_space: false }
}

fn object(bucket: &str, key: &str, version: Option<&str>) -> ObjectId {
    ObjectId { bucket: Bucket::new(bucket), key: Key::from(key), version: version.map(VersionId::new) }
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
    assert_eq!(seen, Glanced { objects: vec![object("b", "p/00", None)], read: 1, whole: false });
    assert!(store.requests.lock().unwrap().len() <= 3, "{:?}", store.requests);
    let seen = glance(prefix(), only("p/05"), &store).await.unwrap();
    assert_eq!(seen, Glanced { objects: vec![object("b", "p/05", None)], read: 6, whole: false });
    let seen = glance(prefix(), only("q*"), &store).await.unwrap();
    assert_eq!(seen, Glanced { objects: Vec::new(), read: 40, whole: true });
    let of = |numbers: &[u8]| numbers.iter().map(|n| object("b", &format!("p/{n:02}"), None)).collect::<Vec<_>>();
    let seen = glance_at(prefix(), only("p/?5"), &store, 2).await.unwrap();
    assert_eq!(seen, Glanced { objects: of(&[5, 15]), read: 16, whole: false });
    let seen = glance_at(prefix(), only("p/?5"), &store, 9).await.unwrap();
    assert_eq!(seen, Glanced { objects: of(&[5, 15, 25, 35]), read: 40, whole: true });
    let nothing = Arc::new(MemoryStore::default());
    assert!(matches!(glance(prefix(), Filter::default(), &nothing).await, Err(ManifestError::Empty { .. })));
}

#[tokio::test]
async fn a_filter_that_takes_nothing_is_not_looked_for_without_end() {
    let mut store = MemoryStore { page: 1000, ..MemoryStore::default() };
    for n in 0..6000 {
        store.put(&format!("p/{n:04}"), b"");
    }
    let seen = glance(prefix(), only("q*"), &Arc::new(store)).await.unwrap();
    assert_eq!(seen, Glanced { objects: Vec::new(), read: 5000, whole: false });
}

#[tokio::test]
async fn pages_without_an_object_are_not_read_without_end() {
    let page = |n: u32| ListPage { next: Some(ListMark::Token(format!("{n}"))), ..ListPage::default() };
    let store = MemoryStore { pages: std::sync::Mutex::new((0..1000).map(page).collect()), ..MemoryStore::default() };
    let store = Arc::new(store);
    let seen = glance(prefix(), Filter::default(), &store).await.unwrap();
    assert_eq!(seen, Glanced { objects: Vec::new(), read: 0, whole: false });
    assert!(store.requests.lock().unwrap().len() <= 110, "{:?}", store.requests);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_is_waited_for_at_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("list.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let source = Source::Csv {
        place: CsvPlace::Local(pipe),
        fields: vec![CsvField::Bucket, CsvField::Key],
        plus_is_space: false,
    };
    let error = glance(source, Filter::default(), &Arc::default()).await.unwrap_err();
    assert!(error.to_string().contains("it is no regular file"), "{error}");
}

#[tokio::test]
async fn a_file_is_read_to_its_first_row_and_what_is_wrong_before_it_is_told() {
    let rows = "other,a%20b,v1\nother,c,\n";
    let store = Arc::new(MemoryStore::with(&[("list.csv", rows.as_bytes())]));
    let seen = glance(csv(), Filter::default(), &store).await.unwrap();
    assert_eq!(seen, Glanced { objects: vec![object("other", "a b", Some("v1"))], read: 1, whole: false });
    let bad = Arc::new(MemoryStore::with(&[("list.csv", b"other,%zz,\nother,c,\n")]));
    let Err(ManifestError::BadRows { total, .. }) = glance(csv(), Filter::default(), &bad).await else {
        panic!("the first row names nothing")
    };
    assert_eq!(total, 1);
    let gone = glance(csv(), Filter::default(), &Arc::new(MemoryStore::default())).await.unwrap_err();
    let (fault, listing) = gone.refusal().expect("the store said so");
    assert_eq!((fault.status, listing), (Some(404), false));
}
