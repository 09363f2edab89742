//! Saved plans: what was looked at and approved, to be applied exactly so or not at all.
//!
//! A saved plan is a JSON file. It holds the plan's text, what its manifest must be (the [`Pledge`]), and what was said of it
//! when it was saved, and a checksum of all that: a file that was cut off or changed by accident is refused. It holds no
//! secrets, as no plan does. Who can change it can make another of it, so that it is to be kept like the plan.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::files::{about, write_at_once};
use crate::hex::hex;
use crate::journal::Pledge;
use crate::plan::{self, Plan};

/// The version of the file's form.
const VERSION: u32 = 1;

/// How a saved plan begins: no plan file does.
const BEGINNING: &[u8] = b"{\"batchplan_saved_plan\":";

/// A plan with what it is to be applied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The plan file, absolute: relative paths in the plan are resolved against its folder.
    pub plan_file: PathBuf,
    /// The plan's text.
    pub plan: String,
    /// The plan's hash.
    pub hash: String,
    /// What the manifest must be.
    pub pledge: Pledge,
    /// What was said of it.
    pub counts: SavedCounts,
}

/// What was said of a plan's objects when it was saved: most likely so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCounts {
    /// Whether every object was looked at.
    pub exact: bool,
    /// Objects that change.
    pub change: u64,
    /// Objects that stay.
    pub unchanged: u64,
    /// Objects that would fail.
    pub fail: u64,
    /// Objects of which nobody can tell.
    pub unknown: u64,
}

/// Why a saved plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It cannot be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was saved.
    #[error("the saved plan {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that is known.
        what: String,
    },
    /// Another version of this program saved it.
    #[error("the saved plan {} has version {found} of the form, and this batchplan knows {VERSION}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It was made of another plan than it is said to be of.
    #[error("the saved plan {} was not made of {} as it is now", path.display(), plan.display())]
    OtherPlan {
        /// The file.
        path: PathBuf,
        /// The plan that was named.
        plan: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    batchplan_saved_plan: u32,
    sha256: String,
    saved: SavedPlan,
}

/// Only what tells the version.
#[derive(Deserialize)]
struct Head {
    batchplan_saved_plan: u32,
}

impl SavedPlan {
    /// Whether a file's bytes are those of a saved plan, and not of a plan.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(BEGINNING)
    }

    /// The longest saved plan: a plan, with every byte escaped, and a little.
    pub const MAX_BYTES: u64 = 6 * plan::MAX_PLAN_BYTES as u64 + (1 << 20);

    /// Reads a saved plan from the bytes of this file: at most one more than the longest has.
    ///
    /// # Errors
    /// When it is damaged, or of another version.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SavedError> {
        let damaged = |what: &str| SavedError::Damaged { path: path.to_owned(), what: what.to_owned() };
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err(damaged("it is longer than any saved plan"));
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|_| damaged("it was cut off, or is no saved plan"))?;
        if head.batchplan_saved_plan != VERSION {
            return Err(SavedError::OtherVersion { path: path.to_owned(), found: head.batchplan_saved_plan });
        }
        let shape: Shape = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        if shape.saved.checksum()? != shape.sha256 {
            return Err(damaged("its checksum does not fit what it holds"));
        }
        Ok(shape.saved)
    }

    /// Writes it, whole or not at all, in place of a file that was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(self, path: &Path) -> Result<(), SavedError> {
        let shape = Shape { batchplan_saved_plan: VERSION, sha256: self.checksum()?, saved: self };
        let mut text = serde_json::to_vec(&shape).map_err(io::Error::from)?;
        text.push(b'\n');
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| about(path)(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file")))?;
        Ok(write_at_once(folder, name, &text).map_err(about(path))?)
    }

    /// The plan, as it was when it was saved: with `named`, as the plan file of this name, whose folder its paths are seen
    /// from, and which must be the same plan.
    ///
    /// # Errors
    /// When this version does not accept the plan, or takes it for another one.
    pub fn plan(&self, path: &Path, named: Option<(&Path, &Plan)>) -> Result<Plan, SavedError> {
        let file = named.map_or(&*self.plan_file, |(file, _)| file);
        let folder = file.parent().unwrap_or(Path::new(""));
        let name = file.display().to_string();
        let (plan, _) = plan::read_bytes(&name, self.plan.as_bytes(), folder, self.pledge.as_of);
        let damaged = |what: &str| SavedError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let plan = plan.ok_or_else(|| damaged("this batchplan does not accept its plan"))?;
        if plan.hash() != self.hash {
            return Err(damaged("its plan is not the one whose hash it holds"));
        }
        match named {
            Some((file, now)) if now.hash() != self.hash => {
                Err(SavedError::OtherPlan { path: path.to_owned(), plan: file.to_owned() })
            }
            _ => Ok(plan),
        }
    }

    fn checksum(&self) -> io::Result<String> {
        Ok(hex(&Sha256::digest(serde_json::to_vec(self)?)))
    }
}

impl SavedError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Io(_) => None,
            Self::Damaged { .. } => Some("save it anew: batchplan plan PLAN --out FILE".to_owned()),
            Self::OtherVersion { .. } => Some("use the batchplan that saved it, or save it anew".to_owned()),
            Self::OtherPlan { .. } => Some(
                "the plan has changed since: look at it again, and save it anew (batchplan plan PLAN --out FILE)"
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
        let pledge = Pledge {
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
    fn it_comes_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.bpl");
        saved().write(&path).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(SavedPlan::parse(&path, &bytes).expect("read"), saved());
        assert!(SavedPlan::is_one(&bytes));
        assert!(!SavedPlan::is_one(b"name = \"x\""));
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
