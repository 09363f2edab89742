use super::*;

const SMALL: PartLimits = PartLimits::new(3, 7);

fn push(writer: &mut PartitionPartsWriter, rows: std::ops::Range<u32>) {
    for row in rows {
        writer.push("b", format!("k{row:03}").as_bytes(), None, None).unwrap();
    }
}

fn going_on(folder: &Path, written: WrittenParts) -> Option<PartitionPartsWriter> {
    let writer = PartitionPartsWriter::resume(folder, PartitionId(0), SMALL, None, written).unwrap()?;
    remove_other_parts(folder, &writer.files().collect()).unwrap();
    Some(writer)
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn resume_truncates_data_after_the_checkpoint() {
    for (before, after) in [(0, 5), (4, 2), (5, 12), (7, 7), (9, 0), (20, 30)] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PartitionPartsWriter::new(folder.path(), PartitionId(0), SMALL, None);
        push(&mut writer, 0..before);
        let written = writer.checkpoint().unwrap();
        let there = files(folder.path());
        push(&mut writer, before..before + after);
        drop(writer);
        let mut again = going_on(folder.path(), written.clone()).unwrap();
        assert_eq!(files(folder.path()), there, "{before} and {after}");
        assert_eq!(again.checkpoint().unwrap(), written);
        push(&mut again, before..before + 3);
        let rows: u32 = again.seal().unwrap().iter().map(|part| part.rows).sum();
        assert_eq!(rows, before + 3);
    }
}

#[test]
fn resume_rejects_an_incomplete_part() {
    for (part, bytes) in [(0, None), (0, Some(30)), (1, None), (1, Some(30))] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PartitionPartsWriter::new(folder.path(), PartitionId(0), SMALL, None);
        push(&mut writer, 0..9);
        let written = writer.checkpoint().unwrap();
        assert_eq!((written.sealed.len(), written.open.map(|open| open.rows)), (1, Some(2)));
        let path = part_path(folder.path(), part);
        match bytes {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap(),
        }
        assert!(going_on(folder.path(), written).is_none(), "{part} {bytes:?}");
    }
}

#[test]
fn ordering_partitions_survives_interruptions() {
    let lanes = |folder: &Path| {
        let lane = |number, rows| {
            let mut writer = PartitionPartsWriter::new(folder, PartitionId(number), SMALL, None);
            push(&mut writer, rows);
            (PartitionId(number), writer.seal().unwrap())
        };
        // Partition 3 has no rows.
        [lane(0, 0..9), lane(2, 9..30), lane(3, 30..30), lane(1, 30..31)]
    };
    let whole = tempfile::tempdir().unwrap();
    let made = lanes(whole.path());
    assert!(assemble_parts(whole.path(), &made).unwrap());
    let read = |folder: &Path| {
        let parts = made.iter().flat_map(|(_, parts)| parts);
        let rows = (0..).zip(parts).flat_map(|(number, part)| {
            let path = part_path(folder, number);
            let mut reader = PartReader::open(path, number, part.rows, 0).unwrap();
            std::iter::from_fn(move || reader.next_row().unwrap()).map(|(_, row)| row.object.key.to_string())
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(read(whole.path()), (0..31).map(|row| format!("k{row:03}")).collect::<Vec<_>>());
    for moved in 0..=4_u32 {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(lanes(folder.path()), made);
        for (place, (lane, number)) in (2_u32..).zip([(2, 0), (2, 1), (2, 2), (1, 0)]) {
            let from = partition_path(folder.path(), PartitionId(lane), number);
            if place - 2 < moved {
                fs::copy(part_path(whole.path(), place), part_path(folder.path(), place)).unwrap();
                fs::remove_file(from).unwrap();
            } else if place - 2 == moved {
                // Its header was being written.
                let mut file = File::options().write(true).open(from).unwrap();
                file.write_all(&file_header(VERSION, place)[..13]).unwrap();
            }
        }
        assert!(assemble_parts(folder.path(), &made).unwrap(), "{moved}");
        assert_eq!(files(folder.path()), files(whole.path()), "{moved}");
        fs::remove_file(part_path(folder.path(), 3)).unwrap();
        assert!(!assemble_parts(folder.path(), &made).unwrap());
    }
}

#[test]
fn no_more_is_written_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let mut free = PartitionPartsWriter::new(folder.path(), PartitionId(0), SMALL, None);
    push(&mut free, 0..30);
    let whole: u64 = free.seal().unwrap().iter().map(|part| part.bytes).sum();
    for limit in (0..whole - 30).step_by(11).chain(whole - 30..whole + 3) {
        remove_other_parts(folder.path(), &HashSet::new()).unwrap();
        let mut writer = PartitionPartsWriter::new(folder.path(), PartitionId(0), SMALL, Some(limit));
        let mut rows = (0..30).map(|row| writer.push("b", format!("k{row:03}").as_bytes(), None, None));
        let pushed = rows.find_map(Result::err);
        let error = pushed.or_else(|| writer.checkpoint().err());
        let there: u64 = files(folder.path()).iter().map(|file| file.len() as u64).sum();
        match error {
            None => assert!(limit >= whole, "{limit}"),
            Some(ManifestError::TooLarge { used, limit: told, rows }) => {
                assert!(told == limit && used <= limit && limit < whole && rows < 30, "{limit}: {used}, {rows}");
                assert_eq!(used == 0, rows == 0);
            }
            Some(other) => panic!("{other}"),
        }
        assert!(there <= limit, "{there} bytes, and {limit} are allowed");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn full_disk_error_names_the_file() {
    // Every write to this device fails like on a full disk.
    let file = File::options().write(true).open("/dev/full").unwrap();
    let mut part =
        OpenPart { path: part_path(Path::new("folder"), 0), file, number: 0, version: VERSION, rows: 0, bytes: 0 };
    let error = part.append(&file_header(VERSION, 0), 0).unwrap_err();
    let told = error.to_string();
    assert!(told.starts_with("no space left on the disk: cannot write ") && told.contains("part-00000.bpm"), "{told}");
    assert!(error.help().unwrap().contains("preparing resumes"), "{error:?}");
}
