//! Checks that a server handles a request about an object's tags, ACL or restore as such, and not as a request about
//! the object itself.
//!
//! A server that does not know a sub-resource may ignore it. `PUT key?tagging` then replaces the object's content,
//! and `DELETE key?tagging` deletes the object, each time with a success status. A scope is a bucket, an aspect of
//! its objects, whether the request deletes the aspect, and whether it names a version. The server is trusted with
//! the requests of a scope only after it has shown three things:
//!
//! - The sub-resource of an existing object is that document, without the headers of an object (`read_check`).
//! - A request for the sub-resource of an invented key fails (`read_check`).
//! - The first write, sent while no other unproven write is in flight, leaves content and length unchanged and reads
//!   back as it was sent (`write_check`).
//!
//! Later answers are checked as well: an object's headers in an answer that should not have them end the job. Some of
//! the later writes are sampled: HEAD before and after shows whether the content stayed the same (`write_check`).
//!
//! This file holds what was found out about a server, why one is not trusted, and what both checks share. A job whose
//! server is not trusted is paused by `jobs/runner`.

mod read_check;
mod write_check;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use batchplan_store::Mutex;
use batchplan_store::object::{BucketName, ObjectId};
use batchplan_store::object_request::{ContentIdentity, ObjectHeader, ObjectHeaderSet, ObjectRequest};
use batchplan_store::task::{StoreError, TaskFailure};
use jiff::Timestamp;
use tracing::{info, warn};

use crate::journal::{FirstWrite, Journal, JournalError, MAX_SERVER_CHECKS, ServerTrust, ServerVerdict, TrustScope};
use crate::operation::ObjectAspect;

pub use read_check::ReadCheckOutcome;

/// What a job's server has proven so far. Shared by all workers of the job.
#[derive(Debug, Default)]
pub struct ServerCheck {
    /// The proven scopes, and the number of writes to each since its proof.
    proven: Mutex<HashMap<TrustScope, u64>>,
    /// Scopes in which an object's content changed during its write, until they are proven again.
    doubted: Mutex<HashSet<TrustScope>>,
    /// The number of consecutive samples that could not be checked.
    failed_samples: AtomicU32,
    /// Scopes that passed the read checks.
    read_proven: Mutex<HashSet<TrustScope>>,
    /// First writes of an earlier run whose result is unknown.
    unconfirmed: Mutex<HashMap<TrustScope, FirstWrite>>,
    /// Held while a write is sent to a server that has not proven itself.
    first_write_lock: tokio::sync::Mutex<()>,
    failed: AtomicBool,
    /// Whether a write of this job has proven a scope, so that other writes followed.
    proven_by_write: AtomicBool,
    /// Whether the manifest names missing objects.
    has_missing_objects: AtomicBool,
    /// The number of consecutive first writes that failed because the server gave no usable answer.
    unanswered_writes: AtomicU32,
    /// The journal and the job's number, if the results are recorded.
    recorded_in: Option<(Journal, i64)>,
}

/// Why a server is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCheckFailure {
    /// The object that revealed the problem.
    pub object: ObjectId,
    /// The aspect that the request was about.
    pub aspect: ObjectAspect,
    /// What kind of problem it is.
    pub kind: ServerCheckFailureKind,
    /// What the server did, as a sentence without a final period.
    pub description: String,
    /// Whether a write was carried out. Trying again may then damage one more object.
    pub after_write: bool,
    /// Whether other writes had succeeded before. They may have damaged their objects as well.
    pub others_written: bool,
}

/// A server that failed the server check, and the outcome of the object that revealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntrustedServer {
    /// What the server did wrong.
    pub check_failure: ServerCheckFailure,
    /// The object's outcome, if a write was sent for it.
    pub object_failure: Option<TaskFailure>,
}

/// The report's error code of an object whose write failed the server check.
pub const SERVER_CHECK_FAILED: &str = "ServerCheckFailed";

/// The report's error code of an object that is unchanged although the server reported a successful write.
pub const WRITE_NOT_KEPT: &str = "WriteNotKept";

/// The report's error code of an object whose content changed during its write.
pub const CONTENT_CHANGED: &str = "ContentChanged";

/// The start of the message if nothing was found to be wrong but the check could not be completed.
pub const INCONCLUSIVE: &str = "the server check could not be completed";

/// The message if a write was not stored and the object itself is unchanged.
pub const WRITE_NOT_STORED: &str = "does not store changes";

/// The message if a permission for the check is missing.
pub const READ_DENIED: &str = "a read was denied";

/// The message if the server gives no usable answer.
pub const NO_USABLE_ANSWER: &str = "the server gave no usable response";

/// The wordings of these messages that earlier versions stored in pause reasons.
const EARLIER_WORDINGS: [(&str, &str); 4] = [
    (INCONCLUSIVE, "the server check could not be made"),
    (WRITE_NOT_STORED, "does not keep what it is sent"),
    (READ_DENIED, "a read is denied"),
    (NO_USABLE_ANSWER, "the server gives no usable answer"),
];

