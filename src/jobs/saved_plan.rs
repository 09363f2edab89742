//! Saved plans: what was previewed and approved, to be applied exactly as approved or not at all.
//!
//! A saved plan is a JSON file. It holds the text of the plan, the fingerprint of its manifest (the
//! [`ManifestFingerprint`]), the counts of its preview, and a checksum of all that. A file that was truncated or
//! changed by accident is refused. Like every plan, it holds no secrets. A person who can change the file can turn it
//! into another plan, so protect it like the plan.

use std::io;
use std::path::{Path, PathBuf};

use batchplan_store::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::files::{with_path, write_atomic};
use crate::journal::ManifestFingerprint;
use crate::plan::{self, Plan};

/// The version of the file format.
const FORMAT_VERSION: u32 = 1;

/// The first bytes of a saved plan. No plan file starts with them.
const MAGIC: &[u8] = b"{\"batchplan_saved_plan\":";

/// A plan, and the fingerprint of the manifest that it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The absolute path of the plan file. Relative paths in the plan are resolved against its folder.
    pub plan_file: PathBuf,
    /// The text of the plan.
    pub plan: String,
    /// The hash of the plan.
    pub hash: String,
    /// The fingerprint that the manifest must match.
    pub pledge: ManifestFingerprint,
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
    /// The file is not what was saved.
    #[error("the saved plan {} is damaged: {what}", path.display())]
    Damaged {
        /// The path of the saved plan.
        path: PathBuf,
        /// How the damage was found.
        what: String,
    },
    /// Another version of this program saved it, in another format.
    #[error(
        "the saved plan {} has format version {found}; this batchplan supports version {FORMAT_VERSION}",
        path.display()
    )]
    OtherVersion {
        /// The path of the saved plan.
        path: PathBuf,
        /// The format version in the file.
        found: u32,
    },
    /// It was saved from a different plan than the one that was named.
    #[error("the saved plan {} does not match the current {}", path.display(), plan.display())]
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

    /// Parses a saved plan from the bytes of this file. The caller need not read more than one byte beyond the maximum
    /// size.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, or has another format version.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SavedPlanError> {
        let damaged = |what: &str| SavedPlanError::Damaged { path: path.to_owned(), what: what.to_owned() };
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err(damaged("it is too large"));
        }
        let head: SavedPlanHeader =
            serde_json::from_slice(bytes).map_err(|_| damaged("it is truncated, or not a saved plan"))?;
        if head.batchplan_saved_plan != FORMAT_VERSION {
            return Err(SavedPlanError::OtherVersion { path: path.to_owned(), found: head.batchplan_saved_plan });
        }
        let shape: SavedPlanFile = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        if shape.saved.checksum()? != shape.sha256 {
            return Err(damaged("its checksum does not match its content"));
        }
        Ok(shape.saved)
    }

    /// Writes the saved plan atomically, and replaces an existing file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(self, path: &Path) -> Result<(), SavedPlanError> {
        let shape = SavedPlanFile { batchplan_saved_plan: FORMAT_VERSION, sha256: self.checksum()?, saved: self };
        let mut text = serde_json::to_vec(&shape).map_err(io::Error::from)?;
        text.push(b'\n');
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| with_path(path)(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")))?;
        Ok(write_atomic(folder, name, &text).map_err(with_path(path))?)
    }

    /// Returns the plan as it was saved. With `named`, the plan must be the same as this plan file, and its relative
    /// paths are resolved against the folder of that file.
    ///
    /// # Errors
    /// Returns an error if this version does not accept the plan, or reads it as a different one.
    pub fn plan(&self, path: &Path, named: Option<(&Path, &Plan)>) -> Result<Plan, SavedPlanError> {
        let file = named.map_or(&*self.plan_file, |(file, _)| file);
        let folder = file.parent().unwrap_or(Path::new(""));
        let name = file.display().to_string();
        let (plan, _) = plan::read_bytes(&name, self.plan.as_bytes(), folder, self.pledge.as_of);
        let damaged = |what: &str| SavedPlanError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let plan = plan.ok_or_else(|| damaged("this batchplan does not accept its plan"))?;
        if plan.hash() != self.hash {
            return Err(damaged("its plan does not match its hash"));
        }
        match named {
            Some((file, now)) if now.hash() != self.hash => {
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
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Io(_) => None,
            Self::Damaged { .. } => Some("save it again: batchplan plan PLAN --out FILE".to_owned()),
            Self::OtherVersion { .. } => {
                Some("use the version of batchplan that saved it, or save it again".to_owned())
            }
            Self::OtherPlan { .. } => Some(
                "the plan has changed since it was saved: review it and save it again (batchplan plan PLAN --out FILE)"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn saved() -> SavedPlan {
        let pledge = ManifestFingerprint {
            as_of: Timestamp::UNIX_EPOCH,
            objects: 2,
            pin: "\"listing\"".to_owned(),
            key: "00".repeat(16),
            digest: "11".repeat(32),
        };
        let counts = SavedCounts { exact: true, change: 1, unchanged: 1, fail: 0, unknown: 0 };
        let plan = "name = \"x\"\n".to_owned();
        SavedPlan { plan_file: "/plans/x.toml".into(), plan, hash: "h".to_owned(), pledge, counts }
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
}
