//! What a command is, and how it ends: the exit codes, which are a public, stable interface, and the code and help of
//! each error.

use batchplan_sandbox::{SandboxError, SandboxServerError};
use batchplan_store::StoreConnectError;
use serde_json::Value as Json;

use super::error_code::ErrorCode;
use super::terminal::Terminal;
use crate::connect::ConnectError;
use crate::engine::ReportError;
use crate::files::access_help;
use crate::hint::Hint;
use crate::job::JobStatus;
use crate::jobs::{JobError, PreviewError, SavedPlanError};
use crate::journal::{JobRecord, JournalError, LeaseError, PauseCause};
use crate::manifest::ManifestError;
use crate::notify::WebhookError;
use crate::open_files;
use crate::plan::StateUrlError;
use crate::provider::ProviderRules;
use crate::remote::RemoteError;

/// A command of the program: its arguments, which clap parses.
pub(crate) trait CliCommand {
    /// Runs the command, and returns its exit code.
    ///
    /// # Errors
    /// Returns why the command failed.
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError>;
}

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Success: every object succeeded, or there was nothing to do.
    Success = 0,
    /// The tool itself failed: for example, it could not write a file, reach a store, or publish a report.
    ToolFailed = 1,
    /// The plan, a price book or the command line is not valid, or names a job that does not exist.
    Invalid = 2,
    /// The job is Complete, but some objects failed. `verify`: some objects are not as they should be.
    ObjectsFailed = 3,
    /// The job Failed: its manifest could not be resolved, or too many objects failed.
    JobFailed = 4,
    /// Paused or interrupted: the job can be resumed.
    Interrupted = 5,
    /// Refused: no confirmation, a changed plan or manifest, unexpected or too many objects, a lock, a journal or
    /// frozen manifest of a newer version, a full queue, a status change that is not allowed, a broken rule for plans, a
    /// missing permission that the plan needs, or a server that does not do what it is asked.
    Refused = 6,
    /// Cancelled, at the confirmation or later.
    Cancelled = 7,
    /// `plan --detailed-exitcode`: something would change or fail, or cannot be determined.
    Changes = 10,
}

/// The exit codes from the least to the most severe.
const BY_SEVERITY: [ExitStatus; 9] = [
    ExitStatus::Success,
    ExitStatus::Changes,
    ExitStatus::Refused,
    ExitStatus::Invalid,
    ExitStatus::Cancelled,
    ExitStatus::ObjectsFailed,
    ExitStatus::JobFailed,
    ExitStatus::Interrupted,
    ExitStatus::ToolFailed,
];

impl ExitStatus {
    /// Returns the exit code for the status of a job.
    pub(crate) fn of(job: &JobRecord) -> Self {
        Self::of_status(job.status, job.progress.failed, job.pause_cause)
    }

    fn of_status(status: JobStatus, failed_objects: u64, cause: Option<PauseCause>) -> Self {
        match (status, cause) {
            (JobStatus::Failed, _) => Self::JobFailed,
            (JobStatus::Cancelled, _) => Self::Cancelled,
            (JobStatus::Complete, _) if failed_objects == 0 => Self::Success,
            (JobStatus::Complete, _) => Self::ObjectsFailed,
            (JobStatus::Paused, Some(PauseCause::Server | PauseCause::Capture)) => Self::Refused,
            (JobStatus::Paused, Some(PauseCause::Machine)) => Self::ToolFailed,
            _ => Self::Interrupted,
        }
    }

    fn of_job_error(error: &JobError) -> Self {
        match error {
            JobError::PlanChanged { .. }
            | JobError::SourceChanged { .. }
            | JobError::WrongStatus { .. }
            | JobError::OtherSavedPlan { .. }
            | JobError::SavedPlanOutdated(_)
            | JobError::TooExpensive(_)
            | JobError::RulesBroken(_)
            | JobError::Untrusted { .. }
            | JobError::ReportPlace(_)
            | JobError::ReportUnpublished(_)
            | JobError::FailuresMissing { .. }
            | JobError::NeededByPlan { .. }
            | JobError::NotOver { .. }
            | JobError::NotUndoable { .. }
            | JobError::Lease { cause: LeaseError::Held(_), .. } => Self::Refused,
            JobError::Prices(_) | JobError::InvalidGlob(_) => Self::Invalid,
            JobError::Journal(error) | JobError::Report(ReportError::Journal(error)) => Self::of_journal_error(error),
            JobError::CredentialsRejected(_)
            | JobError::StoredPlan { .. }
            | JobError::Captures(_)
            | JobError::Report(_)
            | JobError::Lease { cause: LeaseError::Io(_), .. }
            | JobError::Io(_) => Self::ToolFailed,
            JobError::Manifest(error) | JobError::PreparingStopped { cause: error, .. } => {
                Self::of_manifest_error(error)
            }
            JobError::Connect(error) => CommandError::from(error).exit,
        }
    }

