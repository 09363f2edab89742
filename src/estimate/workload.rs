//! What a job will send, read and hold: the counts that an estimate is made of.

use std::collections::BTreeMap;
use std::fmt;

use super::book::Item;
use crate::call::Call;
use crate::object::{RestoreRequest, StorageClass, Tier};

/// A kind of request, as far as services price them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// Read an object's tags.
    GetTags,
    /// Replace an object's tags.
    PutTags,
    /// Remove an object's tags.
    DeleteTags,
    /// Read an object's ACL.
    GetAcl,
    /// Set an object's ACL.
    PutAcl,
    /// Ask for a readable copy, in a tier if one is named.
    Restore(Option<Tier>),
    /// Read an object's class and restoration.
    Head,
    /// List a page of a bucket.
    List,
    /// Read an object.
    GetObject,
    /// Write an object.
    PutObject,
}

impl RequestKind {
    /// The kind of a request about one object.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        match call {
            Call::GetTags => Self::GetTags,
            Call::PutTags(_) => Self::PutTags,
            Call::DeleteTags => Self::DeleteTags,
            Call::GetAcl => Self::GetAcl,
            Call::PutAcl(_) => Self::PutAcl,
            Call::Restore(request) => Self::Restore(request.tier),
            Call::Head => Self::Head,
        }
    }

    /// What it is in a price book, and the tier that it names.
    pub(super) fn item(self) -> (Item, Option<Tier>) {
        let item = match self {
            Self::GetTags => Item::GetTags,
            Self::PutTags => Item::PutTags,
            Self::DeleteTags => Item::DeleteTags,
            Self::GetAcl => Item::GetAcl,
            Self::PutAcl => Item::PutAcl,
            Self::Restore(tier) => return (Item::Restore, tier),
            Self::Head => Item::Head,
            Self::List => Item::List,
            Self::GetObject => Item::GetObject,
            Self::PutObject => Item::PutObject,
        };
        (item, None)
    }
}

/// By the names of the services' APIs.
impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GetTags => "GetObjectTagging",
            Self::PutTags => "PutObjectTagging",
            Self::DeleteTags => "DeleteObjectTagging",
            Self::GetAcl => "GetObjectAcl",
            Self::PutAcl => "PutObjectAcl",
            Self::Restore(None) => "RestoreObject",
            Self::Restore(Some(tier)) => return write!(f, "RestoreObject, tier {}", tier.as_str()),
            Self::Head => "HeadObject",
            Self::List => "ListObjects",
            Self::GetObject => "GetObject",
            Self::PutObject => "PutObject",
        })
    }
}

/// What is asked of which objects. Without a class it is not known.
pub type Asked = (RequestKind, Option<StorageClass>);

/// What is brought back alike: class (`None` is not known), tier (`None` names none) and days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Restored {
    /// The storage class; `None` is not known.
    pub class: Option<StorageClass>,
    /// The tier; `None` leaves it to the service.
    pub tier: Option<Tier>,
    /// Days that the copy is kept.
    pub days: u32,
}

/// How much it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// How many objects.
    pub objects: u64,
    /// The bytes of those whose size is known.
    pub bytes: u128,
    /// How many have a size that is not known.
    pub unsized_objects: u64,
}

/// What the program itself needs beside the requests about objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Pages of listings.
    pub lists: u64,
    /// Reads of manifests, inventories and earlier reports.
    pub reads: u64,
    /// Writes of the completion report.
    pub uploads: u64,
    /// The report's size.
    pub report_bytes: u128,
}

/// What a job will send, read and hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// How many objects its manifest names.
    pub objects: u64,
    /// How many operations its plan has: a managed service needs a job for each.
    pub operations: u32,
    /// Requests about objects that will be carried out.
    pub requests: BTreeMap<Asked, u64>,
    /// Requests about objects that will probably be refused.
    pub refused: BTreeMap<Asked, u64>,
    /// Objects of which nobody can tell what will be asked of them.
    pub unforeseen: u64,
    /// What restores bring back.
    pub restored: BTreeMap<Restored, Volume>,
    /// What the program needs for itself.
    pub own: Own,
}

impl Workload {
    /// Counts requests of a kind that will be carried out.
    pub fn send(&mut self, kind: RequestKind, class: Option<&StorageClass>, count: u64) {
        add(&mut self.requests, (kind, class.cloned()), count);
    }

    /// Counts requests of a kind that will probably be refused.
    pub fn send_in_vain(&mut self, kind: RequestKind, class: Option<&StorageClass>, count: u64) {
        add(&mut self.refused, (kind, class.cloned()), count);
    }

    /// Counts an object that is brought back: the request for it, and its bytes, where its size is known.
    pub fn restore(&mut self, request: &RestoreRequest, class: Option<&StorageClass>, size: Option<u64>) {
        self.send(RequestKind::Restore(request.tier), class, 1);
        let place = Restored { class: class.cloned(), tier: request.tier, days: request.days };
        let volume = self.restored.entry(place).or_default();
        volume.objects = volume.objects.saturating_add(1);
        match size {
            Some(size) => volume.bytes = volume.bytes.saturating_add(u128::from(size)),
            None => volume.unsized_objects = volume.unsized_objects.saturating_add(1),
        }
    }

    /// Everything asked of objects, whether it is carried out or refused.
    pub fn asked(&self) -> impl Iterator<Item = (&Asked, u64)> {
        self.requests.iter().chain(&self.refused).map(|(asked, count)| (asked, *count))
    }
}

fn add(counts: &mut BTreeMap<Asked, u64>, asked: Asked, count: u64) {
    let held = counts.entry(asked).or_default();
    *held = held.saturating_add(count);
}
