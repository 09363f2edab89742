//! Which bytes of which files make up a state at one moment, while jobs are at work on them.
//!
//! The journal is copied first, and of a job's report as much is taken as that copy knows: what is behind it is cut off when
//! the job is gone on with. Of a manifest that is still being resolved the mark of how far it is comes first, and its parts
//! then, which have at least what the mark says. A file that is gone when it is to be read shows that time has passed over
//! what was looked at, and all of it is looked at again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::error::RemoteError;
use super::head::{JournalDigest, is_inside, path_below};
use super::push::plain_file;
use crate::files::{about, open_own};
use crate::job::JobId;
use crate::journal::{JobFolder, Journal, Kept};

/// Files up to this long are taken into memory at once: marks and lists, which are replaced as a whole.
const SMALL: u64 = 1 << 20;

/// The folder below a job's that has its report.
const REPORT: &str = "report";

/// What there is at one moment.
pub(super) struct Captured {
    /// The journal, compressed, and the digest of what it is otherwise.
    pub(super) journal: Vec<u8>,
    pub(super) journal_sha256: String,
    /// Every job of the journal, with its files where its folder was to be looked at.
    pub(super) jobs: BTreeMap<JobId, Option<Vec<Found>>>,
}

/// A file that is to be pushed.
#[derive(Debug)]
pub(super) struct Found {
    /// Its path in the job's folder, with `/` between its parts.
    pub(super) name: String,
    pub(super) content: Bytes,
}

/// The bytes of it that count.
#[derive(Debug)]
pub(super) enum Bytes {
    /// These.
    Here(Vec<u8>),
    /// So many from its beginning.
    First(PathBuf, u64),
    /// So many from its beginning; nothing before that ever changes while a job is at work on it.
    Grown(PathBuf, u64),
}

/// What is done about a file of a report that is recorded, and not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It is looked at again: it may be freed, and that not be in the copy yet.
    Refuse,
    /// It is left out: somebody has removed it.
    LeaveOut,
}

/// Looks at the journal and at the folders of the jobs that `wanted` says.
pub(super) async fn capture(
    journal: &Journal,
    gone: Gone,
    wanted: impl Fn(&JobId) -> bool + Send + 'static,
) -> Result<Captured, RemoteError> {
    let state = journal.state().to_owned();
    let copy = state.join(format!("journal.{:016x}.draft", fastrand::u64(..)));
    let kept = journal.copy_to(&copy).await;
    let looked = tokio::task::spawn_blocking(move || {
        let looked = kept.map_err(RemoteError::from).and_then(|kept| look(&state, &copy, kept, gone, wanted));
        // It may not even be there.
        let _ = fs::remove_file(&copy);
        looked
    });
    looked.await.map_err(io::Error::other)?
}

fn look(
    state: &Path,
    copy: &Path,
    kept: Vec<Kept>,
    gone: Gone,
    wanted: impl Fn(&JobId) -> bool,
) -> Result<Captured, RemoteError> {
    let mut plain = fs::read(copy).map_err(about(copy))?;
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&plain)?;
    let journal = packer.finish()?;
    let mut digest = JournalDigest::default();
    digest.update(&mut plain);
    let journal_sha256 = digest.hex();
    let mut jobs = BTreeMap::new();
    for job in kept {
        let files = if wanted(&job.id) { Some(files_of(state, &job, gone)?) } else { None };
        jobs.insert(job.id, files);
    }
    Ok(Captured { journal, journal_sha256, jobs })
}

/// The files of one job.
fn files_of(state: &Path, job: &Kept, gone: Gone) -> Result<Vec<Found>, RemoteError> {
    let folder = JobFolder::of(state, &job.id);
    let mut found = Vec::new();
    // Marks first, see above.
    let mut names = Vec::new();
    walk(folder.path(), "", &mut names)?;
    for name in names.iter().filter(|name| is_mark(name)) {
        if let Some(text) = small(&path_below(folder.path(), name))? {
            found.push(Found { name: name.clone(), content: Bytes::Here(text) });
        }
    }
    let mut parts = Vec::new();
    walk(folder.path(), "", &mut parts)?;
    let is_part = |name: &&String| !is_mark(name) && !name.starts_with(REPORT);
    for name in parts.iter().filter(is_part) {
        let path = path_below(folder.path(), name);
        let bytes = plain_file(&path)?.len();
        found.push(Found { name: name.clone(), content: Bytes::First(path, bytes) });
    }
    for file in job.files.iter().filter(|file| !file.published) {
        let name = format!("{REPORT}/{}", file.name);
        if !is_inside(&name) {
            let what = "it names a file of a report outside of the job's folder".to_owned();
            return Err(RemoteError::Damaged { name: "the journal".to_owned(), what });
        }
        let path = path_below(folder.path(), &name);
        let there = match plain_file(&path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound && gone == Gone::LeaveOut => continue,
            there => there?.len(),
        };
        if there < file.bytes {
            let what = format!("{}: {there} bytes, and {} are recorded", path.display(), file.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
        }
        found.push(Found { name, content: Bytes::Grown(path, file.bytes) });
    }
    Ok(found)
}

/// Whether a file says how far something is, or what there is: such are replaced as a whole.
fn is_mark(name: &str) -> bool {
    has_ending(name, "json") || has_ending(name, "toml")
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

/// The names of the files below a folder that can be kept elsewhere; drafts are not.
fn walk(folder: &Path, below: &str, names: &mut Vec<String>) -> Result<(), RemoteError> {
    let place = path_below(folder, below.trim_end_matches('/'));
    let entries = match fs::read_dir(if below.is_empty() { folder } else { &place }) {
        Ok(entries) => entries,
        // A job that has nothing yet, or nothing any more.
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(about(&place)(cause).into()),
    };
    for entry in entries {
        let entry = entry.map_err(about(&place))?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{below}{name}")) else { continue };
        let kind = entry.file_type().map_err(about(&entry.path()))?;
        if kind.is_dir() && is_inside(&format!("{name}/x")) {
            walk(folder, &format!("{name}/"), names)?;
        } else if kind.is_file() && is_inside(&name) && !has_ending(&name, "draft") {
            names.push(name);
        }
    }
    Ok(())
}

/// A small file whole; `None` where it is gone by now.
fn small(path: &Path) -> Result<Option<Vec<u8>>, RemoteError> {
    let file = match open_own(path, File::options().read(true)) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(about(path)(cause).into()),
    };
    let mut text = Vec::new();
    file.take(64 * SMALL).read_to_end(&mut text).map_err(about(path))?;
    Ok(Some(text))
}
