//! The state: buckets, their keys in byte order, and the versions of each key. Requests look up their objects here.
//!
//! It is modified only by [`StateChange`]s, which the log contains as well. Replaying a log gives the same state again.

use std::collections::BTreeMap;
use std::io;
use std::mem;

use super::REGION;
use super::access::{AccessPolicy, AccessPool, CannedAcl, OwnerId, SharedAccess, StoredAcl};
use super::checksum::{ChecksumAlgorithm, ContentDetails, Digest, UploadChecksum};
use super::model::{
    LifecycleRule, ObjectBlob, ObjectOwnership, PendingUpload, StoredObject, StoredRestore, StoredVersion, UnixMillis,
    UploadedPart, VersioningStatus,
};
use super::restore::RestoreRejection;
use super::tags::{SharedTags, TagPool};

/// All buckets and multipart uploads.
#[derive(Debug, Default)]
pub(crate) struct SandboxState {
    pub(crate) buckets: BTreeMap<Box<str>, StoredBucket>,
    pub(crate) uploads: BTreeMap<Box<str>, PendingUpload>,
    tag_pool: TagPool,
    access_pool: AccessPool,
}

#[derive(Debug)]
pub(crate) struct StoredBucket {
    pub(crate) created: UnixMillis,
    pub(crate) versioning: VersioningStatus,
    /// The ACL also applies to objects with [`CannedAcl::Default`].
    pub(crate) access: SharedAccess,
    pub(crate) ownership: ObjectOwnership,
    pub(crate) lifecycle: Vec<LifecycleRule>,
    /// The region of the bucket, unless it is the default one.
    pub(crate) location: Option<Box<str>>,
    pub(crate) keys: BTreeMap<Box<str>, KeyVersions>,
}

impl StoredBucket {
    /// Creates a bucket without keys and with the default settings.
    pub(crate) fn new(created: UnixMillis, owner: OwnerId) -> Self {
        Self {
            created,
            versioning: VersioningStatus::Never,
            access: SharedAccess::new(owner, StoredAcl::PRIVATE),
            ownership: ObjectOwnership::NotSet,
            lifecycle: Vec::new(),
            location: None,
            keys: BTreeMap::new(),
        }
    }

    /// Returns the region of the bucket.
    pub(crate) fn region(&self) -> &str {
        self.location.as_deref().unwrap_or(REGION)
    }

    /// Returns the changes that turn the default settings into the settings of this bucket.
    fn setting_changes(&self, name: &str) -> impl Iterator<Item = StateChange> {
        let bucket: Box<str> = name.into();
        let versioning = (self.versioning != VersioningStatus::Never)
            .then(|| StateChange::SetVersioning { bucket: bucket.clone(), versioning: self.versioning });
        let acl = (self.access.acl != StoredAcl::PRIVATE)
            .then(|| StateChange::SetBucketAcl { bucket: bucket.clone(), acl: self.access.acl.clone() });
        let ownership = (self.ownership != ObjectOwnership::NotSet)
            .then(|| StateChange::SetOwnership { bucket: bucket.clone(), ownership: self.ownership });
        let lifecycle = (!self.lifecycle.is_empty())
            .then(|| StateChange::SetLifecycle { bucket: bucket.clone(), rules: self.lifecycle.clone() });
        let location =
            self.location.clone().map(|location| StateChange::SetLocation { bucket: bucket.clone(), location });
        [versioning, acl, ownership, lifecycle, location].into_iter().flatten()
    }

    /// Returns whether the bucket's owner owns all objects, so that ACLs have no effect.
    pub(crate) fn acls_disabled(&self) -> bool {
        self.ownership == ObjectOwnership::Enforced
    }

    /// Returns the owner and the ACL of this bucket that are in effect.
    pub(crate) fn effective_access(&self) -> AccessPolicy {
        if self.acls_disabled() {
            AccessPolicy { owner: self.access.owner, acl: StoredAcl::PRIVATE }
        } else {
            (*self.access).clone()
        }
    }

