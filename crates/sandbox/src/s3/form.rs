//! Forms: uploads by browsers (`PostObject`). s3s parses a form, and checks its signature and the conditions of its
//! policy. Here is what AWS does besides: the name of the file in the fields, the headers of the object in the fields,
//! the form of the expiration, and the answers.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html>

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Frame;
use s3s::{Body, S3Result, s3_error};

use super::reading::{METADATA_PREFIX, STORED_HEADERS};
use super::request::S3RequestBody;
use super::response::{custom_error, invalid_argument};

/// The maximum length of the fields before the file, in bytes.
const MAX_FIELD_BYTES: usize = 20 << 10;

/// The headers of the object, from the fields of a form.
#[derive(Clone, Debug, Default)]
struct FormHeaders(HeaderMap);

/// Returns the boundary between the fields, if a request is a form.
pub(super) fn form_boundary(request: &Parts) -> Option<String> {
    let kind = request.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let parameters = kind.strip_prefix("multipart/form-data").filter(|_| request.method == Method::POST)?;
    let boundary = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="))?;
    Some(boundary.trim_matches('"').to_owned())
}

/// Reads the fields of a form up to its file, and replaces `${filename}` in them. The policy is compared with the
/// fields only then.
pub(super) async fn expand(mut parts: Parts, body: impl S3RequestBody, boundary: &str) -> S3Result<Request<Body>> {
    let mut body = Box::pin(body);
    let mut start = Vec::new();
    let fields = loop {
        match scan(&start, boundary) {
            Scan::More => {}
            Scan::NoFile => break None,
            Scan::File(fields) => break Some(fields),
        }
        if start.len() > MAX_FIELD_BYTES {
            return Err(custom_error(
                "MaxPostPreDataLengthExceededError",
                StatusCode::BAD_REQUEST,
                "Your POST request fields preceding the upload file were too large.",
            ));
        }
        match body.frame().await {
            None => break None,
            Some(Err(error)) => return Err(s3_error!(IncompleteBody, "The form is incomplete: {error}")),
            Some(Ok(frame)) => start.extend_from_slice(&frame.into_data().unwrap_or_default()),
        }
    };
    if let Some(fields) = fields {
        let is_signed = ["signature", "x-amz-signature"].iter().any(|name| fields.value(name, &start).is_some());
        if fields.value("policy", &start).is_some() && !is_signed {
            return Err(invalid_argument(
                "Bucket POST must contain a field named 'signature'. If it is specified, please check the order of the \
                 fields.",
            ));
        }
        check_expiration(&fields, &start)?;
        let expanded = fields.expand(&start);
        let length =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = length {
            let length = (length + expanded.len()).saturating_sub(start.len());
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        parts.extensions.insert(FormHeaders(fields.headers(&start)?));
        start = expanded;
    }
    let start = stream::iter([Ok(Frame::data(start.into()))]);
    Ok(Request::from_parts(parts, Body::http_body(StreamBody::new(start.chain(BodyStream::new(body))))))
}

/// A field before the file.
#[derive(Debug, PartialEq, Eq)]
struct FormField {
    /// In lower case.
    name: String,
    value: Range<usize>,
}

/// The fields before the file, and its name.
#[derive(Debug, PartialEq, Eq)]
struct FormFields {
    fields: Vec<FormField>,
    file_name: Vec<u8>,
}

/// What the start of a form shows.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    /// The file has not begun.
    More,
    /// The form has no file, or is not valid, which s3s reports.
    NoFile,
    File(FormFields),
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Finds the fields in the start of a form, up to its file.
fn scan(start: &[u8], boundary: &str) -> Scan {
    let (delimiter, mut fields, mut at) = (format!("--{boundary}"), Vec::new(), 0);
    loop {
        let Some(rest) = start[at..].strip_prefix(delimiter.as_bytes()) else {
            return if start.len() - at < delimiter.len() { Scan::More } else { Scan::NoFile };
        };
        let Some(rest) = rest.strip_prefix(b"\r\n") else {
            return if rest.len() < 2 { Scan::More } else { Scan::NoFile };
        };
        let Some(end) = find(rest, b"\r\n\r\n") else { return Scan::More };
        let value = at + delimiter.len() + 2 + end + 4;
        let Some((name, file_name)) = disposition(&rest[..end]) else { return Scan::NoFile };
        if name == "file" {
            return Scan::File(FormFields { fields, file_name });
        }
        let next = format!("\r\n{delimiter}");
        let Some(length) = find(&start[value..], next.as_bytes()) else { return Scan::More };
        fields.push(FormField { name, value: value..value + length });
        at = value + length + 2;
    }
}

/// Returns the name of a field in lower case, and that of its file without folders.
fn disposition(head: &[u8]) -> Option<(String, Vec<u8>)> {
    let lines = head.split(|byte| *byte == b'\n');
    let line =
        lines.map(<[u8]>::trim_ascii).find(|line| line.to_ascii_lowercase().starts_with(b"content-disposition:"))?;
    let parameter = |name: &[u8]| {
        let mut parameters = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let value = parameters.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix(b"="))?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    };
    let name = String::from_utf8(parameter(b"name")?.to_ascii_lowercase()).ok()?;
    let path = parameter(b"filename").unwrap_or_default();
    let file_name = path.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or_default();
    Some((name, file_name.to_vec()))
}

