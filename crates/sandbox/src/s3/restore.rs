//! Restoring archived objects.

use http::StatusCode;
use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{StatusOverride, invalid_argument, requested_version};
use crate::model::RetrievalTier;
use crate::restore::{RestoreDialect, RestoreParameters};
use crate::state::RequestedObject;
use crate::store::{AcceptedRestoreKind, Sandbox};

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
    let begun =
        sandbox.restore_object(target, RestoreParameters { days, tier: Some(tier), rules: RestoreDialect::Aws })?;
    let mut response = S3Response::new(dto::RestoreObjectOutput::default());
    if begun.kind == AcceptedRestoreKind::Started {
        response.extensions.insert(StatusOverride(StatusCode::ACCEPTED));
    }
    Ok(response)
}
