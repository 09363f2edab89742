//! Looks up the object of a request and checks the request, independent of the dialect.

use std::io;

use super::model::{Acl, Millis, Object, Ownership, Version, Versioning};
use super::state::{Bucket, Place, State};

/// Why a request is rejected, independent of the dialect.
#[derive(Debug)]
pub(super) enum Refusal {
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    /// The current version of the key is a delete marker.
    CurrentIsMarker {
        id: String,
    },
    /// The requested version is a delete marker, or the current version of a write is one.
    IsMarker {
        id: String,
        modified: Millis,
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
    NoTiers,
    /// A restored copy in this storage class cannot be kept for this number of days.
    DaysOutOfRange,
    /// The object exists but must not, or it is not the expected one.
    Precondition,
    NoSuchUpload,
    InvalidPart,
    PartTooSmall,
    Storage(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}

/// The object that a request names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// `None` is the current version.
    pub(super) version: Option<&'a str>,
}

/// The object that a lookup found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The version ID, unless the bucket never had versioning enabled.
    pub(super) id: Option<String>,
    pub(super) modified: Millis,
    pub(super) object: Object,
    /// The ACL of the bucket, which applies to objects with [`Acl::Default`].
    pub(super) bucket_acl: Acl,
    /// Whether the bucket's owner owns all objects, so that ACLs have no effect.
    pub(super) enforced: bool,
}

impl Seen {
    /// Returns the ACL in effect.
    pub(super) fn acl(&self) -> Acl {
        match self.object.acl {
            _ if self.enforced => Acl::Private,
            Acl::Default => self.bucket_acl,
            own => own,
        }
    }
}

/// The condition on the current object under which a write is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// The object does not exist.
    Absent,
    /// The object exists and has this entity tag.
    Matches(String),
}

impl Target<'_> {
    pub(super) fn place(&self, version: &Version) -> Place {
        Place { bucket: self.bucket.into(), key: self.key.into(), id: version.id.clone() }
    }
}

/// Whether a request reads or writes. For a read, a current delete marker means that the key does not exist. A write
/// rejects it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

impl State {
    pub(super) fn bucket(&self, name: &str) -> Result<&Bucket, Refusal> {
        self.buckets.get(name).ok_or(Refusal::NoSuchBucket)
    }

    pub(super) fn find(&self, target: Target<'_>, purpose: Purpose) -> Result<(&Version, &Object), Refusal> {
        let entry = self.bucket(target.bucket)?.keys.get(target.key);
        let is_marker =
            |version: &Version| Refusal::IsMarker { id: version.id_str().to_owned(), modified: version.modified };
        if let Some(id) = target.version {
            let versions = entry.map_or(&[][..], |entry| entry.versions());
            let version = versions.iter().find(|version| version.id_str() == id).ok_or(Refusal::NoSuchVersion)?;
            let object = version.object.as_ref().ok_or_else(|| is_marker(version))?;
            return Ok((version, object));
        }
        let version = entry.and_then(|entry| entry.newest()).ok_or(Refusal::NoSuchKey)?;
        match (&version.object, purpose) {
            (Some(object), _) => Ok((version, object)),
            (None, Purpose::Read) => Err(Refusal::CurrentIsMarker { id: version.id_str().to_owned() }),
            (None, Purpose::Write) => Err(is_marker(version)),
        }
    }

    pub(super) fn seen(&self, target: Target<'_>) -> Result<Seen, Refusal> {
        let (version, object) = self.find(target, Purpose::Read)?;
        let bucket = self.bucket(target.bucket)?;
        Ok(Seen {
            id: self.told(target.bucket, version),
            modified: version.modified,
            object: object.clone(),
            bucket_acl: bucket.acl,
            enforced: bucket.ownership == Ownership::Enforced,
        })
    }

    /// Returns the version ID for a response, or `None` if the bucket never had versioning enabled.
    pub(super) fn told(&self, bucket: &str, version: &Version) -> Option<String> {
        let versioned = self.buckets.get(bucket).is_some_and(|bucket| bucket.versioning != Versioning::Never);
        versioned.then(|| version.id_str().to_owned())
    }

    /// Checks the condition of a write.
    pub(super) fn allows(&self, bucket: &str, key: &str, condition: &Condition) -> Result<(), Refusal> {
        let entry = self.bucket(bucket)?.keys.get(key);
        let current = entry.and_then(|entry| entry.newest()).and_then(|version| version.object.as_ref());
        match (condition, current) {
            (Condition::Always, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Absent, Some(_)) => Err(Refusal::Precondition),
            (Condition::Matches(_), None) => Err(Refusal::NoSuchKey),
            (Condition::Matches(etag), Some(object)) => {
                if object.etag.to_string() == *etag {
                    Ok(())
                } else {
                    Err(Refusal::Precondition)
                }
            }
        }
    }
}
