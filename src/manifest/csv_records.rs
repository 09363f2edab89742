//! A reader for CSV records, strict RFC 4180 except for line ends, in constant memory.
//!
//! It is stricter than most readers on purpose: what other readers accept (a stray quote, an empty line, text after a
//! closing quote) is, in a list of objects to change, a sign that the list is not what its author intended.

use std::io::{self, BufRead};
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr3};

use super::error::ManifestError;

/// The maximum length of a record in bytes. A key of 1,024 bytes takes 3,072 when all of it is escaped; inventories
/// contain ACLs as well.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// The byte order mark, which some files start with to say that they are UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The accepted line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CsvLineEnds {
    /// LF only.
    Lf,
    /// LF and CR LF.
    Either,
}

/// Reads records one at a time into one buffer.
pub(super) struct CsvRecords<R> {
    input: R,
    ends: CsvLineEnds,
    limit: usize,
    raw: Vec<u8>,
    fields: Vec<Range<usize>>,
    /// Whether the record has neither a quote nor a CR: this is the common case, and has a fast path.
    plain: bool,
    row: u64,
    line: u64,
    next_line: u64,
}

/// The next item of the file.
#[derive(Debug)]
pub(super) enum CsvItem<'a> {
    Record(CsvRecord<'a>),
    /// An invalid record, and the reason; reading can continue after it.
    Bad(String),
    /// The end of the file.
    End,
}

/// The fields of a record.
#[derive(Debug)]
pub(super) struct CsvRecord<'a> {
    raw: &'a [u8],
    fields: &'a [Range<usize>],
}

impl<'a> CsvRecord<'a> {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns a field without its quotes.
    pub(super) fn field(&self, index: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(index)?).ok()
    }

    /// Returns the same as bytes, which are valid UTF-8.
    pub(super) fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        self.raw.get(self.fields.get(index)?.clone())
    }
}

/// Why the file cannot be read any further.
#[derive(Debug)]
pub(super) enum CsvReadError {
    /// Reading or decompressing it failed.
    Io(io::Error),
    /// It does not have the format of a manifest.
    Malformed {
        what: String,
        /// How to fix it.
        help: &'static str,
    },
}

impl<R: BufRead> CsvRecords<R> {
    pub(super) fn new(input: R, ends: CsvLineEnds) -> Self {
        Self::with_limit(input, ends, MAX_RECORD_BYTES)
    }

    fn with_limit(input: R, ends: CsvLineEnds, limit: usize) -> Self {
        Self { input, ends, limit, raw: Vec::new(), fields: Vec::new(), plain: true, row: 0, line: 0, next_line: 1 }
    }

    /// Returns the number of the last record read, from 1.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    /// Returns the number of the line that this record started on, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn next(&mut self) -> Result<CsvItem<'_>, CsvReadError> {
        if !self.read_raw()? {
            return Ok(CsvItem::End);
        }
        if self.row == 1 {
            check_encoding(&self.raw)?;
        }
        if !self.plain {
            self.check_line_end()?;
        }
        if !is_ascii(&self.raw)
            && let Err(invalid) = std::str::from_utf8(&self.raw)
        {
            return Ok(CsvItem::Bad(format!("not UTF-8 (byte {} of the row)", invalid.valid_up_to() + 1)));
        }
        if self.raw.is_empty() {
            return Ok(CsvItem::Bad("empty row".to_owned()));
        }
        if self.plain {
            split_at_commas(&self.raw, &mut self.fields);
        } else if let Err(why) = split_quoted(&mut self.raw, &mut self.fields) {
            return Ok(CsvItem::Bad(why.to_owned()));
        }
        // Removing quotes removes whole ASCII characters, so each field is still valid UTF-8.
        Ok(CsvItem::Record(CsvRecord { raw: &self.raw, fields: &self.fields }))
    }

    /// Reads the bytes of one record, without the final LF. Returns `false` at the end of the file.
    ///
    /// A record continues on the next line while its number of quotes is odd.
    fn read_raw(&mut self) -> Result<bool, CsvReadError> {
        self.raw.clear();
        self.plain = true;
        self.line = self.next_line;
        let mut quoted = false;
        loop {
            let start = self.raw.len();
            let count = self.read_line(self.limit.saturating_add(2).saturating_sub(start)).map_err(CsvReadError::Io)?;
            if start == 0 && count > 0 {
                self.row += 1;
            }
            if !self.plain {
                quoted ^= memchr_iter(b'"', &self.raw[start..]).count() % 2 == 1;
            }
            let ended = self.raw.last() == Some(&b'\n') && count > 0;
            if ended {
                self.next_line += 1;
            }
            if self.raw.len() > self.limit.saturating_add(1) || (!ended && self.raw.len() > self.limit) {
                return Err(self.record_too_long(quoted));
            }
            if ended && quoted {
                continue;
            }
            if quoted {
                return Err(self.unclosed_quote());
            }
            if ended {
                self.raw.pop();
            }
            return Ok(ended || !self.raw.is_empty());
        }
    }

    /// Appends the bytes up to and including the next LF, but at most `room` bytes. Returns their number.
    fn read_line(&mut self, room: usize) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let here = match self.input.fill_buf() {
                Ok(here) => &here[..here.len().min(room - count)],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let found = memchr3(b'\n', b'"', b'\r', here);
            self.plain &= found.is_none_or(|at| here[at] == b'\n');
            let end = if self.plain { found } else { memchr(b'\n', here) }.map(|at| at + 1);
            let taken = end.unwrap_or(here.len());
            self.raw.extend_from_slice(&here[..taken]);
            self.input.consume(taken);
            count += taken;
            if end.is_some() || taken == 0 {
                return Ok(count);
            }
        }
    }

    fn check_line_end(&mut self) -> Result<(), CsvReadError> {
        if memchr(b'\r', &self.raw).is_none() {
            return Ok(());
        }
        if self.ends == CsvLineEnds::Either && self.raw.last() == Some(&b'\r') {
            self.raw.pop();
            return Ok(());
        }
        let mut quoted = false;
        let outside = self.raw.iter().any(|byte| {
            quoted ^= *byte == b'"';
            *byte == b'\r' && !quoted
        });
        if !outside {
            return Ok(());
        }
        Err(CsvReadError::Malformed {
            what: format!("row {}: the line ends with CR LF, as on Windows", self.row),
            help: "convert the file to LF line endings, for example with `dos2unix` or `tr -d '\\r'`",
        })
    }

    fn record_too_long(&self, quoted: bool) -> CsvReadError {
        let so_far = if quoted { "; a quote in it is not closed" } else { "" };
        CsvReadError::Malformed {
            what: format!("row {} (line {}) is longer than {} bytes{so_far}", self.row, self.line, self.limit),
            help: "check the quotes and line endings: a row has a bucket, a key of at most 1024 bytes and a version id",
        }
    }

    fn unclosed_quote(&self) -> CsvReadError {
        CsvReadError::Malformed {
            what: format!("row {} (line {}): a quote is not closed", self.row, self.line),
            help: "close the quote; write a quote inside a quoted field twice, or as %22 in a key",
        }
    }
}

