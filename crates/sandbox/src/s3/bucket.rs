//! Bucket operations: the settings of buckets, which are versioning, lifecycle rules, and object ownership; and the
//! listings of their objects and versions.

use http::StatusCode;
use percent_encoding::percent_encode;
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::access::requester;
use super::acl::{check_acl_for_enforced_ownership, new_bucket_acl, to_s3_owner};
use super::request::parse_tags;
use super::response::{etag, invalid_argument, length, to_s3_tags, to_s3_time};
use crate::REGION;
use crate::access::{AccessPolicy, StoredAcl};
use crate::listing::{self, KeyOrPrefix, ListingQuery, ListingStart, VersionOrPrefix};
use crate::model::{
    LifecycleError, LifecycleRule, ObjectOwnership, ObjectStorageClass, StoredObject, StoredVersion, VersioningStatus,
    validate_rules,
};
use crate::state::{SandboxRequestError, StoredBucket};
use crate::store::{NewBucket, Sandbox};
use crate::tags::SharedTags;

/// The maximum number of buckets on a page.
const MAX_BUCKETS: usize = 10_000;

/// The maximum length of a region's name, in bytes.
const MAX_REGION_BYTES: usize = 64;

pub(super) fn create_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::CreateBucketInput>,
) -> S3Result<S3Response<dto::CreateBucketOutput>> {
    let owner = requester(sandbox, &request);
    let acl = new_bucket_acl(sandbox, &request.headers, request.input.acl.as_ref(), owner)?;
    let is_first_region = request.region.as_ref().is_none_or(|region| region.as_str() == REGION);
    let dto::CreateBucketInput { bucket: name, object_ownership, create_bucket_configuration, .. } = request.input;
    let ownership = object_ownership.as_ref().map(parse_ownership).transpose()?;
    if ownership == Some(ObjectOwnership::Enforced) {
        let acl = acl.clone().unwrap_or(StoredAcl::PRIVATE);
        check_acl_for_enforced_ownership(&AccessPolicy { owner, acl })?;
    }
    let location = create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
    let location = location.map(|region| parse_location(region.as_str())).transpose()?;
    if request.input.object_lock_enabled_for_bucket == Some(true) {
        return Err(s3_error!(NotImplemented, "The sandbox does not support Object Lock"));
    }
    let is_first_region = is_first_region && location.is_none();
    match sandbox.create_bucket(&name, NewBucket { owner, acl: acl.clone(), ownership, location }) {
        // In AWS's first region, the owner of a bucket can create it again, which only resets its ACL.
        Err(SandboxRequestError::BucketExists) if is_first_region => {
            sandbox.set_bucket_acl(&name, acl.unwrap_or(StoredAcl::PRIVATE))?;
        }
        result => result?,
    }
    Ok(S3Response::new(dto::CreateBucketOutput { location: Some(format!("/{name}")) }))
}

/// Parses the region in which a bucket is to be. All regions exist but the first, which has no name here.
fn parse_location(region: &str) -> S3Result<Box<str>> {
    let is_region = |text: &str| {
        text.len() <= MAX_REGION_BYTES && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if region.is_empty() || region == REGION || !is_region(region) {
        return Err(s3_error!(InvalidLocationConstraint, "The specified location-constraint is not valid"));
    }
    Ok(region.into())
}

pub(super) fn delete_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteBucketInput>,
) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
    sandbox.delete_bucket(&request.input.bucket)?;
    Ok(S3Response::new(dto::DeleteBucketOutput {}))
}

