//! Checks that a manifest still is what it was when its plan was saved.

use std::path::Path;
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::hex::hex;
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use super::hints::format_count;
use crate::journal::ManifestFingerprint;
use crate::manifest::{
    FreezeLimits, FreezeProgress, FrozenManifest, Manifest, SampleOptions, SourcePin, freeze_and_sample,
};

/// Returns a random key for the digest of a plan that is saved.
#[must_use]
pub fn random_key() -> [u8; 16] {
    // Version 4 UUIDs come from the operating system's random source.
    *uuid::Uuid::new_v4().as_bytes()
}

/// Returns the fingerprint of a plan's manifest. `digest` covers its objects, and was computed with `key`.
///
/// # Errors
/// Returns an error only if serializing to memory fails, which does not happen in practice.
pub fn manifest_fingerprint(
    frozen: &FrozenManifest,
    key: [u8; 16],
    digest: &str,
    as_of: jiff::Timestamp,
) -> serde_json::Result<ManifestFingerprint> {
    let pin = frozen.pin().to_json()?;
    Ok(ManifestFingerprint { as_of, objects: frozen.rows(), pin, key: hex(&key), digest: digest.to_owned() })
}

/// Freezes a manifest, and refuses one that does not match the fingerprint.
pub(super) async fn freeze_matching(
    pledge: &ManifestFingerprint,
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    bounds: FreezeLimits,
    observe: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<FrozenManifest, JobError> {
    let key = parse_key(pledge)
        .ok_or_else(|| JobError::SavedPlanOutdated("its stored fingerprint cannot be read".to_owned()))?;
    let wish = SampleOptions { digest: Some(key), ..SampleOptions::default() };
    let (frozen, surveyed) = freeze_and_sample(manifest, store, folder, (bounds, wish), observe, stop).await?;
    let broken = describe_difference(pledge, frozen.pin()).or_else(|| {
        let found = frozen.rows();
        if found != pledge.objects {
            return Some(format!("it has {} instead of {}", format_count(found, "object"), pledge.objects));
        }
        let same = surveyed.digest.as_ref() == Some(&pledge.digest);
        (!same).then(|| "it has the same number of objects, but some were replaced or overwritten".to_owned())
    });
    match broken {
        Some(why) => Err(JobError::SavedPlanOutdated(why)),
        None => Ok(frozen),
    }
}

fn parse_key(pledge: &ManifestFingerprint) -> Option<[u8; 16]> {
    let digits = pledge.key.as_bytes();
    let mut key = [0; 16];
    if digits.len() != 2 * key.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

/// Describes how the source of a manifest differs from the fingerprint. The path of a local file and its modification
/// time do not count.
fn describe_difference(pledge: &ManifestFingerprint, now: &SourcePin) -> Option<String> {
    let changed = |place: String, what: &str, was: &str, is: &str| {
        (was != is).then(|| format!("the {what} of {place} was {was}, and is now {is}"))
    };
    match (SourcePin::from_json(&pledge.pin), now) {
        (Some(SourcePin::Listing), SourcePin::Listing) => None,
        (Some(SourcePin::File { sha256: was, .. }), SourcePin::File { path, sha256, .. }) => {
            changed(path.clone(), "SHA-256", &was, sha256)
        }
        (Some(SourcePin::Object { sha256: was, .. }), SourcePin::Object { bucket, key, sha256, .. }) => {
            changed(format!("{bucket}/{key}"), "SHA-256", &was, sha256)
        }
        (Some(SourcePin::Inventory { key: before, etag: was, .. }), SourcePin::Inventory { bucket, key, etag, .. }) => {
            if before != *key {
                return Some(format!("the inventory was {bucket}/{before}, and is now {bucket}/{key}"));
            }
            changed(format!("{bucket}/{key}"), "ETag", &was, etag)
        }
        _ => Some("its source is of another kind".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use batchplan_store::object::{BucketName, ObjectKey};

    fn pledged(pin: &SourcePin) -> ManifestFingerprint {
        let pin = pin.to_json().expect("text");
        ManifestFingerprint {
            as_of: Timestamp::UNIX_EPOCH,
            objects: 1,
            pin,
            key: hex(&[0xab; 16]),
            digest: String::new(),
        }
    }

    #[test]
    fn keys_are_parsed_and_other_texts_rejected() {
        let pledge = pledged(&SourcePin::Listing);
        assert_eq!(parse_key(&pledge), Some([0xab; 16]));
        for key in ["", "zz", "é".repeat(16).as_str(), "+f".repeat(16).as_str()] {
            assert_eq!(parse_key(&ManifestFingerprint { key: key.to_owned(), ..pledge.clone() }), None, "{key}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_bytes_and_not_by_its_place() {
        let file = |path: &str, sha256: &str| SourcePin::File {
            path: path.to_owned(),
            sha256: sha256.to_owned(),
            stamp: None,
        };
        assert_eq!(describe_difference(&pledged(&file("/a", "1")), &file("/b", "1")), None);
        assert!(
            describe_difference(&pledged(&file("/a", "1")), &file("/a", "2"))
                .is_some_and(|why| why.contains("SHA-256"))
        );
        let inventory = |key: &str, etag: &str| SourcePin::Inventory {
            bucket: BucketName::new("b"),
            key: ObjectKey::from(key),
            etag: etag.to_owned(),
            created: None,
        };
        assert_eq!(describe_difference(&pledged(&inventory("m", "1")), &inventory("m", "1")), None);
        assert!(describe_difference(&pledged(&inventory("m", "1")), &inventory("n", "1")).is_some());
        assert!(describe_difference(&pledged(&inventory("m", "1")), &SourcePin::Listing).is_some());
        let damaged = ManifestFingerprint { pin: "{".to_owned(), ..pledged(&SourcePin::Listing) };
        assert!(describe_difference(&damaged, &SourcePin::Listing).is_some());
    }
}
