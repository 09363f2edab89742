//! The first write to a server: sent alone and checked from all sides.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::verdict::{Says, difference, named_missing, verdict};
use super::{NOT_KEPT, ReadCheck, RefusalKind, SERVER_CHECK_FAILED, ServerCheck, ServerRefusal, locked, telltale};
use crate::call::{Call, ContentMark, Learned, ObjectHeader, Reply};
use crate::engine::worker::{Halt, Untrusted, Visit, Worker, failed};
use crate::journal::{FirstWrite, ServerTrust, TrustScope};
use crate::operation::{Aspect, Step};
use crate::task::{Failure, Fault, FaultClass};
use crate::timeouts::scaled;

/// The waits before a write is read back again: some stores show it only after a delay.
const AGAIN_AFTER: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

/// The number of consecutive objects without a usable answer after which the job pauses.
const MOST_UNANSWERED: u32 = 3;

/// The result of HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    There { mark: ContentMark, restore: bool },
    Gone(Box<Fault>),
}

/// The result of HEAD after a write.
#[must_use]
struct LookAfter {
    /// Whether HEAD shows a restore.
    restore: bool,
    /// A description of the change, if the content differs but has the same length.
    changed: Option<String>,
}

/// How a change of an object's content can be detected.
pub(super) enum Marked {
    By(ContentMark),
    /// The object does not exist.
    Gone(Box<Fault>),
    /// A change could not be detected.
    Refused(Box<ServerRefusal>),
}

