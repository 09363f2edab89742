//! The caller's own credentials: AWS's provider chain, OSS's environment variables, or a key pair.
//!
//! The variables of OSS are those of its official SDKs:
//! <https://github.com/aliyun/alibabacloud-oss-python-sdk-v2#configuring-credentials>
//!
//! For `aws` and `s3` the AWS SDK reads its variables and profiles itself. Values for which it panics are rejected
//! first, and what it does without limits is done in this folder instead.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use http::Uri;
use tracing::info;

use super::http::validating_http_client;
use super::process::CredentialProcessChain;
use super::profile_chain::{ProfileChain, check_profiles};
use super::profile_files::{
    ProfileError, check_active_profile, explain_missing_profile, load_profiles, reject_pipe, reject_pipes,
};
use super::session::{ForwardClock, SessionProvider, SignInSession};
use super::setting_error::{CredentialSettingError, FULL_URI, KEY_ID, RELATIVE_URI, SECRET};
use super::validation::{CredentialFormatError, ValidatingProvider, check_credential_text, check_region};
use crate::mutex::Mutex;
use crate::timeouts::{TimeLimitError, scaled};
use crate::web::ConnectionSettings;

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

/// Returns the proxies and CA certificates for AWS's services and stores of the S3 dialect: those of the environment,
/// with the `ca_bundle` and the metadata service of the active profile.
pub(crate) async fn aws_connection_settings() -> Arc<ConnectionSettings> {
    // A file that cannot be read is reported when credentials are loaded.
    let Ok(profiles) = load_profiles().await else {
        return ConnectionSettings::of_process();
    };
    let name = profiles.selected_profile();
    let property =
        |property| profiles.get_profile(name).and_then(|profile| profile.get(property)).filter(|text| !text.is_empty());
    match (property("ca_bundle"), property("ec2_metadata_service_endpoint")) {
        (None, None) => ConnectionSettings::of_process(),
        (bundle, metadata_service) => {
            let bundle = bundle.map(|path| (format!("ca_bundle of the profile {name:?}"), path.into()));
            ConnectionSettings::with_profile(bundle, metadata_service)
        }
    }
}

/// Checks that the profile that `AWS_PROFILE` names exists.
///
/// # Errors
/// Returns an error that names the profile and the files that should contain it.
pub(crate) async fn check_aws_profile() -> Result<(), ProfileError> {
    // A file that cannot be read is reported when the endpoints are read or credentials are loaded.
    let Ok(profiles) = load_profiles().await else { return Ok(()) };
    check_active_profile(&profiles, |name| std::env::var_os(name))
}

/// Finds AWS credentials and loads them once, so that no work starts without valid credentials.
pub(crate) async fn from_aws_chain(http: &SharedHttpClient) -> Result<AwsCredentialSource, CredentialsError> {
    check_aws_environment()?;
    let found = tokio::time::timeout(scaled(FIRST_CREDENTIALS_TIMEOUT), Box::pin(load_aws_chain(http))).await;
    found.unwrap_or_else(|_| {
        let late = TimeLimitError(scaled(FIRST_CREDENTIALS_TIMEOUT));
        Err(CredentialsError::provider_error(format!("neither a profile nor a metadata service provided any: {late}")))
    })
}

async fn load_aws_chain(http: &SharedHttpClient) -> Result<AwsCredentialSource, CredentialsError> {
    reject_pipes(&|name| std::env::var_os(name)).map_err(CredentialsError::invalid_configuration)?;
    // The SDK reports files that cannot be read.
    let profiles = load_profiles().await.ok();
    if let Some(profiles) = &profiles {
        check_active_profile(profiles, |name| std::env::var_os(name)).map_err(CredentialsError::provider_error)?;
        check_profiles(profiles).map_err(format_error)?;
    }
    let http = &validating_http_client(http);
    // The clients of SSO and STS inside the SDK's chain obey `AWS_ENDPOINT_URL_*` even if
    // `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is set: `ProviderConfig`, which they are configured from, always has `false` for
    // it, and offers no other way in (aws-config 1.13). The plan's own STS client obeys it.
    let environment = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        // The environment and the profile may contain values out of range, for which the SDK panics.
        .retry_config(RetryConfig::standard())
        .time_source(ForwardClock::default());
    let chain = profiles.as_ref().and_then(ProfileChain::resolve);
    if let Some(token) = chain.as_ref().and_then(|chain| chain.base.get("web_identity_token_file")) {
        reject_pipe(token.as_ref()).map_err(CredentialsError::invalid_configuration)?;
    }
    let environment = match chain.as_ref().and_then(CredentialProcessChain::new) {
        Some(chain) => environment.credentials_provider(chain.into_provider(http).await).load().await,
        None => environment.load().await,
    };
    let mut provider = environment
        .credentials_provider()
        .ok_or_else(|| CredentialsError::not_loaded("no credentials provider is configured"))?;
    if let Some(session) = chain.as_ref().and_then(SignInSession::of) {
        provider = SessionProvider::wrap(session, provider);
    }
    let is_profile_found =
        profiles.as_ref().is_some_and(|profiles| profiles.get_profile(profiles.selected_profile()).is_some());
    let provider = prefetch(ValidatingProvider::wrap(provider)).await.map_err(|error| {
        let variable = |name: &str| std::env::var_os(name);
        if !is_profile_found && let Some(why) = explain_missing_profile(variable) {
            return CredentialsError::provider_error(why);
        }
        let why = CredentialSettingError::explain(&error, profiles.as_ref(), variable);
        why.map_or(error, CredentialsError::provider_error)
    })?;
    Ok(AwsCredentialSource { provider, region: environment.region().map(ToString::to_string) })
}

