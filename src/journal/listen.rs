//! Notifies listeners of recorded changes, and triggers the backup.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::db::Journal;
use super::error::JournalError;
use super::jobs::numbered;
use super::record::JobRecord;
use crate::job::Progress;

/// Receives changes of a journal after they are recorded. Called on the thread or task that recorded the change,
/// which waits for it. It cannot make the change fail.
pub trait Listener: Send + Sync {
    /// A job has moved to another status.
    fn moved(&self, journal: &Journal, job: &JobRecord);

    /// A checkpoint was recorded. Gets the job's number, its row counts and how long it has been active.
    fn counted(&self, journal: &Journal, job: i64, progress: Progress, active: Duration);
}

/// Keeps a copy of the journal that survives the loss of this machine.
pub trait Backup: Send + Sync {
    /// Copies everything recorded so far. Completes once that is done, or with the reason why it never will be.
    fn push(&self) -> Pushing;
}

/// A copy in progress.
pub type Pushing = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The listener and the backup of a journal.
#[derive(Clone, Default)]
pub(super) struct Ear {
    listener: Option<Arc<dyn Listener>>,
    backup: Option<Arc<dyn Backup>>,
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (listener, backup) = (self.listener.is_some(), self.backup.is_some());
        f.debug_struct("Ear").field("listener", &listener).field("backup", &backup).finish()
    }
}

impl Journal {
    /// Returns the journal with a listener for everything recorded through it from now on.
    #[must_use]
    pub fn heard_by(mut self, listener: Arc<dyn Listener>) -> Self {
        self.ear.listener = Some(listener);
        self
    }

    /// Returns the journal with a backup that survives the loss of this machine.
    #[must_use]
    pub fn backed_up_by(mut self, backup: Arc<dyn Backup>) -> Self {
        self.ear.backup = Some(backup);
        self
    }

    /// Waits until everything recorded is in the backup, if there is one.
    ///
    /// # Errors
    /// Returns an error if the backup cannot be written.
    pub async fn secure(&self) -> Result<(), JournalError> {
        match &self.ear.backup {
            None => Ok(()),
            Some(backup) => backup.push().await.map_err(JournalError::NotSecured),
        }
    }

    /// Returns the job with this number, in any status.
    ///
    /// # Errors
    /// Returns an error if there is no such job or the journal cannot be read.
    pub fn numbered(&self, number: i64) -> Result<JobRecord, JournalError> {
        self.wait(move |connection| numbered(connection, number))
    }

    pub(super) fn tell_moved(&self, job: &JobRecord) {
        if let Some(listener) = &self.ear.listener {
            listener.moved(self, job);
        }
    }

    pub(super) fn tell_counted(&self, job: i64, progress: Progress, active: Duration) {
        if let Some(listener) = &self.ear.listener {
            listener.counted(self, job, progress, active);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::super::checkpoint::Checkpoint;
    use super::super::testing::{created, hour, new};
    use super::*;
    use crate::job::JobStatus;
    use crate::journal::Why;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn note(&self, what: String) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }
    }

    impl Listener for Heard {
        fn moved(&self, journal: &Journal, job: &JobRecord) {
            // A listener may query the journal, which already shows the change.
            assert_eq!(journal.numbered(job.number).expect("the job").status, job.status);
            self.note(job.status.to_string());
        }

        fn counted(&self, _: &Journal, _: i64, progress: Progress, active: Duration) {
            self.note(format!("{} in {} s", progress.settled(), active.as_secs()));
        }
    }

    #[tokio::test]
    async fn what_is_recorded_is_told_once_it_is_and_what_is_refused_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let heard = Arc::new(Heard::default());
        let journal = Journal::open(folder.path()).expect("a journal").heard_by(heard.clone());
        let job = created(&journal, new("work"));
        for status in [JobStatus::Preparing, JobStatus::Suspended, JobStatus::Ready] {
            journal.advance(&job.id, status, Why::default(), hour(0)).expect("moved");
        }
        assert!(journal.advance(&job.id, JobStatus::Complete, Why::default(), hour(0)).is_err());
        let waits = journal.activate(&job.id, |_, _| Err(()), hour(0)).await.expect("judged");
        assert!(waits.is_err());
        let goes = journal.activate(&job.id, |_, _| Ok::<_, ()>(()), hour(0)).await.expect("judged");
        assert!(goes.is_ok());
        let checkpoint = Checkpoint {
            progress: Progress { total: 5, succeeded: 2, failed: 1 },
            in_doubt: 0,
            reach: 0,
            active: Duration::from_secs(7),
            taken: None,
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        journal.checkpoint(job.number, checkpoint.clone()).await.expect("recorded");
        assert!(journal.checkpoint(job.number + 1, checkpoint).await.is_err());
        let heard = heard.0.lock().expect("sound");
        assert_eq!(*heard, ["Preparing", "Suspended", "Ready", "Active", "3 in 7 s"]);
    }
}
