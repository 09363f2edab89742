//! The credentials that requests are signed with: renewed before they expire and after they are rejected.

mod renewal;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fault::{MAX_MESSAGE_BYTES, truncate};
use crate::redact::redact;
use crate::timeouts::{DisplaySeconds, scaled};
use crate::web::root_cause;
pub use renewal::NoCredentialsError;
use renewal::{CredentialDecision, RenewalState};

/// The maximum time that a request waits for credentials. It is shorter than the time limit of the request itself, so
/// that a provider without credentials can be told apart from a server that does not respond.
const WAIT_TIMEOUT: Duration = Duration::from_secs(27);

/// The time limit for the provider, for example for a process whose credentials assume a role. Usually no request
/// waits for it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(90);

/// Credentials in the form that signing needs.
pub struct SigningCredentials {
    inner: Credentials,
    token: Option<HeaderValue>,
}

impl SigningCredentials {
    /// Prepares credentials for signing.
    #[must_use]
    pub fn new(inner: Credentials) -> Self {
        let token = inner.session_token().and_then(|token| HeaderValue::from_str(token).ok());
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        Self { inner, token }
    }

    pub(super) fn access_key(&self) -> &str {
        self.inner.access_key_id()
    }

    pub(super) fn secret(&self) -> &str {
        self.inner.secret_access_key()
    }

    pub(super) fn token(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    /// Removes the secrets of these credentials from text that a server sent.
    pub(super) fn redact(&self, text: &str) -> String {
        redact_credentials(text, &self.inner)
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.access_key(), self.secret(), &self.token) == (other.access_key(), other.secret(), &other.token)
    }
}

/// Removes the secrets of these credentials from text that a server sent, and truncates it. A server that rejects a
/// signature may repeat everything that was signed, including the session token.
pub(crate) fn redact_credentials(text: &str, credentials: &Credentials) -> String {
    let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
    let secrets: Vec<_> = secrets.into_iter().flatten().collect();
    redact(text, &secrets, MAX_MESSAGE_BYTES)
}

/// Prints no secrets.
impl fmt::Debug for SigningCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Provides credentials, and renews them in time. Clones share their state.
#[derive(Clone, Debug)]
pub struct CredentialCache(Arc<CredentialCacheState>);

#[derive(Debug)]
struct CredentialCacheState {
    provider: SharedCredentialsProvider,
    renewal: Mutex<RenewalState>,
    /// Notified at the end of each attempt.
    attempt_ended: watch::Sender<()>,
}

/// An attempt to get credentials from the provider. Waiting requests are notified of its end even if it is cancelled
/// by the shutdown of the runtime that it runs on.
struct RenewalAttempt {
    shared: Arc<CredentialCacheState>,
    result: Option<Result<Credentials, NoCredentialsError>>,
}

impl RenewalAttempt {
    fn complete(&mut self, answer: Result<Credentials, NoCredentialsError>) {
        self.result = Some(answer);
    }
}

impl Drop for RenewalAttempt {
    fn drop(&mut self) {
        let cut_off = || Err(NoCredentialsError::new("the request for credentials was interrupted"));
        let answer = self.result.take().unwrap_or_else(cut_off);
        self.shared.lock().finish_attempt(answer, SystemTime::now(), Instant::now());
        self.shared.attempt_ended.send_replace(());
    }
}

impl CredentialCache {
    /// Creates the cache for this provider.
    #[must_use]
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        let (renewal, ended) = (Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(CredentialCacheState { provider, renewal, attempt_ended: ended }))
    }

    /// Returns the credentials to sign with now. Waits for the provider only if the current credentials have expired
    /// or were rejected, and at most 27 seconds.
    ///
    /// # Errors
    /// Returns an error if there are no valid credentials and the provider returns none.
    pub async fn current(&self) -> Result<Arc<SigningCredentials>, NoCredentialsError> {
        let deadline = Instant::now() + scaled(WAIT_TIMEOUT);
        // Subscribed before the first check, so that no notification is missed.
        let mut ended = self.0.attempt_ended.subscribe();
        loop {
            match self.decide() {
                CredentialDecision::Use(identity) | CredentialDecision::UseAndRenew(identity) => return Ok(identity),
                CredentialDecision::Renew | CredentialDecision::Wait => {}
                CredentialDecision::Fail(why) => return Err(why),
            }
            if tokio::time::timeout_at(deadline, ended.changed()).await.is_err() {
                return Err(timeout_error(scaled(WAIT_TIMEOUT)));
            }
        }
    }

    /// Requests new credentials because the service rejected these with this error code. Returns whether there are
    /// credentials that it has not rejected.
    pub async fn renew(&self, refused: &SigningCredentials, code: &str) -> bool {
        self.0.lock().mark_rejected(refused, code);
        self.current().await.is_ok_and(|identity| !identity.same_as(refused))
    }

    /// Returns the current credentials, unless they have expired or were rejected. If they are due for renewal, the
    /// provider is queried in the background.
    pub(super) fn current_if_valid(&self) -> Option<Arc<SigningCredentials>> {
        match self.decide() {
            CredentialDecision::Use(identity) | CredentialDecision::UseAndRenew(identity) => Some(identity),
            CredentialDecision::Renew | CredentialDecision::Wait | CredentialDecision::Fail(_) => None,
        }
    }

    /// Returns whether these credentials have expired, were rejected, or were replaced.
    pub(super) fn is_unusable(&self, identity: &SigningCredentials) -> bool {
        self.0.lock().is_unusable(identity, SystemTime::now())
    }

    /// Returns what to do now, and starts the attempt if that is part of it.
    fn decide(&self) -> CredentialDecision {
        let standing = self.0.lock().decide(SystemTime::now(), Instant::now());
        if matches!(standing, CredentialDecision::Renew | CredentialDecision::UseAndRenew(_)) {
            let mut attempt = RenewalAttempt { shared: Arc::clone(&self.0), result: None };
            // A separate task, so that it outlives the request that started it.
            tokio::spawn(async move {
                let answer = attempt.shared.query_provider().await;
                attempt.complete(answer);
            });
        }
        standing
    }
}

impl CredentialCacheState {
    async fn query_provider(&self) -> Result<Credentials, NoCredentialsError> {
        let answer = tokio::time::timeout(scaled(ATTEMPT_TIMEOUT), self.provider.provide_credentials()).await;
        answer
            .map_err(|_| timeout_error(scaled(ATTEMPT_TIMEOUT)))?
            .map_err(|error| NoCredentialsError::new(&truncate(&root_cause(&error))))
    }

    fn lock(&self) -> MutexGuard<'_, RenewalState> {
        // The value is complete at every moment, so a poisoned lock is safe to use.
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timeout_error(allowed: Duration) -> NoCredentialsError {
    NoCredentialsError::new(&format!("the credentials provider did not respond within {}", DisplaySeconds(allowed)))
}

#[cfg(test)]
mod tests;
