//! One row of a completion report, read back: rows of ours and of the services themselves.
//!
//! AWS's `ReportSchema` and AWS's rows disagree about the order of `HTTPStatusCode` and `ErrorCode`, and tools have
//! followed the one or the other. So each row says it itself: the one of the two that is a number is the status.

use std::borrow::Cow;

use serde::Deserialize;

use super::{TaskStatus, escape};
use crate::completion::ReportFormat;
use crate::diagnostics::drives_terminal;

/// Columns of OSS's rows.
const OSS_COLUMNS: usize = 5;

/// Columns of AWS's rows.
const AWS_COLUMNS: usize = 7;

/// How much of a wrong value a message shows, in characters.
const SHOWN_CHARS: usize = 40;

/// How many columns a row of this format has.
#[must_use]
pub fn column_count(format: ReportFormat) -> usize {
    match format {
        ReportFormat::Oss => OSS_COLUMNS,
        ReportFormat::Aws => AWS_COLUMNS,
    }
}

/// The format whose rows have so many columns: a report file that stands alone does not say it otherwise.
#[must_use]
pub fn format_of_columns(count: usize) -> Option<ReportFormat> {
    match count {
        OSS_COLUMNS => Some(ReportFormat::Oss),
        AWS_COLUMNS => Some(ReportFormat::Aws),
        _ => None,
    }
}

/// What became of one object, as a report tells it.
#[derive(Clone, Copy, Debug)]
pub struct ReportRow<'a> {
    /// The bucket, unchecked.
    pub bucket: &'a str,
    /// The key, decoded.
    pub key: &'a [u8],
    /// Whether the key held a raw `+`, which was taken as itself.
    pub raw_plus: bool,
    /// The version id, where the row has one.
    pub version: Option<&'a str>,
    /// How it ended. In OSS's form a row has succeeded when its status is 2xx and it has no error.
    pub task: TaskStatus,
    /// The HTTP status, 100 to 999, where an answer came.
    pub status: Option<u16>,
    error: ErrorText<'a>,
}

#[derive(Clone, Copy, Debug)]
enum ErrorText<'a> {
    /// OSS: a sentence and a JSON object.
    Sentence(&'a str),
    /// AWS: the code itself.
    Code(&'a str),
}

impl<'a> ReportRow<'a> {
    /// The error's code, such as `AccessDenied`; `None` where the row has none, or none that can be found in it.
    #[must_use]
    pub fn code(&self) -> Option<Cow<'a, str>> {
        let code = match self.error {
            ErrorText::Sentence(text) => code_in(text)?,
            ErrorText::Code(code) => Cow::Borrowed(code),
        };
        Some(code).filter(|code| !code.is_empty())
    }
}

/// Reads rows, reusing its buffer.
#[derive(Debug, Default)]
pub struct RowDecoder {
    key: Vec<u8>,
}

impl RowDecoder {
    /// Reads one row of so many columns; `column` gives each of them, without its CSV quotes.
    ///
    /// # Errors
    /// The row is not of this format: why, without its number.
    pub fn decode<'a>(
        &'a mut self,
        format: ReportFormat,
        count: usize,
        column: impl Fn(usize) -> &'a str,
    ) -> Result<ReportRow<'a>, String> {
        let expected = column_count(format);
        if count != expected {
            return Err(format!("it has {count} columns, and a row of this report has {expected}"));
        }
        let (task, status, error) = match format {
            ReportFormat::Oss => oss_result(column(3), column(4))?,
            ReportFormat::Aws => aws_result(column(3), column(4), column(5))?,
        };
        let raw_plus = escape::decode_into(column(1).as_bytes(), false, &mut self.key)?;
        let version = Some(column(2)).filter(|id| !id.is_empty());
        Ok(ReportRow { bucket: column(0), key: &self.key, raw_plus, version, task, status, error })
    }
}

type Ending<'a> = (TaskStatus, Option<u16>, ErrorText<'a>);

/// `HTTPStatus,Error`.
fn oss_result<'a>(status: &str, error: &'a str) -> Result<Ending<'a>, String> {
    let code = match status {
        "" => None,
        digits => Some(
            number(digits)
                .ok_or_else(|| format!("its HTTPStatus is `{}`, not a number of three digits", shown(digits)))?,
        ),
    };
    let fine = error.is_empty() && code.is_some_and(|code| (200..300).contains(&code));
    let task = if fine { TaskStatus::Succeeded } else { TaskStatus::Failed };
    Ok((task, code, ErrorText::Sentence(error)))
}

/// `TaskStatus`, then `HTTPStatusCode` and `ErrorCode` in either order.
fn aws_result<'a>(task: &str, first: &'a str, second: &'a str) -> Result<Ending<'a>, String> {
    let task = [TaskStatus::Succeeded, TaskStatus::Failed]
        .into_iter()
        .find(|known| task.eq_ignore_ascii_case(known.as_str()))
        .ok_or_else(|| format!("its TaskStatus is `{}`, not succeeded or failed", shown(task)))?;
    // Where both are numbers, the rows' usual order decides.
    let (status, code) = match (number(first), number(second)) {
        (Some(status), _) => (Some(status), second),
        (None, Some(status)) => (Some(status), first),
        (None, None) if first.is_empty() => (None, second),
        (None, None) if second.is_empty() => (None, first),
        (None, None) => {
            let (first, second) = (shown(first), shown(second));
            return Err(format!("neither `{first}` nor `{second}` is an HTTP status"));
        }
    };
    Ok((task, status, ErrorText::Code(code)))
}

/// An HTTP status: three digits.
fn number(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number >= 100)
}

/// The code in OSS's `Error`: a member of the JSON object behind the sentence.
fn code_in(error: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct ErrorObject<'a> {
        #[serde(rename = "Error Code", borrow)]
        code: Cow<'a, str>,
    }
    let object = &error[error.find('{')?..];
    // As a stream, so that text behind the object does no harm.
    let first = serde_json::Deserializer::from_str(object).into_iter::<ErrorObject<'_>>().next()?;
    first.ok().map(|object| object.code)
}

/// The beginning of a value, fit to be shown.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(SHOWN_CHARS) {
        if drives_terminal(c) {
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
