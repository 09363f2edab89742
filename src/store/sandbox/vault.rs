//! An open sandbox and its operations on buckets and objects, independent of the dialect.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bodies::{Bodies, BodyReader, BodyWriter};
use super::find::{Condition, Purpose, Refusal, Seen, Target};
use super::log::{Log, LogError};
use super::model::{Acl, Body, Class, ETag, Headers, Millis, Object, Tier, Version, Versioning};
use super::restore::{self, Ask, Decision};
use super::state::{Bucket, Change, Place, State};
use super::tags::TagsRef;
use super::{SandboxError, SandboxOptions, fill};
use crate::files::open_own;

/// The file name of the log in the sandbox's folder.
const LOG: &str = "state.log";
/// The name of the folder of blob files.
const BODIES: &str = "bodies";
/// The file that a process locks while it has the sandbox open.
const LOCK: &str = "lock";

/// An open object store. Clones refer to the same store.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    options: SandboxOptions,
    bodies: Bodies,
    vault: Mutex<Vault>,
    /// Locked while the sandbox is open. The operating system releases the lock when the process ends for any reason.
    _lock: Option<File>,
}

pub(super) struct Vault {
    state: State,
    /// `None` keeps the state only in memory.
    log: Option<Log>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// The object that a write creates.
#[derive(Debug)]
pub(super) struct NewObject {
    pub(super) size: u64,
    pub(super) etag: ETag,
    pub(super) class: Class,
    pub(super) acl: Acl,
    pub(super) tags: TagsRef,
    pub(super) headers: Option<Box<Headers>>,
    pub(super) body: Body,
}

/// The result of deleting an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deleted {
    /// Whether a delete marker was created or removed.
    pub(super) marker: bool,
    /// The ID of the created or removed version, unless the bucket never had versioning enabled.
    pub(super) id: Option<String>,
}

/// What a request for a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// It started a restore, or made an ongoing one faster.
    Accepted,
    /// It changed the expiry date of the copy, which already existed.
    Extended,
}

/// A restore that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) restored: Restored,
    /// The storage class of the object.
    pub(super) class: Class,
    /// The tier of the restore.
    pub(super) tier: Tier,
}

