//! Checks that a server handles a request about an object's tags, ACL or restore as such, and not as a request about
//! the object itself.
//!
//! A server that does not know a sub-resource may ignore it. `PUT key?tagging` then replaces the object's content,
//! and `DELETE key?tagging` deletes the object, each time with a success status. A scope is a bucket, an aspect of
//! its objects, whether the request deletes the aspect, and whether it names a version. The server is trusted with
//! the requests of a scope only after it has shown three things:
//!
//! - The sub-resource of an existing object is that document, without the headers of an object (`reads`).
//! - A request for the sub-resource of an invented key fails (`reads`).
//! - The first write, sent while no other unproven write is in flight, leaves content and length unchanged and reads
//!   back as it was sent (`writes`).
//!
//! Later answers are checked as well: an object's headers in an answer that should not have them end the job. Some of
//! the later writes are sampled: HEAD before and after shows whether the content stayed the same (`samples`).

mod confirm;
mod reads;
mod samples;
mod verdict;
mod writes;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::worker::{Halt, Untrusted};
use crate::call::{Call, ObjectHeader, ObjectHeaders};
use crate::journal::{FirstWrite, Journal, JournalError, MAX_SERVER_CHECKS, ServerTrust, ServerVerdict, TrustScope};
use crate::object::{Bucket, ObjectId};
use crate::operation::Aspect;

pub use reads::ReadCheck;

/// What a job's server has proven so far. Shared by all workers of the job.
#[derive(Debug, Default)]
pub struct ServerCheck {
    /// The proven scopes, and the number of writes to each since its proof.
    proven: Mutex<HashMap<TrustScope, u64>>,
    /// Scopes in which an object's content changed during its write, until they are proven again.
    doubted: Mutex<HashSet<TrustScope>>,
    /// The number of consecutive samples that could not be checked.
    unseen: AtomicU32,
    /// Scopes that passed the read checks.
    read: Mutex<HashSet<TrustScope>>,
    /// First writes of an earlier run whose result is unknown.
    unconfirmed: Mutex<HashMap<TrustScope, FirstWrite>>,
    /// Held while a write is sent to a server that has not proven itself.
    turn: tokio::sync::Mutex<()>,
    refused: AtomicBool,
    /// Whether a write of this job has proven a scope, so that other writes followed.
    has_written: AtomicBool,
    /// Whether the manifest names missing objects.
    some_missing: AtomicBool,
    /// The number of consecutive first writes that failed because the server gave no usable answer.
    unanswered: AtomicU32,
    /// The journal and the job's number, if the results are recorded.
    record: Option<(Journal, i64)>,
}

/// Why a server is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRefusal {
    /// The object that revealed the problem.
    pub object: ObjectId,
    /// The aspect that the request was about.
    pub aspect: Aspect,
    /// What kind of problem it is.
    pub kind: RefusalKind,
    /// What the server did, as a sentence without a final period.
    pub what: String,
    /// Whether a write was carried out. Trying again may then damage one more object.
    pub after_write: bool,
    /// Whether other writes had succeeded before. They may have damaged their objects as well.
    pub others_written: bool,
}

/// The report's error code of an object whose write failed the server check.
pub const SERVER_CHECK_FAILED: &str = "ServerCheckFailed";

/// The report's error code of an object that is unchanged although the server reported a successful write.
pub const NOT_KEPT: &str = "WriteNotKept";

/// The report's error code of an object whose content changed during its write.
pub const CONTENT_CHANGED: &str = "ContentChanged";

/// The start of the message if nothing was found to be wrong but the check could not be completed.
pub const INCONCLUSIVE: &str = "the server check could not be made";

/// The message if a write was not stored and the object itself is unchanged.
pub const KEEPS_NOTHING: &str = "does not keep what it is sent";

/// The message if a permission for the check is missing.
pub const A_READ_IS_DENIED: &str = "a read is denied";

/// The message if the server gives no usable answer.
pub const NO_USABLE_ANSWER: &str = "the server gives no usable answer";

