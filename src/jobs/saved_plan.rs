//! Saved plans: what was previewed and approved, to be applied exactly as approved or not at all.
//!
//! A saved plan is a JSON file. It holds the text of the plan, the fingerprint of its manifest (the
//! [`ManifestFingerprint`]), the counts of its preview, and a checksum of all that. A file that was truncated or
//! changed by accident is refused. Like every plan, it holds no secrets. A person who can change the file can turn it
//! into another plan, so protect it like the plan.
//!
//! When the plan is applied, its manifest is frozen again, and must still match the fingerprint.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchplan_store::Store;
use batchplan_store::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::error::JobError;
use crate::files::{access_help, with_path, write_atomic};
use crate::hint::{Hint, command, hint};
use crate::journal::ManifestFingerprint;
use crate::manifest::{
    FreezeLimits, FreezeProgress, FrozenManifest, Manifest, SampleOptions, SourcePin, freeze_and_sample,
};
use crate::paths::show_path;
use crate::plan::{self, Plan};
use crate::thousands::{Thousands, counted};

const FORMAT_VERSION: u32 = 1;

/// The first bytes of a saved plan. No plan file starts with them.
const MAGIC: &[u8] = b"{\"batchplan_saved_plan\":";

/// A plan, and the fingerprint of the manifest that it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The absolute path of the plan file. Relative paths in the plan are resolved against its folder.
    #[serde(with = "crate::paths::text")]
    pub plan_file: PathBuf,
    /// The text of the plan.
    pub plan: String,
    /// The hash of the plan's canonical form.
    pub hash: String,
    /// The identity of the store, if the environment named its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The endpoints that the environment selected, beside that of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<String>,
    /// The fingerprint that the manifest must match.
    #[serde(rename = "pledge")]
    pub fingerprint: ManifestFingerprint,
    /// The counts of the preview.
    pub counts: SavedCounts,
}

/// The counts of a plan's preview when it was saved. They are estimates unless `exact` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCounts {
    /// Whether every object was read.
    pub exact: bool,
    /// The number of objects that would change.
    pub change: u64,
    /// The number of objects that would stay as they are.
    pub unchanged: u64,
    /// The number of objects that would fail.
    pub fail: u64,
    /// The number of objects whose outcome is unknown.
    pub unknown: u64,
}