    fn of_journal_error(error: &JournalError) -> Self {
        match error {
            JournalError::Locked { .. }
            | JournalError::NewerFormat { .. }
            | JournalError::IllegalStatusMove { .. }
            | JournalError::QueueFull(_) => Self::Refused,
            JournalError::NoSuchJob(_) | JournalError::AmbiguousId { .. } => Self::Invalid,
            _ => Self::ToolFailed,
        }
    }

    fn of_manifest_error(error: &ManifestError) -> Self {
        match error {
            ManifestError::TooManyObjects { .. } | ManifestError::NewerFormat { .. } => Self::Refused,
            ManifestError::Stopped => Self::Interrupted,
            _ => Self::ToolFailed,
        }
    }

    /// Returns the more severe of two exit codes.
    pub(crate) fn worst(self, other: Self) -> Self {
        let severity = |exit| BY_SEVERITY.iter().position(|known| *known == exit);
        if severity(other) > severity(self) { other } else { self }
    }
}

/// Returns whether a job Failed before it processed any object.
pub(crate) fn failed_before_start(job: &JobRecord) -> bool {
    job.status == JobStatus::Failed && job.next_row.is_none()
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(exit: ExitStatus) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what the user can do about it.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) exit: ExitStatus,
    /// What kind of error it is, for programs.
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) help: Option<Hint>,
    /// The ` --state` flag that the commands in the help need, if it is not the one that this command was given.
    pub(crate) state_flag: Option<String>,
    /// What else JSON output shows.
    details: Option<Box<ErrorDetails>>,
}

/// What JSON output shows of an error besides its code, message and help.
#[derive(Debug, Default)]
pub(crate) struct ErrorDetails {
    /// The first problem's file, line and column; null if there is none.
    pub(crate) place: Json,
    /// The problems of the file that is not valid.
    pub(crate) problems: Option<Json>,
    /// The result of the command, as far as there is one.
    pub(crate) result: Option<Json>,
}

impl CommandError {
    /// Creates an error with a code that says no more than its exit code.
    pub(crate) fn new(exit: ExitStatus, message: impl Into<String>) -> Self {
        let code = match exit {
            ExitStatus::Invalid => ErrorCode::InvalidArgument,
            ExitStatus::Refused => ErrorCode::Refused,
            ExitStatus::Interrupted => ErrorCode::Interrupted,
            _ => ErrorCode::ToolFailed,
        };
        Self { exit, code, message: message.into(), help: None, state_flag: None, details: None }
    }

    pub(crate) fn code(self, code: ErrorCode) -> Self {
        Self { code, ..self }
    }

    /// Adds the problems of the file because of which the command failed. `place` is the position of the first.
    pub(crate) fn problems(mut self, place: Json, problems: Json) -> Self {
        let details = self.details.get_or_insert_default();
        (details.place, details.problems) = (place, Some(problems));
        self
    }

    /// Adds the result of the command, so that JSON output is one object with the result and the error.
    pub(crate) fn result(mut self, result: Json) -> Self {
        self.details.get_or_insert_default().result = Some(result);
        self
    }

    /// Returns what JSON output shows besides the code, the message and the help.
    pub(crate) fn details(&self) -> Option<&ErrorDetails> {
        self.details.as_deref()
    }

