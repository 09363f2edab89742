//! Recovers from an incomplete record of a job: files that are damaged or cannot be verified, and outcomes that could
//! not be recorded.

use std::fs;
use std::io;

use super::budget::Seat;
use super::error::JobError;
use super::runner::{Runner, Watch, Worked};
use crate::engine::{Before, Dispatched, ReportError};
use crate::files::about;
use crate::journal::JobRecord;
use crate::manifest::Frozen;

/// Notifies the observer if the open-file limit allows fewer objects in flight than the plan.
pub(super) fn say_bounds(seat: &Seat, wanted: u32, watch: &mut dyn Watch) {
    if let Some((objects, limit)) = seat.bounded_by_descriptors(wanted) {
        watch.notes(&format!(
            "at most {objects} objects are in flight at once, where the plan allows {wanted}: this process may have {limit} \
             files and connections open (ulimit -n)"
        ));
    }
}

impl Runner<'_> {
    /// Returns the job's progress as it was last recorded. Records of an earlier version without checksums are accepted
    /// as they are, and get checksums now.
    pub(super) fn before(&self, frozen: &Frozen, watch: &mut dyn Watch) -> Result<Before, JobError> {
        let recorded = self.journal.recorded(self.job.number)?;
        if recorded.unproven || !frozen.is_proven() {
            watch.notes(&format!(
                "job {} was begun by an earlier batchplan, which recorded no checksums: what it left on this disk is used \
                 without a check for damage",
                self.job.id
            ));
            self.journal.accept_recorded(self.job.number)?;
            frozen.accept()?;
        }
        let lost_since = Some(self.job.created).filter(|_| self.job.lost > 0);
        let JobRecord { progress, taken, in_doubt, reach, active, .. } = self.job;
        Ok(Before { progress, taken, in_doubt, reach, active, lost_since, recorded })
    }

    /// Counts objects as in doubt that were done but could not be recorded. They are not in the report, and are done
    /// again.
    pub(super) fn note_unrecorded(&mut self, dispatched: &Dispatched) -> Result<(), JobError> {
        let unrecorded = dispatched.progress.settled().saturating_sub(self.job.progress.settled());
        if unrecorded > 0 {
            self.job.in_doubt = dispatched.in_doubt.saturating_add(unrecorded).min(self.job.progress.left());
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
    pub(super) async fn redo(
        &mut self,
        error: ReportError,
        frozen: &Frozen,
        watch: &mut dyn Watch,
    ) -> Result<Worked, JobError> {
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
            Err(cause) => return Err(about(&file)(cause).into()),
        };
        let settled = self.job.progress.settled();
        watch.notes(&format!(
            "{damage}{kept}: the outcomes of job {} are lost, and all its objects are worked on again, {settled} of them for \
             the second time",
            self.job.id
        ));
        self.journal.forget_outcomes(self.job.number)?;
        self.refresh()?;
        Box::pin(self.work(frozen, watch)).await
    }
}
