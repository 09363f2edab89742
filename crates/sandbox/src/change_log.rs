//! The change log, from which the state is read again when the sandbox is opened.
//!
//! A change that was appended survives the end of the process, but not always a stop of the machine: an append is not
//! synced, because the sandbox is for rehearsals, and a sync of every request would make it slow. If the machine stops,
//! the latest changes can be lost, or the log can be damaged. Only a new or rewritten log is synced as a whole.
//!
//! The file consists of 8 magic bytes and records. A record is the length of its payload, a checksum of the length, a
//! checksum of the payload, and the payload, which is one change. The checksums are CRC-32, and all numbers are
//! little-endian. The length has its own checksum so that a damaged length is not mistaken for the torn end of the
//! file.
//!
//! A process that ends while it appends changes leaves the first of them, and perhaps a torn last record: one that is
//! incomplete, or one of the full length whose payload was not completely written, so that its checksum fails. The torn
//! record was never acknowledged, and is dropped when the log is opened. The complete ones before it are kept, so a
//! batch of changes must be valid if it ends early. Any other damage is an error, because a guess could lose
//! acknowledged writes.
//!
//! In the encoding of a change, counts, lengths, sizes, days, and the numbers of parts and files are LEB128. A time is
//! an `i64`, a code or flag is one byte, and an MD5 is its 16 bytes. Texts and byte strings are preceded by their
//! length. Fields have no names: they are decoded in the order in which they are encoded, which must not change. A new
//! kind of change gets a new number. A number is never reused for another kind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::access::{AclGrant, AclPermission, CannedAcl, Grantee, GranteeGroup, OwnerId, SharedAccess, StoredAcl};
use super::checksum::{ChecksumAlgorithm, ChecksumType, ContentDetails, ObjectChecksum, ObjectPart, UploadChecksum};
use super::model::{
    ETag, LifecycleRule, ObjectBlob, ObjectOwnership, ObjectStorageClass, PendingUpload, RetrievalTier, StoredHeaders,
    StoredObject, StoredRestore, StoredVersion, UnixMillis, UploadedPart, VersioningStatus,
};
use super::state::{SandboxState, StateChange, VersionRef};
use super::tags::SharedTags;

const MAGIC: [u8; 8] = *b"BPSBOX01";
/// The length of a record's header, which consists of three numbers.
const HEADER_BYTES: usize = 3 * size_of::<u32>();
/// How many bytes of a log are read or written at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// A log is rewritten if it has more than twice the records of its state, and this many more.
const MAX_HISTORY_RECORDS: u64 = 10_000;
/// In the encoding of numbers, every byte holds seven bits. The eighth says that another byte follows.
const DATA_BITS_PER_BYTE: usize = 7;
const CONTINUATION_BIT: u8 = 1 << DATA_BITS_PER_BYTE;
/// The maximum length of a payload in bytes. A longer change is refused, because the log could not be read again.
///
/// A rewritten log has the longest changes: an upload with 10,000 inline parts takes about 10 MiB. Only the lifecycle
/// rules of a bucket could be longer.
const MAX_PAYLOAD_BYTES: u32 = 16 << 20;

/// Why a change log could not be read.
#[derive(Debug)]
pub(crate) enum ChangeLogError {
    Io(io::Error),
    /// The file is not a log, or is damaged.
    Damaged {
        /// The offset of the first byte that is not valid.
        at: u64,
        /// What is wrong at this offset.
        what: &'static str,
    },
}

impl From<io::Error> for ChangeLogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A change log that is open for appending.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    path: PathBuf,
    file: File,
    length: u64,
    records: u64,
    /// The number of records at which [`Self::compact`] next compares the log with its state.
    next_check: u64,
    /// Set if a failed append could not be undone. Everything after it would be unreadable.
    broken: bool,
    buffer: Vec<u8>,
}

/// The result of reading a change log.
pub(crate) struct ReplayedLog {
    pub(crate) log: ChangeLog,
    pub(crate) state: SandboxState,
}

