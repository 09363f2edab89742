use std::collections::HashSet;

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use proptest::prelude::*;

use super::*;
pub(in crate::manifest) use crate::manifest::part::PartLimits;
use crate::manifest::part::{PartitionPartsWriter, remove_other_parts};
use crate::manifest::row_visitor::PartitionId;

/// Writes rows into parts, in the folder of a new job.
pub(in crate::manifest) fn freeze(
    rows: &[(&str, &[u8], Option<&str>)],
    limits: PartLimits,
) -> (tempfile::TempDir, FrozenManifest) {
    let folder = tempfile::tempdir().unwrap();
    let home = manifest_folder(folder.path());
    fs::create_dir_all(&home).unwrap();
    let mut writer = PartitionPartsWriter::new(&home, PartitionId(0), limits, None);
    for (bucket, key, version) in rows {
        writer.push(bucket, key, *version, None).unwrap();
    }
    let parts = writer.seal().unwrap();
    let read = rows.len() as u64;
    let frozen = FrozenManifest {
        folder: home,
        rows_read: read,
        parts,
        pin: SourcePin::Listing,
        warnings: Vec::new(),
        class_stats: None,
        key_ranges: KeyRanges::Known(Vec::new()),
        segments: 1,
        has_checksum: true,
    };
    save_index(&frozen).unwrap();
    (folder, frozen)
}

fn all(frozen: &FrozenManifest, from: TaskId, batch: usize) -> Result<Vec<Task>, ManifestError> {
    let batches: Result<Vec<_>, _> = frozen.tasks(from, batch).collect();
    Ok(batches?.into_iter().inspect(|tasks| assert!(!tasks.is_empty() && tasks.len() <= batch)).flatten().collect())
}

const START: TaskId = TaskId { part: 0, row: 0 };

const SMALL: PartLimits = PartLimits::new(3, 7);

/// Jobs started by an earlier release rely on the bytes of a part: a change needs a new version of the format. The
/// output of deflate may differ between builds, so these bytes are read and not written.
#[test]
fn the_format_is_pinned() {
    let part = [
        "8942504d0d0a1a0a 01000000 00000000 909ae2c7",
        "03000000 21000000 23000000 9d28bcbb 14a8a95c",
        "e3626060606461666560666264606261664ccc29c8484cd437342a334c4a2d49fc0f00",
        "01000000 10000000 12000000 798dcc2f b0c31143",
        "63656060606561606060 4a4a2d492c330200",
        "00000000 04000000 00000000 00000000 2a70bdef",
    ];
    let digits: Vec<u8> = part.concat().bytes().filter(|byte| *byte != b' ').collect();
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    let rows: [(&str, &[u8], Option<&str>); 4] = [
        ("alpha", b"a/1", None),
        ("alpha", b"a/2", Some("v1")),
        ("beta", b"a/2\xff", Some("v1")),
        ("beta", b"", Some("v2")),
    ];
    let (_folder, frozen) = freeze(&rows, SMALL);
    let written = all(&frozen, START, 9).unwrap();
    fs::write(part_path(&frozen.folder, 0), bytes).unwrap();
    assert_eq!(all(&frozen, START, 9).unwrap(), written);
    let found: Vec<_> = written.iter().map(|task| task.object.key.as_bytes()).collect();
    assert_eq!(found, rows.map(|(_, key, _)| key));
}

#[test]
fn a_reader_starts_at_any_row_of_any_part() {
    let keys: Vec<String> = (0..20).map(|row| format!("k/{row}")).collect();
    let rows: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), None)).collect();
    let (_folder, frozen) = freeze(&rows, SMALL);
    assert_eq!(frozen.parts().iter().map(|part| part.rows).collect::<Vec<_>>(), [7, 7, 6]);
    for start in 0..20_u32 {
        let from = TaskId { part: start / 7, row: start % 7 };
        let tasks = all(&frozen, from, 4).unwrap();
        let found: Vec<_> = tasks.iter().map(|task| task.object.key.as_str().unwrap()).collect();
        assert_eq!(found, keys[start as usize..].iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(tasks[0].id, from);
    }
    assert_eq!(all(&frozen, TaskId { part: 0, row: 7 }, 4).unwrap()[0].id, TaskId { part: 1, row: 0 });
    assert!(all(&frozen, TaskId { part: 2, row: 6 }, 4).unwrap().is_empty());
    assert!(all(&frozen, TaskId { part: 9, row: 0 }, 4).unwrap().is_empty());
}

