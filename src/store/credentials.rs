//! Who asks. `aws` and `s3` read AWS's environment, profiles and roles, through the SDK's own chain, and `oss` reads OSS's
//! environment; nothing else in the house reads a secret, and none is ever stored.

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// What the environment says of who asks, and from where.
pub(super) struct Identity {
    /// Signs requests; renews what expires.
    pub(super) provider: SharedCredentialsProvider,
    /// The region of the environment or the profile, if either names one.
    pub(super) region: Option<String>,
}

/// The HTTP client that all requests of one connection share.
pub(super) fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Tls::Rustls(CryptoMode::Ring)).build_https()
}

/// Finds AWS credentials, and tries them out: no work should begin without any.
pub(super) async fn from_aws_chain(http: &SharedHttpClient) -> Result<Identity, CredentialsError> {
    let environment = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).load().await;
    let provider = environment
        .credentials_provider()
        .ok_or_else(|| CredentialsError::not_loaded("no provider of credentials is configured"))?;
    provider.provide_credentials().await?;
    Ok(Identity { provider, region: environment.region().map(ToString::to_string) })
}

/// Finds OSS's credentials, in the variables that OSS's own SDKs and tools read.
pub(super) fn from_oss_environment() -> Result<SharedCredentialsProvider, CredentialsError> {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let needed = |name: &str| of(name).ok_or_else(|| CredentialsError::not_loaded(format!("{name} is not set")));
    let (key, secret) = (needed("OSS_ACCESS_KEY_ID")?, needed("OSS_ACCESS_KEY_SECRET")?);
    let credentials = Credentials::new(key, secret, of("OSS_SESSION_TOKEN"), None, "environment");
    Ok(SharedCredentialsProvider::new(credentials))
}

/// The sandbox's key pair, which is public: it guards nothing.
pub(super) fn of_sandbox(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "sandbox"))
}
