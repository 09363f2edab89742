//! One [`Change`] as bytes, and back. Numbers are LEB128, text and bytes stand behind their length.
//!
//! A new kind of change takes a new number; a number is never used again for something else.

use super::model::{Acl, Body, Class, ETag, Headers, Millis, Object, Part, Restore, Tier, Upload, Version, Versioning};
use super::state::{Change, Place};
use super::tags::TagsRef;

/// The bytes are not a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Appends a change's bytes.
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
    }
}

/// Reads one change, which must fill the bytes exactly.
///
/// # Errors
/// When it does not.
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
pub(super) mod tests {
    use super::*;

    /// One change of every kind, with every optional thing there.
    pub(in crate::store::sandbox) fn one_of_each() -> Vec<Change> {
        let place = Place { bucket: "b".into(), key: "k/é\n".into(), id: Some("v1".into()) };
        let tags: TagsRef = [("a".into(), "1".into())].into_iter().collect();
        let restore = Restore { ready: Millis(-5), expiry: Millis(i64::MAX), days: 7, tier: Tier::Bulk };
        let headers = Some(Box::new(Headers(vec![("content-type".into(), "text/csv".into())])));
        let object = Object {
            size: u64::MAX,
            etag: ETag { md5: *b"0123456789abcdef", parts: 10_000 },
            class: Class::DeepArchive,
            acl: Acl::PublicRead,
            tags: tags.clone(),
            body: Body::Inline((*b"abc").into()),
            restore: Some(Box::new(restore)),
            headers: headers.clone(),
        };
        let part = Part { size: 300, md5: [1; 16], modified: Millis(3), body: Body::File(77) };
        let upload = Upload {
            bucket: "b".into(),
            key: "k".into(),
            initiated: Millis(4),
            class: Class::Glacier,
            acl: Acl::AuthenticatedRead,
            tags: tags.clone(),
            headers,
            parts: [(1, part.clone()), (10_000, part.clone())].into(),
        };
        let version = Version { id: Some("v1".into()), modified: Millis(2), object: Some(object) };
        vec![
            Change::CreateBucket { bucket: "b".into(), created: Millis(1) },
            Change::SetVersioning { bucket: "b".into(), versioning: Versioning::Enabled },
            Change::Put { bucket: "b".into(), key: place.key.clone(), version },
            Change::Put {
                bucket: "b".into(),
                key: "k".into(),
                version: Version { id: None, modified: Millis(9), object: None },
            },
            Change::SetTags { place: place.clone(), tags },
            Change::SetAcl { place: place.clone(), acl: Acl::PublicReadWrite },
            Change::SetRestore { place: place.clone(), restore },
            Change::Remove { place },
            Change::CreateUpload { id: "u".into(), upload },
            Change::PutPart { id: "u".into(), number: 2, part },
            Change::DropUpload { id: "u".into() },
            Change::SetBucketAcl { bucket: "b".into(), acl: Acl::Default },
            Change::DeleteBucket { bucket: "b".into() },
        ]
    }

    #[test]
    fn every_change_comes_back_as_it_was() {
        for change in one_of_each() {
            let mut bytes = Vec::new();
            encode(&change, &mut bytes);
            assert_eq!(decode(&bytes), Ok(change));
        }
    }

    /// What earlier releases wrote must be read for ever: these bytes are never to be edited.
    #[test]
    fn what_was_written_before_is_read_as_it_was_meant() {
        let written: [(&str, Change); 3] = [
            ("010162 0100000000000000", Change::CreateBucket { bucket: "b".into(), created: Millis(1) }),
            ("06 0162 016b 00 03", {
                let place = Place { bucket: "b".into(), key: "k".into(), id: None };
                Change::SetAcl { place, acl: Acl::AuthenticatedRead }
            }),
            (
                "04 0162 016b 01027631 0200000000000000 01 03 07070707070707070707070707070707 00 06 01 \
                 01 0161 0131 01 03616263 01 0500000000000000 0900000000000000 07 02 00",
                {
                    let restore = Restore { ready: Millis(5), expiry: Millis(9), days: 7, tier: Tier::Expedited };
                    let object = Object {
                        size: 3,
                        etag: ETag { md5: [7; 16], parts: 0 },
                        class: Class::DeepArchive,
                        acl: Acl::PublicRead,
                        tags: [("a".into(), "1".into())].into_iter().collect(),
                        body: Body::Inline((*b"abc").into()),
                        restore: Some(Box::new(restore)),
                        headers: None,
                    };
                    let version = Version { id: Some("v1".into()), modified: Millis(2), object: Some(object) };
                    Change::Put { bucket: "b".into(), key: "k".into(), version }
                },
            ),
        ];
        for (digits, change) in written {
            let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
            let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
            let bytes: Vec<u8> = digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
            assert_eq!(decode(&bytes), Ok(change));
        }
    }

    #[test]
    fn no_cut_and_no_flipped_bit_can_panic() {
        for change in one_of_each() {
            let mut bytes = Vec::new();
            encode(&change, &mut bytes);
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), Err(Malformed), "cut at {end}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = decode(&flipped);
            }
        }
    }
}