#[test]
fn blocks_before_the_start_are_not_inflated() {
    let keys: Vec<String> = (0..9).map(|row| format!("k/{row}")).collect();
    let rows: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), None)).collect();
    let (_folder, frozen) = freeze(&rows, PartLimits::new(3, 9));
    let path = part_path(&frozen.folder, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(all(&frozen, TaskId { part: 0, row: 3 }, 9).unwrap().len(), 6);
    let error = all(&frozen, TaskId { part: 0, row: 2 }, 9).unwrap_err();
    assert!(error.to_string().ends_with("part-00000.bpm is damaged: a block fails its checksum"), "{error}");
}

#[test]
fn any_damage_is_an_error_that_names_the_file() {
    let keys: Vec<String> = (0..7).map(|row| format!("key/{row}")).collect();
    let rows: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), Some("null"))).collect();
    let (folder, frozen) = freeze(&rows, SMALL);
    let path = part_path(&frozen.folder, 0);
    let whole = fs::read(&path).unwrap();
    let expect_damage = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = all(&frozen, START, 4).unwrap_err();
        assert!(matches!(&error, ManifestError::Corrupt { file, .. } if *file == path), "{error}");
    };
    for at in 0..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 0x40;
        expect_damage(&torn);
        expect_damage(&whole[..at]);
    }
    expect_damage(&[&whole[..], b"x"].concat());
    let error = FrozenManifest::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("bytes, but the index says"), "{error}");
    fs::remove_file(&path).unwrap();
    for error in [FrozenManifest::open(folder.path()).unwrap_err(), all(&frozen, START, 4).unwrap_err()] {
        assert!(matches!(&error, ManifestError::Missing { file } if *file == path), "{error}");
        assert!(error.to_string().contains("part-00000.bpm is missing"), "{error}");
        assert!(error.help().unwrap().contains("to start over in a new job"));
    }
}

#[test]
fn a_part_of_a_newer_program_is_not_damaged() {
    let (folder, frozen) = freeze(&[("b", b"k", None)], SMALL);
    let path = part_path(&frozen.folder, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 4;
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    for error in [FrozenManifest::open(folder.path()).unwrap_err(), all(&frozen, START, 4).unwrap_err()] {
        assert!(matches!(error, ManifestError::NewerFormat { found: 4, known: 3, .. }), "{error}");
        let end =
            "part-00000.bpm was written by a newer batchplan: it has format 4; this batchplan supports formats up to 3";
        assert!(error.to_string().ends_with(end), "{error}");
        assert_eq!(error.help().as_deref(), Some("update batchplan, and run the same command again"));
    }
}

#[test]
fn iterator_ends_after_an_error() {
    let (_folder, frozen) = freeze(&[("b", b"k", None)], SMALL);
    fs::write(part_path(&frozen.folder, 0), b"junk").unwrap();
    let mut tasks = frozen.tasks(START, 4);
    assert!(tasks.next().unwrap().is_err());
    assert!(tasks.next().is_none());
}

#[test]
fn a_folder_without_an_index_is_no_manifest() {
    let (folder, frozen) = freeze(&[("b", b"k", None)], SMALL);
    assert_eq!(FrozenManifest::open(folder.path()).unwrap(), Some(frozen.clone()));
    remove_index(&frozen.folder).unwrap();
    assert_eq!(FrozenManifest::open(folder.path()).unwrap(), None);
    remove_other_parts(&frozen.folder, &HashSet::new()).unwrap();
    assert_eq!(fs::read_dir(&frozen.folder).unwrap().count(), 0);
}

/// Keys like those of real buckets: dated folders, sequential names, several kinds of file.
fn corpus(rows: u32) -> Vec<String> {
    let mut keys = Vec::new();
    for row in 0..rows {
        let (day, customer) = (row / 400, row.wrapping_mul(2_654_435_761) >> 18);
        let (year, month, date) = (2021 + day / 336, 1 + day / 28 % 12, 1 + day % 28);
        let kind = ["pdf", "json", "jpg", "txt"][(row % 7 % 4) as usize];
        keys.push(format!(
            "documents/{year}/{month:02}/{date:02}/customer-{customer:05}/invoice-{year}{month:02}{date:02}-{row:07}.{kind}"
        ));
    }
    keys
}

#[test]
fn a_key_costs_at_most_twelve_bytes() {
    let keys = corpus(50_000);
    let rows: Vec<_> = keys.iter().map(|key| ("my-bucket", key.as_bytes(), Some("null"))).collect();
    let (_folder, frozen) = freeze(&rows, PartLimits::default());
    let bytes: u64 = frozen.parts().iter().map(|part| part.bytes).sum();
    assert!(bytes <= 12 * frozen.rows(), "{bytes} bytes for {} keys", frozen.rows());
    assert!(
        all(&frozen, START, 1000).unwrap().iter().zip(&keys).all(|(task, key)| task.object.key == key.as_str().into())
    );
}

type Name = (String, Vec<u8>, Option<String>);

fn name() -> impl Strategy<Value = Name> {
    let key = prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), "d/[ab]{0,5}".prop_map(String::into_bytes)];
    ("[ab]{0,2}", key, proptest::option::of("[ab]{0,3}"))
}

