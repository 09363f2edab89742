//! Computes what the whole job sends from the objects that were read: exact if all were read, scaled if they are a
//! sample.

use std::collections::BTreeMap;

use batchplan_store::object::{RestoreRequest, StorageClass};
use batchplan_store::object_request::{ObjectRequest, RequestKind};

use crate::completion::{ReportFormat, ReportScope};
use crate::diff::{PredictionTotals, RequestCount};
use crate::estimate::{BillableRequest, JobWorkload, OverheadRequests, RestoreGroup};
use crate::manifest::{ClassTotals, StorageClassStats};
use crate::plan::Plan;

/// Bytes of a row in a report besides its names: status, code and separators.
const ROW_BYTES: u64 = 40;

/// Bytes that a failure adds to a row: JSON in the OSS format, only a message in the AWS format.
const OSS_FAILURE_BYTES: u64 = 400;
const AWS_FAILURE_BYTES: u64 = 100;

/// The size in bytes at which a report file is closed and uploaded.
const SEGMENT_BYTES: u64 = crate::report::ROTATE_AT;

/// Returns the requests and data volumes of the whole job. `asked` is the number of listing pages and of objects that
/// were read for the preview; the job reads the same. `names` is the bytes that the names of these objects take in a
/// report.
pub(super) fn workload(
    plan: &Plan,
    class_stats: &StorageClassStats,
    rows: u64,
    tally: &PredictionTotals,
    asked: (u64, u64),
    names: u64,
) -> JobWorkload {
    let scale = SampleScale::new(class_stats, rows, tally);
    let mut work = JobWorkload {
        objects: rows,
        operations: u32::try_from(plan.operations.len()).unwrap_or(u32::MAX),
        ..JobWorkload::default()
    };
    for (class, call, count) in scale.scale_requests(&tally.accepted) {
        work.add_requests(BillableRequest::of(&call), class.as_ref(), count);
        if let ObjectRequest::Restore(request) = call {
            add_restored_data(&mut work, class, request, count, &scale, tally);
        }
    }
    for (class, call, count) in scale.scale_requests(&tally.refused) {
        work.add_rejected_requests(BillableRequest::of(&call), class.as_ref(), count);
    }
    work.unpredictable_objects = scale.scale_count(tally.unknown);
    work.overhead = own_requests(plan, rows, tally, asked, names);
    work
}

/// Adds the data that restores of one class bring back.
fn add_restored_data(
    work: &mut JobWorkload,
    class: Option<StorageClass>,
    request: RestoreRequest,
    objects: u64,
    scale: &SampleScale<'_>,
    tally: &PredictionTotals,
) {
    // Nothing is known about single objects of a manifest that was frozen earlier.
    let told_later = tally.restored.get(&class).is_some_and(|(_, unknown)| *unknown > 0);
    let (bytes, unsized_objects) = match scale.class_totals.and_then(|classes| classes.get(&class)) {
        // The source gives totals of the whole class. The restored part of it is assumed to have the average size.
        Some(all) if tally.total() < scale.rows || told_later => {
            (proportion(all.bytes, objects, all.objects), proportion(all.unsized_objects, objects, all.objects))
        }
        _ => {
            let (bytes, unknown) = tally.restored.get(&class).copied().unwrap_or_default();
            (scale.scale_count(bytes), scale.scale_count(unknown))
        }
    };
    let place = RestoreGroup { class, tier: request.tier, days: request.days };
    let volume = work.restored.entry(place).or_default();
    volume.objects = volume.objects.saturating_add(objects);
    volume.bytes = volume.bytes.saturating_add(u128::from(bytes));
    volume.unsized_objects = volume.unsized_objects.saturating_add(unsized_objects);
}

