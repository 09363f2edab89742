//! Decides when credentials are renewed: the state of [`CredentialCache`](super::CredentialCache).
//!
//! Credentials are valid until they expire or the service rejects them. Five minutes before they expire, new ones are
//! requested from their source, while requests continue to use the current ones. If the source fails or returns the
//! same credentials, it is queried again after an increasing wait. Requests wait only if the credentials are no
//! longer valid, and then the source is always queried once immediately.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use jiff::Timestamp;
use tokio::time::Instant;

use super::SigningCredentials;

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
    pub(super) fn new(why: &str) -> Self {
        Self(why.into())
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
    fn new(identity: Arc<SigningCredentials>, now: SystemTime) -> Self {
        let mut held = Self {
            credentials: identity,
            expiry: None,
            reported_expiry: None,
            renew_at: None,
            rejection_code: None,
            was_queried: false,
        };
        held.set_expiry(held.credentials.inner.expiry(), now);
        held
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
pub(super) enum CredentialDecision {
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
pub(super) struct RenewalState {
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
    pub(super) fn decide(&mut self, now: SystemTime, instant: Instant) -> CredentialDecision {
        let waited = self.not_before.is_none_or(|at| instant >= at);
        match &mut self.current {
            Some(held) if held.is_valid(now) => {
                let identity = Arc::clone(&held.credentials);
                if self.attempt_running || !waited || held.renew_at.is_none_or(|at| now < at) {
                    return CredentialDecision::Use(identity);
                }
                self.attempt_running = true;
                CredentialDecision::UseAndRenew(identity)
            }
            _ if self.attempt_running => CredentialDecision::Wait,
            Some(held) if !held.was_queried || waited => {
                held.was_queried = true;
                self.attempt_running = true;
                CredentialDecision::Renew
            }
            None if waited => {
                self.attempt_running = true;
                CredentialDecision::Renew
            }
            _ => CredentialDecision::Fail(self.unavailable_error()),
        }
    }

    /// Records the result of an attempt.
    pub(super) fn finish_attempt(
        &mut self,
        answer: Result<Credentials, NoCredentialsError>,
        now: SystemTime,
        instant: Instant,
    ) {
        self.attempt_running = false;
        match answer {
            Ok(fresh) => self.accept(SigningCredentials::new(fresh), now, instant),
            Err(why) => {
                self.last_error = Some(why);
                self.back_off(instant);
            }
        }
    }

    fn accept(&mut self, fresh: SigningCredentials, now: SystemTime, instant: Instant) {
        match &mut self.current {
            Some(held) if held.credentials.same_as(&fresh) => {
                let expiry = fresh.inner.expiry();
                let longer = expiry > held.expiry.max(Some(now));
                if held.rejection_code.is_some() {
                    self.last_error = Some(NoCredentialsError::new("the credentials provider returned the same ones"));
                } else if longer || !held.is_valid(now) {
                    held.set_expiry(expiry, now);
                }
                if longer && held.rejection_code.is_none() {
                    self.reset_backoff();
                } else {
                    self.back_off(instant);
                }
            }
            held => {
                let fresh = held.insert(CachedCredentials::new(Arc::new(fresh), now));
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
    pub(super) fn mark_rejected(&mut self, identity: &SigningCredentials, code: &str) {
        if let Some(held) =
            self.current.as_mut().filter(|held| held.rejection_code.is_none() && held.credentials.same_as(identity))
        {
            held.rejection_code = Some(code.to_owned());
            held.was_queried = false;
        }
    }

    /// Returns whether these credentials are no longer used to sign.
    pub(super) fn is_unusable(&self, identity: &SigningCredentials, now: SystemTime) -> bool {
        let expired = |held: &CachedCredentials| held.reported_expiry.is_some_and(|expiry| now >= expiry);
        self.current
            .as_ref()
            .is_none_or(|held| !held.credentials.same_as(identity) || held.rejection_code.is_some() || expired(held))
    }

    fn unavailable_error(&self) -> NoCredentialsError {
        let why = self.last_error.as_ref().map_or("the credentials provider returned none", |why| &why.0);
        let Some(held) = &self.current else { return NoCredentialsError::new(why) };
        match (&held.rejection_code, held.expiry.and_then(|expiry| Timestamp::try_from(expiry).ok())) {
            (Some(code), _) => NoCredentialsError::new(&format!(
                "the service rejected the credentials ({code}), and no others are available: {why}"
            )),
            (None, Some(expiry)) => NoCredentialsError::new(&format!(
                "the credentials expired at {expiry:.0} and could not be renewed: {why}"
            )),
            (None, None) => NoCredentialsError::new(&format!("the credentials could not be renewed: {why}")),
        }
    }
}

#[cfg(test)]
impl RenewalState {
    /// Makes the current credentials due for renewal.
    pub(super) fn make_due(&mut self) {
        self.current.as_mut().expect("held").renew_at = Some(SystemTime::UNIX_EPOCH);
    }

    /// Makes the current credentials expire now.
    pub(super) fn expire(&mut self) {
        self.make_due();
        self.current.as_mut().expect("held").expiry = Some(SystemTime::UNIX_EPOCH);
    }
}
