//! Reads completion report rows, written by batchplan or by the services themselves.
//!
//! AWS's `ReportSchema` and AWS's rows disagree on the order of `HTTPStatusCode` and `ErrorCode`, and other tools
//! follow one or the other. The decoder therefore decides row by row: whichever of the two is a number is the status.

use std::borrow::Cow;

use batchplan_store::printable::affects_terminal;
use serde::Deserialize;

use super::{TaskStatus, escape};
use crate::completion::ReportFormat;

const OSS_COLUMNS: usize = 5;

const AWS_COLUMNS: usize = 7;

/// The number of characters of an invalid value that an error message shows.
const SHOWN_CHARS: usize = 40;

/// Returns the number of columns in a row of this format.
#[must_use]
pub fn column_count(format: ReportFormat) -> usize {
    match format {
        ReportFormat::Oss => OSS_COLUMNS,
        ReportFormat::Aws => AWS_COLUMNS,
    }
}

/// Returns the format whose rows have `count` columns, or `None` if there is none. A single report file does not name
/// its format in any other way.
#[must_use]
pub fn format_for_column_count(count: usize) -> Option<ReportFormat> {
    match count {
        OSS_COLUMNS => Some(ReportFormat::Oss),
        AWS_COLUMNS => Some(ReportFormat::Aws),
        _ => None,
    }
}

/// One decoded row of a report: the outcome of one object.
#[derive(Clone, Copy, Debug)]
pub struct ReportRow<'a> {
    /// The bucket name, not validated.
    pub bucket: &'a str,
    /// The key, percent-decoded.
    pub key: &'a [u8],
    /// Whether the encoded key contained a raw `+`, which is kept as `+`.
    pub raw_plus: bool,
    /// The version ID, or `None` if the row has none.
    pub version: Option<&'a str>,
    /// Whether the object succeeded. An OSS row has succeeded if its status is 2xx and its error is empty.
    pub task: TaskStatus,
    /// The HTTP status, 100 to 999, or `None` if there was no response.
    pub status: Option<u16>,
    error: ReportErrorText<'a>,
}

#[derive(Clone, Copy, Debug)]
enum ReportErrorText<'a> {
    /// OSS: a sentence followed by a JSON object.
    Sentence(&'a str),
    /// AWS: the error code itself.
    Code(&'a str),
}

impl<'a> ReportRow<'a> {
    /// Returns the error code, such as `AccessDenied`, or `None` if the row has none or none can be extracted.
    #[must_use]
    pub fn error_code(&self) -> Option<Cow<'a, str>> {
        let code = match self.error {
            ReportErrorText::Sentence(text) => extract_error_code(text)?,
            ReportErrorText::Code(code) => Cow::Borrowed(code),
        };
        Some(code).filter(|code| !code.is_empty())
    }
}

/// Decodes report rows and reuses one buffer for their keys.
#[derive(Debug, Default)]
pub struct ReportRowDecoder {
    key: Vec<u8>,
}

impl ReportRowDecoder {
    /// Decodes one row of `count` columns. `column` returns the column at an index, without its CSV quotes.
    ///
    /// # Errors
    /// Returns an error if the row does not match this format. The message does not include the row number.
    pub fn decode<'a>(
        &'a mut self,
        format: ReportFormat,
        count: usize,
        column: impl Fn(usize) -> &'a str,
    ) -> Result<ReportRow<'a>, String> {
        let expected = column_count(format);
        if count != expected {
            return Err(format!("expected {expected} columns, found {count}"));
        }
        let (task, status, error) = match format {
            ReportFormat::Oss => oss_result(column(3), column(4))?,
            ReportFormat::Aws => aws_result(column(3), column(4), column(5))?,
        };
        let raw_plus = escape::percent_decode_into(column(1).as_bytes(), false, &mut self.key)?;
        let version = Some(column(2)).filter(|id| !id.is_empty());
        Ok(ReportRow { bucket: column(0), key: &self.key, raw_plus, version, task, status, error })
    }
}

type ReportedResult<'a> = (TaskStatus, Option<u16>, ReportErrorText<'a>);

/// Decodes `HTTPStatus,Error`.
fn oss_result<'a>(status: &str, error: &'a str) -> Result<ReportedResult<'a>, String> {
    let code = match status {
        "" => None,
        digits => Some(
            parse_http_status(digits)
                .ok_or_else(|| format!("its HTTPStatus is `{}`, not a three-digit number", shorten(digits)))?,
        ),
    };
    let fine = error.is_empty() && code.is_some_and(|code| (200..300).contains(&code));
    let task = if fine { TaskStatus::Succeeded } else { TaskStatus::Failed };
    Ok((task, code, ReportErrorText::Sentence(error)))
}

/// Decodes `TaskStatus`, then `HTTPStatusCode` and `ErrorCode` in either order.
fn aws_result<'a>(task: &str, first: &'a str, second: &'a str) -> Result<ReportedResult<'a>, String> {
    let task = [TaskStatus::Succeeded, TaskStatus::Failed]
        .into_iter()
        .find(|known| task.eq_ignore_ascii_case(known.as_str()))
        .ok_or_else(|| format!("its TaskStatus is `{}`, not succeeded or failed", shorten(task)))?;
    // If both are numbers, assume the usual order of rows: the status comes first.
    let (status, code) = match (parse_http_status(first), parse_http_status(second)) {
        (Some(status), _) => (Some(status), second),
        (None, Some(status)) => (Some(status), first),
        (None, None) if first.is_empty() => (None, second),
        (None, None) if second.is_empty() => (None, first),
        (None, None) => {
            let (first, second) = (shorten(first), shorten(second));
            return Err(format!("neither `{first}` nor `{second}` is an HTTP status"));
        }
    };
    Ok((task, status, ReportErrorText::Code(code)))
}

/// Parses an HTTP status: three digits, at least 100.
fn parse_http_status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number >= 100)
}

/// Extracts the error code from OSS's `Error`: a member of the JSON object that follows the sentence.
fn extract_error_code(error: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct ParsedOssError<'a> {
        #[serde(rename = "Error Code", borrow)]
        code: Cow<'a, str>,
    }
    let object = &error[error.find('{')?..];
    // Read as a stream, so that text after the object is ignored.
    let first = serde_json::Deserializer::from_str(object).into_iter::<ParsedOssError<'_>>().next()?;
    first.ok().map(|object| object.code)
}

/// Returns the first `SHOWN_CHARS` characters of a value, escaped so that they are safe to print.
fn shorten(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(SHOWN_CHARS) {
        if affects_terminal(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
