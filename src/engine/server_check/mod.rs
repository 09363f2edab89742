//! Whether a server means what is meant: that it takes a request about an object's tags, ACL or restore for one about those,
//! and not for one about the object itself.
//!
//! A server that does not know a sub-resource may ignore it. `PUT key?tagging` then replaces the object's content, and
//! `DELETE key?tagging` deletes the object, with a success each time. So a server is trusted with the requests of a scope (a bucket, an
//! aspect of its objects, whether they delete it, whether they name a version) only once it has shown three things:
//!
//! - the sub-resource of an object that exists is that document, without the headers of an object (`reads`);
//! - the sub-resource of a key that was invented is no success (`reads`);
//! - the first write, sent while no other unproven one is in flight, leaves content and length as they were, and reads back as
//!   it was sent (`writes`).
//!
//! Later answers are looked at as well: the headers of an object where none should be end the job. And some of the later
//! writes are: HEAD before and after shows whether the content stayed (`samples`).

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

/// How far a job's server has proven itself. Shared by all that work on the job.
#[derive(Debug, Default)]
pub struct ServerCheck {
    /// Scopes that have proven themselves, and how many writes each has seen since.
    proven: Mutex<HashMap<TrustScope, u64>>,
    /// Scopes in which the content of an object changed while it was written, until they prove themselves again.
    doubted: Mutex<HashSet<TrustScope>>,
    /// How many samples in a row could not be looked at.
    unseen: AtomicU32,
    /// What was proven by reading, as far as that goes.
    read: Mutex<HashSet<TrustScope>>,
    /// Writes of an earlier run of which nobody knows what came.
    unconfirmed: Mutex<HashMap<TrustScope, FirstWrite>>,
    /// Held by whoever sends a write to a server that has not proven itself.
    turn: tokio::sync::Mutex<()>,
    refused: AtomicBool,
    /// Whether a write of this job has proven a scope, so that others followed it.
    has_written: AtomicBool,
    /// Whether the manifest names objects that are missing.
    some_missing: AtomicBool,
    /// How many first writes in a row failed because the server gave no usable answer.
    unanswered: AtomicU32,
    /// The journal and the job's number, where it is to be remembered.
    record: Option<(Journal, i64)>,
}

/// Why a server is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRefusal {
    /// The object that it was seen with.
    pub object: ObjectId,
    /// The aspect.
    pub aspect: Aspect,
    /// What is wrong with it.
    pub kind: RefusalKind,
    /// What the server did, as a sentence without its end.
    pub what: String,
    /// Whether a request that writes was carried out: to try again may cost one more object.
    pub after_write: bool,
    /// Whether other writes had succeeded before: they may have harmed their objects as well.
    pub others_written: bool,
}

/// The code under which an object stands in the report whose write ended the trust.
pub const SERVER_CHECK_FAILED: &str = "ServerCheckFailed";

/// The code under which an object stands in the report that is as it was, although the server said that it wrote it.
pub const NOT_KEPT: &str = "WriteNotKept";

/// The code under which an object stands in the report whose content changed while it was written.
pub const CONTENT_CHANGED: &str = "ContentChanged";

/// How a refusal begins where nothing was found to be wrong, because the check could not be made.
pub const INCONCLUSIVE: &str = "the server check could not be made";

/// What a refusal says where the object itself is as it was.
pub const KEEPS_NOTHING: &str = "does not keep what it is sent";

/// What a refusal says where a permission is missing for the check.
pub const A_READ_IS_DENIED: &str = "a read is denied";

/// What a refusal says where the server fails.
pub const NO_USABLE_ANSWER: &str = "the server gives no usable answer";

/// What is wrong with a server that is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// It takes a request about the aspect for one about the object itself.
    TakesForObject,
    /// It says that it has done what was asked for, and has not.
    NotKept,
    /// It says that it does not know the request.
    Unsupported,
    /// This read, which the check needs, is denied.
    Denied(Call),
    /// What a look brought does not suffice.
    Unseen,
    /// It gives no usable answer.
    Silent,
}

impl RefusalKind {
    /// What it is called in JSON.
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
    /// A check that goes on with what a job has found out before, and records what it finds out. A refusal among that is for
    /// the caller to obey.
    ///
    /// # Errors
    /// When the journal cannot be read.
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

