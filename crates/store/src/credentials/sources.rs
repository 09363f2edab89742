//! The caller's own credentials: AWS's provider chain, OSS's environment variables, or a key pair.
//!
//! The variables of OSS are those of its official SDKs:
//! <https://github.com/aliyun/alibabacloud-oss-python-sdk-v2#configuring-credentials>
//!
//! For `aws` and `s3` the AWS SDK reads its variables and profiles itself. Two things are done here instead. Values
//! for which the SDK panics are rejected first. And a profile's `credential_process` is run with a time and an output
//! limit: the SDK waits forever for a process that hangs, and reads without limit from one that never stops writing.
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html>
//! The active profile and its source of credentials are determined by the same rules as in the SDK.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::{Profile, ProfileSet};
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use http::Uri;
use jiff::Timestamp;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::http::validating_http_client;
use super::validation::{CredentialFormatError, check_credential_text, check_credentials, check_region};
use crate::error::truncate;
use crate::printable::affects_terminal;
use crate::timeouts::{self, TimeLimitError, scaled};
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
/// with the `ca_bundle` of the active profile.
pub(crate) async fn aws_connection_settings() -> Arc<ConnectionSettings> {
    let (fs, env, files) = Default::default();
    // A file that cannot be read is reported when credentials are loaded.
    let Ok(profiles) = aws_config::profile::load(&fs, &env, &files, None).await else {
        return ConnectionSettings::of_process();
    };
    let name = profiles.selected_profile();
    match profiles.get_profile(name).and_then(|profile| profile.get("ca_bundle")).filter(|path| !path.is_empty()) {
        Some(path) => {
            ConnectionSettings::with_profile_bundle(format!("ca_bundle of the profile {name:?}"), path.into())
        }
        None => ConnectionSettings::of_process(),
    }
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
    let (fs, env, files) = Default::default();
    // The SDK reports files that cannot be read.
    let profiles = aws_config::profile::load(&fs, &env, &files, None).await.ok();
    if let Some(profiles) = &profiles {
        check_profiles(profiles).map_err(CredentialsError::invalid_configuration)?;
    }
    let http = &validating_http_client(http);
    let environment = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        // The environment and the profile may contain values out of range, for which the SDK panics.
        .retry_config(RetryConfig::standard());
    let environment = match profiles.as_ref().and_then(process_chain) {
        Some(chain) => environment.credentials_provider(chain.into_provider(http).await).load().await,
        None => environment.load().await,
    };
    let provider = environment
        .credentials_provider()
        .ok_or_else(|| CredentialsError::not_loaded("no credentials provider is configured"))?;
    let provider = prefetch(ValidatingProvider::wrap(provider)).await?;
    Ok(AwsCredentialSource { provider, region: environment.region().map(ToString::to_string) })
}

/// Returns the credentials of a key pair that the caller names, such as the sandbox's.
pub(crate) fn from_keys(key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "batchplan"))
}

/// The credentials in a profile.
const CREDENTIAL_PROPERTIES: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// The maximum number of profiles in a chain of `source_profile` settings.
const MAX_PROFILE_CHAIN: usize = 16;

/// Checks the active profile and the profiles from which it takes its credentials.
fn check_profiles(profiles: &ProfileSet) -> Result<(), CredentialFormatError> {
    let mut next = Some(profiles.selected_profile());
    // The SDK reports cycles of profiles.
    for _ in 0..MAX_PROFILE_CHAIN {
        let Some(profile) = next.and_then(|name| profiles.get_profile(name)) else { break };
        let named = |property: &str| format!("{property} of the profile {:?}", profile.name());
        for property in CREDENTIAL_PROPERTIES {
            profile.get(property).map_or(Ok(()), |text| check_credential_text(&named(property), text))?;
        }
        profile.get("region").map_or(Ok(()), |text| check_region(&named("region"), text))?;
        next = profile.get("source_profile").filter(|source| *source != profile.name());
    }
    Ok(())
}

/// Passes credentials of another provider through if they can be used to sign.
#[derive(Debug)]
struct ValidatingProvider(SharedCredentialsProvider);

impl ValidatingProvider {
    /// Wraps a provider so that all of its credentials are checked.
    fn wrap(provider: impl ProvideCredentials + 'static) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Self(SharedCredentialsProvider::new(provider)))
    }
}

impl ProvideCredentials for ValidatingProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.0.provide_credentials().await?;
            check_credentials(&credentials)?;
            Ok(credentials)
        })
    }
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
        // The value is complete at every moment, so a poisoned lock is safe to use.
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(first) => future::ProvideCredentials::ready(Ok(first)),
            None => self.source.provide_credentials(),
        }
    }
}

