//! Finds the newest complete inventory below a prefix: `latest = "prefix/"`.

use std::collections::BTreeSet;
use std::sync::Arc;

use md5::{Digest, Md5};
use tokio_util::sync::CancellationToken;

use super::document::{Document, Found, MAX_DOCUMENT_BYTES};
use crate::hex::hex;
use crate::manifest::error::{ManifestError, Warning, place};
use crate::manifest::frozen::Pin;
use crate::manifest::input::read_small;
use crate::manifest::patient::{Patient, bare};
use crate::object::{Bucket, Key};
use crate::store::{ListCursor, ListRequest, Store};

/// The number of newest folders that are tried. With one inventory per day, this is a month of incomplete ones.
const LOOKED_AT: usize = 32;

/// The most pages in a row without a new name, for example pages of delete markers.
const IDLE_PAGES: u32 = 1000;

/// The largest `manifest.checksum` in bytes: 32 digits and a newline, with a wide margin.
const MAX_CHECKSUM_BYTES: u64 = 1024;

/// Returns the newest complete inventory below a prefix, as a job pins it, and warnings about newer inventories that
/// are skipped.
///
/// # Errors
/// Returns an error if there is no complete inventory, its `manifest.json` is invalid, or a request fails.
pub async fn newest(
    bucket: &Bucket,
    prefix: &Key,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<(Pin, Vec<Warning>), ManifestError> {
    let patient = Patient::new(Arc::clone(store), stop.clone());
    let (Found { key, etag, text }, warnings) = find(bucket, prefix, &patient).await?;
    let created = Document::parse(&text, &place(bucket, &key))?.created;
    Ok((Pin::Inventory { bucket: bucket.clone(), key, etag, created }, warnings))
}

/// Finds and fetches the newest `manifest.json` that matches its `manifest.checksum`.
pub(super) async fn find(
    bucket: &Bucket,
    prefix: &Key,
    patient: &Patient,
) -> Result<(Found, Vec<Warning>), ManifestError> {
    let mut base = prefix.as_bytes().to_vec();
    if base.last().is_some_and(|byte| *byte != b'/') {
        base.push(b'/');
    }
    let folders = folders(bucket, &Key::new(base.as_slice()), patient).await?;
    let mut unfinished = Vec::new();
    for folder in folders.into_iter().rev() {
        match read_complete(bucket, &folder, patient).await? {
            Ok(found) => {
                let passed = |(folder, why): &(Key, String)| Warning {
                    message: format!("{} was passed over: {why}; {} is taken", place(bucket, folder), found.key),
                    help: "wait for the newer inventory to be finished if its objects matter".to_owned(),
                };
                let warnings = unfinished.iter().map(passed).collect();
                return Ok((found, warnings));
            }
            Err(why) => unfinished.push((folder, why)),
        }
    }
    Err(ManifestError::malformed(
        &place(bucket, prefix),
        match unfinished.len() {
            0 => "there is no folder named like 2026-01-31T00-00Z/ below it".to_owned(),
            count => format!("none of its {count} newest inventories is complete; the newest: {}", unfinished[0].1),
        },
        "give the prefix that holds the dated folders, each with manifest.json and manifest.checksum",
    ))
}

/// Returns the newest dated folders directly below the prefix, oldest first. Their names sort by time.
async fn folders(bucket: &Bucket, base: &Key, patient: &Patient) -> Result<BTreeSet<Key>, ManifestError> {
    let mut request = ListRequest {
        bucket: bucket.clone(),
        prefix: base.clone(),
        all_versions: false,
        directories: true,
        from: None,
    };
    let untrusted = |what: String| ManifestError::Listing { place: place(bucket, base), what };
    let mut newest = BTreeSet::new();
    let mut last = Key::from("");
    let mut cursor = ListCursor::new(request.all_versions, IDLE_PAGES);
    loop {
        let page = patient.list(&request).await?;
        let names = || page.entries.iter().map(|entry| &entry.key).chain(&page.prefixes);
        if let Some(back) = names().find(|name| **name < last) {
            return Err(untrusted(format!("{back} comes behind {last}")));
        }
        last = names().max().unwrap_or(&last).clone();
        let next = cursor.follow(request.from.as_ref(), &page).map_err(untrusted)?;
        for folder in page.prefixes {
            if folder.as_bytes().strip_prefix(base.as_bytes()).is_some_and(is_dated) {
                newest.insert(folder);
            }
            if newest.len() > LOOKED_AT {
                newest.pop_first();
            }
        }
        if next.is_none() {
            return Ok(newest);
        }
        request.from = next;
    }
}

/// Returns whether a folder's name has the form `YYYY-MM-DDTHH-MMZ/`.
fn is_dated(name: &[u8]) -> bool {
    const FORM: &[u8] = b"0000-00-00T00-00Z/";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    name.len() == FORM.len() && name.iter().zip(FORM).all(fits)
}

/// Fetches the `manifest.json` of one folder. The inner error says why the inventory is not complete.
async fn read_complete(
    bucket: &Bucket,
    folder: &Key,
    patient: &Patient,
) -> Result<Result<Found, String>, ManifestError> {
    let sibling = |name: &str| Key::new([folder.as_bytes(), name.as_bytes()].concat());
    let checksum = sibling("manifest.checksum");
    let Some((_, expected)) = read_if_there(bucket, &checksum, MAX_CHECKSUM_BYTES, patient).await? else {
        return Ok(Err("it has no manifest.checksum".to_owned()));
    };
    let key = sibling("manifest.json");
    let Some((etag, text)) = read_if_there(bucket, &key, MAX_DOCUMENT_BYTES, patient).await? else {
        return Ok(Err("it has no manifest.json".to_owned()));
    };
    let found = hex(&Md5::digest(&text));
    if !expected.trim_ascii().eq_ignore_ascii_case(found.as_bytes()) {
        return Ok(Err("its manifest.checksum is not that of its manifest.json".to_owned()));
    }
    Ok(Ok(Found { key, etag, text }))
}

async fn read_if_there(
    bucket: &Bucket,
    key: &Key,
    limit: u64,
    patient: &Patient,
) -> Result<Option<(String, Vec<u8>)>, ManifestError> {
    match patient.open(bucket, key, None).await? {
        Ok(opened) => {
            let etag = bare(&opened.etag).to_owned();
            Ok(Some((etag, read_small(opened, limit, &place(bucket, key), patient.stop()).await?)))
        }
        Err(fault) if fault.status == Some(404) => Ok(None),
        Err(fault) => {
            Err(ManifestError::Store { doing: format!("read {}", place(bucket, key)), fault: Box::new(fault) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_folders_are_told_from_others() {
        assert!(is_dated(b"2026-01-31T00-00Z/"));
        for name in ["data/", "hive/", "2026-01-31T00-00Z", "2026-01-31T00-00Zx", "2026-01-31T00:00Z/", "é"] {
            assert!(!is_dated(name.as_bytes()), "{name}");
        }
    }
}
