//! What a command is, and how it ends: the exit codes, which are a public, stable interface, and the code and help of
//! each error.

use batchplan_sandbox::{SandboxError, SandboxServerError};
use batchplan_store::StoreConnectError;

use super::terminal::Terminal;
use crate::connect::ConnectError;
use crate::descriptors;
use crate::hint::Hint;
use crate::job::JobStatus;
use crate::jobs::{JobError, PreviewError, SavedPlanError};
use crate::journal::{JobRecord, JournalError, LeaseError, PauseCause};
use crate::manifest::ManifestError;
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
    /// The plan or the command line is not valid, or names a job that does not exist.
    Invalid = 2,
    /// The job is Complete, but some objects failed.
    ObjectsFailed = 3,
    /// The job Failed: its manifest could not be resolved, or too many objects failed.
    JobFailed = 4,
    /// Paused or interrupted: the job can be resumed.
    Interrupted = 5,
    /// Refused: no confirmation, a changed plan or manifest, unexpected or too many objects, a lock, a status change
    /// that is not allowed, a missing permission that the plan needs, or a server that does not do what it is asked.
    Refused = 6,
    /// Cancelled, at the confirmation or later.
    Cancelled = 7,
    /// `plan --detailed-exitcode`: something would change or fail, or cannot be determined.
    Changes = 10,
}

impl ExitStatus {
    /// Returns the exit code for the status of a job.
    pub(crate) fn of(job: &JobRecord) -> Self {
        match (job.status, job.progress.failed) {
            (JobStatus::Failed, _) => Self::JobFailed,
            (JobStatus::Cancelled, _) => Self::Cancelled,
            (JobStatus::Complete, 0) => Self::Success,
            (JobStatus::Complete, _) => Self::ObjectsFailed,
            (JobStatus::Paused, _) if job.pause_cause == Some(PauseCause::Server) => Self::Refused,
            _ => Self::Interrupted,
        }
    }

    /// Returns the exit code for a journal error.
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
    pub(crate) message: String,
    pub(crate) help: Option<Hint>,
    /// The ` --state` flag that the commands in the help need, if it is not the one that this command was given.
    pub(crate) state_flag: Option<String>,
}

impl CommandError {
    pub(crate) fn new(exit: ExitStatus, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None, state_flag: None }
    }

    pub(crate) fn help(mut self, help: impl Into<Hint>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the help, if there is any.
    pub(crate) fn maybe_help(self, help: Option<impl Into<Hint>>) -> Self {
        Self { help: help.map(Into::into), ..self }
    }

    /// Sets the ` --state` flag that the commands in the help need, unless it is set already.
    pub(crate) fn at_state(mut self, flag: &str) -> Self {
        self.state_flag.get_or_insert_with(|| flag.to_owned());
        self
    }
}

impl From<JournalError> for CommandError {
    fn from(error: JournalError) -> Self {
        Self::new(ExitStatus::of_journal_error(&error), error.to_string()).maybe_help(error.help())
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        let help = descriptors::is_exhausted(&error).then_some(descriptors::HELP);
        Self::new(ExitStatus::ToolFailed, error.to_string()).maybe_help(help)
    }
}

impl From<JobError> for CommandError {
    fn from(error: JobError) -> Self {
        let error = match error {
            JobError::Connect(error) => return Self::from(error),
            error => error,
        };
        let exit = match &error {
            JobError::Lease { cause: LeaseError::Held(_), .. }
            | JobError::PlanChanged { .. }
            | JobError::SourceChanged { .. }
            | JobError::WrongStatus { .. }
            | JobError::Manifest(ManifestError::TooManyObjects { .. })
            | JobError::OtherSavedPlan { .. }
            | JobError::SavedPlanOutdated(_)
            | JobError::TooExpensive(_)
            | JobError::Untrusted { .. }
            | JobError::ReportUnpublished(_)
            | JobError::NeededByPlan { .. } => ExitStatus::Refused,
            JobError::Journal(error) => ExitStatus::of_journal_error(error),
            JobError::Manifest(ManifestError::Stopped) => ExitStatus::Interrupted,
            JobError::Prices(_) => ExitStatus::Invalid,
            JobError::Manifest(_)
            | JobError::CredentialsRejected(_)
            | JobError::Connect(_)
            | JobError::StoredPlan { .. }
            | JobError::Report(_)
            | JobError::Lease { cause: LeaseError::Io(_), .. }
            | JobError::Io(_) => ExitStatus::ToolFailed,
        };
        Self::new(exit, error.to_string()).maybe_help(error.help())
    }
}

