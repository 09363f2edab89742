//! When credentials are asked for anew: the state behind [`Identities`](super::Identities).
//!
//! Credentials serve until they expire or the service refuses them. Five minutes before they expire their source is
//! asked for new ones, while requests go on with what is there. A source that fails, or gives the same again, is asked
//! again after a wait that grows. Only credentials that serve no longer make requests wait, and each such end brings the
//! source one attempt at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Identity;

/// How long before they expire credentials are renewed: as AWS's SDKs do, longer than any request may take.
const AHEAD: Duration = Duration::from_mins(5);

/// The first wait after an attempt that brought nothing new; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest of these waits.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why there are no credentials to sign with, in one sentence without anything secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoCredentials(Arc<str>);

impl NoCredentials {
    pub(super) fn because(why: &str) -> Self {
        Self(why.into())
    }
}

/// Credentials, and how long they serve.
#[derive(Debug)]
struct Held {
    identity: Arc<Identity>,
    /// When they stop serving; never where they do not expire, or where their source stands by them although this
    /// machine's clock says that they have expired: then the service decides.
    expiry: Option<SystemTime>,
    /// When they expire as their source said last, whatever this machine's clock makes of it.
    claimed: Option<SystemTime>,
    /// From when on new ones are wanted.
    renew_at: Option<SystemTime>,
    /// The code with which the service refused them.
    refused: Option<String>,
    /// Whether the source was asked since they stopped serving.
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
        // Some are handed out with less than that to live: then at half of it.
        self.renew_at = left.map(|left| now + left.saturating_sub(AHEAD).max(left / 2));
    }

    fn serves(&self, now: SystemTime) -> bool {
        self.refused.is_none() && self.expiry.is_none_or(|expiry| now < expiry)
    }
}

/// What a request is to do.
#[must_use]
#[derive(Debug)]
pub(super) enum Standing {
    /// Sign with these.
    Use(Arc<Identity>),
    /// Sign with these, and have the source asked beside it: the caller must start that attempt.
    UseAndAsk(Arc<Identity>),
    /// Start an attempt, and wait for its end.
    Ask,
    /// Wait for the attempt that is under way.
    Wait,
    /// Give up.
    Nothing(NoCredentials),
}

/// The credentials that are held, and how asking for others goes.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    held: Option<Held>,
    /// Whether an attempt is under way: there is one at a time.
    running: bool,
    /// Attempts in a row that brought nothing new, and the earliest time of the next one.
    failures: u32,
    not_before: Option<Instant>,
    /// Why the last attempt failed.
    why: Option<NoCredentials>,
}

impl Renewal {
    /// What a request is to do now. After `Ask` and `UseAndAsk` an attempt counts as under way until [`Self::ended`].
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

    /// Takes what an attempt came to.
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
                    // This machine's clock is wrong, or the source's: asking at once would bring no better ones.
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

    /// Notes that the service refuses these credentials, with this code.
    pub(super) fn refuse(&mut self, identity: &Identity, code: &str) {
        if let Some(held) = self.held.as_mut().filter(|held| held.refused.is_none() && held.identity.same_as(identity))
        {
            held.refused = Some(code.to_owned());
            held.asked = false;
        }
    }

    /// Whether these credentials would not be signed with any more.
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
    /// Has the credentials that are held want to be renewed from now on.
    pub(super) fn make_due(&mut self) {
        self.held.as_mut().expect("held").renew_at = Some(SystemTime::UNIX_EPOCH);
    }

    /// Has the credentials that are held expire now.
    pub(super) fn expire(&mut self) {
        self.make_due();
        self.held.as_mut().expect("held").expiry = Some(SystemTime::UNIX_EPOCH);
    }
}
