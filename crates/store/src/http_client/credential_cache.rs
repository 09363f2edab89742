//! The credentials that requests are signed with: renewed before they expire and after they are rejected.
//!
//! Credentials are valid until they expire or the service rejects them. Five minutes before they expire, new ones are
//! requested from their source, while requests continue to use the current ones. If the source fails or returns the
//! same credentials, it is queried again after an increasing wait. Requests wait only if the credentials are no
//! longer valid, and then the source is always queried once immediately.

use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::error::{MAX_MESSAGE_BYTES, truncate};
use crate::mutex::Mutex;
use crate::redact::{MIN_PIECE, redact};
use crate::timeouts::{DisplaySeconds, scaled};
use crate::web::{proxy_secrets, root_cause};

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

    /// Removes the secrets of these credentials from a value of the server that the program compares or parses, such as
    /// an `ETag` or a code.
    ///
    /// A short secret, such as a proxy's password, may be a part of such a value by chance: `2026` of a digest. It is
    /// hidden only if it is the whole value, or if the value has other characters than those of names and digests.
    pub(super) fn redact_value(&self, value: &str) -> String {
        let bare = value.trim_matches('"');
        let is_plain = bare.len() <= MAX_PLAIN_VALUE && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_hidden = |secret: &&str| !is_plain || secret.len() >= MIN_PIECE || *secret == bare;
        let secrets: Vec<_> = secrets_of(&self.inner).filter(is_hidden).collect();
        redact(value, &secrets, MAX_MESSAGE_BYTES)
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.access_key(), self.secret(), &self.token) == (other.access_key(), other.secret(), &other.token)
    }
}

/// Removes the secrets of these credentials from text that a server sent, and truncates it. A server that rejects a
/// signature may repeat everything that was signed, including the session token, and a proxy its own password.
pub(crate) fn redact_credentials(text: &str, credentials: &Credentials) -> String {
    redact(text, &secrets_of(credentials).collect::<Vec<_>>(), MAX_MESSAGE_BYTES)
}

fn secrets_of(credentials: &Credentials) -> impl Iterator<Item = &str> {
    let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
    secrets.into_iter().flatten().chain(proxy_secrets().iter().map(String::as_str))
}

/// The maximum length of a plain value, in bytes. Error codes, regions and digests are shorter.
const MAX_PLAIN_VALUE: usize = 128;

/// Prints no secrets.
impl fmt::Debug for SigningCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningCredentials").finish_non_exhaustive()
    }
}

/// How long before they expire credentials are renewed. The same as in AWS's SDKs, and longer than any request takes.
const RENEW_AHEAD: Duration = Duration::from_mins(5);

/// The wait after the first attempt without new credentials. Each further attempt doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The maximum wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// There are no credentials to sign with. Contains the reason, one sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoCredentialsError(Arc<str>);

impl NoCredentialsError {
    fn new(reason: &str) -> Self {
        Self(reason.into())
    }
}

/// Credentials, and how long they are valid.
#[derive(Debug)]
struct CachedCredentials {
    credentials: Arc<SigningCredentials>,
    /// When they stop being valid. `None` if they do not expire, or if their source still returns them although they
    /// have expired according to this machine's clock. Then the service decides.
    expiry: Option<SystemTime>,
    /// The expiry that their source reported last, even if it has passed according to this machine's clock.
    reported_expiry: Option<SystemTime>,
    /// When to request new ones.
    renew_at: Option<SystemTime>,
    /// The error code with which the service rejected them.
    rejection_code: Option<String>,
    /// Whether the source was queried since they stopped being valid.
    was_queried: bool,
}

impl CachedCredentials {
    fn new(credentials: Arc<SigningCredentials>, now: SystemTime) -> Self {
        let mut current = Self {
            credentials,
            expiry: None,
            reported_expiry: None,
            renew_at: None,
            rejection_code: None,
            was_queried: false,
        };
        current.set_expiry(current.credentials.inner.expiry(), now);
        current
    }