impl FormFields {
    fn value<'s>(&self, name: &str, start: &'s [u8]) -> Option<&'s [u8]> {
        self.fields.iter().find(|field| field.name == name).map(|field| &start[field.value.clone()])
    }

    /// Returns the start of the form with the name of the file in place of `${filename}`.
    fn expand(&self, start: &[u8]) -> Vec<u8> {
        let (mut expanded, mut copied) = (Vec::with_capacity(start.len()), 0);
        for FormField { value, .. } in &self.fields {
            expanded.extend_from_slice(&start[copied..value.start]);
            expanded.extend(self.expanded(&start[value.clone()]));
            copied = value.end;
        }
        expanded.extend_from_slice(&start[copied..]);
        expanded
    }

    fn expanded(&self, mut value: &[u8]) -> Vec<u8> {
        const VARIABLE: &[u8] = b"${filename}";
        let mut expanded = Vec::with_capacity(value.len());
        while let Some(at) = find(value, VARIABLE) {
            expanded.extend_from_slice(&value[..at]);
            expanded.extend_from_slice(&self.file_name);
            value = &value[at + VARIABLE.len()..];
        }
        expanded.extend_from_slice(value);
        expanded
    }

    /// Returns the headers that the object gets: its metadata, its type, and the like.
    fn headers(&self, start: &[u8]) -> S3Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for FormField { name, value } in &self.fields {
            let Ok(header) = HeaderName::try_from(name.as_str()) else { continue };
            if !name.starts_with(METADATA_PREFIX) && !STORED_HEADERS.contains(&header) {
                continue;
            }
            let value = HeaderValue::from_bytes(&self.expanded(&start[value.clone()]));
            headers.insert(header, value.map_err(|_| invalid_argument("A field cannot be a header"))?);
        }
        Ok(headers)
    }
}

/// Checks the form of the expiration in a policy, for which s3s also accepts others.
fn check_expiration(fields: &FormFields, start: &[u8]) -> S3Result<()> {
    let policy = fields.value("policy", start).and_then(|policy| STANDARD.decode(policy).ok());
    let policy = policy.and_then(|policy| String::from_utf8(policy).ok()).unwrap_or_default();
    let value = policy.split_once("\"expiration\"").and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    let Some(text) = value.and_then(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()) else {
        return Ok(());
    };
    if is_expiration(text) {
        return Ok(());
    }
    Err(s3_error!(InvalidPolicyDocument, "Invalid Policy: Invalid 'expiration' value: '{text}'"))
}

