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

    /// Returns the kind of the request.
    pub(super) fn kind(self) -> RequestKind {
        self.kind
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

    /// Returns the workload of a job that has sent these numbers of requests, by kind, instead of the predicted ones.
    /// Storage classes, tiers and the size of restored objects are taken from this prediction, in proportion.
    #[must_use]
    pub fn with_sent_requests(&self, sent: impl Fn(RequestKind) -> u64) -> Self {
        let mut work = Self { requests: BTreeMap::new(), rejected: BTreeMap::new(), ..self.clone() };
        work.unpredictable_objects = 0;
        for kind in RequestKind::ALL {
            let predicted = self.count_of(kind);
            let count = sent(kind);
            if predicted == 0 {
                if count > 0 {
                    work.add_requests(kind, None, count);
                }
                continue;
            }
            let share = |part: u64| proportion(u128::from(part), count, predicted);
            for (from, to) in [(&self.requests, &mut work.requests), (&self.rejected, &mut work.rejected)] {
                for (group, part) in from.iter().filter(|((request, _), _)| request.kind == kind) {
                    add_count(to, group.clone(), u64::try_from(share(*part)).unwrap_or(u64::MAX));
                }
            }
            if kind == RequestKind::Restore {
                for volume in work.restored.values_mut() {
                    volume.objects = u64::try_from(share(volume.objects)).unwrap_or(u64::MAX);
                    volume.unsized_objects = u64::try_from(share(volume.unsized_objects)).unwrap_or(u64::MAX);
                    volume.bytes = proportion(volume.bytes, count, predicted);
                }
            }
        }
        work
    }

    fn count_of(&self, kind: RequestKind) -> u64 {
        let counts = self.all_requests().filter(|((request, _), _)| request.kind == kind);
        counts.fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Returns all requests about objects, both expected to succeed and expected to be rejected.
    pub fn all_requests(&self) -> impl Iterator<Item = (&RequestGroup, u64)> {
        self.requests.iter().chain(&self.rejected).map(|(group, count)| (group, *count))
    }
}

/// Returns `part * numerator / denominator`, rounded to the nearest integer.
fn proportion(part: u128, numerator: u64, denominator: u64) -> u128 {
    let denominator = u128::from(denominator.max(1));
    part.saturating_mul(u128::from(numerator)).saturating_add(denominator / 2) / denominator
}

fn add_count(counts: &mut BTreeMap<RequestGroup, u64>, group: RequestGroup, count: u64) {
    let total = counts.entry(group).or_default();
    *total = total.saturating_add(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_distributed_as_predicted() {
        let class = StorageClass::new("GLACIER");
        let mut predicted = JobWorkload::default();
        predicted.add_requests(RequestKind::GetTags, Some(&class), 300);
        predicted.add_requests(RequestKind::GetTags, None, 100);
        predicted.add_rejected_requests(RequestKind::Restore, Some(&class), 50);
        predicted.add_requests(RequestKind::Restore, Some(&class), 50);
        let group = RestoreGroup { class: Some(class.clone()), tier: None, days: None };
        let volume = RestoreVolume { objects: 50, bytes: 1 << 40, unsized_objects: 4 };
        predicted.restored.insert(group.clone(), volume);
        let sent = predicted.with_sent_requests(|kind| match kind {
            RequestKind::GetTags => 200,
            RequestKind::Restore => 50,
            RequestKind::Head => 7,
            _ => 0,
        });
        let of = |kind: RequestKind, class: Option<&StorageClass>| sent.requests[&(kind.into(), class.cloned())];
        assert_eq!((of(RequestKind::GetTags, Some(&class)), of(RequestKind::GetTags, None)), (150, 50));
        assert_eq!((of(RequestKind::Restore, Some(&class)), of(RequestKind::Head, None)), (25, 7));
        assert_eq!(sent.rejected.values().sum::<u64>(), 25);
        assert_eq!(sent.restored[&group], RestoreVolume { objects: 25, bytes: 1 << 39, unsized_objects: 2 });
    }
}
