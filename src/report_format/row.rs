//! The rows of completion reports, encoded and decoded. Rows that are read were written by batchplan or by the
//! services themselves.
//!
//! OSS has five columns: `Bucket,Key,VersionId,HTTPStatus,Error`. `Error` is empty on success. Otherwise it holds a
//! sentence and a JSON object. The sentence is OSS's own if the service responded, and batchplan's if it did not.
//!
//! AWS has seven columns: `Bucket,Key,VersionId,TaskStatus,HTTPStatusCode,ErrorCode,ResultMessage`. S3 Batch
//! Operations writes them in this order, although the accompanying `ReportSchema` swaps the fifth and sixth.
//! batchplan does the same, because existing tools go by the rows. Other tools follow one or the other. The decoder
//! therefore decides row by row: whichever of the two is a number is the status.

use std::borrow::Cow;
use std::io::{self, Write as _};

use batchplan_store::object::ObjectId;
use batchplan_store::printable::affects_terminal;
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};
use serde::{Deserialize, Serialize};

use super::{ReportFormat, TaskStatus, format_seconds};
use crate::percent_decode::percent_decode_into;

/// Whether a failed row names the operation that failed.
///
/// The managed services run one operation per job and have no place for its name. For a plan with one operation, rows
/// keep the service's exact format. For a plan with several, the name is added: as a last JSON member `Operation`
/// (OSS), or in parentheses after the message (AWS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationNaming {
    /// Omit the name, because the plan has only one operation.
    Implied,
    /// Add the name to each failed row.
    Named,
}

impl OperationNaming {
    /// Returns the naming for a plan with `count` operations.
    #[must_use]
    pub fn for_operations(count: usize) -> Self {
        if count > 1 { Self::Named } else { Self::Implied }
    }
}

/// Encodes the rows of one report and reuses its buffers.
#[derive(Debug)]
pub struct ReportRowEncoder {
    format: ReportFormat,
    naming: OperationNaming,
    scratch: Vec<u8>,
}

impl ReportRowEncoder {
    /// Creates an encoder for rows in this format.
    #[must_use]
    pub fn new(format: ReportFormat, naming: OperationNaming) -> Self {
        Self { format, naming, scratch: Vec::new() }
    }

    /// Appends one row to `row`, including the newline. A row about success allocates only if `row` has to grow.
    ///
    /// # Errors
    /// Returns an error if serialization fails, which does not happen in practice.
    pub fn encode(&mut self, object: &ObjectId, outcome: &TaskOutcome, row: &mut Vec<u8>) -> io::Result<()> {
        push_csv_field(row, object.bucket.as_str().as_bytes());
        row.push(b',');
        match self.format {
            ReportFormat::Oss => push_percent_encoded(row, object.key.encoded_pieces()),
            ReportFormat::Aws => push_percent_encoded(row, object.key.encoded_pieces_keeping_slashes()),
        }
        row.push(b',');
        if let Some(version) = &object.version {
            push_csv_field(row, version.as_str().as_bytes());
        }
        row.push(b',');
        match self.format {
            ReportFormat::Oss => self.oss_result(outcome, row)?,
            ReportFormat::Aws => self.aws_result(outcome, row)?,
        }
        row.push(b'\n');
        Ok(())
    }

    /// Encodes `HTTPStatus,Error`.
    fn oss_result(&mut self, outcome: &TaskOutcome, row: &mut Vec<u8>) -> io::Result<()> {
        match outcome {
            TaskOutcome::Succeeded { status } => write!(row, "{status},"),
            TaskOutcome::Failed(failure) => {
                push_status(row, failure.error.status)?;
                row.push(b',');
                self.scratch.clear();
                self.scratch.extend_from_slice(preamble(&failure.error).as_bytes());
                serde_json::to_writer(&mut self.scratch, &OssErrorObject::of(failure, self.naming))?;
                push_csv_field(row, &self.scratch);
                Ok(())
            }
        }
    }

    /// Encodes `TaskStatus,HTTPStatusCode,ErrorCode,ResultMessage`.
    fn aws_result(&mut self, outcome: &TaskOutcome, row: &mut Vec<u8>) -> io::Result<()> {
        match outcome {
            TaskOutcome::Succeeded { status } => write!(row, "succeeded,{status},,Successful"),
            TaskOutcome::Failed(failure) => {
                row.extend_from_slice(b"failed,");
                push_status(row, failure.error.status)?;
                row.push(b',');
                self.scratch.clear();
                push_one_line(&mut self.scratch, &failure.error.code);
                push_csv_field(row, &self.scratch);
                row.push(b',');
                self.scratch.clear();
                push_aws_message(&mut self.scratch, failure, self.naming);
                push_csv_field(row, &self.scratch);
                Ok(())
            }
        }
    }
}

