//! The metadata that a source reports: object and byte counts per storage class, and a file with the metadata of each
//! object, in row order, which is beside the parts of a plan's manifest.
//!
//! The file is a gzip stream with one record per row. A record is a flag byte (bit 0: a size follows; bits 1 to 3: the
//! ACL, 0 if not reported; bit 4: a storage class follows), the size as a varint, and the class as a varint: its index
//! among the classes named before, or the number of those classes, followed by the length and the name of a new one.
//! Timestamps are not stored: no plan needs them per object.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState, StorageClass};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ManifestError;
use super::filter::RowMetadata;
use crate::files::{create_replacing, open_regular};
use crate::varint;

const NAME: &str = "facts.gz";

/// The ACLs by code, which starts at 1.
const ACLS: [ObjectAcl; 5] = [
    ObjectAcl::Private,
    ObjectAcl::PublicRead,
    ObjectAcl::PublicReadWrite,
    ObjectAcl::Default,
    ObjectAcl::Custom(None),
];

const HAS_SIZE: u8 = 1;
const HAS_CLASS: u8 = 1 << 4;

/// The maximum number of storage classes that are counted separately; no service has half as many. Objects of further
/// classes count as having no known class, so that a hostile inventory cannot exhaust memory.
const MAX_CLASSES: usize = 64;

/// The maximum length of a class name, in bytes. Objects with a longer one count as having no known class.
const MAX_CLASS_BYTES: usize = 64;

/// The objects of a manifest by storage class, as far as the source reports it: a listing and most inventories do, a
/// CSV file does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageClassStats {
    /// Totals per class; `None` is the key for objects whose class the source does not report.
    pub classes: BTreeMap<Option<StorageClass>, ClassTotals>,
    /// The number of objects that are named with a version id.
    pub versioned_objects: u64,
}

/// Totals of one storage class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassTotals {
    /// The number of objects.
    pub objects: u64,
    /// The total size in bytes of the objects whose size the source reports.
    pub bytes: u64,
    /// The number of objects whose size the source does not report.
    pub unsized_objects: u64,
}

impl ClassTotals {
    fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.unsized_objects += other.unsized_objects;
    }
}

impl StorageClassStats {
    /// Returns the number of objects of all classes.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.classes.values().map(|totals| totals.objects).sum()
    }

    /// Adds the totals of another part of the manifest.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (class, totals) in &other.classes {
            self.classes.entry(class.clone()).or_default().add(*totals);
        }
        self.versioned_objects += other.versioned_objects;
    }
}

/// Counts objects one by one. Optimized for runs of objects of the same class, which are the common case.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassCounter {
    classes: Vec<(Option<Box<str>>, ClassTotals)>,
    last: usize,
    versioned_objects: u64,
}

impl ClassCounter {
    /// Creates a counter that continues from these totals.
    pub(crate) fn from_stats(stats: &StorageClassStats) -> Self {
        let found = stats.classes.iter().map(|(class, totals)| (class.as_ref().map(|it| it.as_str().into()), *totals));
        Self { classes: found.collect(), last: 0, versioned_objects: stats.versioned_objects }
    }

    pub(crate) fn count(&mut self, facts: &RowMetadata<'_>, versioned: bool) {
        let class = facts.class.filter(|class| class.len() <= MAX_CLASS_BYTES);
        let size = facts.size;
        let one = ClassTotals { objects: 1, bytes: size.unwrap_or(0), unsized_objects: u64::from(size.is_none()) };
        self.versioned_objects += u64::from(versioned);
        self.totals_mut(class).add(one);
    }

    fn totals_mut(&mut self, class: Option<&str>) -> &mut ClassTotals {
        if self.classes.get(self.last).is_none_or(|(known, _)| known.as_deref() != class) {
            self.last = self.index_of(class);
        }
        &mut self.classes[self.last].1
    }

    fn index_of(&mut self, class: Option<&str>) -> usize {
        if let Some(index) = self.classes.iter().position(|(known, _)| known.as_deref() == class) {
            return index;
        }
        if class.is_some() && self.classes.len() >= MAX_CLASSES {
            return self.index_of(None);
        }
        self.classes.push((class.map(Into::into), ClassTotals::default()));
        self.classes.len() - 1
    }