impl ChangeLog {
    /// Reads a log and opens it for appending. A torn last record is cut off.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read, or is damaged elsewhere than at its end.
    pub(crate) fn open(path: &Path) -> Result<ReplayedLog, ChangeLogError> {
        let mut file = open_regular(path, OpenOptions::new().read(true).write(true))?;
        let total = file.metadata()?.len();
        let mut state = SandboxState::default();
        let mut records = 0;
        let mut valid_length = MAGIC.len() as u64;
        {
            let mut reader = BufReader::with_capacity(BUFFER_BYTES, &mut file);
            let mut magic = [0; MAGIC.len()];
            if total < valid_length || reader.read_exact(&mut magic).is_err() || magic != MAGIC {
                return Err(ChangeLogError::Damaged { at: 0, what: "it is not a sandbox log" });
            }
            let mut payload = Vec::new();
            while let Some(length) = next_record(&mut reader, valid_length, total, &mut payload)? {
                let damaged = |what| ChangeLogError::Damaged { at: valid_length, what };
                let change = decode_change(&payload).map_err(|_| damaged("the record is invalid"))?;
                state.apply(change).map_err(|error| damaged(error.0))?;
                valid_length += length;
                records += 1;
            }
        }
        if valid_length < total {
            file.set_len(valid_length)?;
        }
        file.seek(SeekFrom::Start(valid_length))?;
        Ok(ReplayedLog { log: Self::new(path, file, valid_length, records), state })
    }

    fn new(path: &Path, file: File, length: u64, records: u64) -> Self {
        let path = path.to_owned();
        Self { path, file, length, records, next_check: records, broken: false, buffer: Vec::new() }
    }

    /// Atomically replaces the log by a new one that contains just this state.
    ///
    /// # Errors
    /// Returns an error if the new log cannot be written.
    pub(crate) fn replace(path: &Path, state: &SandboxState) -> io::Result<Self> {
        let temporary = temporary_path(path);
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, create_replacing(&temporary)?);
        writer.write_all(&MAGIC)?;
        let mut length = MAGIC.len() as u64;
        let mut records = 0;
        let mut buffer = Vec::new();
        for change in state.changes() {
            buffer.clear();
            append_record(&change, &mut buffer)?;
            writer.write_all(&buffer)?;
            length += buffer.len() as u64;
            records += 1;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(Self::new(path, file, length, records))
    }

    /// Replaces the log if most of it is history. This takes as long as writing the state does, at most once for as many
    /// changes as the state has, so that a change costs the same at any size.
    ///
    /// # Errors
    /// Returns an error if the new log cannot be written. The old one can still be appended to.
    pub(crate) fn compact(&mut self, state: &SandboxState) -> io::Result<()> {
        if self.records < self.next_check {
            return Ok(());
        }
        let most = 2 * state.approximate_change_count() + MAX_HISTORY_RECORDS;
        if self.records > most {
            // If it fails, a full disk may be the reason: much later is soon enough for another attempt.
            self.next_check = self.records + most;
            *self = Self::replace(&self.path, state)?;
        }
        self.next_check = self.records.max(most) + 1;
        Ok(())
    }

    /// Appends changes with one write, which is not synced. After this returns, they survive the end of the process. If
    /// the process ends before, the log can contain only the first of them.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written. The log then contains none of them.
    pub(crate) fn append(&mut self, changes: &[StateChange]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the sandbox's log failed; restart the sandbox"));
        }
        self.buffer.clear();
        for change in changes {
            append_record(change, &mut self.buffer)?;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            let undone = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            self.broken = undone.is_err();
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        self.records += changes.len() as u64;
        Ok(())
    }
}

/// Creates an empty file, replacing whatever has the name. A symbolic link or a hard link with that name is removed,
/// not followed, so the write never changes another file.
fn create_replacing(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Opens a regular file. Symbolic links are refused, and opening a named pipe does not block.
pub(crate) fn open_regular(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;

        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let refused =
        || io::Error::other("it is a symbolic link, which the sandbox does not follow; replace it with its target");
    if cfg!(not(unix)) && is_link() {
        return Err(refused());
    }
    let opened = options.open(path).map_err(|error| if is_link() { refused() } else { error })?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file; remove it"));
    }
    Ok(opened)
}

