use proptest::prelude::*;

use super::*;

fn all(run: SortedRun) -> io::Result<Vec<Vec<u8>>> {
    let mut reader = SortedRunReader::new(run);
    let (mut record, mut found) = (Vec::new(), Vec::new());
    while reader.next_into(&mut record)? {
        found.push(record.clone());
    }
    Ok(found)
}

fn write(runs: &mut RunFile, records: &[Vec<u8>]) {
    let mut writer = runs.start_run().unwrap();
    for record in records {
        writer.push(record).unwrap();
    }
    writer.finish().unwrap();
}

proptest! {
    #[test]
    fn runs_in_one_file_are_read_separately(
        written in proptest::collection::vec(proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..9), 0..20), 0..5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = RunFile::create(folder.path()).unwrap();
        let written: Vec<Vec<Vec<u8>>> = written.into_iter().map(|run| run.into_iter().collect()).collect();
        for run in &written {
            write(&mut runs, run);
        }
        let found: Vec<_> = runs.take_runs().into_iter().map(|run| all(run).unwrap()).collect();
        prop_assert_eq!(found, written);
    }
}

#[test]
fn emptied_file_is_reused() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = RunFile::create(folder.path()).unwrap();
    let long = vec![vec![b'a'; 1000], vec![b'b'; MAX_RECORD]];
    write(&mut runs, &long);
    assert_eq!(all(runs.take_runs().remove(0)).unwrap(), long);
    runs.truncate().unwrap();
    assert_eq!(runs.file.metadata().unwrap().len(), 0);
    write(&mut runs, &[b"c".to_vec(), b"c".to_vec(), b"cd".to_vec()]);
    assert_eq!(runs.file.metadata().unwrap().len(), 6);
    assert_eq!(all(runs.take_runs().remove(0)).unwrap(), [b"c".to_vec(), b"cd".to_vec()]);
}

#[test]
fn a_run_that_was_cut_or_overwritten_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (junk, kind) in [
        (&[][..], io::ErrorKind::UnexpectedEof),
        (&[0, 1, b'a'], io::ErrorKind::UnexpectedEof),
        (&[1, 0, 0, 0, 0, 0], io::ErrorKind::InvalidData),
        (&[0xff; 6], io::ErrorKind::InvalidData),
        (&[0, 0xff, 0xff, 0x7f, 0, 0], io::ErrorKind::InvalidData),
    ] {
        let mut runs = RunFile::create(folder.path()).unwrap();
        write(&mut runs, &[b"a".to_vec(), b"b".to_vec()]);
        runs.file.set_len(0).unwrap();
        (&*runs.file).seek(SeekFrom::Start(0)).unwrap();
        (&*runs.file).write_all(junk).unwrap();
        assert_eq!(all(runs.take_runs().remove(0)).unwrap_err().kind(), kind, "{junk:?}");
    }
}
