//! The codes of errors in JSON output: a public, stable interface. A code says what kind of error ended a command, so
//! that a program can decide what to do without reading the message. Which code each error has is decided here.

use batchplan_sandbox::{SandboxError, SandboxServerError};
use batchplan_store::StoreConnectError;

use crate::connect::ConnectError;
use crate::engine::ReportError;
use crate::jobs::{JobError, PreviewError, SavedPlanError};
use crate::journal::{JournalError, LeaseError};
use crate::manifest::ManifestError;
use crate::remote::RemoteError;

/// Declares the codes: each with the sentence that documents it.
macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident,)+) => {
        /// The code of an error in JSON output.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// The name of each code, and what it means.
            pub(crate) const DOCUMENTED: &'static [(&'static str, &'static str)] =
                &[$((stringify!($variant), concat!($($doc),+))),+];

            /// Returns the name.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }
    };
}

error_codes! {
    /// The command line is not valid.
    InvalidUsage,
    /// An argument has a value that cannot be used.
    InvalidArgument,
    /// The plan file is not valid. `problems` lists the mistakes.
    InvalidPlan,
    /// The file of rules for plans cannot be read or is not valid.
    InvalidRules,
    /// The price book cannot be read or is not valid, or has no single entry for the store.
    InvalidPriceBook,
    /// The state's URL is not valid or not complete.
    InvalidState,
    /// A job request cannot be imported, or a plan cannot be exported. `problems` lists the reasons.
    NotConvertible,
    /// A setting of the store, such as its region or endpoint, is missing or cannot be used.
    InvalidStoreSetting,
    /// No job has this ID.
    NoSuchJob,
    /// Several jobs have an ID with this prefix.
    AmbiguousJob,
    /// There is no state in the bucket yet.
    NoState,
    /// The file to write exists already.
    FileExists,
    /// The command needs confirmation, but there is no terminal to ask on.
    ConfirmationRequired,
    /// The plan is not the one that the job was created from.
    PlanChanged,
    /// The source of the manifest has changed since it was read.
    ManifestChanged,
    /// The saved plan cannot be used, or no longer matches its plan file or its manifest.
    SavedPlanRefused,
    /// The endpoint from the environment is not the one that the job began with.
    EndpointChanged,
    /// The manifest does not have the expected number of objects (`--expect-count`).
    UnexpectedCount,
    /// The manifest has more objects than the plan allows.
    TooManyObjects,
    /// The job would cost more than the plan allows, or its cost is unknown.
    TooExpensive,
    /// The plan breaks rules for plans. `problems` lists them.
    RulesBroken,
    /// The server does not do what it is asked, or this could not be checked.
    ServerNotTrusted,
    /// What objects were like before the job cannot be read, so that it could not be undone.
    CaptureDenied,
    /// What the job did cannot be undone, or was not kept.
    NotUndoable,
    /// What objects were like before the job cannot be read from where it is kept.
    CapturesUnreadable,
    /// The status of the job does not allow the command.
    WrongJobStatus,
    /// The queue of jobs is full.
    QueueFull,
    /// Another process uses the job, the state, the journal or the sandbox.
    InUse,
    /// A newer version of batchplan wrote the file or the state.
    NewerFormat,
    /// The state in the bucket has changed, or is not the one that the folder was copied from.
    StateDiverged,
    /// The job's report is not published or not complete, or cannot be published.
    ReportNotPublished,
    /// The report cannot be published to the place that the plan names.
    ReportPlaceUnusable,
    /// A recurring plan needs the job.
    JobNeeded,
    /// The command was refused for another reason.
    Refused,
    /// There are no credentials, or they cannot be used.
    NoCredentials,
    /// The service rejected the credentials.
    CredentialsRejected,
    /// The manifest cannot be read.
    ManifestUnreadable,
    /// The state in the bucket cannot be reached or used.
    StateUnusable,
    /// The journal cannot be used.
    JournalUnusable,
    /// The command was stopped, such as by a signal.
    Interrupted,
    /// The tool failed for another reason: the message says why.
    ToolFailed,
}