/// The variables with the credentials that AWS's SDK signs with.
const AWS_KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The variables with the region that AWS's SDK signs for.
const AWS_REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The variables whose values AWS's SDK sends in headers.
const AWS_HEADERS: [&str; 2] = ["AWS_EXECUTION_ENV", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

/// The maximum length of these URLs, in bytes. Real ones have a few hundred.
const MAX_URL: usize = 2048;

/// Validates the environment variables that AWS's SDK reads itself. The SDK panics for some values, and
/// cannot send a request with others.
///
/// # Errors
/// Returns an error that names the first variable with an invalid value.
fn check_aws_environment() -> Result<(), CredentialsError> {
    check_aws_variables(|name| std::env::var_os(name)).map_err(CredentialsError::invalid_configuration)
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
    // If an access key is set, the SDK never requests credentials from these URLs.
    if value_of(AWS_KEYS[0])?.is_none() {
        if !value_of(RELATIVE_URI)?.is_none_or(|text| is_path(&text)) {
            return Err(CredentialVariableError::InvalidUrl(RELATIVE_URI, "/v2/credentials/ID"));
        }
        if !value_of(FULL_URI)?.is_none_or(|text| is_url(&text)) {
            return Err(CredentialVariableError::InvalidUrl(FULL_URI, "http://127.0.0.1:8080/credentials"));
        }
    }
    Ok(())
}

/// The maximum number of bytes that a process may write to each of its outputs.
const MAX_OUTPUT: u64 = 64 << 10;

/// The time limit for a process. A person may have to confirm the request on another device.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(50);

/// A role that is assumed with the credentials of the process or of the previous role.
#[derive(Debug, PartialEq, Eq)]
struct ChainedRole {
    arn: String,
    session_name: Option<String>,
    external_id: Option<String>,
}

/// The process and the roles of the active profile, if its credentials come from a process.
#[derive(Debug, PartialEq, Eq)]
struct CredentialProcessChain {
    command: String,
    /// In the order in which they are assumed.
    roles: Vec<ChainedRole>,
}

/// Why a process returned no credentials. The messages never contain its standard output.
#[derive(Debug, thiserror::Error)]
enum CredentialProcessError {
    #[error("cannot run the profile's credential_process: {0}")]
    Start(#[source] io::Error),
    #[error("cannot read the output of the profile's credential_process: {0}")]
    Read(#[source] io::Error),
    #[error("the profile's credential_process wrote more than {MAX_OUTPUT} bytes, too much for credentials")]
    TooLong,
    #[error("the profile's credential_process failed ({status}){}{stderr}", if .stderr.is_empty() { "" } else { ": " })]
    Failed { status: ExitStatus, stderr: String },
    #[error("the profile's credential_process did not finish: {0}")]
    TimedOut(TimeLimitError),
    #[error("the profile's credential_process returned no valid credentials: {0}")]
    InvalidOutput(&'static str),
}

/// Provides the credentials that a process prints.
#[derive(Debug)]
struct CredentialProcessProvider {
    command: String,
}

impl CredentialProcessChain {
    /// Returns the provider: the environment variables if they are set, and otherwise the process and the roles.
    async fn into_provider(self, http: &SharedHttpClient) -> SharedCredentialsProvider {
        let mut provider = ValidatingProvider::wrap(CredentialProcessProvider { command: self.command });
        if !self.roles.is_empty() {
            let environment = aws_config::defaults(BehaviorVersion::latest())
                .http_client(http.clone())
                .retry_config(RetryConfig::standard())
                .load()
                .await;
            for role in self.roles {
                let mut builder = AssumeRoleProvider::builder(role.arn).configure(&environment);
                if let Some(name) = role.session_name {
                    builder = builder.session_name(name);
                }
                if let Some(id) = role.external_id {
                    builder = builder.external_id(id);
                }
                provider = SharedCredentialsProvider::new(builder.build_from_provider(provider).await);
            }
        }
        let environment = EnvironmentVariableCredentialsProvider::new();
        let chain = CredentialsProviderChain::first_try("Environment", environment).or_else("Profile", provider);
        SharedCredentialsProvider::new(chain)
    }
}

/// Returns the process at the start of the active profile's chain, and the roles that follow. `None` leaves everything
/// to the SDK.
fn process_chain(profiles: &ProfileSet) -> Option<CredentialProcessChain> {
    let mut profile = profiles.get_profile(profiles.selected_profile())?;
    let (mut seen, mut roles) = (Vec::new(), Vec::new());
    loop {
        // The SDK reports cycles.
        if seen.contains(&profile.name()) {
            return None;
        }
        seen.push(profile.name());
        if seen.len() > 1 && profile.get("aws_access_key_id").is_some() {
            return None;
        }
        let Some(role) = role_in_profile(profile) else { break };
        roles.push(role);
        let source = profile.get("source_profile")?;
        if source == profile.name() {
            break;
        }
        profile = profiles.get_profile(source)?;
    }
    let others = ["credential_source", "web_identity_token_file", "login_session"];
    let sso = ["sso_account_id", "sso_region", "sso_role_name", "sso_start_url", "sso_session"];
    if others.iter().chain(&sso).any(|name| profile.get(name).is_some()) {
        return None;
    }
    roles.reverse();
    Some(CredentialProcessChain { command: profile.get("credential_process")?.to_owned(), roles })
}

fn role_in_profile(profile: &Profile) -> Option<ChainedRole> {
    if profile.get("web_identity_token_file").is_some() {
        return None;
    }
    let text = |name| profile.get(name).map(str::to_owned);
    Some(ChainedRole {
        arn: text("role_arn")?,
        session_name: text("role_session_name"),
        external_id: text("external_id"),
    })
}

impl CredentialProcessProvider {
    async fn run(&self) -> Result<Credentials, CredentialProcessError> {
        let mut command = shell(&self.command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(CredentialProcessError::Start)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let running = async {
            // If the output is too long, the process is not waited for. Dropping it kills the shell, but its child
            // processes may continue to run.
            let written = tokio::try_join!(read_output(stdout), read_output(stderr));
            let (stdout, stderr) = written?;
            let status = child.wait().await.map_err(CredentialProcessError::Read)?;
            if !status.success() {
                return Err(CredentialProcessError::Failed { status, stderr: printable_stderr(&stderr) });
            }
            parse_credentials(&stdout).map_err(CredentialProcessError::InvalidOutput)
        };
        let waiting_for = || "it has not finished".to_owned();
        let ran = timeouts::with_time_limit(
            scaled(PROCESS_TIMEOUT),
            "the profile's credential_process",
            waiting_for,
            running,
        )
        .await;
        ran.unwrap_or_else(|late| Err(CredentialProcessError::TimedOut(late)))
    }
}

impl ProvideCredentials for CredentialProcessProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.run().await.map_err(|error| CredentialsError::provider_error(error.to_string()))
        })
    }
}

#[cfg(not(windows))]
fn shell(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    command
}

/// `cmd.exe` uses the rest of the line unchanged, inside one additional pair of quotes.
#[cfg(windows)]
fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd.exe");
    command.arg("/C").raw_arg(format!("\"{text}\""));
    command
}

