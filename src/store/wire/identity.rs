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

use crate::store::fault::{MAX_MESSAGE, shortened};
use crate::store::redact::redacted;
use crate::timeouts::{Seconds, scaled};
use crate::web::innermost;
pub use renewal::NoCredentials;
use renewal::{Renewal, Standing};

/// The maximum time that a request waits for credentials. It is shorter than the time limit of the request itself, so
/// that a provider without credentials can be told apart from a server that does not respond.
const PATIENCE: Duration = Duration::from_secs(27);

/// The time limit for the provider, for example for a process whose credentials assume a role. Usually no request
/// waits for it.
const ATTEMPT: Duration = Duration::from_secs(90);

/// Credentials in the form that signing needs.
pub struct Identity {
    credentials: Credentials,
    token: Option<HeaderValue>,
}

impl Identity {
    /// Prepares credentials for signing.
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

    /// Removes the secrets of these credentials from text that a server sent.
    pub(super) fn hidden_from(&self, text: &str) -> String {
        without_secrets(text, &self.credentials)
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.access_key(), self.secret(), &self.token) == (other.access_key(), other.secret(), &other.token)
    }
}

/// Removes the secrets of these credentials from text that a server sent, and truncates it. A server that rejects a
/// signature may repeat everything that was signed, including the session token.
pub(in crate::store) fn without_secrets(text: &str, credentials: &Credentials) -> String {
    let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
    let secrets: Vec<_> = secrets.into_iter().flatten().collect();
    redacted(text, &secrets, MAX_MESSAGE)
}

/// Prints no secrets.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Provides credentials, and renews them in time. Clones share their state.
#[derive(Clone, Debug)]
pub struct Identities(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    provider: SharedCredentialsProvider,
    renewal: Mutex<Renewal>,
    /// Notified at the end of each attempt.
    ended: watch::Sender<()>,
}

/// An attempt to get credentials from the provider. Waiting requests are notified of its end even if it is cancelled
/// by the shutdown of the runtime that it runs on.
struct Attempt {
    shared: Arc<Shared>,
    answer: Option<Result<Credentials, NoCredentials>>,
}

impl Attempt {
    fn comes_to(&mut self, answer: Result<Credentials, NoCredentials>) {
        self.answer = Some(answer);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let cut_off = || Err(NoCredentials::because("the request for them was interrupted"));
        let answer = self.answer.take().unwrap_or_else(cut_off);
        self.shared.lock().ended(answer, SystemTime::now(), Instant::now());
        self.shared.ended.send_replace(());
    }
}

impl Identities {
    /// Creates the cache for this provider.
    #[must_use]
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        let (renewal, ended) = (Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(Shared { provider, renewal, ended }))
    }

    /// Returns the credentials to sign with now. Waits for the provider only if the current credentials have expired
    /// or were rejected, and at most 27 seconds.
    ///
    /// # Errors
    /// Returns an error if there are no valid credentials and the provider returns none.
    pub async fn current(&self) -> Result<Arc<Identity>, NoCredentials> {
        let deadline = Instant::now() + scaled(PATIENCE);
        // Subscribed before the first check, so that no notification is missed.
        let mut ended = self.0.ended.subscribe();
        loop {
            match self.standing() {
                Standing::Use(identity) | Standing::UseAndAsk(identity) => return Ok(identity),
                Standing::Ask | Standing::Wait => {}
                Standing::Nothing(why) => return Err(why),
            }
            if tokio::time::timeout_at(deadline, ended.changed()).await.is_err() {
                return Err(too_late(scaled(PATIENCE)));
            }
        }
    }

    /// Requests new credentials because the service rejected these with this error code. Returns whether there are
    /// credentials that it has not rejected.
    pub async fn renew(&self, refused: &Identity, code: &str) -> bool {
        self.0.lock().refuse(refused, code);
        self.current().await.is_ok_and(|identity| !identity.same_as(refused))
    }

    /// Returns the current credentials, unless they have expired or were rejected. If they are due for renewal, the
    /// provider is queried in the background.
    pub(super) fn in_force(&self) -> Option<Arc<Identity>> {
        match self.standing() {
            Standing::Use(identity) | Standing::UseAndAsk(identity) => Some(identity),
            Standing::Ask | Standing::Wait | Standing::Nothing(_) => None,
        }
    }

    /// Returns whether these credentials have expired, were rejected, or were replaced.
    pub(super) fn is_spent(&self, identity: &Identity) -> bool {
        self.0.lock().is_spent(identity, SystemTime::now())
    }

    /// Returns what to do now, and starts the attempt if that is part of it.
    fn standing(&self) -> Standing {
        let standing = self.0.lock().standing(SystemTime::now(), Instant::now());
        if matches!(standing, Standing::Ask | Standing::UseAndAsk(_)) {
            let mut attempt = Attempt { shared: Arc::clone(&self.0), answer: None };
            // A separate task, so that it outlives the request that started it.
            tokio::spawn(async move {
                let answer = attempt.shared.ask().await;
                attempt.comes_to(answer);
            });
        }
        standing
    }
}

impl Shared {
    async fn ask(&self) -> Result<Credentials, NoCredentials> {
        let answer = tokio::time::timeout(scaled(ATTEMPT), self.provider.provide_credentials()).await;
        answer
            .map_err(|_| too_late(scaled(ATTEMPT)))?
            .map_err(|error| NoCredentials::because(&shortened(&innermost(&error))))
    }

    fn lock(&self) -> MutexGuard<'_, Renewal> {
        // The value is complete at every moment, so a poisoned lock is safe to use.
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_late(allowed: Duration) -> NoCredentials {
    NoCredentials::because(&format!("the source of credentials gave none within {}", Seconds(allowed)))
}

#[cfg(test)]
mod tests;
