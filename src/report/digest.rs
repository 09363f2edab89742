//! The MD5 of a report file: hex in manifests, Base64 in requests.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_store::hex::hex;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::files::{open_regular, with_path};

/// An MD5 digest. It protects against accidental damage, as in the services themselves, not against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Md5Digest([u8; 16]);

impl Md5Digest {
    /// Returns the digest of the data so far. The computation can continue.
    pub(super) fn of(md5: &Md5) -> Self {
        Self(md5.clone().finalize().into())
    }

    /// Returns the length in bytes and the MD5 of a file.
    pub(super) fn of_file(path: &Path) -> io::Result<(u64, Self)> {
        let (bytes, md5) = open_regular(path, File::options().read(true))
            .and_then(|mut file| digest_all(&mut file))
            .map_err(with_path(path))?;
        Ok((bytes, Self::of(&md5)))
    }

    /// Returns lowercase hex, as in `manifest.json`.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Returns Base64, as in `Content-MD5`.
    #[must_use]
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl From<Md5Digest> for String {
    fn from(digest: Md5Digest) -> Self {
        digest.hex()
    }
}

/// Reads `content` to its end. Returns its length in bytes, and its MD5 as a computation that can continue.
pub(super) fn digest_all(content: &mut impl Read) -> io::Result<(u64, Md5)> {
    let mut md5 = Md5::new();
    let mut block = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match content.read(&mut block) {
            Ok(0) => return Ok((bytes, md5)),
            Ok(count) => {
                md5.update(&block[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The error for text that is not an MD5 in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an MD5 is 32 hexadecimal digits")]
pub struct InvalidMd5Error;

impl TryFrom<String> for Md5Digest {
    type Error = InvalidMd5Error;

    fn try_from(text: String) -> Result<Self, InvalidMd5Error> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidMd5Error);
        }
        let value = u128::from_str_radix(&text, 16).map_err(|_| InvalidMd5Error)?;
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_digest_reads_two_ways() {
        let digest = Md5Digest::of(&Md5::new_with_prefix("abc"));
        assert_eq!(digest.hex(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digest.base64(), "kAFQmDzST7DWlj99KOF/cg==");
        assert_eq!(Md5Digest::try_from(digest.hex()), Ok(digest));
    }

    #[test]
    fn other_text_is_no_digest() {
        for text in ["", "abc", "+0150983cd24fb0d6963f7d28e17f72ab", &"g".repeat(32)] {
            assert_eq!(Md5Digest::try_from(text.to_owned()), Err(InvalidMd5Error), "{text}");
        }
    }
}