/// Returns the requests and bytes that the program needs for itself.
fn own_requests(
    plan: &Plan,
    rows: u64,
    tally: &PredictionTotals,
    (lists, reads): (u64, u64),
    names: u64,
) -> OverheadRequests {
    let Some(_) = &plan.report.location else {
        return OverheadRequests { lists, reads, ..OverheadRequests::default() };
    };
    let looked = tally.total().max(1);
    let failed = proportion(tally.fails, rows, looked);
    let listed = match plan.report.scope {
        ReportScope::AllTasks => rows,
        ReportScope::FailedTasksOnly => failed,
    };
    let failure = match plan.report.format {
        ReportFormat::Oss => OSS_FAILURE_BYTES,
        ReportFormat::Aws => AWS_FAILURE_BYTES,
    };
    let bytes = proportion(names, listed, looked) + listed * ROW_BYTES + failed * failure;
    // Successes and failures go to separate files, and `manifest.json` comes last.
    let kinds = u64::from(failed > 0) + u64::from(listed > failed);
    let uploads = bytes / SEGMENT_BYTES + kinds + 1;
    OverheadRequests { lists, reads, uploads, report_bytes: u128::from(bytes) }
}

/// Scales counts of the objects that were read to all objects.
struct SampleScale<'a> {
    rows: u64,
    sampled: u64,
    /// The number of objects of each class among those that were read.
    sampled_classes: &'a BTreeMap<Option<StorageClass>, u64>,
    /// The totals of each class, if the source gives the class of every object.
    class_totals: Option<&'a BTreeMap<Option<StorageClass>, ClassTotals>>,
}

impl<'a> SampleScale<'a> {
    fn new(class_stats: &'a StorageClassStats, rows: u64, tally: &'a PredictionTotals) -> Self {
        let class_totals =
            Some(&class_stats.classes).filter(|classes| !classes.is_empty() && !classes.contains_key(&None));
        Self { rows, sampled: tally.total(), sampled_classes: &tally.classes, class_totals }
    }

    /// Scales a count that does not depend on classes.
    fn scale_count(&self, count: u64) -> u64 {
        if self.sampled >= self.rows { count } else { proportion(count, self.rows, self.sampled) }
    }

    /// Scales each kind of request, with its class and its count.
    fn scale_requests(
        &self,
        counts: &BTreeMap<(RequestKind, Option<StorageClass>), RequestCount>,
    ) -> Vec<(Option<StorageClass>, ObjectRequest, u64)> {
        let plain = |(key, sent): (&(RequestKind, Option<StorageClass>), &RequestCount)| {
            (key.1.clone(), sent.call.clone(), sent.count)
        };
        let Some(told) = self.class_totals.filter(|_| self.sampled < self.rows) else {
            return counts
                .iter()
                .map(plain)
                .map(|(class, call, count)| (class, call, self.scale_count(count)))
                .collect();
        };
        let mut kinds: BTreeMap<RequestKind, (&ObjectRequest, u64)> = BTreeMap::new();
        for ((kind, _), sent) in counts {
            kinds.entry(*kind).or_insert((&sent.call, 0)).1 += sent.count;
        }
        let mut all = Vec::new();
        for (class, there) in told {
            for (kind, (call, overall)) in &kinds {
                let seen = self.sampled_classes.get(class).copied().unwrap_or(0);
                let own = counts.get(&(*kind, class.clone()));
                let count = if seen == 0 {
                    // The sample contains no object of this class. Assume that it is like the others.
                    proportion(*overall, there.objects, self.sampled)
                } else {
                    proportion(own.map_or(0, |sent| sent.count), there.objects, seen)
                };
                if count > 0 {
                    // The tier of a restore depends on the class.
                    let call = own.map_or(*call, |sent| &sent.call);
                    all.push((class.clone(), call.clone(), count));
                }
            }
        }
        all
    }
}