impl From<SavedPlanError> for CommandError {
    fn from(error: SavedPlanError) -> Self {
        let exit = match &error {
            SavedPlanError::Io(_) => ExitStatus::ToolFailed,
            SavedPlanError::Damaged { .. } | SavedPlanError::OtherVersion { .. } | SavedPlanError::OtherPlan { .. } => {
                ExitStatus::Refused
            }
        };
        Self::new(exit, error.to_string()).maybe_help(error.help())
    }
}

impl From<PreviewError> for CommandError {
    fn from(error: PreviewError) -> Self {
        let exit = match &error {
            PreviewError::Manifest(ManifestError::TooManyObjects { .. }) => ExitStatus::Refused,
            PreviewError::Stopped => ExitStatus::Interrupted,
            PreviewError::Manifest(_) | PreviewError::CredentialsRejected(_) | PreviewError::Io(_) => {
                ExitStatus::ToolFailed
            }
        };
        Self::new(exit, error.to_string()).maybe_help(error.help())
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
        match error {
            RemoteError::Connect(error) => {
                let error = Self::from(error);
                Self { message: format!("cannot reach the state: {}", error.message), ..error }
            }
            error => Self::new(exit, error.to_string()).maybe_help(error.help()),
        }
    }
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::Store(error) => Self::from(error),
            ConnectError::Sandbox(SandboxError::InUse(_)) => Self::new(ExitStatus::Refused, message)
                .help("wait for the other apply or sandbox to end, or choose another data folder in [store]"),
            ConnectError::Sandbox(error) => Self { message, ..Self::from(error) },
            ConnectError::Server(error) => Self { message, ..Self::from(error) },
            ConnectError::NoSandboxFolder => Self::new(ExitStatus::ToolFailed, message),
        }
    }
}

impl From<StoreConnectError> for CommandError {
    fn from(error: StoreConnectError) -> Self {
        let message = error.to_string();
        let (exit, help) = match error {
            _ if error.has_invalid_credentials() => (
                ExitStatus::ToolFailed,
                Some("correct that value: it may have been copied with a line break or a space"),
            ),
            StoreConnectError::NoCredentials { provider, .. } => {
                (ExitStatus::ToolFailed, Some(ProviderRules::of(provider).credentials_help))
            }
            StoreConnectError::RoleNotAssumed(_) => (
                ExitStatus::ToolFailed,
                Some(
                    "check `role_arn` in [store]: the role's trust policy must name your identity, which must be allowed \
                     sts:AssumeRole",
                ),
            ),
            StoreConnectError::NoRegion => {
                (ExitStatus::ToolFailed, Some("add region = \"...\" to [store], or set AWS_REGION"))
            }
            StoreConnectError::NoEndpoint => {
                (ExitStatus::ToolFailed, Some("add endpoint = \"https://...\" to [store]"))
            }
            StoreConnectError::NoCertificates(_) => (
                ExitStatus::ToolFailed,
                Some("install the system's CA certificates, or name a bundle in SSL_CERT_FILE"),
            ),
        };
        Self::new(exit, message).maybe_help(help)
    }
}

impl From<SandboxError> for CommandError {
    fn from(error: SandboxError) -> Self {
        let (exit, help) = match &error {
            SandboxError::InUse(_) => {
                (ExitStatus::Refused, "stop the other process, or choose another folder with --data")
            }
            SandboxError::Seed { .. } => (ExitStatus::Invalid, "fix the row; nothing was filled"),
            SandboxError::Damaged { .. } => {
                (ExitStatus::ToolFailed, "move the folder away to start over; nothing in it was changed")
            }
            SandboxError::Io { .. } => {
                (ExitStatus::ToolFailed, "check that the file exists and that you may access it")
            }
        };
        Self::new(exit, error.to_string()).help(help)
    }
}

impl From<SandboxServerError> for CommandError {
    fn from(error: SandboxServerError) -> Self {
        let message = error.to_string();
        match error {
            SandboxServerError::NotLoopback(_) => Self::new(ExitStatus::Refused, message)
                .help("listen on 127.0.0.1, or use --allow-remote with keys of your own"),
            SandboxServerError::Listen { .. } => {
                Self::new(ExitStatus::ToolFailed, message).help("port 0 picks a free port")
            }
            SandboxServerError::Start(_) => Self::new(ExitStatus::ToolFailed, message),
        }
    }
}
