//! Copies a state from the bucket to the local cache. Every chunk is checked against its digest, and no file is put in
//! place before it is complete.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::door::Door;
use super::error::RemoteError;
use super::head::{Filed, Head, JournalDigest, PIECE, Piece, path_below};
use super::mirror::Mirror;
use super::push::blocking;
use crate::files::{about, create_anew, sync_folder};
use crate::hex::hex;
use crate::job::JobId;
use crate::journal::{JOURNAL_NAME, JobFolder, folders};

/// The maximum size of the uncompressed journal, in bytes. Our journals stay below 64 MiB.
const MAX_JOURNAL: u64 = 1 << 30;

/// The number of chunks to download at once.
const AT_ONCE: usize = 4;

/// Puts the journal of a snapshot into the local cache, in place of what is there. The files of its jobs are fetched
/// later, when they are needed.
pub(super) async fn pull(door: &Door, mirror: &mut Mirror, head: Head) -> Result<(), RemoteError> {
    let same = unchanged(mirror, &head);
    // An incomplete pull must not be mistaken for a complete one.
    mirror.record.head = None;
    mirror.record.here.clear();
    mirror.record.pulling = true;
    mirror.save()?;
    let folder = mirror.folder.clone();
    let packed = folder.join("journal.packed.draft");
    download(door, &head.journal, packed.clone()).await?;
    let (at, expected, keep) = (folder.clone(), head.journal_sha256.clone(), same.clone());
    blocking(move || {
        let unpacked = unpack(&packed, &at.join("journal.draft"), &expected);
        let _ = fs::remove_file(&packed);
        unpacked?;
        take_place(&at, &keep)
    })
    .await?;
    mirror.record.head = Some(head);
    mirror.record.here = same;
    (mirror.record.open, mirror.record.pulling) = (false, false);
    mirror.save()
}

/// Returns the jobs whose files are here, and are the same in a newer snapshot.
fn unchanged(mirror: &Mirror, newer: &Head) -> BTreeSet<JobId> {
    let Some(here) = mirror.record.head.as_ref().filter(|head| head.lineage == newer.lineage && !mirror.record.open)
    else {
        return BTreeSet::new();
    };
    let same = |job: &&JobId| here.jobs.get(*job).is_some_and(|files| newer.jobs.get(*job) == Some(files));
    mirror.record.here.iter().filter(same).cloned().collect()
}

/// Fetches the files of a job, unless they are here.
pub(super) async fn fetch(door: &Door, mirror: &mut Mirror, job: &JobId) -> Result<(), RemoteError> {
    if mirror.has(job) {
        return Ok(());
    }
    let Some(files) = mirror.record.head.as_ref().and_then(|head| head.jobs.get(job)).cloned() else { return Ok(()) };
    let home = JobFolder::of(&mirror.folder, job).path().to_owned();
    let draft = mirror.folder.join("job.draft");
    remove_all(&draft)?;
    fs::create_dir_all(&draft).map_err(about(&draft))?;
    for (name, filed) in &files {
        let path = path_below(&draft, name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(about(parent))?;
        }
        download(door, filed, path).await?;
    }
    remove_all(&home)?;
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent).map_err(about(parent))?;
    }
    fs::rename(&draft, &home).map_err(about(&home))?;
    mirror.record.here.insert(job.clone());
    mirror.save()
}

/// Writes a file from its chunks.
async fn download(door: &Door, filed: &Filed, path: PathBuf) -> Result<(), RemoteError> {
    let mut file = create_anew(&path).map_err(about(&path))?;
    let mut pieces = stream::iter(&filed.pieces).map(|piece| read(door, piece)).buffered(AT_ONCE);
    while let Some(content) = pieces.next().await {
        file.write_all(&content?).map_err(about(&path))?;
    }
    blocking(move || Ok(file.sync_all().map_err(about(&path))?)).await
}

async fn read(door: &Door, piece: &Piece) -> Result<Vec<u8>, RemoteError> {
    let damaged = |what: &str| RemoteError::Damaged { name: piece.name.clone(), what: what.to_owned() };
    let content = door.get(&piece.name, PIECE).await?.ok_or_else(|| damaged("it is gone"))?;
    if content.len() as u64 != piece.bytes || hex(&Sha256::digest(&content)) != piece.sha256 {
        return Err(damaged("it is not what was put there"));
    }
    Ok(content)
}

fn unpack(packed: &Path, to: &Path, expected: &str) -> Result<(), RemoteError> {
    let damaged = |what: &str| RemoteError::Damaged { name: "the journal".to_owned(), what: what.to_owned() };
    let mut unpacked = GzDecoder::new(File::open(packed).map_err(about(packed))?).take(MAX_JOURNAL + 1);
    let mut file = create_anew(to).map_err(about(to))?;
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
        file.write_all(&buffer[..read]).map_err(about(to))?;
        digest.update(&mut buffer[..read]);
    }
    if bytes > MAX_JOURNAL {
        return Err(damaged("it is larger than any"));
    }
    if digest.hex() != expected {
        return Err(damaged("it is not what was put there"));
    }
    Ok(file.sync_all().map_err(about(to))?)
}

/// Puts the unpacked journal in place of the previous one, and removes everything that belonged to that.
fn take_place(folder: &Path, keep: &BTreeSet<JobId>) -> Result<(), RemoteError> {
    for job in folders(folder)?.iter().filter(|job| !keep.contains(*job)) {
        remove_all(JobFolder::of(folder, job).path())?;
    }
    for behind in ["-wal", "-shm"] {
        let path = folder.join(format!("{JOURNAL_NAME}{behind}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(about(&path)(error).into()),
            _ => {}
        }
    }
    let journal = folder.join(JOURNAL_NAME);
    fs::rename(folder.join("journal.draft"), &journal).map_err(about(&journal))?;
    sync_folder(folder).map_err(about(folder))?;
    Ok(())
}

fn remove_all(path: &Path) -> Result<(), RemoteError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(path)(error).into()),
        _ => Ok(()),
    }
}