    pub(crate) fn help(mut self, help: impl Into<Hint>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the help, if there is any.
    pub(crate) fn maybe_help(self, help: Option<impl Into<Hint>>) -> Self {
        Self { help: help.map(Into::into), ..self }
    }

    /// Puts what was attempted before the message.
    pub(crate) fn prefix(self, attempt: &str) -> Self {
        Self { message: format!("{attempt}: {}", self.message), ..self }
    }

    /// Replaces the exit code and the message.
    pub(crate) fn with_outcome(self, exit: ExitStatus, message: String) -> Self {
        Self { exit, message, ..self }
    }

    /// Returns the exit code if this error ended the work on a job. `job` is the job's record after the error.
    pub(crate) fn exit_for(&self, job: &JobRecord) -> ExitStatus {
        if failed_before_start(job) { ExitStatus::JobFailed } else { self.exit }
    }

    /// Sets the ` --state` flag that the commands in the help need, unless it is set already.
    pub(crate) fn at_state(mut self, flag: &str) -> Self {
        self.state_flag.get_or_insert_with(|| flag.to_owned());
        self
    }
}

impl From<JournalError> for CommandError {
    fn from(error: JournalError) -> Self {
        let code = ErrorCode::of_journal_error(&error);
        Self::new(ExitStatus::of_journal_error(&error), error.to_string()).code(code).maybe_help(error.help())
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        let help = open_files::is_exhausted(&error).then_some(open_files::HELP);
        Self::new(ExitStatus::ToolFailed, error.to_string()).maybe_help(help)
    }
}

impl From<&JobError> for CommandError {
    fn from(error: &JobError) -> Self {
        match error {
            JobError::Connect(error) => Self::from(error),
            error => Self::new(ExitStatus::of_job_error(error), error.to_string())
                .code(ErrorCode::of_job_error(error))
                .maybe_help(error.help()),
        }
    }
}

impl From<JobError> for CommandError {
    fn from(error: JobError) -> Self {
        Self::from(&error)
    }
}

impl From<SavedPlanError> for CommandError {
    fn from(error: SavedPlanError) -> Self {
        let exit = match &error {
            SavedPlanError::Io(_) | SavedPlanError::Write { .. } => ExitStatus::ToolFailed,
            SavedPlanError::Damaged { .. } | SavedPlanError::OtherVersion { .. } | SavedPlanError::OtherPlan { .. } => {
                ExitStatus::Refused
            }
        };
        Self::new(exit, error.to_string()).code(ErrorCode::of_saved_plan_error(&error)).maybe_help(error.help())
    }
}

impl From<PreviewError> for CommandError {
    fn from(error: PreviewError) -> Self {
        let exit = match &error {
            PreviewError::Manifest(error) => ExitStatus::of_manifest_error(error),
            PreviewError::Stopped => ExitStatus::Interrupted,
            PreviewError::CredentialsRejected(_) | PreviewError::Captures(_) | PreviewError::Io(_) => {
                ExitStatus::ToolFailed
            }
        };
        Self::new(exit, error.to_string()).code(ErrorCode::of_preview_error(&error)).maybe_help(error.help())
    }
}

impl From<RemoteError> for CommandError {
    fn from(error: RemoteError) -> Self {
        let exit = match &error {
            RemoteError::HeldBy(_)
            | RemoteError::LockChanged
            | RemoteError::ConcurrentPush
            | RemoteError::CacheInUse(_)
            | RemoteError::ConditionIgnored(_)
            | RemoteError::Diverged(_)
            | RemoteError::FolderNotEmpty(_)
            | RemoteError::NewerVersion(_) => ExitStatus::Refused,
            RemoteError::NoState => ExitStatus::Invalid,
            RemoteError::Journal(error) => ExitStatus::of_journal_error(error),
            _ => ExitStatus::ToolFailed,
        };
        let code = ErrorCode::of_remote_error(&error);
        match error {
            RemoteError::Connect(ConnectError::Store(StoreConnectError::NoRegion)) => {
                let message = "cannot reach the state: no region: neither its URL nor the environment sets one";
                Self::new(exit, message).code(code).help(
                    "set AWS_REGION, or add the region to the URL: --state 's3://BUCKET/PREFIX?region=eu-central-1'",
                )
            }
            RemoteError::Connect(error) => Self::from(&error).prefix("cannot reach the state"),
            error => Self::new(exit, error.to_string()).code(code).maybe_help(error.help()),
        }
    }
}

impl From<&ConnectError> for CommandError {
    fn from(error: &ConnectError) -> Self {
        let (message, code) = (error.to_string(), ErrorCode::of_connect_error(error));
        match error {
            ConnectError::Store(error) => Self::from(error),
            ConnectError::Sandbox(SandboxError::InUse(_)) => Self::new(ExitStatus::Refused, message)
                .code(code)
                .help("wait for the other apply or sandbox to end, or choose another data folder in [store]"),
            ConnectError::Sandbox(error) => Self { message, ..Self::from(error) },
            ConnectError::Server(error) => Self { message, ..Self::from(error) },
            ConnectError::NoSandboxFolder | ConnectError::Environment(_) => {
                Self::new(ExitStatus::ToolFailed, message).code(code)
            }
        }
    }
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        Self::from(&error)
    }
}

