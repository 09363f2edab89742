//! The requests that reach one object, and what comes back: the vocabulary between operations, engine and stores.

use std::fmt;

use crate::object::{Acl, Fact, ObjectState, Restoration, RestoreRequest, StorageClass, TagSet};
use crate::variants::enum_with_all;

/// One request about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read all tags.
    GetTags,
    /// Replace all tags.
    PutTags(TagSet),
    /// Remove all tags.
    DeleteTags,
    /// Read the ACL.
    GetAcl,
    /// Set the ACL.
    PutAcl(Acl),
    /// Ask for a readable copy of an archived object.
    Restore(RestoreRequest),
    /// Read class and restoration.
    Head,
}

enum_with_all! {
    /// What a request is, without what it carries.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CallKind {
        /// [`Call::GetTags`].
        GetTags,
        /// [`Call::PutTags`].
        PutTags,
        /// [`Call::DeleteTags`].
        DeleteTags,
        /// [`Call::GetAcl`].
        GetAcl,
        /// [`Call::PutAcl`].
        PutAcl,
        /// [`Call::Restore`].
        Restore,
        /// [`Call::Head`].
        Head,
    }
}

impl Call {
    /// What it is, without what it carries.
    #[must_use]
    pub fn kind(&self) -> CallKind {
        match self {
            Self::GetTags => CallKind::GetTags,
            Self::PutTags(_) => CallKind::PutTags,
            Self::DeleteTags => CallKind::DeleteTags,
            Self::GetAcl => CallKind::GetAcl,
            Self::PutAcl(_) => CallKind::PutAcl,
            Self::Restore(_) => CallKind::Restore,
            Self::Head => CallKind::Head,
        }
    }

    /// Whether the request changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::GetTags | Self::GetAcl | Self::Head => false,
            Self::PutTags(_) | Self::DeleteTags | Self::PutAcl(_) | Self::Restore(_) => true,
        }
    }

    /// The method and the sub-resource that it is sent with, on S3 and on OSS alike.
    #[must_use]
    pub fn request(&self) -> (&'static str, &'static str) {
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

    /// Whether sending it twice is the same as sending it once. A repeated restore may extend the expiry and be billed.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        !matches!(self, Self::Restore(_))
    }
}

/// What a request taught about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing: it was a write.
    Nothing,
    /// The object's tags.
    Tags(TagSet),
    /// The object's ACL.
    Acl(Acl),
    /// What HEAD says.
    Head {
        /// The storage class.
        class: StorageClass,
        /// Whether a restored copy is there or on its way.
        restoration: Restoration,
        /// The content, as far as the headers tell it.
        content: ContentMark,
    },
}

/// What tells one content of an object from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentMark {
    /// Its `ETag`, as the server wrote it.
    pub etag: Option<Box<str>>,
    /// Its length in bytes.
    pub size: Option<u64>,
}

impl ContentMark {
    /// Whether both are known to be of the same length, which is not that of nothing.
    #[must_use]
    pub fn is_as_long_as(&self, other: &Self) -> bool {
        self.size.is_some_and(|size| size > 0) && self.size == other.size
    }

    /// Whether both stand for the same content: the same `ETag`, weak or not, and the same length where both are known.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        let lengths_differ = matches!((self.size, other.size), (Some(one), Some(other)) if one != other);
        self.opaque().is_some() && self.opaque() == other.opaque() && !lengths_differ
    }

    /// What tells contents apart in the `ETag`: servers write it with quotation marks and without, in either case, and a proxy
    /// that compresses answers makes it a weak one.
    fn opaque(&self) -> Option<String> {
        let etag = self.etag.as_deref()?;
        Some(etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_ascii_lowercase())
    }
}

impl fmt::Display for ContentMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let etag = self.etag.as_deref().map_or("no ETag", |etag| etag);
        match self.size {
            Some(1) => write!(f, "{etag}, 1 byte"),
            Some(size) => write!(f, "{etag}, {size} bytes"),
            None => write!(f, "{etag}, of unknown length"),
        }
    }
}

/// A header that answers about an object itself carry, and answers about its tags or ACL do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectHeader {
    /// `ETag`.
    ETag,
    /// `Last-Modified`.
    LastModified,
    /// `Accept-Ranges`. Some servers send it with every answer.
    AcceptRanges,
    /// `x-amz-delete-marker` or `x-oss-delete-marker`, when it is `true`.
    DeleteMarker,
    /// `x-amz-restore` or `x-oss-restore`.
    Restore,
}

impl ObjectHeader {
    /// Its name, as messages spell it.
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

/// Which of these headers an answer had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders(u8);

impl ObjectHeaders {
    /// With one more.
    #[must_use]
    pub fn with(self, header: ObjectHeader) -> Self {
        Self(self.0 | 1 << header as u8)
    }

    /// Whether it was there.
    #[must_use]
    pub fn has(self, header: ObjectHeader) -> bool {
        self.0 & (1 << header as u8) != 0
    }
}

/// A server's answer to a request that it carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status, any 2xx.
    pub status: u16,
    /// What was learned.
    pub learned: Learned,
    /// Which headers of an object itself it had.
    pub headers: ObjectHeaders,
    /// Whether the server said that there is no tag set (404 `NoSuchTagSet`), which stands for no tags.
    pub no_tag_set: bool,
    /// How many bytes its body had.
    pub size: u64,
}

impl Reply {
    /// An answer without headers of an object.
    #[must_use]
    pub fn new(status: u16, learned: Learned) -> Self {
        Self { status, learned, headers: ObjectHeaders::default(), no_tag_set: false, size: 0 }
    }
}

impl ObjectState {
    /// Takes in what a request taught.
    pub fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Nothing => {}
            Learned::Tags(tags) => self.tags = Fact::Known(tags),
            Learned::Acl(acl) => self.acl = Fact::Known(acl),
            Learned::Head { class, restoration, content: _ } => {
                self.class = Fact::Known(class);
                self.restoration = Fact::Known(restoration);
            }
        }
    }
}
