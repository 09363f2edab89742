//! Paths as text. On Unix a path is bytes, and need not be UTF-8: it is stored and printed as JSON so that nothing is
//! lost, and escaped in messages.

use std::fmt;
use std::path::{Path, PathBuf};

/// Precedes the percent-encoded bytes of a path that is not UTF-8. No absolute path starts with it.
const ENCODED_PREFIX: &str = "bytes:";

/// Returns a path as text that [`path_from_text`] turns back into the same path: the path itself if it is UTF-8,
/// otherwise `bytes:` and its percent-encoded bytes. On systems other than Unix, what is not Unicode is replaced.
#[must_use]
pub fn path_to_text(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with(ENCODED_PREFIX) => text.to_owned(),
        _ => format!("{ENCODED_PREFIX}{}", encoded(path)),
    }
}

/// Returns the path of a text by [`path_to_text`].
#[must_use]
pub fn path_from_text(text: &str) -> PathBuf {
    text.strip_prefix(ENCODED_PREFIX).map_or_else(|| PathBuf::from(text), decoded)
}

#[cfg(unix)]
fn encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;

    batchplan_store::object::ObjectKey::new(path.as_os_str().as_bytes()).encoded_keeping_slashes()
}

#[cfg(unix)]
fn decoded(encoded: &str) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;

    let key = batchplan_store::object::ObjectKey::decode(encoded.as_bytes());
    PathBuf::from(std::ffi::OsStr::from_bytes(key.as_bytes()))
}

#[cfg(not(unix))]
fn encoded(path: &Path) -> String {
    batchplan_store::object::ObjectKey::from(&*path.to_string_lossy()).encoded_keeping_slashes()
}

#[cfg(not(unix))]
fn decoded(encoded: &str) -> PathBuf {
    let key = batchplan_store::object::ObjectKey::decode(encoded.as_bytes());
    PathBuf::from(String::from_utf8_lossy(key.as_bytes()).into_owned())
}

/// Formats a path for a message: bytes that are not UTF-8 are shown like `\xff`.
#[must_use]
pub fn show_path(path: impl AsRef<Path>) -> impl fmt::Display {
    ShownPath(path)
}

struct ShownPath<P>(P);

impl<P: AsRef<Path>> fmt::Display for ShownPath<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_ref().as_os_str().as_encoded_bytes().utf8_chunks() {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Paths in files, as [`path_to_text`] writes them. For `#[serde(with = ...)]`.
pub(crate) mod text {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::path_to_text(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(super::path_from_text(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_text_stays_as_it_is() {
        for path in ["/a/plan.toml", "a b%41", "", "größe/\u{1b}[2J", r"C:\plans"] {
            assert_eq!(path_to_text(Path::new(path)), path);
            assert_eq!(path_from_text(path), Path::new(path));
            assert_eq!(show_path(Path::new(path)).to_string(), path);
        }
        // It looks like one that is encoded.
        assert_eq!(path_to_text(Path::new("bytes:%41")), "bytes:bytes%3A%2541");
        assert_eq!(path_from_text("bytes:bytes%3A%2541"), Path::new("bytes:%41"));
    }

    #[cfg(unix)]
    proptest::proptest! {
        #[test]
        fn any_path_comes_back(bytes in proptest::collection::vec(1_u8.., 0..40)) {
            use std::os::unix::ffi::OsStrExt as _;

            let path = Path::new(std::ffi::OsStr::from_bytes(&bytes));
            proptest::prop_assert_eq!(path_from_text(&path_to_text(path)), path);
            let shown = show_path(path).to_string();
            proptest::prop_assert_eq!(shown == String::from_utf8_lossy(&bytes), path.to_str().is_some());
        }
    }

    #[cfg(unix)]
    #[test]
    fn other_bytes_are_escaped() {
        use std::os::unix::ffi::OsStrExt as _;

        let path = Path::new(std::ffi::OsStr::from_bytes(b"/st\xffate \xc3/x"));
        assert_eq!(path_to_text(path), "bytes:/st%FFate%20%C3/x");
        assert_eq!(show_path(path).to_string(), r"/st\xffate \xc3/x");
    }
}
