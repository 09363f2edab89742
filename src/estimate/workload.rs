//! The workload of a job: the counts that an estimate is based on.

use std::collections::BTreeMap;
use std::fmt;

use batchplan_store::object::{RestoreTier, StorageClass};
use batchplan_store::object_request::{ObjectRequest, RequestKind};

use super::price_book::BillableItem;

/// A kind of request, as far as services price them separately: by the tier, too, if it is a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillableRequest {
    kind: RequestKind,
    /// The tier that a restore names.
    tier: Option<RestoreTier>,
}

impl BillableRequest {
    /// Returns how a request about one object is billed.
    #[must_use]
    pub fn of(call: &ObjectRequest) -> Self {
        match call {
            ObjectRequest::Restore(request) => Self { kind: RequestKind::Restore, tier: request.tier },
            other => other.kind().into(),
        }
    }

    /// Returns the item in a price book, and the tier that the request names.
    pub(super) fn item(self) -> (BillableItem, Option<RestoreTier>) {
        (BillableItem::Request(self.kind), self.tier)
    }
}

impl From<RequestKind> for BillableRequest {
    fn from(kind: RequestKind) -> Self {
        Self { kind, tier: None }
    }
}

/// Formats the kind by its name in the services' APIs.
impl fmt::Display for BillableRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.api_name())?;
        self.tier.map_or(Ok(()), |tier| write!(f, ", tier {}", tier.as_str()))
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
    /// The number of days that the copy is kept; `None` if the restore makes no temporary copy.
    pub days: Option<u32>,
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
    pub fn add_requests(&mut self, kind: impl Into<BillableRequest>, class: Option<&StorageClass>, count: u64) {
        add_count(&mut self.requests, (kind.into(), class.cloned()), count);
    }

    /// Counts requests that will probably be rejected.
    pub fn add_rejected_requests(
        &mut self,
        kind: impl Into<BillableRequest>,
        class: Option<&StorageClass>,
        count: u64,
    ) {
        add_count(&mut self.rejected, (kind.into(), class.cloned()), count);
    }

    /// Returns all requests about objects, both expected to succeed and expected to be rejected.
    pub fn all_requests(&self) -> impl Iterator<Item = (&RequestGroup, u64)> {
        self.requests.iter().chain(&self.rejected).map(|(group, count)| (group, *count))
    }
}

fn add_count(counts: &mut BTreeMap<RequestGroup, u64>, group: RequestGroup, count: u64) {
    let total = counts.entry(group).or_default();
    *total = total.saturating_add(count);
}
