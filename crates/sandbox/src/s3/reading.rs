//! What GET, HEAD, and copy requests have in common: their conditions, the part of the content that they select, and
//! the headers of an object.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3ErrorCode, S3Result, dto, s3_error};

use super::checksum::{object_checksum, s3_type};
use super::response::{custom_error, etag, invalid_argument, invalid_request, set_header, to_s3_time};
use crate::checksum::{ChecksumAlgorithm, digest_text};
use crate::model::StoredObject;
use crate::state::FoundObject;

const TAG_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

/// The headers that AWS stores with an object and returns.
pub(super) const STORED_HEADERS: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];

/// The prefix of the headers that contain user metadata.
pub(super) const METADATA_PREFIX: &str = "x-amz-meta-";

/// The conditions of a read: the headers `If-Match`, `If-None-Match`, `If-Modified-Since`, and `If-Unmodified-Since`.
pub(super) struct ReadPreconditions {
    pub(super) matches: Option<dto::ETagCondition>,
    pub(super) none_matches: Option<dto::ETagCondition>,
    pub(super) modified_since: Option<dto::Timestamp>,
    pub(super) unmodified_since: Option<dto::Timestamp>,
}

impl ReadPreconditions {
    /// Checks the conditions in the order of HTTP: entity tags take precedence over dates.
    pub(super) fn check(&self, found: &FoundObject) -> S3Result<()> {
        let object_etag = found.object.etag.to_string();
        let has_etag = |condition: &dto::ETagCondition| match condition {
            dto::ETagCondition::Any => true,
            dto::ETagCondition::ETag(etag) => etag.value() == object_etag,
        };
        // HTTP dates have no fractions of a second.
        let modified = to_s3_time(found.modified.floor_to_second());
        let is_expected = match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) => has_etag(condition),
            (None, Some(date)) => modified <= *date,
            (None, None) => true,
        };
        if !is_expected {
            return Err(precondition_failed());
        }
        let is_unchanged = match (&self.none_matches, &self.modified_since) {
            (Some(condition), _) => has_etag(condition),
            (None, Some(date)) => modified <= *date,
            (None, None) => false,
        };
        if is_unchanged { Err(not_modified(found)) } else { Ok(()) }
    }

    /// Checks the conditions of a copy for its source. A copy of an unchanged source fails.
    pub(super) fn check_source(&self, found: &FoundObject) -> S3Result<()> {
        self.check(found).map_err(|error| match error.code() {
            S3ErrorCode::NotModified => precondition_failed(),
            _ => error,
        })
    }
}

fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

fn not_modified(found: &FoundObject) -> S3Error {
    let mut error = s3_error!(NotModified, "Not Modified");
    let mut headers = HeaderMap::new();
    if let Ok(value) = etag(found.object.etag).to_http_header() {
        headers.insert(header::ETAG, value);
    }
    set_header(&mut headers, header::LAST_MODIFIED, &found.modified.http_date());
    error.set_headers(headers);
    error
}

/// The part of an object's content that a request selects.
#[derive(Clone, Copy)]
pub(super) enum ContentSelection {
    Whole,
    Range(dto::Range),
    /// One of the parts that the object was uploaded in.
    Part(u16),
}

impl ContentSelection {
    pub(super) fn new(range: Option<dto::Range>, part_number: Option<i32>) -> S3Result<Self> {
        match (range, part_number) {
            (None, None) => Ok(Self::Whole),
            (Some(range), None) => Ok(Self::Range(range)),
            (None, Some(number)) => Ok(Self::Part(parse_part_number(number)?)),
            (Some(_), Some(_)) => {
                Err(invalid_request("Cannot specify both Range header and partNumber query parameter"))
            }
        }
    }

    /// Returns the selected range of bytes.
    pub(super) fn resolve(self, object: &StoredObject) -> S3Result<Range<u64>> {
        match self {
            Self::Whole => Ok(0..object.size),
            Self::Range(range) => {
                range.check(object.size).map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))
            }
            Self::Part(number) => part_range(object, number),
        }
    }

    /// Returns the value of `Content-Range`, or `None` if the whole object is read.
    pub(super) fn content_range(self, range: &Range<u64>, size: u64) -> Option<String> {
        let is_partial = !matches!(self, Self::Whole) && !range.is_empty();
        is_partial.then(|| format!("bytes {}-{}/{size}", range.start, range.end - 1))
    }

    /// Returns the number of parts, which the responses to requests for a part contain.
    pub(super) fn parts_count(self, object: &StoredObject) -> Option<i32> {
        let count = object.part_count().filter(|_| matches!(self, Self::Part(_)));
        count.and_then(|count| i32::try_from(count).ok())
    }

    /// Returns the checksum of the selected bytes with its type, if the request asks for it and the object has one.
    pub(super) fn checksum(
        self,
        object: &StoredObject,
        range: &Range<u64>,
        mode: Option<&dto::ChecksumMode>,
    ) -> Option<(ChecksumAlgorithm, String, dto::ChecksumType)> {
        if !mode.is_some_and(|mode| mode.as_str().eq_ignore_ascii_case(dto::ChecksumMode::ENABLED)) {
            return None;
        }
        match self {
            Self::Part(number) if object.part_count().is_some() => {
                let details = object.details.as_ref()?;
                let checksum = details.checksum.as_ref()?;
                let part = details.parts.iter().find(|part| part.number == number)?;
                let text = digest_text(part.digest.as_deref()?);
                Some((checksum.algorithm, text, s3_type(checksum.checksum_type)))
            }
            _ => object_checksum(object).filter(|_| *range == (0..object.size)),
        }
    }
}

