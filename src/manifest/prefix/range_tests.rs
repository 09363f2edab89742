//! Ranges against a bucket that is a sorted list: no object is missing or duplicated, whatever the keys, the pages and
//! the split points; and how long a listing takes if all responses take equally long.

use std::collections::BTreeMap;

use batchplan_store::object::VersionId;
use proptest::prelude::*;

use super::*;
use crate::manifest::testing::listed;

/// A bucket as a server sees it.
struct Bucket {
    /// Keys and versions in the server's order; `false` is a delete marker, which takes room on a page and is not
    /// returned.
    rows: Vec<(ObjectKey, &'static str, bool)>,
    page: usize,
    all_versions: bool,
}

impl Bucket {
    fn list(&self, from: Option<&ListPosition>) -> ListPage {
        let begin = match from {
            None => 0,
            Some(ListPosition::Token(token)) => token.parse().unwrap(),
            Some(ListPosition::After { key, version: None }) => self.rows.partition_point(|row| row.0 <= *key),
            Some(ListPosition::After { key, version: Some(version) }) => {
                1 + self.rows.iter().position(|row| row.0 == *key && row.1 == version.as_str()).unwrap()
            }
        };
        let end = self.rows.len().min(begin + self.page);
        let rows = &self.rows[begin..end];
        let entry = |row: &(ObjectKey, &'static str, bool)| {
            let version = self.all_versions.then_some(row.1);
            row.2.then(|| listed(row.0.as_bytes(), 1, version))
        };
        let next = rows.last().filter(|_| end < self.rows.len()).map(|(key, version, _)| {
            if self.all_versions {
                ListPosition::After { key: key.clone(), version: Some(VersionId::new(version)) }
            } else {
                ListPosition::Token(end.to_string())
            }
        });
        ListPage { entries: rows.iter().filter_map(entry).collect(), next, ..ListPage::default() }
    }

    fn objects(&self) -> Vec<(ObjectKey, Option<&str>)> {
        let live = self.rows.iter().filter(|row| row.2);
        live.map(|row| (row.0.clone(), self.all_versions.then_some(row.1))).collect()
    }
}

/// The entries that were consumed, as the consumer thread does it.
struct Taken {
    lanes: BTreeMap<u32, Vec<(ObjectKey, Option<VersionId>)>>,
    order: Vec<PartitionId>,
}

impl Taken {
    fn new() -> Self {
        Self { lanes: BTreeMap::new(), order: vec![PartitionId(0)] }
    }

    fn cut(&mut self, lane: PartitionId) {
        let place = self.order.iter().position(|it| *it == lane).unwrap();
        self.order.insert(place + 1, PartitionId(u32::try_from(self.order.len()).unwrap()));
    }

    fn take(&mut self, message: ListingMessage) {
        let ListingMessage::Page { partition: lane, entries, .. } = message else { panic!("a page") };
        let rows = entries.into_iter().map(|entry| (entry.key, entry.version));
        self.lanes.entry(lane.0).or_default().extend(rows);
    }

