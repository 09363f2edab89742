//! The binary encoding of a [`StateChange`] in the log. Numbers are LEB128. Texts and byte strings are preceded by
//! their length.
//!
//! A new kind of change gets a new number. A number is never reused for another kind.

use super::bucket_settings::LifecycleRule;
use super::model::{
    ETag, ObjectBlob, ObjectOwnership, ObjectStorageClass, PendingUpload, RetrievalTier, StoredAcl, StoredHeaders,
    StoredObject, StoredRestore, StoredVersion, UnixMillis, UploadedPart, VersioningStatus,
};
use super::state::{StateChange, VersionRef};
use super::tags::SharedTags;

/// The bytes do not encode a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChangeDecodeError;

type DecodeResult<T> = std::result::Result<T, ChangeDecodeError>;

/// Appends the encoding of a change.
pub(super) fn encode(change: &StateChange, out: &mut Vec<u8>) {
    let mut w = ChangeEncoder(out);
    match change {
        StateChange::CreateBucket { bucket, created } => {
            w.byte(1);
            w.text(bucket);
            w.millis(*created);
        }
        StateChange::DeleteBucket { bucket } => {
            w.byte(2);
            w.text(bucket);
        }
        StateChange::SetVersioning { bucket, versioning } => {
            w.byte(3);
            w.text(bucket);
            w.byte(*versioning as u8);
        }
        StateChange::Put { bucket, key, version } => {
            w.byte(4);
            w.text(bucket);
            w.text(key);
            w.version(version);
        }
        StateChange::SetTags { place, tags } => {
            w.byte(5);
            w.version_ref(place);
            w.tags(tags);
        }
        StateChange::SetAcl { place, acl } => {
            w.byte(6);
            w.version_ref(place);
            w.byte(*acl as u8);
        }
        StateChange::SetRestore { place, restore } => {
            w.byte(7);
            w.version_ref(place);
            w.restore(restore);
        }
        StateChange::Remove { place } => {
            w.byte(8);
            w.version_ref(place);
        }
        StateChange::CreateUpload { id, upload } => {
            w.byte(9);
            w.text(id);
            w.upload(upload);
        }
        StateChange::PutPart { id, number, part } => {
            w.byte(10);
            w.text(id);
            w.number(u64::from(*number));
            w.part(part);
        }
        StateChange::DropUpload { id } => {
            w.byte(11);
            w.text(id);
        }
        StateChange::SetBucketAcl { bucket, acl } => {
            w.byte(12);
            w.text(bucket);
            w.byte(*acl as u8);
        }
        StateChange::SetOwnership { bucket, ownership } => {
            w.byte(13);
            w.text(bucket);
            w.byte(*ownership as u8);
        }
        StateChange::SetLifecycle { bucket, rules } => {
            w.byte(14);
            w.text(bucket);
            w.number(rules.len() as u64);
            for rule in rules {
                w.rule(rule);
            }
        }
    }
}

/// Decodes one change, which must take up all of the bytes.
///
/// # Errors
/// Returns an error if the bytes are not exactly one change.
pub(super) fn decode(bytes: &[u8]) -> DecodeResult<StateChange> {
    let mut r = ChangeDecoder(bytes);
    let change = match r.byte()? {
        1 => StateChange::CreateBucket { bucket: r.text()?, created: r.millis()? },
        2 => StateChange::DeleteBucket { bucket: r.text()? },
        3 => StateChange::SetVersioning { bucket: r.text()?, versioning: r.code(VersioningStatus::from_code)? },
        4 => StateChange::Put { bucket: r.text()?, key: r.text()?, version: r.version()? },
        5 => StateChange::SetTags { place: r.version_ref()?, tags: r.tags()? },
        6 => StateChange::SetAcl { place: r.version_ref()?, acl: r.code(StoredAcl::from_code)? },
        7 => StateChange::SetRestore { place: r.version_ref()?, restore: r.restore()? },
        8 => StateChange::Remove { place: r.version_ref()? },
        9 => StateChange::CreateUpload { id: r.text()?, upload: r.upload()? },
        10 => StateChange::PutPart { id: r.text()?, number: r.small_number()?, part: r.part()? },
        11 => StateChange::DropUpload { id: r.text()? },
        12 => StateChange::SetBucketAcl { bucket: r.text()?, acl: r.code(StoredAcl::from_code)? },
        13 => StateChange::SetOwnership { bucket: r.text()?, ownership: r.code(ObjectOwnership::from_code)? },
        14 => StateChange::SetLifecycle { bucket: r.text()?, rules: r.rules()? },
        _ => return Err(ChangeDecodeError),
    };
    if r.0.is_empty() { Ok(change) } else { Err(ChangeDecodeError) }
}

struct ChangeEncoder<'a>(&'a mut Vec<u8>);

impl ChangeEncoder<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn millis(&mut self, at: UnixMillis) {
        self.0.extend_from_slice(&at.0.to_le_bytes());
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn version_ref(&mut self, place: &VersionRef) {
        self.text(&place.bucket);
        self.text(&place.key);
        self.optional_text(place.id.as_deref());
    }