    /// Returns the owner and the ACL of one of this bucket's objects that are in effect.
    pub(crate) fn effective_object_access(&self, access: &AccessPolicy) -> AccessPolicy {
        if self.acls_disabled() {
            return self.effective_access();
        }
        let is_inherited = access.acl == StoredAcl::Canned(CannedAcl::Default);
        let acl = if is_inherited { &self.access.acl } else { &access.acl };
        AccessPolicy { owner: access.owner, acl: acl.clone() }
    }

    /// Returns the owner that is shown for one of this bucket's objects.
    pub(crate) fn object_owner(&self, object: &StoredObject) -> OwnerId {
        if self.acls_disabled() { self.access.owner } else { object.access.owner }
    }
}

/// The versions of one key. Nearly every key has just one version, which therefore needs no list.
#[derive(Debug)]
pub(crate) enum KeyVersions {
    /// The only version.
    One(StoredVersion),
    /// Several versions, the newest last.
    Many(Vec<StoredVersion>),
}

impl KeyVersions {
    /// Returns the versions, the newest last. There is always at least one.
    pub(crate) fn versions(&self) -> &[StoredVersion] {
        match self {
            Self::One(version) => std::slice::from_ref(version),
            Self::Many(versions) => versions,
        }
    }

    /// Returns the current version, which can be a delete marker.
    pub(crate) fn newest(&self) -> Option<&StoredVersion> {
        self.versions().last()
    }

    fn find_mut(&mut self, id: Option<&str>) -> Option<&mut StoredVersion> {
        match self {
            Self::One(version) => Some(version).filter(|version| version.id.as_deref() == id),
            Self::Many(versions) => versions.iter_mut().find(|version| version.id.as_deref() == id),
        }
    }

    fn into_versions(self) -> Vec<StoredVersion> {
        match self {
            Self::One(version) => vec![version],
            Self::Many(versions) => versions,
        }
    }

    fn from_versions(mut versions: Vec<StoredVersion>) -> Option<Self> {
        match versions.len() {
            0 => None,
            1 => versions.pop().map(Self::One),
            _ => Some(Self::Many(versions)),
        }
    }
}

/// Identifies one version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRef {
    pub(crate) bucket: Box<str>,
    pub(crate) key: Box<str>,
    /// `None` is the `null` version.
    pub(crate) id: Option<Box<str>>,
}

/// A change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateChange {
    /// Creates a bucket.
    CreateBucket { bucket: Box<str>, created: UnixMillis, owner: OwnerId },
    /// Deletes an empty bucket.
    DeleteBucket { bucket: Box<str> },
    /// Changes the versioning of a bucket.
    SetVersioning { bucket: Box<str>, versioning: VersioningStatus },
    /// Replaces the ACL of a bucket.
    SetBucketAcl { bucket: Box<str>, acl: StoredAcl },
    /// Changes who owns the objects of a bucket.
    SetOwnership { bucket: Box<str>, ownership: ObjectOwnership },
    /// Replaces the lifecycle of a bucket. An empty list removes it.
    SetLifecycle { bucket: Box<str>, rules: Vec<LifecycleRule> },
    /// Sets the region of a bucket.
    SetLocation { bucket: Box<str>, location: Box<str> },
    /// Writes a version or a delete marker. A `null` version replaces the earlier `null` version.
    Put { bucket: Box<str>, key: Box<str>, version: StoredVersion },
    /// Replaces the tags of a version.
    SetTags { target: VersionRef, tags: SharedTags },
    /// Replaces the ACL of a version.
    SetAcl { target: VersionRef, acl: StoredAcl },
    /// Starts a restore, or changes its expiry date.
    SetRestore { target: VersionRef, restore: StoredRestore },
    /// Adds the checksum and the parts of a version that was just written.
    SetDetails { target: VersionRef, details: ContentDetails },
    /// Removes a version permanently.
    Remove { target: VersionRef },
    /// Starts a multipart upload.
    CreateUpload { id: Box<str>, upload: PendingUpload },
    /// Stores a part. It replaces an earlier part with the same number.
    PutPart { id: Box<str>, number: u16, part: UploadedPart },
    /// Sets the checksum that a multipart upload is to have.
    SetUploadChecksum { id: Box<str>, checksum: UploadChecksum },
    /// Adds the checksum of a part that was just stored.
    SetPartDigest { id: Box<str>, number: u16, digest: Digest },
    /// Removes a multipart upload that is complete or aborted.
    DropUpload { id: Box<str> },
}

