//! The metadata that a source reports for each object, in row order: a temporary file beside the parts, for a plan.
//!
//! The file is a gzip stream with one record per row. A record is a flag byte (bit 0: a size follows; bits 1 to 3: the
//! ACL, 0 if not reported; bit 4: a storage class follows), the size as a varint, and the class as a varint: its index
//! among the classes named before, or the number of those classes, followed by the length and the name of a new one.
//! Timestamps are not stored: no plan needs them per object.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use batchplan_store::object::ObjectAcl;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::error::ManifestError;
use super::filter::RowMetadata;
use super::part::varint;
use super::sampling::SourceMetadata;
use crate::files::{create_replacing, open_regular};

const NAME: &str = "facts.gz";

/// The ACLs by code, which starts at 1.
const ACLS: [ObjectAcl; 5] =
    [ObjectAcl::Private, ObjectAcl::PublicRead, ObjectAcl::PublicReadWrite, ObjectAcl::Default, ObjectAcl::Custom];

const HAS_SIZE: u8 = 1;
const HAS_CLASS: u8 = 1 << 4;

/// The maximum number of distinct classes, and the maximum length of a class name in bytes; the same as in `census`.
const MAX_CLASSES: usize = 64;
const MAX_CLASS_BYTES: usize = 64;

pub(super) struct MetadataWriter {
    path: PathBuf,
    out: GzEncoder<BufWriter<File>>,
    classes: Vec<Box<str>>,
    record: Vec<u8>,
}

impl MetadataWriter {
    /// Creates the file, and replaces an earlier one.
    pub(super) fn create(home: &Path) -> Result<Self, ManifestError> {
        let path = home.join(NAME);
        let file = create_replacing(&path).map_err(|cause| ManifestError::disk("create", &path, cause))?;
        let out = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Ok(Self { path, out, classes: Vec::new(), record: Vec::new() })
    }

    pub(super) fn push(&mut self, facts: &RowMetadata<'_>) -> Result<(), ManifestError> {
        let class = facts.class.and_then(|class| self.class_index(class));
        let acl = facts.acl.and_then(|acl| ACLS.iter().position(|it| *it == acl)).map_or(0, |place| place + 1);
        let mut flags = u8::try_from(acl << 1).unwrap_or(0);
        flags |= if facts.size.is_some() { HAS_SIZE } else { 0 };
        flags |= if class.is_some() { HAS_CLASS } else { 0 };
        self.record.clear();
        self.record.push(flags);
        if let Some(size) = facts.size {
            varint::put(&mut self.record, usize::try_from(size).unwrap_or(usize::MAX));
        }
        if let Some((place, new)) = class {
            varint::put(&mut self.record, place);
            if let Some(name) = new {
                varint::put(&mut self.record, name.len());
                self.record.extend_from_slice(name.as_bytes());
            }
        }
        self.out.write_all(&self.record).map_err(|cause| ManifestError::disk("write", &self.path, cause))
    }

    /// Returns the index of a class, and its name if it is new. Returns `None` if there are too many classes.
    fn class_index<'a>(&mut self, class: &'a str) -> Option<(usize, Option<&'a str>)> {
        if let Some(place) = self.classes.iter().position(|known| **known == *class) {
            return Some((place, None));
        }
        if self.classes.len() >= MAX_CLASSES || class.len() > MAX_CLASS_BYTES {
            return None;
        }
        self.classes.push(class.into());
        Some((self.classes.len() - 1, Some(class)))
    }

    /// Finishes the gzip stream.
    pub(super) fn finish(self) -> Result<(), ManifestError> {
        let failed = |cause| ManifestError::disk("write", &self.path, cause);
        let mut out = self.out.finish().map_err(failed)?;
        out.flush().map_err(failed)
    }
}

/// Reads the metadata file, one record per row.
pub struct MetadataReader {
    text: BufReader<GzDecoder<BufReader<File>>>,
    path: PathBuf,
    classes: Vec<Box<str>>,
}

impl MetadataReader {
    /// Opens the file of the frozen manifest in this folder.
    pub(super) fn open(home: &Path) -> Result<Self, ManifestError> {
        let path = home.join(NAME);
        let file = open_regular(&path, File::options().read(true))
            .map_err(|cause| ManifestError::disk("open", &path, cause))?;
        let text = BufReader::new(GzDecoder::new(BufReader::new(file)));
        Ok(Self { text, path, classes: Vec::new() })
    }

    /// Reads the metadata of the next row.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or ends before this row.
    pub fn next_row(&mut self) -> Result<SourceMetadata, ManifestError> {
        self.read_record().map_err(|cause| ManifestError::disk("read", &self.path, cause))
    }

    fn read_record(&mut self) -> io::Result<SourceMetadata> {
        let flags = self.read_byte()?;
        let size = if flags & HAS_SIZE == 0 { None } else { Some(self.read_number()? as u64) };
        let acl = usize::from(flags >> 1 & 7).checked_sub(1).and_then(|place| ACLS.get(place)).copied();
        let class = if flags & HAS_CLASS == 0 { None } else { Some(self.read_class()?) };
        Ok(SourceMetadata::new(size, None, class.map(|place| &*self.classes[place]), acl))
    }

    fn read_class(&mut self) -> io::Result<usize> {
        let place = self.read_number()?;
        if place == self.classes.len() && place < MAX_CLASSES {
            let mut name = vec![0; self.read_number()?.min(MAX_CLASS_BYTES)];
            self.text.read_exact(&mut name)?;
            self.classes.push(String::from_utf8_lossy(&name).into());
        }
        if place < self.classes.len() { Ok(place) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn read_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.text.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn read_number(&mut self) -> io::Result<usize> {
        let mut bytes = Vec::with_capacity(10);
        loop {
            bytes.push(self.read_byte()?);
            if bytes.last().is_some_and(|byte| byte & 0x80 == 0) || bytes.len() == 10 {
                return varint::take(&bytes, &mut 0).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trips() {
        let home = tempfile::tempdir().expect("a folder");
        let names: Vec<String> = (0..100).map(|number| format!("CLASS-{}", number % 70)).collect();
        let facts = |number: usize| RowMetadata {
            size: (!number.is_multiple_of(3)).then(|| number as u64 * 1_000_003),
            class: (!number.is_multiple_of(5)).then(|| names[number].as_str()),
            acl: ACLS.get(number % 7).copied(),
            ..RowMetadata::default()
        };
        let mut writer = MetadataWriter::create(home.path()).expect("begun");
        for number in 0..100 {
            writer.push(&facts(number)).expect("written");
        }
        writer.finish().expect("ended");
        let mut reader = MetadataReader::open(home.path()).expect("opened");
        let mut left_out = 0;
        for number in 0..100 {
            let told = reader.next_row().expect("a row");
            let RowMetadata { size, class, acl, .. } = facts(number);
            if told.state.class.known().is_none() && class.is_some() {
                left_out += 1;
                assert_eq!(told, SourceMetadata::new(size, None, None, acl));
            } else {
                assert_eq!(told, SourceMetadata::new(size, None, class, acl), "{number}");
            }
        }
        assert!(left_out < 20, "only classes beyond the most that are told apart: {left_out}");
        assert!(reader.next_row().is_err());
    }
}
