use std::io::BufReader;

use proptest::prelude::*;

use super::*;

type Rows = Vec<Result<Vec<String>, String>>;

/// No record has this shape, so all are separated by commas.
const NO_RECORD: CsvShape = CsvShape { fields: 99, bucket: 0 };

fn read_with(text: &[u8], shape: Option<CsvShape>) -> Result<Rows, String> {
    // A buffer of three bytes puts buffer boundaries at every position.
    let mut records = CsvRecords::with_limit(BufReader::with_capacity(3, text), shape, 64);
    let mut rows = Vec::new();
    loop {
        match records.next() {
            Ok(CsvItem::Record(record)) => {
                rows.push(Ok((0..record.len()).filter_map(|at| record.field(at)).map(str::to_owned).collect()));
            }
            Ok(CsvItem::Bad(why)) => rows.push(Err(why)),
            Ok(CsvItem::End) => return Ok(rows),
            Err(CsvReadError::Malformed { what, .. }) => return Err(what),
            Err(CsvReadError::Io(cause)) => return Err(cause.to_string()),
        }
        assert!(records.raw.capacity() <= 512, "the buffer is bounded");
    }
}

fn read(text: &str) -> Result<Rows, String> {
    read_with(text.as_bytes(), Some(NO_RECORD))
}

fn rows(rows: &[&[&str]]) -> Rows {
    rows.iter().map(|row| Ok(row.iter().map(|field| (*field).to_owned()).collect())).collect()
}

#[test]
fn records_are_split_as_rfc_4180_has_it() {
    assert_eq!(read("a,b\nc,d"), Ok(rows(&[&["a", "b"], &["c", "d"]])));
    assert_eq!(read("a,,\n,\n"), Ok(rows(&[&["a", "", ""], &["", ""]])));
    assert_eq!(read("\"a,b\",\"c\"\"d\",\"\"\n"), Ok(rows(&[&["a,b", "c\"d", ""]])));
    assert_eq!(read("\"a\nb\",c\nd,e\n"), Ok(rows(&[&["a\nb", "c"], &["d", "e"]])));
    assert_eq!(read("\"a\r\nb\",\"c\r\"\n"), Ok(rows(&[&["a\r\nb", "c\r"]])));
    assert_eq!(read("é, b \n"), Ok(rows(&[&["é", " b "]])));
    assert_eq!(read(""), Ok(rows(&[])));
}

#[test]
fn rejects_rows_that_lenient_parsers_accept() {
    let bad = |text: &str| read(text).unwrap()[0].clone().unwrap_err();
    assert_eq!(bad("\na,b\n"), "empty row");
    assert_eq!(bad("\"a\"b,c\n"), "unexpected text after a closing quote");
    assert_eq!(bad("a\"b\",c\n"), "unexpected quote in an unquoted field");
    assert_eq!(read("\n").unwrap(), [Err("empty row".to_owned())]);
    let invalid = read_with(b"a,b\nc,\xff\nd,e\n", Some(NO_RECORD)).unwrap();
    assert_eq!(
        invalid[1],
        Err("not UTF-8 (byte 3 of the row): write such a byte as % and two hex digits, such as %FF".to_owned())
    );
    assert!(invalid[2].is_ok());
}

#[test]
fn all_line_ends_are_those_of_the_first_row() {
    let expected = Ok(rows(&[&["a", "b"], &["c", "d\r\n"]]));
    for text in ["a,b\r\nc,\"d\r\n\"\r\n", "a,b\r\nc,\"d\r\n\"", "a,b\nc,\"d\r\n\"\n", "a,b\nc,\"d\r\n\""] {
        assert_eq!(read(text), expected, "{text:?}");
    }
    assert_eq!(read("a,b\nc,d\r\n").unwrap_err(), "row 2: the line ends with CR LF, but row 1 with LF");
    assert_eq!(read("a,b\r\nc,d\n").unwrap_err(), "row 2: the line ends with LF, but row 1 with CR LF");
    assert_eq!(read("a,b\r\nc,d\r").unwrap_err(), read("a,b\nc,d\r").unwrap_err());
    for text in ["a,b\r", "a,b\rc,d\r", "a\rb,c\r\n", "a,b\r\r\n", "\"a\"\r,b\n"] {
        assert!(read(text).unwrap_err().starts_with("row 1: a carriage return (CR) without"), "{text:?}");
    }
    assert_eq!(read_with(b"a,b\r\nc,\"d\"\ne,f\r", None), Ok(rows(&[&["a", "b"], &["c", "d"], &["e", "f"]])));
}