/// A change that does not fit the state, because the log is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateChangeError(pub(crate) &'static str);

const NO_BUCKET: StateChangeError = StateChangeError("the record refers to a missing bucket");
const NO_VERSION: StateChangeError = StateChangeError("the record refers to a missing object version");
const NO_UPLOAD: StateChangeError = StateChangeError("the record refers to a missing multipart upload");

impl SandboxState {
    /// Applies a change. Returns the blob files that are no longer used.
    ///
    /// # Errors
    /// Returns an error if the change does not fit the state. The state is then unchanged.
    pub(crate) fn apply(&mut self, change: StateChange) -> Result<Vec<u64>, StateChangeError> {
        match change {
            StateChange::CreateBucket { bucket, created, owner } => {
                self.buckets.insert(bucket, StoredBucket::new(created, owner));
                Ok(Vec::new())
            }
            StateChange::DeleteBucket { bucket } => self.delete_bucket(&bucket),
            StateChange::SetVersioning { bucket, versioning } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.versioning = versioning;
                Ok(Vec::new())
            }
            StateChange::SetBucketAcl { bucket, acl } => {
                let access = &mut self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.access;
                *access = SharedAccess::new(access.owner, acl);
                Ok(Vec::new())
            }
            StateChange::SetOwnership { bucket, ownership } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.ownership = ownership;
                Ok(Vec::new())
            }
            StateChange::SetLifecycle { bucket, rules } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.lifecycle = rules;
                Ok(Vec::new())
            }
            StateChange::SetLocation { bucket, location } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.location = Some(location);
                Ok(Vec::new())
            }
            StateChange::Put { bucket, key, mut version } => {
                self.share_values(&mut version);
                self.put(&bucket, key, version)
            }
            StateChange::SetTags { target, tags } => {
                let tags = self.tag_pool.share(tags);
                self.object_mut(&target)?.tags = tags;
                Ok(Vec::new())
            }
            StateChange::SetAcl { target, acl } => {
                let owner = self.object_mut(&target)?.access.owner;
                let access = self.access_pool.share(SharedAccess::new(owner, acl));
                self.object_mut(&target)?.access = access;
                Ok(Vec::new())
            }
            StateChange::SetRestore { target, restore } => {
                self.object_mut(&target)?.restore = Some(Box::new(restore));
                Ok(Vec::new())
            }
            StateChange::SetDetails { target, details } => {
                self.object_mut(&target)?.details = Some(Box::new(details));
                Ok(Vec::new())
            }
            StateChange::Remove { target } => self.remove(&target),
            StateChange::CreateUpload { .. }
            | StateChange::PutPart { .. }
            | StateChange::SetUploadChecksum { .. }
            | StateChange::SetPartDigest { .. }
            | StateChange::DropUpload { .. } => self.apply_upload_change(change),
        }
    }

    /// Applies a change of a multipart upload. Other changes are in [`Self::apply`].
    fn apply_upload_change(&mut self, change: StateChange) -> Result<Vec<u64>, StateChangeError> {
        match change {
            StateChange::CreateUpload { id, mut upload } => {
                upload.tags = self.tag_pool.share(mem::take(&mut upload.tags));
                upload.access = self.access_pool.share(upload.access);
                self.uploads.insert(id, upload);
                Ok(Vec::new())
            }
            StateChange::PutPart { id, number, part } => {
                let upload = self.uploads.get_mut(&id).ok_or(NO_UPLOAD)?;
                Ok(upload.parts.insert(number, part).and_then(|old| old.body.file_number()).into_iter().collect())
            }
            StateChange::SetUploadChecksum { id, checksum } => {
                self.uploads.get_mut(&id).ok_or(NO_UPLOAD)?.checksum = Some(checksum);
                Ok(Vec::new())
            }
            StateChange::SetPartDigest { id, number, digest } => {
                let upload = self.uploads.get_mut(&id).ok_or(NO_UPLOAD)?;
                upload.parts.get_mut(&number).ok_or(NO_UPLOAD)?.digest = Some(digest);
                Ok(Vec::new())
            }
            StateChange::DropUpload { id } => self.drop_upload(&id),
            _ => Ok(Vec::new()),
        }
    }

    /// Inserts a version by its modification time instead of as the newest one, because a seed file can list versions
    /// in any order.
    ///
    /// # Errors
    /// Returns an error if the bucket does not exist, or the key already has a version with this ID.
    pub(crate) fn insert_by_time(
        &mut self,
        bucket: &str,
        key: &str,
        mut version: StoredVersion,
    ) -> Result<(), StateChangeError> {
        self.share_values(&mut version);
        let keys = &mut self.buckets.get_mut(bucket).ok_or(NO_BUCKET)?.keys;
        let Some(entry) = keys.get_mut(key) else {
            keys.insert(key.into(), KeyVersions::One(version));
            return Ok(());
        };
        if entry.find_mut(version.id.as_deref()).is_some() {
            return Err(StateChangeError("the object version exists already"));
        }
        let mut versions = mem::replace(entry, KeyVersions::Many(Vec::new())).into_versions();
        let at = versions.partition_point(|other| other.modified <= version.modified);
        versions.insert(at, version);
        *entry = KeyVersions::Many(versions);
        Ok(())
    }

    /// Replaces the values that many objects have by shared ones.
    fn share_values(&mut self, version: &mut StoredVersion) {
        if let Some(object) = &mut version.object {
            object.tags = self.tag_pool.share(mem::take(&mut object.tags));
            object.access = self.access_pool.share(object.access.clone());
        }
    }

    fn delete_bucket(&mut self, name: &str) -> Result<Vec<u64>, StateChangeError> {
        let removed = self.buckets.remove(name).ok_or(NO_BUCKET)?;
        let versions = removed.keys.into_values().flat_map(KeyVersions::into_versions);
        let mut files: Vec<u64> = versions.filter_map(|version| blob_file(&version)).collect();
        let ids: Vec<_> =
            self.uploads.iter().filter(|(_, upload)| *upload.bucket == *name).map(|(id, _)| id.clone()).collect();
        for id in ids {
            files.extend(self.drop_upload(&id)?);
        }
        Ok(files)
    }

    fn put(&mut self, bucket: &str, key: Box<str>, version: StoredVersion) -> Result<Vec<u64>, StateChangeError> {
        let keys = &mut self.buckets.get_mut(bucket).ok_or(NO_BUCKET)?.keys;
        let Some(entry) = keys.get_mut(&key) else {
            keys.insert(key, KeyVersions::One(version));
            return Ok(Vec::new());
        };
        if let KeyVersions::One(old) = entry
            && old.id == version.id
        {
            let old = mem::replace(old, version);
            return Ok(blob_file(&old).into_iter().collect());
        }
        let mut versions = mem::replace(entry, KeyVersions::Many(Vec::new())).into_versions();
        let replaced = versions.iter().position(|old| old.id == version.id).map(|at| versions.remove(at));
        versions.push(version);
        *entry = KeyVersions::Many(versions);
        Ok(replaced.and_then(|old| blob_file(&old)).into_iter().collect())
    }

    fn remove(&mut self, target: &VersionRef) -> Result<Vec<u64>, StateChangeError> {
        let keys = &mut self.buckets.get_mut(&target.bucket).ok_or(NO_BUCKET)?.keys;
        let entry = keys.get_mut(&target.key).ok_or(NO_VERSION)?;
        let at = entry.versions().iter().position(|version| version.id == target.id).ok_or(NO_VERSION)?;
        let mut versions = mem::replace(entry, KeyVersions::Many(Vec::new())).into_versions();
        let removed = versions.remove(at);
        match KeyVersions::from_versions(versions) {
            Some(rest) => *entry = rest,
            None => {
                keys.remove(&target.key);
            }
        }
        Ok(blob_file(&removed).into_iter().collect())
    }

    fn object_mut(&mut self, target: &VersionRef) -> Result<&mut StoredObject, StateChangeError> {
        let keys = &mut self.buckets.get_mut(&target.bucket).ok_or(NO_BUCKET)?.keys;
        let entry = keys.get_mut(&target.key).ok_or(NO_VERSION)?;
        let version = entry.find_mut(target.id.as_deref()).ok_or(NO_VERSION)?;
        version.object.as_mut().ok_or(NO_VERSION)
    }

    fn drop_upload(&mut self, id: &str) -> Result<Vec<u64>, StateChangeError> {
        let upload = self.uploads.remove(id).ok_or(NO_UPLOAD)?;
        Ok(upload.parts.into_values().filter_map(|part| part.body.file_number()).collect())
    }

    /// Returns the changes that create this state from an empty one. A new log consists of them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = StateChange> + '_ {
        let buckets = self.buckets.iter().flat_map(|(name, bucket)| {
            let (bucket_name, owner) = (name.clone(), bucket.access.owner);
            let created = StateChange::CreateBucket { bucket: bucket_name, created: bucket.created, owner };
            let puts = bucket.keys.iter().flat_map(move |(key, entry)| {
                entry.versions().iter().flat_map(move |version| put_changes(name, key, version.clone()))
            });
            std::iter::once(created).chain(bucket.setting_changes(name)).chain(puts)
        });
        let uploads = self.uploads.iter().flat_map(|(id, upload)| upload_changes(id, upload.clone()));
        buckets.chain(uploads)
    }

    /// Returns the approximate number of [`Self::changes`].
    pub(crate) fn approximate_change_count(&self) -> u64 {
        let entries = self.buckets.values().flat_map(|bucket| bucket.keys.values());
        let versions = entries.flat_map(KeyVersions::versions);
        let has_details = |version: &StoredVersion| version.object.as_ref().is_some_and(|it| it.details.is_some());
        let puts: usize = versions.map(|version| 1 + usize::from(has_details(version))).sum();
        (puts + self.buckets.len() + self.uploads.len()) as u64
    }

    /// Returns the blob files that are in use.
    pub(crate) fn blob_files(&self) -> impl Iterator<Item = u64> + '_ {
        let entries = self.buckets.values().flat_map(|bucket| bucket.keys.values());
        let versions = entries.flat_map(KeyVersions::versions).filter_map(blob_file);
        let parts = self.uploads.values().flat_map(|upload| upload.parts.values());
        versions.chain(parts.filter_map(|part| part.body.file_number()))
    }
}

