//! Finds the credentials. No other module reads secrets, and secrets are never stored.
//!
//! `aws` and `s3` use AWS's environment variables, profiles and roles, through the provider chain of the AWS SDK.
//! `oss` uses only OSS's environment variables. The caller's credentials can then be used to assume the plan's role:
//! [`assume_aws_role`] and [`assume_oss_role`].
//!
//! | file | contents |
//! |---|---|
//! | `environment` | OSS's environment variables, and checks of AWS's |
//! | `validation` | validation of credentials |
//! | `role` | assuming roles: with AWS STS, the STS of an S3-compatible server, or Alibaba Cloud's STS |
//! | `http` | the HTTP client for metadata services and AWS STS: limits and validates responses |
//! | `process` | a profile's `credential_process`, run with limits |

mod environment;
mod http;
mod process;
mod role;
mod validation;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::timeouts::{TimeLimitError, scaled};
pub(crate) use environment::from_oss_environment;
pub(crate) use http::http_client;
pub(crate) use role::{assume_aws_role, assume_oss_role};
use validation::{PrefetchedProvider, ValidatingProvider};

/// The result of AWS's provider chain: credentials, and a region.
pub(crate) struct AwsCredentialSource {
    /// Signs requests, and renews expiring credentials.
    pub(crate) provider: SharedCredentialsProvider,
    /// The region of the environment or the profile, if either names one.
    pub(crate) region: Option<String>,
}

/// The time limit for the first credentials, from any source. A metadata service needs several requests; each has its
/// own time limit and is reported while it takes long.
const FIRST_CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(90);

/// Finds AWS credentials and loads them once, so that no work starts without valid credentials.
pub(crate) async fn from_aws_chain(http: &SharedHttpClient) -> Result<AwsCredentialSource, CredentialsError> {
    environment::check_aws_environment()?;
    let found = tokio::time::timeout(scaled(FIRST_CREDENTIALS_TIMEOUT), Box::pin(load_aws_chain(http))).await;
    found.unwrap_or_else(|_| {
        let late = TimeLimitError(scaled(FIRST_CREDENTIALS_TIMEOUT));
        Err(CredentialsError::provider_error(format!("neither a profile nor a metadata service provided any: {late}")))
    })
}

async fn load_aws_chain(http: &SharedHttpClient) -> Result<AwsCredentialSource, CredentialsError> {
    let (fs, env, files) = Default::default();
    // The SDK reports files that cannot be read.
    if let Ok(profiles) = aws_config::profile::load(&fs, &env, &files, None).await {
        validation::check_profiles(&profiles).map_err(CredentialsError::invalid_configuration)?;
    }
    let http = &http::validating_http_client(http);
    let environment = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        // The environment and the profile may contain values out of range, for which the SDK panics.
        .retry_config(RetryConfig::standard());
    let environment = match process::provider_from_profile(http).await {
        Some(provider) => environment.credentials_provider(provider).load().await,
        None => environment.load().await,
    };
    let provider = environment
        .credentials_provider()
        .ok_or_else(|| CredentialsError::not_loaded("no credentials provider is configured"))?;
    let provider = PrefetchedProvider::prefetch(ValidatingProvider::wrap(provider)).await?;
    Ok(AwsCredentialSource { provider, region: environment.region().map(ToString::to_string) })
}

/// Returns the credentials of a key pair that the caller names, such as the sandbox's.
pub(crate) fn from_keys(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "batchplan"))
}
