//! Connects to a plan's store, and says what to do if that fails.

use batchplan_sandbox::SandboxError;
use batchplan_store::{StoreConfig, StoreConnectError};

use super::{CommandError, ExitStatus};

use crate::connect::{ConnectError, StoreConnection, connect};
use crate::provider::ProviderRules;

/// Connects to the store of a plan.
///
/// # Errors
/// Returns an error with the matching exit code and help if the connection fails.
pub(super) async fn connect_store(store: &StoreConfig) -> Result<StoreConnection, CommandError> {
    connect(store).await.map_err(CommandError::from)
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::Store(error) => Self::from(error),
            ConnectError::Sandbox(SandboxError::InUse(_)) => Self::new(ExitStatus::Refused, message)
                .help("wait for the other apply or sandbox to end, or choose another data folder in [store]"),
            ConnectError::Sandbox(error) => Self { message, ..Self::from(error) },
            ConnectError::Server(error) => Self { message, ..Self::from(error) },
            ConnectError::NoSandboxFolder => Self::new(ExitStatus::ToolFailed, message),
        }
    }
}

impl From<StoreConnectError> for CommandError {
    fn from(error: StoreConnectError) -> Self {
        let message = error.to_string();
        let (exit, help) = match error {
            _ if error.has_invalid_credentials() => (
                ExitStatus::ToolFailed,
                Some("correct that value: it may have been copied with a line break or a space"),
            ),
            StoreConnectError::NoCredentials { provider, .. } => {
                (ExitStatus::ToolFailed, Some(ProviderRules::of(provider).credentials_help))
            }
            StoreConnectError::RoleNotAssumed(_) => (
                ExitStatus::ToolFailed,
                Some(
                    "check `role_arn` in [store]: the role's trust policy must name your identity, which must be allowed \
                     sts:AssumeRole",
                ),
            ),
            StoreConnectError::NoRegion => {
                (ExitStatus::ToolFailed, Some("add region = \"...\" to [store], or set AWS_REGION"))
            }
            StoreConnectError::NoEndpoint => {
                (ExitStatus::ToolFailed, Some("add endpoint = \"https://...\" to [store]"))
            }
            StoreConnectError::NoCertificates(_) => (
                ExitStatus::ToolFailed,
                Some("install the system's CA certificates, or name a bundle in SSL_CERT_FILE"),
            ),
        };
        Self { exit, message, help: help.map(str::to_owned) }
    }
}