/// Does the same as the method of slices. That method checks the bytes after the last full 64-byte block one by one,
/// which is half of a typical row.
fn is_ascii(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte).is_ascii()
}

impl CsvReadError {
    /// Converts to an error that names the file.
    pub(super) fn into_manifest_error(self, gzip: bool, name: &str, row: u64) -> ManifestError {
        match self {
            Self::Malformed { what, help } => ManifestError::malformed(name, what, help),
            Self::Io(cause) if gzip && is_corruption(&cause) => ManifestError::malformed(
                name,
                format!("its gzip data is damaged or truncated near row {row}: {cause}"),
                "write or copy the file again",
            ),
            Self::Io(cause) => ManifestError::Read { place: name.to_owned(), cause },
        }
    }
}

fn is_corruption(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

/// Rejects a byte order mark, which would become part of the first bucket name, and other encodings.
fn check_encoding(raw: &[u8]) -> Result<(), CsvReadError> {
    let form = |what: &str, help| Err(CsvReadError::Malformed { what: what.to_owned(), help });
    if raw.starts_with(BOM) {
        return form(
            "row 1: the file begins with a byte order mark (BOM)",
            "save it as UTF-8 without BOM, for example with `tail -c +4`",
        );
    }
    if raw.starts_with(b"\xff\xfe") || raw.starts_with(b"\xfe\xff") {
        return form("row 1: the file is UTF-16, not UTF-8", "save it as UTF-8 without BOM");
    }
    if raw.starts_with(b"\x1f\x8b") {
        return form("row 1: the file is gzip-compressed", "give it a name that ends with .gz, or decompress it");
    }
    Ok(())
}

/// Finds the fields of a record without quotes.
fn split_at_commas(raw: &[u8], fields: &mut Vec<Range<usize>>) {
    fields.clear();
    let mut start = 0;
    for comma in memchr_iter(b',', raw) {
        fields.push(start..comma);
        start = comma + 1;
    }
    fields.push(start..raw.len());
}

/// Finds the fields of any record, and replaces doubled quotes by single ones in place.
fn split_quoted(raw: &mut Vec<u8>, fields: &mut Vec<Range<usize>>) -> Result<(), &'static str> {
    fields.clear();
    let (mut read, mut write) = (0, 0);
    loop {
        let start = write;
        if raw.get(read) == Some(&b'"') {
            read += 1;
            loop {
                match (raw.get(read), raw.get(read + 1)) {
                    (Some(b'"'), Some(b'"')) => read += 1,
                    (Some(b'"'), None | Some(b',')) => break,
                    (Some(b'"'), Some(_)) => return Err("text follows a closing quote"),
                    (Some(_), _) => {}
                    (None, _) => return Err("a quote is not closed"),
                }
                raw[write] = raw[read];
                (read, write) = (read + 1, write + 1);
            }
            read += 1;
        } else {
            while let Some(&byte) = raw.get(read).filter(|byte| **byte != b',') {
                if byte == b'"' {
                    return Err("a quote inside an unquoted field");
                }
                raw[write] = byte;
                (read, write) = (read + 1, write + 1);
            }
        }
        fields.push(start..write);
        if read == raw.len() {
            raw.truncate(write);
            return Ok(());
        }
        read += 1;
    }
}

#[cfg(test)]
mod tests {
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
}
