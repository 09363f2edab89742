//! An open sandbox and its operations on buckets and objects, independent of the dialect.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::access::{OwnerDirectory, OwnerId, SharedAccess, StoredAcl};
use super::blobs::{BlobReader, BlobStore, BlobWriter};
use super::change_log::{ChangeLog, ChangeLogError, ReplayedLog, open_regular};
use super::checksum::ContentDetails;
use super::completed::CompletedUploads;
use super::model::{
    ETag, LifecycleRule, ObjectBlob, ObjectOwnership, ObjectStorageClass, RetrievalTier, StoredHeaders, StoredObject,
    StoredVersion, UnixMillis, VersioningStatus, random_id,
};
use super::restore::{self, RestoreDecision, RestoreParameters};
use super::state::{
    FoundObject, LookupPurpose, RequestedObject, SandboxRequestError, SandboxState, StateChange, StoredBucket,
    VersionRef, WritePrecondition, put_changes,
};
use super::tags::SharedTags;
use super::{SandboxError, SandboxOptions, seed};

/// The file name of the change log in the sandbox's folder.
const LOG_FILE: &str = "state.log";
/// The name of the folder of blob files.
const BLOB_FOLDER: &str = "bodies";
/// The file that a process locks while it has the sandbox open.
const LOCK_FILE: &str = "lock";
/// How often a lock is tried, and the time between two attempts.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// An open object store. Clones refer to the same store.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<SandboxInner>,
}

struct SandboxInner {
    options: SandboxOptions,
    owners: OwnerDirectory,
    blobs: BlobStore,
    is_newly_seeded: bool,
    state: Mutex<LoggedState>,
    /// Locked while the sandbox is open. The operating system releases the lock when the process ends for any reason.
    _lock: Option<File>,
}

pub(crate) struct LoggedState {
    pub(crate) state: SandboxState,
    /// `None` keeps the state only in memory.
    log: Option<ChangeLog>,
    pub(crate) completed: CompletedUploads,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// The bucket that a request creates.
#[derive(Debug)]
pub(crate) struct NewBucket {
    pub(crate) owner: OwnerId,
    /// `None` is private.
    pub(crate) acl: Option<StoredAcl>,
    pub(crate) ownership: Option<ObjectOwnership>,
    /// `None` is the first region.
    pub(crate) location: Option<Box<str>>,
}

/// The object that a write creates.
#[derive(Debug)]
pub(crate) struct NewObject {
    pub(crate) size: u64,
    pub(crate) etag: ETag,
    pub(crate) class: ObjectStorageClass,
    pub(crate) access: SharedAccess,
    pub(crate) tags: SharedTags,
    pub(crate) headers: Option<Box<StoredHeaders>>,
    pub(crate) body: ObjectBlob,
    pub(crate) details: Option<Box<ContentDetails>>,
}

/// The result of deleting an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeletedVersion {
    /// Whether a delete marker was created or removed.
    pub(crate) is_marker: bool,
    /// The ID of the created or removed version, unless the bucket never had versioning enabled.
    pub(crate) id: Option<String>,
}

/// What a request for a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptedRestoreKind {
    /// It started a restore, or made an ongoing one faster.
    Started,
    /// It changed the expiry date of the copy, which already existed.
    Extended,
}

/// A restore that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptedRestore {
    pub(crate) kind: AcceptedRestoreKind,
    /// The storage class of the object.
    pub(crate) class: ObjectStorageClass,
    /// The tier of the restore.
    pub(crate) tier: RetrievalTier,
}

impl Sandbox {
    /// Opens the sandbox in a folder, and creates it if necessary. The seed file is read only while the sandbox has no
    /// buckets.
    ///
    /// # Errors
    /// Returns an error if another process has the sandbox open, if its files are damaged or cannot be read or written,
    /// or if the seed file is not valid.
    pub fn open(dir: &Path, seed_file: Option<&Path>, options: SandboxOptions) -> Result<Self, SandboxError> {
        fs::create_dir_all(dir).map_err(io_error("create the folder", dir.to_owned()))?;
        let lock = lock_folder(dir)?;
        let log_path = dir.join(LOG_FILE);
        let blob_dir = dir.join(BLOB_FOLDER);
        let exists = log_path.try_exists().map_err(io_error("access", log_path.clone()))?;
        let mut is_newly_seeded = seed_file.is_some();
        let (state, log, blobs) = if exists {
            let (mut state, mut log) = replay_log(&log_path)?;
            let blobs = BlobStore::open(blob_dir.clone(), state.blob_files()).map_err(io_error("open", blob_dir))?;
            is_newly_seeded &= state.buckets.is_empty();
            if is_newly_seeded {
                state = seeded_state(seed_file, &options, &blobs)?;
                log = ChangeLog::replace(&log_path, &state).map_err(io_error("write", log_path))?;
            }
            (state, log, blobs)
        } else {
            let blobs = BlobStore::open(blob_dir.clone(), std::iter::empty()).map_err(io_error("open", blob_dir))?;
            let state = seeded_state(seed_file, &options, &blobs)?;
            // The log is created last and atomically. After a crash before this point, the folder is seeded again.
            let log = ChangeLog::replace(&log_path, &state).map_err(io_error("write", log_path))?;
            (state, log, blobs)
        };
        Ok(Self::assemble(state, Some(log), blobs, Some(lock), options, is_newly_seeded))
    }