#[test]
fn a_byte_order_mark_is_skipped_unless_it_may_belong_to_a_key() {
    assert_eq!(read("\u{feff}a,b\n"), Ok(rows(&[&["a", "b"]])));
    assert_eq!(read("\u{feff}\"a\",b\r\n"), Ok(rows(&[&["a", "b"]])));
    assert_eq!(read("a,\u{feff}b\n\u{feff}c,d\n"), Ok(rows(&[&["a", "\u{feff}b"], &["\u{feff}c", "d"]])));
    let key_first = CsvShape { fields: 2, bucket: 1 };
    let refused = read_with("\u{feff}k,b\n".as_bytes(), Some(key_first)).unwrap_err();
    assert!(refused.contains("byte order mark (BOM), which could be part of a key"), "{refused}");
}

#[test]
fn rejects_other_encodings_by_name() {
    let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    for (text, name) in [
        (wide("\u{feff}b,k\n", u16::to_le_bytes), "UTF-16 (little-endian)"),
        (wide("\u{feff}b,k\n", u16::to_be_bytes), "UTF-16 (big-endian)"),
        (wide("b,k\n", u16::to_le_bytes), "UTF-16 (little-endian)"),
        (wide("b,k\n", u16::to_be_bytes), "UTF-16 (big-endian)"),
        (b"\xff\xfe\0\0b\0\0\0".to_vec(), "UTF-32"),
    ] {
        for shape in [None, Some(NO_RECORD)] {
            let refused = read_with(&text, shape).unwrap_err();
            assert_eq!(refused, format!("row 1: the file is {name}, not UTF-8"));
        }
    }
    assert!(read_with(b"\x1f\x8b\x08\0", None).unwrap_err().contains("gzip"));
}

#[test]
fn a_record_is_bounded_wherever_it_is_long() {
    let field = "x".repeat(64);
    assert!(read(&format!("{field}\n{field}")).is_ok());
    assert!(read(&format!("a\n{field}x\n")).unwrap_err().starts_with("row 2 (line 2) is longer than 64 bytes"));
    assert!(read(&format!("{field}x")).unwrap_err().contains("longer than 64"));
    let open = format!("a,b\n\"{}", "y\n".repeat(1000));
    assert!(read(&open).unwrap_err().contains("row 2 (line 2) is longer than 64 bytes; a quote"));
    assert!(read("a,b\nc,\"d\n").unwrap_err().contains("row 2 (line 2): a quote is not closed"));
}

#[test]
fn rows_and_lines_are_counted_apart() {
    let mut records = CsvRecords::new(&b"\"a\nb\",c\nd,e\n"[..]);
    assert!(matches!(records.next(), Ok(CsvItem::Record(_))));
    assert_eq!((records.row(), records.line()), (1, 1));
    assert!(matches!(records.next(), Ok(CsvItem::Record(_))));
    assert_eq!((records.row(), records.line()), (2, 3));
}

proptest! {
    #[test]
    fn what_a_csv_writer_writes_comes_back(
        table in proptest::collection::vec(proptest::collection::vec("[a\",\n é]{0,6}", 2..4), 0..8),
        always in any::<bool>(),
    ) {
        let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut writer = csv::WriterBuilder::new().flexible(true).quote_style(style).from_writer(Vec::new());
        for row in &table {
            writer.write_record(row).unwrap();
        }
        let text = writer.into_inner().unwrap();
        let expected: Rows = table.into_iter().map(Ok).collect();
        prop_assert_eq!(read_with(&text, Some(NO_RECORD)), Ok(expected));
    }

    #[test]
    fn junk_is_no_panic(text: Vec<u8>) {
        let _ = read_with(&text, Some(NO_RECORD));
        let _ = read_with(&text, None);
    }

    #[test]
    fn quotes_and_commas_at_random_are_no_panic(text in "[\",a\n\r]{0,40}") {
        let _ = read(&text);
    }
}
