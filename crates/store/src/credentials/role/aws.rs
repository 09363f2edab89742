//! Roles of AWS and of S3-compatible servers with an STS API.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use std::fmt::Display;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, IdentityCache, Region};
use aws_sdk_sts::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::super::validation::check_credentials;
use super::{AssumeRoleError, SESSION, STS_TIMEOUT};
use crate::timeouts::{self, TimeLimitError, scaled};
use crate::web::{CONNECT_TIMEOUT, root_cause};
use crate::xml;

/// Provides the credentials of a role at AWS, or at a server with AWS's STS API.
#[derive(Debug)]
pub(super) struct AwsRoleProvider {
    sts: Client,
    /// The STS in messages: its host if the plan names one, otherwise AWS's STS and the region.
    sts_name: String,
    arn: String,
    caller: SharedCredentialsProvider,
}

impl AwsRoleProvider {
    /// Creates a provider for the role with this ARN, at the STS at this endpoint, or at AWS's own STS in this
    /// region.
    ///
    /// Only these arguments decide which host is used. The client is not created from the environment, which may name
    /// other hosts.
    pub(super) fn new(
        arn: &str,
        region: &str,
        endpoint: Option<&str>,
        caller: SharedCredentialsProvider,
        http: SharedHttpClient,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(scaled(CONNECT_TIMEOUT))
            .operation_timeout(scaled(STS_TIMEOUT))
            .build();
        let mut sdk = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(region.to_owned()))
            // The caller's credentials may change between two requests.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::standard())
            .timeout_config(timeouts);
        sdk.set_endpoint_url(endpoint.map(str::to_owned));
        let place = endpoint.and_then(|url| url.split_once("://")).map(|(_, host)| host.to_owned());
        let sts_name = place.unwrap_or_else(|| format!("AWS STS in {region}"));
        Self { sts: Client::from_conf(sdk.build()), sts_name, arn: arn.to_owned(), caller }
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.caller.provide_credentials().await?;
        let signed_by_the_caller = aws_sdk_sts::Config::builder().credentials_provider(caller.clone());
        let request = self.sts.assume_role().role_arn(&self.arn).role_session_name(SESSION);
        let asking = Box::pin(request.customize().config_override(signed_by_the_caller).send());
        let unanswered = |why: &dyn Display| AssumeRoleError::NoValidResponse(format!("{}: {why}", self.sts_name));
        let waiting_for = || "no response to AssumeRole".to_owned();
        let answer = timeouts::with_time_limit(scaled(STS_TIMEOUT), &self.sts_name, waiting_for, asking).await;
        let answer = answer.map_err(|late| unanswered(&late))?.map_err(|error| match &error {
            SdkError::ServiceError(refusal) => {
                let (code, message) = code_and_message(refusal.err().meta(), refusal.raw());
                AssumeRoleError::rejected(&code, &message, &caller)
            }
            SdkError::TimeoutError(_) => unanswered(&TimeLimitError(scaled(STS_TIMEOUT))),
            _ => AssumeRoleError::NoValidResponse(super::sanitize(&root_cause(&error), &caller)),
        })?;
        let nothing = || AssumeRoleError::NoValidResponse("the response contains no valid credentials".to_owned());
        let granted = answer.credentials().ok_or_else(nothing)?;
        let until = SystemTime::try_from(*granted.expiration()).map_err(|_| nothing())?;
        let granted = Credentials::new(
            granted.access_key_id(),
            granted.secret_access_key(),
            Some(granted.session_token().to_owned()),
            Some(until),
            "role",
        );
        // The reason is not shown: the caller cannot fix what the STS returned.
        check_credentials(&granted).map_err(|_| nothing())?;
        Ok(granted)
    }
}

/// Returns the code and the message of an error response. Some S3-compatible servers use S3's error format instead of
/// the STS's, or a mixture of both.
fn code_and_message(meta: &ErrorMetadata, answer: &HttpResponse) -> (String, String) {
    let (mut code, mut message) = (meta.code().map(str::to_owned), meta.message().unwrap_or_default().to_owned());
    if code.is_none() {
        // A document that cannot be parsed yields the elements before the error, perhaps none.
        let _ = xml::read(answer.body().bytes().unwrap_or_default(), |path, text| {
            if path.ends_with("Error/Code") {
                code = Some(text.to_owned());
            } else if path.ends_with("Error/Message") {
                text.clone_into(&mut message);
            }
        });
    }
    (code.unwrap_or_else(|| format!("HTTP {}", answer.status().as_u16())), message)
}

impl ProvideCredentials for AwsRoleProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
