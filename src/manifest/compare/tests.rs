use std::collections::BTreeSet;
use std::fs;

use batchplan_store::object::{BucketName, ObjectKey, VersionId};
use proptest::prelude::*;

use super::*;
use crate::manifest::frozen::manifest_folder;
use crate::manifest::frozen::tests::{PartLimits, freeze};
use crate::manifest::part::part_path;

type Name = (String, Vec<u8>, Option<String>);

const LIMITS: PartLimits = PartLimits::new(3, 7);

/// Small enough that a run holds about three names.
const ROOM: SortBudget = SortBudget { bytes: 100, runs: 2 };

fn frozen(names: &[Name]) -> (tempfile::TempDir, FrozenManifest) {
    let rows: Vec<_> =
        names.iter().map(|(bucket, key, version)| (bucket.as_str(), key.as_slice(), version.as_deref())).collect();
    freeze(&rows, LIMITS)
}

fn object((bucket, key, version): &Name) -> ObjectId {
    ObjectId {
        bucket: BucketName::new(bucket),
        key: ObjectKey::new(key.as_slice()),
        version: version.as_deref().map(VersionId::new),
    }
}

/// Compares, and checks that no temporary file remains.
fn difference(old: &[Name], new: &[Name]) -> ManifestDifference {
    let (scratch, old, new) = (tempfile::tempdir().unwrap(), frozen(old), frozen(new));
    let found = compare_with_budget(ROOM, &old.1, &new.1, scratch.path(), &CancellationToken::new()).unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    found
}

fn keys(keys: impl IntoIterator<Item = u32>) -> Vec<Name> {
    keys.into_iter().map(|key| ("b".to_owned(), format!("key/{key:04}").into_bytes(), None)).collect()
}

fn backwards(mut names: Vec<Name>) -> Vec<Name> {
    names.reverse();
    names
}

#[test]
fn what_was_added_and_what_is_gone_is_counted_and_named() {
    let (old, new) = (keys(0..200), keys((3..190).chain(300..309)));
    let expected = ManifestDifference {
        added: 9,
        removed: 13,
        added_examples: keys(300..305).iter().map(object).collect(),
        removed_examples: keys([0, 1, 2, 190, 191]).iter().map(object).collect(),
    };
    for (old, new) in [
        (old.clone(), new.clone()),
        (backwards(old.clone()), new.clone()),
        (old.clone(), backwards(new.clone())),
        (backwards(old), backwards(new)),
    ] {
        assert_eq!(difference(&old, &new), expected);
    }
}

#[test]
fn a_name_that_stands_twice_counts_once() {
    let twice = [keys(0..20), keys(0..20)].concat();
    let side_by_side = keys((0..40).map(|key| key / 2));
    assert_eq!(difference(&twice, &keys(0..20)), ManifestDifference::default());
    assert_eq!(difference(&side_by_side, &twice), ManifestDifference::default());
    let found = difference(&[], &twice);
    assert_eq!((found.added, found.removed, found.added_examples.len()), (20, 0, 5));
    let found = difference(&side_by_side, &[]);
    assert_eq!((found.added, found.removed, found.removed_examples.len()), (0, 20, 5));
}

#[test]
fn manifests_without_names_are_alike() {
    assert_eq!(difference(&[], &[]), ManifestDifference::default());
}

#[test]
fn another_version_is_another_object() {
    let name = |version: Option<&str>| ("b".to_owned(), b"k".to_vec(), version.map(str::to_owned));
    let found = difference(&[name(Some("2")), name(Some("1"))], &[name(None), name(Some("2"))]);
    let expected = ManifestDifference {
        added: 1,
        removed: 1,
        added_examples: vec![object(&name(None))],
        removed_examples: vec![object(&name(Some("1")))],
    };
    assert_eq!(found, expected);
}

#[test]
fn a_part_that_is_damaged_or_missing_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let never = CancellationToken::new();
    for names in [keys(0..30), backwards(keys(0..30))] {
        let (folder, broken) = frozen(&names);
        let (_whole_folder, whole) = frozen(&keys(5..9));
        let path = part_path(&manifest_folder(folder.path()), 3);
        let compared = || {
            let ways = [(&broken, &whole), (&whole, &broken)];
            ways.map(|(old, new)| compare_with_budget(ROOM, old, new, scratch.path(), &never).unwrap_err())
        };
        let mut bytes = fs::read(&path).unwrap();
        bytes[45] ^= 1;
        fs::write(&path, bytes).unwrap();
        for error in compared() {
            assert!(matches!(&error, ManifestError::Corrupt { file, .. } if *file == path), "{error}");
        }
        fs::remove_file(&path).unwrap();
        for error in compared() {
            assert!(matches!(&error, ManifestError::Missing { file } if *file == path), "{error}");
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_comparison_can_be_stopped() {
    let scratch = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (old, new) = (frozen(&keys(0..30)), frozen(&backwards(keys(0..30))));
    assert_eq!(compare_manifests(&old.1, &new.1, scratch.path(), &stop).unwrap(), ManifestDifference::default());
    stop.cancel();
    let error = compare_manifests(&old.1, &new.1, scratch.path(), &stop).unwrap_err();
    assert!(matches!(error, ManifestError::Stopped), "{error}");
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    // A small alphabet, so that the same names occur on both sides.
    let byte = prop_oneof![Just(0_u8), Just(1), Just(b'/'), Just(255)];
    let name = ("[ab]{1,2}", proptest::collection::vec(byte, 0..3), proptest::option::of("[01]{0,1}"));
    let rows = proptest::collection::vec(name, 0..80);
    (rows, any::<bool>()).prop_map(|(mut rows, sorted)| {
        if sorted {
            rows.sort();
        }
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn manifests_are_compared_as_sets(old in names(), new in names()) {
        let set = |names: &[Name]| names.iter().map(object).collect::<BTreeSet<_>>();
        let (was, is) = (set(&old), set(&new));
        let only = |one: &BTreeSet<ObjectId>, other: &BTreeSet<ObjectId>| one.difference(other).cloned().collect::<Vec<_>>();
        let (added, gone) = (only(&is, &was), only(&was, &is));
        let first = |objects: &[ObjectId]| objects.iter().take(MAX_EXAMPLES).cloned().collect();
        let expected = ManifestDifference {
            added: added.len() as u64,
            removed: gone.len() as u64,
            added_examples: first(&added),
            removed_examples: first(&gone),
        };
        prop_assert_eq!(difference(&old, &new), expected);
    }
}