    /// Whether nothing more may be sent.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn is_proven(&self, scope: &TrustScope) -> bool {
        locked(&self.proven).contains_key(scope)
    }

    /// Whether it has proven itself with any request about this aspect in this bucket.
    fn knows(&self, bucket: &Bucket, aspect: Aspect) -> bool {
        locked(&self.proven).keys().any(|scope| (&scope.bucket, scope.aspect) == (bucket, aspect))
    }

    /// Has the next write of each bucket and aspect checked again.
    pub fn forget(&self) {
        locked(&self.proven).clear();
    }

    /// Notes that reading has shown what it can, so that it is not repeated before each first write that fails.
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
            // A job of more buckets proves some of them again.
            proven.clear();
        }
        self.has_written.store(true, Ordering::Relaxed);
        locked(&self.doubted).remove(&scope);
        // The first write was looked at.
        proven.insert(scope, 1);
        Ok(())
    }

    /// Where writes have succeeded before, whatever it was seen by.
    fn with_others(&self, refusal: ServerRefusal) -> ServerRefusal {
        ServerRefusal { others_written: self.has_written.load(Ordering::Relaxed), ..refusal }
    }

    /// After a write that has shown that the server is not to be trusted.
    fn refusal_of_write(&self, object: &ObjectId, aspect: Aspect, kind: RefusalKind, what: String) -> ServerRefusal {
        let refusal = ServerRefusal { after_write: true, ..ServerRefusal::of_read(object, aspect, kind, what) };
        self.with_others(refusal)
    }

    /// Ends the trust: whatever is recorded, nothing more is sent.
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

    /// Has the next write of this scope sent alone and looked at, like the first.
    async fn unprove(&self, scope: &TrustScope) -> Result<(), Halt> {
        locked(&self.proven).remove(scope);
        locked(&self.read).remove(scope);
        self.clear(scope).await
    }

    /// The same, where a content has changed. Whether another one had since the scope has proven itself.
    async fn doubt(&self, scope: &TrustScope) -> Result<bool, Halt> {
        let first = locked(&self.doubted).insert(scope.clone());
        self.unprove(scope).await?;
        Ok(!first)
    }

    /// Whether first writes of an earlier run are still to be looked at.
    fn has_unconfirmed(&self) -> bool {
        !locked(&self.unconfirmed).is_empty()
    }

    async fn record(&self, scope: &TrustScope, trust: ServerTrust) -> Result<(), Halt> {
        let Some((journal, job)) = &self.record else { return Ok(()) };
        let verdict = ServerVerdict { scope: scope.clone(), trust };
        journal.record_server(*job, verdict, Timestamp::now()).await.map_err(|error| unrecorded(&error))
    }

    /// Has what was recorded kept elsewhere as well, where the state is: the next machine must know of the write.
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
    /// Before anything was written.
    fn of_read(object: &ObjectId, aspect: Aspect, kind: RefusalKind, what: String) -> Self {
        Self { object: object.clone(), aspect, kind, what, after_write: false, others_written: false }
    }

    /// Of an object that was not written, or of which nobody knows.
    fn without_outcome(self) -> Untrusted {
        Untrusted { refusal: self, failure: None }
    }
}

/// The header of an object itself that an answer about its tags or ACL has and should not have.
fn telltale(call: &Call, headers: ObjectHeaders) -> Option<ObjectHeader> {
    let signs: &[ObjectHeader] = match call {
        Call::GetTags | Call::GetAcl => &[ObjectHeader::ETag, ObjectHeader::LastModified],
        Call::PutTags(_) | Call::PutAcl(_) => &[ObjectHeader::ETag],
        Call::DeleteTags => &[ObjectHeader::DeleteMarker],
        Call::Restore(_) | Call::Head => &[],
    };
    signs.iter().copied().find(|header| headers.has(*header))
}

/// What is kept is whole at every moment, so that a poisoned lock is as good.
fn locked<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locked_mut<T>(kept: &mut Mutex<T>) -> &mut T {
    kept.get_mut().unwrap_or_else(PoisonError::into_inner)
}
