//! Notifies listeners of recorded changes, and triggers the backup.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::db::Journal;
use super::error::JournalError;
use super::jobs::find_by_number;
use super::record::JobRecord;
use crate::job::Progress;

/// Receives changes of a journal after they are recorded. Called on the thread or task that recorded the change,
/// which waits for it. It cannot make the change fail.
pub trait JournalListener: Send + Sync {
    /// A job has moved to another status.
    fn status_changed(&self, journal: &Journal, job: &JobRecord);

    /// A checkpoint was recorded. Gets the job's number, its row counts and how long it has been active.
    fn checkpoint_recorded(&self, journal: &Journal, job: i64, progress: Progress, active: Duration);
}

/// Keeps a copy of the journal that survives the loss of this machine.
pub trait JournalBackup: Send + Sync {
    /// Copies everything recorded so far. Completes once that is done, or with the reason why it never will be.
    fn push(&self) -> BackupPush;
}

/// A copy in progress.
pub type BackupPush = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The listener and the backup of a journal.
#[derive(Clone, Default)]
pub(super) struct JournalListeners {
    listener: Option<Arc<dyn JournalListener>>,
    backup: Option<Arc<dyn JournalBackup>>,
}

impl fmt::Debug for JournalListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (listener, backup) = (self.listener.is_some(), self.backup.is_some());
        f.debug_struct("JournalListeners").field("listener", &listener).field("backup", &backup).finish()
    }
}

impl Journal {
    /// Returns the journal with a listener for everything recorded through it from now on.
    #[must_use]
    pub fn with_listener(mut self, listener: Arc<dyn JournalListener>) -> Self {
        self.listeners.listener = Some(listener);
        self
    }

    /// Returns the journal with a backup that survives the loss of this machine.
    #[must_use]
    pub fn with_backup(mut self, backup: Arc<dyn JournalBackup>) -> Self {
        self.listeners.backup = Some(backup);
        self
    }

    /// Waits until everything recorded is in the backup, if there is one.
    ///
    /// # Errors
    /// Returns an error if the backup cannot be written.
    pub async fn push_backup(&self) -> Result<(), JournalError> {
        match &self.listeners.backup {
            None => Ok(()),
            Some(backup) => backup.push().await.map_err(JournalError::BackupFailed),
        }
    }

    /// Returns the job with this number, in any status.
    ///
    /// # Errors
    /// Returns an error if there is no such job or the journal cannot be read.
    pub fn job_by_number(&self, number: i64) -> Result<JobRecord, JournalError> {
        self.run_blocking(move |connection| find_by_number(connection, number))
    }

    pub(super) fn notify_status_changed(&self, job: &JobRecord) {
        if let Some(listener) = &self.listeners.listener {
            listener.status_changed(self, job);
        }
    }

    pub(super) fn notify_checkpoint(&self, job: i64, progress: Progress, active: Duration) {
        if let Some(listener) = &self.listeners.listener {
            listener.checkpoint_recorded(self, job, progress, active);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::super::checkpoint::Checkpoint;
    use super::super::testing::{create_job, hour, new_job};
    use super::*;
    use crate::job::JobStatus;
    use crate::journal::StatusReason;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn note(&self, what: String) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }
    }

    impl JournalListener for Heard {
        fn status_changed(&self, journal: &Journal, job: &JobRecord) {
            // A listener may query the journal, which already shows the change.
            assert_eq!(journal.job_by_number(job.number).expect("the job").status, job.status);
            self.note(job.status.to_string());
        }

        fn checkpoint_recorded(&self, _: &Journal, _: i64, progress: Progress, active: Duration) {
            self.note(format!("{} in {} s", progress.finished(), active.as_secs()));
        }
    }

    #[tokio::test]
    async fn listeners_receive_recorded_changes_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let heard = Arc::new(Heard::default());
        let journal = Journal::open(folder.path()).expect("a journal").with_listener(heard.clone());
        let job = create_job(&journal, new_job("work"));
        for status in [JobStatus::Preparing, JobStatus::Suspended, JobStatus::Ready] {
            journal.advance(&job.id, status, StatusReason::default(), hour(0)).expect("moved");
        }
        assert!(journal.advance(&job.id, JobStatus::Complete, StatusReason::default(), hour(0)).is_err());
        let waits = journal.activate(&job.id, |_, _| Err(()), hour(0)).await.expect("judged");
        assert!(waits.is_err());
        let goes = journal.activate(&job.id, |_, _| Ok::<_, ()>(()), hour(0)).await.expect("judged");
        assert!(goes.is_ok());
        let checkpoint = Checkpoint {
            progress: Progress { total: 5, succeeded: 2, failed: 1 },
            in_doubt: 0,
            maybe_started: 0,
            active_time: Duration::from_secs(7),
            next_row: None,
            parts: Vec::new(),
            files: Vec::new(),
            failures: Vec::new(),
        };
        journal.record_checkpoint(job.number, checkpoint.clone()).await.expect("recorded");
        assert!(journal.record_checkpoint(job.number + 1, checkpoint).await.is_err());
        let heard = heard.0.lock().expect("sound");
        assert_eq!(*heard, ["Preparing", "Suspended", "Ready", "Active", "3 in 7 s"]);
    }
}