impl Worker {
    /// Sends a write. If the server has not proven itself yet, the write is sent alone, and other writes to the
    /// server wait for its result.
    pub(in crate::engine) async fn write(
        &self,
        visit: &Visit<'_>,
        step: &Step,
        asked_before: bool,
    ) -> Result<Reply, Halt> {
        // Before anything is recorded: if the job's own restore already holds, nothing is written.
        if let (Call::Restore(request), Some(since), true) = (&step.call, self.asked_since, asked_before)
            && let Some(reply) = self.holds_already(visit, step, *request, since).await?
        {
            return Ok(reply);
        }
        let (Some(check), Some(aspect)) = (&self.check, Aspect::of(&step.call)) else {
            return self.send_write(visit, step, asked_before).await;
        };
        let scope = TrustScope {
            bucket: visit.object.bucket.clone(),
            aspect,
            deletes: step.call == Call::DeleteTags,
            of_version: visit.object.version.is_some(),
        };
        if !check.is_proven(&scope) || check.has_unconfirmed() {
            self.skip_missing(check, visit, step).await?;
            let turn = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Halt::Stopped),
                turn = check.turn.lock() => turn,
            };
            // Writes that waited meanwhile check nothing more.
            if check.is_refused() {
                return Err(Halt::Stopped);
            }
            // Check what an earlier run may have done before this run writes.
            self.confirm_all(check).await?;
            if !check.is_proven(&scope) {
                let first = Box::pin(self.first_write(check, &scope, visit, step, asked_before)).await;
                let first = self.answered_at_all(check, visit, step, first).await;
                drop(turn);
                return first;
            }
        }
        let reply = self.later_write(check, &scope, visit, step, asked_before).await?;
        let Some(header) = telltale(&step.call, reply.headers) else { return Ok(reply) };
        let asked = self.store.request_url(visit.object, &step.call);
        let what = format!(
            "{asked} was answered with the header {}, as a request about the object itself is",
            header.as_str()
        );
        self.refused(check, visit, step, Some(reply.status), (RefusalKind::TakesForObject, what)).await
    }

    /// If the manifest names missing objects, looks for this one before it waits its turn: a million missing objects
    /// need not wait for each other.
    async fn skip_missing(&self, check: &ServerCheck, visit: &Visit<'_>, step: &Step) -> Result<(), Halt> {
        if !check.some_missing.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.content(visit, step).await {
            Ok(Content::Gone(fault)) => Err(self.missing(check, visit, step, *fault).await),
            Err(Halt::Stopped) => Err(Halt::Stopped),
            // The check meets any other error as well and interprets it.
            _ => Ok(()),
        }
    }

    /// Stops a job whose server gives no usable answer to several first writes. Sent one at a time, each with all its
    /// retries, its objects would fail for hours.
    async fn answered_at_all(
        &self,
        check: &ServerCheck,
        visit: &Visit<'_>,
        step: &Step,
        first: Result<Reply, Halt>,
    ) -> Result<Reply, Halt> {
        let failure = match first {
            Err(Halt::Failed(failure)) if failure.fault.class.may_pass() => failure,
            first => {
                check.unanswered.store(0, Ordering::Relaxed);
                return first;
            }
        };
        let objects = check.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
        if objects < MOST_UNANSWERED {
            return Err(Halt::Failed(failure));
        }
        let what = format!("requests about {objects} objects in a row failed, the last with {}", failure.fault);
        let refusal = ServerRefusal::of_read(visit.object, aspect_of(step), RefusalKind::Silent, what);
        check.refuse(&refusal).await?;
        Err(Halt::Untrusted(Box::new(Untrusted { refusal, failure: Some(*failure) })))
    }

    async fn first_write(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &Visit<'_>,
        step: &Step,
        asked_before: bool,
    ) -> Result<Reply, Halt> {
        let before = self.before(check, scope, visit, step).await?;
        if self.stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let write = FirstWrite { object: visit.object.clone(), before: before.clone() };
        check.record(scope, ServerTrust::Unconfirmed(write)).await?;
        check.secure().await?;
        let reply = match self.send_write(visit, step, asked_before).await {
            Ok(reply) => reply,
            Err(Halt::Failed(failure)) => {
                return self.write_refused(check, scope, visit, step, &before, *failure).await;
            }
            // An earlier attempt may have arrived: the next run checks.
            Err(halt) => return Err(halt),
        };
        let mut changed = None;
        if scope.aspect != Aspect::Restoration {
            changed = self.look_after(check, visit, step, &before, Some(reply.status)).await?.changed;
        }
        if let Some(header) = telltale(&step.call, reply.headers) {
            let asked = self.store.request_url(visit.object, &step.call);
            let header = header.as_str();
            let what =
                format!("{asked} was answered with the header {header}, as a request about the object itself is");
            return self.refused(check, visit, step, Some(reply.status), (RefusalKind::TakesForObject, what)).await;
        }
        let read = self.reads_back(check, visit, step, &before, reply.status).await?;
        if changed.is_some() {
            self.changes_once(check, visit, step).await?;
        }
        let sent = self.store.body_mark(&step.call);
        if sent.size > Some(0) && before.is_same_content(&sent) {
            let asked = self.store.request_url(visit.object, &step.call);
            let what = format!(
                "the content of {} is just what {asked} sends, so that an earlier request has taken its place",
                visit.object
            );
            return self.refused(check, visit, step, Some(reply.status), (RefusalKind::TakesForObject, what)).await;
        }
        if before.is_as_long_as(&sent) || (read.is_some() && read == before.size) {
            // The object's content may be the very document that was sent or read. This write proves nothing, and the
            // next one is sent alone.
            check.clear(scope).await?;
        } else {
            check.prove(scope.clone()).await?;
        }
        Ok(reply)
    }

    /// Returns the content before the first write. Fails the check if reading shows that the server is not to be
    /// trusted, or if a change of content could not be detected.
    async fn before(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &Visit<'_>,
        step: &Step,
    ) -> Result<ContentMark, Halt> {
        if !locked(&check.read).contains(scope) {
            match self.prove_reads(visit, scope.aspect, &step.operation).await? {
                ReadCheck::Proven => check.has_read(scope),
                ReadCheck::Absent(fault) => {
                    check.some_missing.store(true, Ordering::Relaxed);
                    return Err(failed(&step.operation, *fault));
                }
                ReadCheck::Failed(fault) => return Err(failed(&step.operation, *fault)),
                ReadCheck::Credentials(fault) => return Err(Halt::Refused(fault)),
                ReadCheck::Refused(refusal) => return self.distrust(check, *refusal).await,
                ReadCheck::Stopped => return Err(Halt::Stopped),
            }
        }
        match self.mark(visit, scope.aspect, step).await? {
            Marked::By(mark) => Ok(mark),
            Marked::Gone(fault) => {
                check.some_missing.store(true, Ordering::Relaxed);
                Err(self.missing(check, visit, step, *fault).await)
            }
            Marked::Refused(refusal) => self.distrust(check, *refusal).await,
        }
    }

    /// Returns how a change of the object's content can be detected.
    pub(super) async fn mark(&self, visit: &Visit<'_>, aspect: Aspect, step: &Step) -> Result<Marked, Halt> {
        let asked = self.store.request_url(visit.object, &Call::Head);
        let (kind, what) = match self.content(visit, step).await {
            Ok(Content::There { mark: mark @ ContentMark { etag: Some(_), .. }, .. }) => return Ok(Marked::By(mark)),
            Ok(Content::There { .. }) => (
                RefusalKind::Unseen,
                format!("{asked} was answered without an ETag, by which contents could be told apart"),
            ),
            Ok(Content::Gone(fault)) => return Ok(Marked::Gone(fault)),
            Err(Halt::Failed(failure)) if failure.fault.status == Some(403) => {
                (RefusalKind::Denied(Call::Head), format!("{asked} was answered with {}", failure.fault))
            }
            // For example, an object encrypted with the owner's key: HEAD needs that key.
            Err(Halt::Failed(failure)) if failure.fault.class == FaultClass::Rejected => {
                (RefusalKind::Unseen, format!("{asked} was answered with {}", failure.fault))
            }
            Err(halt) => return Err(halt),
        };
        Ok(Marked::Refused(Box::new(ServerRefusal::of_read(visit.object, aspect, kind, what))))
    }

    /// Fails an object that HEAD does not find, with the error code of a request that returns one. If the object can
    /// be read although HEAD does not find it, no write could be checked, so the check fails.
    pub(super) async fn missing(&self, check: &ServerCheck, visit: &Visit<'_>, step: &Step, fault: Fault) -> Halt {
        let aspect = aspect_of(step);
        let Some(call) = aspect.read() else {
            return failed(&step.operation, named_missing(fault, visit.object));
        };
        if let Err(halt) = self.send(visit, &Step { call, operation: step.operation.clone() }).await {
            return halt;
        }
        // The object may have been created in the meantime.
        let again = match self.content(visit, step).await {
            Ok(Content::Gone(again)) => again,
            Ok(Content::There { .. }) => return failed(&step.operation, fault),
            Err(halt) => return halt,
        };
        let asked = self.store.request_url(visit.object, &Call::Head);
        let what = format!("{asked} was answered with {again}, although its {} can be read", aspect.resource());
        let refusal = ServerRefusal::of_read(visit.object, aspect, RefusalKind::Unseen, what);
        halted(check, refusal).await
    }

    /// Fails the check before anything was written, or if the result of a write is unknown.
    pub(super) async fn distrust<T>(&self, check: &ServerCheck, refusal: ServerRefusal) -> Result<T, Halt> {
        Err(halted(check, refusal).await)
    }

    /// Fails the check after a write. The object fails with a message that says what the server did.
    pub(super) async fn refused<T>(
        &self,
        check: &ServerCheck,
        visit: &Visit<'_>,
        step: &Step,
        status: Option<u16>,
        (kind, what): (RefusalKind, String),
    ) -> Result<T, Halt> {
        let refusal = check.refusal_of_write(visit.object, aspect_of(step), kind, what);
        let url = self.store.request_url(visit.object, &step.call);
        let code = if refusal.kind == RefusalKind::NotKept { NOT_KEPT } else { SERVER_CHECK_FAILED };
        let fault = Fault::unanswered(FaultClass::Rejected, code, &refusal.to_string(), url);
        let failure = Failure { operation: step.operation.clone(), fault: Fault { status, ..fault } };
        check.refuse(&refusal).await?;
        Err(Halt::Untrusted(Box::new(Untrusted { refusal, failure: Some(failure) })))
    }

    /// Sends HEAD once for the object's content.
    pub(super) async fn content(&self, visit: &Visit<'_>, step: &Step) -> Result<Content, Halt> {
        let head = Step { call: Call::Head, operation: step.operation.clone() };
        match self.send(visit, &head).await {
            Ok(Reply { learned: Learned::Head { content, .. }, headers, .. }) => {
                Ok(Content::There { mark: content, restore: headers.has(ObjectHeader::Restore) })
            }
            Ok(_) => Ok(Content::There { mark: ContentMark::default(), restore: false }),
            Err(Halt::Failed(failure)) if matches!(failure.fault.status, Some(404 | 405 | 410)) => {
                Ok(Content::Gone(Box::new(failure.fault)))
            }
            Err(halt) => Err(halt),
        }
    }

    /// Sends HEAD after the write and fails if the object has changed. Returns whether it shows a restore.
    async fn unharmed(
        &self,
        check: &ServerCheck,
        visit: &Visit<'_>,
        step: &Step,
        before: &ContentMark,
        status: Option<u16>,
    ) -> Result<bool, Halt> {
        match self.look_after(check, visit, step, before, status).await? {
            LookAfter { restore, changed: None } => Ok(restore),
            LookAfter { changed: Some(what), .. } => {
                self.refused(check, visit, step, status, (RefusalKind::TakesForObject, what)).await
            }
        }
    }

    /// Like `unharmed`, but a different content of the same length is only reported, because another client may have
    /// written the object in the meantime. A content as long as the request's body is the server's fault.
    async fn look_after(
        &self,
        check: &ServerCheck,
        visit: &Visit<'_>,
        step: &Step,
        before: &ContentMark,
        status: Option<u16>,
    ) -> Result<LookAfter, Halt> {
        let asked = self.store.request_url(visit.object, &step.call);
        let what = match self.content(visit, step).await {
            Ok(Content::There { mark, restore }) if mark.is_same_content(before) => {
                return Ok(LookAfter { restore, changed: None });
            }
            Ok(Content::There { mark, restore }) => {
                let what = format!("after {asked} HEAD says {mark}, and before it said {before}");
                let as_long = mark.etag.is_some() && mark.is_as_long_as(before);
                if as_long && !mark.is_as_long_as(&self.store.body_mark(&step.call)) {
                    return Ok(LookAfter { restore, changed: Some(what) });
                }
                what
            }
            Ok(Content::Gone(fault)) => format!("after {asked} HEAD says {fault}, and before it said {before}"),
            Err(Halt::Failed(failure)) => return self.unseen(check, visit, step, &failure.fault).await,
            Err(halt) => return Err(halt),
        };
        self.refused(check, visit, step, status, (RefusalKind::TakesForObject, what)).await
    }

    /// Repeats a first write on the same object after its content has changed. If it changes again, that is the
    /// server's fault.
    async fn changes_once(&self, check: &ServerCheck, visit: &Visit<'_>, step: &Step) -> Result<(), Halt> {
        let before = match self.mark(visit, aspect_of(step), step).await? {
            Marked::By(mark) => mark,
            Marked::Gone(fault) => return self.unseen(check, visit, step, &fault).await,
            Marked::Refused(refusal) => return self.distrust(check, *refusal).await,
        };
        let reply = self.send_write(visit, step, true).await?;
        let _ = self.unharmed(check, visit, step, &before, Some(reply.status)).await?;
        Ok(())
    }

    /// Fails the check because the result of the first write cannot be checked. The next run checks it before it
    /// sends anything.
    async fn unseen<T>(&self, check: &ServerCheck, visit: &Visit<'_>, step: &Step, fault: &Fault) -> Result<T, Halt> {
        let asked = self.store.request_url(visit.object, &step.call);
        let what = format!("the first write was sent ({asked}), and a look at what it has done failed: {fault}");
        let refusal = ServerRefusal::of_read(visit.object, aspect_of(step), RefusalKind::Unseen, what);
        self.distrust(check, refusal).await
    }

    /// Reads back what was written, repeatedly for a while if it differs, and fails the check if it still differs.
    /// Returns the length of the document, if there is one.
    async fn reads_back(
        &self,
        check: &ServerCheck,
        visit: &Visit<'_>,
        step: &Step,
        before: &ContentMark,
        status: u16,
    ) -> Result<Option<u64>, Halt> {
        let mut waits = AGAIN_AFTER.iter();
        loop {
            let found = if let Some(call) = aspect_of(step).read() {
                self.read_written(check, visit, step, call, status).await?
            } else if self.unharmed(check, visit, step, before, Some(status)).await? {
                Ok(None)
            } else {
                Err("HEAD shows no restore".to_owned())
            };
            let found = match found {
                Ok(size) => return Ok(size),
                Err(found) => found,
            };
            let Some(wait) = waits.next() else {
                let asked = self.store.request_url(visit.object, &step.call);
                let what =
                    format!("{asked} was answered with {status} and the object itself is as it was, but {found}");
                return self.refused(check, visit, step, Some(status), (RefusalKind::NotKept, what)).await;
            };
            tokio::time::sleep(scaled(*wait)).await;
        }
    }

    /// Reads back what was written: returns the length of its document, or a description of the difference.
    async fn read_written(
        &self,
        check: &ServerCheck,
        visit: &Visit<'_>,
        step: &Step,
        call: Call,
        status: u16,
    ) -> Result<Result<Option<u64>, String>, Halt> {
        let read = Step { call, operation: step.operation.clone() };
        let asked = self.store.request_url(visit.object, &read.call);
        match self.send(visit, &read).await {
            Ok(reply) => {
                let told = telltale(&read.call, reply.headers)
                    .map(|header| format!("{asked} has the header {}", header.as_str()))
                    .or_else(|| difference(&step.call, &reply.learned));
                Ok(told.map_or(Ok(Some(reply.size)), Err))
            }
            Err(Halt::Failed(failure)) if failure.fault.class == FaultClass::Rejected => {
                let what = format!("{asked} was answered with {} after the first write", failure.fault);
                self.refused(check, visit, step, Some(status), (RefusalKind::TakesForObject, what)).await
            }
            Err(Halt::Failed(failure)) => self.unseen(check, visit, step, &failure.fault).await,
            Err(halt) => Err(halt),
        }
    }

    /// Interprets a first write that was rejected or never answered.
    async fn write_refused(
        &self,
        check: &ServerCheck,
        scope: &TrustScope,
        visit: &Visit<'_>,
        step: &Step,
        before: &ContentMark,
        failure: Failure,
    ) -> Result<Reply, Halt> {
        let fault = &failure.fault;
        let says = verdict(&step.call, fault);
        // Checked for every error: a server that does not know the request may have changed the object before it
        // answered with an error.
        let _ = self.unharmed(check, visit, step, before, fault.status).await?;
        match says {
            Says::Unknown => {
                let asked = self.store.request_url(visit.object, &step.call);
                let what = format!("{asked} was answered with {fault}; the object is as it was");
                check.clear(scope).await?;
                let refusal = ServerRefusal::of_read(visit.object, scope.aspect, RefusalKind::Unsupported, what);
                self.distrust(check, refusal).await
            }
            Says::Known => {
                check.prove(scope.clone()).await?;
                Err(Halt::Failed(Box::new(failure)))
            }
            Says::Nothing => {
                check.clear(scope).await?;
                Err(Halt::Failed(Box::new(failure)))
            }
        }
    }
}

/// Fails the check without an outcome for the object.
async fn halted(check: &ServerCheck, refusal: ServerRefusal) -> Halt {
    let refusal = check.with_others(refusal);
    match check.refuse(&refusal).await {
        Ok(()) => Halt::Untrusted(Box::new(refusal.without_outcome())),
        Err(halt) => halt,
    }
}

pub(super) fn aspect_of(step: &Step) -> Aspect {
    Aspect::of(&step.call).unwrap_or(Aspect::Tags)
}
