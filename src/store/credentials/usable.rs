//! What credentials may be made of: each part becomes part of a header, so that none has white space, control characters
//! or anything outside ASCII. A CI secret that was pasted with its line break is the common case.
//!
//! What is wrong is refused where it comes in and by its name, and never shown. Nothing else may be signed with: the SDK
//! panics where an access key cannot be part of a header.

use std::sync::{Mutex, PoisonError};

use aws_config::profile::ProfileSet;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

/// Why a text cannot be part of credentials. Names it, and never says what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// A copy that took a line break or a blank along.
    #[error("{0} has white space at its beginning or end: set it to the bare value")]
    Surrounded(String),
    /// What no header can carry.
    #[error("{0} holds white space, a control character or one outside ASCII, and credentials have none of these")]
    Character(String),
    /// Nothing at all.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// What no request can be signed for.
    #[error("{0} is not a valid region: letters, digits, `-` and `_`")]
    Region(String),
}

/// The properties of a profile that are part of a signature, and the region that is part of it as well.
const KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// The most profiles that lead from one to the next.
const MOST_PROFILES: usize = 16;

/// Whether a text can be part of credentials. `name` is where it stands.
pub(super) fn check(name: &str, text: &str) -> Result<(), Unusable> {
    if text.trim() != text {
        return Err(Unusable::Surrounded(name.to_owned()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unusable::Character(name.to_owned()));
    }
    Ok(())
}

/// Whether a text can be a region. `name` is where it stands.
pub(super) fn check_region(name: &str, text: &str) -> Result<(), Unusable> {
    let is_region = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_region { Ok(()) } else { Err(Unusable::Region(name.to_owned())) }
}

/// Whether these can be signed with, whoever gave them.
pub(super) fn check_credentials(credentials: &Credentials) -> Result<(), CredentialsError> {
    let parts = [
        ("the access key ID", Some(credentials.access_key_id())),
        ("the secret access key", Some(credentials.secret_access_key())),
        ("the session token", credentials.session_token()),
    ];
    let mut parts = parts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let checked = parts.try_for_each(|(name, text)| match text {
        "" => Err(Unusable::Empty(name)),
        text => check(name, text),
    });
    checked.map_err(CredentialsError::invalid_configuration)
}

/// Checks the profile in force, and those that it takes its credentials from.
pub(super) fn check_profiles(profiles: &ProfileSet) -> Result<(), Unusable> {
    let mut next = Some(profiles.selected_profile());
    // Profiles that lead in a circle are the SDK's to complain about.
    for _ in 0..MOST_PROFILES {
        let Some(profile) = next.and_then(|name| profiles.get_profile(name)) else { break };
        let named = |property: &str| format!("{property} of the profile {:?}", profile.name());
        for property in KEYS {
            profile.get(property).map_or(Ok(()), |text| check(&named(property), text))?;
        }
        profile.get("region").map_or(Ok(()), |text| check_region(&named("region"), text))?;
        next = profile.get("source_profile").filter(|source| *source != profile.name());
    }
    Ok(())
}

/// Gives what another provider gives, where that can be signed with.
#[derive(Debug)]
pub(super) struct Checked(SharedCredentialsProvider);

impl Checked {
    /// Checks all that this provider gives.
    pub(super) fn over(provider: impl ProvideCredentials + 'static) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Self(SharedCredentialsProvider::new(provider)))
    }
}

impl ProvideCredentials for Checked {
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

/// Gives credentials that are there already, and from then on what their source gives: a source is not asked twice to begin with,
/// since a person may have to confirm it.
#[derive(Debug)]
pub(super) struct Primed {
    first: Mutex<Option<Credentials>>,
    source: SharedCredentialsProvider,
}

impl Primed {
    /// Asks this source once.
    pub(super) async fn by(
        source: impl ProvideCredentials + 'static,
    ) -> Result<SharedCredentialsProvider, CredentialsError> {
        let first = Mutex::new(Some(source.provide_credentials().await?));
        Ok(SharedCredentialsProvider::new(Self { first, source: SharedCredentialsProvider::new(source) }))
    }
}

impl ProvideCredentials for Primed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        // What is kept is whole at every moment, so that a poisoned lock is as good.
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(first) => future::ProvideCredentials::ready(Ok(first)),
            None => self.source.provide_credentials(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::innermost;

    #[tokio::test]
    async fn what_cannot_be_signed_with_is_not_handed_on() {
        let of = |key: &str, secret: &str, token: &str| {
            let credentials = Credentials::new(key, secret, Some(token.to_owned()), None, "test");
            Checked::over(SharedCredentialsProvider::new(credentials))
        };
        assert!(of("key", "secret/+=", "token==").provide_credentials().await.is_ok());
        let said = innermost(&of("", "s", "t").provide_credentials().await.expect_err("refused"));
        assert_eq!(said, "the access key ID is empty");
        for bad in ["hush\n", "hush\0hush", "hush\u{7f}", "hüsh", "hush\u{1b}[2J", " hush", "hu\tsh"] {
            for (provider, name) in [
                (of(bad, "s", "t"), "the access key ID "),
                (of("k", bad, "t"), "the secret access key "),
                (of("k", "s", bad), "the session token "),
            ] {
                let said = innermost(&provider.provide_credentials().await.expect_err("refused"));
                assert!(said.starts_with(name) && !said.contains("sh"), "{said}");
            }
        }
    }
}
