//! Connects to a plan's store, and says what to do if that fails.

use super::{Error, Exit};
use crate::store::sandbox::SandboxError;
use crate::store::{ConnectError, Connection, Provider, StoreConfig, connect};

/// Connects to the store of a plan.
///
/// # Errors
/// Returns an error with the matching exit code and help if the connection fails.
pub(super) async fn connected(store: &StoreConfig) -> Result<Connection, Error> {
    connect(store).await.map_err(Error::from)
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        let (exit, help) = match error {
            _ if error.names_a_setting() => (
                Exit::ToolFailed,
                Some("correct what is named there: a value that was copied must bring no line break or blank along"),
            ),
            ConnectError::NoCredentials { provider: Provider::Oss, .. } => {
                (Exit::ToolFailed, Some("set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; a plan never holds them"))
            }
            ConnectError::NoCredentials { .. } => (
                Exit::ToolFailed,
                Some("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a plan never holds them"),
            ),
            ConnectError::NoRole(_) => (
                Exit::ToolFailed,
                Some(
                    "check `role_arn` in [store]: the role's trust policy must name whoever asks, who must be allowed \
                     sts:AssumeRole",
                ),
            ),
            ConnectError::NoRegion => (Exit::ToolFailed, Some("add region = \"...\" to [store], or set AWS_REGION")),
            ConnectError::NoEndpoint => (Exit::ToolFailed, Some("add endpoint = \"https://...\" to [store]")),
            ConnectError::Sandbox(SandboxError::InUse(_)) => {
                (Exit::Refused, Some("wait for the other apply or sandbox to end, or give [store] another data folder"))
            }
            ConnectError::Sandbox(error) => return Self { message, ..Self::from(error) },
            ConnectError::Server(error) => return Self { message, ..Self::from(error) },
            ConnectError::NoCertificates(_) => {
                (Exit::ToolFailed, Some("install the system's CA certificates, or name a bundle in SSL_CERT_FILE"))
            }
            ConnectError::NoFolder => (Exit::ToolFailed, None),
        };
        Self { exit, message, help: help.map(str::to_owned) }
    }
}