    fn tags(&mut self, tags: &SharedTags) {
        self.number(tags.len() as u64);
        for (key, value) in tags.iter() {
            self.text(key);
            self.text(value);
        }
    }

    fn restore(&mut self, restore: &StoredRestore) {
        self.millis(restore.ready);
        self.millis(restore.expiry);
        self.number(u64::from(restore.days));
        self.byte(restore.tier as u8);
    }

    fn body(&mut self, body: &ObjectBlob) {
        match body {
            ObjectBlob::Zeros => self.byte(0),
            ObjectBlob::Inline(bytes) => {
                self.byte(1);
                self.bytes(bytes);
            }
            ObjectBlob::File(number) => {
                self.byte(2);
                self.number(*number);
            }
        }
    }

    fn headers(&mut self, headers: Option<&StoredHeaders>) {
        let pairs = headers.map_or(&[][..], |headers| &headers.0);
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    fn version(&mut self, version: &StoredVersion) {
        self.optional_text(version.id.as_deref());
        self.millis(version.modified);
        self.byte(u8::from(version.object.is_some()));
        if let Some(object) = &version.object {
            self.number(object.size);
            self.0.extend_from_slice(&object.etag.md5);
            self.number(u64::from(object.etag.parts));
            self.byte(object.class as u8);
            self.byte(object.acl as u8);
            self.tags(&object.tags);
            self.body(&object.body);
            self.byte(u8::from(object.restore.is_some()));
            if let Some(restore) = &object.restore {
                self.restore(restore);
            }
            self.headers(object.headers.as_deref());
        }
    }

    fn rule(&mut self, rule: &LifecycleRule) {
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
            self.byte(*class as u8);
        }
    }

    fn part(&mut self, part: &UploadedPart) {
        self.number(part.size);
        self.0.extend_from_slice(&part.md5);
        self.millis(part.modified);
        self.body(&part.body);
    }

    fn upload(&mut self, upload: &PendingUpload) {
        self.text(&upload.bucket);
        self.text(&upload.key);
        self.millis(upload.initiated);
        self.byte(upload.class as u8);
        self.byte(upload.acl as u8);
        self.tags(&upload.tags);
        self.headers(upload.headers.as_deref());
        self.number(upload.parts.len() as u64);
        for (number, part) in &upload.parts {
            self.number(u64::from(*number));
            self.part(part);
        }
    }
}

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
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(ChangeDecodeError)
    }

    fn small_number<T: TryFrom<u64>>(&mut self) -> DecodeResult<T> {
        T::try_from(self.number()?).map_err(|_| ChangeDecodeError)
    }

    fn code<T>(&mut self, known: fn(u8) -> Option<T>) -> DecodeResult<T> {
        known(self.byte()?).ok_or(ChangeDecodeError)
    }

    fn bytes(&mut self) -> DecodeResult<&'a [u8]> {
        let length = self.small_number()?;
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

    fn restore(&mut self) -> DecodeResult<StoredRestore> {
        Ok(StoredRestore {
            ready: self.millis()?,
            expiry: self.millis()?,
            days: self.small_number()?,
            tier: self.code(RetrievalTier::from_code)?,
        })
    }

    fn body(&mut self) -> DecodeResult<ObjectBlob> {
        match self.byte()? {
            0 => Ok(ObjectBlob::Zeros),
            1 => Ok(ObjectBlob::Inline(self.bytes()?.into())),
            2 => Ok(ObjectBlob::File(self.number()?)),
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
            etag: ETag { md5: self.array()?, parts: self.small_number()? },
            class: self.code(ObjectStorageClass::from_code)?,
            acl: self.code(StoredAcl::from_code)?,
            tags: self.tags()?,
            body: self.body()?,
            restore: if self.flag()? { Some(Box::new(self.restore()?)) } else { None },
            headers: self.headers()?,
        })
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
            expiration_days: if self.flag()? { Some(self.small_number()?) } else { None },
            transitions: {
                let count = self.number()?;
                (0..count)
                    .map(|_| Ok((self.small_number()?, self.code(ObjectStorageClass::from_code)?)))
                    .collect::<DecodeResult<_>>()?
            },
        })
    }

    fn part(&mut self) -> DecodeResult<UploadedPart> {
        Ok(UploadedPart { size: self.number()?, md5: self.array()?, modified: self.millis()?, body: self.body()? })
    }

    fn upload(&mut self) -> DecodeResult<PendingUpload> {
        Ok(PendingUpload {
            bucket: self.text()?,
            key: self.text()?,
            initiated: self.millis()?,
            class: self.code(ObjectStorageClass::from_code)?,
            acl: self.code(StoredAcl::from_code)?,
            tags: self.tags()?,
            headers: self.headers()?,
            parts: {
                let count = self.number()?;
                (0..count).map(|_| Ok((self.small_number()?, self.part()?))).collect::<DecodeResult<_>>()?
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
