//! A profile's `credential_process`, run within bounds: the SDK's own provider neither ends a process that hangs nor stops
//! reading one that never stops writing.
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html>
//!
//! Everything else that a profile may name is left to the SDK. Which profile is in force, and what it names, is decided as
//! the SDK does.

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

use super::usable::Checked;
use crate::diagnostics::drives_terminal;
use crate::store::fault::shortened;
use crate::timeouts::{self, scaled};

/// The most bytes that a process may write to either of its outputs.
const MAX_OUTPUT: u64 = 64 << 10;

/// How long a process may take: a person may have to confirm on another device.
const PATIENCE: Duration = Duration::from_secs(50);

/// A role that is assumed with the credentials of the process, or of the role before.
#[derive(Debug, PartialEq, Eq)]
struct Role {
    arn: String,
    session_name: Option<String>,
    external_id: Option<String>,
}

/// What the profile in force says, where its credentials begin with a process.
#[derive(Debug, PartialEq, Eq)]
struct ProcessChain {
    command: String,
    /// In the order in which they are assumed.
    roles: Vec<Role>,
}

/// Why a process gives no credentials. Never says what it wrote to its standard output.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("cannot run the profile's credential_process: {0}")]
    Start(#[source] io::Error),
    #[error("cannot read what the profile's credential_process writes: {0}")]
    Read(#[source] io::Error),
    #[error("the profile's credential_process has written more than {MAX_OUTPUT} bytes, which no credentials have")]
    TooLong,
    #[error("the profile's credential_process ended with {status}: {stderr}")]
    Failed { status: ExitStatus, stderr: String },
    #[error("the profile's credential_process did not end: {0}")]
    TimedOut(timeouts::TimedOut),
    #[error("the profile's credential_process wrote no credentials: {0}")]
    Unusable(&'static str),
}

/// Credentials from a process.
#[derive(Debug)]
struct ProcessProvider {
    command: String,
}

/// What gives credentials where the profile in force begins with a process; `None` leaves everything to the SDK.
pub(super) async fn from_profile(http: &SharedHttpClient) -> Option<SharedCredentialsProvider> {
    // A file that cannot be read is the SDK's to complain about.
    let (fs, env, files) = Default::default();
    let profiles = aws_config::profile::load(&fs, &env, &files, None).await.ok()?;
    let ProcessChain { command, roles } = chain(&profiles)?;
    let mut provider = Checked::over(ProcessProvider { command });
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

/// The process that the profile in force begins with, and the roles that follow.
fn chain(profiles: &ProfileSet) -> Option<ProcessChain> {
    let mut profile = profiles.get_profile(profiles.selected_profile())?;
    let (mut seen, mut roles) = (Vec::new(), Vec::new());
    loop {
        // A loop is the SDK's to complain about.
        if seen.contains(&profile.name()) {
            return None;
        }
        seen.push(profile.name());
        if seen.len() > 1 && profile.get("aws_access_key_id").is_some() {
            return None;
        }
        let Some(role) = role_of(profile) else { break };
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
    Some(ProcessChain { command: profile.get("credential_process")?.to_owned(), roles })
}

fn role_of(profile: &Profile) -> Option<Role> {
    if profile.get("web_identity_token_file").is_some() {
        return None;
    }
    let text = |name| profile.get(name).map(str::to_owned);
    Some(Role { arn: text("role_arn")?, session_name: text("role_session_name"), external_id: text("external_id") })
}

impl ProcessProvider {
    async fn run(&self) -> Result<Credentials, ProcessError> {
        let mut command = shell(&self.command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(ProcessError::Start)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let running = async {
            // What is too long is not waited for: dropping the process ends the shell. What that has begun may live on.
            let written = tokio::try_join!(read(stdout), read(stderr));
            let (stdout, stderr) = written?;
            let status = child.wait().await.map_err(ProcessError::Read)?;
            if !status.success() {
                return Err(ProcessError::Failed { status, stderr: plain(&stderr) });
            }
            credentials(&stdout).map_err(ProcessError::Unusable)
        };
        let waiting_for = || "it has not ended".to_owned();
        let ran = timeouts::within(scaled(PATIENCE), "the profile's credential_process", waiting_for, running).await;
        ran.unwrap_or_else(|late| Err(ProcessError::TimedOut(late)))
    }
}

impl ProvideCredentials for ProcessProvider {
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

/// `cmd.exe` takes the rest of the line as it is, within one more pair of quotes.
#[cfg(windows)]
fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd.exe");
    command.arg("/C").raw_arg(format!("\"{text}\""));
    command
}

async fn read(output: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, ProcessError> {
    let mut text = Vec::new();
    let Some(output) = output else { return Ok(text) };
    output.take(MAX_OUTPUT + 1).read_to_end(&mut text).await.map_err(ProcessError::Read)?;
    if text.len() as u64 > MAX_OUTPUT { Err(ProcessError::TooLong) } else { Ok(text) }
}

/// What a process says of its failure, on one line.
fn plain(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text: String = text.trim().chars().map(|c| if drives_terminal(c) { ' ' } else { c }).collect();
    shortened(&text)
}

/// The credentials that a process has written. Its names are taken in any case, as the SDK does.
fn credentials(text: &[u8]) -> Result<Credentials, &'static str> {
    let Ok(Json::Object(document)) = serde_json::from_slice(text) else { return Err("it is no JSON object") };
    let found = |name: &str| document.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let text = |name: &str| found(name).and_then(Json::as_str).map(str::to_owned);
    if found("Version").and_then(Json::as_i64) != Some(1) {
        return Err("its Version is not 1");
    }
    let key = text("AccessKeyId").ok_or("it has no AccessKeyId")?;
    let secret = text("SecretAccessKey").ok_or("it has no SecretAccessKey")?;
    let until = match text("Expiration") {
        Some(until) => Some(SystemTime::from(until.parse::<Timestamp>().map_err(|_| "its Expiration is no time")?)),
        None => None,
    };
    Ok(Credentials::new(key, secret, text("SessionToken"), until, "CredentialProcess"))
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
