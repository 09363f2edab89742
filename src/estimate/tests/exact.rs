//! Money is exact: parts cost the same counted separately as counted together.

use proptest::prelude::*;

use super::*;

fn entry() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&["aws-us-east-1", "oss-cn"][..])
}

fn kind() -> impl Strategy<Value = RequestKind> {
    let tier = proptest::sample::select(&[None, Some(Tier::Standard), Some(Tier::Bulk), Some(Tier::Expedited)][..]);
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
        ),
        tier.prop_map(RequestKind::Restore),
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
fn work() -> impl Strategy<Value = Workload> {
    let counts = || prop::collection::btree_map((kind(), of_class()), 0..1_u64 << 40, 0..6);
    let volume = (0..1_u64 << 30, 0..1_u128 << 70, 0..3_u64).prop_map(|(objects, bytes, unsized_objects)| Volume {
        objects,
        bytes,
        unsized_objects,
    });
    let place = (of_class(), proptest::sample::select(vec![None, Some(Tier::Bulk)]), 1..400_u32)
        .prop_map(|(class, tier, days)| Restored { class, tier, days });
    let restored = prop::collection::btree_map(place, volume, 0..4);
    let own = (0..1_u64 << 40, 0..1000_u64, 0..1000_u64, 0..1_u128 << 50)
        .prop_map(|(lists, reads, uploads, report_bytes)| Own { lists, reads, uploads, report_bytes });
    (0..1_u64 << 40, counts(), counts(), restored, own).prop_map(|(objects, requests, refused, restored, own)| {
        Workload { objects, operations: 1, requests, refused, unforeseen: 0, restored, own }
    })
}

/// Adds the workload of another part of a job.
fn join(into: &mut Workload, other: &Workload) {
    let add = |into: &mut u64, more: u64| *into = into.saturating_add(more);
    add(&mut into.objects, other.objects);
    add(&mut into.unforeseen, other.unforeseen);
    into.operations = into.operations.max(other.operations);
    other.requests.iter().for_each(|((kind, class), count)| into.send(*kind, class.as_ref(), *count));
    other.refused.iter().for_each(|((kind, class), count)| into.send_in_vain(*kind, class.as_ref(), *count));
    for (place, more) in &other.restored {
        let volume = into.restored.entry(place.clone()).or_default();
        add(&mut volume.objects, more.objects);
        add(&mut volume.unsized_objects, more.unsized_objects);
        volume.bytes = volume.bytes.saturating_add(more.bytes);
    }
    let (own, more) = (&mut into.own, other.own);
    add(&mut own.lists, more.lists);
    add(&mut own.reads, more.reads);
    add(&mut own.uploads, more.uploads);
    own.report_bytes = own.report_bytes.saturating_add(more.report_bytes);
}

fn known(told: &Estimate) -> u128 {
    told.total.known.expect("there are prices").parts()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_cost_together_what_they_cost_apart(entry in entry(), mut one in work(), mut other in work()) {
        one.restored.clear();
        other.restored.clear();
        let rates = rates(entry);
        let mut both = one.clone();
        join(&mut both, &other);
        let (one, other, both) = (estimate(&one, &rates), estimate(&other, &rates), estimate(&both, &rates));
        prop_assert_eq!(known(&one) + known(&other), known(&both));
        prop_assert_eq!(one.total.is_whole() && other.total.is_whole(), both.total.is_whole());
    }

    #[test]
    fn bytes_are_rounded_once_a_line(entry in entry(), one in work(), other in work()) {
        let rates = rates(entry);
        let mut both = one.clone();
        join(&mut both, &other);
        let (one, other, both) = (estimate(&one, &rates), estimate(&other, &rates), estimate(&both, &rates));
        let apart = known(&one) + known(&other);
        let lines = one.lines.len() + other.lines.len();
        prop_assert!(apart.abs_diff(known(&both)) <= lines as u128);
    }

    #[test]
    fn a_sum_is_that_of_its_lines(entry in entry(), work in work()) {
        let told = estimate(&work, &rates(entry));
        let sum = |lines: &mut dyn Iterator<Item = &Line>| -> (u128, usize) {
            lines.fold((0, 0), |(sum, unknown), line| match &line.amount {
                Ok(amount) => (sum + amount.parts(), unknown),
                Err(_) => (sum, unknown + 1),
            })
        };
        prop_assert_eq!(sum(&mut told.lines.iter()), (known(&told), told.total.unknown));
        let managed = told.managed.expect("a service");
        let objects = told.lines.iter().filter(|line| line.part == Part::Objects);
        let whole = sum(&mut managed.fees.iter().chain(objects));
        prop_assert_eq!(whole, (managed.total.known.expect("fees").parts(), managed.total.unknown));
    }

    #[test]
    fn what_is_said_of_a_workload_drives_no_terminal(entry in entry(), work in work()) {
        for line in estimate(&work, &rates(entry)).lines {
            prop_assert!(!line.what.chars().any(crate::diagnostics::drives_terminal), "{:?}", line.what);
        }
    }

    #[test]
    fn no_number_is_too_large(entry in entry(), mut work in work()) {
        work.objects = u64::MAX;
        work.operations = u32::MAX;
        work.requests.values_mut().chain(work.refused.values_mut()).for_each(|count| *count = u64::MAX);
        for volume in work.restored.values_mut() {
            *volume = Volume { objects: u64::MAX, bytes: u128::MAX, unsized_objects: u64::MAX };
        }
        work.own = Own { lists: u64::MAX, reads: u64::MAX, uploads: u64::MAX, report_bytes: u128::MAX };
        let mut twice = work.clone();
        join(&mut twice, &work);
        prop_assert_eq!(&twice, &work);
        let rates = rates(entry);
        let told = estimate(&work, &rates);
        let _ = (told.total.to_string(), hours(&work, &crate::plan::Limits::default(), &rates));
        prop_assert!(known(&told) > 0);
    }
}
