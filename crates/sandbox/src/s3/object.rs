//! Reading and deleting objects, and their sub-resources: tags, ACLs, and restores. Only canned ACLs are supported,
//! including those that a client writes as grants.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{
    access_denied, check_acls_allowed, etag, invalid_argument, length, owner, parse_canned_acl, reject_grant_headers,
    set_header, tag_error, to_s3_time, with_version,
};
use crate::model::{ObjectStorageClass, RetrievalTier, StoredAcl, StoredHeaders, UnixMillis};
use crate::restore::{self, RestoreDialect, RestoreParameters};
use crate::state::{FoundObject, RequestedObject};
use crate::store::{AcceptedRestoreKind, Sandbox};
use crate::tags::{self, SharedTags};

const TAG_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

/// The maximum number of keys in a request.
const MAX_KEYS: usize = 1000;
const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// Returns the requested version ID. Rejects an empty `versionId=`.
fn requested_version(asked: Option<&String>) -> S3Result<Option<&str>> {
    match asked.map(String::as_str) {
        Some("") => Err(s3_error!(InvalidArgument, "Version id cannot be the empty string")),
        version => Ok(version),
    }
}

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
        last_modified: Some(to_s3_time(seen.modified)),
        restore: restore::progress(&seen.object, sandbox.now()).header_value(),
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
        last_modified: Some(to_s3_time(seen.modified)),
        restore: restore::progress(&seen.object, sandbox.now()).header_value(),
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
        let modified = to_s3_time(UnixMillis(seen.modified.0.div_euclid(1000) * 1000));
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

/// Adds the headers that are stored with an object to a response.
fn add_stored_headers(stored: Option<&StoredHeaders>, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("binary/octet-stream"));
    for (name, value) in stored.into_iter().flat_map(|stored| &stored.0) {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set_header(headers, name, value);
        }
    }
}

/// Returns the storage class for HEAD and GET responses, which omit the standard one.
fn response_class(class: ObjectStorageClass) -> Option<dto::StorageClass> {
    (class != ObjectStorageClass::Standard).then(|| dto::StorageClass::from_static(class.as_str()))
}

pub(super) fn delete_object(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectInput>,
) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let deleted = sandbox.delete_object(RequestedObject { bucket: &input.bucket, key: &input.key, version })?;
    let output = dto::DeleteObjectOutput {
        delete_marker: deleted.is_marker.then_some(true),
        version_id: deleted.id,
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(super) fn delete_objects(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectsInput>,
) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
    let dto::DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > MAX_KEYS {
        return Err(s3_error!(MalformedXML, "A request must delete 1 to {MAX_KEYS} objects"));
    }
    sandbox.with_bucket(&bucket, |_| ())?;
    let quiet = delete.quiet.unwrap_or(false);
    let mut done = Vec::new();
    let mut errors = Vec::new();
    for object in delete.objects {
        let target = RequestedObject { bucket: &bucket, key: &object.key, version: object.version_id.as_deref() };
        match sandbox.delete_object(target) {
            Ok(_) if quiet => {}
            Ok(deleted) => done.push(dto::DeletedObject {
                delete_marker: deleted.is_marker.then_some(true),
                delete_marker_version_id: deleted.id.filter(|_| deleted.is_marker),
                key: Some(object.key),
                version_id: object.version_id,
            }),
            Err(refusal) => {
                let error = S3Error::from(refusal);
                errors.push(dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(object.key),
                    version_id: object.version_id,
                });
            }
        }
    }
    let output = dto::DeleteObjectsOutput {
        deleted: (!done.is_empty()).then_some(done),
        errors: (!errors.is_empty()).then_some(errors),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(super) fn get_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectTaggingInput>,
) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let seen = sandbox.find_object(RequestedObject { bucket: &input.bucket, key: &input.key, version })?;
    let tags = seen.object.tags.iter();
    let tag_set = tags.map(|(key, value)| dto::Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) });
    Ok(S3Response::new(dto::GetObjectTaggingOutput { tag_set: tag_set.collect(), version_id: seen.id }))
}

pub(super) fn put_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectTaggingInput>,
) -> S3Result<S3Response<dto::PutObjectTaggingOutput>> {
    let input = request.input;
    let pairs = input.tagging.tag_set.into_iter().map(|tag| match (tag.key, tag.value) {
        (Some(key), Some(value)) => Ok((key.into(), value.into())),
        _ => Err(s3_error!(MalformedXML, "A tag must have a key and a value")),
    });
    let tags = tags::check(pairs.collect::<S3Result<_>>()?).map_err(tag_error)?;
    let version = requested_version(input.version_id.as_ref())?;
    let version_id = sandbox.set_tags(RequestedObject { bucket: &input.bucket, key: &input.key, version }, tags)?;
    Ok(S3Response::new(dto::PutObjectTaggingOutput { version_id }))
}

pub(super) fn delete_object_tagging(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteObjectTaggingInput>,
) -> S3Result<S3Response<dto::DeleteObjectTaggingOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let target = RequestedObject { bucket: &input.bucket, key: &input.key, version };
    let version_id = sandbox.set_tags(target, SharedTags::default())?;
    Ok(S3Response::new(dto::DeleteObjectTaggingOutput { version_id }))
}

pub(super) fn get_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectAclInput>,
) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let seen = sandbox.find_object(RequestedObject { bucket: &input.bucket, key: &input.key, version })?;
    let output = dto::GetObjectAclOutput {
        grants: Some(grants(seen.effective_acl())),
        owner: Some(owner()),
        ..Default::default()
    };
    Ok(with_version(output, seen.id.as_deref()))
}