/// Returns the changes that write a version. Its checksum and parts are a change of their own, because logs of earlier
/// releases have none.
pub(crate) fn put_changes(
    bucket: &str,
    key: &str,
    mut version: StoredVersion,
) -> impl Iterator<Item = StateChange> + use<> {
    let details = version.object.as_mut().and_then(|object| object.details.take());
    let target = VersionRef { bucket: bucket.into(), key: key.into(), id: version.id.clone() };
    let set_details = details.map(|details| StateChange::SetDetails { target, details: *details });
    let put = StateChange::Put { bucket: bucket.into(), key: key.into(), version };
    std::iter::once(put).chain(set_details)
}

/// Returns the changes that create a multipart upload with its parts. Checksums are changes of their own, because logs
/// of earlier releases have none.
pub(crate) fn upload_changes(id: &str, mut upload: PendingUpload) -> impl Iterator<Item = StateChange> + use<> {
    let checksum = upload.checksum.take();
    let mut changes = Vec::new();
    changes.extend(checksum.map(|checksum| StateChange::SetUploadChecksum { id: id.into(), checksum }));
    for (number, part) in &mut upload.parts {
        let digest = part.digest.take();
        changes.extend(digest.map(|digest| StateChange::SetPartDigest { id: id.into(), number: *number, digest }));
    }
    std::iter::once(StateChange::CreateUpload { id: id.into(), upload }).chain(changes)
}