impl Sandbox {
    /// Opens the sandbox in a folder, and creates it if necessary. The seed file is read only when the sandbox is
    /// created.
    ///
    /// # Errors
    /// Returns an error if another process has the sandbox open, if its files are damaged or cannot be read or written,
    /// or if the seed file is not valid.
    pub fn open(dir: &Path, fill: Option<&Path>, options: SandboxOptions) -> Result<Self, SandboxError> {
        let io = |doing, path: PathBuf| move |source| SandboxError::Io { doing, path, source };
        fs::create_dir_all(dir).map_err(io("make the folder", dir.to_owned()))?;
        let lock_path = dir.join(LOCK);
        let plainly = File::options().create(true).truncate(false).write(true).clone();
        let lock = open_own(&lock_path, &plainly).map_err(io("open", lock_path.clone()))?;
        match crate::files::lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SandboxError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io("lock", lock_path)(source)),
        }
        let path = dir.join(LOG);
        let bodies_dir = dir.join(BODIES);
        let exists = path.try_exists().map_err(io("look for", path.clone()))?;
        let (state, log, bodies) = if exists {
            let (state, log) = replay(&path)?;
            let bodies = Bodies::open(bodies_dir.clone(), state.body_files()).map_err(io("open", bodies_dir))?;
            (state, log, bodies)
        } else {
            let bodies = Bodies::open(bodies_dir.clone(), std::iter::empty()).map_err(io("open", bodies_dir))?;
            let state = filled(fill, &options, &bodies)?;
            // The log is created last and atomically. After a crash before this point, the folder is seeded again.
            let log = Log::replace(&path, &state).map_err(io("write", path.clone()))?;
            (state, log, bodies)
        };
        Ok(Self::assemble(state, Some(log), bodies, Some(lock), options))
    }

    /// Creates a sandbox that stores nothing on disk.
    ///
    /// # Errors
    /// Returns an error if the seed file cannot be read or is not valid.
    pub fn in_memory(fill: Option<&Path>, options: SandboxOptions) -> Result<Self, SandboxError> {
        let bodies = Bodies::in_memory();
        let state = filled(fill, &options, &bodies)?;
        Ok(Self::assemble(state, None, bodies, None, options))
    }

    fn assemble(state: State, log: Option<Log>, bodies: Bodies, lock: Option<File>, options: SandboxOptions) -> Self {
        let vault = Mutex::new(Vault { state, log });
        Self { inner: Arc::new(Inner { options, bodies, vault, _lock: lock }) }
    }

    /// Returns the options that the sandbox was opened with.
    #[must_use]
    pub fn options(&self) -> &SandboxOptions {
        &self.inner.options
    }

    pub(super) fn now(&self) -> Millis {
        (self.inner.options.clock)().into()
    }

    /// Starts to write a blob. A blob that does not become part of an object must be released with [`Self::discard`].
    pub(super) fn body_writer(&self) -> BodyWriter<'_> {
        self.inner.bodies.writer()
    }

    pub(super) fn discard(&self, body: &Body) {
        if let Some(file) = body.file() {
            self.inner.bodies.remove(file);
        }
    }

    pub(super) fn open_body(&self, body: &Body, size: u64) -> io::Result<BodyReader> {
        self.inner.bodies.read(body, 0..size)
    }

    /// Locks the state. The lock ignores poisoning by a panic, because every change is applied as a whole.
    pub(super) fn vault(&self) -> MutexGuard<'_, Vault> {
        self.inner.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a function with the state, which stays locked meanwhile.
    pub(super) fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.vault().state)
    }

    /// Calls a function with one bucket.
    pub(super) fn view_bucket<R>(&self, name: &str, look: impl FnOnce(&Bucket) -> R) -> Result<R, Refusal> {
        self.view(|state| Ok(look(state.bucket(name)?)))
    }

    /// Writes changes to the log, applies them, and removes the blob files that are no longer used.
    pub(super) fn commit(&self, vault: &mut Vault, changes: Vec<Change>) -> Result<(), Refusal> {
        if let Some(log) = &mut vault.log {
            log.append(&changes)?;
        }
        for change in changes {
            let freed = vault.state.apply(change).map_err(|misfit| Refusal::Storage(io::Error::other(misfit.0)))?;
            for file in freed {
                self.inner.bodies.remove(file);
            }
        }
        Ok(())
    }

    pub(super) fn create_bucket(&self, name: &str) -> Result<(), Refusal> {
        let mut vault = self.vault();
        if vault.state.buckets.contains_key(name) {
            return Err(Refusal::BucketExists);
        }
        self.commit(&mut vault, vec![Change::CreateBucket { bucket: name.into(), created: self.now() }])
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), Refusal> {
        let mut vault = self.vault();
        if !vault.state.bucket(name)?.keys.is_empty() {
            return Err(Refusal::BucketNotEmpty);
        }
        self.commit(&mut vault, vec![Change::DeleteBucket { bucket: name.into() }])
    }

    pub(super) fn set_versioning(&self, name: &str, versioning: Versioning) -> Result<(), Refusal> {
        let mut vault = self.vault();
        vault.state.bucket(name)?;
        self.commit(&mut vault, vec![Change::SetVersioning { bucket: name.into(), versioning }])
    }

    pub(super) fn set_bucket_acl(&self, name: &str, acl: Acl) -> Result<(), Refusal> {
        let mut vault = self.vault();
        vault.state.bucket(name)?;
        self.commit(&mut vault, vec![Change::SetBucketAcl { bucket: name.into(), acl }])
    }

    /// Creates an object from a body that was received. Returns the version ID, unless the bucket never had versioning
    /// enabled.
    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        new: NewObject,
        condition: &Condition,
    ) -> Result<Option<String>, Refusal> {
        let body = new.body.clone();
        let mut vault = self.vault();
        let put = vault.state.allows(bucket, key, condition).and_then(|()| {
            let (change, id) = self.put_change(&vault.state, bucket, key, new)?;
            self.commit(&mut vault, vec![change])?;
            Ok(id)
        });
        drop(vault);
        if put.is_err() {
            self.discard(&body);
        }
        put
    }

    pub(super) fn put_change(
        &self,
        state: &State,
        bucket: &str,
        key: &str,
        new: NewObject,
    ) -> Result<(Change, Option<String>), Refusal> {
        let NewObject { size, etag, class, acl, tags, headers, body } = new;
        let object = Object { size, etag, class, acl, tags, body, restore: None, headers };
        let (id, told) = next_id(state.bucket(bucket)?.versioning);
        let version = Version { id, modified: self.now(), object: Some(object) };
        Ok((Change::Put { bucket: bucket.into(), key: key.into(), version }, told))
    }

    /// Looks up an object for reading.
    pub(super) fn look(&self, target: Target<'_>) -> Result<Seen, Refusal> {
        self.view(|state| state.seen(target))
    }

    /// Opens the content of an object. `decide` gets the object and returns the range of bytes to read.
    pub(super) fn read<E: From<Refusal>>(
        &self,
        target: Target<'_>,
        decide: impl FnOnce(&Seen) -> Result<Range<u64>, E>,
    ) -> Result<(Seen, Range<u64>, BodyReader), E> {
        // The file is opened under the lock, so that it cannot be removed before.
        let vault = self.vault();
        let seen = vault.state.seen(target)?;
        let range = decide(&seen)?;
        if !restore::readable(&seen.object, self.now()) {
            return Err(Refusal::Archived.into());
        }
        let reader = self.inner.bodies.read(&seen.object.body, range.clone()).map_err(Refusal::Storage)?;
        Ok((seen, range, reader))
    }

    /// Deletes a version permanently, or deletes the current one according to the bucket's versioning.
    pub(super) fn delete(&self, target: Target<'_>) -> Result<Deleted, Refusal> {
        let mut vault = self.vault();
        let bucket = vault.state.bucket(target.bucket)?;
        let versioning = bucket.versioning;
        let versions = bucket.keys.get(target.key).map_or(&[][..], |entry| entry.versions());
        let named = match (target.version, versioning) {
            (None, Versioning::Never) => Some("null"),
            (version, _) => version,
        };
        let Some(named) = named else {
            let (id, told) = next_id(versioning);
            let version = Version { id, modified: self.now(), object: None };
            let put = Change::Put { bucket: target.bucket.into(), key: target.key.into(), version };
            self.commit(&mut vault, vec![put])?;
            return Ok(Deleted { marker: true, id: told });
        };
        let told = target.version.map(str::to_owned);
        // A version that does not exist counts as deleted: AWS answers with success.
        let Some(version) = versions.iter().find(|version| version.id_str() == named) else {
            return Ok(Deleted { marker: false, id: told });
        };
        let marker = version.object.is_none();
        let place = target.place(version);
        self.commit(&mut vault, vec![Change::Remove { place }])?;
        Ok(Deleted { marker, id: told })
    }

    /// Modifies an object. Returns the version ID, unless the bucket never had versioning enabled.
    fn change(
        &self,
        target: Target<'_>,
        change: impl FnOnce(Place, &Object) -> Result<Change, Refusal>,
    ) -> Result<Option<String>, Refusal> {
        let mut vault = self.vault();
        let (version, object) = vault.state.find(target, Purpose::Write)?;
        let told = vault.state.told(target.bucket, version);
        let change = change(target.place(version), object)?;
        self.commit(&mut vault, vec![change])?;
        Ok(told)
    }

    pub(super) fn set_tags(&self, target: Target<'_>, tags: TagsRef) -> Result<Option<String>, Refusal> {
        self.change(target, |place, _| Ok(Change::SetTags { place, tags }))
    }

    pub(super) fn set_acl(&self, target: Target<'_>, acl: Acl) -> Result<Option<String>, Refusal> {
        self.change(target, |place, _| Ok(Change::SetAcl { place, acl }))
    }

    pub(super) fn restore(&self, target: Target<'_>, ask: Ask) -> Result<Begun, Refusal> {
        let mut vault = self.vault();
        let (version, object) = vault.state.find(target, Purpose::Write)?;
        let (restored, restore) = match restore::decide(object, ask, self.now(), self.inner.options.time_scale) {
            Decision::Accepted(restore) => (Restored::Accepted, restore),
            Decision::Extended(restore) => (Restored::Extended, restore),
            Decision::Refused(refusal) => return Err(refusal.into()),
        };
        let begun = Begun { restored, class: object.class, tier: restore.tier };
        let place = target.place(version);
        self.commit(&mut vault, vec![Change::SetRestore { place, restore }])?;
        Ok(begun)
    }
}

