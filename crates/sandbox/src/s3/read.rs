//! Reading objects and their metadata.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{add_stored_headers, etag, http_date, length, requested_version, response_class};
use super::error::access_denied;
use crate::model::UnixMillis;
use crate::restore::{self, RestoreProgress};
use crate::state::{FoundObject, RequestedObject};
use crate::store::Sandbox;

const TAG_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

pub(super) fn get_object(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectInput>,
) -> S3Result<S3Response<dto::GetObjectOutput>> {
    let anonymous = request.credentials.is_none();
    let input = request.input;
    if input.part_number.is_some() {
        return Err(s3_error!(NotImplemented, "The sandbox does not read objects by part"));
    }
    let conditions = ReadPreconditions {
        matches: input.if_match,
        none_matches: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    let target = RequestedObject {
        bucket: &input.bucket,
        key: &input.key,
        version: requested_version(input.version_id.as_ref())?,
    };
    let read = sandbox.read_object(target, |seen| {
        check_read_access(seen, anonymous)?;
        conditions.check(seen)?;
        resolve_range(input.range, seen.object.size)
    });
    let (seen, range, reader) = read.map_err(|error| hide_missing_objects(error, anonymous))?;
    let part = range.end - range.start;
    let content_range =
        input.range.map(|_| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), seen.object.size));
    let headers = object_headers(&seen);
    let output = dto::GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(dto::StreamingBlob::wrap(futures_util::stream::iter(reader))),
        content_length: Some(length(part)),
        content_range,
        e_tag: Some(etag(seen.object.etag)),
        last_modified: Some(super::convert::to_s3_time(seen.modified)),
        restore: restore_header(&seen, sandbox.now()),
        storage_class: response_class(seen.object.class),
        version_id: seen.id,
        ..Default::default()
    };
    Ok(S3Response::with_headers(output, headers))
}

pub(super) fn head_object(
    sandbox: &Sandbox,
    request: S3Request<dto::HeadObjectInput>,
) -> S3Result<S3Response<dto::HeadObjectOutput>> {
    let anonymous = request.credentials.is_none();
    let input = request.input;
    let conditions = ReadPreconditions {
        matches: input.if_match,
        none_matches: input.if_none_match,
        modified_since: input.if_modified_since,
        unmodified_since: input.if_unmodified_since,
    };
    let target = RequestedObject {
        bucket: &input.bucket,
        key: &input.key,
        version: requested_version(input.version_id.as_ref())?,
    };
    let seen = sandbox.find_object(target).map_err(S3Error::from);
    let seen = seen.and_then(|seen| check_read_access(&seen, anonymous).map(|()| seen));
    let seen = seen.map_err(|error| hide_missing_objects(error, anonymous))?;
    conditions.check(&seen)?;
    let range = resolve_range(input.range, seen.object.size)?;
    let headers = object_headers(&seen);
    let output = dto::HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(length(range.end - range.start)),
        e_tag: Some(etag(seen.object.etag)),
        last_modified: Some(super::convert::to_s3_time(seen.modified)),
        restore: restore_header(&seen, sandbox.now()),
        storage_class: response_class(seen.object.class),
        version_id: seen.id,
        ..Default::default()
    };
    Ok(S3Response::with_headers(output, headers))
}

fn check_read_access(seen: &FoundObject, anonymous: bool) -> S3Result<()> {
    if anonymous && !seen.effective_acl().allows_anonymous_read() { Err(access_denied()) } else { Ok(()) }
}

/// Without a signature, a request cannot list the bucket and must not learn which objects do not exist.
fn hide_missing_objects(error: S3Error, anonymous: bool) -> S3Error {
    match error.code() {
        S3ErrorCode::NoSuchKey | S3ErrorCode::NoSuchVersion | S3ErrorCode::MethodNotAllowed if anonymous => {
            access_denied()
        }
        _ => error,
    }
}

/// The conditions of a read, such as `If-Match`.
struct ReadPreconditions {
    matches: Option<dto::ETagCondition>,
    none_matches: Option<dto::ETagCondition>,
    modified_since: Option<dto::Timestamp>,
    unmodified_since: Option<dto::Timestamp>,
}

impl ReadPreconditions {
    /// Checks the conditions in the order of HTTP: entity tags take precedence over dates.
    fn check(&self, seen: &FoundObject) -> S3Result<()> {
        let tag = seen.object.etag.to_string();
        let matches = |condition: &dto::ETagCondition| match condition {
            dto::ETagCondition::Any => true,
            dto::ETagCondition::ETag(etag) => etag.value() == tag,
        };
        // HTTP dates have no fractions of a second.
        let modified = super::convert::to_s3_time(UnixMillis(seen.modified.0.div_euclid(1000) * 1000));
        let failed = match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) => !matches(condition),
            (None, Some(since)) => modified > *since,
            (None, None) => false,
        };
        if failed {
            return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
        }
        let unchanged = match (&self.none_matches, &self.modified_since) {
            (Some(condition), _) => matches(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if unchanged { Err(s3_error!(NotModified, "Not Modified")) } else { Ok(()) }
    }
}

fn resolve_range(asked: Option<dto::Range>, size: u64) -> S3Result<Range<u64>> {
    let Some(asked) = asked else { return Ok(0..size) };
    asked.check(size).map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))
}

fn object_headers(seen: &FoundObject) -> HeaderMap {
    let mut headers = HeaderMap::new();
    add_stored_headers(seen.object.headers.as_deref(), &mut headers);
    if seen.object.tags.len() > 0 {
        headers.insert(TAG_COUNT, HeaderValue::from(seen.object.tags.len()));
    }
    headers
}

fn restore_header(seen: &FoundObject, now: UnixMillis) -> Option<String> {
    match restore::progress(&seen.object, now) {
        RestoreProgress::Absent => None,
        RestoreProgress::Ongoing => Some("ongoing-request=\"true\"".to_owned()),
        RestoreProgress::ReadableUntil(expiry) => {
            Some(format!("ongoing-request=\"false\", expiry-date=\"{}\"", http_date(expiry)))
        }
    }
}
