//! Validates credentials. Each part is sent in a header, so it must not contain white space, control characters or
//! characters outside ASCII. The common mistake is a CI secret that was pasted with its line break.
//!
//! Invalid values are rejected where they enter, by name, and are never shown. Nothing else may be used to sign,
//! because the SDK panics if an access key cannot be part of a header.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

/// Why a text cannot be part of credentials. The messages contain its name, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialFormatError {
    /// White space at the start or end, usually copied by accident.
    #[error("{0} starts or ends with white space: set it to the bare value")]
    SurroundingSpace(String),
    /// A character that a header cannot contain.
    #[error("{0} contains white space, a control character or a non-ASCII character, which credentials never do")]
    InvalidCharacter(String),
    /// An empty value.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Not a valid region name.
    #[error("{0} is not a valid region: use only letters, digits, `-` and `_`")]
    InvalidRegion(String),
}

/// Checks that a text can be part of credentials. `name` says where it comes from.
pub(super) fn check_credential_text(name: &str, text: &str) -> Result<(), CredentialFormatError> {
    if text.trim() != text {
        return Err(CredentialFormatError::SurroundingSpace(name.to_owned()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CredentialFormatError::InvalidCharacter(name.to_owned()));
    }
    Ok(())
}

/// Checks that a text can be a region. `name` says where it comes from.
pub(super) fn check_region(name: &str, text: &str) -> Result<(), CredentialFormatError> {
    let is_region = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_region { Ok(()) } else { Err(CredentialFormatError::InvalidRegion(name.to_owned())) }
}

/// Checks that credentials from any source can be used to sign.
pub(super) fn check_credentials(credentials: &Credentials) -> Result<(), CredentialsError> {
    let parts = [
        ("the access key ID", Some(credentials.access_key_id())),
        ("the secret access key", Some(credentials.secret_access_key())),
        ("the session token", credentials.session_token()),
    ];
    let mut parts = parts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let checked = parts.try_for_each(|(name, text)| match text {
        "" => Err(CredentialFormatError::Empty(name)),
        text => check_credential_text(name, text),
    });
    checked.map_err(CredentialsError::invalid_configuration)
}

/// Passes credentials of another provider through if they can be used to sign.
#[derive(Debug)]
pub(super) struct ValidatingProvider(SharedCredentialsProvider);

impl ValidatingProvider {
    /// Wraps a provider so that all of its credentials are checked.
    pub(super) fn wrap(provider: impl ProvideCredentials + 'static) -> SharedCredentialsProvider {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::root_cause;

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
