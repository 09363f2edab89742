//! State folders: the journal, frozen manifests, drafts of them, reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan::engine::report_state;
use batchplan::jobs::stored_plan;
use batchplan::journal::{JobFolder, JobQuery, Journal, list_job_folders};
use batchplan::manifest::{FreezeLimits, FrozenManifest, freeze};
use batchplan::report::{FinishedReport, ROTATE_AT, ReportWriter};
use batchplan::report_format::OperationNaming;
use batchplan_store::Store;
use batchplan_store::task::TaskId;
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use super::{choice, repository, scratch};

/// What was kept of an earlier version, one for each status that matters here.
const KEPT: &[&str] = &["paused", "interrupted", "half-listed", "report-not-published", "recurring"];

fn kept(name: &str) -> PathBuf {
    repository("tests/checkpoints/kept/0.1.0").join(name).join("state")
}

/// The files of a state folder, in a fixed order, from there.
fn names(state: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![state.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(state).expect("below it").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Each file of each folder, behind its number.
pub(super) fn files() -> Vec<Vec<u8>> {
    let all = KEPT.iter().flat_map(|name| names(&kept(name)).into_iter().map(|file| kept(name).join(file)));
    let numbered = |(number, path)| [vec![number], fs::read(path).expect("a file")].concat();
    (0..u8::MAX).zip(all).map(numbered).collect()
}

fn copy(from: &Path, to: &Path) {
    for name in names(from) {
        let target = to.join(&name);
        fs::create_dir_all(target.parent().expect("a parent")).expect("a folder");
        fs::copy(from.join(name), target).expect("copied");
    }
}

/// A folder one of whose files is another, opened and read as commands do.
pub(super) fn journal(input: &[u8]) {
    let all: Vec<_> =
        KEPT.iter().flat_map(|name| names(&kept(name)).into_iter().map(move |file| (name, file))).collect();
    let (number, content) = choice(input, all.len());
    let (name, file) = &all[number];
    let folder = scratch();
    let state = folder.path();
    copy(&kept(name), state);
    fs::write(state.join(file), content).expect("written");
    let _ = list_job_folders(state).expect("it can be listed");
    let Ok(Some(journal)) = Journal::open_existing(state) else { return };
    let Ok(jobs) = journal.list(JobQuery { limit: 100, ..JobQuery::default() }) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for job in jobs {
        let _ = journal.retries_of(&job.id);
        let Ok(job) = journal.find(job.id.as_str()) else { continue };
        let home = JobFolder::of(state, &job.id);
        let recorded = journal.recorded_progress(job.number);
        if let Ok(Some(frozen)) = FrozenManifest::open(home.path()) {
            let _ = frozen.tasks(TaskId { part: 0, row: 0 }, 100).take_while(Result::is_ok).count();
            if let Ok(recorded) = &recorded {
                let _ = frozen.interleaved_tasks(&recorded.frontier, 100).take_while(Result::is_ok).count();
            }
        }
        let _ = FinishedReport::load(&home.report_folder());
        let Ok(plan) = stored_plan(&job) else { continue };
        if let Ok(state) = recorded.map_err(drop).and_then(|recorded| report_state(&recorded.files).map_err(drop)) {
            let naming = OperationNaming::for_operations(plan.operations.len());
            let _ = ReportWriter::resume(&home.report_folder(), &plan.report, &job.id, naming, ROTATE_AT, &state);
        }
        // What is half prepared is gone on with, on a store that has nothing.
        let store: Arc<dyn Store> = Arc::new(Shelf([].into()));
        let stop = CancellationToken::new();
        let _ = runtime.block_on(freeze(&plan.manifest, &store, home.path(), FreezeLimits::default(), &|_| {}, &stop));
    }
}
