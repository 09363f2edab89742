//! The requests for one object, and their responses. Operations, the engine and the stores share these types.

use std::fmt;

use crate::enum_with_all;
use crate::object::{
    ArchiveStatus, MaybeKnown, ObjectAcl, ObjectState, RestoreRequest, RestoreState, StorageClass, TagSet, VersionId,
};

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
    /// The kinds of requests that the program sends: about one object, and about buckets and whole objects.
    /// Permissions, prices, latencies and totals all go by this enum.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum RequestKind {
        /// Reads all tags of an object.
        GetTags,
        /// Replaces all tags of an object.
        PutTags,
        /// Removes all tags of an object.
        DeleteTags,
        /// Reads the ACL of an object.
        GetAcl,
        /// Sets the ACL of an object.
        PutAcl,
        /// Requests a readable copy of an archived object.
        Restore,
        /// Reads the storage class and the restore state of an object.
        Head,
        /// Lists one page of a bucket.
        List,
        /// Reads the content of an object.
        GetObject,
        /// Writes the content of an object.
        PutObject,
    }
}

/// The action that a policy must allow, in the languages of both services, for objects and for object versions. If
/// versions have no action of their own, both names are equal.
///
/// <https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview> and
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyAction {
    /// The RAM action.
    pub ram: &'static str,
    /// The RAM action for object versions.
    pub ram_version: &'static str,
    /// The IAM action.
    pub iam: &'static str,
    /// The IAM action for object versions.
    pub iam_version: &'static str,
}

/// What is the same for all requests of a kind.
struct RequestDescriptor {
    /// The name in price books.
    name: &'static str,
    /// The name in the services' APIs.
    api_name: &'static str,
    /// What the request does, as a verb phrase.
    purpose: &'static str,
    method: &'static str,
    /// The sub-resource in the URL; empty if there is none.
    sub_resource: &'static str,
    action: PolicyAction,
}

static GET_TAGS: RequestDescriptor = RequestDescriptor {
    name: "get_tags",
    api_name: "GetObjectTagging",
    purpose: "read the tags",
    method: "GET",
    sub_resource: "tagging",
    action: PolicyAction {
        ram: "oss:GetObjectTagging",
        ram_version: "oss:GetObjectVersionTagging",
        iam: "s3:GetObjectTagging",
        iam_version: "s3:GetObjectVersionTagging",
    },
};

static PUT_TAGS: RequestDescriptor = RequestDescriptor {
    name: "put_tags",
    api_name: "PutObjectTagging",
    purpose: "write tags",
    method: "PUT",
    sub_resource: "tagging",
    action: PolicyAction {
        ram: "oss:PutObjectTagging",
        ram_version: "oss:PutObjectVersionTagging",
        iam: "s3:PutObjectTagging",
        iam_version: "s3:PutObjectVersionTagging",
    },
};

static DELETE_TAGS: RequestDescriptor = RequestDescriptor {
    name: "delete_tags",
    api_name: "DeleteObjectTagging",
    purpose: "delete tags",
    method: "DELETE",
    sub_resource: "tagging",
    action: PolicyAction {
        ram: "oss:DeleteObjectTagging",
        ram_version: "oss:DeleteObjectVersionTagging",
        iam: "s3:DeleteObjectTagging",
        iam_version: "s3:DeleteObjectVersionTagging",
    },
};

static GET_ACL: RequestDescriptor = RequestDescriptor {
    name: "get_acl",
    api_name: "GetObjectAcl",
    purpose: "read the ACL",
    method: "GET",
    sub_resource: "acl",
    action: PolicyAction {
        ram: "oss:GetObjectAcl",
        ram_version: "oss:GetObjectVersionAcl",
        iam: "s3:GetObjectAcl",
        iam_version: "s3:GetObjectVersionAcl",
    },
};

static PUT_ACL: RequestDescriptor = RequestDescriptor {
    name: "put_acl",
    api_name: "PutObjectAcl",
    purpose: "write the ACL",
    method: "PUT",
    sub_resource: "acl",
    action: PolicyAction {
        ram: "oss:PutObjectAcl",
        ram_version: "oss:PutObjectVersionAcl",
        iam: "s3:PutObjectAcl",
        iam_version: "s3:PutObjectVersionAcl",
    },
};

static RESTORE: RequestDescriptor = RequestDescriptor {
    name: "restore",
    api_name: "RestoreObject",
    purpose: "restore objects",
    method: "POST",
    sub_resource: "restore",
    action: PolicyAction {
        ram: "oss:RestoreObject",
        ram_version: "oss:RestoreObjectVersion",
        iam: "s3:RestoreObject",
        iam_version: "s3:RestoreObject",
    },
};

static HEAD: RequestDescriptor = RequestDescriptor {
    name: "head",
    api_name: "HeadObject",
    purpose: "read the storage class and restore status",
    method: "HEAD",
    sub_resource: "",
    action: GET_OBJECT_ACTION,
};