fn temporary_path(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Appends a record to `out`.
///
/// # Errors
/// Returns an error if the change is too long. Then `out` ends with an invalid record.
fn append_record(change: &StateChange, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    encode_change(change, out);
    let payload = &out[start + HEADER_BYTES..];
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|length| *length <= MAX_PAYLOAD_BYTES)
        .ok_or_else(|| io::Error::other("a change is too large for the sandbox's log"))?
        .to_le_bytes();
    let length_checksum = crc32fast::hash(&length).to_le_bytes();
    let payload_checksum = crc32fast::hash(payload).to_le_bytes();
    let header = [length, length_checksum, payload_checksum];
    out[start..start + HEADER_BYTES].copy_from_slice(header.as_flattened());
    Ok(())
}

/// Reads the record at offset `at`. Returns its length, or `None` at the end of the file or at a torn last record.
fn next_record(
    reader: &mut impl Read,
    at: u64,
    total: u64,
    payload: &mut Vec<u8>,
) -> Result<Option<u64>, ChangeLogError> {
    let remaining = total - at;
    if remaining < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut next_number = || -> io::Result<u32> {
        let mut bytes = [0; size_of::<u32>()];
        reader.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    };
    let (length, length_checksum, payload_checksum) = (next_number()?, next_number()?, next_number()?);
    if crc32fast::hash(&length.to_le_bytes()) != length_checksum {
        return Err(ChangeLogError::Damaged { at, what: "the record's length fails its checksum" });
    }
    if length > MAX_PAYLOAD_BYTES {
        return Err(ChangeLogError::Damaged { at, what: "the record is too long" });
    }
    let record_length = HEADER_BYTES as u64 + u64::from(length);
    if remaining < record_length {
        return Ok(None);
    }
    payload.clear();
    reader.take(u64::from(length)).read_to_end(payload)?;
    if crc32fast::hash(payload) != payload_checksum {
        // The system may have extended the file before it wrote all of the last record.
        if remaining == record_length {
            return Ok(None);
        }
        return Err(ChangeLogError::Damaged { at, what: "the record fails its checksum" });
    }
    Ok(Some(record_length))
}

/// The bytes do not encode a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChangeDecodeError;

type DecodeResult<T> = Result<T, ChangeDecodeError>;

// The kinds of changes, as the log contains them. Never give one of these numbers to another kind.

const CREATE_BUCKET: u8 = 1;
const DELETE_BUCKET: u8 = 2;
const SET_VERSIONING: u8 = 3;
const PUT: u8 = 4;
const SET_TAGS: u8 = 5;
const SET_ACL: u8 = 6;
const SET_RESTORE: u8 = 7;
const REMOVE: u8 = 8;
const CREATE_UPLOAD: u8 = 9;
const PUT_PART: u8 = 10;
const DROP_UPLOAD: u8 = 11;
const SET_BUCKET_ACL: u8 = 12;
const SET_OWNERSHIP: u8 = 13;
const SET_LIFECYCLE: u8 = 14;
const SET_DETAILS: u8 = 20;
const SET_UPLOAD_CHECKSUM: u8 = 21;
const SET_PART_DIGEST: u8 = 22;
const SET_LOCATION: u8 = 23;

/// These precede the kind of a change that creates something for another owner than the first, or that starts an upload
/// which another owner than the first requested. So a log with one owner has none of them.
const OWNED: u8 = 15;
const INITIATED: u8 = 16;

/// Instead of the code of a canned ACL, this precedes a list of grants.
const ACL_GRANTS: u8 = 5;
/// Whom a grant is for, in the log.
const GRANTEE_OWNER: u8 = 0;
const GRANTEE_GROUP: u8 = 1;

// Where the content of an object is stored, as the log contains it.

const BLOB_ZEROS: u8 = 0;
const BLOB_INLINE: u8 = 1;
const BLOB_FILE: u8 = 2;

