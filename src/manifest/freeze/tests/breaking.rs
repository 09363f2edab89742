//! A store that interrupts an attempt, sources to freeze from it, and short ways to freeze, interrupt and resume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, StoreError, TaskId};
use batchplan_store::{BucketSetting, BucketSettingValue, ListPage, ListRequest, ObjectContent, OpenedObject, Store};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::manifest::ManifestWarning;
use crate::manifest::error::ManifestError;
use crate::manifest::filter::Filter;
use crate::manifest::freeze::FreezeCheckpointPolicy;
use crate::manifest::freeze::FreezeConfig;
use crate::manifest::freeze::freeze_with_config;
use crate::manifest::freeze_checkpoint;
use crate::manifest::frozen::{self, FrozenManifest};
use crate::manifest::part::PartLimits;
use crate::manifest::sort::SortBudget;
use crate::manifest::spec::{
    InventoryDialect, InventorySelector, ListedVersions, Manifest, ManifestSource, OnUnlistable,
};
use crate::manifest::testing::{MemoryStore, SINGLE_WORKER, etag, fault, gzip};

/// How an attempt is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The token is cancelled, and the server stops responding.
    Stop,
    /// The future is dropped, as after a kill.
    Drop,
    /// The server refuses the request.
    Fail,
}

/// A store that ends the attempt at one of its requests.
pub(super) struct Breaking {
    inner: Arc<MemoryStore>,
    /// The number of requests before that.
    left: AtomicUsize,
    end: End,
    /// The status of a refusal.
    pub(super) status: u16,
    /// Cancelled when the attempt is to end.
    over: CancellationToken,
}

impl Breaking {
    pub(super) fn new(inner: &Arc<MemoryStore>, after: usize, end: End) -> Arc<Self> {
        let (inner, over) = (Arc::clone(inner), CancellationToken::new());
        Arc::new(Self { inner, left: AtomicUsize::new(after), end, status: 403, over })
    }

    fn is_over(&self) -> bool {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.is_err()
    }

    async fn refuse(&self) -> StoreError {
        if self.end != End::Fail {
            self.over.cancel();
            std::future::pending::<()>().await;
        }
        fault(FaultClass::Rejected, self.status, "AccessDenied")
    }
}

/// The rest of a body that never arrives.
struct Silence(CancellationToken);

impl AsyncRead for Silence {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.cancel();
        Poll::Pending
    }
}

#[async_trait]
impl Store for Breaking {
    async fn send_request(&self, object: &ObjectId, call: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        self.inner.send_request(object, call).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        if self.is_over() { Err(self.refuse().await) } else { self.inner.list(request).await }
    }

    async fn bucket_setting(
        &self,
        bucket: &BucketName,
        question: BucketSetting,
    ) -> Result<BucketSettingValue, StoreError> {
        self.inner.bucket_setting(bucket, question).await
    }

    /// If the attempt is to end, breaks off in the middle of the body.
    async fn read(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<&str>,
    ) -> Result<OpenedObject, StoreError> {
        let opened = self.inner.read(bucket, key, if_match).await?;
        if !self.is_over() {
            return Ok(opened);
        }
        let half = opened.body.take(opened.size / 2);
        let body: Box<dyn AsyncRead + Send + Unpin> =
            if self.end == End::Fail { Box::new(half) } else { Box::new(half.chain(Silence(self.over.clone()))) };
        Ok(OpenedObject { body, ..opened })
    }

    async fn write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: ObjectContent,
        md5: &str,
    ) -> Result<(), StoreError> {
        self.inner.write(bucket, key, content, md5).await
    }

    fn request_line(&self, object: &ObjectId, call: &ObjectRequest) -> String {
        self.inner.request_line(object, call)
    }

    fn unsupported_key_reason(&self, key: &ObjectKey) -> Option<&'static str> {
        self.inner.unsupported_key_reason(key)
    }
}

pub(super) const SMALL: FreezeConfig = FreezeConfig {
    part_limits: PartLimits::new(3, 7),
    checkpoint_policy: FreezeCheckpointPolicy::new(1, 1000),
    listing: SINGLE_WORKER,
    sort_budget: SortBudget { bytes: 256, runs: 3 },
    max_disk: None,
    max_objects: None,
};

/// Runs one attempt. Returns `None` if it was dropped.
pub(super) fn attempt(
    folder: &Path,
    store: &Arc<Breaking>,
    manifest: &Manifest,
    sizes: FreezeConfig,
) -> Option<Result<FrozenManifest, ManifestError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stop = if store.end == End::Stop { store.over.clone() } else { CancellationToken::new() };
    let port: Arc<dyn Store> = store.clone();
    // When the runtime is dropped it waits for its threads, so that none of them writes during the next attempt.
    runtime.block_on(async {
        tokio::select! {
            biased;
            done = freeze_with_config(manifest, &port, folder, &|_| {}, &stop, sizes) => Some(done),
            () = store.over.cancelled(), if store.end == End::Drop => None,
        }
    })
}

/// Runs an attempt without interruption.
pub(super) fn whole(
    folder: &Path,
    store: &Arc<MemoryStore>,
    manifest: &Manifest,
    sizes: FreezeConfig,
) -> Result<FrozenManifest, ManifestError> {
    attempt(folder, &Breaking::new(store, usize::MAX, End::Fail), manifest, sizes).unwrap()
}