async fn read_output(output: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, CredentialProcessError> {
    let mut text = Vec::new();
    let Some(output) = output else { return Ok(text) };
    output.take(MAX_OUTPUT + 1).read_to_end(&mut text).await.map_err(CredentialProcessError::Read)?;
    if text.len() as u64 > MAX_OUTPUT { Err(CredentialProcessError::TooLong) } else { Ok(text) }
}

/// Returns the error output of a process on one line, without control characters.
fn printable_stderr(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text: String = text.trim().chars().map(|c| if affects_terminal(c) { ' ' } else { c }).collect();
    truncate(&text)
}

/// Parses the output of a process. Names are compared without regard to case, as in the SDK.
fn parse_credentials(text: &[u8]) -> Result<Credentials, &'static str> {
    let Ok(Json::Object(document)) = serde_json::from_slice(text) else {
        return Err("its output is not a JSON object");
    };
    let found = |name: &str| document.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let text = |name: &str| found(name).and_then(Json::as_str).map(str::to_owned);
    if found("Version").and_then(Json::as_i64) != Some(1) {
        return Err("its Version is not 1");
    }
    let key = text("AccessKeyId").ok_or("it has no AccessKeyId")?;
    let secret = text("SecretAccessKey").ok_or("it has no SecretAccessKey")?;
    let until = match text("Expiration") {
        Some(until) => Some(SystemTime::from(until.parse::<Timestamp>().map_err(|_| "its Expiration is not a time")?)),
        None => None,
    };
    Ok(Credentials::new(key, secret, text("SessionToken"), until, "CredentialProcess"))
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
mod process_tests;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::root_cause;

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

    #[tokio::test]
    async fn rejects_credentials_that_cannot_sign() {
        let of = |key: &str, secret: &str, token: &str| {
            let credentials = Credentials::new(key, secret, Some(token.to_owned()), None, "test");
            ValidatingProvider::wrap(SharedCredentialsProvider::new(credentials))
        };
        assert!(of("key", "secret/+=", "token==").provide_credentials().await.is_ok());
        let said = root_cause(&of("", "s", "t").provide_credentials().await.expect_err("refused"));
        assert_eq!(said, "the access key ID is empty");
        for bad in ["hush\n", "hush\0hush", "hush\u{7f}", "hüsh", "hush\u{1b}[2J", " hush", "hu\tsh"] {
            for (provider, name) in [
                (of(bad, "s", "t"), "the access key ID "),
                (of("k", bad, "t"), "the secret access key "),
                (of("k", "s", bad), "the session token "),
            ] {
                let said = root_cause(&provider.provide_credentials().await.expect_err("refused"));
                assert!(said.starts_with(name) && !said.contains("sh"), "{said}");
            }
        }
    }
}