/// Appends the encoding of a change.
fn encode_change(change: &StateChange, out: &mut Vec<u8>) {
    let mut encoder = ChangeEncoder(out);
    let ChangeOwners { owner, initiator } = ChangeOwners::of(change).unwrap_or_default();
    for (prefix, id) in [(OWNED, owner), (INITIATED, initiator)] {
        if id != OwnerId::FIRST {
            encoder.byte(prefix).owner(id);
        }
    }
    match change {
        StateChange::CreateBucket { bucket, created, .. } => encoder.byte(CREATE_BUCKET).text(bucket).millis(*created),
        StateChange::DeleteBucket { bucket } => encoder.byte(DELETE_BUCKET).text(bucket),
        StateChange::SetVersioning { bucket, versioning } => {
            encoder.byte(SET_VERSIONING).text(bucket).byte(versioning.code())
        }
        StateChange::SetBucketAcl { bucket, acl } => encoder.byte(SET_BUCKET_ACL).text(bucket).acl(acl),
        StateChange::SetOwnership { bucket, ownership } => {
            encoder.byte(SET_OWNERSHIP).text(bucket).byte(ownership.code())
        }
        StateChange::SetLifecycle { bucket, rules } => encoder.byte(SET_LIFECYCLE).text(bucket).rules(rules),
        StateChange::Put { bucket, key, version } => encoder.byte(PUT).text(bucket).text(key).version(version),
        StateChange::SetTags { target, tags } => encoder.byte(SET_TAGS).version_ref(target).tags(tags),
        StateChange::SetAcl { target, acl } => encoder.byte(SET_ACL).version_ref(target).acl(acl),
        StateChange::SetRestore { target, restore } => encoder.byte(SET_RESTORE).version_ref(target).restore(restore),
        StateChange::Remove { target } => encoder.byte(REMOVE).version_ref(target),
        StateChange::CreateUpload { id, upload } => encoder.byte(CREATE_UPLOAD).text(id).upload(upload),
        StateChange::PutPart { id, number, part } => {
            encoder.byte(PUT_PART).text(id).number(u64::from(*number)).part(part)
        }
        StateChange::DropUpload { id } => encoder.byte(DROP_UPLOAD).text(id),
        StateChange::SetDetails { target, details } => encoder.byte(SET_DETAILS).version_ref(target).details(details),
        StateChange::SetUploadChecksum { id, checksum } => {
            encoder.byte(SET_UPLOAD_CHECKSUM).text(id).upload_checksum(*checksum)
        }
        StateChange::SetPartDigest { id, number, digest } => {
            encoder.byte(SET_PART_DIGEST).text(id).number(u64::from(*number)).bytes(digest)
        }
        StateChange::SetLocation { bucket, location } => encoder.byte(SET_LOCATION).text(bucket).text(location),
    };
}

/// Who owns what a change creates.
struct ChangeOwners {
    owner: OwnerId,
    /// Who requested an upload. The first owner for other changes.
    initiator: OwnerId,
}

impl Default for ChangeOwners {
    fn default() -> Self {
        Self { owner: OwnerId::FIRST, initiator: OwnerId::FIRST }
    }
}

impl ChangeOwners {
    /// Returns `None` if the change creates nothing that has an owner.
    fn of(change: &StateChange) -> Option<Self> {
        let (owner, initiator) = match change {
            StateChange::CreateBucket { owner, .. } => (*owner, OwnerId::FIRST),
            StateChange::Put { version, .. } => (version.object.as_ref()?.access.owner, OwnerId::FIRST),
            StateChange::CreateUpload { upload, .. } => (upload.access.owner, upload.initiator),
            _ => return None,
        };
        Some(Self { owner, initiator })
    }

    /// Changes the owners of a change, which were the first one.
    fn set(self, change: &mut StateChange) {
        let owned = |access: &SharedAccess| SharedAccess::new(self.owner, access.acl.clone());
        match change {
            StateChange::CreateBucket { owner, .. } => *owner = self.owner,
            StateChange::Put { version, .. } => {
                if let Some(object) = &mut version.object {
                    object.access = owned(&object.access);
                }
            }
            StateChange::CreateUpload { upload, .. } => {
                upload.access = owned(&upload.access);
                upload.initiator = self.initiator;
            }
            _ => {}
        }
    }
}

