//! Who signs: the credentials in force, renewed before they expire and once they are refused.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use http::HeaderValue;

use crate::timeouts::scaled;

/// How long before they expire credentials are renewed: as AWS's SDKs do, longer than any request may take.
const AHEAD: Duration = Duration::from_mins(5);

/// How long a provider may take, and how soon it is asked again after it failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Credentials, ready to sign with.
pub struct Identity {
    credentials: Credentials,
    token: Option<HeaderValue>,
}

impl Identity {
    /// Makes them ready.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        let token = credentials.session_token().and_then(|token| HeaderValue::from_str(token).ok());
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        Self { credentials, token }
    }

    pub(super) fn access_key(&self) -> &str {
        self.credentials.access_key_id()
    }

    pub(super) fn secret(&self) -> &str {
        self.credentials.secret_access_key()
    }

    pub(super) fn token(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    /// A server's words without the secrets of these credentials.
    pub(super) fn hidden_from(&self, text: &str) -> String {
        without_secrets(text, &self.credentials)
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.access_key(), self.secret(), &self.token) == (other.access_key(), other.secret(), &other.token)
    }
}

/// A server's words without the secrets of whom it speaks to: one that finds a signature wrong may repeat all that was
/// signed, and that is the session token as well.
pub(in crate::store) fn without_secrets(text: &str, credentials: &Credentials) -> String {
    let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
    let secrets = secrets.into_iter().flatten().filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "[hidden]"))
}

/// Without a word of what is secret.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Credentials in force.
#[derive(Debug)]
struct Held {
    identity: Arc<Identity>,
    /// When to ask for new ones; never for those that do not expire.
    renew_at: Option<SystemTime>,
}

/// Has credentials, and gets new ones in time.
#[derive(Debug)]
pub struct Identities {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<Held>>,
    /// Held by whoever asks the provider: all others wait for what comes of it.
    renewing: tokio::sync::Mutex<()>,
}

impl Identities {
    /// What this provider gives.
    #[must_use]
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, held: Mutex::new(None), renewing: tokio::sync::Mutex::new(()) }
    }

    /// The credentials to sign with now.
    ///
    /// # Errors
    /// When there are none, and the provider gives none.
    pub async fn current(&self) -> Result<Arc<Identity>, CredentialsError> {
        if let Some(identity) = self.in_force() {
            return Ok(identity);
        }
        let _turn = self.renewing.lock().await;
        if let Some(identity) = self.in_force() {
            return Ok(identity);
        }
        match self.ask().await {
            Ok(fresh) => Ok(self.hold(fresh)),
            Err(error) => self.stretch(SystemTime::now()).ok_or(error),
        }
    }

    /// Asks for new credentials because the service refuses these. Whether there are any that it has not refused.
    pub async fn renew(&self, refused: &Arc<Identity>) -> bool {
        let _turn = self.renewing.lock().await;
        let others = |held: &Held| !Arc::ptr_eq(&held.identity, refused);
        if self.lock().as_ref().is_some_and(others) {
            return true;
        }
        match self.ask().await {
            Ok(fresh) => !self.hold(fresh).same_as(refused),
            Err(_) => false,
        }
    }

    /// The credentials that are held, unless they are due.
    pub(super) fn in_force(&self) -> Option<Arc<Identity>> {
        let held = self.lock();
        let held = held.as_ref().filter(|held| held.renew_at.is_none_or(|at| SystemTime::now() < at))?;
        Some(Arc::clone(&held.identity))
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        // Whoever is asked announces the wait.
        match tokio::time::timeout(scaled(PATIENCE), self.provider.provide_credentials()).await {
            Ok(answer) => answer,
            Err(_) => Err(CredentialsError::provider_timed_out(scaled(PATIENCE))),
        }
    }

    fn hold(&self, fresh: Credentials) -> Arc<Identity> {
        let expiry = fresh.expiry();
        let now = SystemTime::now();
        // Some are handed out with less than that to live: then at half of it.
        let renew_at = expiry.map(|expiry| {
            let left = expiry.duration_since(now).unwrap_or_default();
            now + left.saturating_sub(AHEAD).max(left / 2)
        });
        let identity = Arc::new(Identity::new(fresh));
        *self.lock() = Some(Held { identity: Arc::clone(&identity), renew_at });
        identity
    }

    /// Goes on with what is held, where it has not expired yet, and has the provider asked again a little later.
    fn stretch(&self, now: SystemTime) -> Option<Arc<Identity>> {
        let mut held = self.lock();
        let held = held.as_mut()?;
        let expiry = held.identity.credentials.expiry()?;
        if now >= expiry {
            return None;
        }
        held.renew_at = Some((now + PATIENCE).min(expiry));
        Some(Arc::clone(&held.identity))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        // What is held is whole at every moment, so a poisoned lock is as good.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