pub(super) fn head_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::HeadBucketInput>,
) -> S3Result<S3Response<dto::HeadBucketOutput>> {
    let region = sandbox.with_bucket(&request.input.bucket, |bucket| bucket.region().to_owned())?;
    let output = dto::HeadBucketOutput { bucket_region: Some(region), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) fn list_buckets(
    sandbox: &Sandbox,
    request: S3Request<dto::ListBucketsInput>,
) -> S3Result<S3Response<dto::ListBucketsOutput>> {
    let requester = requester(sandbox, &request);
    let dto::ListBucketsInput { prefix, max_buckets, continuation_token, bucket_region } = request.input;
    let limit = max_buckets.map_or(Ok(MAX_BUCKETS), usize::try_from).ok().filter(|limit| *limit <= MAX_BUCKETS);
    let Some(limit) = limit.filter(|limit| *limit > 0) else {
        return Err(invalid_argument("Argument max-buckets must be an integer between 1 and 10000"));
    };
    let after = continuation_token.as_deref().map(parse_token).transpose()?;
    let (buckets, next) = sandbox.with_state(|state| {
        let matching = state.buckets.iter().filter(|(name, bucket)| {
            bucket.access.owner == requester
                && name.starts_with(prefix.as_deref().unwrap_or_default())
                && after.as_deref().is_none_or(|after| &***name > after)
                && bucket_region.as_deref().is_none_or(|region| region == bucket.region())
        });
        let mut matching = matching.peekable();
        let mut listed = Vec::new();
        for (name, bucket) in matching.by_ref().take(limit) {
            listed.push(dto::Bucket {
                name: Some(name.to_string()),
                creation_date: Some(to_s3_time(bucket.created)),
                ..Default::default()
            });
        }
        let last = matching.peek().and_then(|_| listed.last()).and_then(|bucket| bucket.name.clone());
        (listed, last)
    });
    let output = dto::ListBucketsOutput {
        buckets: Some(buckets),
        owner: Some(to_s3_owner(sandbox, requester)),
        continuation_token: next.map(|name| listing::continuation_token(&name)),
        prefix,
    };
    Ok(S3Response::new(output))
}

pub(super) fn get_bucket_location(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketLocationInput>,
) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
    let location = sandbox.with_bucket(&request.input.bucket, |bucket| bucket.location.clone())?;
    // The first region has no location constraint.
    let location_constraint = location.map(|region| dto::BucketLocationConstraint::from(String::from(region)));
    Ok(S3Response::new(dto::GetBucketLocationOutput { location_constraint }))
}

pub(super) fn get_bucket_versioning(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketVersioningInput>,
) -> S3Result<S3Response<dto::GetBucketVersioningOutput>> {
    let versioning = sandbox.with_bucket(&request.input.bucket, |bucket| bucket.versioning)?;
    let status =
        (versioning != VersioningStatus::Never).then(|| dto::BucketVersioningStatus::from_static(versioning.as_str()));
    Ok(S3Response::new(dto::GetBucketVersioningOutput { status, ..Default::default() }))
}

pub(super) fn put_bucket_versioning(
    sandbox: &Sandbox,
    request: S3Request<dto::PutBucketVersioningInput>,
) -> S3Result<S3Response<dto::PutBucketVersioningOutput>> {
    let status = request.input.versioning_configuration.status;
    let versioning = status.and_then(|status| VersioningStatus::parse(status.as_str()));
    let Some(versioning @ (VersioningStatus::Enabled | VersioningStatus::Suspended)) = versioning else {
        return Err(s3_error!(MalformedXML, "The versioning status must be Enabled or Suspended"));
    };
    sandbox.set_versioning(&request.input.bucket, versioning)?;
    Ok(S3Response::new(dto::PutBucketVersioningOutput {}))
}