/// Runs an attempt that is interrupted at a request before its last one.
pub(super) fn broken(folder: &Path, store: &Arc<MemoryStore>, manifest: &Manifest, after: usize, end: End) {
    match (end, attempt(folder, &Breaking::new(store, after, end), manifest, SMALL)) {
        (End::Drop, None) | (End::Stop, Some(Err(ManifestError::Stopped))) | (End::Fail, Some(Err(_))) => {}
        (_, other) => panic!("{end:?} gave {other:?}"),
    }
    assert_eq!(FrozenManifest::open(folder).unwrap(), None);
}

pub(super) fn rows(frozen: &FrozenManifest) -> Vec<ObjectId> {
    let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 100);
    tasks.flat_map(|batch| batch.unwrap()).map(|task| task.object).collect()
}

pub(super) fn manifest(source: ManifestSource) -> Manifest {
    Manifest { source, filter: Filter::default() }
}

pub(super) fn listing(versions: ListedVersions) -> Manifest {
    manifest(ManifestSource::Prefix {
        bucket: BucketName::new("b"),
        prefix: ObjectKey::from("p/"),
        versions,
        on_unlistable: OnUnlistable::Fail,
    })
}

/// Creates a bucket with twenty objects, two per page.
pub(super) fn bucket() -> Arc<MemoryStore> {
    let mut store = MemoryStore { page: 2, ..MemoryStore::default() };
    for number in 0..20 {
        store.put(&format!("p/{number:02}"), &vec![b'x'; number]);
    }
    Arc::new(store)
}

pub(super) const INVENTORY: &str = "inv/2026-01-31T00-00Z/manifest.json";

/// Creates an inventory of these data files.
pub(super) fn inventory_of(files: &[Vec<String>]) -> MemoryStore {
    let mut store = MemoryStore::default();
    let mut entries = Vec::new();
    for (number, keys) in files.iter().enumerate() {
        let text: String = keys.iter().flat_map(|key| [key.as_str(), "\n"]).collect();
        let (key, content) = (format!("data/{number}.csv.gz"), gzip(text.as_bytes()));
        let (size, md5) = (content.len(), etag(&content));
        entries.push(format!(r#"{{"key":"{key}","size":{size},"MD5checksum":"{md5}"}}"#));
        store.put(&key, &content);
    }
    let files = entries.join(",");
    let json = format!(r#"{{"sourceBucket":"src","fileFormat":"CSV","fileSchema":"Key","files":[{files}]}}"#);
    store.put(INVENTORY, json.as_bytes());
    store.put("inv/2026-01-31T00-00Z/manifest.checksum", etag(json.as_bytes()).as_bytes());
    // An incomplete inventory, which `latest` skips with a warning.
    store.put("inv/2026-01-31T12-00Z/manifest.json", b"{}");
    store
}

pub(super) fn ten_files() -> MemoryStore {
    let keys = |file: usize| (0..3).map(|row| format!("k+{file}/{row}")).collect();
    inventory_of(&(0..10).map(keys).collect::<Vec<Vec<String>>>())
}

pub(super) fn inventory_manifest(object: InventorySelector) -> Manifest {
    manifest(ManifestSource::Inventory {
        bucket: BucketName::new("b"),
        selector: object,
        dialect: InventoryDialect::Oss,
    })
}

pub(super) fn exact() -> Manifest {
    inventory_manifest(InventorySelector::Exact { key: ObjectKey::from(INVENTORY), etag: None })
}

pub(super) fn latest() -> Manifest {
    inventory_manifest(InventorySelector::Latest { prefix: ObjectKey::from("inv/") })
}

/// Returns the requests that the store received since the last call.
pub(super) fn asked(store: &MemoryStore) -> Vec<String> {
    std::mem::take(&mut store.requests.lock().unwrap())
}

pub(super) fn part_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(frozen::manifest_folder(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "bpm")).collect();
    parts.sort();
    parts
}

/// Resumes, and compares the result with that of an uninterrupted attempt.
pub(super) fn finish(folder: &Path, store: &Arc<MemoryStore>, manifest: &Manifest) {
    let frozen = whole(folder, store, manifest, SMALL).unwrap();
    same_as_fresh(folder, &frozen, store, manifest, SMALL);
}

pub(super) fn same_as_fresh(
    folder: &Path,
    frozen: &FrozenManifest,
    store: &Arc<MemoryStore>,
    manifest: &Manifest,
    sizes: FreezeConfig,
) {
    let other = tempfile::tempdir().unwrap();
    let fresh = whole(other.path(), store, manifest, sizes).unwrap();
    assert_eq!(rows(frozen), rows(&fresh));
    assert_eq!((frozen.rows(), frozen.rows_read()), (fresh.rows(), fresh.rows_read()));
    // A refused probe makes the listing slower, and gives a warning.
    let slower = |warning: &&ManifestWarning| warning.message.contains("is listed by one worker");
    let warnings: Vec<_> = frozen.warnings().iter().filter(|warning| !slower(warning)).collect();
    assert_eq!((frozen.key_ranges(), frozen.pin()), (fresh.key_ranges(), fresh.pin()));
    assert_eq!(warnings, fresh.warnings().iter().collect::<Vec<_>>());
    assert_eq!(FrozenManifest::open(folder).unwrap().as_ref(), Some(frozen));
    assert_eq!(part_files(folder).len(), frozen.parts().len());
    assert!(!freeze_checkpoint::exists(&frozen::manifest_folder(folder)));
}
