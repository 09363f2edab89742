//! Runs a profile's `credential_process` with a time and an output limit. The SDK's own provider has neither: it
//! waits forever for a process that hangs, and reads without limit from one that never stops writing.
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html>
//!
//! All other settings of a profile are left to the SDK. The active profile and its source of credentials are
//! determined by the same rules as in the SDK.

use std::io;
use std::process::{ExitStatus, Stdio};
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
use jiff::Timestamp;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::validation::ValidatingProvider;
use crate::error_code::truncate;
use crate::printable::affects_terminal;
use crate::timeouts::{self, scaled};

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
    TimedOut(timeouts::TimeLimitError),
    #[error("the profile's credential_process returned no valid credentials: {0}")]
    InvalidOutput(&'static str),
}

/// Provides the credentials that a process prints.
#[derive(Debug)]
struct CredentialProcessProvider {
    command: String,
}

/// Returns a provider if the active profile's credentials come from a process. `None` leaves everything to the SDK.
pub(super) async fn provider_from_profile(http: &SharedHttpClient) -> Option<SharedCredentialsProvider> {
    // The SDK reports files that cannot be read.
    let (fs, env, files) = Default::default();
    let profiles = aws_config::profile::load(&fs, &env, &files, None).await.ok()?;
    let CredentialProcessChain { command, roles } = process_chain(&profiles)?;
    let mut provider = ValidatingProvider::wrap(CredentialProcessProvider { command });
    if !roles.is_empty() {
        let environment = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .retry_config(RetryConfig::standard())
            .load()
            .await;
        for role in roles {
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
    Some(SharedCredentialsProvider::new(chain))
}

/// Returns the process at the start of the active profile's chain, and the roles that follow.
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

#[cfg(test)]
mod tests;