/// Returns the changes that store a part.
pub(crate) fn part_changes(id: &str, number: u16, mut part: UploadedPart) -> impl Iterator<Item = StateChange> + use<> {
    let digest = part.digest.take();
    let set_digest = digest.map(|digest| StateChange::SetPartDigest { id: id.into(), number, digest });
    std::iter::once(StateChange::PutPart { id: id.into(), number, part }).chain(set_digest)
}

fn blob_file(version: &StoredVersion) -> Option<u64> {
    version.object.as_ref().map(|object| &object.body).and_then(ObjectBlob::file_number)
}

/// Why a request is rejected, independent of the dialect.
#[derive(Debug)]
pub(crate) enum SandboxRequestError {
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    /// The current version of the key is a delete marker.
    CurrentIsDeleteMarker {
        id: String,
    },
    /// The requested version is a delete marker, or the current version of a write is one.
    IsDeleteMarker {
        id: String,
        modified: UnixMillis,
    },
    /// The requester already owns the bucket.
    BucketExists,
    /// The bucket belongs to another owner.
    BucketNameTaken,
    /// The bucket's or the object's owner has not granted this to the requester.
    AccessDenied,
    BucketNotEmpty,
    /// The content must be restored before it can be read.
    Archived,
    RestoreRejected(RestoreRejection),
    /// The object exists but must not, or it is not the expected one.
    PreconditionFailed,
    /// The object was deleted while a conditional write of it was in progress.
    ConditionalConflict,
    NoSuchUpload,
    InvalidPart,
    PartTooSmall,
    /// A multipart upload was started with a checksum algorithm, and the list of its parts lacks the checksum of this
    /// part.
    PartChecksumMissing(ChecksumAlgorithm, u16),
    /// The object that consists of the parts does not have the expected checksum.
    ChecksumMismatch(ChecksumAlgorithm),
    /// The object that consists of the parts does not have the expected size.
    SizeMismatch {
        expected: u64,
        actual: u64,
    },
    Storage(io::Error),
}