/// Parses a part number of a request.
pub(super) fn parse_part_number(number: i32) -> S3Result<u16> {
    /// The maximum part number.
    const MAX_PART_NUMBER: u16 = 10_000;
    let number = u16::try_from(number).ok().filter(|number| (1..=MAX_PART_NUMBER).contains(number));
    number.ok_or_else(|| invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
}

/// Returns the range of bytes of a part. An object that was uploaded as a whole has only the part 1.
fn part_range(object: &StoredObject, number: u16) -> S3Result<Range<u64>> {
    let not_satisfiable = || {
        let message = "The requested partnumber is not satisfiable";
        custom_error("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, message)
    };
    if object.part_count().is_none() {
        return if number == 1 { Ok(0..object.size) } else { Err(not_satisfiable()) };
    }
    let parts = object.details.as_ref().map_or(&[][..], |details| &details.parts);
    if parts.is_empty() {
        return Err(s3_error!(
            NotImplemented,
            "The object was stored by an earlier release of the sandbox, which did not keep the sizes of parts"
        ));
    }
    let at = parts.iter().position(|part| part.number == number).ok_or_else(not_satisfiable)?;
    let start = parts[..at].iter().map(|part| part.size).sum();
    Ok(start..start + parts[at].size)
}

/// Collects the response headers that a request overrides with parameters such as `response-content-type`.
macro_rules! response_overrides {
    ($input:expr, $is_anonymous:expr) => {
        $crate::s3::reading::override_headers(
            [
                (http::header::CACHE_CONTROL, $input.response_cache_control.as_deref()),
                (http::header::CONTENT_DISPOSITION, $input.response_content_disposition.as_deref()),
                (http::header::CONTENT_ENCODING, $input.response_content_encoding.as_deref()),
                (http::header::CONTENT_LANGUAGE, $input.response_content_language.as_deref()),
                (http::header::CONTENT_TYPE, $input.response_content_type.as_deref()),
            ],
            $input.response_expires.as_ref(),
            $is_anonymous,
        )
    };
}
pub(super) use response_overrides;

/// Returns the headers that a request overrides. Only signed requests can do so.
pub(super) fn override_headers(
    texts: [(HeaderName, Option<&str>); 5],
    expires: Option<&dto::Timestamp>,
    is_anonymous: bool,
) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, text) in texts {
        if let Some(text) = text {
            set_header(&mut headers, name, text);
        }
    }
    if let Some(expires) = expires {
        let mut text = Vec::new();
        if expires.format(dto::TimestampFormat::HttpDate, &mut text).is_ok() {
            set_header(&mut headers, header::EXPIRES, &String::from_utf8_lossy(&text));
        }
    }
    if is_anonymous && !headers.is_empty() {
        return Err(invalid_request("Request specific response headers cannot be used for anonymous GET requests."));
    }
    Ok(headers)
}

/// Returns the response headers that s3s does not set: the type of the content, the headers that are stored with the
/// object, the number of tags, and the headers that the request overrides.
pub(super) fn object_headers(object: &StoredObject, overrides: HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("binary/octet-stream"));
    for (name, value) in object.headers.iter().flat_map(|stored| &stored.0) {
        if let Ok(header) = HeaderName::from_bytes(name.as_bytes()) {
            let is_encoded = name.starts_with(METADATA_PREFIX) && !value.is_ascii();
            let encoded = is_encoded.then(|| encode_metadata(value));
            set_header(&mut headers, header, encoded.as_deref().unwrap_or(value));
        }
    }
    if object.tags.len() > 0 {
        headers.insert(TAG_COUNT, HeaderValue::from(object.tags.len()));
    }
    headers.extend(overrides);
    headers
}

/// Encodes metadata with other characters than ASCII as RFC 2047 says. AWS takes each byte that it received for a
/// character of Latin-1, so that UTF-8 comes back encoded twice.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
fn encode_metadata(value: &str) -> String {
    let latin1: String = value.bytes().map(char::from).collect();
    format!("=?UTF-8?B?{}?=", STANDARD.encode(latin1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's documentation.
    #[test]
    fn metadata_is_encoded_as_in_the_documentation() {
        assert_eq!(encode_metadata("ÄMÄZÕÑ S3"), "=?UTF-8?B?w4PChE3Dg8KEWsODwpXDg8KRIFMz?=");
    }
}
