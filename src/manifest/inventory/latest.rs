//! Finds the newest complete inventory below a prefix: `latest = "prefix/"`.

use std::collections::BTreeSet;
use std::sync::Arc;

use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::{ListCursor, ListRequest, Store};
use md5::{Digest, Md5};
use tokio_util::sync::CancellationToken;

use super::manifest_json::{FetchedInventoryManifest, InventoryManifest, MAX_MANIFEST_BYTES};
use crate::manifest::error::{ManifestError, ManifestWarning, object_path};
use crate::manifest::input::read_small;
use crate::manifest::pins::SourcePin;
use crate::manifest::retrying_store::{RetryingStore, bare_etag};

/// The number of newest folders that are tried. With one inventory per day, this is a month of incomplete ones.
const MAX_FOLDERS: usize = 32;

/// The most pages in a row without a new name, for example pages of delete markers.
const IDLE_PAGES: u32 = 1000;

/// The largest `manifest.checksum` in bytes: 32 digits and a newline, with a wide margin.
const MAX_CHECKSUM_BYTES: u64 = 1024;

/// Returns the newest complete inventory below a prefix, as a job pins it, and warnings about newer inventories that
/// are skipped.
///
/// # Errors
/// Returns an error if there is no complete inventory, its `manifest.json` is invalid, or a request fails.
pub async fn newest_inventory(
    bucket: &BucketName,
    prefix: &ObjectKey,
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
) -> Result<(SourcePin, Vec<ManifestWarning>), ManifestError> {
    let retrying = RetryingStore::new(Arc::clone(store), stop.clone());
    let (FetchedInventoryManifest { key, etag, text }, warnings) = find_newest(bucket, prefix, &retrying).await?;
    let created = InventoryManifest::parse(&text, &object_path(bucket, &key))?.created;
    Ok((SourcePin::Inventory { bucket: bucket.clone(), key, etag, created }, warnings))
}

/// Finds and fetches the newest `manifest.json` that matches its `manifest.checksum`.
pub(super) async fn find_newest(
    bucket: &BucketName,
    prefix: &ObjectKey,
    retrying: &RetryingStore,
) -> Result<(FetchedInventoryManifest, Vec<ManifestWarning>), ManifestError> {
    let mut base = prefix.as_bytes().to_vec();
    if base.last().is_some_and(|byte| *byte != b'/') {
        base.push(b'/');
    }
    let folders = list_dated_folders(bucket, &ObjectKey::new(base.as_slice()), retrying).await?;
    let mut unfinished = Vec::new();
    for folder in folders.into_iter().rev() {
        match fetch_complete(bucket, &folder, retrying).await? {
            Ok(found) => {
                let passed = |(folder, why): &(ObjectKey, String)| ManifestWarning {
                    message: format!("skipped {}: {why}; using {}", object_path(bucket, folder), found.key),
                    help: "to include its objects, wait until the newer inventory is complete".to_owned(),
                };
                let warnings = unfinished.iter().map(passed).collect();
                return Ok((found, warnings));
            }
            Err(why) => unfinished.push((folder, why)),
        }
    }
    Err(ManifestError::malformed(
        &object_path(bucket, prefix),
        match unfinished.len() {
            0 => "there is no folder named like 2026-01-31T00-00Z/ below it".to_owned(),
            count => format!("no complete inventory below it ({count} tried); the newest: {}", unfinished[0].1),
        },
        "use the prefix that holds the dated folders, each with manifest.json and manifest.checksum",
    ))
}

/// Returns the newest dated folders directly below the prefix, oldest first. Their names sort by time.
async fn list_dated_folders(
    bucket: &BucketName,
    base: &ObjectKey,
    retrying: &RetryingStore,
) -> Result<BTreeSet<ObjectKey>, ManifestError> {
    let mut request = ListRequest {
        bucket: bucket.clone(),
        prefix: base.clone(),
        all_versions: false,
        group_by_directory: true,
        from: None,
    };
    let untrusted = |what: String| ManifestError::InconsistentListing { place: object_path(bucket, base), what };
    let mut newest = BTreeSet::new();
    let mut last = ObjectKey::from("");
    let mut cursor = ListCursor::new(request.all_versions, IDLE_PAGES);
    loop {
        let page = retrying.list(&request).await?;
        let names = || page.entries.iter().map(|entry| &entry.key).chain(&page.common_prefixes);
        if let Some(back) = names().find(|name| **name < last) {
            return Err(untrusted(format!("it went backwards: {back} after {last}")));
        }
        last = names().max().unwrap_or(&last).clone();
        let next = cursor.advance(request.from.as_ref(), &page).map_err(untrusted)?;
        for folder in page.common_prefixes {
            if folder.as_bytes().strip_prefix(base.as_bytes()).is_some_and(is_dated) {
                newest.insert(folder);
            }
            if newest.len() > MAX_FOLDERS {
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
async fn fetch_complete(
    bucket: &BucketName,
    folder: &ObjectKey,
    retrying: &RetryingStore,
) -> Result<Result<FetchedInventoryManifest, String>, ManifestError> {
    let sibling = |name: &str| ObjectKey::new([folder.as_bytes(), name.as_bytes()].concat());
    let checksum = sibling("manifest.checksum");
    let Some((_, expected)) = fetch_optional(bucket, &checksum, MAX_CHECKSUM_BYTES, retrying).await? else {
        return Ok(Err("it has no manifest.checksum".to_owned()));
    };
    let key = sibling("manifest.json");
    let Some((etag, text)) = fetch_optional(bucket, &key, MAX_MANIFEST_BYTES, retrying).await? else {
        return Ok(Err("it has no manifest.json".to_owned()));
    };
    let found = hex(&Md5::digest(&text));
    if !expected.trim_ascii().eq_ignore_ascii_case(found.as_bytes()) {
        return Ok(Err("its manifest.checksum does not match its manifest.json".to_owned()));
    }
    Ok(Ok(FetchedInventoryManifest { key, etag, text }))
}

async fn fetch_optional(
    bucket: &BucketName,
    key: &ObjectKey,
    limit: u64,
    retrying: &RetryingStore,
) -> Result<Option<(String, Vec<u8>)>, ManifestError> {
    match retrying.open(bucket, key, None).await? {
        Ok(opened) => {
            let etag = bare_etag(&opened.etag).to_owned();
            Ok(Some((etag, read_small(opened, limit, &object_path(bucket, key), retrying.stop_token()).await?)))
        }
        Err(fault) if fault.status == Some(404) => Ok(None),
        Err(fault) => {
            Err(ManifestError::Store { doing: format!("read {}", object_path(bucket, key)), fault: Box::new(fault) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_dated_folders() {
        assert!(is_dated(b"2026-01-31T00-00Z/"));
        for name in ["data/", "hive/", "2026-01-31T00-00Z", "2026-01-31T00-00Zx", "2026-01-31T00:00Z/", "é"] {
            assert!(!is_dated(name.as_bytes()), "{name}");
        }
    }
}