impl From<io::Error> for SandboxRequestError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}

/// The object that a request names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedObject<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// `None` is the current version.
    pub(crate) version: Option<&'a str>,
}

/// The object that a lookup found.
#[derive(Clone, Debug)]
pub(crate) struct FoundObject {
    /// The version ID, unless the bucket never had versioning enabled.
    pub(crate) id: Option<String>,
    pub(crate) modified: UnixMillis,
    pub(crate) object: StoredObject,
}

/// The condition on the current object under which a write is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WritePrecondition {
    Always,
    /// The object does not exist.
    Absent,
    /// The object exists.
    Exists,
    /// The object exists and has this entity tag.
    Matches(String),
}

impl WritePrecondition {
    /// Converts the error of a write whose condition was met when its request arrived. If the object is gone since
    /// then, the write conflicts with the deletion.
    pub(crate) fn late_error(&self, error: SandboxRequestError) -> SandboxRequestError {
        match (self, error) {
            (Self::Matches(_) | Self::Exists, SandboxRequestError::NoSuchKey) => {
                SandboxRequestError::ConditionalConflict
            }
            (_, error) => error,
        }
    }
}

impl RequestedObject<'_> {
    pub(crate) fn version_ref(&self, version: &StoredVersion) -> VersionRef {
        VersionRef { bucket: self.bucket.into(), key: self.key.into(), id: version.id.clone() }
    }
}

/// Whether a request reads or writes. For a read, a current delete marker means that the key does not exist. A write
/// rejects it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupPurpose {
    Read,
    Write,
}

impl SandboxState {
    pub(crate) fn bucket(&self, name: &str) -> Result<&StoredBucket, SandboxRequestError> {
        self.buckets.get(name).ok_or(SandboxRequestError::NoSuchBucket)
    }

