//! Object names and object state. Pure values: nothing in this module does I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use percent_encoding::{percent_decode, percent_encode_byte};

use crate::printable::affects_terminal;

/// The maximum number of tags of one object, on AWS S3 and on OSS.
pub const MAX_TAGS: usize = 10;

/// The maximum length of an object key on AWS S3, in bytes. OSS allows one byte less.
pub const MAX_KEY_BYTES: usize = 1024;

/// The bytes that URL encoding leaves unchanged in a key: the unreserved characters of RFC 3986. `/` becomes `%2F`,
/// as in the manifests and reports of OSS.
const UNRESERVED: [bool; 256] = unreserved(false);

/// Like [`UNRESERVED`], but `/` also stays unchanged. This is the form of AWS manifests and reports, and of request
/// paths.
const UNRESERVED_OR_SLASH: [bool; 256] = unreserved(true);

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

/// Returns the URL encoding of the bytes in pieces: runs of unchanged bytes, and one escape for each other byte.
/// Every request encodes its key this way, so it must be cheap.
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
        // Every byte of the run is ASCII.
        Some(std::str::from_utf8(run).unwrap_or_default())
    })
}

/// The name of a bucket. Cheap to clone: all tasks of a job share one allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(Arc<str>);

impl BucketName {
    /// Wraps a name without validation. The server decides whether the name is valid.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a name without that of the tenant, as in `tenant:bucket`, which is Ceph's name of a bucket of another
    /// tenant. A tenant's name has letters, digits and underscores, and one tenant has no name. A text that could also be
    /// a host and a port is returned as it is, and so is one in any other form.
    /// <https://docs.ceph.com/en/latest/radosgw/multitenancy/>
    #[must_use]
    pub fn without_tenant(name: &str) -> &str {
        let is_tenant = |tenant: &str| tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_port = |name: &str| name.len() < 3 || name.bytes().all(|byte| byte.is_ascii_digit());
        match name.split_once(':') {
            Some((tenant, bucket)) if is_tenant(tenant) && !is_port(bucket) => bucket,
            _ => name,
        }
    }

    /// Returns whether both names can be of one bucket. A name without a tenant is a bucket of the caller's own tenant,
    /// which can be any.
    #[must_use]
    pub fn may_be_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (Self::without_tenant(&self.0), Self::without_tenant(&other.0));
        let is_one_without_tenant = ours.len() == self.0.len() || theirs.len() == other.0.len();
        self == other || (ours == theirs && is_one_without_tenant)
    }

    /// Returns whether the name is the alias of an access point, if the store is AWS S3. An alias stands for a bucket in
    /// requests about objects, but not in requests about the settings of the bucket.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html>
    #[must_use]
    pub fn is_access_point_alias(&self) -> bool {
        self.0.ends_with("-s3alias")
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an object, in bytes, exactly as decoded from the manifest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Box<[u8]>);

impl ObjectKey {
    /// Wraps the bytes of a decoded key.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Decodes each `%XX` once. All other bytes, including `+`, stay unchanged.
    #[must_use]
    pub fn decode(encoded: &[u8]) -> Self {
        Self(percent_decode(encoded).collect())
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the key as text.
    ///
    /// # Errors
    /// Returns an error with the position of the first invalid byte if the key is not UTF-8.
    pub fn as_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// Returns the key URL-encoded, with `%2F` for a slash. OSS writes keys in manifests and reports this way.
    #[must_use]
    pub fn encoded(&self) -> String {
        self.encoded_pieces().collect()
    }

    /// Returns the key URL-encoded, with slashes unchanged. AWS writes keys in manifests and reports this way.
    #[must_use]
    pub fn encoded_keeping_slashes(&self) -> String {
        self.encoded_pieces_keeping_slashes().collect()
    }

    /// Returns the pieces that [`ObjectKey::encoded`] joins, for a writer that has its own buffer.
    pub fn encoded_pieces(&self) -> impl Iterator<Item = &str> {
        encoded_pieces(&self.0, &UNRESERVED)
    }

    /// Returns the pieces that [`ObjectKey::encoded_keeping_slashes`] joins.
    pub fn encoded_pieces_keeping_slashes(&self) -> impl Iterator<Item = &str> {
        encoded_pieces(&self.0, &UNRESERVED_OR_SLASH)
    }
}

impl From<&str> for ObjectKey {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// For people. Escapes control sequences and bytes that are not UTF-8, so that a key cannot control a terminal.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if affects_terminal(c) {
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

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The ID of one version of an object, as the server reports it. `null` is the version written while versioning was
/// off.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(Box<str>);

impl VersionId {
    /// Wraps an ID without decoding it: version IDs are never URL-encoded.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns the ID of the version that an unversioned write creates.
    #[must_use]
    pub fn null() -> Self {
        Self::new("null")
    }

