//! An in-memory store, and short ways to freeze from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, StorageClass, VersionId};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, StoreError, TaskId};
use batchplan_store::{
    BucketSetting, BucketSettingValue, ListPage, ListPosition, ListRequest, ListedObject, ObjectContent, OpenedObject,
    Store, UnsupportedBucket,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use md5::{Digest, Md5};
use tokio_util::sync::CancellationToken;

use super::error::ManifestError;
use super::filter::Filter;
use super::freeze::FreezeCheckpointPolicy;
use super::freeze::FreezeConfig;
use super::freeze::freeze_with_config;
use super::frozen::FrozenManifest;
use super::part::PartLimits;
use super::prefix::ListingConcurrency;
use super::sort::SortBudget;
use super::spec::{CsvField, FileLocation, Manifest, ManifestSource};

/// A single bucket, which answers for every bucket name.
#[derive(Default)]
pub(super) struct MemoryStore {
    /// The content by key.
    pub(super) objects: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The version ids listed for each key; empty means `null`.
    pub(super) versions: Vec<String>,
    /// The maximum number of entries per page; 0 means no limit.
    pub(super) page: usize,
    /// The faults that the next requests return.
    pub(super) faults: Mutex<VecDeque<StoreError>>,
    /// The pages that the next listings return.
    pub(super) pages: Mutex<VecDeque<ListPage>>,
    /// Compares If-Match case-sensitively.
    pub(super) strict_etag: bool,
    /// Ignores If-Match.
    pub(super) ignores_if_match: bool,
    /// Sends this many bytes fewer than announced.
    pub(super) missing_bytes: usize,
    /// The requests received so far.
    pub(super) requests: Mutex<Vec<String>>,
    /// Never responds to a read.
    pub(super) mute: bool,
    /// Refuses all listings after this number; 0 means never.
    pub(super) refuses_from: usize,
    /// How many listings below `busy/` fail, and how.
    pub(super) busy: Mutex<Option<(u32, StoreError)>>,
    /// How a listing of current versions handles a requested start.
    pub(super) start_after: StartAfterSupport,
    /// Called each time a row is added.
    pub(super) on_row: Option<Box<dyn Fn() + Send + Sync>>,
}

/// Whether a store supports `start-after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StartAfterSupport {
    /// It starts where requested.
    #[default]
    Supported,
    /// It ignores the requested start.
    Ignored,
    /// It rejects the request.
    Rejected,
}

impl MemoryStore {
    pub(super) fn with(objects: &[(&str, &[u8])]) -> Self {
        let objects = objects.iter().map(|(key, content)| (key.as_bytes().to_vec(), content.to_vec())).collect();
        Self { objects, ..Self::default() }
    }

    pub(super) fn put(&mut self, key: &str, content: &[u8]) {
        self.objects.insert(key.as_bytes().to_vec(), content.to_vec());
    }

    fn next_fault(&self) -> Option<StoreError> {
        self.faults.lock().unwrap().pop_front()
    }

    fn rolled_up(request: &ListRequest, key: &[u8]) -> Option<ObjectKey> {
        let rest = key.strip_prefix(request.prefix.as_bytes())?;
        let slash = rest.iter().position(|byte| *byte == b'/').filter(|_| request.group_by_directory)?;
        Some(ObjectKey::new(&key[..=key.len() - rest.len() + slash]))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn send_request(&self, _: &ObjectId, _: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let seen = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(format!("list {:?}", request.from));
            requests.len()
        };
        if self.refuses_from > 0 && seen > self.refuses_from {
            return Err(fault(FaultClass::Rejected, 403, "AccessDenied"));
        }
        if let Some(fault) = self.next_fault() {
            return Err(fault);
        }
        if let Some((left, fault)) = &mut *self.busy.lock().unwrap()
            && *left > 0
            && request.prefix.as_bytes() == b"busy/"
        {
            *left -= 1;
            return Err(fault.clone());
        }
        let begins = matches!(&request.from, Some(ListPosition::After { .. })) && !request.all_versions;
        if begins && self.start_after == StartAfterSupport::Rejected {
            return Err(fault(FaultClass::Rejected, 501, "NotImplemented"));
        }
        if let Some(page) = self.pages.lock().unwrap().pop_front() {
            return Ok(page);
        }
        let from = match &request.from {
            Some(ListPosition::Token(token)) => token.clone().into_bytes(),
            Some(ListPosition::After { .. }) if begins && self.start_after == StartAfterSupport::Ignored => Vec::new(),
            Some(ListPosition::After { key, .. }) => key.as_bytes().to_vec(),
            None => Vec::new(),
        };
        let mut page = ListPage::default();
        let mut folders = BTreeSet::new();
        for (key, content) in self.objects.range(from.clone()..) {
            if *key == from || !key.starts_with(request.prefix.as_bytes()) {
                continue;
            }
            if let Some(folder) = Self::rolled_up(request, key) {
                folders.insert(folder);
                continue;
            }
            if self.page > 0 && page.entries.len() >= self.page {
                let last = page.entries.last().unwrap().key.clone();
                page.next = Some(if request.all_versions {
                    ListPosition::After { key: last, version: None }
                } else {
                    ListPosition::Token(last.as_str().unwrap().to_owned())
                });
                break;
            }
            let entry = |version| listed(key, content.len() as u64, version);
            match (request.all_versions, self.versions.as_slice()) {
                (false, _) => page.entries.push(entry(None)),
                (true, []) => page.entries.push(entry(Some("null"))),
                (true, ids) => page.entries.extend(ids.iter().map(|id| entry(Some(id)))),
            }
        }
        page.common_prefixes = folders.into_iter().collect();
        Ok(page)
    }