pub(super) fn get_bucket_lifecycle_configuration(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<dto::GetBucketLifecycleConfigurationOutput>> {
    let rules = sandbox
        .with_bucket(&request.input.bucket, |bucket| bucket.lifecycle.iter().map(to_s3_rule).collect::<Vec<_>>())?;
    if rules.is_empty() {
        return Err(s3_error!(NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist"));
    }
    let output = dto::GetBucketLifecycleConfigurationOutput { rules: Some(rules), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) fn put_bucket_lifecycle_configuration(
    sandbox: &Sandbox,
    request: S3Request<dto::PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<dto::PutBucketLifecycleConfigurationOutput>> {
    let Some(configuration) = request.input.lifecycle_configuration else {
        return Err(s3_error!(MalformedXML, "A lifecycle must have rules"));
    };
    let rules = configuration.rules.into_iter().map(parse_rule).collect::<S3Result<_>>()?;
    let rules = validate_rules(rules).map_err(|error| match error {
        LifecycleError::RuleCount => s3_error!(MalformedXML, "{}", error.message()),
        LifecycleError::NoAction => s3_error!(InvalidRequest, "{}", error.message()),
        LifecycleError::InvalidId | LifecycleError::InvalidDays => s3_error!(InvalidArgument, "{}", error.message()),
    })?;
    sandbox.set_lifecycle(&request.input.bucket, rules)?;
    Ok(S3Response::new(dto::PutBucketLifecycleConfigurationOutput::default()))
}

pub(super) fn delete_bucket_lifecycle(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteBucketLifecycleInput>,
) -> S3Result<S3Response<dto::DeleteBucketLifecycleOutput>> {
    sandbox.set_lifecycle(&request.input.bucket, Vec::new())?;
    Ok(S3Response::with_status(dto::DeleteBucketLifecycleOutput {}, StatusCode::NO_CONTENT))
}

pub(super) fn get_bucket_ownership_controls(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<dto::GetBucketOwnershipControlsOutput>> {
    let ownership = sandbox.with_bucket(&request.input.bucket, |bucket| bucket.ownership)?;
    if ownership == ObjectOwnership::NotSet {
        return Err(s3_error!(OwnershipControlsNotFoundError, "The bucket ownership controls were not found"));
    }
    let object_ownership = dto::ObjectOwnership::from_static(ownership.as_str());
    let controls = dto::OwnershipControls { rules: vec![dto::OwnershipControlsRule { object_ownership }] };
    Ok(S3Response::new(dto::GetBucketOwnershipControlsOutput { ownership_controls: Some(controls) }))
}

pub(super) fn put_bucket_ownership_controls(
    sandbox: &Sandbox,
    request: S3Request<dto::PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<dto::PutBucketOwnershipControlsOutput>> {
    let dto::PutBucketOwnershipControlsInput { bucket, ownership_controls, .. } = request.input;
    let [rule] = &ownership_controls.rules[..] else {
        return Err(s3_error!(MalformedXML, "Ownership controls must have one rule"));
    };
    let ownership = parse_ownership(&rule.object_ownership)?;
    if ownership == ObjectOwnership::Enforced {
        sandbox.with_bucket(&bucket, |bucket| check_acl_for_enforced_ownership(&bucket.access))??;
    }
    sandbox.set_ownership(&bucket, ownership)?;
    Ok(S3Response::new(dto::PutBucketOwnershipControlsOutput {}))
}

pub(super) fn delete_bucket_ownership_controls(
    sandbox: &Sandbox,
    request: S3Request<dto::DeleteBucketOwnershipControlsInput>,
) -> S3Result<S3Response<dto::DeleteBucketOwnershipControlsOutput>> {
    sandbox.set_ownership(&request.input.bucket, ObjectOwnership::NotSet)?;
    Ok(S3Response::with_status(dto::DeleteBucketOwnershipControlsOutput {}, StatusCode::NO_CONTENT))
}

/// Parses the object ownership of a bucket.
fn parse_ownership(name: &dto::ObjectOwnership) -> S3Result<ObjectOwnership> {
    let known = ObjectOwnership::parse(name.as_str()).filter(|ownership| *ownership != ObjectOwnership::NotSet);
    known.ok_or_else(|| s3_error!(MalformedXML, "The object ownership is not valid"))
}

/// Converts a rule to the stored form. Rejects what the sandbox does not store, so that nothing is lost silently.
fn parse_rule(rule: dto::LifecycleRule) -> S3Result<LifecycleRule> {
    let has_other_actions = rule.abort_incomplete_multipart_upload.is_some()
        || rule.noncurrent_version_expiration.is_some()
        || rule.noncurrent_version_transitions.is_some();
    let is_set = |greater: Option<i64>, less: Option<i64>| greater.is_some() || less.is_some();
    let filter = rule.filter.unwrap_or_default();
    let and = filter.and.unwrap_or_default();
    let filters_by_size = is_set(filter.object_size_greater_than, filter.object_size_less_than)
        || is_set(and.object_size_greater_than, and.object_size_less_than);
    if has_other_actions || filters_by_size {
        return Err(unsupported_rule());
    }
    let tags = filter.tag.into_iter().chain(and.tags.unwrap_or_default());
    let prefix = and.prefix.or(filter.prefix).or(rule.prefix).unwrap_or_default();
    let enabled = match rule.status.as_str() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(s3_error!(MalformedXML, "A rule's status must be Enabled or Disabled")),
    };
    Ok(LifecycleRule {
        id: rule.id.unwrap_or_default().into(),
        enabled,
        prefix: prefix.into(),
        tags: parse_tags(tags)?,
        expiration_days: rule
            .expiration
            .map(|expiration| parse_days(expiration.days, expiration.date.is_some()))
            .transpose()?,
        transitions: rule.transitions.unwrap_or_default().into_iter().map(parse_transition).collect::<S3Result<_>>()?,
    })
}

fn parse_transition(transition: dto::Transition) -> S3Result<(u32, ObjectStorageClass)> {
    let class = transition.storage_class.as_ref().and_then(|class| ObjectStorageClass::parse(class.as_str()));
    let class = class.ok_or_else(|| s3_error!(MalformedXML, "A transition must have a storage class"))?;
    Ok((parse_days(transition.days, transition.date.is_some())?, class))
}

fn parse_days(days: Option<i32>, has_date: bool) -> S3Result<u32> {
    match days {
        Some(days) if !has_date => {
            u32::try_from(days).map_err(|_| s3_error!(InvalidArgument, "{}", LifecycleError::InvalidDays.message()))
        }
        _ => Err(unsupported_rule()),
    }
}

fn unsupported_rule() -> S3Error {
    s3_error!(
        NotImplemented,
        "The sandbox supports only lifecycle rules with a prefix, tags, and expiration or transitions after days"
    )
}

/// Converts a stored rule to the form of AWS.
fn to_s3_rule(rule: &LifecycleRule) -> dto::LifecycleRule {
    let days = |days: u32| Some(i32::try_from(days).unwrap_or(i32::MAX));
    let transitions = rule.transitions.iter().map(|(after, class)| dto::Transition {
        date: None,
        days: days(*after),
        storage_class: Some(dto::TransitionStorageClass::from_static(class.as_str())),
    });
    dto::LifecycleRule {
        abort_incomplete_multipart_upload: None,
        expiration: rule
            .expiration_days
            .map(|after| dto::LifecycleExpiration { days: days(after), ..Default::default() }),
        filter: Some(to_s3_filter(&rule.prefix, &rule.tags)),
        id: Some(rule.id.to_string()),
        noncurrent_version_expiration: None,
        noncurrent_version_transitions: None,
        prefix: None,
        status: dto::ExpirationStatus::from_static(if rule.enabled { "Enabled" } else { "Disabled" }),
        transitions: (!rule.transitions.is_empty()).then(|| transitions.collect()),
    }
}

fn to_s3_filter(prefix: &str, tags: &SharedTags) -> dto::LifecycleRuleFilter {
    let mut tags = to_s3_tags(tags);
    match tags.len() {
        0 => dto::LifecycleRuleFilter { prefix: Some(prefix.to_owned()), ..Default::default() },
        1 if prefix.is_empty() => dto::LifecycleRuleFilter { tag: tags.pop(), ..Default::default() },
        _ => {
            let and = dto::LifecycleRuleAndOperator {
                prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
                tags: Some(tags),
                ..Default::default()
            };
            dto::LifecycleRuleFilter { and: Some(and), ..Default::default() }
        }
    }
}

/// The maximum number of results on a page.
const MAX_KEYS: usize = 1000;

pub(super) fn list_objects_v2(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectsV2Input>,
) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let limit = page_limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let marker = input.continuation_token.as_deref().map(parse_token).transpose()?;
    let start = match (&marker, input.start_after.as_deref()) {
        (Some(marker), _) => ListingStart::after_marker(marker, prefix, delimiter),
        (None, Some(after)) if !after.is_empty() => ListingStart::After(after),
        _ => ListingStart::FirstKey,
    };
    let with_owner = input.fetch_owner.unwrap_or(false);
    let query = ListingQuery { prefix, delimiter, start };
    let ObjectListing { objects, prefixes, next } =
        sandbox.with_bucket(&input.bucket, |bucket| list_page(sandbox, bucket, query, limit, encoding, with_owner))?;
    let output = dto::ListObjectsV2Output {
        key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        is_truncated: Some(next.is_some()),
        next_continuation_token: next.map(|name| listing::continuation_token(&name)),
        max_keys: i32::try_from(limit).ok(),
        prefix: Some(encoding.encode(prefix)),
        delimiter: encoding.encode_optional(delimiter),
        start_after: encoding.encode_optional(input.start_after.as_deref()),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(super) fn list_objects(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectsInput>,
) -> S3Result<S3Response<dto::ListObjectsOutput>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let limit = page_limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let start = match input.marker.as_deref() {
        Some(marker) if !marker.is_empty() => ListingStart::after_marker(marker, prefix, delimiter),
        _ => ListingStart::FirstKey,
    };
    let query = ListingQuery { prefix, delimiter, start };
    let ObjectListing { objects, prefixes, next } =
        sandbox.with_bucket(&input.bucket, |bucket| list_page(sandbox, bucket, query, limit, encoding, true))?;
    let output = dto::ListObjectsOutput {
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        is_truncated: Some(next.is_some()),
        // Without a delimiter, AWS expects the client to use the last key.
        next_marker: next.filter(|_| delimiter.is_some()).map(|name| encoding.encode(&name)),
        max_keys: i32::try_from(limit).ok(),
        prefix: Some(encoding.encode(prefix)),
        delimiter: encoding.encode_optional(delimiter),
        marker: Some(encoding.encode(input.marker.as_deref().unwrap_or_default())),
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

/// How a listing writes keys: unchanged, or URL-encoded as AWS does it, with `/` and `*` unchanged and a space as `+`.
#[derive(Clone, Copy)]
pub(super) struct KeyEncoding {
    url: bool,
}

impl KeyEncoding {
    /// Parses `encoding-type`.
    pub(super) fn parse(name: Option<&dto::EncodingType>) -> S3Result<Self> {
        match name.map(dto::EncodingType::as_str) {
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

struct ObjectListing {
    objects: Vec<dto::Object>,
    prefixes: Vec<dto::CommonPrefix>,
    /// The last name on the page, if more results follow.
    next: Option<String>,
}

fn list_page(
    sandbox: &Sandbox,
    bucket: &StoredBucket,
    query: ListingQuery<'_>,
    limit: usize,
    encoding: KeyEncoding,
    with_owner: bool,
) -> ObjectListing {
    let page = listing::page_of_keys(bucket, query, limit);
    let next = page.items.last().filter(|_| page.is_truncated).map(|found| found.name().to_owned());
    let mut listed = ObjectListing { objects: Vec::new(), prefixes: Vec::new(), next };
    for found in page.items {
        match found {
            KeyOrPrefix::Prefix(prefix) => listed.prefixes.push(common_prefix(prefix, encoding)),
            KeyOrPrefix::Key(key, entry) => {
                if let Some((version, object)) = entry.newest().and_then(|it| Some((it, it.object.as_ref()?))) {
                    listed.objects.push(dto::Object {
                        key: Some(encoding.encode(key)),
                        last_modified: Some(to_s3_time(version.modified)),
                        e_tag: Some(etag(object.etag)),
                        size: Some(length(object.size)),
                        storage_class: Some(dto::ObjectStorageClass::from_static(object.class.as_str())),
                        owner: with_owner.then(|| to_s3_owner(sandbox, bucket.object_owner(object))),
                        ..Default::default()
                    });
                }
            }
        }
    }
    listed
}

pub(super) fn list_object_versions(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectVersionsInput>,
) -> S3Result<S3Response<dto::ListObjectVersionsOutput>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let limit = page_limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let key_marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let version_marker = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
    let start = match (key_marker, version_marker) {
        (None, Some(_)) => {
            return Err(invalid_argument("A version-id marker cannot be specified without a key marker."));
        }
        (None, None) => ListingStart::FirstKey,
        (Some(key), None) => ListingStart::after_marker(key, prefix, delimiter),
        (Some(key), Some(_)) => ListingStart::At(key),
    };
    let query = ListingQuery { prefix, delimiter, start };
    let mut output = sandbox
        .with_bucket(&input.bucket, |bucket| list_versions(sandbox, bucket, query, version_marker, limit, encoding))?;
    output.max_keys = i32::try_from(limit).ok();
    output.prefix = Some(encoding.encode(prefix));
    output.delimiter = encoding.encode_optional(delimiter);
    output.key_marker = Some(encoding.encode(key_marker.unwrap_or_default()));
    output.version_id_marker = Some(version_marker.unwrap_or_default().to_owned());
    output.encoding_type = input.encoding_type;
    output.name = Some(input.bucket);
    Ok(S3Response::new(output))
}

fn list_versions(
    sandbox: &Sandbox,
    bucket: &StoredBucket,
    query: ListingQuery<'_>,
    version_marker: Option<&str>,
    limit: usize,
    encoding: KeyEncoding,
) -> dto::ListObjectVersionsOutput {
    let page = listing::page_of_versions(bucket, query, version_marker, limit);
    let mut output = dto::ListObjectVersionsOutput { is_truncated: Some(page.is_truncated), ..Default::default() };
    if let Some(last) = page.items.last().filter(|_| page.is_truncated) {
        let (name, id) = match last {
            VersionOrPrefix::Prefix(prefix) => (*prefix, None),
            VersionOrPrefix::Version(key, version, _) => (*key, Some(version.id_str().to_owned())),
        };
        output.next_key_marker = Some(encoding.encode(name));
        output.next_version_id_marker = id;
    }
    let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for found in page.items {
        match found {
            VersionOrPrefix::Prefix(prefix) => prefixes.push(common_prefix(prefix, encoding)),
            VersionOrPrefix::Version(key, version, current) => match &version.object {
                Some(object) => {
                    let mut entry = version_entry(key, version, object, current, encoding);
                    entry.owner = Some(to_s3_owner(sandbox, bucket.object_owner(object)));
                    versions.push(entry);
                }
                None => markers.push(dto::DeleteMarkerEntry {
                    key: Some(encoding.encode(key)),
                    version_id: Some(version.id_str().to_owned()),
                    is_latest: Some(current),
                    last_modified: Some(to_s3_time(version.modified)),
                    owner: Some(to_s3_owner(sandbox, bucket.access.owner)),
                }),
            },
        }
    }
    output.versions = Some(versions);
    output.delete_markers = Some(markers);
    output.common_prefixes = Some(prefixes);
    output
}

fn version_entry(
    key: &str,
    version: &StoredVersion,
    object: &StoredObject,
    current: bool,
    encoding: KeyEncoding,
) -> dto::ObjectVersion {
    dto::ObjectVersion {
        key: Some(encoding.encode(key)),
        version_id: Some(version.id_str().to_owned()),
        is_latest: Some(current),
        last_modified: Some(to_s3_time(version.modified)),
        e_tag: Some(etag(object.etag)),
        size: Some(length(object.size)),
        storage_class: Some(dto::ObjectVersionStorageClass::from_static(object.class.as_str())),
        ..Default::default()
    }
}

fn common_prefix(prefix: &str, encoding: KeyEncoding) -> dto::CommonPrefix {
    dto::CommonPrefix { prefix: Some(encoding.encode(prefix)) }
}

fn page_limit(max_keys: Option<i32>) -> S3Result<usize> {
    let limit = max_keys.map_or(Ok(MAX_KEYS), usize::try_from);
    Ok(limit
        .map_err(|_| invalid_argument("Argument max-keys must be an integer between 0 and 2147483647"))?
        .min(MAX_KEYS))
}

/// Returns the name that a continuation token encodes, which is the last one on the page before.
fn parse_token(token: &str) -> S3Result<String> {
    listing::parse_continuation_token(token)
        .ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
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
}