/// Returns whether a pause reason contains one of these messages, in the wording of this version or of an earlier one.
#[must_use]
pub fn reason_says(reason: &str, message: &str) -> bool {
    let earlier = EARLIER_WORDINGS.iter().filter(|(now, _)| *now == message).map(|(_, earlier)| *earlier);
    std::iter::once(message).chain(earlier).any(|wording| reason.contains(wording))
}

/// What is wrong with a server that is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCheckFailureKind {
    /// The server applies a request about the aspect to the object itself.
    AppliedToObject,
    /// The server reports success but did not store the change.
    WriteNotStored,
    /// The server says that it does not know the request.
    Unsupported,
    /// This read, which the check needs, is denied.
    Denied(ObjectRequest),
    /// HEAD or a read did not show enough to decide.
    NotVerifiable,
    /// The server gives no usable answer.
    NoUsableAnswer,
}

impl ServerCheckFailureKind {
    /// Returns the name used in JSON output.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AppliedToObject => "takes_for_object",
            Self::WriteNotStored => "not_kept",
            Self::Unsupported => "unsupported",
            Self::Denied(_) => "denied",
            Self::NotVerifiable => "unseen",
            Self::NoUsableAnswer => "silent",
        }
    }
}

impl fmt::Display for ServerCheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, what) = (self.aspect.sub_resource(), &self.description);
        match self.kind {
            ServerCheckFailureKind::AppliedToObject => {
                write!(f, "this server treats {resource} requests as requests for the object itself: {what}")
            }
            ServerCheckFailureKind::WriteNotStored => {
                write!(f, "this server {WRITE_NOT_STORED} made with {resource}: {what}")
            }
            ServerCheckFailureKind::Unsupported => write!(f, "this server does not support {resource}: {what}"),
            ServerCheckFailureKind::Denied(_) => {
                write!(f, "{INCONCLUSIVE} for {resource}, because {READ_DENIED}: {what}")
            }
            ServerCheckFailureKind::NotVerifiable => write!(f, "{INCONCLUSIVE} for {resource}: {what}"),
            ServerCheckFailureKind::NoUsableAnswer => {
                write!(f, "{INCONCLUSIVE} for {resource}, because {NO_USABLE_ANSWER}: {what}")
            }
        }
    }
}

/// The result of HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ContentProbe {
    Present { mark: ContentIdentity, restore: bool },
    Missing(Box<StoreError>),
}

/// How a change of an object's content can be detected.
enum ContentBaseline {
    Mark(ContentIdentity),
    /// The object does not exist.
    Missing(Box<StoreError>),
    /// A change could not be detected.
    ServerFailed(Box<ServerCheckFailure>),
}

