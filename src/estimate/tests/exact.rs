//! Money is exact: parts cost the same counted separately as counted together.

use proptest::prelude::*;

use super::*;

fn entry() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&["aws-us-east-1", "oss-cn"][..])
}

fn kind() -> impl Strategy<Value = BillableRequest> {
    let tier = proptest::sample::select(
        &[None, Some(RestoreTier::Standard), Some(RestoreTier::Bulk), Some(RestoreTier::Expedited)][..],
    );
    prop_oneof![
        proptest::sample::select(
            &[
                RequestKind::GetTags,
                RequestKind::PutTags,
                RequestKind::DeleteTags,
                RequestKind::GetAcl,
                RequestKind::PutAcl,
                RequestKind::Head,
            ][..]
        )
        .prop_map(BillableRequest::from),
        tier.prop_map(restore_request),
    ]
}

fn of_class() -> impl Strategy<Value = Option<StorageClass>> {
    let names = [
        "STANDARD",
        "STANDARD_IA",
        "GLACIER",
        "DEEP_ARCHIVE",
        "Standard",
        "IA",
        "Archive",
        "ColdArchive",
        "x\u{1b}[0m",
    ];
    proptest::option::of(proptest::sample::select(names.to_vec()).prop_map(StorageClass::new))
}

/// Any workload: requests, rejected requests, restores and the program's own requests.
fn work() -> impl Strategy<Value = JobWorkload> {
    let counts = || prop::collection::btree_map((kind(), of_class()), 0..1_u64 << 40, 0..6);
    let volume = (0..1_u64 << 30, 0..1_u128 << 70, 0..3_u64)
        .prop_map(|(objects, bytes, unsized_objects)| RestoreVolume { objects, bytes, unsized_objects });
    let place =
        (of_class(), proptest::sample::select(vec![None, Some(RestoreTier::Bulk)]), proptest::option::of(1..400_u32))
            .prop_map(|(class, tier, days)| RestoreGroup { class, tier, days });
    let restored = prop::collection::btree_map(place, volume, 0..4);
    let own = (0..1_u64 << 40, 0..1000_u64, 0..1000_u64, 0..1_u128 << 50)
        .prop_map(|(lists, reads, uploads, report_bytes)| OverheadRequests { lists, reads, uploads, report_bytes });
    (0..1_u64 << 40, counts(), counts(), restored, own).prop_map(|(objects, requests, refused, restored, own)| {
        JobWorkload {
            objects,
            operations: 1,
            requests,
            rejected: refused,
            unpredictable_objects: 0,
            restored,
            overhead: own,
        }
    })
}

/// Adds the workload of another part of a job.
fn join(into: &mut JobWorkload, other: &JobWorkload) {
    let add = |into: &mut u64, more: u64| *into = into.saturating_add(more);
    add(&mut into.objects, other.objects);
    add(&mut into.unpredictable_objects, other.unpredictable_objects);
    into.operations = into.operations.max(other.operations);
    other.requests.iter().for_each(|((kind, class), count)| into.add_requests(*kind, class.as_ref(), *count));
    other.rejected.iter().for_each(|((kind, class), count)| into.add_rejected_requests(*kind, class.as_ref(), *count));
    for (place, more) in &other.restored {
        let volume = into.restored.entry(place.clone()).or_default();
        add(&mut volume.objects, more.objects);
        add(&mut volume.unsized_objects, more.unsized_objects);
        volume.bytes = volume.bytes.saturating_add(more.bytes);
    }
    let (own, more) = (&mut into.overhead, other.overhead);
    add(&mut own.lists, more.lists);
    add(&mut own.reads, more.reads);
    add(&mut own.uploads, more.uploads);
    own.report_bytes = own.report_bytes.saturating_add(more.report_bytes);
}

fn known(told: &CostEstimate) -> u128 {
    told.total.known.expect("there are prices").parts()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn costs_add_up(entry in entry(), mut one in work(), mut other in work()) {
        one.restored.clear();
        other.restored.clear();
        let rates = rates(entry);
        let mut both = one.clone();
        join(&mut both, &other);
        let (one, other, both) = (estimate(&one, &rates), estimate(&other, &rates), estimate(&both, &rates));
        prop_assert_eq!(known(&one) + known(&other), known(&both));
        prop_assert_eq!(one.total.is_complete() && other.total.is_complete(), both.total.is_complete());
    }

    #[test]
    fn bytes_are_rounded_once_per_line(entry in entry(), one in work(), other in work()) {
        let rates = rates(entry);
        let mut both = one.clone();
        join(&mut both, &other);
        let (one, other, both) = (estimate(&one, &rates), estimate(&other, &rates), estimate(&both, &rates));
        let apart = known(&one) + known(&other);
        let lines = one.lines.len() + other.lines.len();
        prop_assert!(apart.abs_diff(known(&both)) <= lines as u128);
    }

    #[test]
    fn total_is_the_sum_of_the_lines(entry in entry(), work in work()) {
        let told = estimate(&work, &rates(entry));
        let sum = |lines: &mut dyn Iterator<Item = &CostLine>| -> (u128, usize) {
            lines.fold((0, 0), |(sum, unknown), line| match &line.amount {
                Ok(amount) => (sum + amount.parts(), unknown),
                Err(_) => (sum, unknown + 1),
            })
        };
        prop_assert_eq!(sum(&mut told.lines.iter()), (known(&told), told.total.unknown_lines));
        let managed = told.managed_service.expect("a service");
        let objects = told.lines.iter().filter(|line| line.category == CostCategory::Objects);
        let whole = sum(&mut managed.fees.iter().chain(objects));
        prop_assert_eq!(whole, (managed.total.known.expect("fees").parts(), managed.total.unknown_lines));
    }

    #[test]
    fn lines_contain_no_control_characters(entry in entry(), work in work()) {
        for line in estimate(&work, &rates(entry)).lines {
            prop_assert!(!line.description.chars().any(batchplan_store::printable::affects_terminal), "{:?}", line.description);
        }
    }

    #[test]
    fn large_numbers_saturate(entry in entry(), mut work in work()) {
        work.objects = u64::MAX;
        work.operations = u32::MAX;
        work.requests.values_mut().chain(work.rejected.values_mut()).for_each(|count| *count = u64::MAX);
        for volume in work.restored.values_mut() {
            *volume = RestoreVolume { objects: u64::MAX, bytes: u128::MAX, unsized_objects: u64::MAX };
        }
        work.overhead = OverheadRequests { lists: u64::MAX, reads: u64::MAX, uploads: u64::MAX, report_bytes: u128::MAX };
        let mut twice = work.clone();
        join(&mut twice, &work);
        prop_assert_eq!(&twice, &work);
        let rates = rates(entry);
        let told = estimate(&work, &rates);
        let _ = (told.total.to_string(), estimate_run_time(&work, &crate::plan::JobLimits::default(), &rates, &std::collections::BTreeMap::new()));
        prop_assert!(known(&told) > 0);
    }
}
