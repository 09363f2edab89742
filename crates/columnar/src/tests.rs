//! Checks that files written by another program are read correctly, and that damaged files are refused.
//!
//! The files in `fixtures` were written by Apache Arrow 26, so that the readers are not tested
//! against a writer of this project. The values of each row follow from its number.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{ColumnType, ColumnValue, ColumnarError, ColumnarFormat, ColumnarReader};

const COLUMNS: [&str; 11] = [
    "bucket",
    "key",
    "version_id",
    "is_latest",
    "is_delete_marker",
    "size",
    "last_modified_date",
    "e_tag",
    "storage_class",
    "parts",
    "replicas",
];

/// All columns except the nested one.
const PICKED: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10];

const ROWS: i64 = 400;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn form(path: &Path) -> ColumnarFormat {
    if path.extension().is_some_and(|extension| extension == "orc") {
        ColumnarFormat::Orc
    } else {
        ColumnarFormat::Parquet
    }
}

fn fixtures() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 10);
    found
}

fn readable() -> impl Iterator<Item = PathBuf> {
    fixtures().into_iter().filter(|path| path.file_stem().is_some_and(|stem| stem != "zstd"))
}

/// The values of row `i`, as they were written.
fn expected(i: i64) -> Vec<ColumnValue<'static>> {
    let text = |text: String| ColumnValue::Text(text.leak().as_bytes());
    let some = |given: bool, value: ColumnValue<'static>| if given { value } else { ColumnValue::Null };
    let millis = if i == 3 { -1_234_567_890_123 } else { 1_500_000_000_000 + i * 86_399_999 };
    vec![
        text("b-1".to_owned()),
        text(format!("k/{}/é+%20 {i}", i * 7919 % 1000)),
        some(i % 5 != 0, text(format!("v{i}"))),
        ColumnValue::Boolean(i % 3 != 0),
        some(i % 7 != 0, ColumnValue::Boolean(i % 11 == 0)),
        some(i % 13 != 0, ColumnValue::Integer(if i % 50 == 49 { (1 << 40) + i } else { i * i * 10 })),
        some(i == 3 || i % 17 != 0, ColumnValue::Timestamp(Timestamp::from_millisecond(millis).unwrap())),
        text(format!("{:08x}", i * 2_654_435_761 % (1 << 32))),
        text(["STANDARD", "GLACIER", "STANDARD_IA"][usize::try_from(i % 3).unwrap()].to_owned()),
        ColumnValue::Null,
        some(i % 10 == 0, ColumnValue::Integer(i)),
    ]
}

/// Reads a file to its end. Returns the number of rows.
fn read(
    form: ColumnarFormat,
    file: File,
    picked: &[usize],
    mut look: impl FnMut(i64, &ColumnarReader),
) -> Result<i64, ColumnarError> {
    let mut table = ColumnarReader::open(form, file)?;
    for column in picked {
        table.column_type(*column)?;
    }
    table.select(picked)?;
    let mut rows = 0;
    while table.advance()? {
        look(rows, &table);
        rows += 1;
    }
    Ok(rows)
}

/// Creates a file with these bytes.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn files_of_another_program_are_read_as_they_were_written() {
    for path in readable() {
        let rows = read(form(&path), File::open(&path).unwrap(), &PICKED, |row, table| {
            assert_eq!(table.column_names(), COLUMNS);
            let found: Vec<_> = (0..COLUMNS.len()).map(|column| table.value(column)).collect();
            assert_eq!(found, expected(row), "row {row} of {}", path.display());
        });
        assert_eq!(rows.unwrap(), ROWS, "{}", path.display());
    }
}

#[test]
fn a_column_alone_is_read_as_with_all_others() {
    for path in readable() {
        for column in PICKED {
            let rows = read(form(&path), File::open(&path).unwrap(), &[column], |row, table| {
                assert_eq!(table.value(column), expected(row)[column], "row {row} of {}", path.display());
                assert_eq!(table.value(column + 1), ColumnValue::Null);
            });
            assert_eq!(rows.unwrap(), ROWS);
        }
    }
}

#[test]
fn kinds_are_those_of_the_file() {
    for path in readable() {
        let table = ColumnarReader::open(form(&path), File::open(&path).unwrap()).unwrap();
        let kinds: Vec<Option<ColumnType>> = (0..COLUMNS.len()).map(|column| table.column_type(column).ok()).collect();
        let (text, truth) = (Some(ColumnType::Text), Some(ColumnType::Boolean));
        let (number, time) = (Some(ColumnType::Integer), Some(ColumnType::Timestamp));
        assert_eq!(
            kinds,
            [text, text, text, truth, truth, number, time, text, text, None, number],
            "{}",
            path.display()
        );
        assert!(matches!(table.column_type(9), Err(ColumnarError::Unsupported(_))));
    }
}