    /// Returns the ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identifies the object of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The bucket that contains the object.
    pub bucket: BucketName,
    /// The key of the object, decoded.
    pub key: ObjectKey,
    /// The version, or `None` for the version that is current when the request arrives.
    pub version: Option<VersionId>,
}

impl fmt::Display for ObjectId {
    /// For messages only: no program parses this form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)?;
        match &self.version {
            Some(version) => write!(f, " (version {})", version.as_str()),
            None => Ok(()),
        }
    }
}

/// A set of tags, with at most one value per key. Sorted by key, so that equal sets are always written the same way.
/// Shared, so that all objects of a plan can use the same set without copying it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSet(Arc<BTreeMap<String, String>>);

impl TagSet {
    /// Sets a tag, and replaces an earlier value of the same key.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        Arc::make_mut(&mut self.0).insert(key.into(), value.into());
    }

    /// Removes a tag, if it is present.
    pub fn remove(&mut self, key: &str) {
        if self.0.contains_key(key) {
            Arc::make_mut(&mut self.0).remove(key);
        }
    }

    /// Returns the key and value of each tag, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Returns the number of tags.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the set has no tags.
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

/// The ACL of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectAcl {
    /// Only the owner can read and write.
    Private,
    /// Everyone can read, only the owner can write.
    PublicRead,
    /// Everyone can read and write.
    PublicReadWrite,
    /// The bucket's ACL applies. OSS only.
    Default,
    /// Grants that no canned ACL expresses; `None` if they are not known. Only known grants can be sent to a server.
    Custom(Option<Arc<AclPolicy>>),
}

/// The grants of an ACL in S3: who may do what.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AccessControlPolicy.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclPolicy {
    /// The ID of the object's owner, who does not change with the ACL. Empty if the server names none.
    pub owner: String,
    /// The grants, sorted, because their order means nothing.
    pub grants: Vec<AclGrant>,
}

/// One grant of an ACL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclGrant {
    /// Who gets the permission.
    pub grantee: AclGrantee,
    /// The permission by its name in XML, such as `READ` or `FULL_CONTROL`.
    pub permission: String,
}

/// Who a grant of an ACL is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclGrantee {
    /// An account, by its canonical ID.
    User(String),
    /// A group that the service defines, by its URI.
    Group(String),
    /// An account, by its email address.
    Email(String),
}

impl ObjectAcl {
    /// Returns the name in plan files, headers and XML.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::Default => "default",
            Self::Custom(_) => "custom",
        }
    }
}

/// The speed, and with it the price, of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestoreTier {
    /// Takes hours.
    Standard,
    /// The slowest and cheapest.
    Bulk,
    /// The fastest and most expensive.
    Expedited,
}

impl RestoreTier {
    /// Returns the name in plan files and XML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Bulk => "Bulk",
            Self::Expedited => "Expedited",
        }
    }
}

