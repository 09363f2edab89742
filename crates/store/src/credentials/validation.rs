//! Validates credentials. Each part is sent in a header, so it must not contain white space, control characters or
//! characters outside ASCII. The common mistake is a CI secret that was pasted with its line break.
//!
//! Invalid values are rejected where they enter, by name, and are never shown. Nothing else may be used to sign,
//! because the SDK panics if an access key cannot be part of a header.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;

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
