mod formats;
mod oss;

use std::sync::Arc;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, StorageClass};
use batchplan_store::task::FaultClass;
use batchplan_store::{ListPage, ListPosition, Store};
use tokio_util::sync::CancellationToken;

use crate::manifest::sources::FirstObjects;
use crate::manifest::spec::{InventoryDialect, InventorySelector};
use crate::manifest::testing::{
    MemoryStore, add_inventory as add, data_key, etag, fault, gzip, keys, objects, refusal,
};
use crate::manifest::{Filter, FrozenManifest, KeyGlobs, Manifest, ManifestError, ManifestSource, SourcePin};

const FOLDER: &str = "inv/b/daily/2026-01-31T00-00Z/";

/// Creates a store with one inventory of these data files.
fn store(destination: &str, schema: &str, files: &[&[u8]]) -> MemoryStore {
    let mut store = MemoryStore::default();
    add(&mut store, FOLDER, destination, schema, files);
    store
}

fn manifest_key() -> String {
    format!("{FOLDER}manifest.json")
}

fn exact() -> ManifestSource {
    source(InventorySelector::Exact { key: ObjectKey::from(manifest_key().as_str()), etag: None })
}

fn latest() -> ManifestSource {
    source(InventorySelector::Latest { prefix: ObjectKey::from("inv/b/daily") })
}

fn source(object: InventorySelector) -> ManifestSource {
    ManifestSource::Inventory { bucket: BucketName::new("dest"), selector: object, dialect: InventoryDialect::Oss }
}

fn read(store: MemoryStore) -> (FrozenManifest, Vec<ObjectId>) {
    objects(store, exact(), Filter::default()).unwrap()
}

fn refused(store: MemoryStore) -> String {
    refusal(store, exact(), Filter::default()).to_string()
}

/// Replaces text in the stored `manifest.json`.
fn edit(store: &mut MemoryStore, from: &str, to: &str) {
    let json = String::from_utf8(store.objects[manifest_key().as_bytes()].clone()).unwrap();
    assert!(json.contains(from));
    store.put(&manifest_key(), json.replace(from, to).as_bytes());
}

const AWS: &str = "arn:aws:s3:::dest";

const OSS: &str = "acs:oss:::dest";

#[test]
fn columns_are_found_by_name_and_files_are_read_in_order() {
    let first = b"\"5\",\"a%2Fb+c\",\"b1\",\"x\"\n\"\",\"k2\",\"b2\",\"\"\n";
    let (frozen, found) = read(store(AWS, "Size, Key, bucket, Unknown", &[first, b"7,k3,b1,y\r\n", b""]));
    assert_eq!(keys(&found), ["a/b c", "k2", "k3"]);
    assert_eq!(found.iter().map(|object| object.bucket.as_str()).collect::<Vec<_>>(), ["b1", "b2", "b1"]);
    assert!(found.iter().all(|object| object.version.is_none()));
    assert_eq!(frozen.warnings(), []);
    let SourcePin::Inventory { key, created, etag, .. } = frozen.pin() else { panic!("{:?}", frozen.pin()) };
    assert_eq!(*key, ObjectKey::from(manifest_key().as_str()));
    assert!(created.is_some() && etag.len() == 32);
}

#[test]
fn versions_delete_markers_and_plus_are_read_as_documented() {
    let rows = b"a+b,v1,True,False\na,,false,FALSE\ngone,v3,true,True\n+,v4,,\n";
    let schema = "Key, VersionId, IsLatest, IsDeleteMarker";
    let (frozen, found) = read(store(OSS, schema, &[rows]));
    assert_eq!(keys(&found), ["a+b", "a", "+"]);
    let versions: Vec<_> = found.iter().map(|object| object.version.as_ref().unwrap().as_str()).collect();
    assert_eq!(versions, ["v1", "null", "v4"]);
    assert!(found.iter().all(|object| object.bucket.as_str() == "src"));
    assert_eq!((frozen.rows(), frozen.rows_read()), (3, 4));
    assert_eq!(frozen.warnings().len(), 1);
    let message = &frozen.warnings()[0].message;
    assert!(message.contains("a raw `+` in 2 keys is read as a plus (first in row 1 of dest/inv/"), "{message}");

    let (frozen, found) = read(store(AWS, schema, &[rows]));
    assert_eq!(keys(&found), ["a b", "a", " "]);
    assert_eq!(frozen.warnings(), []);
}

#[test]
fn the_plans_provider_decides_where_the_document_does_not() {
    assert_eq!(keys(&read(store("dest", "Key", &[b"a+b\n"])).1), ["a+b"]);
}

#[test]
fn older_versions_without_an_id_are_not_taken_for_the_current_one() {
    let (frozen, found) = read(store(AWS, "Key,IsLatest", &[b"k,true\nk,false\n"]));
    assert_eq!((found.len(), frozen.rows_read()), (1, 2));
}