/// Returns the credentials of a key pair that the caller names, such as the sandbox's.
pub(crate) fn from_keys(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "batchplan"))
}

/// Queries this source once. The provider returns the result on its first call.
pub(super) async fn prefetch(
    source: impl ProvideCredentials + 'static,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let first = Mutex::new(Some(source.provide_credentials().await?));
    Ok(SharedCredentialsProvider::new(PrefetchedProvider { first, source: SharedCredentialsProvider::new(source) }))
}

/// Returns credentials that were loaded in advance on the first call, and those of the source afterwards. The source
/// is not queried twice at the start, because a person may have to confirm each query.
#[derive(Debug)]
struct PrefetchedProvider {
    first: Mutex<Option<Credentials>>,
    source: SharedCredentialsProvider,
}

impl ProvideCredentials for PrefetchedProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.first.lock().take() {
            Some(first) => future::ProvideCredentials::ready(Ok(first)),
            None => self.source.provide_credentials(),
        }
    }
}

/// The variables with the credentials that AWS's SDK signs with.
const AWS_KEYS: [&str; 3] = [KEY_ID, SECRET, "AWS_SESSION_TOKEN"];

/// An older name of the second one, which the SDK also reads.
const OLD_SECRET: &str = "SECRET_ACCESS_KEY";

/// The variables with the region that AWS's SDK signs for.
pub(super) const AWS_REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The variables whose values AWS's SDK sends in headers.
const AWS_HEADERS: [&str; 2] = ["AWS_EXECUTION_ENV", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

/// The maximum length of these URLs, in bytes. Real ones have a few hundred.
const MAX_URL: usize = 2048;

/// Validates the environment variables that AWS's SDK reads itself. The SDK panics for some values, and
/// cannot send a request with others.
///
/// # Errors
/// Returns an error that names the first variable with an invalid value.
fn check_aws_environment() -> Result<(), CredentialsError> {
    check_aws_variables(|name| std::env::var_os(name)).map_err(|error| match error {
        CredentialVariableError::InvalidFormat(error) => format_error(error),
        CredentialVariableError::Incomplete { missing, given } => {
            CredentialsError::not_loaded(CredentialSettingError::HalfKeyPair { missing, given })
        }
        error => CredentialsError::invalid_configuration(error),
    })
}

/// Converts the error of a value. One about a region is not about credentials.
fn format_error(error: CredentialFormatError) -> CredentialsError {
    match error {
        CredentialFormatError::InvalidRegion(name) => {
            CredentialsError::invalid_configuration(CredentialSettingError::InvalidRegion(name))
        }
        error => CredentialsError::invalid_configuration(error),
    }
}

fn check_aws_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<(), CredentialVariableError> {
    let value_of = |name: &'static str| match variable(name).map(OsString::into_string) {
        // A blank value counts as not set, as in the SDK.
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        Some(Err(_)) => Err(CredentialFormatError::InvalidCharacter(name.to_owned())),
        None => Ok(None),
    };
    for name in AWS_KEYS {
        value_of(name)?.map_or(Ok(()), |text| check_credential_text(name, &text))?;
    }
    for name in AWS_REGIONS {
        value_of(name)?.map_or(Ok(()), |text| check_region(name, &text))?;
    }
    for name in AWS_HEADERS {
        if !value_of(name)?.is_none_or(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~'))) {
            return Err(CredentialVariableError::InvalidHeaderValue(name));
        }
    }
    let is_url = |text: &str| {
        let uri = text.parse::<Uri>().ok().filter(|_| text.len() <= MAX_URL);
        uri.is_some_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
    };
    let is_path = |text: &str| text.len() <= MAX_URL && text.starts_with('/') && text.parse::<Uri>().is_ok();
    // Without the secret, the SDK would silently take other credentials.
    if value_of(KEY_ID)?.is_some() && value_of(SECRET)?.is_none() && value_of(OLD_SECRET)?.is_none() {
        return Err(CredentialVariableError::Incomplete { missing: SECRET, given: KEY_ID });
    }
    // If an access key is set, the SDK never requests credentials from these URLs.
    if value_of(KEY_ID)?.is_none() {
        if !value_of(RELATIVE_URI)?.is_none_or(|text| is_path(&text)) {
            return Err(CredentialVariableError::InvalidUrl(RELATIVE_URI, "/v2/credentials/ID"));
        }
        if !value_of(FULL_URI)?.is_none_or(|text| is_url(&text)) {
            return Err(CredentialVariableError::InvalidUrl(FULL_URI, "http://127.0.0.1:8080/credentials"));
        }
    }
    Ok(())
}

