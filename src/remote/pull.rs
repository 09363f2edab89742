//! Copies a state from the bucket to the local cache. Every chunk is checked against its digest, and no file is put in
//! place before it is complete.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use batchplan_store::hex::hex;
use flate2::read::GzDecoder;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::error::RemoteError;
use super::local_cache::LocalCache;
use super::prefix_store::PrefixStore;
use super::push::run_blocking;
use super::snapshot::{ChunkedFile, JournalDigest, MAX_CHUNK_BYTES, SnapshotChunk, StateSnapshot, job_file_path};
use crate::files::{create_replacing, sync_folder, with_path};
use crate::job::JobId;
use crate::journal::{JOURNAL_NAME, JobFolder, list_job_folders};

/// The maximum size of the uncompressed journal, in bytes. Our journals stay below 64 MiB.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;

/// The number of chunks to download at once.
const CONCURRENT_DOWNLOADS: usize = 4;

/// Puts the journal of a snapshot into the local cache, in place of what is there. The files of its jobs are fetched
/// later, when they are needed.
pub(super) async fn pull(door: &PrefixStore, mirror: &mut LocalCache, head: StateSnapshot) -> Result<(), RemoteError> {
    let same = unchanged_jobs(mirror, &head);
    // An incomplete pull must not be mistaken for a complete one.
    mirror.record.head = None;
    mirror.record.here.clear();
    mirror.record.pulling = true;
    mirror.save()?;
    let folder = mirror.folder.clone();
    let packed = folder.join("journal.packed.draft");
    download_file(door, &head.journal, packed.clone()).await?;
    let (at, expected, keep) = (folder.clone(), head.journal_sha256.clone(), same.clone());
    run_blocking(move || {
        let unpacked = unpack(&packed, &at.join("journal.draft"), &expected);
        let _ = fs::remove_file(&packed);
        unpacked?;
        replace_journal(&at, &keep)
    })
    .await?;
    mirror.record.head = Some(head);
    mirror.record.here = same;
    (mirror.record.open, mirror.record.pulling) = (false, false);
    mirror.save()
}

/// Returns the jobs whose files are here, and are the same in a newer snapshot.
fn unchanged_jobs(mirror: &LocalCache, newer: &StateSnapshot) -> BTreeSet<JobId> {
    let Some(here) = mirror.record.head.as_ref().filter(|head| head.lineage == newer.lineage && !mirror.record.open)
    else {
        return BTreeSet::new();
    };
    let same = |job: &&JobId| here.jobs.get(*job).is_some_and(|files| newer.jobs.get(*job) == Some(files));
    mirror.record.here.iter().filter(same).cloned().collect()
}

/// Fetches the files of a job, unless they are here.
pub(super) async fn fetch_job(door: &PrefixStore, mirror: &mut LocalCache, job: &JobId) -> Result<(), RemoteError> {
    if mirror.has_job_files(job) {
        return Ok(());
    }
    let Some(files) = mirror.record.head.as_ref().and_then(|head| head.jobs.get(job)).cloned() else { return Ok(()) };
    let home = JobFolder::of(&mirror.folder, job).path().to_owned();
    let draft = mirror.folder.join("job.draft");
    remove_all(&draft)?;
    fs::create_dir_all(&draft).map_err(with_path(&draft))?;
    for (name, filed) in &files {
        let path = job_file_path(&draft, name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(with_path(parent))?;
        }
        download_file(door, filed, path).await?;
    }
    remove_all(&home)?;
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent).map_err(with_path(parent))?;
    }
    fs::rename(&draft, &home).map_err(with_path(&home))?;
    mirror.record.here.insert(job.clone());
    mirror.save()
}

/// Writes a file from its chunks.
async fn download_file(door: &PrefixStore, filed: &ChunkedFile, path: PathBuf) -> Result<(), RemoteError> {
    let mut file = create_replacing(&path).map_err(with_path(&path))?;
    let mut pieces = stream::iter(&filed.pieces).map(|piece| read_chunk(door, piece)).buffered(CONCURRENT_DOWNLOADS);
    while let Some(content) = pieces.next().await {
        file.write_all(&content?).map_err(with_path(&path))?;
    }
    run_blocking(move || Ok(file.sync_all().map_err(with_path(&path))?)).await
}

async fn read_chunk(door: &PrefixStore, piece: &SnapshotChunk) -> Result<Vec<u8>, RemoteError> {
    let damaged = |what: &str| RemoteError::Damaged { name: piece.name.clone(), what: what.to_owned() };
    let content = door.get(&piece.name, MAX_CHUNK_BYTES).await?.ok_or_else(|| damaged("it does not exist"))?;
    if content.len() as u64 != piece.bytes || hex(&Sha256::digest(&content)) != piece.sha256 {
        return Err(damaged("it does not match its checksum"));
    }
    Ok(content)
}

fn unpack(packed: &Path, to: &Path, expected: &str) -> Result<(), RemoteError> {
    let damaged = |what: &str| RemoteError::Damaged { name: "the journal".to_owned(), what: what.to_owned() };
    let mut unpacked = GzDecoder::new(File::open(packed).map_err(with_path(packed))?).take(MAX_JOURNAL_BYTES + 1);
    let mut file = create_replacing(to).map_err(with_path(to))?;
    let (mut digest, mut bytes) = (JournalDigest::default(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match unpacked.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(&error.to_string())),
        };
        bytes += read as u64;
        file.write_all(&buffer[..read]).map_err(with_path(to))?;
        digest.update(&mut buffer[..read]);
    }
    if bytes > MAX_JOURNAL_BYTES {
        return Err(damaged("it is too large"));
    }
    if digest.hex() != expected {
        return Err(damaged("it does not match its checksum"));
    }
    Ok(file.sync_all().map_err(with_path(to))?)
}

/// Puts the unpacked journal in place of the previous one, and removes everything that belonged to that.
fn replace_journal(folder: &Path, keep: &BTreeSet<JobId>) -> Result<(), RemoteError> {
    for job in list_job_folders(folder)?.iter().filter(|job| !keep.contains(*job)) {
        remove_all(JobFolder::of(folder, job).path())?;
    }
    for behind in ["-wal", "-shm"] {
        let path = folder.join(format!("{JOURNAL_NAME}{behind}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(with_path(&path)(error).into()),
            _ => {}
        }
    }
    let journal = folder.join(JOURNAL_NAME);
    fs::rename(folder.join("journal.draft"), &journal).map_err(with_path(&journal))?;
    sync_folder(folder).map_err(with_path(folder))?;
    Ok(())
}

fn remove_all(path: &Path) -> Result<(), RemoteError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(with_path(path)(error).into()),
        _ => Ok(()),
    }
}