impl From<&StoreConnectError> for CommandError {
    fn from(error: &StoreConnectError) -> Self {
        let (message, code) = (error.to_string(), ErrorCode::of_store_error(error));
        if let Some(help) = error.setting_help() {
            return Self::new(ExitStatus::ToolFailed, message).code(code).help(help);
        }
        let (exit, help) = match error {
            _ if error.is_about_profile() => (ExitStatus::ToolFailed, None),
            _ if error.has_invalid_credentials() => (
                ExitStatus::ToolFailed,
                Some("correct that value: it may have been copied with a line break or a space"),
            ),
            StoreConnectError::NoCredentials { provider, .. } => {
                (ExitStatus::ToolFailed, Some(ProviderRules::of(*provider).credentials_help))
            }
            StoreConnectError::RoleNotAssumed(_) => (
                ExitStatus::ToolFailed,
                Some(
                    "check `role_arn` in [store]; the role's trust policy must allow your identity, which needs the \
                     permission sts:AssumeRole",
                ),
            ),
            StoreConnectError::NoRegion => {
                (ExitStatus::ToolFailed, Some("add region = \"...\" to [store], or set AWS_REGION"))
            }
            // It has its own help.
            StoreConnectError::NotAnAwsRegion { .. } => (ExitStatus::ToolFailed, None),
            StoreConnectError::NoEndpoint => {
                (ExitStatus::ToolFailed, Some("add endpoint = \"https://...\" to [store]"))
            }
            StoreConnectError::InvalidSetup(error) => (ExitStatus::ToolFailed, Some(error.help())),
            StoreConnectError::EndpointSetting(error) => (ExitStatus::ToolFailed, Some(error.help())),
            StoreConnectError::EndpointChanged { .. } => (
                ExitStatus::Refused,
                Some("restore the previous setting; or, to use the new endpoint, plan and apply again"),
            ),
            StoreConnectError::NoFipsEndpoint { .. } => {
                (ExitStatus::ToolFailed, Some("unset it, or set `endpoint` in [store]"))
            }
        };
        Self::new(exit, message).code(code).maybe_help(help)
    }
}

impl From<&SandboxError> for CommandError {
    fn from(error: &SandboxError) -> Self {
        let (exit, help) = match error {
            SandboxError::InUse(_) => {
                (ExitStatus::Refused, "stop the other process, or choose another folder with --data")
            }
            SandboxError::Seed { .. } => (ExitStatus::Invalid, "fix this entry; no objects were created"),
            SandboxError::Damaged { .. } => (
                ExitStatus::ToolFailed,
                "move the folder away to start with an empty sandbox; its files were not changed",
            ),
            SandboxError::Io { doing: "lock", .. } => {
                (ExitStatus::ToolFailed, "choose a data folder on a file system with file locks, such as a local disk")
            }
            SandboxError::Io { source, .. } => {
                let help = access_help(source);
                return Self::new(ExitStatus::ToolFailed, error.to_string()).maybe_help(help);
            }
        };
        Self::new(exit, error.to_string()).code(ErrorCode::of_sandbox_error(error)).help(help)
    }
}

impl From<SandboxError> for CommandError {
    fn from(error: SandboxError) -> Self {
        Self::from(&error)
    }
}

impl From<&SandboxServerError> for CommandError {
    fn from(error: &SandboxServerError) -> Self {
        let message = error.to_string();
        let error_code = ErrorCode::of_server_error(error);
        let error = match error {
            SandboxServerError::NotLoopback(_) => Self::new(ExitStatus::Refused, message)
                .help("listen on 127.0.0.1, or add --allow-remote, and set your own --access-key and --secret-key"),
            SandboxServerError::Listen { .. } => {
                Self::new(ExitStatus::ToolFailed, message).help("use another port, or port 0 for any free one")
            }
            SandboxServerError::Start(_) => Self::new(ExitStatus::ToolFailed, message),
        };
        error.code(error_code)
    }
}

impl From<SandboxServerError> for CommandError {
    fn from(error: SandboxServerError) -> Self {
        Self::from(&error)
    }
}

impl From<StateUrlError> for CommandError {
    fn from(error: StateUrlError) -> Self {
        Self::new(ExitStatus::Invalid, error.message).code(ErrorCode::InvalidState).help(error.help)
    }
}

