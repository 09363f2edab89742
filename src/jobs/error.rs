//! Errors of creating, running and controlling jobs, why a job pauses or fails, and hints on what to do about failed
//! objects and untrusted servers.

use std::io;
use std::path::PathBuf;

use batchplan_store::error::{self, SIGNATURE_HINT, is_about_signature, names_another_location};
use batchplan_store::object::ObjectId;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

use super::report_place::UnusableReportPlace;
use crate::captures::CaptureError;
use crate::connect::ConnectError;
use crate::engine::{
    CONTENT_CHANGED, CaptureDenial, INCONCLUSIVE, NO_USABLE_ANSWER, READ_DENIED, ReportError, SERVER_CHECK_FAILED,
    ServerCheckFailure, ServerCheckFailureKind, WRITE_NOT_KEPT, WRITE_NOT_STORED, reason_says,
};
use crate::estimate::{CostLimitError, PriceBookError};
use crate::files;
use crate::hint::{Hint, command, hint};
use crate::job::{JobId, JobStatus, Progress};
use crate::journal::{JournalError, LeaseError};
use crate::manifest::{ManifestError, SourceChangedError};
use crate::open_files;
use crate::plan::{ExactShare, Plan, PlanChange};
use crate::plan_rules::RuleViolations;
use crate::provider::ProviderRules;
use crate::thousands::{Thousands, counted};

