//! Recovers from an incomplete record of a job: files that are damaged or cannot be verified, and outcomes that could
//! not be recorded.

use std::fs;
use std::io;

use super::error::JobError;
use super::hints::format_count;
use super::request_budget::BudgetShare;
use super::runner::{JobRunner, ProgressObserver, WorkOutcome};
use crate::engine::{DispatchOutcome, JobResumeState, ReportError};
use crate::files::with_path;
use crate::journal::JobRecord;
use crate::manifest::FrozenManifest;

/// Notifies the observer if the open-file limit allows fewer objects in flight than the plan.
pub(super) fn report_descriptor_limit(seat: &BudgetShare, wanted: u32, watch: &mut dyn ProgressObserver) {
    if let Some((objects, limit)) = seat.descriptor_limit(wanted) {
        watch.on_note(&format!(
            "at most {} in flight instead of {wanted}: this process may open only {limit} files and connections \
             (ulimit -n)",
            format_count(objects.into(), "object")
        ));
    }
}

impl JobRunner<'_> {
    /// Returns the job's progress as it was last recorded. Records of an earlier version without checksums are accepted
    /// as they are, and get checksums now.
    pub(super) fn resume_state(
        &self,
        frozen: &FrozenManifest,
        watch: &mut dyn ProgressObserver,
    ) -> Result<JobResumeState, JobError> {
        let recorded = self.journal.recorded_progress(self.job.number)?;
        if recorded.unverified || !frozen.has_checksum() {
            watch.on_note(&format!(
                "job {} was started by an earlier version of batchplan, which recorded no checksums: its files on this \
                 disk are used without a check for damage",
                self.job.id
            ));
            self.journal.accept_unverified(self.job.number)?;
            frozen.add_checksum()?;
        }
        let lost_since = Some(self.job.created).filter(|_| self.job.lost_outcomes > 0);
        let JobRecord { progress, next_row: taken, in_doubt, maybe_started: reach, active_time: active, .. } = self.job;
        Ok(JobResumeState {
            progress,
            next_row: taken,
            in_doubt,
            maybe_started: reach,
            active_time: active,
            outcomes_lost_since: lost_since,
            recorded,
        })
    }

    /// Counts objects as in doubt that were done but could not be recorded. They are not in the report, and are done
    /// again.
    pub(super) fn record_in_doubt(&mut self, dispatched: &DispatchOutcome) -> Result<(), JobError> {
        let unrecorded = dispatched.progress.finished().saturating_sub(self.job.progress.finished());
        if unrecorded > 0 {
            self.job.in_doubt = dispatched.in_doubt.saturating_add(unrecorded).min(self.job.progress.remaining());
            self.journal.set_in_doubt(&self.job.id, self.job.in_doubt)?;
        }
        Ok(())
    }

    /// Works on all objects again if a report file is damaged, because it is unknown which of them the file contained.
    /// Setting tags and ACLs twice has the same result, and an object is read before its restore is requested again.
    ///
    /// # Errors
    /// Returns `error` unchanged if it is not a damaged file. Returns an error if the file cannot be moved aside, or if
    /// the job cannot be run again.
    pub(super) async fn restart_after_damage(
        &mut self,
        error: ReportError,
        frozen: &FrozenManifest,
        watch: &mut dyn ProgressObserver,
    ) -> Result<WorkOutcome, JobError> {
        let damage = match error {
            ReportError::Reopen(damage) => damage,
            other => return Err(other.into()),
        };
        let Some(file) = damage.lost_file().map(std::path::Path::to_owned) else {
            return Err(ReportError::Reopen(damage).into());
        };
        let mut aside = file.clone().into_os_string();
        aside.push(".damaged");
        let kept = match fs::rename(&file, &aside) {
            Ok(()) => format!(" (kept as {})", aside.display()),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(with_path(&file)(cause).into()),
        };
        let settled = self.job.progress.finished();
        watch.on_note(&format!(
            "{damage}{kept}: the outcomes of job {} are lost, and all its objects are processed again, {settled} of \
             them for the second time",
            self.job.id
        ));
        self.journal.discard_outcomes(self.job.number)?;
        self.refresh()?;
        Box::pin(self.execute(frozen, watch)).await
    }
}
