//! The workload of a job: the counts that an estimate is based on.

use std::collections::BTreeMap;
use std::fmt;

use batchplan_store::object::{RestoreRequest, RestoreTier, StorageClass};
use batchplan_store::object_request::ObjectRequest;

use super::price_book::BillableItem;

/// A kind of request, as far as services price them separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BillableRequest {
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
    /// Restore an object, in a tier if one is named.
    Restore(Option<RestoreTier>),
    /// Read an object's class and restore status.
    Head,
    /// List one page of a bucket.
    List,
    /// Read an object.
    GetObject,
    /// Write an object.
    PutObject,
}

impl BillableRequest {
    /// Returns the kind of a request about one object.
    #[must_use]
    pub fn of(call: &ObjectRequest) -> Self {
        match call {
            ObjectRequest::GetTags => Self::GetTags,
            ObjectRequest::PutTags(_) => Self::PutTags,
            ObjectRequest::DeleteTags => Self::DeleteTags,
            ObjectRequest::GetAcl => Self::GetAcl,
            ObjectRequest::PutAcl(_) => Self::PutAcl,
            ObjectRequest::Restore(request) => Self::Restore(request.tier),
            ObjectRequest::Head => Self::Head,
        }
    }

    /// Returns the item in a price book, and the tier that the request names.
    pub(super) fn item(self) -> (BillableItem, Option<RestoreTier>) {
        let item = match self {
            Self::GetTags => BillableItem::GetTags,
            Self::PutTags => BillableItem::PutTags,
            Self::DeleteTags => BillableItem::DeleteTags,
            Self::GetAcl => BillableItem::GetAcl,
            Self::PutAcl => BillableItem::PutAcl,
            Self::Restore(tier) => return (BillableItem::Restore, tier),
            Self::Head => BillableItem::Head,
            Self::List => BillableItem::List,
            Self::GetObject => BillableItem::GetObject,
            Self::PutObject => BillableItem::PutObject,
        };
        (item, None)
    }
}

/// Formats the kind by its name in the services' APIs.
impl fmt::Display for BillableRequest {
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

/// A kind of request, and the storage class of its objects; `None` if the class is unknown.
pub type RequestGroup = (BillableRequest, Option<StorageClass>);

/// Restored objects that are billed alike: by class, tier and days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RestoreGroup {
    /// The storage class; `None` if unknown.
    pub class: Option<StorageClass>,
    /// The tier; `None` leaves the choice to the service.
    pub tier: Option<RestoreTier>,
    /// The number of days that the copy is kept.
    pub days: u32,
}

/// The number and size of restored objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreVolume {
    /// The number of objects.
    pub objects: u64,
    /// The bytes of the objects whose size is known.
    pub bytes: u128,
    /// The number of objects whose size is unknown.
    pub unsized_objects: u64,
}

/// The program's own requests, in addition to those about objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverheadRequests {
    /// The number of pages of listings.
    pub lists: u64,
    /// The number of reads of manifests, inventories and earlier reports.
    pub reads: u64,
    /// The number of writes of the completion report.
    pub uploads: u64,
    /// The size of the report, in bytes.
    pub report_bytes: u128,
}

/// The requests that a job sends, and the data that it restores and stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobWorkload {
    /// The number of objects in the manifest.
    pub objects: u64,
    /// The number of operations in the plan. A managed service needs a job for each.
    pub operations: u32,
    /// Requests about objects that are expected to succeed.
    pub requests: BTreeMap<RequestGroup, u64>,
    /// Requests about objects that will probably be rejected.
    pub rejected: BTreeMap<RequestGroup, u64>,
    /// The number of objects whose requests cannot be predicted.
    pub unpredictable_objects: u64,
    /// The restored objects and their size.
    pub restored: BTreeMap<RestoreGroup, RestoreVolume>,
    /// The program's own requests.
    pub overhead: OverheadRequests,
}

impl JobWorkload {
    /// Counts requests that are expected to succeed.
    pub fn add_requests(&mut self, kind: BillableRequest, class: Option<&StorageClass>, count: u64) {
        add_count(&mut self.requests, (kind, class.cloned()), count);
    }

    /// Counts requests that will probably be rejected.
    pub fn add_rejected_requests(&mut self, kind: BillableRequest, class: Option<&StorageClass>, count: u64) {
        add_count(&mut self.rejected, (kind, class.cloned()), count);
    }

    /// Counts one restored object: the request, and its bytes if the size is known.
    pub fn add_restore(&mut self, request: &RestoreRequest, class: Option<&StorageClass>, size: Option<u64>) {
        self.add_requests(BillableRequest::Restore(request.tier), class, 1);
        let place = RestoreGroup { class: class.cloned(), tier: request.tier, days: request.days };
        let volume = self.restored.entry(place).or_default();
        volume.objects = volume.objects.saturating_add(1);
        match size {
            Some(size) => volume.bytes = volume.bytes.saturating_add(u128::from(size)),
            None => volume.unsized_objects = volume.unsized_objects.saturating_add(1),
        }
    }

    /// Returns all requests about objects, both expected to succeed and expected to be rejected.
    pub fn all_requests(&self) -> impl Iterator<Item = (&RequestGroup, u64)> {
        self.requests.iter().chain(&self.rejected).map(|(asked, count)| (asked, *count))
    }
}

fn add_count(counts: &mut BTreeMap<RequestGroup, u64>, asked: RequestGroup, count: u64) {
    let held = counts.entry(asked).or_default();
    *held = held.saturating_add(count);
}