/// An error of creating, running or controlling a job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The lease on the job cannot be taken.
    #[error("cannot lock job {job}: {cause}")]
    Lease {
        /// The job whose lease was requested.
        job: JobId,
        /// Why the lease cannot be taken.
        cause: LeaseError,
    },
    /// There is an unfinished job for the same work, but with a different plan.
    #[error("the plan has changed since job {job} was created")]
    PlanChanged {
        /// The existing job.
        job: JobId,
        /// The differences between the plans.
        changes: Vec<PlanChange>,
        /// Whether the job was created with the plan's client request token. A token always stands for one plan.
        token: bool,
        /// Whether a process works on the job.
        running: bool,
    },
    /// This version does not accept the plan that is stored in the journal.
    #[error("the stored plan of job {job} is no longer valid: {what}")]
    StoredPlan {
        /// The job with this plan.
        job: JobId,
        /// What is wrong with the plan.
        what: String,
    },
    /// The source of the manifest has changed.
    #[error("cannot resume job {job}: {cause}")]
    SourceChanged {
        /// The job that was to be resumed.
        job: JobId,
        /// What changed.
        cause: Box<SourceChangedError>,
    },
    /// The manifest cannot be resolved, or the frozen manifest cannot be read.
    #[error("{0}")]
    Manifest(ManifestError),
    /// The store could not be read, or rejected the credentials or the region. When that is corrected, preparing can be
    /// resumed.
    #[error("{cause}")]
    PreparingStopped {
        /// The job whose manifest was read.
        job: JobId,
        /// The request that was rejected.
        cause: ManifestError,
    },
    /// The report cannot be resumed or finished.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Connecting to the store failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A file cannot be used; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The job's status does not allow this command.
    #[error("job {job} is {status}: {why}")]
    WrongStatus {
        /// The job that the command was for.
        job: JobId,
        /// The status of the job.
        status: JobStatus,
        /// Why the status does not allow the command.
        why: &'static str,
    },
    /// The existing job for this work was not created from this saved plan, and it is unfinished or has the plan's
    /// client request token.
    #[error(
        "job {job} of the same plan is {}, and was not created from this saved plan",
        if *over { "over" } else { "unfinished" }
    )]
    OtherSavedPlan {
        /// The existing job.
        job: JobId,
        /// Whether that job is over.
        over: bool,
    },
    /// The job would cost more than its plan allows, or its cost is unknown.
    #[error(transparent)]
    TooExpensive(Box<CostLimitError>),
    /// The plan or its job breaks rules for plans.
    #[error(transparent)]
    RulesBroken(Box<RuleViolations>),
    /// The prices cannot be determined.
    #[error(transparent)]
    Prices(#[from] PriceBookError),
    /// The service rejected the credentials when the sample of objects was read.
    #[error("the service rejected the credentials: {0}")]
    CredentialsRejected(Box<StoreError>),
    /// The server is not trusted.
    #[error("{}{why}", job.as_ref().map_or_else(String::new, |job| format!("cannot resume job {job}: ")))]
    Untrusted {
        /// The job, if it is refused because of what it recorded about the server earlier.
        job: Option<JobId>,
        /// What the server did.
        why: String,
        /// What the user can do.
        help: Hint,
    },
    /// The manifest no longer matches the saved plan.
    #[error("the manifest has changed since the plan was saved: {0}; nothing was changed, and the new job was removed")]
    SavedPlanOutdated(String),
    /// The report could not be published where the plan says.
    #[error("the report could not be published: {0}")]
    ReportPlace(#[from] UnusableReportPlace),
    /// The report of the job is not published yet, and would be lost.
    #[error("the report of job {0} is not published yet")]
    ReportUnpublished(JobId),
    /// The report of a job that is over does not contain all objects that failed in it.
    #[error("the report of job {job} contains only {recorded} of the {} that failed", counted(*failed, "object"))]
    FailuresMissing {
        /// The job.
        job: JobId,
        /// The number of objects that failed.
        failed: u64,
        /// The number of them in the report.
        recorded: u64,
        /// The plan file of the job.
        plan_file: PathBuf,
    },
    /// The job has not ended.
    #[error("job {job} is {status}: it has not ended")]
    NotOver {
        /// The job.
        job: JobId,
        /// Its status.
        status: JobStatus,
    },
    /// What the job did cannot be undone.
    #[error("job {job} cannot be undone: {why}")]
    NotUndoable {
        /// The job.
        job: JobId,
        /// The reason.
        why: String,
        /// What the user can do.
        help: &'static str,
    },
    /// A glob on the command line is not valid.
    #[error("invalid glob: {0}")]
    InvalidGlob(String),
    /// The captures of a job cannot be read.
    #[error("cannot read what the objects were like before: {0}")]
    Captures(CaptureError),
    /// The next job of the plan depends on this job.
    #[error("job {job} is the last completed job of its plan: without it, {cost}")]
    NeededByPlan {
        /// The job that was to be deleted.
        job: JobId,
        /// What the plan loses with the job.
        cost: String,
    },
}

impl JobError {
    /// Returns whether the user can fix the cause without changing the manifest, on this machine or with new
    /// credentials. What was read of the manifest is kept, and a client request token still stands for work that can be
    /// done.
    pub(super) fn is_fixable_here(&self) -> bool {
        match self {
            Self::Manifest(error) if error.is_about_access() => true,
            Self::Manifest(error) => matches!(
                error,
                ManifestError::Disk { .. }
                    | ManifestError::TooLarge { .. }
                    | ManifestError::ProbablyTooLarge { .. }
                    | ManifestError::ComparisonTooLarge { .. }
                    | ManifestError::TooManyObjects { .. }
                    | ManifestError::NewerFormat { .. }
            ),
            // The job to be retried is gone for good.
            Self::Journal(error) => !matches!(error, JournalError::NoSuchJob(_)),
            Self::Io(_) | Self::RulesBroken(_) => true,
            _ => false,
        }
    }

    fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Lease { cause: LeaseError::Io(error), .. }
            | Self::Io(error)
            | Self::Report(ReportError::Io(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns what the user can do about it, if that is known.
    #[must_use]
    pub fn help(&self) -> Option<Hint> {
        if self.io_error().is_some_and(open_files::is_exhausted) {
            return Some(open_files::HELP.into());
        }
        if let Some(help) = self.io_error().and_then(files::disk_help) {
            return Some(help.into());
        }
        Some(match self {
            Self::Journal(error) | Self::Report(ReportError::Journal(error)) => return error.help(),
            Self::Lease { job, cause: LeaseError::Held(_) } => command!("show", job, "--watch").into(),
            Self::Lease { cause: LeaseError::Io(_), .. } => {
                "nothing was changed; check the disk, then run the command again".into()
            }
            Self::PlanChanged { job, changes, token, running } => changed_plan_hint(job, changes, (*token, *running)),
            Self::StoredPlan { job, .. } => {
                hint!("use the version of batchplan that created the job, or cancel it: {}", command!("cancel", job))
            }
            Self::SourceChanged { job, .. } => hint!(
                "resume with the frozen manifest ({}), or cancel the job ({}) and apply the plan again",
                command!("resume", job, "--frozen-manifest"),
                command!("cancel", job)
            ),
            Self::Manifest(error) => return error.help().map(Hint::from),
            Self::PreparingStopped { job, cause } => stopped_preparing_hint(job, cause),
            Self::Captures(error) | Self::Report(ReportError::Captures(error)) => return error.help().map(Hint::from),
            Self::Report(_) => damaged_report_hint(),
            Self::WrongStatus { job, .. } => command!("show", job).into(),
            Self::OtherSavedPlan { over: true, .. } => {
                "a client request token identifies one job: set another one in the plan, and save it again".into()
            }
            Self::OtherSavedPlan { job, .. } => hint!(
                "resume that job ({}), cancel it ({}), or leave it and create another one (--new)",
                command!("resume", job),
                command!("cancel", job)
            ),
            Self::TooExpensive(refusal) => refusal.help().into(),
            Self::RulesBroken(_) => "nothing was changed; change the plan as shown above".into(),
            Self::Prices(error) => error.help().into(),
            Self::CredentialsRejected(fault) => {
                return hint(&fault.code, fault.status.unwrap_or_default()).map(Hint::from);
            }
            Self::Untrusted { help, .. } => help.clone(),
            Self::SavedPlanOutdated(_) => {
                hint!("review the plan and save it again: {}", command!("plan", "PLAN", "--out", "FILE"))
            }
            Self::ReportPlace(place) if place.fault.code == "NoSuchBucket" => {
                "create the bucket, or change [report] in the plan, and run the same command again".into()
            }
            Self::ReportPlace(_) => {
                "use a bucket in the plan's store and region in [report], and run the same command again".into()
            }
            Self::ReportUnpublished(job) => hint!(
                "publish it first: {}; or delete it anyway: {}",
                command!("publish", job),
                command!("delete", job, "--force")
            ),
            Self::FailuresMissing { plan_file, .. } => hint!(
                "it was not completed before the job ended, so a retry would miss objects: apply the plan again: {}",
                command!("apply").path(plan_file).arg("--new")
            ),
            Self::NeededByPlan { job, .. } => {
                hint!("keep it, or delete it anyway: {}", command!("delete", job, "--force"))
            }
            Self::NotOver { job, .. } => hint!("{}, or {}", command!("resume", job), command!("cancel", job)),
            Self::NotUndoable { help, .. } => Hint::from(*help),
            Self::InvalidGlob(_) => {
                "`*` matches any text, `?` any character, [abc] one of these, {a,b} either; escape special characters with `\\`"
                    .into()
            }
            Self::Connect(_) | Self::Io(_) => return None,
        })
    }
}

/// What to do about a job whose manifest could not be read because of the credentials.
fn stopped_preparing_hint(job: &JobId, cause: &ManifestError) -> Hint {
    let advice = cause.help().unwrap_or_else(|| "correct the setting that the message names".to_owned());
    if let Some((before, after)) = advice.split_once("run the same command again") {
        return hint!("{}resume the job ({}){}", before.to_owned(), command!("resume", job), after.to_owned());
    }
    let names_wrong_place = |fault: &StoreError| names_another_location(fault) || fault.code == "UnknownHost";
    if cause.fault().is_some_and(names_wrong_place) {
        // Resuming takes the store of the saved plan. A plan with another store replaces the job, which changed nothing.
        return hint!("{}, then apply the plan again", advice);
    }
    hint!("{}, then resume the job: {}", advice, command!("resume", job))
}

fn damaged_report_hint() -> Hint {
    hint!(
        "restore the job's folder from a backup, or delete the job with its report ({}, then {}) and apply the plan \
         again",
        command!("cancel", "JOB"),
        command!("delete", "JOB", "--force")
    )
}

/// Returns the changes of a plan, and what to do about the job of the earlier plan.
fn changed_plan_hint(job: &JobId, changes: &[PlanChange], (token, running): (bool, bool)) -> Hint {
    let remedy = if token {
        "a client request token identifies one plan: set another one in the changed plan".into()
    } else if running {
        hint!(
            "wait until the job ends ({}), cancel it ({}), or leave it and create another one ({})",
            command!("show", job, "--watch"),
            command!("cancel", job),
            command!("apply", "PLAN", "--new")
        )
    } else {
        hint!(
            "resume with the stored plan ({}), cancel the job ({}), or leave it and create another one ({})",
            command!("resume", job, "--stored-plan"),
            command!("cancel", job),
            command!("apply", "PLAN", "--new")
        )
    };
    let changes = changes.iter().fold(Hint::default(), |hint, change| hint.append(format!("{change}\n        ")));
    changes.append(remedy)
}

impl From<ManifestError> for JobError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

/// Hints for the error codes of the server check. `error` in the store crate has those for all other codes.
const HINTS: &[(&str, &str)] = &[
    (
        SERVER_CHECK_FAILED,
        "the server applied the request to the object itself: check this object, and recover it from a copy or an \
         older version if needed",
    ),
    (
        WRITE_NOT_KEPT,
        "the server reported success, but a different value reads back; the object's content is unchanged",
    ),
    (
        CONTENT_CHANGED,
        "the objects' contents changed during the request: another process wrote them at the same time, or the server \
         applied the request to the object itself; check each object, and recover it if needed",
    ),
    (
        "ChangedSince",
        "others changed or overwrote these objects after the job that is undone: check them; to give them their former \
         state anyway, undo that job again with --force",
    ),
    (
        "FormerStateUnknown",
        "nothing usable was kept of what these objects were like: restore them from a backup if needed",
    ),
];

/// Returns all error codes that have a hint, in groups with the same one, and their hints.
pub fn codes_with_hints() -> impl Iterator<Item = (Vec<&'static str>, &'static str)> {
    let own = HINTS.iter().map(|(code, hint)| (vec![*code], *hint));
    own.chain(error::codes_with_hints().map(|(codes, hint)| (codes.to_vec(), hint)))
}

/// Returns a hint for objects that failed with this error code, if one is known. `http` is the HTTP status, or 0 if no
/// response arrived; it decides for unknown codes.
#[must_use]
pub fn hint(code: &str, http: u16) -> Option<&'static str> {
    let own = HINTS.iter().find(|(own, _)| *own == code).map(|(_, hint)| *hint);
    own.or_else(|| error::hint(code, Some(http).filter(|http| *http != 0)))
}

/// Describes why a job pauses when its credentials are rejected, and what to do about it.
pub(super) fn describe_rejected_credentials(fault: &StoreError) -> String {
    let (what, todo) = match fault.code.as_str() {
        "NoCredentials" => {
            let todo = hint("NoCredentials", 0).unwrap_or_default();
            return format!("no usable credentials: {} ({todo})", fault.message);
        }
        code if is_about_signature(code) => ("the signature of the requests", Some(SIGNATURE_HINT)),
        code => ("the credentials", hint(code, fault.status.unwrap_or_default())),
    };
    let todo = todo.map(|todo| format!(" ({todo})"));
    format!("the service rejected {what}: {fault}{}", todo.unwrap_or_default())
}

/// Describes why a job failed because too many of its objects failed. `in_doubt` objects without an outcome may have
/// been attempted.
pub(super) fn describe_too_many_failures(progress: Progress, in_doubt: u64, limit: ExactShare) -> String {
    let (attempted, failed) = (progress.finished(), progress.failed);
    let found = if failed == attempted && failed > 1 {
        format!("all {}", counted(failed, "object"))
    } else {
        format!("{} of {}", Thousands(failed), counted(attempted, "object"))
    };
    let rest = match progress.remaining().saturating_sub(in_doubt) {
        0 => String::new(),
        1 => "; 1 was not attempted".to_owned(),
        rest => format!("; {} were not attempted", Thousands(rest)),
    };
    format!("{found} attempted so far failed (limit {limit}, `failure_threshold`){rest}")
}

/// Describes why a job pauses, or a command is refused, when the server is not trusted.
#[must_use]
pub fn describe_untrusted_server(plan: &Plan, refusal: &ServerCheckFailure) -> String {
    let missing = match &refusal.kind {
        ServerCheckFailureKind::Denied(call) => {
            format!("; {} is missing", required_action(plan, call, &refusal.object))
        }
        _ => String::new(),
    };
    let object = &refusal.object;
    let unclear =
        matches!(refusal.kind, ServerCheckFailureKind::NotVerifiable | ServerCheckFailureKind::NoUsableAnswer);
    let end = if refusal.after_write || refusal.others_written || unclear {
        "no further requests were started"
    } else {
        "nothing was changed"
    };
    let others = if refusal.others_written {
        ". Earlier writes succeeded and may have changed the contents of other objects: if the server was replaced \
         meanwhile, compare the objects in the report with a copy or an older version, too"
    } else {
        ""
    };
    format!("{refusal}{missing}. Seen with {object}; {end}{others}")
}

/// Describes why a job pauses, when what the objects were like cannot be read.
pub(super) fn describe_denied_capture(plan: &Plan, denial: &CaptureDenial) -> String {
    let CaptureDenial { object, request, fault } = denial;
    let action = required_action(plan, request, object);
    let what = request.kind().purpose();
    format!(
        "cannot {what} of {object}, which are kept to undo the job: {fault}; {action} is missing. Nothing was changed"
    )
}

/// Returns what to do about a job that is paused because what the objects were like cannot be read.
#[must_use]
pub fn denied_capture_hint(job: &JobId) -> Hint {
    hint!(
        "grant the missing permission and resume the job ({}); or set `capture = false` in [undo] of the plan, and resume \
         the job, which then cannot be undone",
        command!("resume", job)
    )
}

/// Returns the action that a policy must allow for a request on this object.
fn required_action(plan: &Plan, call: &ObjectRequest, object: &ObjectId) -> &'static str {
    ProviderRules::of(plan.store.provider).policy_language.action_for(call.kind(), object.version.is_some())
}

/// Returns the hint for a job that is paused because its server is not trusted. `why` is the pause reason. If a write
/// revealed the problem (`after_write`), another attempt may damage one more object. The hint suggests turning the
/// check off only if the check itself could not be completed.
#[must_use]
pub fn untrusted_pause_hint(job: &JobId, after_write: bool, why: &str) -> Hint {
    if after_write && reason_says(why, WRITE_NOT_STORED) {
        return hint!(
            "cancel the job ({}). Once the server supports this, process the remaining objects ({}); or apply the plan \
             with another endpoint",
            command!("cancel", job),
            command!("retry", job)
        );
    }
    if after_write {
        return hint!(
            "cancel the job ({}), and recover overwritten objects from a copy or an older version. Only then, and once \
             the server supports this, process the remaining objects ({}), which include the overwritten ones",
            command!("cancel", job),
            command!("retry", job)
        );
    }
    let resume = hint!("resume the job ({}), or cancel it ({})", command!("resume", job), command!("cancel", job));
    if !reason_says(why, INCONCLUSIVE) {
        return hint!(
            "to use another server, cancel the job ({}), change `endpoint` in [store] and apply the plan again. Once \
             this server supports it, resume the job ({})",
            command!("cancel", job),
            command!("resume", job)
        );
    }
    if reason_says(why, NO_USABLE_ANSWER) {
        return hint!(
            "check that the server responds, and {}. Resuming does not retry objects that have failed: use {} once the \
             job has ended",
            resume,
            command!("retry", job)
        );
    }
    let first = if reason_says(why, READ_DENIED) { "grant the missing permission" } else { "fix the cause" };
    hint!(
        "{}, and {}. If you know that this server supports it, set `skip_server_check = true` in [store] and resume \
         the job",
        first,
        resume
    )
}

/// Returns the hint for an untrusted server if there is no job yet.
#[must_use]
pub(super) fn untrusted_server_hint(refusal: &ServerCheckFailure) -> Hint {
    let remedy = "if you know that this server supports it, set `skip_server_check = true` in [store]";
    match refusal.kind {
        ServerCheckFailureKind::Denied(_) => {
            hint!("grant the missing permission ({} prints all that a plan needs); {}", command!("policy"), remedy)
        }
        ServerCheckFailureKind::NotVerifiable => remedy.into(),
        ServerCheckFailureKind::NoUsableAnswer => "check that the server responds, and try again".into(),
        ServerCheckFailureKind::AppliedToObject
        | ServerCheckFailureKind::WriteNotStored
        | ServerCheckFailureKind::Unsupported => hint!(
            "change `endpoint` in [store] to a server that supports this, and check it: {}",
            command!("check", "PLAN")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_reasons_of_earlier_versions_get_the_same_hints() {
        let id = JobId::random();
        for (earlier, now) in [
            ("the server check could not be made for ?acl, since a read is denied: x", READ_DENIED),
            (
                "the server check could not be made for ?acl, since the server gives no usable answer: x",
                NO_USABLE_ANSWER,
            ),
        ] {
            let now = format!("{INCONCLUSIVE} for ?acl, because {now}: x");
            assert_eq!(untrusted_pause_hint(&id, false, earlier), untrusted_pause_hint(&id, false, &now));
        }
        let (earlier, now) = ("this server does not keep what it is sent", format!("this server {WRITE_NOT_STORED}"));
        assert_eq!(untrusted_pause_hint(&id, true, earlier), untrusted_pause_hint(&id, true, &now));
    }

    #[test]
    fn the_reason_of_a_failed_job_counts_what_was_attempted() {
        let limit = ExactShare::percent(20);
        let reason = |succeeded, failed, total, in_doubt| {
            describe_too_many_failures(Progress { total, succeeded, failed, ..Progress::default() }, in_doubt, limit)
        };
        let tail = "attempted so far failed (limit 20 %, `failure_threshold`)";
        assert_eq!(reason(2, 3, 10, 0), format!("3 of 5 objects {tail}; 5 were not attempted"));
        assert_eq!(reason(0, 1063, 20_000, 3), format!("all 1,063 objects {tail}; 18,934 were not attempted"));
        assert_eq!(reason(0, 1, 2, 0), format!("1 of 1 object {tail}; 1 was not attempted"));
        assert_eq!(reason(1, 2, 3, 0), format!("2 of 3 objects {tail}"));
    }
}