    fn rows(&self) -> Vec<(ObjectKey, Option<&str>)> {
        let lanes = self.order.iter().filter_map(|lane| self.lanes.get(&lane.0)).flatten();
        lanes.map(|(key, version)| (key.clone(), version.as_ref().map(VersionId::as_str))).collect()
    }
}

const EAGER: ListingConcurrency = ListingConcurrency::new(16, 1, 0);

fn ranges(bucket: &Bucket, prefix: &str, spread: ListingConcurrency) -> ListingRanges {
    ListingRanges::new(ObjectKey::from(prefix), bucket.all_versions, &[RangeCursor::unstarted()], spread)
}

fn probed(ranges: &mut ListingRanges, taken: &mut Taken, bucket: &Bucket, lane: PartitionId, at: ObjectKey) {
    match ranges.record_probe(lane, bucket.list(Some(&ListPosition::After { key: at, version: None }))) {
        ProbeOutcome::NotSplit => {}
        ProbeOutcome::Split { message, .. } => {
            taken.cut(lane);
            taken.take(message);
        }
        ProbeOutcome::Unsupported(why) => panic!("{why}"),
    }
}

/// Runs random steps: a page of a range, a split at any key, the response to a probe.
fn drawn(bucket: &Bucket, steps: &[(u8, usize, ObjectKey)]) -> Vec<(ObjectKey, Option<String>)> {
    let (mut ranges, mut taken, mut cuts) = (ranges(bucket, "", EAGER), Taken::new(), Vec::new());
    let mut steps = steps.iter().cycle().cloned();
    for _ in 0..10_000 {
        let (step, which, at) = steps.next().unwrap();
        let open: Vec<PartitionId> =
            ranges.all.iter().filter(|it| it.position != RangePosition::Finished).map(|it| it.partition).collect();
        let lane = if open.is_empty() { None } else { Some(open[which % open.len()]) };
        match (lane, step) {
            (None, _) if cuts.is_empty() => {
                let rows = taken.rows().into_iter();
                return rows.map(|(key, version)| (key, version.map(str::to_owned))).collect();
            }
            (Some(lane), 0) => {
                let range = ranges.all.iter().find(|range| range.partition == lane).unwrap();
                let behind =
                    range.validator.last.as_ref().or(range.validator.after.as_ref()).is_none_or(|last| at > *last);
                if range.probing.is_none()
                    && behind
                    && range.contains(&listed(at.as_bytes(), 0, None))
                    && range.until.as_ref() != Some(&at)
                {
                    ranges.record_attempt(lane, at.clone());
                    cuts.push((lane, at));
                }
            }
            (_, 1) | (None, _) if !cuts.is_empty() => {
                let (lane, at) = cuts.remove(which % cuts.len());
                probed(&mut ranges, &mut taken, bucket, lane, at);
            }
            (Some(lane), _) => {
                let range = ranges.all.iter().find(|range| range.partition == lane).unwrap();
                let RangePosition::ListFrom(from) = range.position.clone() else { panic!("open") };
                let message = ranges.record_page(lane, from.as_ref(), bucket.list(from.as_ref())).unwrap();
                taken.take(message);
            }
            (None, _) => {}
        }
    }
    panic!("it does not end");
}

const IDS: [&str; 4] = ["4", "3", "2", "null"];

fn rows(keys: BTreeMap<String, (usize, Vec<bool>)>, all_versions: bool) -> Vec<(ObjectKey, &'static str, bool)> {
    let mut rows = Vec::new();
    for (key, (versions, live)) in keys {
        for (version, id) in IDS.iter().enumerate().take(if all_versions { versions } else { 1 }) {
            rows.push((ObjectKey::from(key.as_str()), *id, !all_versions || live[version]));
        }
    }
    rows
}

proptest! {
    #[test]
    fn lists_every_object_exactly_once(
        keys in proptest::collection::btree_map("[a-c/é~]{1,4}", (1_usize..5, proptest::collection::vec(any::<bool>(), 4)), 1..40),
        page in 1_usize..6,
        all_versions in any::<bool>(),
        steps in proptest::collection::vec((0_u8..5, any::<usize>(), "[a-d/é~]{0,4}"), 1..60),
    ) {
        let bucket = Bucket { rows: rows(keys, all_versions), page, all_versions };
        let mut steps: Vec<_> = steps.iter().map(|(step, which, at)| (*step, *which, ObjectKey::from(at.as_str()))).collect();
        // Pages and responses, so that it ends.
        steps.extend([(2, 0, ObjectKey::from("")), (1, 0, ObjectKey::from(""))]);
        let expected: Vec<_> = bucket.objects().into_iter().map(|(key, id)| (key, id.map(str::to_owned))).collect();
        prop_assert_eq!(drawn(&bucket, &steps), expected);
    }
}

/// The cost of a listing if all responses take equally long.
struct Cost {
    rounds: u32,
    requests: usize,
}

fn cost(bucket: &Bucket, prefix: &str, spread: ListingConcurrency) -> Cost {
    let (mut ranges, mut taken) = (ranges(bucket, prefix, spread), Taken::new());
    let mut cost = Cost { rounds: 0, requests: 0 };
    loop {
        let (mut pages, mut cuts) = (Vec::new(), Vec::new());
        while pages.len() + cuts.len() < spread.workers as usize {
            if let Some(wanted) = ranges.next_request() {
                pages.push(wanted);
            } else if let Some(cut) = ranges.next_split() {
                cuts.push(cut);
            } else {
                break;
            }
        }
        if pages.is_empty() && cuts.is_empty() {
            break;
        }
        cost.rounds += 1;
        cost.requests += pages.len() + cuts.len();
        for wanted in pages {
            let page = bucket.list(wanted.from.as_ref());
            taken.take(ranges.record_page(wanted.partition, wanted.from.as_ref(), page).unwrap());
        }
        for (lane, at) in cuts {
            probed(&mut ranges, &mut taken, bucket, lane, at);
        }
    }
    assert!(taken.rows() == bucket.objects(), "the same objects in the same order");
    cost
}

fn bucket(mut keys: Vec<String>) -> Bucket {
    keys.sort();
    let rows = keys.iter().map(|key| (ObjectKey::from(key.as_str()), "null", true)).collect();
    Bucket { rows, page: 10, all_versions: false }
}

/// A number that looks random, and is the same in every run.
fn hash(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Buckets like those of users, with 400 pages each.
fn key_spaces() -> Vec<(&'static str, Vec<String>)> {
    let all = || 0..4000_u64;
    let days = |n: u64| format!("{}/{:02}/{:02}", 2015 + n / 336 % 12, n / 28 % 12 + 1, n % 28 + 1);
    vec![
        ("hashes", all().map(|n| format!("p/{:016x}", hash(n))).collect()),
        ("numbers", all().map(|n| format!("p/object-{n:09}")).collect()),
        ("one long prefix", all().map(|n| format!("p/a/very/deep/folder/of/one/application/logs/{n:07}.gz")).collect()),
        ("dates", all().map(|n| format!("p/logs/{}/{:08x}", days(n), hash(n) >> 32)).collect()),
        ("one day", all().map(|n| format!("p/2026/11/26/{:02}/{:02}/x-{n}", n / 167, n % 60)).collect()),
        (
            "documents by month and customer",
            all()
                .map(|n| format!("p/documents/2024/{:02}/customer-{:09}/scan-{n:012}.pdf", n % 12 + 1, n % 977))
                .collect(),
        ),
        (
            "three directories",
            all()
                .map(|n| {
                    format!("p/{}/{:06}", ["alpha", "beta", "omega"][usize::from(n > 900) + usize::from(n > 3300)], n)
                })
                .collect(),
        ),
        ("uuids in tenants", all().map(|n| format!("p/tenant-{}/{:016x}/v{}.json", n % 7, hash(n), n % 3)).collect()),
        (
            "words",
            all()
                .map(|n| {
                    format!("p/{}/größe-{n}-日本", ["aa", "mm", "ñandú", "zz", "日本"][usize::try_from(n % 5).unwrap()])
                })
                .collect(),
        ),
        (
            "one directory among a hundred",
            all()
                .map(|n| if n < 100 { format!("p/{n:03}/x") } else { format!("p/042/{:012x}", hash(n) >> 16) })
                .collect(),
        ),
    ]
}

#[test]
fn a_large_listing_is_at_least_three_times_as_fast_whatever_its_keys_are() {
    let mut slow = Vec::new();
    for (name, keys) in key_spaces() {
        let bucket = bucket(keys);
        let one = cost(&bucket, "p/", ListingConcurrency { workers: 1, ..ListingConcurrency::default() });
        let many = cost(&bucket, "p/", ListingConcurrency::default());
        let ratio = f64::from(one.rounds) / f64::from(many.rounds);
        let extra = many.requests - one.requests;
        assert!(extra <= one.requests / 7 + 1, "{name}: {extra} requests more than {}", one.requests);
        if ratio < 3.0 {
            slow.push((name, ratio));
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}

#[test]
fn a_small_listing_sends_no_request_more() {
    for pages in 1..=8 {
        let keys = (0..pages * 10).map(|n| format!("p/{n:04}")).collect();
        assert_eq!(cost(&bucket(keys), "p/", ListingConcurrency::default()).requests, pages);
    }
}

#[test]
fn an_entry_that_a_page_begins_with_again_is_taken_once() {
    let bucket = Bucket { rows: Vec::new(), page: 10, all_versions: true };
    let mut ranges = ranges(&bucket, "", EAGER);
    let after = |id: &str| ListPosition::After { key: ObjectKey::from("k"), version: Some(VersionId::new(id)) };
    let page = |ids: &[&str], next| ListPage {
        entries: ids.iter().map(|id| listed(b"k", 1, Some(id))).collect(),
        next,
        ..ListPage::default()
    };
    let mut taken = Taken::new();
    taken.take(ranges.record_page(PartitionId(0), None, page(&["4", "3"], Some(after("3")))).unwrap());
    taken.take(ranges.record_page(PartitionId(0), Some(&after("3")), page(&["3", "2"], None)).unwrap());
    assert_eq!(taken.rows().iter().map(|row| row.1.unwrap()).collect::<Vec<_>>(), ["4", "3", "2"]);
}

#[test]
fn a_marker_that_names_what_comes_next_loses_nothing() {
    let bucket = Bucket { rows: Vec::new(), page: 10, all_versions: true };
    let mut ranges = ranges(&bucket, "", EAGER);
    let after =
        |key: &str, id: &str| ListPosition::After { key: ObjectKey::from(key), version: Some(VersionId::new(id)) };
    let page = |keys: &[(&str, &str)], next| ListPage {
        entries: keys.iter().map(|(key, id)| listed(key.as_bytes(), 1, Some(id))).collect(),
        next,
        ..ListPage::default()
    };
    let mut taken = Taken::new();
    let pages = [
        (None, page(&[("a", "1")], Some(after("b", "2")))),
        (Some(after("b", "2")), page(&[("b", "2")], Some(after("b", "1")))),
        (Some(after("b", "1")), page(&[("b", "1")], None)),
    ];
    for (from, page) in pages {
        taken.take(ranges.record_page(PartitionId(0), from.as_ref(), page).unwrap());
    }
    assert_eq!(taken.rows().iter().map(|row| row.1.unwrap()).collect::<Vec<_>>(), ["1", "2", "1"]);
}

/// The markers of MinIO are keys with a suffix, and therefore greater than the keys that they stand for.
#[test]
fn a_marker_beyond_the_end_of_a_range_does_not_end_a_key_that_has_more_versions() {
    let mark = RangeCursor { until: Some(ObjectKey::from("k")), ..RangeCursor::unstarted() };
    let mut ranges = ListingRanges::new(ObjectKey::from(""), true, &[mark], EAGER);
    let after = |key: &str| ListPosition::After { key: ObjectKey::from(key), version: Some(VersionId::new("3")) };
    let entries = ["4", "3"].map(|id| listed(b"k", 1, Some(id))).into();
    let page = ListPage { entries, next: Some(after("k[minio_cache:v2,return:]")), ..ListPage::default() };
    let Ok(ListingMessage::Page { next, .. }) = ranges.record_page(PartitionId(0), None, page) else {
        panic!("a page")
    };
    assert_eq!(next, RangePosition::ListFrom(Some(after("k"))));
}