/// Returns `count * all / of`, rounded to the nearest integer.
fn proportion(count: u64, all: u64, of: u64) -> u64 {
    let of = u128::from(of.max(1));
    let exact = u128::from(count) * u128::from(all);
    let (whole, rest) = (exact / of, exact % of);
    u64::try_from(whole + u128::from(rest * 2 >= of)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{Effect, Prediction};
    use batchplan_store::object::{BucketName, MaybeKnown, ObjectAcl, ObjectId, ObjectKey, ObjectState};

    fn prospect(class: Option<&str>, sends: Vec<ObjectRequest>) -> Prediction {
        let class = class.map_or(MaybeKnown::Unknown, |class| MaybeKnown::Known(StorageClass::new(class)));
        let before = ObjectState { class, ..ObjectState::default() };
        let object = ObjectId { bucket: BucketName::new("bkt"), key: ObjectKey::from("k"), version: None };
        Prediction { object, effect: Effect::Changes(before.clone()), before, accepted: sends, refused: Vec::new() }
    }

    fn census(classes: &[(Option<&str>, u64, u64)]) -> StorageClassStats {
        let tally = |objects, bytes| ClassTotals { objects, bytes, unsized_objects: 0 };
        let classes =
            classes.iter().map(|(class, objects, bytes)| (class.map(StorageClass::new), tally(*objects, *bytes)));
        StorageClassStats { classes: classes.collect(), versioned_objects: 0 }
    }

    #[test]
    fn each_class_is_scaled_by_its_own() {
        let mut tally = PredictionTotals::default();
        for _ in 0..8 {
            tally.add(
                &prospect(Some("STANDARD"), vec![ObjectRequest::GetAcl, ObjectRequest::PutAcl(ObjectAcl::Private)]),
                Some(1),
            );
        }
        tally.add(&prospect(Some("GLACIER"), vec![ObjectRequest::GetAcl]), Some(1));
        tally.add(
            &prospect(Some("GLACIER"), vec![ObjectRequest::GetAcl, ObjectRequest::PutAcl(ObjectAcl::Private)]),
            Some(1),
        );
        let census = census(&[(Some("STANDARD"), 900, 0), (Some("GLACIER"), 80, 0), (Some("DEEP_ARCHIVE"), 20, 0)]);
        let scale = SampleScale::new(&census, 1000, &tally);
        let mut work = JobWorkload::default();
        for (class, call, count) in scale.scale_requests(&tally.accepted) {
            work.add_requests(BillableRequest::of(&call), class.as_ref(), count);
        }
        let of = |kind: RequestKind, class: &str| work.requests[&(kind.into(), Some(StorageClass::new(class)))];
        assert_eq!((of(RequestKind::GetAcl, "STANDARD"), of(RequestKind::PutAcl, "STANDARD")), (900, 900));
        assert_eq!((of(RequestKind::GetAcl, "GLACIER"), of(RequestKind::PutAcl, "GLACIER")), (80, 40));
        assert_eq!((of(RequestKind::GetAcl, "DEEP_ARCHIVE"), of(RequestKind::PutAcl, "DEEP_ARCHIVE")), (20, 18));
    }

    #[test]
    fn restores_bring_back_the_bytes_of_their_class() {
        let request = RestoreRequest { days: 3, tier: None };
        let mut tally = PredictionTotals::default();
        tally.add(&prospect(Some("GLACIER"), vec![ObjectRequest::Restore(request)]), Some(10));
        tally.add(&prospect(Some("GLACIER"), vec![]), Some(30));
        let census = census(&[(Some("GLACIER"), 1000, 5000)]);
        let scale = SampleScale::new(&census, 1000, &tally);
        let mut work = JobWorkload::default();
        add_restored_data(&mut work, Some(StorageClass::new("GLACIER")), request, 500, &scale, &tally);
        let volume = work.restored.values().next().expect("a volume");
        assert_eq!((volume.objects, volume.bytes, volume.unsized_objects), (500, 2500, 0));
    }

    #[test]
    fn shares_are_rounded_and_do_not_overflow() {
        assert_eq!(proportion(1, 10, 3), 3);
        assert_eq!(proportion(2, 10, 3), 7);
        assert_eq!(proportion(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(proportion(5, 7, 0), 35);
    }
}