    fn set_expiry(&mut self, expiry: Option<SystemTime>, now: SystemTime) {
        let left = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
        self.expiry = expiry.filter(|expiry| *expiry > now);
        self.reported_expiry = expiry;
        self.was_queried = false;
        // Some credentials are issued with a shorter lifetime. They are renewed after half of it.
        self.renew_at = left.map(|left| now + left.saturating_sub(RENEW_AHEAD).max(left / 2));
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.rejection_code.is_none() && self.expiry.is_none_or(|expiry| now < expiry)
    }
}

/// What a request must do.
#[must_use]
#[derive(Debug)]
enum CredentialDecision {
    /// Sign with these credentials.
    Use(Arc<SigningCredentials>),
    /// Sign with these credentials, and query the source in the background: the caller must start that attempt.
    UseAndRenew(Arc<SigningCredentials>),
    /// Start an attempt, and wait until it ends.
    Renew,
    /// Wait until the running attempt ends.
    Wait,
    /// Fail with this error.
    Fail(NoCredentialsError),
}

/// The current credentials, and the state of their renewal.
#[derive(Debug, Default)]
struct RenewalState {
    current: Option<CachedCredentials>,
    /// Whether an attempt is running. There is at most one.
    attempt_running: bool,
    /// The number of consecutive attempts without new credentials, and the earliest time of the next attempt.
    failures: u32,
    not_before: Option<Instant>,
    /// The reason why the last attempt failed.
    last_error: Option<NoCredentialsError>,
}

impl RenewalState {
    /// Returns what a request must do now. After `Renew` and `UseAndRenew` an attempt counts as running until
    /// [`Self::finish_attempt`] is called.
    fn decide(&mut self, now: SystemTime, instant: Instant) -> CredentialDecision {
        let may_query = self.not_before.is_none_or(|at| instant >= at);
        match &mut self.current {
            Some(current) if current.is_valid(now) => {
                let credentials = Arc::clone(&current.credentials);
                if self.attempt_running || !may_query || current.renew_at.is_none_or(|at| now < at) {
                    return CredentialDecision::Use(credentials);
                }
                self.attempt_running = true;
                CredentialDecision::UseAndRenew(credentials)
            }
            _ if self.attempt_running => CredentialDecision::Wait,
            Some(current) if !current.was_queried || may_query => {
                current.was_queried = true;
                self.attempt_running = true;
                CredentialDecision::Renew
            }
            None if may_query => {
                self.attempt_running = true;
                CredentialDecision::Renew
            }
            _ => CredentialDecision::Fail(self.unavailable_error()),
        }
    }

    /// Records the result of an attempt.
    fn finish_attempt(&mut self, answer: Result<Credentials, NoCredentialsError>, now: SystemTime, instant: Instant) {
        self.attempt_running = false;
        match answer {
            Ok(fresh) => self.accept(SigningCredentials::new(fresh), now, instant),
            Err(reason) => {
                self.last_error = Some(reason);
                self.back_off(instant);
            }
        }
    }

    fn accept(&mut self, fresh: SigningCredentials, now: SystemTime, instant: Instant) {
        match &mut self.current {
            Some(current) if current.credentials.same_as(&fresh) => {
                let expiry = fresh.inner.expiry();
                let longer = expiry > current.expiry.max(Some(now));
                if current.rejection_code.is_some() {
                    self.last_error = Some(NoCredentialsError::new("the credentials provider returned the same ones"));
                } else if longer || !current.is_valid(now) {
                    current.set_expiry(expiry, now);
                }
                if longer && current.rejection_code.is_none() {
                    self.reset_backoff();
                } else {
                    self.back_off(instant);
                }
            }
            current => {
                let fresh = current.insert(CachedCredentials::new(Arc::new(fresh), now));
                let has_expired = fresh.renew_at.is_some() && fresh.expiry.is_none();
                self.reset_backoff();
                if has_expired {
                    // Either this machine's clock or the source's is wrong. Querying again immediately would not
                    // help.
                    self.not_before = Some(instant + LONGEST_WAIT);
                }
            }
        }
    }

    fn reset_backoff(&mut self) {
        (self.failures, self.not_before, self.last_error) = (0, None, None);
    }

    fn back_off(&mut self, instant: Instant) {
        let wait = FIRST_WAIT * 2_u32.saturating_pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(instant + wait.min(LONGEST_WAIT));
    }

