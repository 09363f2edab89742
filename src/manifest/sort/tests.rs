use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;

/// Holds a few records only, so that there are many runs.
const SMALL: SortBudget = SortBudget { bytes: 100, runs: 3 };

fn sorter(folder: &Path, room: SortBudget, records: &[Vec<u8>]) -> Result<ExternalSorter, ManifestError> {
    let mut sorter = ExternalSorter::new(folder, room, &CancellationToken::new());
    records.iter().try_for_each(|record| sorter.push(record))?;
    Ok(sorter)
}

fn all(mut sorted: SortedRecords) -> Result<Vec<Vec<u8>>, ManifestError> {
    let mut found = Vec::new();
    while sorted.advance()? {
        found.push(sorted.record().to_vec());
    }
    assert!(!sorted.advance()?);
    Ok(found)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Returns shuffled numbers, some of them twice.
fn shuffled(count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| format!("record/{:05}", number.wrapping_mul(2_654_435_761) % (count * 2)).into_bytes())
        .collect()
}

#[test]
fn runs_are_merged_level_by_level_and_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let records = shuffled(1000);
    let sorter = sorter(folder.path(), SMALL, &records).unwrap();
    // Three records per run and three runs per merge: 333 runs have about five levels.
    assert!(sorter.levels.len() >= 5, "{}", sorter.levels.len());
    assert!(sorter.levels.iter().all(|runs| runs.len() < SMALL.runs));
    assert!(sorter.batch.text.capacity() <= 2 * SMALL.bytes, "{}", sorter.batch.text.capacity());
    let expected: BTreeSet<_> = records.into_iter().collect();
    assert_eq!(all(sorter.finish().unwrap()).unwrap(), expected.into_iter().collect::<Vec<_>>());
    assert!(is_empty(folder.path()));
}

#[test]
fn records_within_the_budget_stay_in_memory() {
    let nowhere = Path::new("no/such/folder");
    let records = shuffled(50);
    let expected: BTreeSet<_> = records.iter().cloned().collect();
    let sorted = sorter(nowhere, SortBudget::default(), &records).unwrap().finish().unwrap();
    assert_eq!(all(sorted).unwrap(), expected.into_iter().collect::<Vec<_>>());
    assert!(all(sorter(nowhere, SMALL, &[]).unwrap().finish().unwrap()).unwrap().is_empty());
}

#[test]
fn names_a_missing_folder() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("gone");
    let Err(error) = sorter(&missing, SMALL, &shuffled(50)) else { panic!("nothing was written") };
    assert!(matches!(&error, ManifestError::Disk { path, .. } if *path == missing), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot create a file in {}: ", missing.display())), "{error}");
}

#[test]
fn a_file_that_lost_its_bytes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = sorter(folder.path(), SMALL, &shuffled(50)).unwrap();
    sorter.levels.iter_mut().for_each(|runs| runs.truncate().unwrap());
    let error = sorter.finish().and_then(all).unwrap_err();
    assert!(matches!(&error, ManifestError::Disk { path, .. } if path == folder.path()), "{error}");
    assert!(is_empty(folder.path()));
}

#[test]
fn a_record_that_is_too_long_is_refused_and_the_longest_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let longest = vec![vec![b'b'; MAX_RECORD], vec![b'a'; MAX_RECORD]];
    let sorted = sorter(folder.path(), SMALL, &longest).unwrap().finish().unwrap();
    assert!(all(sorted).unwrap().iter().eq(longest.iter().rev()));
    let too_long = [vec![0; MAX_RECORD + 1]];
    assert!(sorter(folder.path(), SMALL, &too_long).is_err());
}

#[test]
fn stopping_ends_a_merge() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let mut sorter = ExternalSorter::new(folder.path(), SMALL, &stop);
    sorter.push(b"a").unwrap();
    stop.cancel();
    let error = shuffled(100).iter().find_map(|record| sorter.push(record).err()).unwrap();
    assert!(matches!(error, ManifestError::Stopped), "{error}");
}

#[test]
fn stop_ends_reading_sorted_records() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let mut sorter = ExternalSorter::new(folder.path(), SortBudget { bytes: 100_000, runs: 8 }, &stop);
    for record in shuffled(10_000) {
        sorter.push(&record).unwrap();
    }
    let mut found = sorter.finish().unwrap();
    assert!(found.advance().unwrap());
    stop.cancel();
    let read = (0..9000).take_while(|_| matches!(found.advance(), Ok(true))).count();
    assert!(read < 5000, "{read}");
    assert!(matches!(found.advance(), Err(ManifestError::Stopped)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_come_in_order_and_once(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..200),
        bytes in 0_usize..200,
        runs in 0_usize..6,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let sorted = sorter(folder.path(), SortBudget { bytes, runs }, &records).unwrap().finish().unwrap();
        let expected: BTreeSet<_> = records.into_iter().collect();
        prop_assert_eq!(all(sorted).unwrap(), expected.into_iter().collect::<Vec<_>>());
        prop_assert!(is_empty(folder.path()));
    }
}