    /// Returns whether opening the sandbox read the seed file: it was given, and the sandbox had no buckets.
    #[must_use]
    pub fn is_newly_seeded(&self) -> bool {
        self.inner.is_newly_seeded
    }

    /// Creates a sandbox that stores nothing on disk.
    ///
    /// # Errors
    /// Returns an error if the seed file cannot be read or is not valid.
    pub fn in_memory(seed_file: Option<&Path>, options: SandboxOptions) -> Result<Self, SandboxError> {
        let blobs = BlobStore::in_memory();
        let state = seeded_state(seed_file, &options, &blobs)?;
        Ok(Self::assemble(state, None, blobs, None, options, seed_file.is_some()))
    }

    fn assemble(
        state: SandboxState,
        log: Option<ChangeLog>,
        blobs: BlobStore,
        lock: Option<File>,
        options: SandboxOptions,
        is_newly_seeded: bool,
    ) -> Self {
        let state = Mutex::new(LoggedState { state, log, completed: CompletedUploads::default() });
        let owners = OwnerDirectory::new(&options.keys);
        Self { inner: Arc::new(SandboxInner { options, owners, blobs, is_newly_seeded, state, _lock: lock }) }
    }

    /// Returns the options that the sandbox was opened with.
    #[must_use]
    pub fn options(&self) -> &SandboxOptions {
        &self.inner.options
    }

    /// Returns the access key and the canonical ID of each owner. ACLs name owners by this ID.
    pub fn owners(&self) -> impl Iterator<Item = (&str, String)> {
        self.owner_directory().iter().map(|(id, key)| (key.access_key.as_str(), id.to_string()))
    }

    pub(crate) fn owner_directory(&self) -> &OwnerDirectory {
        &self.inner.owners
    }

    pub(crate) fn now(&self) -> UnixMillis {
        (self.inner.options.clock)().into()
    }

