//! Object and byte counts of a manifest per storage class, as far as its source reports them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::filter::Facts;
use crate::object::StorageClass;

/// The maximum number of storage classes that are counted separately; no service has half as many. Objects of further
/// classes count as having no known class, so that a hostile inventory cannot exhaust memory.
const MAX_CLASSES: usize = 64;

/// The maximum length of a class name, in bytes. Objects with a longer one count as having no known class.
const MAX_CLASS_BYTES: usize = 64;

/// The objects of a manifest by storage class, as far as the source reports it: a listing and most inventories do, a
/// CSV file does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Totals per class; `None` is the key for objects whose class the source does not report.
    pub classes: BTreeMap<Option<StorageClass>, ClassTally>,
    /// The number of objects that are named with a version id.
    pub versions: u64,
}

/// Totals of one storage class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassTally {
    /// The number of objects.
    pub objects: u64,
    /// The total size in bytes of the objects whose size the source reports.
    pub bytes: u64,
    /// The number of objects whose size the source does not report.
    pub unsized_objects: u64,
}

impl ClassTally {
    fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.unsized_objects += other.unsized_objects;
    }
}

impl Census {
    /// Returns the number of objects of all classes.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.classes.values().map(|tally| tally.objects).sum()
    }

    /// Adds the totals of another part of the manifest.
    pub(super) fn take_in(&mut self, other: &Self) {
        for (class, tally) in &other.classes {
            self.classes.entry(class.clone()).or_default().add(*tally);
        }
        self.versions += other.versions;
    }
}

/// Counts objects one by one. Optimized for runs of objects of the same class, which are the common case.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    found: Vec<(Option<Box<str>>, ClassTally)>,
    last: usize,
    versions: u64,
}

impl Counter {
    /// Creates a counter that continues from these totals.
    pub(super) fn going_on(census: &Census) -> Self {
        let found = census.classes.iter().map(|(class, tally)| (class.as_ref().map(|it| it.as_str().into()), *tally));
        Self { found: found.collect(), last: 0, versions: census.versions }
    }

    pub(super) fn note(&mut self, facts: &Facts<'_>, versioned: bool) {
        let class = facts.class.filter(|class| class.len() <= MAX_CLASS_BYTES);
        let size = facts.size;
        let one = ClassTally { objects: 1, bytes: size.unwrap_or(0), unsized_objects: u64::from(size.is_none()) };
        self.versions += u64::from(versioned);
        self.of(class).add(one);
    }

    fn of(&mut self, class: Option<&str>) -> &mut ClassTally {
        if self.found.get(self.last).is_none_or(|(known, _)| known.as_deref() != class) {
            self.last = self.place_of(class);
        }
        &mut self.found[self.last].1
    }

    fn place_of(&mut self, class: Option<&str>) -> usize {
        if let Some(place) = self.found.iter().position(|(known, _)| known.as_deref() == class) {
            return place;
        }
        if class.is_some() && self.found.len() >= MAX_CLASSES {
            return self.place_of(None);
        }
        self.found.push((class.map(Into::into), ClassTally::default()));
        self.found.len() - 1
    }

    pub(super) fn census(&self) -> Census {
        let named = self.found.iter().map(|(class, tally)| (class.as_deref().map(StorageClass::new), *tally));
        Census { classes: named.collect(), versions: self.versions }
    }
}

/// The JSON form, in the index and in checkpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CensusShape {
    versions: u64,
    classes: Vec<(Option<String>, ClassTally)>,
}

impl From<&Census> for CensusShape {
    fn from(census: &Census) -> Self {
        let name = |class: &StorageClass| class.as_str().to_owned();
        let classes = census.classes.iter().map(|(class, tally)| (class.as_ref().map(name), *tally)).collect();
        Self { versions: census.versions, classes }
    }
}

impl From<CensusShape> for Census {
    fn from(shape: CensusShape) -> Self {
        let classes = shape.classes.into_iter().map(|(class, tally)| (class.as_deref().map(StorageClass::new), tally));
        Self { classes: classes.collect(), versions: shape.versions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(class: Option<&str>, size: Option<u64>) -> Facts<'_> {
        Facts { size, class, ..Facts::default() }
    }

    #[test]
    fn objects_are_counted_by_class_with_their_bytes() {
        let mut counter = Counter::default();
        counter.note(&facts(Some("STANDARD"), Some(5)), false);
        counter.note(&facts(Some("GLACIER"), Some(7)), true);
        counter.note(&facts(Some("STANDARD"), None), false);
        counter.note(&facts(None, None), true);
        let census = counter.census();
        let of = |class: Option<&str>| census.classes[&class.map(StorageClass::new)];
        assert_eq!(of(Some("STANDARD")), ClassTally { objects: 2, bytes: 5, unsized_objects: 1 });
        assert_eq!(of(Some("GLACIER")), ClassTally { objects: 1, bytes: 7, unsized_objects: 0 });
        assert_eq!(of(None), ClassTally { objects: 1, bytes: 0, unsized_objects: 1 });
        assert_eq!((census.objects(), census.versions), (4, 2));
        let mut twice = Counter::going_on(&census).census();
        twice.take_in(&census);
        assert_eq!((twice.objects(), twice.versions), (8, 4));
        assert_eq!(Census::from(CensusShape::from(&census)), census);
    }

    #[test]
    fn an_inventory_cannot_name_classes_without_end() {
        let mut counter = Counter::default();
        for number in 0..1000 {
            counter.note(&facts(Some(&format!("CLASS-{number}")), Some(u64::MAX)), false);
        }
        counter.note(&facts(Some(&"X".repeat(4096)), Some(1)), false);
        let census = counter.census();
        assert_eq!(census.objects(), 1001);
        assert!(census.classes.len() <= MAX_CLASSES + 1, "{}", census.classes.len());
        assert_eq!(census.classes[&None].objects, 1001 - MAX_CLASSES as u64);
    }
}