/// Decodes one change, which must take up all of the bytes.
///
/// # Errors
/// Returns an error if the bytes are not exactly one change.
fn decode_change(bytes: &[u8]) -> DecodeResult<StateChange> {
    let mut decoder = ChangeDecoder(bytes);
    let mut owners = None;
    let mut kind = decoder.byte()?;
    while matches!(kind, OWNED | INITIATED) {
        let read = decoder.owner()?;
        let owners: &mut ChangeOwners = owners.get_or_insert_default();
        if kind == OWNED {
            owners.owner = read;
        } else {
            owners.initiator = read;
        }
        kind = decoder.byte()?;
    }
    let mut change = decode_owned_change(kind, &mut decoder)?;
    if let Some(owners) = owners {
        ChangeOwners::of(&change).ok_or(ChangeDecodeError)?;
        owners.set(&mut change);
    }
    if decoder.0.is_empty() { Ok(change) } else { Err(ChangeDecodeError) }
}

/// Decodes a change of this kind. Its owner is the first one.
fn decode_owned_change(kind: u8, decoder: &mut ChangeDecoder<'_>) -> DecodeResult<StateChange> {
    Ok(match kind {
        CREATE_BUCKET => {
            StateChange::CreateBucket { bucket: decoder.text()?, created: decoder.millis()?, owner: OwnerId::FIRST }
        }
        DELETE_BUCKET => StateChange::DeleteBucket { bucket: decoder.text()? },
        SET_VERSIONING => StateChange::SetVersioning {
            bucket: decoder.text()?,
            versioning: decoder.code(VersioningStatus::from_code)?,
        },
        PUT => StateChange::Put { bucket: decoder.text()?, key: decoder.text()?, version: decoder.version()? },
        SET_TAGS => StateChange::SetTags { target: decoder.version_ref()?, tags: decoder.tags()? },
        SET_ACL => StateChange::SetAcl { target: decoder.version_ref()?, acl: decoder.acl()? },
        SET_RESTORE => StateChange::SetRestore { target: decoder.version_ref()?, restore: decoder.restore()? },
        REMOVE => StateChange::Remove { target: decoder.version_ref()? },
        CREATE_UPLOAD => StateChange::CreateUpload { id: decoder.text()?, upload: decoder.upload()? },
        PUT_PART => {
            StateChange::PutPart { id: decoder.text()?, number: decoder.number_in_range()?, part: decoder.part()? }
        }
        DROP_UPLOAD => StateChange::DropUpload { id: decoder.text()? },
        SET_BUCKET_ACL => StateChange::SetBucketAcl { bucket: decoder.text()?, acl: decoder.acl()? },
        SET_OWNERSHIP => {
            StateChange::SetOwnership { bucket: decoder.text()?, ownership: decoder.code(ObjectOwnership::from_code)? }
        }
        SET_LIFECYCLE => StateChange::SetLifecycle { bucket: decoder.text()?, rules: decoder.rules()? },
        SET_DETAILS => StateChange::SetDetails { target: decoder.version_ref()?, details: decoder.details()? },
        SET_UPLOAD_CHECKSUM => {
            StateChange::SetUploadChecksum { id: decoder.text()?, checksum: decoder.upload_checksum()? }
        }
        SET_PART_DIGEST => StateChange::SetPartDigest {
            id: decoder.text()?,
            number: decoder.number_in_range()?,
            digest: decoder.bytes()?.into(),
        },
        SET_LOCATION => StateChange::SetLocation { bucket: decoder.text()?, location: decoder.text()? },
        _ => return Err(ChangeDecodeError),
    })
}

/// Appends the encodings of values. Each method returns the encoder, so that calls can be chained.
struct ChangeEncoder<'a>(&'a mut Vec<u8>);