    /// Starts to write a blob. A blob that does not become part of an object must be released with
    /// [`Self::discard_blob`].
    pub(crate) fn blob_writer(&self) -> BlobWriter<'_> {
        self.inner.blobs.writer()
    }

    pub(crate) fn discard_blob(&self, body: &ObjectBlob) {
        if let Some(file) = body.file_number() {
            self.inner.blobs.remove(file);
        }
    }

    pub(crate) fn open_blob(&self, body: &ObjectBlob, size: u64) -> io::Result<BlobReader> {
        self.inner.blobs.reader(body, 0..size)
    }

    /// Locks the state.
    pub(crate) fn lock_state(&self) -> MutexGuard<'_, LoggedState> {
        lock_mutex(&self.inner.state)
    }

    /// Calls a function with the state, which stays locked meanwhile.
    pub(crate) fn with_state<R>(&self, read: impl FnOnce(&SandboxState) -> R) -> R {
        read(&self.lock_state().state)
    }

    /// Calls a function with one bucket.
    pub(crate) fn with_bucket<R>(
        &self,
        name: &str,
        read: impl FnOnce(&StoredBucket) -> R,
    ) -> Result<R, SandboxRequestError> {
        self.with_state(|state| Ok(read(state.bucket(name)?)))
    }

    /// Writes changes to the log, applies them, and removes the blob files that are no longer used.
    pub(crate) fn commit(
        &self,
        locked: &mut LoggedState,
        changes: Vec<StateChange>,
    ) -> Result<(), SandboxRequestError> {
        if let Some(log) = &mut locked.log {
            log.append(&changes)?;
        }
        for change in changes {
            let freed =
                locked.state.apply(change).map_err(|error| SandboxRequestError::Storage(io::Error::other(error.0)))?;
            for file in freed {
                self.inner.blobs.remove(file);
            }
        }
        if let Some(log) = &mut locked.log {
            // The changes are in the old log: a new one that cannot be written fails nothing.
            let _ = log.compact(&locked.state);
        }
        Ok(())
    }

    pub(crate) fn create_bucket(&self, name: &str, new: NewBucket) -> Result<(), SandboxRequestError> {
        let NewBucket { owner, acl, ownership, location } = new;
        let mut locked = self.lock_state();
        if let Some(bucket) = locked.state.buckets.get(name) {
            let is_own = bucket.access.owner == owner;
            return Err(if is_own { SandboxRequestError::BucketExists } else { SandboxRequestError::BucketNameTaken });
        }
        let mut changes = vec![StateChange::CreateBucket { bucket: name.into(), created: self.now(), owner }];
        changes.extend(acl.map(|acl| StateChange::SetBucketAcl { bucket: name.into(), acl }));
        changes.extend(ownership.map(|ownership| StateChange::SetOwnership { bucket: name.into(), ownership }));
        changes.extend(location.map(|location| StateChange::SetLocation { bucket: name.into(), location }));
        self.commit(&mut locked, changes)
    }

    pub(crate) fn delete_bucket(&self, name: &str) -> Result<(), SandboxRequestError> {
        let mut locked = self.lock_state();
        if !locked.state.bucket(name)?.keys.is_empty() {
            return Err(SandboxRequestError::BucketNotEmpty);
        }
        self.commit(&mut locked, vec![StateChange::DeleteBucket { bucket: name.into() }])
    }

    pub(crate) fn set_versioning(&self, name: &str, versioning: VersioningStatus) -> Result<(), SandboxRequestError> {
        let mut locked = self.lock_state();
        locked.state.bucket(name)?;
        self.commit(&mut locked, vec![StateChange::SetVersioning { bucket: name.into(), versioning }])
    }

    pub(crate) fn set_bucket_acl(&self, name: &str, acl: StoredAcl) -> Result<(), SandboxRequestError> {
        let mut locked = self.lock_state();
        locked.state.bucket(name)?;
        self.commit(&mut locked, vec![StateChange::SetBucketAcl { bucket: name.into(), acl }])
    }

    /// Replaces the lifecycle of a bucket. An empty list removes it.
    pub(crate) fn set_lifecycle(&self, name: &str, rules: Vec<LifecycleRule>) -> Result<(), SandboxRequestError> {
        let mut locked = self.lock_state();
        locked.state.bucket(name)?;
        self.commit(&mut locked, vec![StateChange::SetLifecycle { bucket: name.into(), rules }])
    }

    pub(crate) fn set_ownership(&self, name: &str, ownership: ObjectOwnership) -> Result<(), SandboxRequestError> {
        let mut locked = self.lock_state();
        locked.state.bucket(name)?;
        self.commit(&mut locked, vec![StateChange::SetOwnership { bucket: name.into(), ownership }])
    }

    /// Creates an object from a body that was received. Returns the version ID, unless the bucket never had versioning
    /// enabled.
    pub(crate) fn put_object(
        &self,
        bucket: &str,
        key: &str,
        new: NewObject,
        condition: &WritePrecondition,
    ) -> Result<Option<String>, SandboxRequestError> {
        let body = new.body.clone();
        let mut locked = self.lock_state();
        let result = locked.state.check_precondition(bucket, key, condition).and_then(|()| {
            let (changes, id) = self.new_version_changes(&locked.state, bucket, key, new)?;
            self.commit(&mut locked, changes)?;
            Ok(id)
        });
        drop(locked);
        if result.is_err() {
            self.discard_blob(&body);
        }
        result
    }

    /// Returns the changes that write a new object, and the version ID to show.
    pub(crate) fn new_version_changes(
        &self,
        state: &SandboxState,
        bucket: &str,
        key: &str,
        new: NewObject,
    ) -> Result<(Vec<StateChange>, Option<String>), SandboxRequestError> {
        let NewObject { size, etag, class, access, tags, headers, body, details } = new;
        let object = StoredObject { size, etag, class, access, tags, body, restore: None, headers, details };
        let (id, shown_id) = new_version_id(state.bucket(bucket)?.versioning);
        let version = StoredVersion { id, modified: self.now(), object: Some(object) };
        Ok((put_changes(bucket, key, version).collect(), shown_id))
    }

    /// Looks up an object for reading.
    pub(crate) fn find_object(&self, target: RequestedObject<'_>) -> Result<FoundObject, SandboxRequestError> {
        self.with_state(|state| state.object_for_read(target))
    }

    /// Opens the content of an object. `decide` gets the object and returns the range of bytes to read.
    pub(crate) fn read_object<E: From<SandboxRequestError>>(
        &self,
        target: RequestedObject<'_>,
        decide: impl FnOnce(&FoundObject) -> Result<Range<u64>, E>,
    ) -> Result<(FoundObject, Range<u64>, BlobReader), E> {
        // The file is opened under the lock, so that it cannot be removed before.
        let locked = self.lock_state();
        let found = locked.state.object_for_read(target)?;
        let range = decide(&found)?;
        if !restore::is_readable(&found.object, self.now()) {
            return Err(SandboxRequestError::Archived.into());
        }
        let reader =
            self.inner.blobs.reader(&found.object.body, range.clone()).map_err(SandboxRequestError::Storage)?;
        Ok((found, range, reader))
    }

    /// Deletes a version permanently, or deletes the current one according to the bucket's versioning.
    pub(crate) fn delete_object(
        &self,
        target: RequestedObject<'_>,
        condition: &WritePrecondition,
    ) -> Result<DeletedVersion, SandboxRequestError> {
        let mut locked = self.lock_state();
        // Also for a version: AWS compares only with the current one.
        locked.state.check_precondition(target.bucket, target.key, condition)?;
        let bucket = locked.state.bucket(target.bucket)?;
        let versioning = bucket.versioning;
        let versions = bucket.keys.get(target.key).map_or(&[][..], |entry| entry.versions());
        // Without versioning, there is only the `null` version.
        let deleted_id = match (target.version, versioning) {
            (None, VersioningStatus::Never) => Some("null"),
            (version, _) => version,
        };
        let Some(deleted_id) = deleted_id else {
            let (id, shown_id) = new_version_id(versioning);
            let version = StoredVersion { id, modified: self.now(), object: None };
            let put = StateChange::Put { bucket: target.bucket.into(), key: target.key.into(), version };
            self.commit(&mut locked, vec![put])?;
            return Ok(DeletedVersion { is_marker: true, id: shown_id });
        };
        let shown_id = target.version.map(str::to_owned);
        // A version that does not exist counts as deleted: AWS answers with success.
        let Some(version) = versions.iter().find(|version| version.id_str() == deleted_id) else {
            return Ok(DeletedVersion { is_marker: false, id: shown_id });
        };
        let is_marker = version.object.is_none();
        let target = target.version_ref(version);
        self.commit(&mut locked, vec![StateChange::Remove { target }])?;
        Ok(DeletedVersion { is_marker, id: shown_id })
    }

    /// Modifies an object. Returns the version ID, unless the bucket never had versioning enabled.
    fn modify_object(
        &self,
        target: RequestedObject<'_>,
        change: impl FnOnce(VersionRef, &StoredObject) -> Result<StateChange, SandboxRequestError>,
    ) -> Result<Option<String>, SandboxRequestError> {
        let mut locked = self.lock_state();
        let (version, object) = locked.state.find_object(target, LookupPurpose::Write)?;
        let shown_id = locked.state.response_version_id(target.bucket, version);
        let change = change(target.version_ref(version), object)?;
        self.commit(&mut locked, vec![change])?;
        Ok(shown_id)
    }

    pub(crate) fn set_tags(
        &self,
        target: RequestedObject<'_>,
        tags: SharedTags,
    ) -> Result<Option<String>, SandboxRequestError> {
        self.modify_object(target, |target, _| Ok(StateChange::SetTags { target, tags }))
    }

    /// Returns the owner of an object whose ACL is to be replaced.
    pub(crate) fn object_owner(&self, target: RequestedObject<'_>) -> Result<OwnerId, SandboxRequestError> {
        self.with_state(|state| Ok(state.find_object(target, LookupPurpose::Write)?.1.access.owner))
    }

    pub(crate) fn set_acl(
        &self,
        target: RequestedObject<'_>,
        acl: StoredAcl,
    ) -> Result<Option<String>, SandboxRequestError> {
        self.modify_object(target, |target, _| Ok(StateChange::SetAcl { target, acl }))
    }

    pub(crate) fn restore_object(
        &self,
        target: RequestedObject<'_>,
        parameters: RestoreParameters,
    ) -> Result<AcceptedRestore, SandboxRequestError> {
        let mut locked = self.lock_state();
        let (version, object) = locked.state.find_object(target, LookupPurpose::Write)?;
        let (kind, restore) = match restore::decide(object, parameters, self.now(), self.inner.options.time_scale) {
            RestoreDecision::Accepted(restore) => (AcceptedRestoreKind::Started, restore),
            RestoreDecision::Extended(restore) => (AcceptedRestoreKind::Extended, restore),
            RestoreDecision::Rejected(rejection) => return Err(SandboxRequestError::RestoreRejected(rejection)),
        };
        let accepted = AcceptedRestore { kind, class: object.class, tier: restore.tier };
        let target = target.version_ref(version);
        self.commit(&mut locked, vec![StateChange::SetRestore { target, restore }])?;
        Ok(accepted)
    }
}

