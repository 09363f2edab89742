//! The syntax of a CSV file: its separator, and whether a space follows each separator. Splits records into fields.
//!
//! A CSV manifest has commas, as AWS and OSS require. Spreadsheets and scripts also write semicolons, tabs, or a space
//! after each comma. Such a file is read only if its first row has one meaning: keys may contain all of these
//! characters, but the name of a bucket contains none.

use std::ops::Range;

use memchr::memchr_iter;

use crate::manifest::row_visitor::check_bucket;

/// The columns that a file must have. They show its syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CsvShape {
    /// The number of columns.
    pub(crate) fields: usize,
    /// The index of the column with the bucket.
    pub(crate) bucket: usize,
}

/// How the fields of a record are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CsvSyntax {
    separator: u8,
    /// Whether one space follows each separator, and is not part of the field.
    spaced: bool,
}

impl CsvSyntax {
    /// The syntax that AWS and OSS require.
    pub(super) const COMMA: Self = Self { separator: b',', spaced: false };

    /// The other supported ones.
    const OTHERS: [Self; 4] = [
        Self { separator: b';', spaced: false },
        Self { separator: b'\t', spaced: false },
        Self { separator: b',', spaced: true },
        Self { separator: b';', spaced: true },
    ];

    /// The separators that an error names.
    const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

    /// Returns the syntax that the first record of a file has: commas, unless the record makes sense only with one
    /// other syntax.
    ///
    /// The name of a bucket contains no separator and no space. Therefore a record of the right shape with another
    /// syntax is not one with commas, whatever its key is.
    pub(super) fn detect(record: &[u8], shape: CsvShape) -> Self {
        if Self::COMMA.fits(record, shape) {
            return Self::COMMA;
        }
        let mut fitting = Self::OTHERS.into_iter().filter(|syntax| syntax.fits(record, shape));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => only,
            _ => Self::COMMA,
        }
    }

    /// Returns whether the record has the right number of fields and the name of a bucket.
    ///
    /// The space is a sign only before the bucket: before a key, it may be part of the key.
    fn fits(self, record: &[u8], shape: CsvShape) -> bool {
        if self.spaced && shape.bucket == 0 {
            return false;
        }
        let (mut record, mut fields) = (record.to_vec(), Vec::new());
        if self.split_quoted(&mut record, &mut fields).is_err() || fields.len() != shape.fields {
            return false;
        }
        let bucket = std::str::from_utf8(&record[fields[shape.bucket].clone()]).unwrap_or_default();
        // A header is reported as one, with any separator.
        check_bucket(bucket, true).is_ok() || is_column_name(bucket)
    }

    /// Returns what a record that does not fit seems to be separated by, if that is not this separator.
    pub(super) fn seeming_separator(self, record: &[u8], shape: CsvShape) -> Option<&'static str> {
        let others = Self::SEPARATORS.into_iter().filter(|separator| *separator != self.separator);
        let mut fitting = others.filter(|separator| Self { separator: *separator, spaced: false }.fits(record, shape));
        fitting.next().map(separator_name)
    }

    /// Returns the separator's name for messages.
    pub(super) fn name(self) -> &'static str {
        separator_name(self.separator)
    }

    /// Finds the fields of a record without quotes.
    pub(super) fn split_plain(self, raw: &[u8], fields: &mut Vec<Range<usize>>) -> Result<(), &'static str> {
        fields.clear();
        let mut start = 0;
        for at in memchr_iter(self.separator, raw) {
            fields.push(start..at);
            start = at + 1;
            if self.spaced {
                start = skip_space(raw, start)?;
            }
        }
        fields.push(start..raw.len());
        Ok(())
    }

    /// Finds the fields of any record, and replaces doubled quotes by single ones in place.
    pub(super) fn split_quoted(self, raw: &mut Vec<u8>, fields: &mut Vec<Range<usize>>) -> Result<(), &'static str> {
        fields.clear();
        let (mut read, mut write) = (0, 0);
        loop {
            let start = write;
            if raw.get(read) == Some(&b'"') {
                read += 1;
                loop {
                    match (raw.get(read), raw.get(read + 1)) {
                        (Some(b'"'), Some(b'"')) => read += 1,
                        (Some(b'"'), None) => break,
                        (Some(b'"'), Some(next)) if *next == self.separator => break,
                        (Some(b'"'), Some(_)) => return Err("unexpected text after a closing quote"),
                        (Some(_), _) => {}
                        (None, _) => return Err("a quote is not closed"),
                    }
                    raw[write] = raw[read];
                    (read, write) = (read + 1, write + 1);
                }
                read += 1;
            } else {
                while let Some(&byte) = raw.get(read).filter(|byte| **byte != self.separator) {
                    if byte == b'"' {
                        return Err(misplaced_quote(&raw[start..write]));
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
            if self.spaced {
                read = skip_space(raw, read)?;
            }
        }
    }
}

/// Returns the index after the space.
fn skip_space(raw: &[u8], at: usize) -> Result<usize, &'static str> {
    if raw.get(at) == Some(&b' ') { Ok(at + 1) } else { Err("missing space after a separator, unlike in row 1") }
}

