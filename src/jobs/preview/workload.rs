//! Computes what the whole job sends from the objects that were read: exact if all were read, scaled if they are a
//! sample.

use std::collections::BTreeMap;

use crate::call::Call;
use crate::completion::{ReportFormat, ReportScope};
use crate::diff::{Sent, Tally};
use crate::estimate::{Own, RequestKind, Restored, Workload};
use crate::manifest::{Census, ClassTally};
use crate::object::{ObjectId, RestoreRequest, StorageClass};
use crate::plan::Plan;

/// Bytes of a row in a report besides its names: status, code and separators.
const ROW_BYTES: u64 = 40;

/// Bytes that a failure adds to a row: JSON in the OSS format, only a message in the AWS format.
const OSS_FAILURE_BYTES: u64 = 400;
const AWS_FAILURE_BYTES: u64 = 100;

/// The size in bytes at which a report file is closed and uploaded.
const SEGMENT_BYTES: u64 = crate::report::ROTATE_AT;

/// Returns the requests and data volumes of the whole job. `asked` is the number of listing pages and of objects that
/// were read for the preview; the job reads the same.
pub(super) fn workload(
    plan: &Plan,
    census: &Census,
    rows: u64,
    tally: &Tally,
    asked: (u64, u64),
    names: u64,
) -> Workload {
    let scale = Scale::new(census, rows, tally);
    let mut work = Workload {
        objects: rows,
        operations: u32::try_from(plan.operations.len()).unwrap_or(u32::MAX),
        ..Workload::default()
    };
    for (class, call, count) in scale.all(&tally.sends) {
        work.send(RequestKind::of(&call), class.as_ref(), count);
        if let Call::Restore(request) = call {
            restore(&mut work, class, request, count, &scale, tally);
        }
    }
    for (class, call, count) in scale.all(&tally.refused) {
        work.send_in_vain(RequestKind::of(&call), class.as_ref(), count);
    }
    work.unforeseen = scale.one(tally.open);
    work.own = own(plan, rows, tally, asked, names);
    work
}

/// Adds the data that restores of one class bring back.
fn restore(
    work: &mut Workload,
    class: Option<StorageClass>,
    request: RestoreRequest,
    objects: u64,
    scale: &Scale<'_>,
    tally: &Tally,
) {
    // Nothing is known about single objects of a manifest that was frozen earlier.
    let told_later = tally.restored.get(&class).is_some_and(|(_, unknown)| *unknown > 0);
    let (bytes, unsized_objects) = match scale.told.and_then(|classes| classes.get(&class)) {
        // The source gives totals of the whole class. The restored part of it is assumed to have the average size.
        Some(all) if tally.looked() < scale.rows || told_later => {
            (share(all.bytes, objects, all.objects), share(all.unsized_objects, objects, all.objects))
        }
        _ => {
            let (bytes, unknown) = tally.restored.get(&class).copied().unwrap_or_default();
            (scale.one(bytes), scale.one(unknown))
        }
    };
    let place = Restored { class, tier: request.tier, days: request.days };
    let volume = work.restored.entry(place).or_default();
    volume.objects = volume.objects.saturating_add(objects);
    volume.bytes = volume.bytes.saturating_add(u128::from(bytes));
    volume.unsized_objects = volume.unsized_objects.saturating_add(unsized_objects);
}

/// Returns the requests and bytes that the program needs for itself.
fn own(plan: &Plan, rows: u64, tally: &Tally, (lists, reads): (u64, u64), names: u64) -> Own {
    let Some(_) = &plan.report.place else { return Own { lists, reads, ..Own::default() } };
    let looked = tally.looked().max(1);
    let failed = share(tally.fails, rows, looked);
    let listed = match plan.report.scope {
        ReportScope::AllTasks => rows,
        ReportScope::FailedTasksOnly => failed,
    };
    let failure = match plan.report.format {
        ReportFormat::Oss => OSS_FAILURE_BYTES,
        ReportFormat::Aws => AWS_FAILURE_BYTES,
    };
    let bytes = share(names, listed, looked) + listed * ROW_BYTES + failed * failure;
    // Successes and failures go to separate files, and `manifest.json` comes last.
    let kinds = u64::from(failed > 0) + u64::from(listed > failed);
    let uploads = bytes / SEGMENT_BYTES + kinds + 1;
    Own { lists, reads, uploads, report_bytes: u128::from(bytes) }
}

/// Returns the bytes that the names of an object take in a report.
pub(super) fn name_bytes(object: &ObjectId) -> u64 {
    let version = object.version.as_ref().map_or(0, |version| version.as_str().len());
    (object.bucket.as_str().len() + object.key.encoded_keeping_slashes().len() + version) as u64
}

/// Scales counts of the objects that were read to all objects.
struct Scale<'a> {
    rows: u64,
    looked: u64,
    /// The number of objects of each class among those that were read.
    seen: &'a BTreeMap<Option<StorageClass>, u64>,
    /// The totals of each class, if the source gives the class of every object.
    told: Option<&'a BTreeMap<Option<StorageClass>, ClassTally>>,
}

impl<'a> Scale<'a> {
    fn new(census: &'a Census, rows: u64, tally: &'a Tally) -> Self {
        let told = Some(&census.classes).filter(|classes| !classes.is_empty() && !classes.contains_key(&None));
        Self { rows, looked: tally.looked(), seen: &tally.classes, told }
    }