/// Locks a mutex and ignores poisoning by a panic: every change of a guarded value is applied as a whole.
pub(crate) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the ID of a new version, and the ID to show in responses.
fn new_version_id(versioning: VersioningStatus) -> (Option<Box<str>>, Option<String>) {
    match versioning {
        VersioningStatus::Never => (None, None),
        VersioningStatus::Suspended => (None, Some("null".to_owned())),
        VersioningStatus::Enabled => {
            let id = random_id();
            (Some(id.clone()), Some(id.into()))
        }
    }
}

/// Returns the conversion of an error of the operating system.
fn io_error(doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> SandboxError {
    move |source| SandboxError::Io { doing, path, source }
}

/// Locks the folder, so that no other process opens the sandbox until the returned file is closed.
fn lock_folder(dir: &Path) -> Result<File, SandboxError> {
    let path = dir.join(LOCK_FILE);
    let writable = File::options().create(true).truncate(false).write(true).clone();
    let file = open_regular(&path, &writable).map_err(io_error("open", path.clone()))?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SandboxError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(io_error("lock", path)(source)),
    }
}

/// Takes the exclusive lock of a file. If another process holds it, tries again for up to a fifth of a second: a
/// process that is just being started may still have its parent's files open.
fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_INTERVAL),
            tried => return tried,
        }
    }
    file.try_lock()
}