impl Vault {
    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

/// Returns the ID of a new version, and the ID to show in responses.
fn next_id(versioning: Versioning) -> (Option<Box<str>>, Option<String>) {
    match versioning {
        Versioning::Never => (None, None),
        Versioning::Suspended => (None, Some("null".to_owned())),
        Versioning::Enabled => {
            let id = random_id();
            (Some(id.clone()), Some(id.into()))
        }
    }
}

/// Returns 32 random letters, digits, dots, and underscores, as AWS does. The ID has no meaning.
pub(super) fn random_id() -> Box<str> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";
    (0..32).map(|_| char::from(ALPHABET[usize::from(fastrand::u8(..64))])).collect::<String>().into()
}

fn filled(fill: Option<&Path>, options: &SandboxOptions, bodies: &Bodies) -> Result<State, SandboxError> {
    let mut state = State::default();
    if let Some(path) = fill {
        fill::fill(&mut state, bodies, path, (options.clock)().into())?;
    }
    Ok(state)
}

/// Reads a log, and rewrites it if most of it is history.
fn replay(path: &Path) -> Result<(State, Log), SandboxError> {
    let io = |doing| move |source| SandboxError::Io { doing, path: path.to_owned(), source };
    let replayed = Log::open(path).map_err(|error| match error {
        LogError::Io(source) => io("read")(source),
        LogError::Damaged { at, what } => SandboxError::Damaged { path: path.to_owned(), at, what },
    })?;
    let live = replayed.state.weight();
    let log = if replayed.records > 2 * live + 10_000 {
        Log::replace(path, &replayed.state).map_err(io("write"))?
    } else {
        replayed.log
    };
    Ok((replayed.state, log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_mostly_history_is_written_anew_when_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Sandbox::open(dir.path(), None, SandboxOptions::default()).unwrap();
        let length = || fs::metadata(dir.path().join(LOG)).unwrap().len();
        let change = |times: usize| {
            let sandbox = open();
            let before = length();
            for _ in 0..times {
                sandbox.set_versioning("bucket", Versioning::Enabled).unwrap();
            }
            assert!(length() > before);
        };
        open().create_bucket("bucket").unwrap();
        change(9_000);
        let kept = length();
        open();
        assert_eq!(length(), kept, "history is borne up to a limit");
        change(1_100);
        open();
        assert!(length() < 1_000, "{}", length());
        let versioning = open().view_bucket("bucket", |bucket| bucket.versioning).unwrap();
        assert_eq!(versioning, Versioning::Enabled);
    }
}
