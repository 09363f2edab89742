//! Who asks. Nothing else in the house reads a secret, and none is ever stored.
//!
//! `aws` and `s3` read AWS's environment, profiles and roles, through the SDK's own chain; `oss` reads OSS's environment,
//! and nothing of AWS's. Whoever that gives may then take on the plan's role: [`in_aws_role`] and [`in_oss_role`].
//!
//! | file | what is in it |
//! |---|---|
//! | `environment` | OSS's variables |
//! | `role` | roles, assumed at AWS's STS, at that of a server that speaks S3, and at Alibaba Cloud's |
//! | `http` | the client that answers of metadata services and AWS's STS come through, within bounds |
//! | `process` | a profile's `credential_process`, run within bounds |
//! | `acs3` | how requests to Alibaba Cloud's STS are signed |

mod acs3;
mod environment;
mod http;
mod process;
mod role;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::timeouts::{TimedOut, scaled};

pub(super) use environment::from_oss_environment;
pub(super) use http::http_client;
pub(super) use role::{in_aws_role, in_oss_role};

/// What the environment says of who asks, and from where.
pub(super) struct Identity {
    /// Signs requests; renews what expires.
    pub(super) provider: SharedCredentialsProvider,
    /// The region of the environment or the profile, if either names one.
    pub(super) region: Option<String>,
}

/// How long the first credentials may take, whoever gives them: a metadata service is asked several times. Each of these
/// waits has a limit of its own, and is announced.
const PATIENCE: Duration = Duration::from_secs(90);

/// Finds AWS credentials, and tries them out: no work should begin without any.
pub(super) async fn from_aws_chain(http: &SharedHttpClient) -> Result<Identity, CredentialsError> {
    let finding = Box::pin(async {
        let environment = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
        let environment = match process::from_profile(http).await {
            Some(provider) => environment.credentials_provider(provider).load().await,
            None => environment.load().await,
        };
        let provider = environment
            .credentials_provider()
            .ok_or_else(|| CredentialsError::not_loaded("no provider of credentials is configured"))?;
        provider.provide_credentials().await?;
        Ok(Identity { provider, region: environment.region().map(ToString::to_string) })
    });
    let found = tokio::time::timeout(scaled(PATIENCE), finding).await;
    found.unwrap_or_else(|_| {
        let late = TimedOut(scaled(PATIENCE));
        Err(CredentialsError::provider_error(format!("neither profile nor metadata service gave any: {late}")))
    })
}

/// The sandbox's key pair, which is public: it guards nothing.
pub(super) fn of_sandbox(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "sandbox"))
}