impl ChangeEncoder<'_> {
    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= u64::from(CONTINUATION_BIT) {
            self.0.push(number.to_le_bytes()[0] | CONTINUATION_BIT);
            number >>= DATA_BITS_PER_BYTE;
        }
        self.0.push(number.to_le_bytes()[0]);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn millis(&mut self, at: UnixMillis) -> &mut Self {
        self.0.extend_from_slice(&at.0.to_le_bytes());
        self
    }

    fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
        self
    }

    fn version_ref(&mut self, target: &VersionRef) -> &mut Self {
        self.text(&target.bucket);
        self.text(&target.key);
        self.optional_text(target.id.as_deref())
    }

    fn tags(&mut self, tags: &SharedTags) -> &mut Self {
        self.number(tags.len() as u64);
        for (key, value) in tags.iter() {
            self.text(key);
            self.text(value);
        }
        self
    }

    fn owner(&mut self, owner: OwnerId) -> &mut Self {
        self.0.extend_from_slice(owner.as_bytes());
        self
    }

    fn acl(&mut self, acl: &StoredAcl) -> &mut Self {
        let grants = match acl {
            StoredAcl::Canned(acl) => return self.byte(acl.code()),
            StoredAcl::Grants(grants) => grants,
        };
        self.byte(ACL_GRANTS).number(grants.len() as u64);
        for AclGrant { grantee, permission } in grants {
            self.byte(permission.code());
            match grantee {
                Grantee::Owner(owner) => self.byte(GRANTEE_OWNER).owner(*owner),
                Grantee::Group(group) => self.byte(GRANTEE_GROUP).byte(group.code()),
            };
        }
        self
    }

    fn restore(&mut self, restore: &StoredRestore) -> &mut Self {
        self.millis(restore.ready);
        self.millis(restore.expiry);
        self.number(u64::from(restore.days));
        self.byte(restore.tier.code());
        self
    }

    fn body(&mut self, body: &ObjectBlob) -> &mut Self {
        match body {
            ObjectBlob::Zeros => self.byte(BLOB_ZEROS),
            ObjectBlob::Inline(bytes) => self.byte(BLOB_INLINE).bytes(bytes),
            ObjectBlob::File(number) => self.byte(BLOB_FILE).number(*number),
        }
    }

    fn headers(&mut self, headers: Option<&StoredHeaders>) -> &mut Self {
        let pairs = headers.map_or(&[][..], |headers| &headers.0);
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
        self
    }

    fn version(&mut self, version: &StoredVersion) -> &mut Self {
        self.optional_text(version.id.as_deref());
        self.millis(version.modified);
        self.byte(u8::from(version.object.is_some()));
        if let Some(object) = &version.object {
            self.number(object.size);
            self.0.extend_from_slice(&object.etag.md5);
            self.number(u64::from(object.etag.parts));
            self.byte(object.class.code());
            self.acl(&object.access.acl);
            self.tags(&object.tags);
            self.body(&object.body);
            self.byte(u8::from(object.restore.is_some()));
            if let Some(restore) = &object.restore {
                self.restore(restore);
            }
            self.headers(object.headers.as_deref());
        }
        self
    }

    fn upload_checksum(&mut self, checksum: UploadChecksum) -> &mut Self {
        self.byte(checksum.algorithm.code()).byte(checksum.checksum_type.code())
    }

    fn details(&mut self, details: &ContentDetails) -> &mut Self {
        self.byte(u8::from(details.checksum.is_some()));
        if let Some(ObjectChecksum { algorithm, checksum_type, digest }) = &details.checksum {
            self.byte(algorithm.code()).byte(checksum_type.code()).bytes(digest);
        }
        self.number(details.parts.len() as u64);
        for part in &details.parts {
            self.number(u64::from(part.number));
            self.number(part.size);
            // No checksum is empty.
            self.bytes(part.digest.as_deref().unwrap_or_default());
        }
        self
    }

    fn rules(&mut self, rules: &[LifecycleRule]) -> &mut Self {
        self.number(rules.len() as u64);
        for rule in rules {
            self.rule(rule);
        }
        self
    }

    fn rule(&mut self, rule: &LifecycleRule) -> &mut Self {
        self.text(&rule.id);
        self.byte(u8::from(rule.enabled));
        self.text(&rule.prefix);
        self.tags(&rule.tags);
        self.byte(u8::from(rule.expiration_days.is_some()));
        if let Some(days) = rule.expiration_days {
            self.number(u64::from(days));
        }
        self.number(rule.transitions.len() as u64);
        for (days, class) in &rule.transitions {
            self.number(u64::from(*days));
            self.byte(class.code());
        }
        self
    }

    fn part(&mut self, part: &UploadedPart) -> &mut Self {
        self.number(part.size);
        self.0.extend_from_slice(&part.md5);
        self.millis(part.modified);
        self.body(&part.body);
        self
    }

    fn upload(&mut self, upload: &PendingUpload) -> &mut Self {
        self.text(&upload.bucket);
        self.text(&upload.key);
        self.millis(upload.initiated);
        self.byte(upload.class.code());
        self.acl(&upload.access.acl);
        self.tags(&upload.tags);
        self.headers(upload.headers.as_deref());
        self.number(upload.parts.len() as u64);
        for (number, part) in &upload.parts {
            self.number(u64::from(*number));
            self.part(part);
        }
        self
    }
}