fn seeded_state(
    seed_file: Option<&Path>,
    options: &SandboxOptions,
    blobs: &BlobStore,
) -> Result<SandboxState, SandboxError> {
    let mut state = SandboxState::default();
    if let Some(path) = seed_file {
        seed::seed(&mut state, blobs, path, (options.clock)().into())?;
    }
    Ok(state)
}

/// Reads a change log, and rewrites it if most of it is history.
fn replay_log(path: &Path) -> Result<(SandboxState, ChangeLog), SandboxError> {
    let io = |doing| move |source| SandboxError::Io { doing, path: path.to_owned(), source };
    let replayed = ChangeLog::open(path).map_err(|error| match error {
        ChangeLogError::Io(source) => io("read")(source),
        ChangeLogError::Damaged { at, what } => SandboxError::Damaged { path: path.to_owned(), at, what },
    })?;
    let ReplayedLog { mut log, state } = replayed;
    log.compact(&state).map_err(io("write"))?;
    Ok((state, log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_mostly_history_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Sandbox::open(dir.path(), None, SandboxOptions::default()).unwrap();
        let length = || fs::metadata(dir.path().join(LOG_FILE)).unwrap().len();
        let change = |sandbox: &Sandbox, times: usize| {
            for _ in 0..times {
                sandbox.set_versioning("bucket", VersioningStatus::Enabled).unwrap();
            }
        };
        let new = NewBucket { owner: OwnerId::FIRST, acl: None, ownership: None, location: None };
        let sandbox = open();
        sandbox.create_bucket("bucket", new).unwrap();
        let record = {
            let before = length();
            change(&sandbox, 1);
            length() - before
        };
        // A bucket and its versioning are two of 10,002 records.
        change(&sandbox, 9_999);
        assert!(length() > 10_000 * record, "history is tolerated up to a limit");
        change(&sandbox, 10);
        assert!(length() < 20 * record, "{}", length());
        change(&sandbox, 100_000);
        assert!(length() < 10_100 * record, "the log has a limit however many changes there are: {}", length());
        drop(sandbox);
        let length_before = length();
        let versioning = open().with_bucket("bucket", |bucket| bucket.versioning).unwrap();
        assert_eq!((versioning, length()), (VersioningStatus::Enabled, length_before));
    }

    #[test]
    fn a_log_that_cannot_be_written_anew_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Sandbox::open(dir.path(), None, SandboxOptions::default()).unwrap();
        let sandbox = open();
        let new = NewBucket { owner: OwnerId::FIRST, acl: None, ownership: None, location: None };
        sandbox.create_bucket("bucket", new).unwrap();
        // A folder in the place of the temporary file.
        fs::create_dir(dir.path().join("state.new")).unwrap();
        for _ in 0..15_000 {
            sandbox.set_versioning("bucket", VersioningStatus::Enabled).unwrap();
        }
        drop(sandbox);
        fs::remove_dir(dir.path().join("state.new")).unwrap();
        let versioning = open().with_bucket("bucket", |bucket| bucket.versioning).unwrap();
        assert_eq!(versioning, VersioningStatus::Enabled);
    }
}
