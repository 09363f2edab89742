//! Encodes rows of a completion report.
//!
//! OSS has five columns: `Bucket,Key,VersionId,HTTPStatus,Error`. `Error` is empty on success. Otherwise it holds a
//! sentence and a JSON object. The sentence is OSS's own if the service responded, and batchplan's if it did not.
//!
//! AWS has seven columns: `Bucket,Key,VersionId,TaskStatus,HTTPStatusCode,ErrorCode,ResultMessage`. S3 Batch
//! Operations writes them in this order, although the accompanying `ReportSchema` swaps the fifth and sixth.
//! batchplan does the same, because existing tools go by the rows.

use std::io::{self, Write as _};

use batchplan_store::object::ObjectId;
use batchplan_store::printable::affects_terminal;
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};
use serde::Serialize;

use crate::codec::format_seconds;
use crate::completion::ReportFormat;

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
            endpoint: &fault.endpoint,
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

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