/// Decodes values in the order in which [`ChangeEncoder`] encodes them. The fields of a struct are decoded in the order
/// in which an expression lists them: reordering them changes the format of the log.
struct ChangeDecoder<'a>(&'a [u8]);

impl<'a> ChangeDecoder<'a> {
    fn take(&mut self, count: usize) -> DecodeResult<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ChangeDecodeError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> DecodeResult<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| ChangeDecodeError)
    }

    fn byte(&mut self) -> DecodeResult<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> DecodeResult<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ChangeDecodeError),
        }
    }

    fn number(&mut self) -> DecodeResult<u64> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(DATA_BITS_PER_BYTE) {
            let byte = self.byte()?;
            number |= u64::from(byte & !CONTINUATION_BIT) << shift;
            if byte & CONTINUATION_BIT == 0 {
                return Ok(number);
            }
        }
        Err(ChangeDecodeError)
    }

    /// Decodes a number that must fit a smaller type.
    fn number_in_range<T: TryFrom<u64>>(&mut self) -> DecodeResult<T> {
        T::try_from(self.number()?).map_err(|_| ChangeDecodeError)
    }

    fn code<T>(&mut self, known: fn(u8) -> Option<T>) -> DecodeResult<T> {
        known(self.byte()?).ok_or(ChangeDecodeError)
    }

    fn bytes(&mut self) -> DecodeResult<&'a [u8]> {
        let length = self.number_in_range()?;
        self.take(length)
    }

    fn text(&mut self) -> DecodeResult<Box<str>> {
        Ok(std::str::from_utf8(self.bytes()?).map_err(|_| ChangeDecodeError)?.into())
    }

    fn millis(&mut self) -> DecodeResult<UnixMillis> {
        Ok(UnixMillis(i64::from_le_bytes(self.array()?)))
    }

    fn optional_text(&mut self) -> DecodeResult<Option<Box<str>>> {
        if self.flag()? { Ok(Some(self.text()?)) } else { Ok(None) }
    }

    fn version_ref(&mut self) -> DecodeResult<VersionRef> {
        Ok(VersionRef { bucket: self.text()?, key: self.text()?, id: self.optional_text()? })
    }

    fn pairs(&mut self) -> DecodeResult<Vec<(Box<str>, Box<str>)>> {
        let count = self.number()?;
        (0..count).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    fn tags(&mut self) -> DecodeResult<SharedTags> {
        Ok(self.pairs()?.into_iter().collect())
    }

    fn headers(&mut self) -> DecodeResult<Option<Box<StoredHeaders>>> {
        let pairs = self.pairs()?;
        Ok((!pairs.is_empty()).then(|| Box::new(StoredHeaders(pairs))))
    }

    fn owner(&mut self) -> DecodeResult<OwnerId> {
        Ok(OwnerId::from_bytes(self.array()?))
    }

    fn acl(&mut self) -> DecodeResult<StoredAcl> {
        match self.byte()? {
            ACL_GRANTS => {
                let count = self.number()?;
                (0..count).map(|_| self.grant()).collect::<DecodeResult<_>>().map(StoredAcl::Grants)
            }
            code => CannedAcl::from_code(code).map(StoredAcl::Canned).ok_or(ChangeDecodeError),
        }
    }

    fn grant(&mut self) -> DecodeResult<AclGrant> {
        let permission = self.code(AclPermission::from_code)?;
        let grantee = match self.byte()? {
            GRANTEE_OWNER => Grantee::Owner(self.owner()?),
            GRANTEE_GROUP => Grantee::Group(self.code(GranteeGroup::from_code)?),
            _ => return Err(ChangeDecodeError),
        };
        Ok(AclGrant { grantee, permission })
    }

    fn restore(&mut self) -> DecodeResult<StoredRestore> {
        Ok(StoredRestore {
            ready: self.millis()?,
            expiry: self.millis()?,
            days: self.number_in_range()?,
            tier: self.code(RetrievalTier::from_code)?,
        })
    }

    fn body(&mut self) -> DecodeResult<ObjectBlob> {
        match self.byte()? {
            BLOB_ZEROS => Ok(ObjectBlob::Zeros),
            BLOB_INLINE => Ok(ObjectBlob::Inline(self.bytes()?.into())),
            BLOB_FILE => Ok(ObjectBlob::File(self.number()?)),
            _ => Err(ChangeDecodeError),
        }
    }

    fn version(&mut self) -> DecodeResult<StoredVersion> {
        let (id, modified) = (self.optional_text()?, self.millis()?);
        let object = if self.flag()? { Some(self.object()?) } else { None };
        Ok(StoredVersion { id, modified, object })
    }

    fn object(&mut self) -> DecodeResult<StoredObject> {
        Ok(StoredObject {
            size: self.number()?,
            etag: ETag { md5: self.array()?, parts: self.number_in_range()? },
            class: self.code(ObjectStorageClass::from_code)?,
            access: SharedAccess::new(OwnerId::FIRST, self.acl()?),
            tags: self.tags()?,
            body: self.body()?,
            restore: if self.flag()? { Some(Box::new(self.restore()?)) } else { None },
            headers: self.headers()?,
            details: None,
        })
    }

    fn upload_checksum(&mut self) -> DecodeResult<UploadChecksum> {
        Ok(UploadChecksum {
            algorithm: self.code(ChecksumAlgorithm::from_code)?,
            checksum_type: self.code(ChecksumType::from_code)?,
        })
    }

    fn details(&mut self) -> DecodeResult<ContentDetails> {
        let checksum = if self.flag()? { Some(self.object_checksum()?) } else { None };
        let count = self.number()?;
        let parts = (0..count).map(|_| self.object_part()).collect::<DecodeResult<_>>()?;
        Ok(ContentDetails { checksum, parts })
    }

    fn object_checksum(&mut self) -> DecodeResult<ObjectChecksum> {
        let UploadChecksum { algorithm, checksum_type } = self.upload_checksum()?;
        Ok(ObjectChecksum { algorithm, checksum_type, digest: self.bytes()?.into() })
    }

    fn object_part(&mut self) -> DecodeResult<ObjectPart> {
        let (number, size, digest) = (self.number_in_range()?, self.number()?, self.bytes()?);
        Ok(ObjectPart { number, size, digest: (!digest.is_empty()).then(|| digest.into()) })
    }

    fn rules(&mut self) -> DecodeResult<Vec<LifecycleRule>> {
        let count = self.number()?;
        (0..count).map(|_| self.rule()).collect()
    }

    fn rule(&mut self) -> DecodeResult<LifecycleRule> {
        Ok(LifecycleRule {
            id: self.text()?,
            enabled: self.flag()?,
            prefix: self.text()?,
            tags: self.tags()?,
            expiration_days: if self.flag()? { Some(self.number_in_range()?) } else { None },
            transitions: {
                let count = self.number()?;
                (0..count)
                    .map(|_| Ok((self.number_in_range()?, self.code(ObjectStorageClass::from_code)?)))
                    .collect::<DecodeResult<_>>()?
            },
        })
    }

    fn part(&mut self) -> DecodeResult<UploadedPart> {
        Ok(UploadedPart {
            size: self.number()?,
            md5: self.array()?,
            modified: self.millis()?,
            body: self.body()?,
            digest: None,
        })
    }

    fn upload(&mut self) -> DecodeResult<PendingUpload> {
        Ok(PendingUpload {
            bucket: self.text()?,
            key: self.text()?,
            initiated: self.millis()?,
            initiator: OwnerId::FIRST,
            class: self.code(ObjectStorageClass::from_code)?,
            access: SharedAccess::new(OwnerId::FIRST, self.acl()?),
            tags: self.tags()?,
            headers: self.headers()?,
            checksum: None,
            parts: {
                let count = self.number()?;
                (0..count).map(|_| Ok((self.number_in_range()?, self.part()?))).collect::<DecodeResult<_>>()?
            },
        })
    }
}

#[cfg(test)]
mod tests;