#[test]
fn settled_rows_are_neither_opened_nor_decompressed() {
    let keys: Vec<String> = (0..20).map(|row| format!("k/{row}")).collect();
    let rows: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), None)).collect();
    let (_folder, frozen) = freeze(&rows, SMALL);
    let mut frontier = RowFrontier::default();
    for row in 0..7 {
        frontier.mark_settled(TaskId { part: 0, row });
    }
    for row in (0..4).chain([5]) {
        frontier.mark_settled(TaskId { part: 1, row });
    }
    fs::remove_file(part_path(&frozen.folder, 0)).unwrap();
    let path = part_path(&frozen.folder, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let batches: Vec<_> = frozen.unfinished_tasks(&frontier, 4).map(Result::unwrap).collect();
    let found: Vec<Vec<_>> =
        batches.iter().map(|tasks| tasks.iter().map(|task| (task.id.part, task.id.row)).collect()).collect();
    assert_eq!(found, [vec![(1, 4), (1, 6)], vec![(2, 0), (2, 1), (2, 2), (2, 3)], vec![(2, 4), (2, 5)]]);
    assert_eq!(batches[0][1].object.key, ObjectKey::from("k/13"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn unsettled_rows_come_once_and_in_order(
        rows in 1_u32..150,
        block_rows in 1_usize..40,
        part_rows in 1_u32..100,
        batch in 1_usize..50,
        settled in proptest::collection::btree_set(0_u32..160, 0..150),
        run in 0_u32..160,
    ) {
        let keys: Vec<String> = (0..rows).map(|row| format!("k/{row}")).collect();
        let names: Vec<_> = keys.iter().map(|key| ("b", key.as_bytes(), None)).collect();
        let (_folder, frozen) = freeze(&names, PartLimits::new(block_rows, part_rows));
        let at = |row: u32| TaskId { part: row / part_rows, row: row % part_rows };
        let is_settled = |row: u32| row < run || settled.contains(&row);
        let mut frontier = RowFrontier::default();
        (0..160).filter(|row| is_settled(*row)).for_each(|row| frontier.mark_settled(at(row)));
        let batches: Result<Vec<_>, _> = frozen.unfinished_tasks(&frontier, batch).collect();
        let batches = batches.unwrap();
        prop_assert!(batches.iter().all(|tasks| !tasks.is_empty() && tasks.len() <= batch));
        prop_assert!(batches.iter().all(|tasks| tasks.iter().all(|task| task.id.part == tasks[0].id.part)));
        let found: Vec<_> = batches.into_iter().flatten().map(|task| (task.id, task.object.key)).collect();
        let expected: Vec<_> = (0..rows)
            .filter(|row| !is_settled(*row))
            .map(|row| (at(row), ObjectKey::from(keys[row as usize].as_str())))
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_rows_come_back_from_any_start(
        names in proptest::collection::vec(name(), 1..40),
        block_rows in 1_usize..6,
        part_rows in 1_u32..20,
        batch in 1_usize..9,
        start in 0_u32..60,
    ) {
        let rows: Vec<_> = names.iter().map(|(b, k, v)| (b.as_str(), k.as_slice(), v.as_deref())).collect();
        let (_folder, frozen) = freeze(&rows, PartLimits::new(block_rows, part_rows));
        let from = TaskId { part: start / part_rows, row: start % part_rows };
        let tasks = all(&frozen, from, batch).unwrap();
        let expected: Vec<_> = rows.iter().skip(start as usize).map(|(bucket, key, version)| ObjectId {
            bucket: BucketName::new(bucket),
            key: ObjectKey::new(*key),
            version: version.map(VersionId::new),
        }).collect();
        let at = |row: u32| TaskId { part: row / part_rows, row: row % part_rows };
        let in_place = tasks.iter().zip(start..).all(|(task, row)| task.id == at(row));
        prop_assert!(in_place);
        prop_assert_eq!(tasks.into_iter().map(|task| task.object).collect::<Vec<_>>(), expected);
    }
}