#[test]
fn skips_a_header_and_reports_bad_rows() {
    assert_eq!(keys(&read(store(AWS, "Key,Size", &[b"Key,Size\nk,1\n"])).1), ["k"]);
    let error = refused(store(AWS, "Key,IsDeleteMarker", &[b"k,maybe\n", b"never read,x\n"]));
    assert!(error.contains("0.csv.gz has 1 bad row\n  row 1: `maybe` is neither true nor false"), "{error}");
    let error = refused(store(AWS, "Key,Size", &[b"k\n%zz,1\n,1\n"]));
    assert!(error.contains("3 bad rows\n  row 1: expected 2 fields (`fileSchema`), found 1"), "{error}");
}

#[test]
fn inventory_without_rows_is_a_job_with_nothing_to_do() {
    for files in [&[][..], &[&b""[..]]] {
        let (frozen, found) = read(store(AWS, "Key", files));
        assert_eq!((found.len(), frozen.rows_read()), (0, 0));
        let [warning] = frozen.warnings() else { panic!("{:?}", frozen.warnings()) };
        assert!(warning.message.contains("manifest.json contains no objects"), "{warning}");
    }
    assert_eq!(read(store(AWS, "Key,IsDeleteMarker", &[b"k,true\n"])).0.rows(), 0);
}