    /// Records that the service rejected these credentials with this error code.
    fn mark_rejected(&mut self, credentials: &SigningCredentials, code: &str) {
        if let Some(current) = self
            .current
            .as_mut()
            .filter(|current| current.rejection_code.is_none() && current.credentials.same_as(credentials))
        {
            current.rejection_code = Some(code.to_owned());
            current.was_queried = false;
        }
    }

    /// Returns whether these credentials are no longer used to sign.
    fn is_unusable(&self, credentials: &SigningCredentials, now: SystemTime) -> bool {
        let expired = |current: &CachedCredentials| current.reported_expiry.is_some_and(|expiry| now >= expiry);
        self.current.as_ref().is_none_or(|current| {
            !current.credentials.same_as(credentials) || current.rejection_code.is_some() || expired(current)
        })
    }

    fn unavailable_error(&self) -> NoCredentialsError {
        let reason = self.last_error.as_ref().map_or("the credentials provider returned none", |reason| &reason.0);
        let Some(current) = &self.current else { return NoCredentialsError::new(reason) };
        match (&current.rejection_code, current.expiry.and_then(|expiry| Timestamp::try_from(expiry).ok())) {
            (Some(code), _) => NoCredentialsError::new(&format!(
                "the service rejected the credentials ({code}), and no others are available: {reason}"
            )),
            (None, Some(expiry)) => NoCredentialsError::new(&format!(
                "the credentials expired at {expiry:.0} and could not be renewed: {reason}"
            )),
            (None, None) => NoCredentialsError::new(&format!("the credentials could not be renewed: {reason}")),
        }
    }
}

/// Logs the result of an attempt: where credentials come from and when they expire, and none of their values.
fn log_attempt(answer: &Result<Credentials, NoCredentialsError>) {
    match answer {
        Ok(fresh) => info!(
            source = fresh.get_property::<Vec<AwsCredentialFeature>>().map(tracing::field::debug),
            expiry = fresh.expiry().and_then(|expiry| Timestamp::try_from(expiry).ok()).map(tracing::field::display),
            "credentials obtained"
        ),
        Err(reason) => warn!(error = %reason, "no credentials obtained"),
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
        log_attempt(&answer);
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
                CredentialDecision::Use(credentials) | CredentialDecision::UseAndRenew(credentials) => {
                    return Ok(credentials);
                }
                CredentialDecision::Renew | CredentialDecision::Wait => {}
                CredentialDecision::Fail(reason) => return Err(reason),
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
        self.current().await.is_ok_and(|credentials| !credentials.same_as(refused))
    }

    /// Returns the current credentials, unless they have expired or were rejected. If they are due for renewal, the
    /// provider is queried in the background.
    pub(super) fn current_if_valid(&self) -> Option<Arc<SigningCredentials>> {
        match self.decide() {
            CredentialDecision::Use(credentials) | CredentialDecision::UseAndRenew(credentials) => Some(credentials),
            CredentialDecision::Renew | CredentialDecision::Wait | CredentialDecision::Fail(_) => None,
        }
    }

    /// Returns whether these credentials have expired, were rejected, or were replaced.
    pub(super) fn is_unusable(&self, credentials: &SigningCredentials) -> bool {
        self.0.lock().is_unusable(credentials, SystemTime::now())
    }

    /// Returns what to do now, and starts the attempt if that is part of it.
    fn decide(&self) -> CredentialDecision {
        let decision = self.0.lock().decide(SystemTime::now(), Instant::now());
        if matches!(decision, CredentialDecision::Renew | CredentialDecision::UseAndRenew(_)) {
            let mut attempt = RenewalAttempt { shared: Arc::clone(&self.0), result: None };
            // A separate task, so that it outlives the request that started it.
            tokio::spawn(async move {
                let answer = attempt.shared.query_provider().await;
                attempt.complete(answer);
            });
        }
        decision
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
        self.renewal.lock()
    }
}

fn timeout_error(allowed: Duration) -> NoCredentialsError {
    NoCredentialsError::new(&format!("the credentials provider did not respond within {}", DisplaySeconds(allowed)))
}

#[cfg(test)]
mod tests;