    pub(crate) fn stats(&self) -> StorageClassStats {
        let named = self.classes.iter().map(|(class, totals)| (class.as_deref().map(StorageClass::new), *totals));
        StorageClassStats { classes: named.collect(), versioned_objects: self.versioned_objects }
    }
}

/// The JSON form, in the index and in checkpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageClassStatsJson {
    versions: u64,
    classes: Vec<(Option<String>, ClassTotals)>,
}

impl From<&StorageClassStats> for StorageClassStatsJson {
    fn from(stats: &StorageClassStats) -> Self {
        let name = |class: &StorageClass| class.as_str().to_owned();
        let classes = stats.classes.iter().map(|(class, totals)| (class.as_ref().map(name), *totals)).collect();
        Self { versions: stats.versioned_objects, classes }
    }
}

impl From<StorageClassStatsJson> for StorageClassStats {
    fn from(json: StorageClassStatsJson) -> Self {
        let classes = json.classes.into_iter().map(|(class, totals)| (class.as_deref().map(StorageClass::new), totals));
        Self { classes: classes.collect(), versioned_objects: json.versions }
    }
}

/// The metadata that a source reports for an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMetadata {
    /// The size in bytes.
    pub size: Option<u64>,
    /// When the object was last modified.
    pub modified: Option<Timestamp>,
    /// Storage class and ACL, if they are reported.
    pub state: ObjectState,
}

impl SourceMetadata {
    pub(crate) fn new(
        size: Option<u64>,
        modified: Option<Timestamp>,
        class: Option<&str>,
        acl: Option<ObjectAcl>,
    ) -> Self {
        let class = class.map_or(MaybeKnown::Unknown, |class| MaybeKnown::Known(StorageClass::new(class)));
        let acl = acl.map_or(MaybeKnown::Unknown, MaybeKnown::Known);
        Self { size, modified, state: ObjectState { acl, class, ..ObjectState::default() } }
    }
}

pub(crate) struct MetadataWriter {
    path: PathBuf,
    out: GzEncoder<BufWriter<File>>,
    classes: Vec<Box<str>>,
    record: Vec<u8>,
}

impl MetadataWriter {
    /// Creates the file, and replaces an earlier one.
    pub(crate) fn create(manifest_dir: &Path) -> Result<Self, ManifestError> {
        let path = manifest_dir.join(NAME);
        let file = create_replacing(&path).map_err(|cause| ManifestError::disk("create", &path, cause))?;
        let out = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Ok(Self { path, out, classes: Vec::new(), record: Vec::new() })
    }

    pub(crate) fn push(&mut self, facts: &RowMetadata<'_>) -> Result<(), ManifestError> {
        let class = facts.class.and_then(|class| self.class_index(class));
        let acl = facts.acl.as_ref().and_then(|acl| ACLS.iter().position(|it| it == acl)).map_or(0, |index| index + 1);
        let mut flags = u8::try_from(acl << 1).unwrap_or(0);
        flags |= if facts.size.is_some() { HAS_SIZE } else { 0 };
        flags |= if class.is_some() { HAS_CLASS } else { 0 };
        self.record.clear();
        self.record.push(flags);
        if let Some(size) = facts.size {
            varint::put(&mut self.record, usize::try_from(size).unwrap_or(usize::MAX));
        }
        if let Some((index, new)) = class {
            varint::put(&mut self.record, index);
            if let Some(name) = new {
                varint::put(&mut self.record, name.len());
                self.record.extend_from_slice(name.as_bytes());
            }
        }
        self.out.write_all(&self.record).map_err(|cause| ManifestError::disk("write", &self.path, cause))
    }

