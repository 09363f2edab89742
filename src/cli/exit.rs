//! The exit codes: a public, stable interface. Scripts and workflows branch on them.

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; every object succeeded, or there was nothing to do.
    Done = 0,
    /// The tool itself failed: a file it could not write, a store it could not reach, a report it could not publish.
    ToolFailed = 1,
    /// The plan or the command line is not valid.
    Invalid = 2,
    /// The job is Complete, with failed objects.
    ObjectsFailed = 3,
    /// The job Failed: its manifest could not be resolved.
    JobFailed = 4,
    /// Stopped on request, or interrupted.
    Interrupted = 5,
    /// Refused: no confirmation, a provider that cannot be applied yet, or a lock.
    Refused = 6,
    /// Cancelled at the confirmation.
    Cancelled = 7,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