static LIST: RequestDescriptor = RequestDescriptor {
    name: "list",
    api_name: "ListObjects",
    purpose: "list",
    method: "GET",
    sub_resource: "",
    action: PolicyAction {
        ram: "oss:ListObjects",
        ram_version: "oss:ListObjectVersions",
        iam: "s3:ListBucket",
        iam_version: "s3:ListBucketVersions",
    },
};

static GET_OBJECT: RequestDescriptor = RequestDescriptor {
    name: "get_object",
    api_name: "GetObject",
    purpose: "read",
    method: "GET",
    sub_resource: "",
    action: GET_OBJECT_ACTION,
};

static PUT_OBJECT: RequestDescriptor = RequestDescriptor {
    name: "put_object",
    api_name: "PutObject",
    purpose: "write",
    method: "PUT",
    sub_resource: "",
    action: PolicyAction {
        ram: "oss:PutObject",
        ram_version: "oss:PutObject",
        iam: "s3:PutObject",
        iam_version: "s3:PutObject",
    },
};

/// HEAD needs the same permission as reading the content.
const GET_OBJECT_ACTION: PolicyAction = PolicyAction {
    ram: "oss:GetObject",
    ram_version: "oss:GetObjectVersion",
    iam: "s3:GetObject",
    iam_version: "s3:GetObjectVersion",
};

impl RequestKind {
    const fn descriptor(self) -> &'static RequestDescriptor {
        match self {
            Self::GetTags => &GET_TAGS,
            Self::PutTags => &PUT_TAGS,
            Self::DeleteTags => &DELETE_TAGS,
            Self::GetAcl => &GET_ACL,
            Self::PutAcl => &PUT_ACL,
            Self::Restore => &RESTORE,
            Self::Head => &HEAD,
            Self::List => &LIST,
            Self::GetObject => &GET_OBJECT,
            Self::PutObject => &PUT_OBJECT,
        }
    }

    /// Returns the name in price books.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.descriptor().name
    }

    /// Returns the name in the services' APIs.
    #[must_use]
    pub fn api_name(self) -> &'static str {
        self.descriptor().api_name
    }

    /// Returns what the request does, as a verb phrase.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        self.descriptor().purpose
    }

    /// Returns the action that a policy must allow.
    #[must_use]
    pub const fn action(self) -> &'static PolicyAction {
        &self.descriptor().action
    }

    /// Returns the HTTP method and the subresource of the request. Both are the same on S3 and OSS.
    #[must_use]
    pub fn method_and_subresource(self) -> (&'static str, &'static str) {
        (self.descriptor().method, self.descriptor().sub_resource)
    }

    /// Returns whether the request changes the store.
    #[must_use]
    pub fn is_write(self) -> bool {
        !matches!(self.descriptor().method, "GET" | "HEAD")
    }
}

impl ObjectRequest {
    /// Returns the kind of this request.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::GetTags => RequestKind::GetTags,
            Self::PutTags(_) => RequestKind::PutTags,
            Self::DeleteTags => RequestKind::DeleteTags,
            Self::GetAcl => RequestKind::GetAcl,
            Self::PutAcl(_) => RequestKind::PutAcl,
            Self::Restore(_) => RequestKind::Restore,
            Self::Head => RequestKind::Head,
        }
    }

    /// Returns whether the request changes the object.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.kind().is_write()
    }

    /// Returns the HTTP method and the subresource of the request. Both are the same on S3 and OSS.
    #[must_use]
    pub fn method_and_subresource(&self) -> (&'static str, &'static str) {
        self.kind().method_and_subresource()
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
        /// The archive tier that an object of `INTELLIGENT_TIERING` is in.
        archive_status: ArchiveStatus,
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
    /// The version that a response to a read is about, if it names one.
    pub version: Option<VersionId>,
}

impl ObjectResponse {
    /// Creates a response without object headers and with an empty body.
    #[must_use]
    pub fn new(status: u16, data: ResponseData) -> Self {
        Self { status, data, headers: ObjectHeaderSet::default(), no_tag_set: false, body_bytes: 0, version: None }
    }
}

impl ObjectState {
    /// Updates the state with the data of a response.
    pub fn apply(&mut self, learned: ResponseData) {
        match learned {
            ResponseData::Empty => {}
            ResponseData::Tags(tags) => self.tags = MaybeKnown::Known(tags),
            ResponseData::Acl(acl) => self.acl = MaybeKnown::Known(acl),
            ResponseData::Head { class, restoration, archive_status, content: _ } => {
                self.class = MaybeKnown::Known(class);
                self.restoration = MaybeKnown::Known(restoration);
                self.archive_status = MaybeKnown::Known(archive_status);
            }
        }
    }
}