const OSS_KEY_ID: &str = "OSS_ACCESS_KEY_ID";
const OSS_SECRET: &str = "OSS_ACCESS_KEY_SECRET";
const OSS_TOKEN: &str = "OSS_SESSION_TOKEN";

/// Why the environment variables are unusable. The messages contain the names of variables, never their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum CredentialVariableError {
    /// Neither of the two required variables is set.
    #[error("{OSS_KEY_ID} and {OSS_SECRET} are not set")]
    NotSet,
    /// One of the two required variables is missing.
    #[error("{missing} is not set, although {given} is")]
    Incomplete { missing: &'static str, given: &'static str },
    /// A value that no request can be signed with.
    #[error(transparent)]
    InvalidFormat(#[from] CredentialFormatError),
    /// A value that cannot be sent in a header.
    #[error("{0} contains a line break, a control character or a non-ASCII character: set it to the bare value")]
    InvalidHeaderValue(&'static str),
    /// A value that is not a valid URL.
    #[error("{0} is not a valid URL: use a value like {1}")]
    InvalidUrl(&'static str, &'static str),
}

/// Reads the credentials from OSS's variables. They do not change while the program runs.
///
/// # Errors
/// Returns an error if a variable is missing or has an invalid value.
pub(crate) fn from_oss_environment() -> Result<SharedCredentialsProvider, CredentialsError> {
    let credentials = read_oss_credentials(|name| std::env::var_os(name)).map_err(|error| match error {
        CredentialVariableError::NotSet | CredentialVariableError::Incomplete { .. } => {
            CredentialsError::not_loaded(error)
        }
        _ => CredentialsError::invalid_configuration(error),
    })?;
    info!(source = OSS_KEY_ID, "credentials read from the environment");
    Ok(SharedCredentialsProvider::new(credentials))
}

fn read_oss_credentials(variable: impl Fn(&str) -> Option<OsString>) -> Result<Credentials, CredentialVariableError> {
    let value_of = |name| validate_value(name, variable(name).unwrap_or_default());
    match (value_of(OSS_KEY_ID)?, value_of(OSS_SECRET)?) {
        (Some(key), Some(secret)) => Ok(Credentials::new(key, secret, value_of(OSS_TOKEN)?, None, "environment")),
        (Some(_), None) => Err(CredentialVariableError::Incomplete { missing: OSS_SECRET, given: OSS_KEY_ID }),
        (None, Some(_)) => Err(CredentialVariableError::Incomplete { missing: OSS_KEY_ID, given: OSS_SECRET }),
        (None, None) => Err(CredentialVariableError::NotSet),
    }
}

/// Validates the value of a variable. An empty value counts as not set, as in OSS's SDKs.
fn validate_value(name: &'static str, value: OsString) -> Result<Option<String>, CredentialVariableError> {
    let value = value.into_string().map_err(|_| CredentialFormatError::InvalidCharacter(name.to_owned()))?;
    check_credential_text(name, &value)?;
    Ok(Some(value).filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(variables: &[(&str, &str)]) -> Result<Credentials, CredentialVariableError> {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        read_oss_credentials(found)
    }

    fn said(variables: &[(&str, &str)]) -> String {
        value_of(variables).expect_err("refused").to_string()
    }

    #[test]
    fn a_pair_is_taken_with_its_token_or_without() {
        let pair = value_of(&[(OSS_KEY_ID, "id"), (OSS_SECRET, "s"), (OSS_TOKEN, "")]).expect("credentials");
        assert_eq!((pair.access_key_id(), pair.secret_access_key(), pair.session_token()), ("id", "s", None));
        let all = value_of(&[(OSS_KEY_ID, "id"), (OSS_SECRET, "s"), (OSS_TOKEN, "t/+=")]).expect("credentials");
        assert_eq!(all.session_token(), Some("t/+="));
    }

    #[test]
    fn the_variable_that_is_missing_is_named() {
        assert_eq!(said(&[]), "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET are not set");
        assert_eq!(said(&[(OSS_TOKEN, "t")]), said(&[]));
        assert_eq!(said(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]), said(&[]));
        assert_eq!(said(&[(OSS_KEY_ID, "id")]), "OSS_ACCESS_KEY_SECRET is not set, although OSS_ACCESS_KEY_ID is");
        assert_eq!(
            said(&[(OSS_KEY_ID, ""), (OSS_SECRET, "s")]),
            "OSS_ACCESS_KEY_ID is not set, although OSS_ACCESS_KEY_SECRET is"
        );
    }

    #[test]
    fn rejects_invalid_credentials_without_showing_them() {
        for (value, why) in [
            ("hushhush\n", "starts or ends with white space"),
            (" hushhush", "starts or ends with white space"),
            ("hush hush", "contains white space"),
            ("hush\u{1b}hush", "contains white space, a control character"),
            ("hushhüsh", "contains white space"),
        ] {
            for name in [OSS_KEY_ID, OSS_SECRET, OSS_TOKEN] {
                let mut variables = vec![(OSS_KEY_ID, "id"), (OSS_SECRET, "s"), (OSS_TOKEN, "t")];
                variables.retain(|(known, _)| *known != name);
                variables.push((name, value));
                let said = said(&variables);
                assert!(said.starts_with(name) && said.contains(why) && !said.contains("hush"), "{said}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStringExt as _;

        let read = read_oss_credentials(|_| Some(OsString::from_vec(vec![b'a', 0xff])));
        assert_eq!(read.err(), Some(CredentialFormatError::InvalidCharacter(OSS_KEY_ID.to_owned()).into()));
    }

    #[test]
    fn names_variables_that_the_aws_sdk_cannot_use() {
        let said = |variables: &[(&str, &str)]| {
            let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            check_aws_variables(of).err().map(|error| error.to_string())
        };
        let fine = [
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "s/+="),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_EXECUTION_ENV", "AWS_Lambda rust"),
            // Not used, because an access key is set.
            (FULL_URI, "localhost:80"),
        ];
        assert_eq!((said(&[]), said(&fine)), (None, None));
        let half = said(&[("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", " ")]);
        assert_eq!(half.as_deref(), Some("AWS_SECRET_ACCESS_KEY is not set, although AWS_ACCESS_KEY_ID is"));
        assert_eq!(said(&[("AWS_ACCESS_KEY_ID", "AKID"), ("SECRET_ACCESS_KEY", "s")]), None);
        for bad in ["hush\n", "hush\u{1b}", "hush\u{7f}hush", "hüsh", "hush\r\nhush"] {
            for name in AWS_KEYS.into_iter().chain(AWS_REGIONS).chain(AWS_HEADERS) {
                let said = said(&[(name, bad)]).unwrap_or_else(|| panic!("{name} {bad:?}"));
                assert!(said.starts_with(name) && !said.contains("sh\u{1b}") && !said.contains("hush"), "{said}");
            }
        }
        for url in ["localhost:80", "127.0.0.1", "https:", "http:///x", "ftp://h/x", "x y", "http://h/\n", "/path"] {
            assert!(said(&[(FULL_URI, url)]).is_some_and(|said| said.starts_with(FULL_URI)), "{url}");
        }
        let long = format!("/{}", "a".repeat(1 << 16));
        for path in ["localhost:80", "*", "a b", &long] {
            assert!(said(&[(RELATIVE_URI, path)]).is_some_and(|said| said.starts_with(RELATIVE_URI)));
        }
        assert_eq!(said(&[(RELATIVE_URI, "/v2/x?y=z"), ("AWS_ACCESS_KEY_ID", " ")]), None);
    }
}
