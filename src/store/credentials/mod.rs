//! Who asks. Nothing else in the house reads a secret, and none is ever stored.
//!
//! `aws` and `s3` read AWS's environment, profiles and roles, through the SDK's own chain; `oss` reads OSS's environment,
//! and nothing of AWS's. Whoever that gives may then take on the plan's role: [`in_aws_role`] and [`in_oss_role`].
//!
//! | file | what is in it |
//! |---|---|
//! | `environment` | OSS's variables, and a look at AWS's |
//! | `usable` | what credentials may be made of |
//! | `answers` | what metadata services and AWS's STS say, checked before the SDK reads it |
//! | `role` | roles, assumed at AWS's STS, at that of a server that speaks S3, and at Alibaba Cloud's |
//! | `http` | the client that answers of metadata services and AWS's STS come through, within bounds |
//! | `process` | a profile's `credential_process`, run within bounds |
//! | `acs3` | how requests to Alibaba Cloud's STS are signed |

mod acs3;
mod answers;
mod environment;
mod http;
mod process;
mod role;
mod usable;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::timeouts::{TimedOut, scaled};
pub(super) use environment::from_oss_environment;
pub(super) use http::http_client;
pub(super) use role::{in_aws_role, in_oss_role};
use usable::{Checked, Primed};

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
    environment::check_aws_environment()?;
    let found = tokio::time::timeout(scaled(PATIENCE), Box::pin(find(http))).await;
    found.unwrap_or_else(|_| {
        let late = TimedOut(scaled(PATIENCE));
        Err(CredentialsError::provider_error(format!("neither profile nor metadata service gave any: {late}")))
    })
}

async fn find(http: &SharedHttpClient) -> Result<Identity, CredentialsError> {
    let (fs, env, files) = Default::default();
    // Files that cannot be read are the SDK's to complain about.
    if let Ok(profiles) = aws_config::profile::load(&fs, &env, &files, None).await {
        usable::check_profiles(&profiles).map_err(CredentialsError::invalid_configuration)?;
    }
    let http = &answers::checked_answers(http);
    let environment = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        // Those of the environment and the profile may be out of range, at which the SDK panics.
        .retry_config(RetryConfig::standard());
    let environment = match process::from_profile(http).await {
        Some(provider) => environment.credentials_provider(provider).load().await,
        None => environment.load().await,
    };
    let provider = environment
        .credentials_provider()
        .ok_or_else(|| CredentialsError::not_loaded("no provider of credentials is configured"))?;
    let provider = Primed::by(Checked::over(provider)).await?;
    Ok(Identity { provider, region: environment.region().map(ToString::to_string) })
}

/// The sandbox's key pair, which is public: it guards nothing.
pub(super) fn of_sandbox(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "sandbox"))
}
