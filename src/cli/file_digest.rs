//! The digest by which reviewers and `apply --expect-digest` know a saved plan.

use std::path::Path;

use batchplan_store::hex::hex;
use sha2::{Digest as _, Sha256};

use super::error_code::ErrorCode;
use super::exit::{CommandError, ExitStatus};
use crate::hint::{ShownCommand, hint};
use crate::paths::show_path;

/// The SHA-256 of a file, as hexadecimal digits: what `sha256sum` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileDigest(String);

impl FileDigest {
    /// Returns the digest of a file's bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// Returns the hexadecimal digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a digest that the user gave.
    ///
    /// # Errors
    /// Returns a message for the user if it is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let digits = text.trim();
        let digits = digits.strip_prefix("sha256:").unwrap_or(digits);
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("must be the 64 hexadecimal digits of a SHA-256, as `batchplan show FILE` prints it".to_owned());
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }

    /// Returns an error if a saved plan has another digest than this one.
    ///
    /// # Errors
    /// Returns the error to show.
    pub(crate) fn expect_of(&self, path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
        let found = Self::of(bytes);
        if found == *self {
            return Ok(());
        }
        let (name, found, wanted) = (show_path(path), found.as_str(), self.as_str());
        let what = format!("the saved plan {name} has the digest {found}, not {wanted}: nothing was changed");
        let show = ShownCommand::new("show").path(path);
        Err(CommandError::new(ExitStatus::Refused, what)
            .code(ErrorCode::SavedPlanRefused)
            .help(hint!("use the file that was reviewed, or review this one: {}", show)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_given_with_or_without_its_name() {
        let digest = FileDigest::of(b"abc");
        assert_eq!(digest.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for text in [digest.as_str().to_owned(), format!("sha256:{}", digest.0), digest.0.to_uppercase()] {
            assert_eq!(FileDigest::parse(&text), Ok(digest.clone()), "{text}");
        }
        for text in ["", "sha256:", &digest.0[1..], &digest.0.replace('b', "g")] {
            assert!(FileDigest::parse(text).is_err(), "{text}");
        }
        assert!(digest.expect_of(Path::new("x"), b"abc").is_ok());
        let error = digest.expect_of(Path::new("x"), b"abd").expect_err("another file");
        assert_eq!(error.exit, ExitStatus::Refused);
    }
}