impl ErrorCode {
    pub(crate) fn of_job_error(error: &JobError) -> Self {
        match error {
            JobError::Journal(error) | JobError::Report(ReportError::Journal(error)) => Self::of_journal_error(error),
            JobError::Lease { cause: LeaseError::Held(_), .. } => Self::InUse,
            JobError::PlanChanged { .. } => Self::PlanChanged,
            JobError::SourceChanged { .. } => Self::ManifestChanged,
            JobError::Manifest(error) | JobError::PreparingStopped { cause: error, .. } => {
                Self::of_manifest_error(error)
            }
            JobError::Connect(error) => Self::of_connect_error(error),
            JobError::WrongStatus { .. } | JobError::NotOver { .. } => Self::WrongJobStatus,
            JobError::NotUndoable { .. } => Self::NotUndoable,
            JobError::InvalidGlob(_) => Self::InvalidArgument,
            JobError::Captures(_) => Self::CapturesUnreadable,
            JobError::OtherSavedPlan { .. } | JobError::SavedPlanOutdated(_) => Self::SavedPlanRefused,
            JobError::TooExpensive(_) => Self::TooExpensive,
            JobError::RulesBroken(_) => Self::RulesBroken,
            JobError::Prices(_) => Self::InvalidPriceBook,
            JobError::CredentialsRejected(_) => Self::CredentialsRejected,
            JobError::Untrusted { .. } => Self::ServerNotTrusted,
            JobError::ReportUnpublished(_) | JobError::FailuresMissing { .. } => Self::ReportNotPublished,
            JobError::ReportPlace(_) => Self::ReportPlaceUnusable,
            JobError::NeededByPlan { .. } => Self::JobNeeded,
            JobError::StoredPlan { .. }
            | JobError::Report(_)
            | JobError::Lease { cause: LeaseError::Io(_), .. }
            | JobError::Io(_) => Self::ToolFailed,
        }
    }

    pub(crate) fn of_journal_error(error: &JournalError) -> Self {
        match error {
            JournalError::Locked { .. } => Self::InUse,
            JournalError::NewerFormat { .. } => Self::NewerFormat,
            JournalError::NoSuchJob(_) => Self::NoSuchJob,
            JournalError::AmbiguousId { .. } => Self::AmbiguousJob,
            JournalError::IllegalStatusMove { .. } => Self::WrongJobStatus,
            JournalError::QueueFull(_) => Self::QueueFull,
            _ => Self::JournalUnusable,
        }
    }

    pub(crate) fn of_manifest_error(error: &ManifestError) -> Self {
        match error {
            ManifestError::Stopped => Self::Interrupted,
            ManifestError::Changed { .. } => Self::ManifestChanged,
            ManifestError::TooManyObjects { .. } => Self::TooManyObjects,
            ManifestError::NewerFormat { .. } => Self::NewerFormat,
            error if error.needs_other_credentials() => Self::CredentialsRejected,
            _ => Self::ManifestUnreadable,
        }
    }

    pub(crate) fn of_saved_plan_error(error: &SavedPlanError) -> Self {
        match error {
            SavedPlanError::Io(_) | SavedPlanError::Write { .. } => Self::ToolFailed,
            SavedPlanError::Damaged { .. } | SavedPlanError::OtherPlan { .. } => Self::SavedPlanRefused,
            SavedPlanError::OtherVersion { .. } => Self::NewerFormat,
        }
    }

    pub(crate) fn of_preview_error(error: &PreviewError) -> Self {
        match error {
            PreviewError::Manifest(error) => Self::of_manifest_error(error),
            PreviewError::CredentialsRejected(_) => Self::CredentialsRejected,
            PreviewError::Captures(_) => Self::CapturesUnreadable,
            PreviewError::Stopped => Self::Interrupted,
            PreviewError::Io(_) => Self::ToolFailed,
        }
    }

    pub(crate) fn of_remote_error(error: &RemoteError) -> Self {
        match error {
            RemoteError::Connect(error) => Self::of_connect_error(error),
            RemoteError::HeldBy(_) | RemoteError::CacheInUse(_) => Self::InUse,
            RemoteError::TakenOver(_)
            | RemoteError::LockChanged
            | RemoteError::ConcurrentPush
            | RemoteError::Diverged(_)
            | RemoteError::FolderNotEmpty(_) => Self::StateDiverged,
            RemoteError::NewerVersion(_) => Self::NewerFormat,
            RemoteError::NoState => Self::NoState,
            RemoteError::Journal(error) => Self::of_journal_error(error),
            RemoteError::Store { .. }
            | RemoteError::ConditionIgnored(_)
            | RemoteError::NotRenewed(_)
            | RemoteError::Damaged { .. }
            | RemoteError::Listing { .. }
            | RemoteError::FilesKeepChanging
            | RemoteError::Io(_)
            | RemoteError::PushTimedOut(_) => Self::StateUnusable,
        }
    }

