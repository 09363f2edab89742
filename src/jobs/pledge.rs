//! Checks that a manifest still is what it was when its plan was saved.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::JobError;
use crate::hex::hex;
use crate::journal::Pledge;
use crate::manifest::{Bounds, Frozen, Manifest, Pin, Prepared, Wish, survey};
use crate::store::Store;

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
pub fn pledge(frozen: &Frozen, key: [u8; 16], digest: &str, as_of: jiff::Timestamp) -> serde_json::Result<Pledge> {
    let pin = frozen.pin().to_text()?;
    Ok(Pledge { as_of, objects: frozen.rows(), pin, key: hex(&key), digest: digest.to_owned() })
}

/// Freezes a manifest, and refuses one that does not match the fingerprint.
pub(super) async fn freeze_as(
    pledge: &Pledge,
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    bounds: Bounds,
    observe: &(dyn Fn(Prepared) + Send + Sync),
    stop: &CancellationToken,
) -> Result<Frozen, JobError> {
    let key = key_of(pledge).ok_or_else(|| JobError::Stale("what is kept of it cannot be read".to_owned()))?;
    let wish = Wish { digest: Some(key), ..Wish::default() };
    let (frozen, surveyed) = survey(manifest, store, folder, (bounds, wish), observe, stop).await?;
    let broken = differs(pledge, frozen.pin()).or_else(|| {
        let found = frozen.rows();
        if found != pledge.objects {
            return Some(format!("it names {found} objects, and named {}", pledge.objects));
        }
        let same = surveyed.digest.as_ref() == Some(&pledge.digest);
        (!same).then(|| "it names as many objects, but others, or some were written over".to_owned())
    });
    match broken {
        Some(why) => Err(JobError::Stale(why)),
        None => Ok(frozen),
    }
}

fn key_of(pledge: &Pledge) -> Option<[u8; 16]> {
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
fn differs(pledge: &Pledge, now: &Pin) -> Option<String> {
    let changed = |place: String, what: &str, was: &str, is: &str| {
        (was != is).then(|| format!("the {what} of {place} was {was}, and is {is}"))
    };
    match (Pin::from_text(&pledge.pin), now) {
        (Some(Pin::Listing), Pin::Listing) => None,
        (Some(Pin::File { sha256: was, .. }), Pin::File { path, sha256, .. }) => {
            changed(path.clone(), "SHA-256", &was, sha256)
        }
        (Some(Pin::Object { sha256: was, .. }), Pin::Object { bucket, key, sha256, .. }) => {
            changed(format!("{bucket}/{key}"), "SHA-256", &was, sha256)
        }
        (Some(Pin::Inventory { key: before, etag: was, .. }), Pin::Inventory { bucket, key, etag, .. }) => {
            if before != *key {
                return Some(format!("the inventory was {bucket}/{before}, and is {bucket}/{key}"));
            }
            changed(format!("{bucket}/{key}"), "ETag", &was, etag)
        }
        _ => Some("it comes from another kind of source".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::object::{Bucket, Key};

    fn pledged(pin: &Pin) -> Pledge {
        let pin = pin.to_text().expect("text");
        Pledge { as_of: Timestamp::UNIX_EPOCH, objects: 1, pin, key: hex(&[0xab; 16]), digest: String::new() }
    }

    #[test]
    fn a_key_comes_back_and_another_text_is_none() {
        let pledge = pledged(&Pin::Listing);
        assert_eq!(key_of(&pledge), Some([0xab; 16]));
        for key in ["", "zz", "é".repeat(16).as_str(), "+f".repeat(16).as_str()] {
            assert_eq!(key_of(&Pledge { key: key.to_owned(), ..pledge.clone() }), None, "{key}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_bytes_and_not_by_its_place() {
        let file =
            |path: &str, sha256: &str| Pin::File { path: path.to_owned(), sha256: sha256.to_owned(), seen: None };
        assert_eq!(differs(&pledged(&file("/a", "1")), &file("/b", "1")), None);
        assert!(differs(&pledged(&file("/a", "1")), &file("/a", "2")).is_some_and(|why| why.contains("SHA-256")));
        let inventory = |key: &str, etag: &str| Pin::Inventory {
            bucket: Bucket::new("b"),
            key: Key::from(key),
            etag: etag.to_owned(),
            created: None,
        };
        assert_eq!(differs(&pledged(&inventory("m", "1")), &inventory("m", "1")), None);
        assert!(differs(&pledged(&inventory("m", "1")), &inventory("n", "1")).is_some());
        assert!(differs(&pledged(&inventory("m", "1")), &Pin::Listing).is_some());
        let damaged = Pledge { pin: "{".to_owned(), ..pledged(&Pin::Listing) };
        assert!(differs(&damaged, &Pin::Listing).is_some());
    }
}