/// Returns the text before the JSON in OSS's `Error`. The first text is OSS's own. OSS documents no row without a
/// response, so the other texts are batchplan's.
fn preamble(fault: &StoreError) -> &'static str {
    match (fault.status, fault.class) {
        (Some(_), _) => "Error returned by Service. ",
        (None, FaultClass::Rejected) => "Refused without an answer from the service. ",
        (None, _) => "No answer from the service. ",
    }
}

/// The JSON in OSS's `Error`, with its members in the documented order. `Operation` is batchplan's addition. Without
/// a response, `Http Status Code` is null.
#[derive(Serialize)]
struct OssErrorObject<'a> {
    #[serde(rename = "EC")]
    ec: &'a str,
    #[serde(rename = "Error Code")]
    code: &'a str,
    #[serde(rename = "Http Status Code")]
    status: Option<u16>,
    #[serde(rename = "Message")]
    message: &'a str,
    #[serde(rename = "Request Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "Request Id")]
    request_id: &'a str,
    #[serde(rename = "Timestamp")]
    at: String,
    #[serde(rename = "Operation", skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
}

impl<'a> OssErrorObject<'a> {
    fn of(failure: &'a TaskFailure, naming: OperationNaming) -> Self {
        let fault = &failure.error;
        Self {
            ec: &fault.ec,
            code: &fault.code,
            status: fault.status,
            message: &fault.message,
            endpoint: &fault.request_line,
            request_id: &fault.request_id,
            at: format_seconds(fault.at),
            operation: (naming == OperationNaming::Named).then_some(failure.operation.as_str()),
        }
    }
}

/// Writes AWS's `ResultMessage`: the server's message, then in parentheses the operation and the request ID, which
/// help to find the request again.
fn push_aws_message(out: &mut Vec<u8>, failure: &TaskFailure, naming: OperationNaming) {
    push_one_line(out, &failure.error.message);
    let operation = (naming == OperationNaming::Named).then_some(("Operation: ", failure.operation.as_str()));
    let id = failure.error.request_id.as_str();
    let request = (!id.is_empty()).then_some(("Request ID: ", id));
    let mut open = " (";
    let mut close = "";
    for (name, value) in operation.into_iter().chain(request) {
        out.extend_from_slice(open.as_bytes());
        out.extend_from_slice(name.as_bytes());
        push_one_line(out, value);
        (open, close) = ("; ", ")");
    }
    out.extend_from_slice(close.as_bytes());
}

/// Appends text with line breaks and terminal control characters replaced by spaces, so that tools that read line by
/// line see one row as one line.
fn push_one_line(out: &mut Vec<u8>, text: &str) {
    let mut utf8 = [0; 4];
    for c in text.chars() {
        let c = if affects_terminal(c) { ' ' } else { c };
        out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    }
}

fn push_status(row: &mut Vec<u8>, status: Option<u16>) -> io::Result<()> {
    match status {
        Some(status) => write!(row, "{status}"),
        None => Ok(()),
    }
}

/// Appends a percent-encoded key, which contains nothing that CSV would quote.
fn push_percent_encoded<'a>(row: &mut Vec<u8>, pieces: impl Iterator<Item = &'a str>) {
    for piece in pieces {
        row.extend_from_slice(piece.as_bytes());
    }
}

/// Appends a CSV field, quoted only if RFC 4180 requires it. The csv crate's writer is not used, because its own
/// buffer would hide the length of the file.
fn push_csv_field(row: &mut Vec<u8>, text: &[u8]) {
    if !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        row.extend_from_slice(text);
        return;
    }
    row.push(b'"');
    for &byte in text {
        if byte == b'"' {
            row.push(b'"');
        }
        row.push(byte);
    }
    row.push(b'"');
}

const OSS_COLUMNS: usize = 5;

const AWS_COLUMNS: usize = 7;

/// The number of characters of an invalid value that an error message shows.
const SHOWN_CHARS: usize = 40;

/// Returns the number of columns in a row of this format.
fn column_count(format: ReportFormat) -> usize {
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
        let raw_plus = percent_decode_into(column(1).as_bytes(), false, &mut self.key)?;
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
mod tests;