    pub(crate) fn of_connect_error(error: &ConnectError) -> Self {
        match error {
            ConnectError::Store(error) => Self::of_store_error(error),
            ConnectError::Sandbox(error) => Self::of_sandbox_error(error),
            ConnectError::Server(error) => Self::of_server_error(error),
            ConnectError::NoSandboxFolder | ConnectError::Environment(_) => Self::InvalidStoreSetting,
        }
    }

    pub(crate) fn of_store_error(error: &StoreConnectError) -> Self {
        match error {
            StoreConnectError::NoCredentials { .. } | StoreConnectError::RoleNotAssumed(_) => Self::NoCredentials,
            StoreConnectError::EndpointChanged { .. } => Self::EndpointChanged,
            StoreConnectError::NoEndpoint
            | StoreConnectError::NoRegion
            | StoreConnectError::NotAnAwsRegion { .. }
            | StoreConnectError::InvalidSetup(_)
            | StoreConnectError::EndpointSetting(_)
            | StoreConnectError::NoFipsEndpoint { .. } => Self::InvalidStoreSetting,
        }
    }

    pub(crate) fn of_sandbox_error(error: &SandboxError) -> Self {
        match error {
            SandboxError::InUse(_) => Self::InUse,
            SandboxError::Seed { .. } => Self::InvalidArgument,
            SandboxError::Damaged { .. } | SandboxError::Io { .. } => Self::ToolFailed,
        }
    }

    pub(crate) fn of_server_error(error: &SandboxServerError) -> Self {
        match error {
            SandboxServerError::NotLoopback(_) => Self::Refused,
            SandboxServerError::Listen { .. } | SandboxServerError::Start(_) => Self::ToolFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use batchplan_store::task::{FaultClass, StoreError};

    use super::*;
    use crate::cli::exit::CommandError;
    use crate::hint::Hint;
    use crate::job::{JobId, JobStatus};
    use crate::manifest::ManifestError;

    fn denied() -> StoreError {
        StoreError::without_response(FaultClass::Ambiguous, "AccessDenied", "no", String::new())
    }

    /// The codes that tests/apply/json.rs does not see, because the real binary needs a bad day for them.
    #[test]
    fn errors_of_bad_days_have_their_codes() {
        let job = JobId::random();
        let path = || PathBuf::from("journal.db");
        let of = |error: CommandError| error.code.as_str();
        let changed = || StoreConnectError::EndpointChanged {
            service: "",
            before: "https://a".to_owned(),
            now: "https://b".to_owned(),
        };
        let untrusted = JobError::Untrusted { job: None, why: "it lies".to_owned(), help: Hint::default() };
        let newer = JournalError::NewerFormat { path: path(), found: 9, known: 1 };
        for (found, code) in [
            (of((&StoreConnectError::NoRegion).into()), "InvalidStoreSetting"),
            (of((&changed()).into()), "EndpointChanged"),
            (of((&untrusted).into()), "ServerNotTrusted"),
            (of(JournalError::QueueFull(1000).into()), "QueueFull"),
            (of(JobError::from(newer).into()), "NewerFormat"),
            (of(RemoteError::Diverged("it".to_owned()).into()), "StateDiverged"),
            (of(RemoteError::NoState.into()), "NoState"),
            (of(RemoteError::Io(io::Error::other("no")).into()), "StateUnusable"),
            (of(JobError::ReportUnpublished(job.clone()).into()), "ReportNotPublished"),
            (of(JobError::NeededByPlan { job: job.clone(), cost: "more".to_owned() }.into()), "JobNeeded"),
            (of(JobError::CredentialsRejected(Box::new(denied())).into()), "CredentialsRejected"),
            (of(JobError::Manifest(ManifestError::Stopped).into()), "Interrupted"),
            (of(PreviewError::Stopped.into()), "Interrupted"),
            (of(JournalError::Locked { path: path() }.into()), "InUse"),
            (of(RemoteError::CacheInUse("process 7".to_owned()).into()), "InUse"),
            (of(JobError::Lease { job: job.clone(), cause: LeaseError::Held("it".to_owned()) }.into()), "InUse"),
            (of(JobError::Io(io::Error::other("no")).into()), "ToolFailed"),
            (
                of(JobError::WrongStatus { job, status: JobStatus::Complete, why: "it is over" }.into()),
                "WrongJobStatus",
            ),
        ] {
            assert_eq!(found, code);
        }
    }

    #[test]
    fn codes_are_words_with_a_meaning_each() {
        for (name, meaning) in ErrorCode::DOCUMENTED {
            assert!(name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphabetic), "{name}");
            assert!(meaning.ends_with('.'), "{name}: {meaning}");
        }
    }
}
