//! Looks up the object of a request and checks the request, independent of the dialect.

use std::io;

use super::model::{ObjectOwnership, StoredAcl, StoredObject, StoredVersion, UnixMillis, VersioningStatus};
use super::state::{SandboxState, StoredBucket, VersionRef};

/// Why a request is rejected, independent of the dialect.
#[derive(Debug)]
pub(super) enum SandboxRequestError {
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
    BucketExists,
    BucketNotEmpty,
    /// The content must be restored before it can be read.
    Archived,
    /// Objects of this storage class need no restore.
    NotArchived,
    RestoreOngoing,
    /// The storage class does not support this retrieval tier.
    NoSuchTier,
    /// The storage class has no retrieval tiers, but the request names one.
    TierNotAllowed,
    /// A restored copy in this storage class cannot be kept for this number of days.
    DaysOutOfRange,
    /// The object exists but must not, or it is not the expected one.
    PreconditionFailed,
    NoSuchUpload,
    InvalidPart,
    PartTooSmall,
    Storage(io::Error),
}

impl From<io::Error> for SandboxRequestError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}

/// The object that a request names.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestedObject<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// `None` is the current version.
    pub(super) version: Option<&'a str>,
}

/// The object that a lookup found.
#[derive(Clone, Debug)]
pub(super) struct FoundObject {
    /// The version ID, unless the bucket never had versioning enabled.
    pub(super) id: Option<String>,
    pub(super) modified: UnixMillis,
    pub(super) object: StoredObject,
    /// The ACL of the bucket, which applies to objects with [`StoredAcl::Default`].
    pub(super) bucket_acl: StoredAcl,
    /// Whether the bucket's owner owns all objects, so that ACLs have no effect.
    pub(super) acls_disabled: bool,
}

impl FoundObject {
    /// Returns the ACL in effect.
    pub(super) fn effective_acl(&self) -> StoredAcl {
        match self.object.acl {
            _ if self.acls_disabled => StoredAcl::Private,
            StoredAcl::Default => self.bucket_acl,
            own => own,
        }
    }
}

/// The condition on the current object under which a write is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WritePrecondition {
    Always,
    /// The object does not exist.
    Absent,
    /// The object exists and has this entity tag.
    Matches(String),
}

impl RequestedObject<'_> {
    pub(super) fn version_ref(&self, version: &StoredVersion) -> VersionRef {
        VersionRef { bucket: self.bucket.into(), key: self.key.into(), id: version.id.clone() }
    }
}

/// Whether a request reads or writes. For a read, a current delete marker means that the key does not exist. A write
/// rejects it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupPurpose {
    Read,
    Write,
}

impl SandboxState {
    pub(super) fn bucket(&self, name: &str) -> Result<&StoredBucket, SandboxRequestError> {
        self.buckets.get(name).ok_or(SandboxRequestError::NoSuchBucket)
    }

    pub(super) fn find_object(
        &self,
        target: RequestedObject<'_>,
        purpose: LookupPurpose,
    ) -> Result<(&StoredVersion, &StoredObject), SandboxRequestError> {
        let entry = self.bucket(target.bucket)?.keys.get(target.key);
        let is_marker = |version: &StoredVersion| SandboxRequestError::IsDeleteMarker {
            id: version.id_str().to_owned(),
            modified: version.modified,
        };
        if let Some(id) = target.version {
            let versions = entry.map_or(&[][..], |entry| entry.versions());
            let version =
                versions.iter().find(|version| version.id_str() == id).ok_or(SandboxRequestError::NoSuchVersion)?;
            let object = version.object.as_ref().ok_or_else(|| is_marker(version))?;
            return Ok((version, object));
        }
        let version = entry.and_then(|entry| entry.newest()).ok_or(SandboxRequestError::NoSuchKey)?;
        match (&version.object, purpose) {
            (Some(object), _) => Ok((version, object)),
            (None, LookupPurpose::Read) => {
                Err(SandboxRequestError::CurrentIsDeleteMarker { id: version.id_str().to_owned() })
            }
            (None, LookupPurpose::Write) => Err(is_marker(version)),
        }
    }

    pub(super) fn object_for_read(&self, target: RequestedObject<'_>) -> Result<FoundObject, SandboxRequestError> {
        let (version, object) = self.find_object(target, LookupPurpose::Read)?;
        let bucket = self.bucket(target.bucket)?;
        Ok(FoundObject {
            id: self.response_version_id(target.bucket, version),
            modified: version.modified,
            object: object.clone(),
            bucket_acl: bucket.acl,
            acls_disabled: bucket.ownership == ObjectOwnership::Enforced,
        })
    }

    /// Returns the version ID for a response, or `None` if the bucket never had versioning enabled.
    pub(super) fn response_version_id(&self, bucket: &str, version: &StoredVersion) -> Option<String> {
        let versioned = self.buckets.get(bucket).is_some_and(|bucket| bucket.versioning != VersioningStatus::Never);
        versioned.then(|| version.id_str().to_owned())
    }

    /// Checks the condition of a write.
    pub(super) fn check_precondition(
        &self,
        bucket: &str,
        key: &str,
        condition: &WritePrecondition,
    ) -> Result<(), SandboxRequestError> {
        let entry = self.bucket(bucket)?.keys.get(key);
        let current = entry.and_then(|entry| entry.newest()).and_then(|version| version.object.as_ref());
        match (condition, current) {
            (WritePrecondition::Always, _) | (WritePrecondition::Absent, None) => Ok(()),
            (WritePrecondition::Absent, Some(_)) => Err(SandboxRequestError::PreconditionFailed),
            (WritePrecondition::Matches(_), None) => Err(SandboxRequestError::NoSuchKey),
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
