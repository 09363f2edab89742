//! The profile setting `credential_process`: a program that prints credentials.
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html>
//!
//! The AWS SDK waits forever for a process that hangs, and reads without limit from one that never stops writing.
//! Therefore the process is run here, with a time and an output limit.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
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

use super::process_tree::ProcessTree;
use super::profile_chain::{ChainedRole, ProfileChain, SSO_PROPERTIES};
use super::setting_error::CredentialSettingError;
use super::validation::ValidatingProvider;
use crate::error::truncate;
use crate::printable::affects_terminal;
use crate::timeouts::{self, DisplaySeconds, TimeLimitError, scaled};

/// The maximum number of bytes that a process may write to each of its outputs.
const MAX_OUTPUT: u64 = 64 << 10;

/// The time limit for a process. A person may have to confirm the request on another device.
const PROCESS_TIMEOUT: Duration = Duration::from_mins(1);

/// The process and the roles of the active profile, if its credentials come from a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CredentialProcessChain {
    command: String,
    /// The profile that contains the command.
    profile: String,
    /// In the order in which they are assumed.
    roles: Vec<ChainedRole>,
}

/// Why a process returned no credentials, as the end of a sentence about it. The messages never contain its standard
/// output.
#[derive(Debug, thiserror::Error)]
enum CredentialProcessError {
    #[error("cannot be run: {0}")]
    Start(#[source] io::Error),
    #[error("cannot be read from: {0}")]
    Read(#[source] io::Error),
    #[error("wrote more than {MAX_OUTPUT} bytes, too much for credentials")]
    TooLong,
    #[error("failed ({status}){}{stderr}", if .stderr.is_empty() { "" } else { ": " })]
    Failed { status: ExitStatus, stderr: String },
    #[error("did not finish within {} and was killed", DisplaySeconds(.0.0))]
    TimedOut(TimeLimitError),
    #[error("returned no valid credentials: {0}")]
    InvalidOutput(&'static str),
}

/// Provides the credentials that a process prints.
#[derive(Debug)]
struct CredentialProcessProvider {
    command: String,
    /// The profile with the process. The command is not shown, because its arguments may be secret.
    profile: String,
}

impl CredentialProcessChain {
    /// Returns the process at the start of the active profile's chain, and the roles that follow. `None` leaves
    /// everything to the SDK.
    pub(super) fn new(chain: &ProfileChain<'_>) -> Option<Self> {
        let others = ["credential_source", "web_identity_token_file", "login_session"];
        if others.iter().chain(&SSO_PROPERTIES).any(|name| chain.base.get(name).is_some()) {
            return None;
        }
        let command = chain.base.get("credential_process")?.to_owned();
        Some(Self { command, profile: chain.base.name().to_owned(), roles: chain.roles.clone() })
    }

    /// Returns the provider: the environment variables if they are set, and otherwise the process and the roles.
    pub(super) async fn into_provider(self, http: &SharedHttpClient) -> SharedCredentialsProvider {
        let mut provider = ValidatingProvider::wrap(CredentialProcessProvider::new(self.command, &self.profile));
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

impl CredentialProcessProvider {
    fn new(command: String, profile: &str) -> Self {
        Self { command, profile: profile.to_owned() }
    }

    async fn run(&self) -> Result<Credentials, CredentialProcessError> {
        let mut command = shell(&self.command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tree = ProcessTree::spawn(&mut command).map_err(CredentialProcessError::Start)?;
        let child = tree.root();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let running = async {
            // If the output is too long, the process is not waited for. Dropping it kills it.
            let written = tokio::try_join!(read_output(stdout), read_output(stderr));
            let (stdout, stderr) = written?;
            let status = child.wait().await.map_err(CredentialProcessError::Read)?;
            if !status.success() {
                return Err(CredentialProcessError::Failed { status, stderr: printable_stderr(&stderr) });
            }
            parse_credentials(&stdout).map_err(CredentialProcessError::InvalidOutput)
        };
        let waiting_for = || "it has not finished".to_owned();
        let name = format!("the credential_process of the profile {:?}", self.profile);
        let ran = timeouts::with_time_limit(scaled(PROCESS_TIMEOUT), &name, waiting_for, running).await;
        ran.unwrap_or_else(|late| Err(CredentialProcessError::TimedOut(late)))
    }
}

impl ProvideCredentials for CredentialProcessProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.run().await.map_err(|error| {
                let (profile, reason) = (self.profile.clone(), error.to_string());
                CredentialsError::provider_error(CredentialSettingError::Process { profile, reason })
            })
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
