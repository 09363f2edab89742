//! Who signs: the credentials in force, renewed before they expire and once they are refused.

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

/// How long a request waits for credentials: less than it may take in all, so that a provider that gives none is told from
/// a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(27);

/// How long a provider may take, such as a process whose credentials assume a role. Mostly nobody waits for it.
const ATTEMPT: Duration = Duration::from_secs(90);

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
/// signed, and that is the session token as well. What is behind all that is kept of a text is left out.
pub(in crate::store) fn without_secrets(text: &str, credentials: &Credentials) -> String {
    let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
    let secrets: Vec<_> = secrets.into_iter().flatten().collect();
    redacted(text, &secrets, MAX_MESSAGE)
}

/// Without a word of what is secret.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Has credentials, and gets new ones in time. Clones share them.
#[derive(Clone, Debug)]
pub struct Identities(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    provider: SharedCredentialsProvider,
    renewal: Mutex<Renewal>,
    /// Told of the end of each attempt.
    ended: watch::Sender<()>,
}

/// An attempt at the provider. Its end is told to those who wait for it even where it is cut off, by the end of the
/// runtime that it runs on.
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
    /// What this provider gives.
    #[must_use]
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        let (renewal, ended) = (Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(Shared { provider, renewal, ended }))
    }

    /// The credentials to sign with now. Waits for the provider only where those that are held have expired or were
    /// refused, and half a minute at most.
    ///
    /// # Errors
    /// When there are none, and the provider gives none.
    pub async fn current(&self) -> Result<Arc<Identity>, NoCredentials> {
        let deadline = Instant::now() + scaled(PATIENCE);
        // From before the first look, so that no end is missed.
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

    /// Asks for new credentials because the service refuses these, with this code. Whether there are any that it has not
    /// refused.
    pub async fn renew(&self, refused: &Identity, code: &str) -> bool {
        self.0.lock().refuse(refused, code);
        self.current().await.is_ok_and(|identity| !identity.same_as(refused))
    }

    /// The credentials that are held, unless they have expired or were refused. Where they are due, the provider is asked
    /// for others meanwhile.
    pub(super) fn in_force(&self) -> Option<Arc<Identity>> {
        match self.standing() {
            Standing::Use(identity) | Standing::UseAndAsk(identity) => Some(identity),
            Standing::Ask | Standing::Wait | Standing::Nothing(_) => None,
        }
    }

    /// Whether these credentials have expired, were refused, or are no longer those that are signed with.
    pub(super) fn is_spent(&self, identity: &Identity) -> bool {
        self.0.lock().is_spent(identity, SystemTime::now())
    }

    /// What to do now; an attempt that this calls for is started.
    fn standing(&self) -> Standing {
        let standing = self.0.lock().standing(SystemTime::now(), Instant::now());
        if matches!(standing, Standing::Ask | Standing::UseAndAsk(_)) {
            let mut attempt = Attempt { shared: Arc::clone(&self.0), answer: None };
            // Of its own, so that it outlives the request that started it.
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
        // What is held is whole at every moment, so a poisoned lock is as good.
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_late(allowed: Duration) -> NoCredentials {
    NoCredentials::because(&format!("the source of credentials gave none within {}", Seconds(allowed)))
}

#[cfg(test)]
mod tests;