impl From<WebhookError> for CommandError {
    fn from(error: WebhookError) -> Self {
        Self::new(ExitStatus::Refused, error.to_string()).help(error.help())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::estimate::PriceBookError;
    use crate::job::JobId;

    #[test]
    fn every_exit_code_has_its_place_by_severity() {
        use ExitStatus::{
            Cancelled, Changes, Interrupted, Invalid, JobFailed, ObjectsFailed, Refused, Success, ToolFailed,
        };
        let documented = [ToolFailed, Interrupted, JobFailed, ObjectsFailed, Cancelled, Invalid, Refused];
        for pair in documented.windows(2) {
            assert_eq!((pair[0].worst(pair[1]), pair[1].worst(pair[0])), (pair[0], pair[0]));
        }
        for exit in documented {
            assert_eq!((exit.worst(exit), Success.worst(exit), exit.worst(Changes)), (exit, exit, exit));
        }
    }

    #[test]
    fn the_documentation_lists_the_exit_codes() {
        let page = include_str!("../../docs/src/reference/exit-codes.md");
        let row = |exit: ExitStatus| {
            let start = format!("| {} | ", exit as u8);
            page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row for {exit:?}"))
        };
        for exit in BY_SEVERITY {
            assert!(row(exit).ends_with(" |"), "{exit:?}");
        }
        for reason in ["a locked journal", "a journal or frozen manifest of a newer version", "a full queue"] {
            assert!(row(ExitStatus::Refused).contains(reason), "{reason}");
        }
    }

    #[test]
    fn exit_codes_of_jobs_follow_their_status_and_pause_cause() {
        for (status, failed, cause, exit) in [
            (JobStatus::Complete, 0, None, 0),
            (JobStatus::Complete, 1, None, 3),
            (JobStatus::Failed, 0, None, 4),
            (JobStatus::Cancelled, 1, None, 7),
            (JobStatus::Paused, 0, Some(PauseCause::Server), 6),
            (JobStatus::Paused, 0, Some(PauseCause::Capture), 6),
            (JobStatus::Paused, 1, Some(PauseCause::Machine), 1),
            (JobStatus::Paused, 1, Some(PauseCause::Signal), 5),
            (JobStatus::Paused, 0, Some(PauseCause::Credentials), 5),
            (JobStatus::Paused, 0, Some(PauseCause::Person), 5),
            (JobStatus::Active, 0, None, 5),
        ] {
            assert_eq!(ExitStatus::of_status(status, failed, cause) as u8, exit, "{status} {failed} {cause:?}");
        }
    }

    #[test]
    fn an_error_has_the_same_exit_code_wherever_it_occurs() {
        let job = JobId::random();
        let lease = |cause| JobError::Lease { job: job.clone(), cause };
        let locked = || JournalError::Locked { path: PathBuf::from("journal.db") };
        let newer = || ManifestError::NewerFormat { file: PathBuf::from("part-00000.bpm"), found: 2, known: 1 };
        let used = JobError::Connect(ConnectError::Sandbox(SandboxError::InUse(PathBuf::from("data"))));
        for (error, exit) in [
            (lease(LeaseError::Held("process 7".to_owned())), ExitStatus::Refused),
            (lease(LeaseError::Io(io::Error::other("no"))), ExitStatus::ToolFailed),
            (JobError::Journal(locked()), ExitStatus::Refused),
            (JobError::Journal(JournalError::NoSuchJob("A".to_owned())), ExitStatus::Invalid),
            (JobError::Report(ReportError::Journal(locked())), ExitStatus::Refused),
            (JobError::Report(ReportError::Journal(JournalError::NoSuchJob("A".to_owned()))), ExitStatus::Invalid),
            (JobError::Report(ReportError::Io(io::Error::other("no"))), ExitStatus::ToolFailed),
            (JobError::Manifest(ManifestError::Stopped), ExitStatus::Interrupted),
            (JobError::Manifest(newer()), ExitStatus::Refused),
            (JobError::SavedPlanOutdated("a row".to_owned()), ExitStatus::Refused),
            (JobError::Prices(PriceBookError::Ambiguous { names: Vec::new() }), ExitStatus::Invalid),
            (JobError::Io(io::Error::other("no")), ExitStatus::ToolFailed),
            (used, ExitStatus::Refused),
        ] {
            assert_eq!(CommandError::from(&error).exit, exit, "{error:?}");
            assert_eq!(ExitStatus::of_job_error(&error), exit, "{error:?}");
        }
        assert_eq!(CommandError::from(RemoteError::Journal(locked())).exit, ExitStatus::Refused);
        assert_eq!(CommandError::from(RemoteError::CacheInUse("process 7".to_owned())).exit, ExitStatus::Refused);
        assert_eq!(CommandError::from(RemoteError::Io(io::Error::other("no"))).exit, ExitStatus::ToolFailed);
        assert_eq!(CommandError::from(locked()).exit, ExitStatus::Refused);
        assert_eq!(CommandError::from(PreviewError::Manifest(ManifestError::Stopped)).exit, ExitStatus::Interrupted);
    }
}