#[test]
fn names_unsupported_compression() {
    for name in ["zstd.parquet", "zstd.orc"] {
        let path = folder().join(name);
        let error = read(form(&path), File::open(&path).unwrap(), &PICKED, |_, _| {}).unwrap_err();
        assert!(
            matches!(error, ColumnarError::Unsupported(what) if what == "it is compressed with Zstandard"),
            "{name}"
        );
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    for path in fixtures() {
        let whole = fs::read(&path).unwrap();
        for end in (0..whole.len()).step_by(97) {
            let found = read(form(&path), file(&whole[..end]), &PICKED, |_, _| {});
            assert!(found.is_err(), "{} at {end}", path.display());
        }
    }
}

#[test]
fn a_file_of_the_other_form_or_of_none_is_refused() {
    let parquet = fs::read(folder().join("plain.parquet")).unwrap();
    let orc = fs::read(folder().join("plain.orc")).unwrap();
    for (form, bytes) in
        [(ColumnarFormat::Orc, &parquet), (ColumnarFormat::Parquet, &orc), (ColumnarFormat::Orc, &vec![0; 4096])]
    {
        assert!(matches!(read(form, file(bytes), &PICKED, |_, _| {}), Err(ColumnarError::Damaged(_))));
    }
}

/// Flipped bits may go unnoticed here, because the MD5 of the file protects its content. They must not cause a panic.
#[test]
fn flipped_bits_are_no_panic() {
    let mut dice = fastrand::Rng::with_seed(20_261_126);
    for path in fixtures() {
        let whole = fs::read(&path).unwrap();
        for round in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=round % 8 {
                // Every other round flips bits near the end, where the metadata is.
                let from = if round % 2 == 0 { 0 } else { bytes.len().saturating_sub(3000) };
                let at = dice.usize(from..bytes.len());
                bytes[at] ^= 1 << dice.u32(0..8);
            }
            let mut rows = 0;
            let mut limited = read_some(form(&path), file(&bytes));
            while rows < 5000 && limited.as_mut().is_ok_and(|table| table.advance().unwrap_or(false)) {
                rows += 1;
            }
        }
    }
}

fn read_some(form: ColumnarFormat, file: File) -> Result<ColumnarReader, ColumnarError> {
    let mut table = ColumnarReader::open(form, file)?;
    let picked: Vec<usize> =
        (0..table.column_names().len()).filter(|column| table.column_type(*column).is_ok()).collect();
    table.select(&picked)?;
    Ok(table)
}

fn refused(form: ColumnarFormat, bytes: &[u8]) -> String {
    match read(form, file(bytes), &PICKED, |_, _| {}) {
        Err(ColumnarError::Damaged(what) | ColumnarError::Unsupported(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rejects_false_sizes() {
    let whole = fs::read(folder().join("plain.parquet")).unwrap();
    let mut page = whole.clone();
    // The header of the first page: 2,147,483,647 bytes of data, compressed to one byte.
    let head = b"\x15\x00\x15\xfe\xff\xff\xff\x0f\x15\x02\x2c\x15\x02\x15\x00\x15\x06\x15\x06\x00\x00";
    page[4..4 + head.len()].copy_from_slice(head);
    assert_eq!(refused(ColumnarFormat::Parquet, &page), "a page has 2147483647 bytes (maximum 33554432)");
    let mut footer = whole;
    let at = footer.len() - 8;
    footer[at..at + 4].copy_from_slice(&[0xff; 4]);
    assert_eq!(refused(ColumnarFormat::Parquet, &footer), "its footer has 4294967295 bytes (maximum 8388608)");
    footer[at..at + 4].copy_from_slice(&[0xff, 0xff, 0x01, 0x00]);
    assert_eq!(refused(ColumnarFormat::Parquet, &footer), "its footer is longer than the file");
}

/// Returns an ORC file that consists only of its postscript. `footer` and `block` are the sizes of the footer and of
/// blocks, as variable-length integers.
fn postscript(footer: &[u8], codec: u8, block: &[u8]) -> Vec<u8> {
    let mut text = [&[0x08][..], footer, &[0x10, codec, 0x18], block, &[0x82, 0xf4, 0x03, 0x03], b"ORC"].concat();
    text.push(u8::try_from(text.len()).unwrap());
    [b"ORC".to_vec(), text].concat()
}

#[test]
fn rejects_false_postscripts() {
    let (megabyte, gigabyte) = (&[0x80, 0x80, 0x40][..], &[0x80, 0x80, 0x80, 0x80, 0x04][..]);
    assert_eq!(refused(ColumnarFormat::Orc, &postscript(&[0], 1, megabyte)), "its footer has no columns");
    let large = "its blocks have 1073741824 bytes (maximum 8388608)";
    assert_eq!(refused(ColumnarFormat::Orc, &postscript(&[0], 1, gigabyte)), large);
    assert_eq!(refused(ColumnarFormat::Orc, &postscript(gigabyte, 1, megabyte)), "its footer is longer than the file");
    assert_eq!(refused(ColumnarFormat::Orc, &postscript(&[0], 4, megabyte)), "it is compressed with LZ4");
    assert_eq!(refused(ColumnarFormat::Orc, b"ORC and nothing else"), "it is too short");
}

#[test]
fn rejects_false_row_counts() {
    // One stripe of 2^40 rows without any data, and one column named `k`.
    let footer = b"\x1a\x07\x28\x80\x80\x80\x80\x80\x20\x22\x08\x08\x0c\x12\x01\x01\x1a\x01k\x22\x02\x08\x07";
    let rest = postscript(&[u8::try_from(footer.len()).unwrap()], 0, &[0]);
    let whole = [b"ORC", &footer[..], &rest[3..]].concat();
    let error = read(ColumnarFormat::Orc, file(&whole), &[0], |_, _| {}).unwrap_err();
    let ColumnarError::Damaged(what) = error else { panic!("{error:?}") };
    assert_eq!(what, format!("it claims to hold {} rows in {} bytes", 1_u64 << 40, whole.len()));
}