    /// Scales a count that does not depend on classes.
    fn one(&self, count: u64) -> u64 {
        if self.looked >= self.rows { count } else { share(count, self.rows, self.looked) }
    }

    /// Scales each kind of request, with its class and its count.
    fn all(
        &self,
        counts: &BTreeMap<(&'static str, Option<StorageClass>), Sent>,
    ) -> Vec<(Option<StorageClass>, Call, u64)> {
        let plain =
            |(key, sent): (&(&str, Option<StorageClass>), &Sent)| (key.1.clone(), sent.call.clone(), sent.count);
        let Some(told) = self.told.filter(|_| self.looked < self.rows) else {
            return counts.iter().map(plain).map(|(class, call, count)| (class, call, self.one(count))).collect();
        };
        let mut kinds: BTreeMap<&str, (&Call, u64)> = BTreeMap::new();
        for ((kind, _), sent) in counts {
            kinds.entry(kind).or_insert((&sent.call, 0)).1 += sent.count;
        }
        let mut all = Vec::new();
        for (class, there) in told {
            for (kind, (call, overall)) in &kinds {
                let seen = self.seen.get(class).copied().unwrap_or(0);
                let own = counts.get(&(*kind, class.clone()));
                let count = if seen == 0 {
                    // The sample contains no object of this class. Assume that it is like the others.
                    share(*overall, there.objects, self.looked)
                } else {
                    share(own.map_or(0, |sent| sent.count), there.objects, seen)
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
fn share(count: u64, all: u64, of: u64) -> u64 {
    let of = u128::from(of.max(1));
    let exact = u128::from(count) * u128::from(all);
    let (whole, rest) = (exact / of, exact % of);
    u64::try_from(whole + u128::from(rest * 2 >= of)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{Fate, Prospect};
    use crate::object::{Acl, Bucket, Fact, Key, ObjectState};

    fn prospect(class: Option<&str>, sends: Vec<Call>) -> Prospect {
        let class = class.map_or(Fact::Unknown, |class| Fact::Known(StorageClass::new(class)));
        let before = ObjectState { class, ..ObjectState::default() };
        let object = ObjectId { bucket: Bucket::new("bkt"), key: Key::from("k"), version: None };
        Prospect { object, fate: Fate::Changes(before.clone()), before, sends, refused: Vec::new() }
    }

    fn census(classes: &[(Option<&str>, u64, u64)]) -> Census {
        let tally = |objects, bytes| ClassTally { objects, bytes, unsized_objects: 0 };
        let classes =
            classes.iter().map(|(class, objects, bytes)| (class.map(StorageClass::new), tally(*objects, *bytes)));
        Census { classes: classes.collect(), versions: 0 }
    }

    #[test]
    fn each_class_is_scaled_by_its_own() {
        let mut tally = Tally::default();
        for _ in 0..8 {
            tally.add(&prospect(Some("STANDARD"), vec![Call::GetAcl, Call::PutAcl(Acl::Private)]), Some(1));
        }
        tally.add(&prospect(Some("GLACIER"), vec![Call::GetAcl]), Some(1));
        tally.add(&prospect(Some("GLACIER"), vec![Call::GetAcl, Call::PutAcl(Acl::Private)]), Some(1));
        let census = census(&[(Some("STANDARD"), 900, 0), (Some("GLACIER"), 80, 0), (Some("DEEP_ARCHIVE"), 20, 0)]);
        let scale = Scale::new(&census, 1000, &tally);
        let mut work = Workload::default();
        for (class, call, count) in scale.all(&tally.sends) {
            work.send(RequestKind::of(&call), class.as_ref(), count);
        }
        let of = |kind, class: &str| work.requests[&(kind, Some(StorageClass::new(class)))];
        assert_eq!((of(RequestKind::GetAcl, "STANDARD"), of(RequestKind::PutAcl, "STANDARD")), (900, 900));
        assert_eq!((of(RequestKind::GetAcl, "GLACIER"), of(RequestKind::PutAcl, "GLACIER")), (80, 40));
        assert_eq!((of(RequestKind::GetAcl, "DEEP_ARCHIVE"), of(RequestKind::PutAcl, "DEEP_ARCHIVE")), (20, 18));
    }

    #[test]
    fn restores_bring_back_the_bytes_of_their_class() {
        let request = RestoreRequest { days: 3, tier: None };
        let mut tally = Tally::default();
        tally.add(&prospect(Some("GLACIER"), vec![Call::Restore(request)]), Some(10));
        tally.add(&prospect(Some("GLACIER"), vec![]), Some(30));
        let census = census(&[(Some("GLACIER"), 1000, 5000)]);
        let scale = Scale::new(&census, 1000, &tally);
        let mut work = Workload::default();
        restore(&mut work, Some(StorageClass::new("GLACIER")), request, 500, &scale, &tally);
        let volume = work.restored.values().next().expect("a volume");
        assert_eq!((volume.objects, volume.bytes, volume.unsized_objects), (500, 2500, 0));
    }

    #[test]
    fn shares_are_rounded_and_do_not_overflow() {
        assert_eq!(share(1, 10, 3), 3);
        assert_eq!(share(2, 10, 3), 7);
        assert_eq!(share(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(share(5, 7, 0), 35);
    }
}