    async fn bucket_setting(&self, _: &BucketName, _: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    async fn read(&self, _: &BucketName, key: &ObjectKey, if_match: Option<&str>) -> Result<OpenedObject, StoreError> {
        self.requests.lock().unwrap().push(format!("read {key} {if_match:?}"));
        if self.mute {
            std::future::pending::<()>().await;
        }
        if let Some(fault) = self.next_fault() {
            return Err(fault);
        }
        let missing = || fault(FaultClass::Rejected, 404, "NoSuchKey");
        let content = self.objects.get(key.as_bytes()).ok_or_else(missing)?;
        let etag = etag(content);
        let matches = |wanted: &str| wanted == etag || (!self.strict_etag && wanted.eq_ignore_ascii_case(&etag));
        if !self.ignores_if_match && !if_match.is_none_or(matches) {
            return Err(fault(FaultClass::Rejected, 412, "PreconditionFailed"));
        }
        let size = content.len() as u64;
        let body = content[..content.len() - self.missing_bytes.min(content.len())].to_vec();
        Ok(OpenedObject { etag, size, body: Box::new(Cursor::new(body)) })
    }

    async fn write(&self, _: &BucketName, _: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    fn request_line(&self, _: &ObjectId, _: &ObjectRequest) -> String {
        String::new()
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        if let Some(happen) = &self.on_row {
            happen();
        }
        (key.as_bytes() == b".").then_some("a URL cannot say it")
    }

    fn unsupported_bucket(&self, name: &str) -> Option<UnsupportedBucket> {
        UnsupportedBucket::of_aws(name)
    }
}

/// Creates an entry of a listing.
pub(super) fn listed(key: &[u8], size: u64, version: Option<&str>) -> ListedObject {
    ListedObject {
        key: ObjectKey::new(key),
        version: version.map(VersionId::new),
        size: Some(size),
        last_modified: Some(Timestamp::UNIX_EPOCH),
        class: StorageClass::new("STANDARD"),
        etag: None,
        inexact: None,
    }
}

/// Creates a fault.
pub(super) fn fault(class: FaultClass, status: u16, code: &str) -> StoreError {
    StoreError {
        class,
        status: Some(status),
        code: code.to_owned(),
        message: "no".to_owned(),
        request_id: String::new(),
        ec: String::new(),
        request_line: String::new(),
        at: Timestamp::UNIX_EPOCH,
        retry_after: None,
        headers: batchplan_store::object_request::ObjectHeaderSet::default(),
    }
}

/// Returns the MD5 in hex, which is also the `ETag` of the store's objects.
pub(super) fn etag(content: &[u8]) -> String {
    hex(&Md5::digest(content))
}

/// Compresses to a single gzip member.
pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Adds an inventory with these data files, in the bucket that its destination names.
pub(super) fn add_inventory(store: &mut MemoryStore, folder: &str, destination: &str, schema: &str, files: &[&[u8]]) {
    let mut entries = Vec::new();
    for (number, text) in files.iter().enumerate() {
        let key = data_key(folder, number);
        let content = gzip(text);
        let md5 = etag(&content).to_ascii_uppercase();
        entries.push(format!(r#"{{"key":"{key}","size":{},"MD5checksum":"{md5}"}}"#, content.len()));
        store.put(&key, &content);
    }
    let json = format!(
        r#"{{"sourceBucket":"src","destinationBucket":"{destination}","fileFormat":"CSV","fileSchema":"{schema}",
            "creationTimestamp":"1514944800000","files":[{}]}}"#,
        entries.join(",")
    );
    store.put(&format!("{folder}manifest.json"), json.as_bytes());
    store.put(&format!("{folder}manifest.checksum"), format!("{}\n", etag(json.as_bytes())).as_bytes());
}

/// Returns the key of a data file that [`add_inventory`] adds.
pub(super) fn data_key(folder: &str, number: usize) -> String {
    format!("inv/b/daily/data/{}-{number}.csv.gz", folder.replace('/', "_"))
}

/// Returns a CSV manifest in the store, with bucket and key.
pub(super) fn csv_source(key: &str) -> ManifestSource {
    csv_fields(key, &[CsvField::Bucket, CsvField::Key])
}

/// Returns a CSV manifest in the store, with any fields.
pub(super) fn csv_fields(key: &str, fields: &[CsvField]) -> ManifestSource {
    let place = FileLocation::Object { bucket: BucketName::new("m"), key: ObjectKey::from(key), etag: None };
    ManifestSource::Csv { location: place, fields: fields.to_vec(), plus_is_space: false }
}

/// A listing that is never split.
pub(super) const SINGLE_WORKER: ListingConcurrency = ListingConcurrency::new(1, 8, 4);

/// Freezes with blocks of 3 rows and parts of 7 rows.
pub(super) fn freeze_in(
    folder: &Path,
    store: MemoryStore,
    source: ManifestSource,
    filter: Filter,
) -> Result<FrozenManifest, ManifestError> {
    freeze_until(folder, &Arc::new(store), source, filter, &CancellationToken::new())
}

/// Does the same as [`freeze_in`], until stopped.
pub(super) fn freeze_until(
    folder: &Path,
    store: &Arc<MemoryStore>,
    source: ManifestSource,
    filter: Filter,
    stop: &CancellationToken,
) -> Result<FrozenManifest, ManifestError> {
    let store: Arc<dyn Store> = store.clone();
    let manifest = Manifest { source, filter };
    let limits = PartLimits::new(3, 7);
    let sizes = FreezeConfig {
        part_limits: limits,
        checkpoint_policy: FreezeCheckpointPolicy::new(2, 5),
        listing: SINGLE_WORKER,
        sort_budget: SortBudget { bytes: 256, runs: 3 },
        max_disk: None,
        max_objects: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(freeze_with_config(&manifest, &store, folder, &|_| {}, stop, sizes))
}

/// Freezes and returns all objects. Checks that opening the manifest again gives the same result.
pub(super) fn objects(
    store: MemoryStore,
    source: ManifestSource,
    filter: Filter,
) -> Result<(FrozenManifest, Vec<ObjectId>), ManifestError> {
    let folder = tempfile::tempdir().unwrap();
    let frozen = freeze_in(folder.path(), store, source, filter)?;
    assert_eq!(FrozenManifest::open(folder.path()).unwrap().as_ref(), Some(&frozen));
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 2);
    let objects = tasks.flat_map(|batch| batch.unwrap()).map(|task| task.object).collect::<Vec<_>>();
    assert_eq!(frozen.rows(), objects.len() as u64);
    Ok((frozen, objects))
}

/// Expects the freeze to fail. Checks that nothing is left that could be taken for a manifest.
pub(super) fn refusal(store: MemoryStore, source: ManifestSource, filter: Filter) -> ManifestError {
    let folder = tempfile::tempdir().unwrap();
    let error = freeze_in(folder.path(), store, source, filter).unwrap_err();
    assert_eq!(FrozenManifest::open(folder.path()).unwrap(), None);
    assert_eq!(std::fs::read_dir(folder.path().join("manifest")).unwrap().count(), 0);
    error
}

/// Returns the keys as text.
pub(super) fn keys(objects: &[ObjectId]) -> Vec<String> {
    objects.iter().map(|object| object.key.to_string()).collect()
}
