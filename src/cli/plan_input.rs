//! The plan that a command is given: a plan file or a saved plan.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::exit::{CommandError, ExitStatus};
use super::plan_file::{self, LoadedPlan};
use super::terminal::Terminal;
use crate::jobs::SavedPlan;
use crate::journal::ManifestFingerprint;
use crate::plan::Plan;

/// The number of bytes that tell a saved plan from a plan file.
const PREFIX_BYTES: u64 = 64;

/// A plan to create a job from.
pub(super) struct PlanInput {
    pub(super) plan: Plan,
    pub(super) text: Vec<u8>,
    /// The absolute path of the plan file. For a saved plan, the file that it was saved from.
    pub(super) file: PathBuf,
    /// The manifest fingerprint that the job must match, for a saved plan.
    pub(super) fingerprint: Option<ManifestFingerprint>,
}

/// Reads the plan in a file. `of` is the plan file that a saved plan must come from, if given.
///
/// # Errors
/// Returns an error if there is no valid plan. Problems of a plan file are printed.
pub(super) fn read(path: &Path, of: Option<&Path>, terminal: Terminal) -> Result<PlanInput, CommandError> {
    let bytes = plan_file::read_up_to(path, SavedPlan::MAX_BYTES);
    if !bytes.as_ref().is_ok_and(|bytes| SavedPlan::is_saved_plan(bytes)) {
        if of.is_some() {
            return Err(CommandError::new(ExitStatus::Invalid, format!("{} is not a saved plan", path.display()))
                .help("remove --plan, or save the plan first: batchplan plan PLAN --out FILE"));
        }
        let LoadedPlan { plan, bytes, .. } = plan_file::require_bytes(path, bytes, terminal)?;
        return Ok(PlanInput { plan, text: bytes, file: std::path::absolute(path)?, fingerprint: None });
    }
    let saved = SavedPlan::parse(path, &bytes?)?;
    let named = of
        .map(|file| Ok::<_, CommandError>((std::path::absolute(file)?, plan_file::require(file, terminal)?)))
        .transpose()?;
    let named = named.as_ref().map(|(file, now)| (file.as_path(), &now.plan));
    let plan = saved.plan(path, named)?;
    let file = named.map_or_else(|| saved.plan_file.clone(), |(file, _)| file.to_owned());
    Ok(PlanInput { plan, text: saved.plan.into_bytes(), file, fingerprint: Some(saved.pledge) })
}

/// Returns whether a regular file contains a saved plan.
pub(super) fn is_saved_plan(path: &Path) -> bool {
    // Reading anything but a regular file may block forever.
    if !path.is_file() {
        return false;
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PREFIX_BYTES).read_to_end(&mut bytes));
    read.is_ok() && SavedPlan::is_saved_plan(&bytes)
}
