//! Bucket operations, and the settings of buckets: versioning, lifecycle rules, and object ownership.

use http::StatusCode;
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{owner, tag_error, to_s3_time};
use crate::REGION;
use crate::lifecycle::{LifecycleError, LifecycleRule, validate_rules};
use crate::model::{ObjectOwnership, ObjectStorageClass, VersioningStatus};
use crate::store::Sandbox;
use crate::tags::{self, SharedTags};

pub(super) fn create_bucket(
    sandbox: &Sandbox,
    request: S3Request<dto::CreateBucketInput>,
) -> S3Result<S3Response<dto::CreateBucketOutput>> {
    let dto::CreateBucketInput { bucket: name, object_ownership, .. } = request.input;
    let ownership = object_ownership.as_ref().map(parse_ownership).transpose()?;
    sandbox.create_bucket(&name)?;
    if let Some(ownership) = ownership {
        sandbox.set_ownership(&name, ownership)?;
    }
    Ok(S3Response::new(dto::CreateBucketOutput { location: Some(format!("/{name}")) }))
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
    sandbox.with_bucket(&request.input.bucket, |_| ())?;
    let output = dto::HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) fn list_buckets(
    sandbox: &Sandbox,
    request: S3Request<dto::ListBucketsInput>,
) -> S3Result<S3Response<dto::ListBucketsOutput>> {
    let prefix = request.input.prefix.unwrap_or_default();
    let buckets = sandbox.with_state(|state| {
        let named = state.buckets.iter().filter(|(name, _)| name.starts_with(&prefix));
        let listed = named.map(|(name, bucket)| dto::Bucket {
            name: Some(name.to_string()),
            creation_date: Some(to_s3_time(bucket.created)),
            ..Default::default()
        });
        listed.collect()
    });
    let output = dto::ListBucketsOutput { buckets: Some(buckets), owner: Some(owner()), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) fn get_bucket_location(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketLocationInput>,
) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
    sandbox.with_bucket(&request.input.bucket, |_| ())?;
    // The first region has no location constraint.
    Ok(S3Response::new(dto::GetBucketLocationOutput::default()))
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
    let rules = validate_rules(rules).map_err(|fault| match fault {
        LifecycleError::RuleCount => s3_error!(MalformedXML, "{}", fault.message()),
        LifecycleError::NoAction => s3_error!(InvalidRequest, "{}", fault.message()),
        LifecycleError::InvalidId | LifecycleError::InvalidDays => s3_error!(InvalidArgument, "{}", fault.message()),
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
    sandbox.set_ownership(&bucket, parse_ownership(&rule.object_ownership)?)?;
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
fn parse_ownership(asked: &dto::ObjectOwnership) -> S3Result<ObjectOwnership> {
    let known = ObjectOwnership::parse(asked.as_str()).filter(|ownership| *ownership != ObjectOwnership::NotSet);
    known.ok_or_else(|| s3_error!(MalformedXML, "The object ownership is not valid"))
}

/// Converts a rule to the stored form. Rejects what the sandbox does not store, so that nothing is lost silently.
fn parse_rule(rule: dto::LifecycleRule) -> S3Result<LifecycleRule> {
    let other = rule.abort_incomplete_multipart_upload.is_some()
        || rule.noncurrent_version_expiration.is_some()
        || rule.noncurrent_version_transitions.is_some();
    let sizes = |greater: Option<i64>, less: Option<i64>| greater.is_some() || less.is_some();
    let filter = rule.filter.unwrap_or_default();
    let and = filter.and.unwrap_or_default();
    let by_size = sizes(filter.object_size_greater_than, filter.object_size_less_than)
        || sizes(and.object_size_greater_than, and.object_size_less_than);
    if other || by_size {
        return Err(unsupported_rule());
    }
    let tags = filter.tag.into_iter().chain(and.tags.unwrap_or_default());
    let pairs = tags.map(|tag| match (tag.key, tag.value) {
        (Some(key), Some(value)) => Ok((key.into(), value.into())),
        _ => Err(s3_error!(MalformedXML, "A tag must have a key and a value")),
    });
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
        tags: tags::check(pairs.collect::<S3Result<_>>()?).map_err(tag_error)?,
        expiration_days: rule.expiration.map(|it| parse_days(it.days, it.date.is_some())).transpose()?,
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
    let tag = |(key, value): (&str, &str)| dto::Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    match tags.len() {
        0 => dto::LifecycleRuleFilter { prefix: Some(prefix.to_owned()), ..Default::default() },
        1 if prefix.is_empty() => dto::LifecycleRuleFilter { tag: tags.iter().next().map(tag), ..Default::default() },
        _ => {
            let and = dto::LifecycleRuleAndOperator {
                prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
                tags: Some(tags.iter().map(tag).collect()),
                ..Default::default()
            };
            dto::LifecycleRuleFilter { and: Some(and), ..Default::default() }
        }
    }
}