/// Returns the problem with a quote after this text in an unquoted field.
fn misplaced_quote(before: &[u8]) -> &'static str {
    if before.iter().all(|byte| *byte == b' ') {
        "a space before a quoted field: remove the space after the separator"
    } else {
        "unexpected quote in an unquoted field"
    }
}

/// Returns whether a field is the name of a column, as in a header.
pub(super) fn is_column_name(field: &str) -> bool {
    const NAMES: [&str; 9] =
        ["bucket", "bucketname", "key", "keyname", "object", "objectkey", "objectname", "version", "versionid"];
    let letters = field.chars().filter(|c| !matches!(c, ' ' | '_' | '-'));
    let name: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    NAMES.contains(&name.as_str())
}

/// Returns the name of a separator for messages.
pub(super) fn separator_name(separator: u8) -> &'static str {
    match separator {
        b';' => "semicolons",
        b'\t' => "tabs",
        b'|' => "vertical bars (|)",
        _ => "commas",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUCKET_KEY: CsvShape = CsvShape { fields: 2, bucket: 0 };
    const KEY_BUCKET: CsvShape = CsvShape { fields: 2, bucket: 1 };

    fn detected(record: &str, shape: CsvShape) -> (char, bool) {
        let syntax = CsvSyntax::detect(record.as_bytes(), shape);
        (char::from(syntax.separator), syntax.spaced)
    }

    #[test]
    fn the_bucket_shows_the_syntax() {
        for (record, shape, expected) in [
            ("b,k", BUCKET_KEY, (',', false)),
            ("b;k", BUCKET_KEY, (';', false)),
            ("b\tk", BUCKET_KEY, ('\t', false)),
            ("\"b\";\"k;x\"", BUCKET_KEY, (';', false)),
            ("b;k,x", BUCKET_KEY, (';', false)),
            ("a;x\ty,b", KEY_BUCKET, (',', false)),
            ("a,x;b", KEY_BUCKET, (';', false)),
            ("k, b", KEY_BUCKET, (',', true)),
            ("\"k\"; \"b\"", KEY_BUCKET, (';', true)),
            ("Bucket;Key", BUCKET_KEY, (';', false)),
        ] {
            assert_eq!(detected(record, shape), expected, "{record}");
        }
    }

    #[test]
    fn what_may_be_a_key_stays_one() {
        // The space belongs to the key, or the record has more than one meaning, or none.
        let three = CsvShape { fields: 3, bucket: 1 };
        for (record, shape) in [
            ("b, k", BUCKET_KEY),
            ("b,;k", BUCKET_KEY),
            ("p\tq\tz;b;r", three),
            ("b|k", BUCKET_KEY),
            ("k,  b", KEY_BUCKET),
        ] {
            assert_eq!(detected(record, shape), (',', false), "{record}");
        }
    }

    #[test]
    fn a_record_that_does_not_fit_shows_its_separator() {
        let seeming = |record: &str| CsvSyntax::COMMA.seeming_separator(record.as_bytes(), BUCKET_KEY);
        assert_eq!(seeming("b;k"), Some("semicolons"));
        assert_eq!(seeming("b\tk"), Some("tabs"));
        assert_eq!(seeming("b|k"), Some("vertical bars (|)"));
        assert_eq!(seeming("b k"), None);
        assert_eq!(seeming("b,k,v"), None);
    }

    proptest! {
        /// Whatever else the key contains, a file that commas fit is never read in another way.
        #[test]
        fn commas_come_first(bucket in "[a-z0-9.-]{3,9}", key in "[ ;\t|a-z]{0,12}") {
            for (record, shape) in [(format!("{bucket},{key}"), BUCKET_KEY), (format!("{key},{bucket}"), KEY_BUCKET)] {
                if !matches!(bucket.as_str(), "." | "..") {
                    prop_assert_eq!(detected(&record, shape), (',', false));
                }
            }
        }

        #[test]
        fn any_record_has_a_syntax(record: Vec<u8>, fields in 1_usize..5, bucket in 0_usize..5) {
            let shape = CsvShape { fields, bucket: bucket.min(fields - 1) };
            CsvSyntax::detect(&record, shape);
            CsvSyntax::COMMA.seeming_separator(&record, shape);
        }
    }
}
