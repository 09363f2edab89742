//! Resuming from a record that is damaged, or that cannot be proven undamaged.

use std::fs;
use std::io;

use super::error::JobError;
use super::runner::{Runner, Watch, Worked};
use crate::engine::{Before, ReportError};
use crate::files::about;
use crate::manifest::Frozen;

impl Runner<'_> {
    /// How far the job had come when it was last recorded. What an earlier build recorded without checksums is taken for
    /// what it should be, and gets them now.
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
        let lost = Some((self.job.lost, self.job.created)).filter(|(rows, _)| *rows > 0);
        let (progress, taken, active) = (self.job.progress, self.job.taken, self.job.active);
        Ok(Before { progress, taken, active, lost, recorded })
    }

    /// Works on all objects again where a file of the report is not what the job wrote: which of them it told of, nobody
    /// knows. Setting tags and ACLs twice comes to the same, and before a restore is requested again the object is looked at.
    ///
    /// # Errors
    /// Any other error than a damaged file, as it is.
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
