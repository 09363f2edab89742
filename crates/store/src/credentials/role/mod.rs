//! Assumes the plan's role with the caller's credentials, before work starts and again before the role's credentials
//! expire.
//!
//! A role's credentials are valid for one hour. The signing client requests new ones in time
//! ([`CredentialCache`](crate::http_client::CredentialCache)). Each request loads the caller's credentials again.
//!
//! The plan and the region decide which STS is used, like everything else that credentials are sent to:
//!
//! | provider | STS |
//! |---|---|
//! | `aws` | AWS STS in the region of the store |
//! | `s3` | the plan's endpoint, as with `MinIO` and Ceph |
//! | `oss` | Alibaba Cloud STS in the plan's region, internal if the endpoint is; another server's endpoint itself |

mod aws;
mod oss;

use std::io;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::validation::PrefetchedProvider;
use crate::StoreConfig;
use crate::fault::truncate;
use crate::http_client::redact_credentials;
use crate::printable::affects_terminal;

/// The name of the session in the logs of the STS.
const SESSION: &str = "batchplan";

/// The time limit for an STS, including all attempts. It is shorter than the time that a request waits for
/// credentials.
const STS_TIMEOUT: Duration = Duration::from_secs(25);

/// Why a role could not be assumed.
#[derive(Debug, thiserror::Error)]
enum AssumeRoleError {
    /// The STS rejected the request.
    #[error("the role could not be assumed: {code}: {message}")]
    Rejected {
        /// The error code.
        code: String,
        /// The error message, without secrets.
        message: String,
    },
    /// There was no response, or no valid one.
    #[error("the role could not be assumed: {0}")]
    NoValidResponse(String),
    /// The STS cannot be contacted: the system has no CA certificates.
    #[error("the role could not be assumed: the system has no trusted certificates ({0})")]
    NoCertificates(io::Error),
}

impl AssumeRoleError {
    /// Builds the error from the STS's error response to this caller.
    fn rejected(code: &str, message: &str, caller: &Credentials) -> Self {
        let message = if message.is_empty() { "the server gave no message" } else { message };
        Self::Rejected { code: sanitize(code, caller), message: sanitize(message, caller) }
    }
}

impl From<AssumeRoleError> for CredentialsError {
    fn from(error: AssumeRoleError) -> Self {
        Self::provider_error(error)
    }
}

/// Removes control characters and the caller's secrets from text that a server sent.
fn sanitize(text: &str, caller: &Credentials) -> String {
    let plain: String = text.chars().map(|c| if affects_terminal(c) { ' ' } else { c }).collect();
    truncate(&redact_credentials(&plain, caller))
}

/// Returns the provider for stores of the S3 dialect: the plan's role, which is assumed once as a check, or the caller itself
/// if the plan names no role.
///
/// # Errors
/// Returns an error if the role cannot be assumed.
pub(crate) async fn assume_aws_role(
    config: &StoreConfig,
    region: &str,
    caller: SharedCredentialsProvider,
    http: &SharedHttpClient,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let Some(arn) = &config.role_arn else { return Ok(caller) };
    let endpoint = config.endpoint.as_deref().filter(|_| config.provider.profile().assumes_roles_at_endpoint);
    assume_once(aws::AwsRoleProvider::new(arn, region, endpoint, caller, http.clone())).await
}

/// Returns the provider for OSS: the plan's role, which is assumed once as a check, or the caller itself if the
/// plan names no role.
///
/// # Errors
/// Returns an error if the role cannot be assumed.
pub(crate) async fn assume_oss_role(
    config: &StoreConfig,
    region: &str,
    caller: SharedCredentialsProvider,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let Some(arn) = &config.role_arn else { return Ok(caller) };
    let sts = oss::sts_endpoint(config.endpoint.as_deref().unwrap_or_default(), region);
    assume_once(oss::OssRoleProvider::new(arn, &sts, caller).map_err(AssumeRoleError::NoCertificates)?).await
}

/// Assumes the role once, so that no work starts with a role that cannot be assumed.
async fn assume_once(role: impl ProvideCredentials + 'static) -> Result<SharedCredentialsProvider, CredentialsError> {
    PrefetchedProvider::prefetch(role).await
}

#[cfg(test)]
mod tests;