pub(super) fn put_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectAclInput>,
) -> S3Result<S3Response<dto::PutObjectAclOutput>> {
    reject_grant_headers(&request.headers)?;
    let input = request.input;
    check_acls_allowed(sandbox, &input.bucket)?;
    let acl = match (&input.acl, input.access_control_policy) {
        (Some(_), Some(_)) => {
            return Err(s3_error!(UnexpectedContent, "This request does not support content"));
        }
        (Some(name), None) => parse_canned_acl(Some(name))?,
        (None, Some(policy)) => canned_acl_of_grants(&policy)?,
        (None, None) => {
            return Err(s3_error!(MissingSecurityHeader, "Your request was missing a required header: x-amz-acl"));
        }
    };
    let version = requested_version(input.version_id.as_ref())?;
    let id = sandbox.set_acl(RequestedObject { bucket: &input.bucket, key: &input.key, version }, acl)?;
    Ok(with_version(dto::PutObjectAclOutput::default(), id.as_deref()))
}

/// Returns what a canned ACL grants to groups. The owner always has full control.
fn group_grants(acl: StoredAcl) -> &'static [(&'static str, &'static str)] {
    match acl {
        // `Default` is replaced by the ACL of the bucket before this is called.
        StoredAcl::Private | StoredAcl::Default => &[],
        StoredAcl::PublicRead => &[(ALL_USERS, "READ")],
        StoredAcl::PublicReadWrite => &[(ALL_USERS, "READ"), (ALL_USERS, "WRITE")],
        StoredAcl::AuthenticatedRead => &[(AUTHENTICATED_USERS, "READ")],
    }
}

fn grants(acl: StoredAcl) -> Vec<dto::Grant> {
    let grant = |grantee, permission| dto::Grant {
        grantee: Some(grantee),
        permission: Some(dto::Permission::from_static(permission)),
    };
    let dto::Owner { id, display_name } = owner();
    let to_owner = dto::Grantee {
        type_: dto::Type::from_static(dto::Type::CANONICAL_USER),
        id,
        display_name,
        email_address: None,
        uri: None,
    };
    let to_group = |uri: &str| dto::Grantee {
        type_: dto::Type::from_static(dto::Type::GROUP),
        id: None,
        display_name: None,
        email_address: None,
        uri: Some(uri.to_owned()),
    };
    let groups = group_grants(acl).iter().map(|(uri, permission)| grant(to_group(uri), permission));
    std::iter::once(grant(to_owner, "FULL_CONTROL")).chain(groups).collect()
}

/// Returns the canned ACL that has exactly these grants.
fn canned_acl_of_grants(policy: &dto::AccessControlPolicy) -> S3Result<StoredAcl> {
    let Some(grants) = policy.grants.as_ref().filter(|_| policy.owner.is_some()) else {
        return Err(s3_error!(MalformedACLError, "An access control policy must have an owner and grants"));
    };
    let mut groups = Vec::new();
    for grant in grants {
        let permission = grant.permission.as_ref().map_or("", dto::Permission::as_str);
        let Some(grantee) = &grant.grantee else {
            return Err(s3_error!(MalformedACLError, "A grant must have a grantee"));
        };
        match (&grantee.uri, &grantee.id) {
            (Some(uri), _) => groups.push((uri.as_str(), permission)),
            (None, Some(id)) if permission == "FULL_CONTROL" && owner().id.as_ref() == Some(id) => {}
            _ => return Err(s3_error!(NotImplemented, "The sandbox supports grants only to its owner and to groups")),
        }
    }
    groups.sort_unstable();
    [StoredAcl::Private, StoredAcl::PublicRead, StoredAcl::PublicReadWrite, StoredAcl::AuthenticatedRead]
        .into_iter()
        .find(|acl| group_grants(*acl) == groups)
        .ok_or_else(|| s3_error!(NotImplemented, "The sandbox supports only canned ACLs"))
}

/// Overrides the status code of a response. s3s cannot express this, so the server applies it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusOverride(pub(crate) StatusCode);

pub(super) fn restore_object(
    sandbox: &Sandbox,
    request: S3Request<dto::RestoreObjectInput>,
) -> S3Result<S3Response<dto::RestoreObjectOutput>> {
    let input = request.input;
    let Some(asked) = input.restore_request else {
        return Err(s3_error!(MalformedXML, "A restore must have a RestoreRequest"));
    };
    if asked.select_parameters.is_some() || asked.output_location.is_some() || asked.type_.is_some() {
        return Err(s3_error!(NotImplemented, "The sandbox does not support SELECT requests"));
    }
    let tier = asked.glacier_job_parameters.map(|parameters| parameters.tier).or(asked.tier);
    let tier = match tier {
        None => RetrievalTier::Standard,
        Some(name) => RetrievalTier::parse(name.as_str())
            .ok_or_else(|| s3_error!(MalformedXML, "The tier must be Standard, Bulk or Expedited"))?,
    };
    let days = asked.days.ok_or_else(|| s3_error!(MalformedXML, "A restore must have a number of days"))?;
    let days = u32::try_from(days).ok().filter(|days| *days > 0);
    let days = days.ok_or_else(|| invalid_argument("The number of days must be at least 1"))?;
    let version = requested_version(input.version_id.as_ref())?;
    let target = RequestedObject { bucket: &input.bucket, key: &input.key, version };
    let accepted =
        sandbox.restore_object(target, RestoreParameters { days, tier: Some(tier), rules: RestoreDialect::Aws })?;
    let mut response = S3Response::new(dto::RestoreObjectOutput::default());
    if accepted.kind == AcceptedRestoreKind::Started {
        response.extensions.insert(StatusOverride(StatusCode::ACCEPTED));
    }
    Ok(response)
}