#[test]
fn filters_use_the_columns_there_are() {
    let schema = "Key,Size,LastModifiedDate,StorageClass";
    let rows = b"a,10,2026-01-01T00:00:00.000Z,GLACIER\nb,30,2026-01-02T00:00:00Z,STANDARD\nc,30,2020-01-01T00:00:00Z,GLACIER\n";
    let filter = Filter {
        larger_than: Some(20),
        modified_before: Some("2021-01-01T00:00:00Z".parse().unwrap()),
        storage_class: Some(vec![StorageClass::new("glacier")]),
        exclude: KeyGlobs::new([]).ok(),
        ..Filter::default()
    };
    let (_, found) = objects(store(AWS, schema, &[rows]), exact(), filter.clone()).unwrap();
    assert_eq!(keys(&found), ["c"]);

    let error = refusal(store(AWS, "Key,Size", &[rows]), exact(), filter.clone());
    assert!(
        error.to_string().contains("`modified_before` or `older_than` needs the object's last-modified date"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("add LastModifiedDate"));

    let error = refusal(store(AWS, schema, &[b"a,,x,\nb,-1,,\n"]), exact(), filter).to_string();
    assert!(error.contains("row 1: `x` is not a date"), "{error}");
    assert!(error.contains("row 2: `-1` is not a size"), "{error}");
}

#[test]
fn rejects_changed_or_missing_data_files() {
    let good = || store(AWS, "Key", &[b"k1\n", b"k2\n"]);
    let file = data_key(FOLDER, 1);
    let content = good().objects[file.as_bytes()].clone();

    let mut other = good();
    let mut torn = content.clone();
    torn[12] ^= 1;
    other.put(&file, &torn);
    let error = refused(other);
    assert!(error.contains("1.csv.gz: its MD5 is ") && error.contains("but manifest.json says "), "{error}");

    let mut short = good();
    short.put(&file, &content[..content.len() - 3]);
    assert!(refused(short).contains(&format!(
        "it has {} bytes, but manifest.json says {}",
        content.len() - 3,
        content.len()
    )));

    let mut missing = good();
    missing.objects.remove(file.as_bytes());
    let error = refused(missing);
    assert!(error.starts_with("dest/inv/b/daily/data/") && error.ends_with("but it does not exist"), "{error}");
}

#[test]
fn reports_truncated_gzip_with_a_matching_md5() {
    let mut store = store(AWS, "Key", &[b"k1\nk2\nk3\n"]);
    let file = data_key(FOLDER, 0);
    let content = store.objects[file.as_bytes()].clone();
    let garbage = [&content[..], b"garbage"].concat();
    let mut known = content.clone();
    for damaged in [&content[..content.len() - 9], &garbage] {
        let (from, to) = (etag(&known).to_ascii_uppercase(), etag(damaged));
        edit(&mut store, &from, &to.to_ascii_uppercase());
        edit(&mut store, &format!("\"size\":{}", known.len()), &format!("\"size\":{}", damaged.len()));
        store.put(&file, damaged);
        known = damaged.to_vec();
        let again = MemoryStore { objects: store.objects.clone(), ..MemoryStore::default() };
        assert!(refused(again).contains("its gzip data is damaged or truncated"));
    }
}

#[test]
fn rejects_unusable_manifests() {
    assert!(refused(store("arn:aws:s3:::other", "Key", &[])).contains("in the bucket other, not in dest"));
    assert!(refused(store(AWS, "Bucket,Size", &[])).contains("has no Key column"));
    assert!(refused(store(AWS, "Key,key", &[])).contains("has Key twice"));
    let mut huge = MemoryStore::default();
    huge.put(&manifest_key(), &vec![b' '; 100 << 20]);
    assert!(refused(huge).contains("it is larger than 67108864 bytes"));
    assert!(refused(MemoryStore::default()).contains("404 NoSuchKey"));
}

#[test]
fn the_newest_complete_inventory_is_taken() {
    let mut store = store(AWS, "Key", &[b"right\n"]);
    add(&mut store, "inv/b/daily/2025-12-31T00-00Z/", AWS, "Key", &[b"old\n"]);
    store.put("inv/b/daily/2026-02-01T00-00Z/manifest.json", b"{}");
    store.put("inv/b/daily/2026-02-02T00-00Z/manifest.checksum", b"00");
    store.put("inv/b/daily/2026-02-03T00-00Z/manifest.json", b"{}");
    store.put("inv/b/daily/2026-02-03T00-00Z/manifest.checksum", b"00");
    store.put("inv/b/daily/zzz/manifest.json", b"{}");
    let (frozen, found) = objects(store, latest(), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["right"]);
    assert!(
        matches!(frozen.pin(), SourcePin::Inventory { key, .. } if *key == ObjectKey::from(manifest_key().as_str()))
    );
    let said: Vec<&str> = frozen.warnings().iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(said.len(), 3);
    assert!(said[0].contains("2026-02-03T00-00Z/: its manifest.checksum does not match"), "{said:?}");
    assert!(said[1].contains("it has no manifest.json") && said[2].contains("it has no manifest.checksum"), "{said:?}");
}

#[test]
fn rejects_folder_listings_that_loop() {
    let round = |prefixes: &[&str], token: fn(usize) -> String| {
        let pages = prefixes.iter().enumerate().map(|(n, prefix)| ListPage {
            common_prefixes: vec![ObjectKey::from(*prefix)],
            next: Some(ListPosition::Token(token(n))),
            ..ListPage::default()
        });
        let store = MemoryStore::default();
        store.pages.lock().unwrap().extend(pages);
        let error = refusal(store, latest(), Filter::default());
        let help = error.help().unwrap();
        assert!(help.contains("set `object`") && !help.contains("or [manifest.inventory]"), "{help}");
        error.to_string()
    };
    let by_turns = |n: usize| (n % 2).to_string();
    let back = round(&["inv/b/daily/a/", "inv/b/daily/b/", "inv/b/daily/a/"], by_turns);
    assert!(back.contains("it went backwards: inv/b/daily/a/ after inv/b/daily/b/"), "{back}");
    let circle = round(&["inv/b/daily/a/"; 4], by_turns);
    assert!(circle.contains("its pages form a loop"), "{circle}");
    let stays = round(&["inv/b/daily/a/"; 4], |_| "t".to_owned());
    assert!(stays.contains("the next page starts where this one started"), "{stays}");
    let idle = round(&vec!["inv/b/daily/a/"; 1100], |n| n.to_string());
    assert!(idle.contains("1000 pages in a row had no new names"), "{idle}");
}

#[test]
fn without_a_complete_inventory_the_error_says_what_was_looked_for() {
    let none = refusal(MemoryStore::with(&[("inv/b/daily/data/x", b"")]), latest(), Filter::default()).to_string();
    assert!(none.contains("no folder named like 2026-01-31T00-00Z/"), "{none}");
    let unfinished = MemoryStore::with(&[("inv/b/daily/2026-02-01T00-00Z/manifest.json", b"{}")]);
    let error = refusal(unfinished, latest(), Filter::default()).to_string();
    assert!(error.contains("no complete inventory below it (1 tried); the newest: it has no manifest.checksum"));
    let denied = store(AWS, "Key", &[b"k\n"]);
    denied.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 403, "AccessDenied"));
    assert!(refusal(denied, latest(), Filter::default()).to_string().contains("403 AccessDenied"));
}

#[tokio::test]
async fn peek_reads_the_first_row_and_skips_the_digest() {
    let glance = async |store: MemoryStore| {
        let (store, manifest) = (Arc::new(store), Manifest { source: exact(), filter: Filter::default() });
        let reading: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        (manifest.peek(&reading, 1, &CancellationToken::new()).await, store)
    };
    let mut damaged = store(AWS, "Bucket, Key", &[b"b,k1\nb,k2\n", b"b,k3\n"]);
    let md5 = etag(&gzip(b"b,k1\nb,k2\n")).to_ascii_uppercase();
    edit(&mut damaged, &md5, "0123456789ABCDEF0123456789ABCDEF");
    let (seen, asked) = glance(damaged).await;
    let first = ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from("k1"), version: None };
    assert_eq!(seen.unwrap(), FirstObjects { objects: vec![first], rows_read: 1, complete: false });
    assert_eq!(asked.requests.lock().unwrap().len(), 2, "manifest.json and one data file: {:?}", asked.requests);
    let (bad, _) = glance(store(AWS, "Bucket, Key", &[b"b,%zz\nb,k2\n"])).await;
    assert!(matches!(bad, Err(ManifestError::BadRows { total: 1, .. })), "{bad:?}");
}