impl ServerCheck {
    /// Loads what the job has found out before, and records what it finds out from now on. The caller must act on a
    /// recorded refusal.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn load(journal: &Journal, job: i64) -> Result<Self, JournalError> {
        let mut check = Self { recorded_in: Some((journal.clone(), job)), ..Self::default() };
        for ServerVerdict { scope, trust } in journal.server_verdicts(job)? {
            match trust {
                ServerTrust::Proven => {
                    check.proven_by_write = AtomicBool::new(true);
                    check.proven.get_mut().insert(scope, 0);
                }
                ServerTrust::Unconfirmed(write) => {
                    check.unconfirmed.get_mut().insert(scope, write);
                }
                ServerTrust::Refused(_) => {}
            }
        }
        Ok(check)
    }

    /// Returns whether the check has failed, so that nothing more may be sent.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn is_proven(&self, scope: &TrustScope) -> bool {
        self.proven.lock().contains_key(scope)
    }

    /// Returns whether any request about this aspect in this bucket has been proven.
    fn is_aspect_proven(&self, bucket: &BucketName, aspect: ObjectAspect) -> bool {
        self.proven.lock().keys().any(|scope| (&scope.bucket, scope.aspect) == (bucket, aspect))
    }

    /// Discards all proofs: the next write of each scope is checked again.
    pub fn reset(&self) {
        self.proven.lock().clear();
    }

    /// Marks a scope as passed by the read checks, so that they are not repeated before each first write that fails.
    fn mark_read_proven(&self, scope: &TrustScope) {
        let mut read = self.read_proven.lock();
        if read.len() >= MAX_SERVER_CHECKS as usize {
            read.clear();
        }
        read.insert(scope.clone());
    }

    async fn mark_proven(&self, scope: TrustScope) -> Result<(), JournalError> {
        self.record_trust(&scope, ServerTrust::Proven).await?;
        info!(
            bucket = %scope.bucket,
            aspect = scope.aspect.as_str(),
            deletes = scope.deletes,
            of_version = scope.of_version,
            "server check passed"
        );
        let mut proven = self.proven.lock();
        if proven.len() >= MAX_SERVER_CHECKS as usize {
            // A job with more scopes than this proves some of them again.
            proven.clear();
        }
        self.proven_by_write.store(true, Ordering::Relaxed);
        self.doubted.lock().remove(&scope);
        // Counts the first write, which was checked.
        proven.insert(scope, 1);
        Ok(())
    }

    /// Notes in the failure whether other writes have succeeded before.
    fn with_others_written(&self, refusal: ServerCheckFailure) -> ServerCheckFailure {
        ServerCheckFailure { others_written: self.proven_by_write.load(Ordering::Relaxed), ..refusal }
    }

    /// The failure after a write that showed that the server is not to be trusted.
    fn failure_of_write(
        &self,
        object: &ObjectId,
        aspect: ObjectAspect,
        kind: ServerCheckFailureKind,
        what: String,
    ) -> ServerCheckFailure {
        let refusal =
            ServerCheckFailure { after_write: true, ..ServerCheckFailure::before_write(object, aspect, kind, what) };
        self.with_others_written(refusal)
    }

    /// Fails the check: nothing more is sent, even if recording fails.
    async fn fail(&self, refusal: &ServerCheckFailure) -> Result<(), JournalError> {
        self.failed.store(true, Ordering::Relaxed);
        warn!(error = %refusal, after_write = refusal.after_write, "server check failed");
        let (bucket, aspect) = (refusal.object.bucket.clone(), refusal.aspect);
        if refusal.after_write {
            let scope = TrustScope { bucket, aspect, deletes: false, of_version: refusal.object.version.is_some() };
            return self.record_trust(&scope, ServerTrust::Refused(refusal.to_string())).await;
        }
        let is_about = |scope: &TrustScope, _: &mut u64| (&scope.bucket, scope.aspect) == (&bucket, aspect);
        let shaken: Vec<_> = self.proven.lock().extract_if(is_about).collect();
        for (scope, _) in &shaken {
            self.forget_scope(scope).await?;
        }
        Ok(())
    }

    /// Revokes a scope's proof: its next write is sent alone and checked like the first.
    async fn revoke_proof(&self, scope: &TrustScope) -> Result<(), JournalError> {
        info!(bucket = %scope.bucket, aspect = scope.aspect.as_str(), "server check will be repeated");
        self.proven.lock().remove(scope);
        self.read_proven.lock().remove(scope);
        self.forget_scope(scope).await
    }

    /// Revokes a scope's proof because an object's content has changed. Returns whether that had already happened
    /// since the last proof.
    async fn revoke_after_change(&self, scope: &TrustScope) -> Result<bool, JournalError> {
        let first = self.doubted.lock().insert(scope.clone());
        self.revoke_proof(scope).await?;
        Ok(!first)
    }

    /// Returns whether first writes of an earlier run are still to be checked.
    fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.lock().is_empty()
    }

    async fn record_trust(&self, scope: &TrustScope, trust: ServerTrust) -> Result<(), JournalError> {
        let Some((journal, job)) = &self.recorded_in else { return Ok(()) };
        let verdict = ServerVerdict { scope: scope.clone(), trust };
        journal.record_server_verdict(*job, verdict, Timestamp::now()).await
    }

    /// Pushes what was recorded to the remote state, if there is one: another machine must know about the write.
    async fn push_backup(&self) -> Result<(), JournalError> {
        let Some((journal, _)) = &self.recorded_in else { return Ok(()) };
        journal.push_backup().await
    }

    async fn forget_scope(&self, scope: &TrustScope) -> Result<(), JournalError> {
        let Some((journal, job)) = &self.recorded_in else { return Ok(()) };
        journal.forget_server_verdict(*job, scope.clone()).await
    }
}

impl ServerCheckFailure {
    /// The failure of a check before anything was written.
    fn before_write(
        object: &ObjectId,
        aspect: ObjectAspect,
        kind: ServerCheckFailureKind,
        description: String,
    ) -> Self {
        Self { object: object.clone(), aspect, kind, description, after_write: false, others_written: false }
    }

    /// The result for an object that was not written, or whose write has an unknown result.
    fn without_outcome(self) -> UntrustedServer {
        UntrustedServer { check_failure: self, object_failure: None }
    }
}

/// Returns the header of an object itself that an answer about its tags or ACL should not have.
fn object_header(call: &ObjectRequest, headers: ObjectHeaderSet) -> Option<ObjectHeader> {
    let signs: &[ObjectHeader] = match call.method_and_subresource() {
        (_, "") => &[],
        ("GET", _) => &[ObjectHeader::ETag, ObjectHeader::LastModified],
        ("PUT", _) => &[ObjectHeader::ETag],
        ("DELETE", _) => &[ObjectHeader::DeleteMarker],
        // The answer to a restore may have any header.
        _ => &[],
    };
    signs.iter().copied().find(|header| headers.contains(*header))
}

/// Returns whether the server says that it does not know the request at all.
fn is_unknown_to_server(fault: &StoreError) -> bool {
    fault.status == Some(501) || (fault.code == "NotImplemented" && fault.status.is_some())
}
