//! The binary encoding of a [`Change`] in the log. Numbers are LEB128. Texts and byte strings are preceded by their
//! length.
//!
//! A new kind of change gets a new number. A number is never reused for another kind.

use super::model::{
    Acl, Body, Class, ETag, Headers, Millis, Object, Ownership, Part, Restore, Tier, Upload, Version, Versioning,
};
use super::settings::LifecycleRule;
use super::state::{Change, Place};
use super::tags::TagsRef;

/// The bytes do not encode a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Appends the encoding of a change.
pub(super) fn encode(change: &Change, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    match change {
        Change::CreateBucket { bucket, created } => {
            w.byte(1);
            w.text(bucket);
            w.millis(*created);
        }
        Change::DeleteBucket { bucket } => {
            w.byte(2);
            w.text(bucket);
        }
        Change::SetVersioning { bucket, versioning } => {
            w.byte(3);
            w.text(bucket);
            w.byte(*versioning as u8);
        }
        Change::Put { bucket, key, version } => {
            w.byte(4);
            w.text(bucket);
            w.text(key);
            w.version(version);
        }
        Change::SetTags { place, tags } => {
            w.byte(5);
            w.place(place);
            w.tags(tags);
        }
        Change::SetAcl { place, acl } => {
            w.byte(6);
            w.place(place);
            w.byte(*acl as u8);
        }
        Change::SetRestore { place, restore } => {
            w.byte(7);
            w.place(place);
            w.restore(restore);
        }
        Change::Remove { place } => {
            w.byte(8);
            w.place(place);
        }
        Change::CreateUpload { id, upload } => {
            w.byte(9);
            w.text(id);
            w.upload(upload);
        }
        Change::PutPart { id, number, part } => {
            w.byte(10);
            w.text(id);
            w.number(u64::from(*number));
            w.part(part);
        }
        Change::DropUpload { id } => {
            w.byte(11);
            w.text(id);
        }
        Change::SetBucketAcl { bucket, acl } => {
            w.byte(12);
            w.text(bucket);
            w.byte(*acl as u8);
        }
        Change::SetOwnership { bucket, ownership } => {
            w.byte(13);
            w.text(bucket);
            w.byte(*ownership as u8);
        }
        Change::SetLifecycle { bucket, rules } => {
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
pub(super) fn decode(bytes: &[u8]) -> Result<Change> {
    let mut r = Reader(bytes);
    let change = match r.byte()? {
        1 => Change::CreateBucket { bucket: r.text()?, created: r.millis()? },
        2 => Change::DeleteBucket { bucket: r.text()? },
        3 => Change::SetVersioning { bucket: r.text()?, versioning: r.code(Versioning::from_code)? },
        4 => Change::Put { bucket: r.text()?, key: r.text()?, version: r.version()? },
        5 => Change::SetTags { place: r.place()?, tags: r.tags()? },
        6 => Change::SetAcl { place: r.place()?, acl: r.code(Acl::from_code)? },
        7 => Change::SetRestore { place: r.place()?, restore: r.restore()? },
        8 => Change::Remove { place: r.place()? },
        9 => Change::CreateUpload { id: r.text()?, upload: r.upload()? },
        10 => Change::PutPart { id: r.text()?, number: r.small()?, part: r.part()? },
        11 => Change::DropUpload { id: r.text()? },
        12 => Change::SetBucketAcl { bucket: r.text()?, acl: r.code(Acl::from_code)? },
        13 => Change::SetOwnership { bucket: r.text()?, ownership: r.code(Ownership::from_code)? },
        14 => Change::SetLifecycle { bucket: r.text()?, rules: r.rules()? },
        _ => return Err(Malformed),
    };
    if r.0.is_empty() { Ok(change) } else { Err(Malformed) }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
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

    fn millis(&mut self, at: Millis) {
        self.0.extend_from_slice(&at.0.to_le_bytes());
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn place(&mut self, place: &Place) {
        self.text(&place.bucket);
        self.text(&place.key);
        self.optional_text(place.id.as_deref());
    }

    fn tags(&mut self, tags: &TagsRef) {
        self.number(tags.len() as u64);
        for (key, value) in tags.iter() {
            self.text(key);
            self.text(value);
        }
    }

    fn restore(&mut self, restore: &Restore) {
        self.millis(restore.ready);
        self.millis(restore.expiry);
        self.number(u64::from(restore.days));
        self.byte(restore.tier as u8);
    }

    fn body(&mut self, body: &Body) {
        match body {
            Body::Zeros => self.byte(0),
            Body::Inline(bytes) => {
                self.byte(1);
                self.bytes(bytes);
            }
            Body::File(number) => {
                self.byte(2);
                self.number(*number);
            }
        }
    }

    fn headers(&mut self, headers: Option<&Headers>) {
        let pairs = headers.map_or(&[][..], |headers| &headers.0);
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    fn version(&mut self, version: &Version) {
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
        self.byte(u8::from(rule.expires.is_some()));
        if let Some(days) = rule.expires {
            self.number(u64::from(days));
        }
        self.number(rule.moves.len() as u64);
        for (days, class) in &rule.moves {
            self.number(u64::from(*days));
            self.byte(*class as u8);
        }
    }

    fn part(&mut self, part: &Part) {
        self.number(part.size);
        self.0.extend_from_slice(&part.md5);
        self.millis(part.modified);
        self.body(&part.body);
    }

    fn upload(&mut self, upload: &Upload) {
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

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T> {
        T::try_from(self.number()?).map_err(|_| Malformed)
    }

    fn code<T>(&mut self, known: fn(u8) -> Option<T>) -> Result<T> {
        known(self.byte()?).ok_or(Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.small()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<Box<str>> {
        Ok(std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)?.into())
    }

    fn millis(&mut self) -> Result<Millis> {
        Ok(Millis(i64::from_le_bytes(self.array()?)))
    }

    fn optional_text(&mut self) -> Result<Option<Box<str>>> {
        if self.flag()? { Ok(Some(self.text()?)) } else { Ok(None) }
    }

    fn place(&mut self) -> Result<Place> {
        Ok(Place { bucket: self.text()?, key: self.text()?, id: self.optional_text()? })
    }

    fn pairs(&mut self) -> Result<Vec<(Box<str>, Box<str>)>> {
        let count = self.number()?;
        (0..count).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    fn tags(&mut self) -> Result<TagsRef> {
        Ok(self.pairs()?.into_iter().collect())
    }

    fn headers(&mut self) -> Result<Option<Box<Headers>>> {
        let pairs = self.pairs()?;
        Ok((!pairs.is_empty()).then(|| Box::new(Headers(pairs))))
    }

    fn restore(&mut self) -> Result<Restore> {
        Ok(Restore {
            ready: self.millis()?,
            expiry: self.millis()?,
            days: self.small()?,
            tier: self.code(Tier::from_code)?,
        })
    }

    fn body(&mut self) -> Result<Body> {
        match self.byte()? {
            0 => Ok(Body::Zeros),
            1 => Ok(Body::Inline(self.bytes()?.into())),
            2 => Ok(Body::File(self.number()?)),
            _ => Err(Malformed),
        }
    }

    fn version(&mut self) -> Result<Version> {
        let (id, modified) = (self.optional_text()?, self.millis()?);
        let object = if self.flag()? { Some(self.object()?) } else { None };
        Ok(Version { id, modified, object })
    }

    fn object(&mut self) -> Result<Object> {
        Ok(Object {
            size: self.number()?,
            etag: ETag { md5: self.array()?, parts: self.small()? },
            class: self.code(Class::from_code)?,
            acl: self.code(Acl::from_code)?,
            tags: self.tags()?,
            body: self.body()?,
            restore: if self.flag()? { Some(Box::new(self.restore()?)) } else { None },
            headers: self.headers()?,
        })
    }

    fn rules(&mut self) -> Result<Vec<LifecycleRule>> {
        let count = self.number()?;
        (0..count).map(|_| self.rule()).collect()
    }

    fn rule(&mut self) -> Result<LifecycleRule> {
        Ok(LifecycleRule {
            id: self.text()?,
            enabled: self.flag()?,
            prefix: self.text()?,
            tags: self.tags()?,
            expires: if self.flag()? { Some(self.small()?) } else { None },
            moves: {
                let count = self.number()?;
                (0..count).map(|_| Ok((self.small()?, self.code(Class::from_code)?))).collect::<Result<_>>()?
            },
        })
    }

    fn part(&mut self) -> Result<Part> {
        Ok(Part { size: self.number()?, md5: self.array()?, modified: self.millis()?, body: self.body()? })
    }

    fn upload(&mut self) -> Result<Upload> {
        Ok(Upload {
            bucket: self.text()?,
            key: self.text()?,
            initiated: self.millis()?,
            class: self.code(Class::from_code)?,
            acl: self.code(Acl::from_code)?,
            tags: self.tags()?,
            headers: self.headers()?,
            parts: {
                let count = self.number()?;
                (0..count).map(|_| Ok((self.small()?, self.part()?))).collect::<Result<_>>()?
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
