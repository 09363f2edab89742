//! What an object is called and what is known of it. Pure values: nothing here does I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use percent_encoding::{percent_decode, percent_encode_byte};

use crate::diagnostics::drives_terminal;

/// The most tags one object can carry, on AWS S3 and on OSS alike.
pub const MAX_TAGS: usize = 10;

/// The longest object key that AWS S3 and OSS accept, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// The bytes that stand for themselves in a URL-encoded key: RFC 3986's unreserved characters. `/` becomes `%2F`, as in
/// OSS's manifests and reports.
const AS_IS: [bool; 256] = unreserved(false);

/// As [`AS_IS`], with `/` left as it is: the form of AWS's manifests and reports, and of request paths.
const AS_IS_OR_SLASH: [bool; 256] = unreserved(true);

const fn unreserved(slash: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        let stays =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || (slash && byte == b'/');
        table[byte as usize] = stays;
        byte += 1;
    }
    table
}

/// What bytes are in URL encoding, in pieces: runs of those that stand for themselves, and one escape for each other. A
/// request encodes its key with it, so that it must cost next to nothing.
fn encoded_pieces<'a>(bytes: &'a [u8], as_is: &'static [bool; 256]) -> impl Iterator<Item = &'a str> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        if !as_is[usize::from(first)] {
            rest = &rest[1..];
            return Some(percent_encode_byte(first));
        }
        let run = rest.iter().position(|byte| !as_is[usize::from(*byte)]).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(run);
        rest = behind;
        // All of it is ASCII.
        Some(std::str::from_utf8(run).unwrap_or_default())
    })
}

/// A bucket's name. Cheap to clone: every task of a job shares one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(Arc<str>);

impl Bucket {
    /// Wraps a name as it is; the server judges whether it is a legal one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's key: bytes, exactly as the manifest gave them after decoding.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8]>);

impl Key {
    /// Wraps the key's bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Decodes `%XX` once; everything else, `+` included, stays as it is.
    #[must_use]
    pub fn decode(encoded: &[u8]) -> Self {
        Self(percent_decode(encoded).collect())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, where it is UTF-8.
    ///
    /// # Errors
    /// The position of the first byte that is not UTF-8.
    pub fn as_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// URL-encoded with `%2F` for a slash, as OSS writes keys in manifests and reports.
    #[must_use]
    pub fn encoded(&self) -> String {
        self.encoded_pieces().collect()
    }

    /// URL-encoded with slashes kept, as AWS writes keys in manifests and reports.
    #[must_use]
    pub fn encoded_keeping_slashes(&self) -> String {
        self.encoded_pieces_keeping_slashes().collect()
    }

    /// The pieces that [`Key::encoded`] joins, for a writer that has a buffer of its own.
    pub fn encoded_pieces(&self) -> impl Iterator<Item = &str> {
        encoded_pieces(&self.0, &AS_IS)
    }

    /// The pieces that [`Key::encoded_keeping_slashes`] joins.
    pub fn encoded_pieces_keeping_slashes(&self) -> impl Iterator<Item = &str> {
        encoded_pieces(&self.0, &AS_IS_OR_SLASH)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// For people: what drives terminals and bytes that are not UTF-8 are escaped, so that a key cannot drive a terminal.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if drives_terminal(c) {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// One version of an object, as the server names it; `null` is the version written without versioning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(Box<str>);

impl VersionId {
    /// Wraps an id as it is: version ids are never URL-decoded.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The version that an unversioned write makes.
    #[must_use]
    pub fn null() -> Self {
        Self::new("null")
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which object a request is about; without a version it is the current one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The bucket.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
    /// The version, or `None` for whichever is current when the request arrives.
    pub version: Option<VersionId>,
}

impl fmt::Display for ObjectId {
    /// For messages: no program reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)?;
        match &self.version {
            Some(version) => write!(f, " (version {})", version.as_str()),
            None => Ok(()),
        }
    }
}

/// A set of tags, at most one value a key. Ordered, so that equal sets are written alike; shared, so that the one set
/// of a plan is not copied for each of its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSet(Arc<BTreeMap<String, String>>);

impl TagSet {
    /// Sets one tag, overwriting the key's earlier value.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        Arc::make_mut(&mut self.0).insert(key.into(), value.into());
    }

    /// Takes one tag out, where it is there.
    pub fn remove(&mut self, key: &str) {
        if self.0.contains_key(key) {
            Arc::make_mut(&mut self.0).remove(key);
        }
    }

    /// Key and value of each tag, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// How many tags there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for TagSet {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(tags: I) -> Self {
        Self(Arc::new(tags.into_iter().map(|(k, v)| (k.into(), v.into())).collect()))
    }
}

/// An object's predefined ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acl {
    /// Only the owner reads and writes.
    Private,
    /// Everyone reads, the owner writes.
    PublicRead,
    /// Everyone reads and writes.
    PublicReadWrite,
    /// The bucket's ACL applies. OSS only.
    Default,
    /// Grants that no predefined ACL expresses: read from a server, never asked of one.
    Custom,
}

impl Acl {
    /// The name in plan files, headers and XML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::Default => "default",
            Self::Custom => "custom",
        }
    }
}

