//! Object and byte counts of a manifest per storage class, as far as its source reports them.

use std::collections::BTreeMap;

use batchplan_store::object::StorageClass;
use serde::{Deserialize, Serialize};

use super::filter::RowMetadata;

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
        self.classes.values().map(|tally| tally.objects).sum()
    }

    /// Adds the totals of another part of the manifest.
    pub(super) fn merge(&mut self, other: &Self) {
        for (class, tally) in &other.classes {
            self.classes.entry(class.clone()).or_default().add(*tally);
        }
        self.versioned_objects += other.versioned_objects;
    }
}

/// Counts objects one by one. Optimized for runs of objects of the same class, which are the common case.
#[derive(Clone, Debug, Default)]
pub(super) struct ClassCounter {
    classes: Vec<(Option<Box<str>>, ClassTotals)>,
    last: usize,
    versioned_objects: u64,
}

impl ClassCounter {
    /// Creates a counter that continues from these totals.
    pub(super) fn from_stats(census: &StorageClassStats) -> Self {
        let found = census.classes.iter().map(|(class, tally)| (class.as_ref().map(|it| it.as_str().into()), *tally));
        Self { classes: found.collect(), last: 0, versioned_objects: census.versioned_objects }
    }

    pub(super) fn count(&mut self, facts: &RowMetadata<'_>, versioned: bool) {
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
        if let Some(place) = self.classes.iter().position(|(known, _)| known.as_deref() == class) {
            return place;
        }
        if class.is_some() && self.classes.len() >= MAX_CLASSES {
            return self.index_of(None);
        }
        self.classes.push((class.map(Into::into), ClassTotals::default()));
        self.classes.len() - 1
    }

    pub(super) fn stats(&self) -> StorageClassStats {
        let named = self.classes.iter().map(|(class, tally)| (class.as_deref().map(StorageClass::new), *tally));
        StorageClassStats { classes: named.collect(), versioned_objects: self.versioned_objects }
    }
}

/// The JSON form, in the index and in checkpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StorageClassStatsJson {
    versions: u64,
    classes: Vec<(Option<String>, ClassTotals)>,
}

impl From<&StorageClassStats> for StorageClassStatsJson {
    fn from(census: &StorageClassStats) -> Self {
        let name = |class: &StorageClass| class.as_str().to_owned();
        let classes = census.classes.iter().map(|(class, tally)| (class.as_ref().map(name), *tally)).collect();
        Self { versions: census.versioned_objects, classes }
    }
}

impl From<StorageClassStatsJson> for StorageClassStats {
    fn from(shape: StorageClassStatsJson) -> Self {
        let classes = shape.classes.into_iter().map(|(class, tally)| (class.as_deref().map(StorageClass::new), tally));
        Self { classes: classes.collect(), versioned_objects: shape.versions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let census = counter.stats();
        let of = |class: Option<&str>| census.classes[&class.map(StorageClass::new)];
        assert_eq!(of(Some("STANDARD")), ClassTotals { objects: 2, bytes: 5, unsized_objects: 1 });
        assert_eq!(of(Some("GLACIER")), ClassTotals { objects: 1, bytes: 7, unsized_objects: 0 });
        assert_eq!(of(None), ClassTotals { objects: 1, bytes: 0, unsized_objects: 1 });
        assert_eq!((census.objects(), census.versioned_objects), (4, 2));
        let mut twice = ClassCounter::from_stats(&census).stats();
        twice.merge(&census);
        assert_eq!((twice.objects(), twice.versioned_objects), (8, 4));
        assert_eq!(StorageClassStats::from(StorageClassStatsJson::from(&census)), census);
    }

    #[test]
    fn an_inventory_cannot_name_classes_without_end() {
        let mut counter = ClassCounter::default();
        for number in 0..1000 {
            counter.count(&facts(Some(&format!("CLASS-{number}")), Some(u64::MAX)), false);
        }
        counter.count(&facts(Some(&"X".repeat(4096)), Some(1)), false);
        let census = counter.stats();
        assert_eq!(census.objects(), 1001);
        assert!(census.classes.len() <= MAX_CLASSES + 1, "{}", census.classes.len());
        assert_eq!(census.classes[&None].objects, 1001 - MAX_CLASSES as u64);
    }
}
