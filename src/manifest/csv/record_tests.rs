use std::io::BufReader;

use proptest::prelude::*;

use super::*;

type Rows = Vec<Result<Vec<String>, String>>;

fn read_with(text: &[u8], ends: CsvLineEnds) -> Result<Rows, String> {
    // A buffer of three bytes puts buffer boundaries at every position.
    let mut records = CsvRecords::with_limit(BufReader::with_capacity(3, text), ends, 64);
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
    read_with(text.as_bytes(), CsvLineEnds::Lf)
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
    assert_eq!(bad("\"a\"b,c\n"), "text follows a closing quote");
    assert_eq!(bad("a\"b\",c\n"), "a quote inside an unquoted field");
    assert_eq!(read("\n").unwrap(), [Err("empty row".to_owned())]);
    let invalid = read_with(b"a,b\nc,\xff\nd,e\n", CsvLineEnds::Lf).unwrap();
    assert_eq!(invalid[1], Err("not UTF-8 (byte 3 of the row)".to_owned()));
    assert!(invalid[2].is_ok());
}

#[test]
fn rejects_windows_line_endings() {
    assert!(read("a,b\nc,d\r\n").unwrap_err().starts_with("row 2: the line ends with CR LF"));
    assert!(read("a,\"b\"\r\n").unwrap_err().starts_with("row 1: the line ends with CR LF"));
    assert!(read("a,b\r").unwrap_err().starts_with("row 1"));
    assert_eq!(read_with(b"a,b\r\nc,\"d\"\r\n", CsvLineEnds::Either), Ok(rows(&[&["a", "b"], &["c", "d"]])));
}

#[test]
fn rejects_other_encodings() {
    assert!(read("\u{feff}a,b\n").unwrap_err().contains("byte order mark"));
    assert!(read_with(b"\xff\xfea\0", CsvLineEnds::Lf).unwrap_err().contains("UTF-16"));
    assert!(read_with(b"\x1f\x8b\x08\0", CsvLineEnds::Lf).unwrap_err().contains("gzip"));
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
    let mut records = CsvRecords::new(&b"\"a\nb\",c\nd,e\n"[..], CsvLineEnds::Lf);
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
        prop_assert_eq!(read_with(&text, CsvLineEnds::Lf), Ok(expected));
    }

    #[test]
    fn junk_is_no_panic(text: Vec<u8>) {
        let _ = read_with(&text, CsvLineEnds::Lf);
        let _ = read_with(&text, CsvLineEnds::Either);
    }

    #[test]
    fn quotes_and_commas_at_random_are_no_panic(text in "[\",a\n\r]{0,40}") {
        let _ = read(&text);
    }
}
