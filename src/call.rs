//! The requests that reach one object, and what comes back: the vocabulary between operations, engine and stores.

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
    },
}

/// A server's answer to a request that it carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status, any 2xx.
    pub status: u16,
    /// What was learned.
    pub learned: Learned,
}

impl ObjectState {
    /// Takes in what a request taught.
    pub fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Nothing => {}
            Learned::Tags(tags) => self.tags = Fact::Known(tags),
            Learned::Acl(acl) => self.acl = Fact::Known(acl),
            Learned::Head { class, restoration } => {
                self.class = Fact::Known(class);
                self.restoration = Fact::Known(restoration);
            }
        }
    }
}