/// Why a saved plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedPlanError {
    /// The file cannot be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file cannot be written.
    #[error("cannot write the saved plan {}: {cause}", show_path(path))]
    Write {
        /// The path of the saved plan.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The file is not what was saved.
    #[error("the saved plan {} is damaged: {what}", show_path(path))]
    Damaged {
        /// The path of the saved plan.
        path: PathBuf,
        /// How the damage was found.
        what: String,
    },
    /// Another version of this program saved it, in another format.
    #[error(
        "the saved plan {} has format version {found}; this batchplan supports version {FORMAT_VERSION}",
        show_path(path)
    )]
    OtherVersion {
        /// The path of the saved plan.
        path: PathBuf,
        /// The format version in the file.
        found: u32,
    },
    /// It was saved from a different plan than the one that was named.
    #[error("the saved plan {} does not match the current {}", show_path(path), show_path(plan))]
    OtherPlan {
        /// The path of the saved plan.
        path: PathBuf,
        /// The plan file that was named.
        plan: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPlanFile {
    batchplan_saved_plan: u32,
    sha256: String,
    saved: SavedPlan,
}

/// The part of the file that contains its version.
#[derive(Deserialize)]
struct SavedPlanHeader {
    batchplan_saved_plan: u32,
}

impl SavedPlan {
    /// Returns whether the bytes of a file are those of a saved plan, not of a plan.
    #[must_use]
    pub fn is_saved_plan(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// The maximum size of a saved plan, in bytes: a plan with every byte escaped, and a margin.
    pub const MAX_BYTES: u64 = 6 * plan::MAX_PLAN_BYTES as u64 + (1 << 20);

    /// Parses a saved plan from the bytes of this file. It is enough to read [`Self::MAX_BYTES`] and one
    /// more: longer files are rejected.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, or has another format version.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SavedPlanError> {
        let damaged = |what: &str| SavedPlanError::Damaged { path: path.to_owned(), what: what.to_owned() };
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err(damaged("it is too large"));
        }
        let header: SavedPlanHeader =
            serde_json::from_slice(bytes).map_err(|_| damaged("it is truncated, or not a saved plan"))?;
        if header.batchplan_saved_plan != FORMAT_VERSION {
            return Err(SavedPlanError::OtherVersion { path: path.to_owned(), found: header.batchplan_saved_plan });
        }
        let file: SavedPlanFile = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        if file.saved.checksum()? != file.sha256 {
            return Err(damaged("its checksum does not match its content"));
        }
        Ok(file.saved)
    }

    /// Writes the saved plan atomically, and replaces an existing file. Returns the bytes of the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(self, path: &Path) -> Result<Vec<u8>, SavedPlanError> {
        let file = SavedPlanFile { batchplan_saved_plan: FORMAT_VERSION, sha256: self.checksum()?, saved: self };
        let mut text = serde_json::to_vec(&file).map_err(io::Error::from)?;
        text.push(b'\n');
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path
            .file_name()
            .ok_or_else(|| with_path(path)(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")))?;
        write_atomic(folder, name, &text).map_err(|cause| SavedPlanError::Write { path: path.to_owned(), cause })?;
        Ok(text)
    }

    /// Returns the plan as it was saved. `path` is the path of the saved plan, for messages. With `given`, the plan
    /// must be the same as this plan file, and its relative paths are resolved against the folder of that file.
    ///
    /// # Errors
    /// Returns an error if this version does not accept the plan, or reads it as a different one.
    pub fn plan(&self, path: &Path, given: Option<(&Path, &Plan)>) -> Result<Plan, SavedPlanError> {
        let file = given.map_or(&*self.plan_file, |(file, _)| file);
        let folder = file.parent().unwrap_or(Path::new(""));
        let name = show_path(file).to_string();
        let (plan, _) = plan::read_bytes(&name, self.plan.as_bytes(), folder, self.fingerprint.as_of);
        let damaged = |what: &str| SavedPlanError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let mut plan = plan.ok_or_else(|| damaged("this batchplan does not accept its plan"))?;
        plan.restore_endpoints(self.store.as_deref(), self.endpoints.as_deref());
        if plan.hash() != self.hash {
            return Err(damaged("its plan does not match its hash"));
        }
        match given {
            Some((file, current)) if current.hash() != self.hash => {
                Err(SavedPlanError::OtherPlan { path: path.to_owned(), plan: file.to_owned() })
            }
            _ => Ok(plan),
        }
    }

    fn checksum(&self) -> io::Result<String> {
        Ok(hex(&Sha256::digest(serde_json::to_vec(self)?)))
    }
}

impl SavedPlanError {
    /// Returns what the user can do about it, if that is known.
    #[must_use]
    pub fn help(&self) -> Option<Hint> {
        match self {
            Self::Io(_) => None,
            Self::Write { cause, .. } => Some(match access_help(cause) {
                Some(help) => format!("nothing was changed; {help}, or choose another file with --out").into(),
                None => "nothing was changed; choose another file with --out".into(),
            }),
            Self::Damaged { .. } => Some(hint!("save it again: {}", command!("plan", "PLAN", "--out", "FILE"))),
            Self::OtherVersion { .. } => Some("use the version of batchplan that saved it, or save it again".into()),
            Self::OtherPlan { .. } => Some(hint!(
                "the plan has changed since it was saved: review it and save it again ({})",
                command!("plan", "PLAN", "--out", "FILE")
            )),
        }
    }
}

/// Returns a random key for the digest of a saved plan's objects, so that the digest tells nothing about their names.
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
    fingerprint: &ManifestFingerprint,
    manifest: &Manifest,
    store: &Arc<dyn Store>,
    folder: &Path,
    limits: FreezeLimits,
    observe: &(dyn Fn(FreezeProgress) + Send + Sync),
    stop: &CancellationToken,
) -> Result<FrozenManifest, JobError> {
    let key = parse_key(fingerprint)
        .ok_or_else(|| JobError::SavedPlanOutdated("its stored fingerprint cannot be read".to_owned()))?;
    let sampling = SampleOptions { digest: Some(key), ..SampleOptions::default() };
    let (frozen, sampled) = freeze_and_sample(manifest, store, folder, (limits, sampling), observe, stop).await?;
    let mismatch = describe_difference(fingerprint, frozen.pin()).or_else(|| {
        let found = frozen.rows();
        if found != fingerprint.objects {
            return Some(format!("it has {} instead of {}", counted(found, "object"), Thousands(fingerprint.objects)));
        }
        let same = sampled.digest.as_ref() == Some(&fingerprint.digest);
        (!same).then(|| "it has the same number of objects, but some were replaced or overwritten".to_owned())
    });
    match mismatch {
        Some(why) => Err(JobError::SavedPlanOutdated(why)),
        None => Ok(frozen),
    }
}