    pub(crate) fn find_object(
        &self,
        target: RequestedObject<'_>,
        purpose: LookupPurpose,
    ) -> Result<(&StoredVersion, &StoredObject), SandboxRequestError> {
        let entry = self.bucket(target.bucket)?.keys.get(target.key);
        let delete_marker_error = |version: &StoredVersion| SandboxRequestError::IsDeleteMarker {
            id: version.id_str().to_owned(),
            modified: version.modified,
        };
        if let Some(id) = target.version {
            let versions = entry.map_or(&[][..], |entry| entry.versions());
            let version =
                versions.iter().find(|version| version.id_str() == id).ok_or(SandboxRequestError::NoSuchVersion)?;
            let object = version.object.as_ref().ok_or_else(|| delete_marker_error(version))?;
            return Ok((version, object));
        }
        let version = entry.and_then(|entry| entry.newest()).ok_or(SandboxRequestError::NoSuchKey)?;
        match (&version.object, purpose) {
            (Some(object), _) => Ok((version, object)),
            (None, LookupPurpose::Read) => {
                Err(SandboxRequestError::CurrentIsDeleteMarker { id: version.id_str().to_owned() })
            }
            (None, LookupPurpose::Write) => Err(delete_marker_error(version)),
        }
    }

    pub(crate) fn object_for_read(&self, target: RequestedObject<'_>) -> Result<FoundObject, SandboxRequestError> {
        let (version, object) = self.find_object(target, LookupPurpose::Read)?;
        Ok(FoundObject {
            id: self.response_version_id(target.bucket, version),
            modified: version.modified,
            object: object.clone(),
        })
    }

    /// Returns the version ID for a response, or `None` if the bucket never had versioning enabled.
    pub(crate) fn response_version_id(&self, bucket: &str, version: &StoredVersion) -> Option<String> {
        let versioned = self.buckets.get(bucket).is_some_and(|bucket| bucket.versioning != VersioningStatus::Never);
        versioned.then(|| version.id_str().to_owned())
    }

