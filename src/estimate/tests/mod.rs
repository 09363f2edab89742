//! Figures from the services' own pages and sums that must be exact.

mod choices;
mod exact;
mod figures;
mod verdicts;

use std::path::Path;

use batchplan_store::object::{RestoreRequest, RestoreTier, StorageClass};
use batchplan_store::object_request::{ObjectRequest, RequestKind};

use super::*;
use crate::money::Money;
use crate::plan::Plan;

const MILLION: u64 = 1_000_000;
const GIGABYTE: u64 = 1 << 30;

pub(super) fn money(text: &str) -> Money {
    Money::parse(text).unwrap_or_else(|| panic!("{text}"))
}

fn class(name: &str) -> StorageClass {
    StorageClass::new(name)
}

/// Returns the built-in entry of this name.
fn rates(name: &str) -> StorePrices {
    let entry = PriceBook::built_in().get(name).cloned();
    StorePrices::Known(Box::new(entry.unwrap_or_else(|| panic!("{name}"))))
}

const NO_REQUESTS: &[RequestKind] = &[];

/// A workload of this number of objects, with one request of each kind for every object.
pub(super) fn asking<K: Copy + Into<BillableRequest>>(
    objects: u64,
    of_class: Option<&str>,
    kinds: &[K],
) -> JobWorkload {
    let mut work = JobWorkload { objects, operations: 1, ..JobWorkload::default() };
    for kind in kinds {
        work.add_requests(*kind, of_class.map(class).as_ref(), objects);
    }
    work
}

/// Returns how a restore with this tier is billed.
pub(super) fn restore_request(tier: Option<RestoreTier>) -> BillableRequest {
    BillableRequest::of(&ObjectRequest::Restore(RestoreRequest { days: Some(1), tier }))
}

/// Adds one restored object, with its bytes if the size is known.
fn add_restore(work: &mut JobWorkload, request: RestoreRequest, class: Option<&StorageClass>, size: Option<u64>) {
    work.add_requests(BillableRequest::of(&ObjectRequest::Restore(request)), class, 1);
    let group = RestoreGroup { class: class.cloned(), tier: request.tier, days: request.days };
    let volume = work.restored.entry(group).or_default();
    volume.objects += 1;
    match size {
        Some(size) => volume.bytes += u128::from(size),
        None => volume.unsized_objects += 1,
    }
}

/// A workload that restores this number of objects of one size.
fn restoring(objects: u64, of_class: &str, tier: Option<RestoreTier>, days: u32, size: u64) -> JobWorkload {
    let mut one = JobWorkload { objects: 1, operations: 1, ..JobWorkload::default() };
    add_restore(&mut one, RestoreRequest { days: Some(days), tier }, Some(&class(of_class)), Some(size));
    let mut work = JobWorkload { objects, operations: 1, ..JobWorkload::default() };
    for asked in one.requests.keys() {
        work.requests.insert(asked.clone(), objects);
    }
    for place in one.restored.keys() {
        let bytes = u128::from(objects) * u128::from(size);
        work.restored.insert(place.clone(), RestoreVolume { objects, bytes, unsized_objects: 0 });
    }
    work
}

fn plan(store: &str, rest: &str) -> Plan {
    let text = format!(
        "name = \"work\"\n[store]\n{store}\n[manifest.prefix]\nbucket = \"my-bucket\"\n[operation.put_object_tagging]\n\
         tags = {{ a = \"b\" }}\n{rest}"
    );
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let (plan, problems) = crate::plan::read("plan.toml", &text, Path::new("folder"), now);
    let titles: Vec<_> = problems.iter().map(|problem| problem.title().to_owned()).collect();
    plan.unwrap_or_else(|| panic!("{titles:?}\n{text}"))
}