fn parse_key(fingerprint: &ManifestFingerprint) -> Option<[u8; 16]> {
    let digits = fingerprint.key.as_bytes();
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
/// time are not compared.
fn describe_difference(fingerprint: &ManifestFingerprint, now: &SourcePin) -> Option<String> {
    let changed = |place: String, what: &str, was: &str, is: &str| {
        (was != is).then(|| format!("the {what} of {place} was {was}, and is now {is}"))
    };
    match (SourcePin::from_json(&fingerprint.pin), now) {
        (Some(SourcePin::Listing), SourcePin::Listing) => None,
        (Some(SourcePin::File { sha256: was, .. }), SourcePin::File { path, sha256, .. }) => {
            changed(show_path(path).to_string(), "SHA-256", &was, sha256)
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
    use batchplan_store::object::{BucketName, ObjectKey};
    use jiff::Timestamp;

    use super::*;

    fn saved() -> SavedPlan {
        let fingerprint = ManifestFingerprint {
            as_of: Timestamp::UNIX_EPOCH,
            objects: 2,
            pin: "\"listing\"".to_owned(),
            key: "00".repeat(16),
            digest: "11".repeat(32),
        };
        let counts = SavedCounts { exact: true, change: 1, unchanged: 1, fail: 0, unknown: 0 };
        let plan = "name = \"x\"\n".to_owned();
        let (plan_file, hash) = ("/plans/x.toml".into(), "h".to_owned());
        SavedPlan { plan_file, plan, hash, store: None, endpoints: None, fingerprint, counts }
    }

    #[test]
    fn damaged_files_are_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.bpl");
        saved().write(&path).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(SavedPlan::parse(&path, &bytes).expect("read"), saved());
        assert!(SavedPlan::is_saved_plan(&bytes));
        assert!(!SavedPlan::is_saved_plan(b"name = \"x\""));
        let refused = |bytes: &[u8]| SavedPlan::parse(&path, bytes).expect_err("it is not what was saved").to_string();
        for end in 0..bytes.len() - 1 {
            let why = refused(&bytes[..end]);
            assert!(why.contains("damaged"), "{end}: {why}");
        }
        let text = String::from_utf8(bytes).expect("UTF-8");
        let other = text.replace("\"objects\":2", "\"objects\":3");
        assert!(refused(other.as_bytes()).contains("checksum"));
        assert!(refused(text.replace("plan\":1,", "plan\":9,").as_bytes()).contains("version 9"));
        assert!(refused(text.replace("{\"as_of\"", "{\"extra\":1,\"as_of\"").as_bytes()).contains("extra"));
        assert!(refused(b"{}").contains("damaged"));
    }

    fn fingerprint_of(pin: &SourcePin) -> ManifestFingerprint {
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
        let fingerprint = fingerprint_of(&SourcePin::Listing);
        assert_eq!(parse_key(&fingerprint), Some([0xab; 16]));
        for key in ["", "zz", "é".repeat(16).as_str(), "+f".repeat(16).as_str()] {
            assert_eq!(parse_key(&ManifestFingerprint { key: key.to_owned(), ..fingerprint.clone() }), None, "{key}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_bytes_and_not_by_its_place() {
        let file =
            |path: &str, sha256: &str| SourcePin::File { path: path.into(), sha256: sha256.to_owned(), stamp: None };
        assert_eq!(describe_difference(&fingerprint_of(&file("/a", "1")), &file("/b", "1")), None);
        assert!(
            describe_difference(&fingerprint_of(&file("/a", "1")), &file("/a", "2"))
                .is_some_and(|why| why.contains("SHA-256"))
        );
        let inventory = |key: &str, etag: &str| SourcePin::Inventory {
            bucket: BucketName::new("b"),
            key: ObjectKey::from(key),
            etag: etag.to_owned(),
            created: None,
        };
        assert_eq!(describe_difference(&fingerprint_of(&inventory("m", "1")), &inventory("m", "1")), None);
        assert!(describe_difference(&fingerprint_of(&inventory("m", "1")), &inventory("n", "1")).is_some());
        assert!(describe_difference(&fingerprint_of(&inventory("m", "1")), &SourcePin::Listing).is_some());
        let damaged = ManifestFingerprint { pin: "{".to_owned(), ..fingerprint_of(&SourcePin::Listing) };
        assert!(describe_difference(&damaged, &SourcePin::Listing).is_some());
    }
}