/// What is wrong with a server that is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The server applies a request about the aspect to the object itself.
    TakesForObject,
    /// The server reports success but did not store the change.
    NotKept,
    /// The server says that it does not know the request.
    Unsupported,
    /// This read, which the check needs, is denied.
    Denied(Call),
    /// HEAD or a read did not show enough to decide.
    Unseen,
    /// The server gives no usable answer.
    Silent,
}

impl RefusalKind {
    /// Returns the name used in JSON output.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TakesForObject => "takes_for_object",
            Self::NotKept => "not_kept",
            Self::Unsupported => "unsupported",
            Self::Denied(_) => "denied",
            Self::Unseen => "unseen",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for ServerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, what) = (self.aspect.resource(), &self.what);
        match self.kind {
            RefusalKind::TakesForObject => {
                write!(f, "this server takes a request about {resource} for one about the object itself: {what}")
            }
            RefusalKind::NotKept => write!(f, "this server {KEEPS_NOTHING} with {resource}: {what}"),
            RefusalKind::Unsupported => write!(f, "this server does not support {resource}: {what}"),
            RefusalKind::Denied(_) => {
                write!(f, "{INCONCLUSIVE} for {resource}, since {A_READ_IS_DENIED}: {what}")
            }
            RefusalKind::Unseen => write!(f, "{INCONCLUSIVE} for {resource}: {what}"),
            RefusalKind::Silent => write!(f, "{INCONCLUSIVE} for {resource}, since {NO_USABLE_ANSWER}: {what}"),
        }
    }
}

impl ServerCheck {
    /// Loads what the job has found out before, and records what it finds out from now on. The caller must act on a
    /// recorded refusal.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn of_job(journal: &Journal, job: i64) -> Result<Self, JournalError> {
        let mut check = Self { record: Some((journal.clone(), job)), ..Self::default() };
        for ServerVerdict { scope, trust } in journal.server_verdicts(job)? {
            match trust {
                ServerTrust::Proven => {
                    check.has_written = AtomicBool::new(true);
                    locked_mut(&mut check.proven).insert(scope, 0);
                }
                ServerTrust::Unconfirmed(write) => {
                    locked_mut(&mut check.unconfirmed).insert(scope, write);
                }
                ServerTrust::Refused(_) => {}
            }
        }
        Ok(check)
    }

    /// Returns whether the check has failed, so that nothing more may be sent.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn is_proven(&self, scope: &TrustScope) -> bool {
        locked(&self.proven).contains_key(scope)
    }

    /// Returns whether any request about this aspect in this bucket has been proven.
    fn knows(&self, bucket: &Bucket, aspect: Aspect) -> bool {
        locked(&self.proven).keys().any(|scope| (&scope.bucket, scope.aspect) == (bucket, aspect))
    }

    /// Discards all proofs: the next write of each scope is checked again.
    pub fn forget(&self) {
        locked(&self.proven).clear();
    }

    /// Marks a scope as passed by the read checks, so that they are not repeated before each first write that fails.
    fn has_read(&self, scope: &TrustScope) {
        let mut read = locked(&self.read);
        if read.len() >= MAX_SERVER_CHECKS as usize {
            read.clear();
        }
        read.insert(scope.clone());
    }

    async fn prove(&self, scope: TrustScope) -> Result<(), Halt> {
        self.record(&scope, ServerTrust::Proven).await?;
        let mut proven = locked(&self.proven);
        if proven.len() >= MAX_SERVER_CHECKS as usize {
            // A job with more scopes than this proves some of them again.
            proven.clear();
        }
        self.has_written.store(true, Ordering::Relaxed);
        locked(&self.doubted).remove(&scope);
        // Counts the first write, which was checked.
        proven.insert(scope, 1);
        Ok(())
    }

    /// Notes in the failure whether other writes have succeeded before.
    fn with_others(&self, refusal: ServerRefusal) -> ServerRefusal {
        ServerRefusal { others_written: self.has_written.load(Ordering::Relaxed), ..refusal }
    }

    /// The failure after a write that showed that the server is not to be trusted.
    fn refusal_of_write(&self, object: &ObjectId, aspect: Aspect, kind: RefusalKind, what: String) -> ServerRefusal {
        let refusal = ServerRefusal { after_write: true, ..ServerRefusal::of_read(object, aspect, kind, what) };
        self.with_others(refusal)
    }

    /// Fails the check: nothing more is sent, even if recording fails.
    async fn refuse(&self, refusal: &ServerRefusal) -> Result<(), Halt> {
        self.refused.store(true, Ordering::Relaxed);
        let (bucket, aspect) = (refusal.object.bucket.clone(), refusal.aspect);
        if refusal.after_write {
            let scope = TrustScope { bucket, aspect, deletes: false, of_version: refusal.object.version.is_some() };
            return self.record(&scope, ServerTrust::Refused(refusal.to_string())).await;
        }
        let is_about = |scope: &TrustScope, _: &mut u64| (&scope.bucket, scope.aspect) == (&bucket, aspect);
        let shaken: Vec<_> = locked(&self.proven).extract_if(is_about).collect();
        for (scope, _) in &shaken {
            self.clear(scope).await?;
        }
        Ok(())
    }

    /// Revokes a scope's proof: its next write is sent alone and checked like the first.
    async fn unprove(&self, scope: &TrustScope) -> Result<(), Halt> {
        locked(&self.proven).remove(scope);
        locked(&self.read).remove(scope);
        self.clear(scope).await
    }

    /// Revokes a scope's proof because an object's content has changed. Returns whether that had already happened
    /// since the last proof.
    async fn doubt(&self, scope: &TrustScope) -> Result<bool, Halt> {
        let first = locked(&self.doubted).insert(scope.clone());
        self.unprove(scope).await?;
        Ok(!first)
    }

    /// Returns whether first writes of an earlier run are still to be checked.
    fn has_unconfirmed(&self) -> bool {
        !locked(&self.unconfirmed).is_empty()
    }

    async fn record(&self, scope: &TrustScope, trust: ServerTrust) -> Result<(), Halt> {
        let Some((journal, job)) = &self.record else { return Ok(()) };
        let verdict = ServerVerdict { scope: scope.clone(), trust };
        journal.record_server(*job, verdict, Timestamp::now()).await.map_err(|error| unrecorded(&error))
    }

    /// Pushes what was recorded to the remote state, if there is one: another machine must know about the write.
    async fn secure(&self) -> Result<(), Halt> {
        let Some((journal, _)) = &self.record else { return Ok(()) };
        journal.secure().await.map_err(|error| unrecorded(&error))
    }

    async fn clear(&self, scope: &TrustScope) -> Result<(), Halt> {
        let Some((journal, job)) = &self.record else { return Ok(()) };
        journal.forget_server(*job, scope.clone()).await.map_err(|error| unrecorded(&error))
    }
}

