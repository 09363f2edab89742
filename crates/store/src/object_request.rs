//! The requests for one object, and their responses. Operations, the engine and the stores share these types.

use std::fmt;

use crate::enum_with_all;
use crate::object::{MaybeKnown, ObjectAcl, ObjectState, RestoreRequest, RestoreState, StorageClass, TagSet};

/// One request for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectRequest {
    /// Reads all tags.
    GetTags,
    /// Replaces all tags.
    PutTags(TagSet),
    /// Removes all tags.
    DeleteTags,
    /// Reads the ACL.
    GetAcl,
    /// Sets the ACL.
    PutAcl(ObjectAcl),
    /// Requests a readable copy of an archived object.
    Restore(RestoreRequest),
    /// Reads the storage class and the restore state.
    Head,
}

enum_with_all! {
    /// The kind of a request, without its data.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ObjectRequestKind {
        /// [`ObjectRequest::GetTags`].
        GetTags,
        /// [`ObjectRequest::PutTags`].
        PutTags,
        /// [`ObjectRequest::DeleteTags`].
        DeleteTags,
        /// [`ObjectRequest::GetAcl`].
        GetAcl,
        /// [`ObjectRequest::PutAcl`].
        PutAcl,
        /// [`ObjectRequest::StoredRestore`].
        Restore,
        /// [`ObjectRequest::Head`].
        Head,
    }
}

impl ObjectRequest {
    /// Returns the kind of this request.
    #[must_use]
    pub fn kind(&self) -> ObjectRequestKind {
        match self {
            Self::GetTags => ObjectRequestKind::GetTags,
            Self::PutTags(_) => ObjectRequestKind::PutTags,
            Self::DeleteTags => ObjectRequestKind::DeleteTags,
            Self::GetAcl => ObjectRequestKind::GetAcl,
            Self::PutAcl(_) => ObjectRequestKind::PutAcl,
            Self::Restore(_) => ObjectRequestKind::Restore,
            Self::Head => ObjectRequestKind::Head,
        }
    }

    /// Returns whether the request changes the object.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Self::GetTags | Self::GetAcl | Self::Head => false,
            Self::PutTags(_) | Self::DeleteTags | Self::PutAcl(_) | Self::Restore(_) => true,
        }
    }

    /// Returns the HTTP method and the subresource of the request. Both are the same on S3 and OSS.
    #[must_use]
    pub fn method_and_subresource(&self) -> (&'static str, &'static str) {
        match self {
            Self::GetTags => ("GET", "tagging"),
            Self::PutTags(_) => ("PUT", "tagging"),
            Self::DeleteTags => ("DELETE", "tagging"),
            Self::GetAcl => ("GET", "acl"),
            Self::PutAcl(_) => ("PUT", "acl"),
            Self::Restore(_) => ("POST", "restore"),
            Self::Head => ("HEAD", ""),
        }
    }

    /// Returns whether sending the request twice has the same effect as sending it once. A repeated restore may
    /// extend the expiry and be billed again.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Restore(_))
    }
}

/// What a response says about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseData {
    /// No data: the request was a write.
    Empty,
    /// The object's tags.
    Tags(TagSet),
    /// The object's ACL.
    Acl(ObjectAcl),
    /// The data of a HEAD response.
    Head {
        /// The storage class.
        class: StorageClass,
        /// Whether the object has a restored copy, or a restore is in progress.
        restoration: RestoreState,
        /// The identity of the content, as far as the headers give it.
        content: ContentIdentity,
    },
}

/// Identifies one content of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentIdentity {
    /// The `ETag`, exactly as the server sent it.
    pub etag: Option<Box<str>>,
    /// The length in bytes.
    pub size: Option<u64>,
}

impl ContentIdentity {
    /// Returns whether both have the same known length, and it is not zero.
    #[must_use]
    pub fn has_same_size(&self, other: &Self) -> bool {
        self.size.is_some_and(|size| size > 0) && self.size == other.size
    }

    /// Returns whether both identify the same content: the same `ETag`, weak or strong, and the same length if both
    /// lengths are known.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        let lengths_differ = matches!((self.size, other.size), (Some(one), Some(other)) if one != other);
        self.comparable_etag().is_some() && self.comparable_etag() == other.comparable_etag() && !lengths_differ
    }

    /// The `ETag` in a form that can be compared. Servers send it with or without quotation marks and in either case,
    /// and a proxy that compresses responses makes it a weak one.
    fn comparable_etag(&self) -> Option<String> {
        let etag = self.etag.as_deref()?;
        Some(etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_ascii_lowercase())
    }
}

impl fmt::Display for ContentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.etag {
            Some(etag) => write!(f, "ETag {etag}")?,
            None => f.write_str("no ETag")?,
        }
        match self.size {
            Some(1) => f.write_str(" (1 byte)"),
            Some(size) => write!(f, " ({size} bytes)"),
            None => f.write_str(" (unknown length)"),
        }
    }
}

/// A header that is present in responses about an object itself, but not in responses about its tags or ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectHeader {
    /// `ETag`.
    ETag,
    /// `Last-Modified`.
    LastModified,
    /// `Accept-Ranges`. Some servers send it with every response.
    AcceptRanges,
    /// `x-amz-delete-marker` or `x-oss-delete-marker`, if its value is `true`.
    DeleteMarker,
    /// `x-amz-restore` or `x-oss-restore`.
    Restore,
}

impl ObjectHeader {
    /// Returns the header name that messages use. The S3 name stands for both dialects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ETag => "ETag",
            Self::LastModified => "Last-Modified",
            Self::AcceptRanges => "Accept-Ranges",
            Self::DeleteMarker => "x-amz-delete-marker",
            Self::Restore => "x-amz-restore",
        }
    }
}

/// The set of [`ObjectHeader`]s in a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaderSet(u8);

impl ObjectHeaderSet {
    /// Returns the set with one more header.
    #[must_use]
    pub fn with(self, header: ObjectHeader) -> Self {
        Self(self.0 | 1 << header as u8)
    }

    /// Returns whether the header is in the set.
    #[must_use]
    pub fn contains(self, header: ObjectHeader) -> bool {
        self.0 & (1 << header as u8) != 0
    }
}

/// A server's response to a request that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectResponse {
    /// The HTTP status, always 2xx.
    pub status: u16,
    /// What the response says about the object.
    pub data: ResponseData,
    /// The object headers in the response.
    pub headers: ObjectHeaderSet,
    /// Whether the server reported that the object has no tag set (404 `NoSuchTagSet`). This counts as an empty tag
    /// set.
    pub no_tag_set: bool,
    /// The size of the response body in bytes.
    pub body_bytes: u64,
}

impl ObjectResponse {
    /// Creates a response without object headers and with an empty body.
    #[must_use]
    pub fn new(status: u16, data: ResponseData) -> Self {
        Self { status, data, headers: ObjectHeaderSet::default(), no_tag_set: false, body_bytes: 0 }
    }
}

impl ObjectState {
    /// Updates the state with the data of a response.
    pub fn apply(&mut self, learned: ResponseData) {
        match learned {
            ResponseData::Empty => {}
            ResponseData::Tags(tags) => self.tags = MaybeKnown::Known(tags),
            ResponseData::Acl(acl) => self.acl = MaybeKnown::Known(acl),
            ResponseData::Head { class, restoration, content: _ } => {
                self.class = MaybeKnown::Known(class);
                self.restoration = MaybeKnown::Known(restoration);
            }
        }
    }
}