    /// Checks the condition of a write.
    pub(crate) fn check_precondition(
        &self,
        bucket: &str,
        key: &str,
        condition: &WritePrecondition,
    ) -> Result<(), SandboxRequestError> {
        let entry = self.bucket(bucket)?.keys.get(key);
        let current = entry.and_then(|entry| entry.newest()).and_then(|version| version.object.as_ref());
        match (condition, current) {
            (WritePrecondition::Always, _)
            | (WritePrecondition::Absent, None)
            | (WritePrecondition::Exists, Some(_)) => Ok(()),
            (WritePrecondition::Absent, Some(_)) => Err(SandboxRequestError::PreconditionFailed),
            (WritePrecondition::Matches(_) | WritePrecondition::Exists, None) => Err(SandboxRequestError::NoSuchKey),
            (WritePrecondition::Matches(etag), Some(object)) => {
                if object.etag.to_string() == *etag {
                    Ok(())
                } else {
                    Err(SandboxRequestError::PreconditionFailed)
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::checksum::ChecksumType;
    use crate::model::{ETag, ObjectStorageClass};

    pub(crate) fn object(body: ObjectBlob) -> StoredObject {
        StoredObject {
            size: 3,
            etag: ETag::of_content([7; 16]),
            class: ObjectStorageClass::Standard,
            access: SharedAccess::private(),
            tags: SharedTags::default(),
            body,
            restore: None,
            headers: None,
            details: None,
        }
    }

    pub(crate) fn version(id: Option<&str>, modified: i64, body: ObjectBlob) -> StoredVersion {
        StoredVersion { id: id.map(Into::into), modified: UnixMillis(modified), object: Some(object(body)) }
    }

    fn upload(checksum: UploadChecksum) -> PendingUpload {
        let part = UploadedPart {
            size: 1,
            md5: [1; 16],
            modified: UnixMillis(1),
            body: ObjectBlob::Zeros,
            digest: Some([1, 2, 3, 4].into()),
        };
        PendingUpload {
            bucket: "b".into(),
            key: "k".into(),
            initiated: UnixMillis(1),
            initiator: OwnerId::FIRST,
            class: ObjectStorageClass::Standard,
            access: SharedAccess::private(),
            tags: SharedTags::default(),
            headers: None,
            checksum: Some(checksum),
            parts: [(1, part)].into(),
        }
    }

    fn put(state: &mut SandboxState, key: &str, version: StoredVersion) -> Vec<u64> {
        state.apply(StateChange::Put { bucket: "b".into(), key: key.into(), version }).unwrap()
    }

    fn with_bucket() -> SandboxState {
        let mut state = SandboxState::default();
        let owner = OwnerId::FIRST;
        state.apply(StateChange::CreateBucket { bucket: "b".into(), created: UnixMillis(1), owner }).unwrap();
        state
    }

    fn ids(state: &SandboxState, key: &str) -> Vec<String> {
        state.buckets["b"].keys[key].versions().iter().map(|version| version.id_str().to_owned()).collect()
    }

    #[test]
    fn a_null_version_replaces_the_null_version_and_becomes_current() {
        let mut state = with_bucket();
        assert!(put(&mut state, "k", version(None, 1, ObjectBlob::File(1))).is_empty());
        assert_eq!(put(&mut state, "k", version(None, 2, ObjectBlob::File(2))), [1]);
        put(&mut state, "k", version(Some("v1"), 3, ObjectBlob::Zeros));
        assert_eq!(ids(&state, "k"), ["null", "v1"]);
        assert_eq!(put(&mut state, "k", version(None, 4, ObjectBlob::Zeros)), [2]);
        assert_eq!(ids(&state, "k"), ["v1", "null"]);
    }

    #[test]
    fn removing_versions_frees_their_files_and_in_the_end_the_key() {
        let mut state = with_bucket();
        put(&mut state, "k", version(Some("v1"), 1, ObjectBlob::File(1)));
        put(&mut state, "k", version(Some("v2"), 2, ObjectBlob::File(2)));
        let target = |id: &str| VersionRef { bucket: "b".into(), key: "k".into(), id: Some(id.into()) };
        assert_eq!(state.apply(StateChange::Remove { target: target("v2") }).unwrap(), [2]);
        assert_eq!(state.apply(StateChange::Remove { target: target("v2") }), Err(NO_VERSION));
        assert_eq!(state.apply(StateChange::Remove { target: target("v1") }).unwrap(), [1]);
        assert!(state.buckets["b"].keys.is_empty());
    }

    #[test]
    fn orders_seeded_versions_by_age() {
        let mut state = with_bucket();
        for (id, modified) in [("new", 30), ("old", 10), ("mid", 20)] {
            state.insert_by_time("b", "k", version(Some(id), modified, ObjectBlob::Zeros)).unwrap();
        }
        assert_eq!(ids(&state, "k"), ["old", "mid", "new"]);
        assert!(state.insert_by_time("b", "k", version(Some("mid"), 5, ObjectBlob::Zeros)).is_err());
    }

    #[test]
    fn the_changes_of_a_state_make_it_again() {
        let mut state = with_bucket();
        state.apply(StateChange::SetVersioning { bucket: "b".into(), versioning: VersioningStatus::Enabled }).unwrap();
        state
            .apply(StateChange::SetBucketAcl { bucket: "b".into(), acl: StoredAcl::Canned(CannedAcl::PublicRead) })
            .unwrap();
        put(&mut state, "k", version(Some("v1"), 1, ObjectBlob::Inline((*b"abc").into())));
        put(&mut state, "k", StoredVersion { id: Some("v2".into()), modified: UnixMillis(2), object: None });
        put(&mut state, "j", version(None, 1, ObjectBlob::File(9)));
        let target = VersionRef { bucket: "b".into(), key: "k".into(), id: Some("v1".into()) };
        let details = ContentDetails::default();
        state.apply(StateChange::SetDetails { target, details }).unwrap();
        let checksum = UploadChecksum { algorithm: ChecksumAlgorithm::Crc32, checksum_type: ChecksumType::Composite };
        for change in upload_changes("u", upload(checksum)) {
            state.apply(change).unwrap();
        }
        let changes: Vec<StateChange> = state.changes().collect();
        let mut again = SandboxState::default();
        for change in changes.clone() {
            again.apply(change).unwrap();
        }
        assert_eq!(again.changes().collect::<Vec<_>>(), changes);
        assert_eq!(again.blob_files().collect::<Vec<_>>(), [9]);
    }
}
