//! Roles: taken on before work, with the credentials of whoever asks, and again before they end.
//!
//! A role's credentials live for an hour. Whoever signs with them asks for new ones in time
//! ([`Identities`](crate::store::wire::Identities)); each time the credentials of whoever asks are had anew as well.
//!
//! Which STS is asked follows from the plan alone, as does everything that credentials are sent to:
//!
//! | provider | STS |
//! |---|---|
//! | `aws` | AWS's in the region that is worked in |
//! | `s3` | the plan's endpoint, as `MinIO` and Ceph have it |
//! | `oss` | Alibaba Cloud's in the plan's region, by its internal address where the endpoint is one; the endpoint itself where that is not Alibaba Cloud's |

mod aws;
mod oss;

use std::io;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::usable::Primed;
use crate::diagnostics::drives_terminal;
use crate::store::fault::shortened;
use crate::store::wire::without_secrets;
use crate::store::{Provider, StoreConfig};

/// What the session is called, in the STS's own logs.
const SESSION: &str = "batchplan";

/// How long an STS may take, all attempts together: less than whoever signs is ready to wait for credentials.
const PATIENCE: Duration = Duration::from_secs(25);

/// Why a role was not taken on.
#[derive(Debug, thiserror::Error)]
enum RoleError {
    /// The STS says no.
    #[error("the role could not be assumed: {code}: {message}")]
    Refused {
        /// Its code.
        code: String,
        /// Its message, without what is secret.
        message: String,
    },
    /// The STS says nothing that can be understood.
    #[error("the role could not be assumed: {0}")]
    Unanswered(String),
    /// The STS cannot be spoken to at all.
    #[error("the role could not be assumed: the system has no certificates that it trusts ({0})")]
    NoCertificates(io::Error),
}

impl RoleError {
    /// What an STS said to this caller.
    fn refused(code: &str, message: &str, caller: &Credentials) -> Self {
        let message = if message.is_empty() { "the server gave no message" } else { message };
        Self::Refused { code: harmless(code, caller), message: harmless(message, caller) }
    }
}

impl From<RoleError> for CredentialsError {
    fn from(error: RoleError) -> Self {
        Self::provider_error(error)
    }
}

/// A server's words without what would drive a terminal, and without the caller's secrets.
fn harmless(text: &str, caller: &Credentials) -> String {
    let plain: String = text.chars().map(|c| if drives_terminal(c) { ' ' } else { c }).collect();
    shortened(&without_secrets(&plain, caller))
}

/// Who works on `aws` and `s3`: the plan's role, tried out, or whoever asks where the plan names none.
///
/// # Errors
/// When the STS does not give the role.
pub(in crate::store) async fn in_aws_role(
    config: &StoreConfig,
    region: &str,
    caller: SharedCredentialsProvider,
    http: &SharedHttpClient,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let Some(arn) = &config.role_arn else { return Ok(caller) };
    let endpoint = config.endpoint.as_deref().filter(|_| config.provider == Provider::S3);
    tried_out(aws::AwsRole::new(arn, region, endpoint, caller, http.clone())).await
}

/// Who works on `oss`: the plan's role, tried out, or whoever asks where the plan names none.
///
/// # Errors
/// When the STS does not give the role.
pub(in crate::store) async fn in_oss_role(
    config: &StoreConfig,
    region: &str,
    caller: SharedCredentialsProvider,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let Some(arn) = &config.role_arn else { return Ok(caller) };
    let sts = oss::sts_of(config.endpoint.as_deref().unwrap_or_default(), region);
    tried_out(oss::OssRole::new(arn, &sts, caller).map_err(RoleError::NoCertificates)?).await
}

/// No work should begin in a role that is not to be had.
async fn tried_out(role: impl ProvideCredentials + 'static) -> Result<SharedCredentialsProvider, CredentialsError> {
    Primed::by(role).await
}

#[cfg(test)]
mod tests;
