//! Decides when credentials are renewed: the state of [`Identities`](super::Identities).
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

use super::Identity;

/// How long before they expire credentials are renewed. The same as in AWS's SDKs, and longer than any request takes.
const AHEAD: Duration = Duration::from_mins(5);

/// The wait after the first attempt without new credentials. Each further attempt doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The maximum wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// There are no credentials to sign with. Contains the reason, one sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoCredentials(Arc<str>);

impl NoCredentials {
    pub(super) fn because(why: &str) -> Self {
        Self(why.into())
    }
}

/// Credentials, and how long they are valid.
#[derive(Debug)]
struct Held {
    identity: Arc<Identity>,
    /// When they stop being valid. `None` if they do not expire, or if their source still returns them although they
    /// have expired according to this machine's clock. Then the service decides.
    expiry: Option<SystemTime>,
    /// The expiry that their source reported last, even if it has passed according to this machine's clock.
    claimed: Option<SystemTime>,
    /// When to request new ones.
    renew_at: Option<SystemTime>,
    /// The error code with which the service rejected them.
    refused: Option<String>,
    /// Whether the source was queried since they stopped being valid.
    asked: bool,
}

impl Held {
    fn new(identity: Arc<Identity>, now: SystemTime) -> Self {
        let mut held = Self { identity, expiry: None, claimed: None, renew_at: None, refused: None, asked: false };
        held.last_until(held.identity.credentials.expiry(), now);
        held
    }

    fn last_until(&mut self, expiry: Option<SystemTime>, now: SystemTime) {
        let left = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
        self.expiry = expiry.filter(|expiry| *expiry > now);
        self.claimed = expiry;
        self.asked = false;
        // Some credentials are issued with a shorter lifetime. They are renewed after half of it.
        self.renew_at = left.map(|left| now + left.saturating_sub(AHEAD).max(left / 2));
    }

    fn serves(&self, now: SystemTime) -> bool {
        self.refused.is_none() && self.expiry.is_none_or(|expiry| now < expiry)
    }
}

/// What a request must do.
#[must_use]
#[derive(Debug)]
pub(super) enum Standing {
    /// Sign with these credentials.
    Use(Arc<Identity>),
    /// Sign with these credentials, and query the source in the background: the caller must start that attempt.
    UseAndAsk(Arc<Identity>),
    /// Start an attempt, and wait until it ends.
    Ask,
    /// Wait until the running attempt ends.
    Wait,
    /// Fail with this error.
    Nothing(NoCredentials),
}

/// The current credentials, and the state of their renewal.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    held: Option<Held>,
    /// Whether an attempt is running. There is at most one.
    running: bool,
    /// The number of consecutive attempts without new credentials, and the earliest time of the next attempt.
    failures: u32,
    not_before: Option<Instant>,
    /// The reason why the last attempt failed.
    why: Option<NoCredentials>,
}

impl Renewal {
    /// Returns what a request must do now. After `Ask` and `UseAndAsk` an attempt counts as running until
    /// [`Self::ended`] is called.
    pub(super) fn standing(&mut self, now: SystemTime, instant: Instant) -> Standing {
        let waited = self.not_before.is_none_or(|at| instant >= at);
        match &mut self.held {
            Some(held) if held.serves(now) => {
                let identity = Arc::clone(&held.identity);
                if self.running || !waited || held.renew_at.is_none_or(|at| now < at) {
                    return Standing::Use(identity);
                }
                self.running = true;
                Standing::UseAndAsk(identity)
            }
            _ if self.running => Standing::Wait,
            Some(held) if !held.asked || waited => {
                held.asked = true;
                self.running = true;
                Standing::Ask
            }
            None if waited => {
                self.running = true;
                Standing::Ask
            }
            _ => Standing::Nothing(self.nothing()),
        }
    }

    /// Records the result of an attempt.
    pub(super) fn ended(&mut self, answer: Result<Credentials, NoCredentials>, now: SystemTime, instant: Instant) {
        self.running = false;
        match answer {
            Ok(fresh) => self.take(Identity::new(fresh), now, instant),
            Err(why) => {
                self.why = Some(why);
                self.wait_longer(instant);
            }
        }
    }

    fn take(&mut self, fresh: Identity, now: SystemTime, instant: Instant) {
        match &mut self.held {
            Some(held) if held.identity.same_as(&fresh) => {
                let expiry = fresh.credentials.expiry();
                let longer = expiry > held.expiry.max(Some(now));
                if held.refused.is_some() {
                    self.why = Some(NoCredentials::because("their source returned the same again"));
                } else if longer || !held.serves(now) {
                    held.last_until(expiry, now);
                }
                if longer && held.refused.is_none() {
                    self.succeed();
                } else {
                    self.wait_longer(instant);
                }
            }
            held => {
                let fresh = held.insert(Held::new(Arc::new(fresh), now));
                let has_expired = fresh.renew_at.is_some() && fresh.expiry.is_none();
                self.succeed();
                if has_expired {
                    // Either this machine's clock or the source's is wrong. Querying again immediately would not
                    // help.
                    self.not_before = Some(instant + LONGEST_WAIT);
                }
            }
        }
    }

    fn succeed(&mut self) {
        (self.failures, self.not_before, self.why) = (0, None, None);
    }

    fn wait_longer(&mut self, instant: Instant) {
        let wait = FIRST_WAIT * 2_u32.saturating_pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(instant + wait.min(LONGEST_WAIT));
    }

    /// Records that the service rejected these credentials with this error code.
    pub(super) fn refuse(&mut self, identity: &Identity, code: &str) {
        if let Some(held) = self.held.as_mut().filter(|held| held.refused.is_none() && held.identity.same_as(identity))
        {
            held.refused = Some(code.to_owned());
            held.asked = false;
        }
    }

    /// Returns whether these credentials are no longer used to sign.
    pub(super) fn is_spent(&self, identity: &Identity, now: SystemTime) -> bool {
        let expired = |held: &Held| held.claimed.is_some_and(|expiry| now >= expiry);
        self.held
            .as_ref()
            .is_none_or(|held| !held.identity.same_as(identity) || held.refused.is_some() || expired(held))
    }

    fn nothing(&self) -> NoCredentials {
        let why = self.why.as_ref().map_or("their source gave none", |why| &why.0);
        let Some(held) = &self.held else { return NoCredentials::because(why) };
        match (&held.refused, held.expiry.and_then(|expiry| Timestamp::try_from(expiry).ok())) {
            (Some(code), _) => NoCredentials::because(&format!(
                "the service refused the credentials ({code}), and there are no others: {why}"
            )),
            (None, Some(expiry)) => NoCredentials::because(&format!(
                "the credentials expired at {expiry:.0}, and could not be renewed: {why}"
            )),
            (None, None) => NoCredentials::because(&format!("the credentials could not be renewed: {why}")),
        }
    }
}

#[cfg(test)]
impl Renewal {
    /// Makes the current credentials due for renewal.
    pub(super) fn make_due(&mut self) {
        self.held.as_mut().expect("held").renew_at = Some(SystemTime::UNIX_EPOCH);
    }

    /// Makes the current credentials expire now.
    pub(super) fn expire(&mut self) {
        self.make_due();
        self.held.as_mut().expect("held").expiry = Some(SystemTime::UNIX_EPOCH);
    }
}