/// How fast, and how dearly, an archived object is brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Hours.
    Standard,
    /// The slowest and cheapest.
    Bulk,
    /// The fastest and dearest.
    Expedited,
}

impl Tier {
    /// The name in plan files and XML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Bulk => "Bulk",
            Self::Expedited => "Expedited",
        }
    }
}

/// For how long, and how fast, an archived object is to be readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreRequest {
    /// Days that the restored copy stays readable.
    pub days: u32,
    /// The tier; without one the server takes its default.
    pub tier: Option<Tier>,
}

/// How far an archived object is from being readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoration {
    /// No restore was asked for, or its copy has expired.
    Absent,
    /// Asked for, not done.
    InProgress,
    /// Readable until then.
    Until(Timestamp),
    /// What an operation wants: never read from a server.
    Wanted(RestoreRequest),
}

/// A storage class by the server's own name (`STANDARD`, `DEEP_ARCHIVE`, `ColdArchive`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageClass(Box<str>);

impl StorageClass {
    /// Wraps a name as it is.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One fact of an object: read in this run, or not known. Never defaulted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// Seen, or wanted.
    Known(T),
}

impl<T> Fact<T> {
    /// The value, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Unknown => None,
            Self::Known(value) => Some(value),
        }
    }
}

/// What is known of an object, or what an operation wants of it: the two ends of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// Its tags.
    pub tags: Fact<TagSet>,
    /// Its ACL.
    pub acl: Fact<Acl>,
    /// Whether a restored copy is there or on its way.
    pub restoration: Fact<Restoration>,
    /// Its storage class.
    pub class: Fact<StorageClass>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_encoded_as_the_reports_want_it() {
        let key = Key::new(&b"a+b/c d\xff~"[..]);
        assert_eq!(key.encoded(), "a%2Bb%2Fc%20d%FF~");
        assert_eq!(key.encoded_keeping_slashes(), "a%2Bb/c%20d%FF~");
        assert_eq!(Key::decode(key.encoded().as_bytes()), key);
    }

    #[test]
    fn every_byte_is_encoded_or_stands_for_itself() {
        let every = Key::new((0..=255).collect::<Vec<u8>>());
        let kept: String = every.encoded().split('%').flat_map(|piece| piece.chars().skip(2)).collect();
        assert_eq!(kept, "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
        assert_eq!(every.encoded_keeping_slashes(), every.encoded().replace("%2F", "/"));
        assert_eq!(Key::decode(every.encoded().as_bytes()), every);
    }

    #[test]
    fn a_key_is_decoded_once_and_plus_is_itself() {
        assert_eq!(Key::decode(b"a%252Fb+c").as_bytes(), b"a%2Fb+c");
        assert_eq!(Key::decode(b"100%").as_bytes(), b"100%");
    }

    #[test]
    fn a_shown_key_cannot_drive_a_terminal() {
        assert_eq!(Key::new(&b"\x1b[31m\n\xc3"[..]).to_string(), "\\u{1b}[31m\\n\\xc3");
        assert_eq!(Key::from("a\u{202e}b\u{2028}").to_string(), "a\\u{202e}b\\u{2028}");
    }
}
