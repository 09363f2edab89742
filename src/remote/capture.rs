//! Selects which bytes of which files make up a state at one moment, while jobs are running.
//!
//! The journal is copied first. Of a job's report, only as much is taken as that copy records: the rest is cut off when
//! the job is resumed. Of a manifest that is still being resolved, the checkpoint is read first and its parts after it,
//! so that the parts contain at least what the checkpoint says. If a file is gone when it is to be read, what was
//! captured before is out of date, and everything is captured again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::error::RemoteError;
use super::push::regular_file_metadata;
use super::snapshot::{JournalDigest, is_valid_file_name, job_file_path};
use crate::files::{open_regular, with_path};
use crate::job::JobId;
use crate::journal::{JobFolder, Journal, JournalCopyJob};

/// The largest checkpoint or list in bytes. These files are replaced as a whole, and read into memory.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// The subfolder of a job's folder that holds its report.
const REPORT_FOLDER: &str = "report";

/// A state at one moment.
pub(super) struct CapturedState {
    /// The journal, compressed. `journal_sha256` is the digest of the journal before compression.
    pub(super) journal: Vec<u8>,
    pub(super) journal_sha256: String,
    /// Every job of the journal, with its files if its folder was to be read.
    pub(super) jobs: BTreeMap<JobId, Option<Vec<CapturedFile>>>,
}

/// A file to push.
#[derive(Debug)]
pub(super) struct CapturedFile {
    /// Its path in the job's folder, with `/` as separator.
    pub(super) name: String,
    pub(super) content: CapturedBytes,
}

/// The bytes of a file that belong to the state.
#[derive(Debug)]
pub(super) enum CapturedBytes {
    /// The bytes themselves.
    Inline(Vec<u8>),
    /// This many bytes from the start of the file.
    Prefix(PathBuf, u64),
    /// This many bytes from the start of the file. They never change while the job runs.
    AppendOnly(PathBuf, u64),
}

/// What to do if a recorded report file is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissingFilePolicy {
    /// Fail, and capture again: the file may have been removed after publishing, and the copy of the journal does not
    /// contain that yet.
    Fail,
    /// Leave the file out: it was removed from outside.
    Skip,
}

/// Captures the journal, and the folders of the jobs that `wanted` selects.
pub(super) async fn capture(
    journal: &Journal,
    gone: MissingFilePolicy,
    wanted: impl Fn(&JobId) -> bool + Send + 'static,
) -> Result<CapturedState, RemoteError> {
    let state = journal.state_folder().to_owned();
    let copy = state.join(format!("journal.{:016x}.draft", fastrand::u64(..)));
    let kept = journal.copy_to(&copy).await;
    let looked = tokio::task::spawn_blocking(move || {
        let looked = kept.map_err(RemoteError::from).and_then(|kept| capture_files(&state, &copy, kept, gone, wanted));
        // The copy may not exist.
        let _ = fs::remove_file(&copy);
        looked
    });
    looked.await.map_err(io::Error::other)?
}

fn capture_files(
    state: &Path,
    copy: &Path,
    kept: Vec<JournalCopyJob>,
    gone: MissingFilePolicy,
    wanted: impl Fn(&JobId) -> bool,
) -> Result<CapturedState, RemoteError> {
    let mut plain = fs::read(copy).map_err(with_path(copy))?;
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&plain)?;
    let journal = packer.finish()?;
    let mut digest = JournalDigest::default();
    digest.update(&mut plain);
    let journal_sha256 = digest.hex();
    let mut jobs = BTreeMap::new();
    for job in kept {
        let files = if wanted(&job.id) { Some(job_files(state, &job, gone)?) } else { None };
        jobs.insert(job.id, files);
    }
    Ok(CapturedState { journal, journal_sha256, jobs })
}

/// Returns the files of one job.
fn job_files(state: &Path, job: &JournalCopyJob, gone: MissingFilePolicy) -> Result<Vec<CapturedFile>, RemoteError> {
    let folder = JobFolder::of(state, &job.id);
    let mut found = Vec::new();
    // Checkpoints come first, as described at the top of this module.
    let mut names = Vec::new();
    list_files(folder.path(), "", &mut names)?;
    for name in names.iter().filter(|name| is_checkpoint(name)) {
        if let Some(text) = read_small_file(&job_file_path(folder.path(), name))? {
            found.push(CapturedFile { name: name.clone(), content: CapturedBytes::Inline(text) });
        }
    }
    let mut parts = Vec::new();
    list_files(folder.path(), "", &mut parts)?;
    let is_part = |name: &&String| !is_checkpoint(name) && !name.starts_with(REPORT_FOLDER);
    for name in parts.iter().filter(is_part) {
        let path = job_file_path(folder.path(), name);
        let bytes = regular_file_metadata(&path)?.len();
        found.push(CapturedFile { name: name.clone(), content: CapturedBytes::Prefix(path, bytes) });
    }
    for file in job.files.iter().filter(|file| !file.published) {
        let name = format!("{REPORT_FOLDER}/{}", file.name);
        if !is_valid_file_name(&name) {
            let what = "it names a report file outside the job's folder".to_owned();
            return Err(RemoteError::Damaged { name: "the journal".to_owned(), what });
        }
        let path = job_file_path(folder.path(), &name);
        let there = match regular_file_metadata(&path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound && gone == MissingFilePolicy::Skip => continue,
            there => there?.len(),
        };
        if there < file.bytes {
            let what = format!("{}: {there} bytes, but {} are recorded", path.display(), file.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
        }
        found.push(CapturedFile { name, content: CapturedBytes::AppendOnly(path, file.bytes) });
    }
    Ok(found)
}

/// Returns whether a file is a checkpoint or a list. Such files are replaced as a whole.
fn is_checkpoint(name: &str) -> bool {
    has_extension(name, "json") || has_extension(name, "toml")
}

fn has_extension(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

/// Collects the names of the files below a folder that can be stored in the bucket. Drafts are skipped.
fn list_files(folder: &Path, below: &str, names: &mut Vec<String>) -> Result<(), RemoteError> {
    let place = job_file_path(folder, below.trim_end_matches('/'));
    let entries = match fs::read_dir(if below.is_empty() { folder } else { &place }) {
        Ok(entries) => entries,
        // The job has no files yet, or no longer has any.
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(with_path(&place)(cause).into()),
    };
    for entry in entries {
        let entry = entry.map_err(with_path(&place))?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{below}{name}")) else { continue };
        let kind = entry.file_type().map_err(with_path(&entry.path()))?;
        if kind.is_dir() && is_valid_file_name(&format!("{name}/x")) {
            list_files(folder, &format!("{name}/"), names)?;
        } else if kind.is_file() && is_valid_file_name(&name) && !has_extension(&name, "draft") {
            names.push(name);
        }
    }
    Ok(())
}

/// Reads a small file as a whole; `None` if it is gone.
fn read_small_file(path: &Path) -> Result<Option<Vec<u8>>, RemoteError> {
    let file = match open_regular(path, File::options().read(true)) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(with_path(path)(cause).into()),
    };
    let mut text = Vec::new();
    file.take(MAX_SMALL_FILE + 1).read_to_end(&mut text).map_err(with_path(path))?;
    if text.len() as u64 > MAX_SMALL_FILE {
        let why = format!("it has more than {MAX_SMALL_FILE} bytes, which no file of its kind has: it is damaged");
        return Err(with_path(path)(io::Error::other(why)).into());
    }
    Ok(Some(text))
}