    /// Returns the index of a class, and its name if it is new. Returns `None` if there are too many classes.
    fn class_index<'a>(&mut self, class: &'a str) -> Option<(usize, Option<&'a str>)> {
        if let Some(index) = self.classes.iter().position(|known| **known == *class) {
            return Some((index, None));
        }
        if self.classes.len() >= MAX_CLASSES || class.len() > MAX_CLASS_BYTES {
            return None;
        }
        self.classes.push(class.into());
        Some((self.classes.len() - 1, Some(class)))
    }

    /// Finishes the gzip stream.
    pub(crate) fn finish(self) -> Result<(), ManifestError> {
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
    pub(crate) fn open(manifest_dir: &Path) -> Result<Self, ManifestError> {
        let path = manifest_dir.join(NAME);
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
        let acl = usize::from(flags >> 1 & 7).checked_sub(1).and_then(|index| ACLS.get(index)).cloned();
        let class = if flags & HAS_CLASS == 0 { None } else { Some(self.read_class()?) };
        Ok(SourceMetadata::new(size, None, class.map(|index| &*self.classes[index]), acl))
    }

    fn read_class(&mut self) -> io::Result<usize> {
        let index = self.read_number()?;
        if index == self.classes.len() && index < MAX_CLASSES {
            let mut name = vec![0; self.read_number()?.min(MAX_CLASS_BYTES)];
            self.text.read_exact(&mut name)?;
            self.classes.push(String::from_utf8_lossy(&name).into());
        }
        if index < self.classes.len() { Ok(index) } else { Err(io::ErrorKind::InvalidData.into()) }
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
        let manifest_dir = tempfile::tempdir().expect("a folder");
        let names: Vec<String> = (0..100).map(|number| format!("CLASS-{}", number % 70)).collect();
        let facts = |number: usize| RowMetadata {
            size: (!number.is_multiple_of(3)).then(|| number as u64 * 1_000_003),
            class: (!number.is_multiple_of(5)).then(|| names[number].as_str()),
            acl: ACLS.get(number % 7).cloned(),
            ..RowMetadata::default()
        };
        let mut writer = MetadataWriter::create(manifest_dir.path()).expect("begun");
        for number in 0..100 {
            writer.push(&facts(number)).expect("written");
        }
        writer.finish().expect("ended");
        let mut reader = MetadataReader::open(manifest_dir.path()).expect("opened");
        let mut left_out = 0;
        for number in 0..100 {
            let metadata = reader.next_row().expect("a row");
            let RowMetadata { size, class, acl, .. } = facts(number);
            if metadata.state.class.known().is_none() && class.is_some() {
                left_out += 1;
                assert_eq!(metadata, SourceMetadata::new(size, None, None, acl));
            } else {
                assert_eq!(metadata, SourceMetadata::new(size, None, class, acl), "{number}");
            }
        }
        assert!(left_out < 20, "only classes beyond the most that are told apart: {left_out}");
        assert!(reader.next_row().is_err());
    }

    fn facts(class: Option<&str>, size: Option<u64>) -> RowMetadata<'_> {
        RowMetadata { size, class, ..RowMetadata::default() }
    }

    #[test]
    fn objects_are_counted_by_class_with_their_bytes() {
        let mut counter = ClassCounter::default();
        counter.count(&facts(Some("STANDARD"), Some(5)), false);
        counter.count(&facts(Some("GLACIER"), Some(7)), true);
        counter.count(&facts(Some("STANDARD"), None), false);
        counter.count(&facts(None, None), true);
        let stats = counter.stats();
        let of = |class: Option<&str>| stats.classes[&class.map(StorageClass::new)];
        assert_eq!(of(Some("STANDARD")), ClassTotals { objects: 2, bytes: 5, unsized_objects: 1 });
        assert_eq!(of(Some("GLACIER")), ClassTotals { objects: 1, bytes: 7, unsized_objects: 0 });
        assert_eq!(of(None), ClassTotals { objects: 1, bytes: 0, unsized_objects: 1 });
        assert_eq!((stats.objects(), stats.versioned_objects), (4, 2));
        let mut twice = ClassCounter::from_stats(&stats).stats();
        twice.merge(&stats);
        assert_eq!((twice.objects(), twice.versioned_objects), (8, 4));
        assert_eq!(StorageClassStats::from(StorageClassStatsJson::from(&stats)), stats);
    }

    #[test]
    fn an_inventory_cannot_name_classes_without_end() {
        let mut counter = ClassCounter::default();
        for number in 0..1000 {
            counter.count(&facts(Some(&format!("CLASS-{number}")), Some(u64::MAX)), false);
        }
        counter.count(&facts(Some(&"X".repeat(4096)), Some(1)), false);
        let stats = counter.stats();
        assert_eq!(stats.objects(), 1001);
        assert!(stats.classes.len() <= MAX_CLASSES + 1, "{}", stats.classes.len());
        assert_eq!(stats.classes[&None].objects, 1001 - MAX_CLASSES as u64);
    }
}
