//! Random interruptions, and random damage to the files as after a crash: the resulting rows are always the same.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use batchplan_store::object::ObjectId;
use globset::Glob;
use proptest::prelude::*;

use super::breaking::{
    Breaking, End, attempt, exact, inventory_of, latest, listing, part_files, rows, same_as_fresh, whole,
};
use crate::manifest::filter::Filter;
use crate::manifest::freeze::FreezeCheckpointPolicy;
use crate::manifest::freeze::FreezeConfig;
use crate::manifest::part::PartLimits;
use crate::manifest::prefix::ListingConcurrency;
use crate::manifest::sort::SortBudget;
use crate::manifest::spec::{ListedVersions, Manifest};
use crate::manifest::testing::{MemoryStore, SINGLE_WORKER};
use crate::manifest::{KeyGlobs, freeze_checkpoint, frozen};

/// What happens to the files between two attempts: what a crash can leave, and worse.
#[derive(Clone, Debug)]
enum Mishap {
    None,
    /// The last part has rows that were written after the checkpoint.
    Tail(Vec<u8>),
    /// The checkpoint was being replaced.
    TornDraft,
    /// A part was started after the checkpoint.
    ExtraPart,
    /// A part was truncated.
    CutPart(usize, u64),
    /// The checkpoint is damaged.
    CutDraft(u64),
    /// The checkpoint is gone.
    NoDraft,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        Just(Mishap::None),
        proptest::collection::vec(any::<u8>(), 1..50).prop_map(Mishap::Tail),
        Just(Mishap::TornDraft),
        Just(Mishap::ExtraPart),
        (0_usize..4, 0_u64..200).prop_map(|(part, bytes)| Mishap::CutPart(part, bytes)),
        (0_u64..400).prop_map(Mishap::CutDraft),
        Just(Mishap::NoDraft),
    ]
}

impl Mishap {
    fn befall(&self, folder: &Path) {
        let (home, parts) = (frozen::manifest_folder(folder), part_files(folder));
        let cut = |path: &Path, bytes: u64| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len().min(bytes)).unwrap();
        };
        match self {
            Self::None => {}
            Self::Tail(junk) => {
                // A sealed part is never written to again.
                let draft = fs::read_to_string(home.join("progress.json")).unwrap_or_default();
                if let Some(last) = parts.last().filter(|_| !draft.contains(r#""open":null"#)) {
                    let text = fs::read(last).unwrap();
                    fs::write(last, [text.as_slice(), junk].concat()).unwrap();
                }
            }
            Self::TornDraft => fs::write(home.join("progress.json.draft"), b"{\"crc").unwrap(),
            Self::ExtraPart => fs::write(crate::manifest::part::part_path(&home, 900), b"x").unwrap(),
            Self::CutPart(part, bytes) => {
                if let Some(path) = parts.get(*part) {
                    cut(path, *bytes);
                }
            }
            Self::CutDraft(bytes) => {
                let path = home.join("progress.json");
                if path.exists() {
                    cut(&path, *bytes);
                }
            }
            Self::NoDraft => freeze_checkpoint::remove(&home).unwrap(),
        }
    }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Stop), Just(End::Drop), Just(End::Fail)]
}

fn sizes() -> impl Strategy<Value = FreezeConfig> {
    (1_usize..5, 1_u32..9, 1_u32..5, 1_u64..12).prop_map(|(block_rows, part_rows, steps, rows)| FreezeConfig {
        part_limits: PartLimits::new(block_rows, part_rows),
        checkpoint_policy: FreezeCheckpointPolicy::new(steps, rows),
        listing: SINGLE_WORKER,
        sort_budget: SortBudget { bytes: 256, runs: 3 },
        max_disk: None,
        max_objects: None,
    })
}

fn spread() -> impl Strategy<Value = ListingConcurrency> {
    let eager = (1_u32..6, 1_u64..4);
    prop_oneof![
        Just(SINGLE_WORKER),
        eager.prop_map(|(workers, pages_a_cut)| ListingConcurrency::new(workers, pages_a_cut, 0))
    ]
}

/// Interrupts repeatedly, then finishes, and compares the result with that of an uninterrupted attempt.
fn interrupted_is_uninterrupted(
    store: &Arc<MemoryStore>,
    manifest: &Manifest,
    sizes: FreezeConfig,
    breaks: &[(usize, End, Mishap)],
) -> Vec<ObjectId> {
    let folder = tempfile::tempdir().unwrap();
    for (after, end, mishap) in breaks {
        if let Some(Ok(_)) = attempt(folder.path(), &Breaking::new(store, *after, *end), manifest, sizes) {
            continue;
        }
        mishap.befall(folder.path());
    }
    let frozen = whole(folder.path(), store, manifest, sizes).unwrap();
    same_as_fresh(folder.path(), &frozen, store, manifest, sizes);
    rows(&frozen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_interrupted_listing_is_as_an_uninterrupted_one(
        keys in proptest::collection::btree_set("[a-d%+é]{1,5}", 1..40),
        // Distinct, because a version that is listed twice is rejected.
        ids in proptest::collection::hash_set("[0-9]{1,3}", 0..3),
        page in 1_usize..5,
        all in any::<bool>(),
        filtered in any::<bool>(),
        sizes in sizes(),
        spread in spread(),
        breaks in proptest::collection::vec((0_usize..20, end(), mishap()), 0..5),
    ) {
        let sizes = FreezeConfig { listing: spread, ..sizes };
        let mut store = MemoryStore { page, versions: ids.into_iter().collect(), ..MemoryStore::default() };
        for key in &keys {
            store.put(&format!("p/{key}"), key.as_bytes());
        }
        let filter = Filter { larger_than: filtered.then_some(2), ..Filter::default() };
        let versions = if all { ListedVersions::All } else { ListedVersions::Current };
        let manifest = Manifest { filter, ..listing(versions) };
        let store = Arc::new(store);
        let frozen = interrupted_is_uninterrupted(&store, &manifest, sizes, &breaks);
        let alone = tempfile::tempdir().unwrap();
        let alone = whole(alone.path(), &store, &manifest, FreezeConfig { listing: SINGLE_WORKER, ..sizes }).unwrap();
        prop_assert_eq!(frozen, rows(&alone), "the order is that of one listing");
    }

    #[test]
    fn an_interrupted_inventory_is_as_an_uninterrupted_one(
        files in proptest::collection::vec(proptest::collection::vec("[a-d+]{1,5}", 0..9), 1..9),
        newest in any::<bool>(),
        filtered in any::<bool>(),
        sizes in sizes(),
        breaks in proptest::collection::vec((0_usize..12, end(), mishap()), 0..5),
    ) {
        let mut files = files;
        files[0].push("k".into());
        let store = Arc::new(inventory_of(&files));
        let exclude = filtered.then(|| KeyGlobs::new([Glob::new("*a*").unwrap()]).unwrap());
        let filter = Filter { exclude, ..Filter::default() };
        let manifest = Manifest { filter, ..if newest { latest() } else { exact() } };
        interrupted_is_uninterrupted(&store, &manifest, sizes, &breaks);
    }
}