/// `2026-01-31T12:00:00Z`, or with milliseconds.
fn is_expiration(text: &str) -> bool {
    let Some(text) = text.strip_suffix('Z') else { return false };
    let (seconds, millis) = text.split_once('.').unwrap_or((text, "000"));
    let fits = |byte: u8, form: u8| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    let form = b"0000-00-00T00:00:00";
    seconds.len() == form.len()
        && seconds.bytes().zip(form).all(|(byte, form)| fits(byte, *form))
        && millis.len() == 3
        && millis.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the headers of a write: for a form, those in its fields in place of the request's own.
pub(super) fn headers_of_write(headers: HeaderMap, extensions: &mut Extensions) -> HeaderMap {
    let Some(FormHeaders(fields)) = extensions.remove() else { return headers };
    let mut headers = headers;
    for name in &STORED_HEADERS {
        headers.remove(name);
    }
    headers.extend(fields);
    headers
}

/// Completes the answer to a form as AWS does: quotation marks around the entity tag in a redirect, and 403 for a
/// condition that is not met.
pub(super) fn finish(response: &mut Response<Body>) {
    if response.status() == StatusCode::SEE_OTHER {
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let quoted = location.and_then(|location| {
            let (before, etag) = location.rsplit_once("&etag=").or_else(|| location.rsplit_once("?etag="))?;
            let mark = &location[before.len()..=before.len()];
            HeaderValue::try_from(format!("{before}{mark}etag=%22{etag}%22")).ok()
        });
        if let Some(quoted) = quoted {
            response.headers_mut().insert(header::LOCATION, quoted);
        }
        return;
    }
    let Some(document) = response.body().bytes() else { return };
    let Ok(text) = std::str::from_utf8(&document) else { return };
    let unmet = ["<Message>Policy condition ", "<Message>Bucket in form field "];
    if unmet.iter().any(|message| text.contains(message)) {
        let text = text.replace("<Code>InvalidPolicyDocument</Code>", "<Code>AccessDenied</Code>");
        *response.body_mut() = Body::from(text.replace("<Message>", "<Message>Invalid according to Policy: "));
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\nin/${filename}\r\n\
                        --x\r\nContent-Disposition: form-data; name=\"x-amz-meta-a\"\r\n\r\n${filename}${filename}\r\n\
                        --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"C:\\\\d\\\\f.txt\"\r\n\
                        Content-Type: text/plain\r\n\r\ncontent ${filename}\r\n--x--\r\n";

    #[test]
    fn the_name_of_the_file_is_put_into_the_fields_and_not_into_the_file() {
        let Scan::File(fields) = scan(FORM.as_bytes(), "x") else { panic!("no file") };
        let expanded = String::from_utf8(fields.expand(FORM.as_bytes())).unwrap();
        assert!(expanded.contains("\r\n\r\nin/f.txt\r\n--x") && expanded.contains("content ${filename}"), "{expanded}");
        let headers = fields.headers(FORM.as_bytes()).unwrap();
        assert_eq!((headers.len(), headers["x-amz-meta-a"].to_str().unwrap()), (1, "f.txtf.txt"));
    }

    #[test]
    fn a_form_is_read_up_to_its_file_wherever_it_is_cut() {
        let begins = FORM.find("content ").unwrap();
        for end in 0..FORM.len() {
            let found = scan(&FORM.as_bytes()[..end], "x");
            assert_eq!(matches!(found, Scan::File(_)), end >= begins, "{end}");
            assert_ne!(found, Scan::NoFile, "{end}");
        }
        for text in ["nothing of a form", "--x--\r\n", "--x\r\nno-disposition: 1\r\n\r\nvalue\r\n--x"] {
            assert_eq!(scan(text.as_bytes(), "x"), Scan::NoFile, "{text}");
        }
    }

    #[test]
    fn an_expiration_has_one_form() {
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"] {
            assert!(is_expiration(text), "{text}");
        }
        for text in ["2026-01-31 12:00:00+00:00", "2026-01-31T12:00:00", "2026-01-31T12:00:00.0Z", "", "Z"] {
            assert!(!is_expiration(text), "{text}");
        }
    }
}
