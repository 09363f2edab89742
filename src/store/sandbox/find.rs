//! Finding what a request is about, and what there is to refuse about it. No dialect is spoken here.

use std::io;

use super::model::{Acl, Millis, Object, Ownership, Version, Versioning};
use super::state::{Bucket, Place, State};

/// Why something asked for is not done, whatever the dialect calls it.
#[derive(Debug)]
pub(super) enum Refusal {
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    /// The key's current version is a delete marker.
    CurrentIsMarker {
        id: String,
    },
    /// The version that was asked for is a delete marker, or a write met a current one.
    IsMarker {
        id: String,
        modified: Millis,
    },
    BucketExists,
    BucketNotEmpty,
    /// The content must be restored first.
    Archived,
    /// The class needs no restore.
    NotArchived,
    RestoreOngoing,
    /// The class has no such tier.
    NoSuchTier,
    /// The class is restored in one way, and the request names a tier.
    NoTiers,
    /// A restored copy of the class does not stay for so many days.
    DaysOutOfRange,
    /// An object is there, or another one than the request wants.
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

/// Which object a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// `None` is the current version.
    pub(super) version: Option<&'a str>,
}

/// An object as a request found it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The version's id, where the bucket was ever versioned.
    pub(super) id: Option<String>,
    pub(super) modified: Millis,
    pub(super) object: Object,
    /// The bucket's, which some objects' is.
    pub(super) bucket_acl: Acl,
    /// Whether the bucket's owner owns all that is in it, and ACLs do not hold.
    pub(super) enforced: bool,
}

impl Seen {
    /// The ACL that holds.
    pub(super) fn acl(&self) -> Acl {
        match self.object.acl {
            _ if self.enforced => Acl::Private,
            Acl::Default => self.bucket_acl,
            own => own,
        }
    }
}

/// What must hold of the current object for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    Always,
    /// There is none.
    Absent,
    /// There is one with this entity tag.
    Matches(String),
}

impl Target<'_> {
    pub(super) fn place(&self, version: &Version) -> Place {
        Place { bucket: self.bucket.into(), key: self.key.into(), id: version.id.clone() }
    }
}

/// Whether a request reads or writes: a current delete marker hides from the one and refuses the other.
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

    /// A version's id as answers tell it: not at all, in a bucket that never had versions.
    pub(super) fn told(&self, bucket: &str, version: &Version) -> Option<String> {
        let versioned = self.buckets.get(bucket).is_some_and(|bucket| bucket.versioning != Versioning::Never);
        versioned.then(|| version.id_str().to_owned())
    }

    /// Whether a write's condition holds.
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