/// How long a restored copy should be readable, and how fast the restore should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The number of days for which the restored copy stays readable. `None` for a restore that does not expire: S3
    /// moves objects of `INTELLIGENT_TIERING` out of their archive tiers, and allows no days for them.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html>
    pub days: Option<u32>,
    /// The tier, or `None` for the server's default.
    pub tier: Option<RestoreTier>,
}

/// The restore state of an archived object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreState {
    /// No restore was requested, or the restored copy has expired.
    NotRestored,
    /// A restore was requested and is not complete.
    InProgress,
    /// The restored copy is readable until this time.
    RestoredUntil(Timestamp),
    /// The restore that an operation requires. Never read from a server.
    Requested(RestoreRequest),
}

/// Whether an object of S3's class `INTELLIGENT_TIERING` is in one of its archive tiers, and must be restored before it
/// can be read. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html> (`x-amz-archive-status`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveStatus {
    /// It is in none. Objects of other classes never are.
    NotArchived,
    /// It is in the Archive Access tier.
    ArchiveAccess,
    /// It is in the Deep Archive Access tier.
    DeepArchiveAccess,
}

/// A storage class, by the name that the server uses (`STANDARD`, `DEEP_ARCHIVE`, `ColdArchive`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageClass(Box<str>);

impl StorageClass {
    /// Wraps a name without validation.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One property of an object: known from the server, the manifest or an operation, or unknown. A property that is
/// unknown is never replaced by a guess.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MaybeKnown<T> {
    /// Not known.
    #[default]
    Unknown,
    /// Read from the server or the manifest, or required by an operation.
    Known(T),
}

impl<T> MaybeKnown<T> {
    /// Returns the value if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Unknown => None,
            Self::Known(value) => Some(value),
        }
    }
}

/// The known state of an object, or the state that an operation requires: the start and the end of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// The tags of the object.
    pub tags: MaybeKnown<TagSet>,
    /// The ACL of the object.
    pub acl: MaybeKnown<ObjectAcl>,
    /// The restore state: whether a restored copy exists or a restore is in progress.
    pub restoration: MaybeKnown<RestoreState>,
    /// The storage class of the object.
    pub class: MaybeKnown<StorageClass>,
    /// The archive tier that an object of `INTELLIGENT_TIERING` is in.
    pub archive_status: MaybeKnown<ArchiveStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_encoded_as_the_reports_want_it() {
        let key = ObjectKey::new(&b"a+b/c d\xff~"[..]);
        assert_eq!(key.encoded(), "a%2Bb%2Fc%20d%FF~");
        assert_eq!(key.encoded_keeping_slashes(), "a%2Bb/c%20d%FF~");
        assert_eq!(ObjectKey::decode(key.encoded().as_bytes()), key);
    }

    #[test]
    fn every_byte_is_encoded_or_stands_for_itself() {
        let every = ObjectKey::new((0..=255).collect::<Vec<u8>>());
        let kept: String = every.encoded().split('%').flat_map(|piece| piece.chars().skip(2)).collect();
        assert_eq!(kept, "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
        assert_eq!(every.encoded_keeping_slashes(), every.encoded().replace("%2F", "/"));
        assert_eq!(ObjectKey::decode(every.encoded().as_bytes()), every);
    }

    #[test]
    fn a_key_is_decoded_once_and_plus_is_itself() {
        assert_eq!(ObjectKey::decode(b"a%252Fb+c").as_bytes(), b"a%2Fb+c");
        assert_eq!(ObjectKey::decode(b"100%").as_bytes(), b"100%");
    }

    #[test]
    fn a_shown_key_cannot_drive_a_terminal() {
        assert_eq!(ObjectKey::new(&b"\x1b[31m\n\xc3"[..]).to_string(), "\\u{1b}[31m\\n\\xc3");
        assert_eq!(ObjectKey::from("a\u{202e}b\u{2028}").to_string(), "a\\u{202e}b\\u{2028}");
    }
}
