//! Conversions that several operations share: headers, times, and names of S3.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::percent_encode;
use s3s::{S3Error, S3Response, S3Result, dto, s3_error};

use super::error::custom_error;
use crate::model::{ETag, ObjectStorageClass, StoredAcl, StoredHeaders, UnixMillis};

pub(super) const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
pub(super) const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");

/// AWS returns an owner for every object. Here there is only one.
const OWNER_ID: &str = "5a6d7b0c53a4d0b0a3f4e7a2c1d98f6e5b4a39281706f5e4d3c2b1a09f8e7d6c";

/// Overrides the status code of a response. s3s cannot express this, so the server applies it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusOverride(pub(crate) StatusCode);

/// Returns the only owner.
pub(super) fn owner() -> dto::Owner {
    dto::Owner { id: Some(OWNER_ID.to_owned()), display_name: Some("sandbox".to_owned()) }
}

/// Converts a time for s3s.
pub(super) fn to_s3_time(at: UnixMillis) -> dto::Timestamp {
    SystemTime::from(at.timestamp()).into()
}

/// Formats a time as in `Wed, 04 Mar 2026 00:00:00 GMT`.
pub(super) fn http_date(at: UnixMillis) -> String {
    at.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Converts an entity tag for s3s.
pub(super) fn etag(etag: ETag) -> dto::ETag {
    dto::ETag::Strong(etag.to_string())
}

/// Converts a number of bytes for s3s.
pub(super) fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Sets a header. A value that a header cannot contain is omitted.
pub(super) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// Creates a response with the version ID, if there is one.
pub(super) fn with_version<T>(output: T, id: Option<&str>) -> S3Response<T> {
    let mut response = S3Response::new(output);
    if let Some(id) = id {
        set_header(&mut response.headers, VERSION_ID, id);
    }
    response
}

/// Returns the requested version ID. Rejects an empty `versionId=`.
pub(super) fn requested_version(asked: Option<&String>) -> S3Result<Option<&str>> {
    match asked.map(String::as_str) {
        Some("") => Err(s3_error!(InvalidArgument, "Version id cannot be the empty string")),
        version => Ok(version),
    }
}

/// Parses a storage class. The default is the standard one.
pub(super) fn parse_storage_class(asked: Option<&dto::StorageClass>) -> S3Result<ObjectStorageClass> {
    let Some(asked) = asked else { return Ok(ObjectStorageClass::Standard) };
    ObjectStorageClass::parse(asked.as_str())
        .ok_or_else(|| s3_error!(InvalidStorageClass, "The storage class you specified is not valid"))
}

/// Parses a canned ACL. The default is `private`.
pub(super) fn parse_canned_acl(asked: Option<&dto::ObjectCannedACL>) -> S3Result<StoredAcl> {
    match asked.map(dto::ObjectCannedACL::as_str) {
        // The object's owner and the bucket's owner are the same here, so these two grant nothing more.
        None | Some("bucket-owner-read" | "bucket-owner-full-control") => Ok(StoredAcl::Private),
        Some("aws-exec-read") => Err(s3_error!(NotImplemented, "The sandbox does not support aws-exec-read")),
        Some(name) => {
            let known = StoredAcl::parse(name).filter(|acl| *acl != StoredAcl::Default);
            known.ok_or_else(|| s3_error!(InvalidArgument, "The canned ACL `{name}` does not exist"))
        }
    }
}

/// Returns the storage class for HEAD and GET responses, which omit the standard one.
pub(super) fn response_class(class: ObjectStorageClass) -> Option<dto::StorageClass> {
    (class != ObjectStorageClass::Standard).then(|| dto::StorageClass::from_static(class.as_str()))
}

/// The headers that AWS stores with an object and returns.
const STORED_HEADERS: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];
const METADATA: &str = "x-amz-meta-";
/// The maximum size of user metadata in bytes, including the names.
const MAX_METADATA: usize = 2048;

/// Returns the headers of a request that are stored with the object.
pub(super) fn stored_headers(headers: &HeaderMap) -> S3Result<Option<Box<StoredHeaders>>> {
    let mut kept = Vec::new();
    let mut metadata = 0;
    for (name, value) in headers {
        let user = name.as_str().strip_prefix(METADATA);
        if user.is_none() && !STORED_HEADERS.contains(name) {
            continue;
        }
        let mut value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if let Some(user) = user {
            metadata += user.len() + value.len();
        }
        if name == header::CONTENT_ENCODING {
            // `aws-chunked` describes the transfer, not the object.
            let codings: Vec<&str> =
                value.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked").collect();
            value = codings.join(",");
        }
        if !value.is_empty() {
            kept.push((name.as_str().into(), value.into()));
        }
    }
    if metadata > MAX_METADATA {
        return Err(custom_error(
            "MetadataTooLarge",
            StatusCode::BAD_REQUEST,
            "Your metadata headers exceed the maximum allowed metadata size",
        ));
    }
    Ok((!kept.is_empty()).then(|| Box::new(StoredHeaders(kept))))
}

/// Adds the headers that [`kept`] returned to a response.
pub(super) fn add_stored_headers(kept: Option<&StoredHeaders>, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("binary/octet-stream"));
    for (name, value) in kept.into_iter().flat_map(|kept| &kept.0) {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set_header(headers, name, value);
        }
    }
}

/// How a listing writes keys: unchanged, or URL-encoded as AWS does it, with `/` and `*` unchanged and a space as `+`.
#[derive(Clone, Copy)]
pub(super) struct KeyEncoding {
    url: bool,
}

impl KeyEncoding {
    /// Parses `encoding-type`.
    pub(super) fn parse(asked: Option<&dto::EncodingType>) -> S3Result<Self> {
        match asked.map(dto::EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    /// Encodes a key, a prefix, a delimiter, or a marker.
    pub(super) fn encode(self, text: &str) -> String {
        const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b'/')
            .remove(b'*')
            .remove(b' ');
        if self.url { percent_encode(text.as_bytes(), ENCODED).to_string().replace(' ', "+") } else { text.to_owned() }
    }

    /// Encodes an optional text.
    pub(super) fn encode_optional(self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.encode(text))
    }
}

/// Creates an `InvalidArgument` error.
pub(super) fn invalid_argument(message: &'static str) -> S3Error {
    s3_error!(InvalidArgument, "{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_encoded_as_aws_does_it() {
        let url = KeyEncoding { url: true };
        assert_eq!(url.encode("a+b c/d%2F~*é\n\u{1}'\","), "a%2Bb+c/d%252F%7E*%C3%A9%0A%01%27%22%2C");
        assert_eq!(KeyEncoding { url: false }.encode("a+b c"), "a+b c");
    }

    #[test]
    fn times_survive_the_far_past_and_future() {
        assert_eq!(http_date(UnixMillis(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        for at in [i64::MIN, -1, i64::MAX] {
            let _ = to_s3_time(UnixMillis(at));
            assert!(http_date(UnixMillis(at)).ends_with(" GMT"));
        }
    }
}