fn unrecorded(error: &JournalError) -> Halt {
    Halt::Unrecorded(error.to_string())
}

impl ServerRefusal {
    /// The failure of a check before anything was written.
    fn of_read(object: &ObjectId, aspect: Aspect, kind: RefusalKind, what: String) -> Self {
        Self { object: object.clone(), aspect, kind, what, after_write: false, others_written: false }
    }

    /// The result for an object that was not written, or whose write has an unknown result.
    fn without_outcome(self) -> Untrusted {
        Untrusted { refusal: self, failure: None }
    }
}

/// Returns the header of an object itself that an answer about its tags or ACL should not have.
fn telltale(call: &Call, headers: ObjectHeaders) -> Option<ObjectHeader> {
    let signs: &[ObjectHeader] = match call {
        Call::GetTags | Call::GetAcl => &[ObjectHeader::ETag, ObjectHeader::LastModified],
        Call::PutTags(_) | Call::PutAcl(_) => &[ObjectHeader::ETag],
        Call::DeleteTags => &[ObjectHeader::DeleteMarker],
        Call::Restore(_) | Call::Head => &[],
    };
    signs.iter().copied().find(|header| headers.has(*header))
}

/// The guarded values are consistent at every moment, so a poisoned lock is harmless.
fn locked<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locked_mut<T>(kept: &mut Mutex<T>) -> &mut T {
    kept.get_mut().unwrap_or_else(PoisonError::into_inner)
}
