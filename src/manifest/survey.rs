//! Collects what a plan needs to know of the objects while their names are frozen: a random sample, the metadata that
//! the source reports, and a digest that identifies the set of objects.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::error::ManifestError;
use super::facts::FactsWriter;
use super::filter::{Facts, Row};
use super::frozen::Frozen;
use super::input::blocking;
use crate::hex::hex;
use crate::object::{Acl, Bucket, Fact, Key, ObjectId, ObjectState, StorageClass, VersionId};
use crate::task::{Seq, Task};

/// The number of rows that are read at once.
const BATCH: usize = 4096;

/// What a sampling pass collects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// The number of objects in the sample.
    pub sample: usize,
    /// The seed of the sample: the same seed selects the same objects of the same manifest, in every version of this
    /// program.
    pub seed: u64,
    /// The key of the digest; `None` if no digest is needed.
    pub digest: Option<[u8; 16]>,
    /// Whether to store the metadata of every object, and not only of the sample. A listing is then read by a single
    /// worker, so that the metadata are in the order of the rows.
    pub every: bool,
}

/// The result of a sampling pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// The sample, in the order of bucket, key and version. A manifest with at most as many objects is included
    /// completely.
    pub sample: Vec<Sampled>,
    /// The digest of bucket, key, version and `ETag` of every object, independent of their order.
    pub digest: Option<String>,
}

/// An object of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The name of the object.
    pub object: ObjectId,
    /// The metadata that the source reports.
    pub told: Told,
}

/// The metadata that a source reports for an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The size in bytes.
    pub size: Option<u64>,
    /// When the object was last modified.
    pub modified: Option<Timestamp>,
    /// Storage class and ACL, if they are reported.
    pub state: ObjectState,
}

impl Told {
    pub(super) fn new(size: Option<u64>, modified: Option<Timestamp>, class: Option<&str>, acl: Option<Acl>) -> Self {
        let class = class.map_or(Fact::Unknown, |class| Fact::Known(StorageClass::new(class)));
        let acl = acl.map_or(Fact::Unknown, Fact::Known);
        Self { size, modified, state: ObjectState { acl, class, ..ObjectState::default() } }
    }
}

/// Collects from one row after the other.
pub(super) struct Survey {
    wish: Wish,
    sample: Sample<Sampled>,
    digest: Option<Digest>,
    facts: Option<FactsWriter>,
    name: Vec<u8>,
}

/// A random sample of rows: those with the smallest hashes. The hash of a row depends only on its name and the seed, so
/// the sample does not depend on the order of the rows, or on how a listing is distributed over workers.
#[derive(Debug)]
pub struct Sample<T> {
    most: usize,
    seed: u64,
    /// A max-heap by hash.
    taken: BinaryHeap<Numbered<T>>,
}

impl<T> Sample<T> {
    /// Creates an empty sample of at most `most` rows.
    #[must_use]
    pub fn new(most: usize, seed: u64) -> Self {
        Self { most, seed, taken: BinaryHeap::new() }
    }

    /// Adds the row with this name, if its hash is small enough.
    pub fn offer(&mut self, name: &[u8], row: impl FnOnce() -> T) {
        let number = xxh3_64_with_seed(name, self.seed);
        if self.taken.len() < self.most {
            self.taken.push(Numbered { number, row: row() });
        } else if let Some(mut largest) = self.taken.peek_mut()
            && number < largest.number
        {
            *largest = Numbered { number, row: row() };
        }
    }

    /// Returns the sampled rows, in no particular order.
    pub fn into_rows(self) -> impl Iterator<Item = T> {
        self.taken.into_iter().map(|numbered| numbered.row)
    }
}

#[derive(Debug)]
struct Numbered<T> {
    number: u64,
    row: T,
}

impl Survey {
    /// Creates a sampling pass. If it stores the metadata of every object, the file is in `home`.
    pub(super) fn new(wish: Wish, home: &Path) -> Result<Self, ManifestError> {
        let facts = wish.every.then(|| FactsWriter::create(home)).transpose()?;
        let digest = wish.digest.map(Digest::new);
        let sample = Sample::new(wish.sample, wish.seed);
        Ok(Self { wish, sample, digest, facts, name: Vec::new() })
    }

    /// Discards everything collected so far.
    pub(super) fn start_over(&mut self, home: &Path) -> Result<(), ManifestError> {
        *self = Self::new(self.wish, home)?;
        Ok(())
    }

    pub(super) fn note(&mut self, row: &Row<'_>) -> Result<(), ManifestError> {
        self.name.clear();
        // Neither a bucket nor a version id contains a zero byte. A key may, so it comes last.
        self.name.extend_from_slice(row.bucket.as_bytes());
        self.name.push(0);
        self.name.extend_from_slice(row.version.unwrap_or_default().as_bytes());
        self.name.push(0);
        self.name.extend_from_slice(row.key);
        if let Some(digest) = &mut self.digest {
            digest.add(&self.name, row.facts.etag.unwrap_or_default());
        }
        if let Some(facts) = &mut self.facts {
            facts.push(&row.facts)?;
        }
        self.sample.offer(&self.name, || sampled(row));
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Surveyed, ManifestError> {
        if let Some(facts) = self.facts {
            facts.finish()?;
        }
        let mut sample: Vec<_> = self.sample.into_rows().collect();
        sample.sort_unstable_by(|one, other| {
            let name = |it: &Sampled| (it.object.bucket.clone(), it.object.key.clone(), it.object.version.clone());
            name(one).cmp(&name(other))
        });
        Ok(Surveyed { sample, digest: self.digest.map(|digest| digest.text()) })
    }
}

/// Samples a manifest that is already frozen. Only the names of its objects are known.
///
/// # Errors
/// Returns an error if the parts cannot be read, or if the stop token is cancelled.
pub async fn sample_of(frozen: &Frozen, wish: Wish, stop: &CancellationToken) -> Result<Surveyed, ManifestError> {
    let (frozen, stop) = (frozen.clone(), stop.clone());
    let wish = Wish { digest: None, every: false, ..wish };
    blocking(move || {
        let mut survey = Survey::new(wish, Path::new(""))?;
        for batch in frozen.tasks(Seq { part: 0, row: 0 }, BATCH) {
            if stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            for Task { object, .. } in batch? {
                let ObjectId { bucket, key, version } = &object;
                let version = version.as_ref().map(VersionId::as_str);
                let (bucket, key) = (bucket.as_str(), key.as_bytes());
                survey.note(&Row { bucket, key, version, facts: Facts::default() })?;
            }
        }
        survey.finish()
    })
    .await
}

fn sampled(row: &Row<'_>) -> Sampled {
    let object =
        ObjectId { bucket: Bucket::new(row.bucket), key: Key::new(row.key), version: row.version.map(VersionId::new) };
    let Facts { size, modified, class, acl, .. } = row.facts;
    Sampled { object, told: Told::new(size, modified, class, acl) }
}

impl<T> PartialEq for Numbered<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Numbered<T> {}

impl<T> PartialOrd for Numbered<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Numbered<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

/// The sum, modulo 2^256, of a keyed hash of each row. The sum does not depend on the order of the rows, so a listing
/// may be distributed over workers. Without the key it is not feasible to construct other rows with the same sum.
struct Digest {
    key: Hmac<Sha256>,
    sum: [u64; 4],
}

impl Digest {
    fn new(key: [u8; 16]) -> Self {
        let key = Hmac::new_from_slice(&key).unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
        Self { key, sum: [0; 4] }
    }

    fn add(&mut self, name: &[u8], etag: &str) {
        let mut hash = self.key.clone();
        hash.update(&name.len().to_le_bytes());
        hash.update(name);
        hash.update(etag.as_bytes());
        let hash = hash.finalize().into_bytes();
        let mut carry = false;
        for (limb, bytes) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            let (sum, over) = limb.overflowing_add(u64::from_le_bytes(word));
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || again);
        }
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.sum.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        hex(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn survey<'a>(wish: Wish, rows: impl IntoIterator<Item = &'a Row<'a>>) -> Surveyed {
        let mut survey = Survey::new(wish, Path::new("")).expect("nothing is written");
        for row in rows {
            survey.note(row).expect("nothing is written");
        }
        survey.finish().expect("nothing is written")
    }

    fn row<'a>(key: &'a [u8], etag: &'a str) -> Row<'a> {
        Row { bucket: "b", key, version: None, facts: Facts { etag: Some(etag), ..Facts::default() } }
    }

    #[test]
    fn a_seed_takes_the_same_objects_in_every_version() {
        let keys: Vec<String> = (0..1000).map(|number| format!("k{number}")).collect();
        let rows: Vec<_> = keys.iter().map(|key| row(key.as_bytes(), "")).collect();
        let taken = |seed| {
            let found = survey(Wish { sample: 3, seed, ..Wish::default() }, &rows);
            found.sample.iter().map(|it| it.object.key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(taken(0), ["k420", "k754", "k954"]);
        assert_ne!(taken(1), taken(0));
    }

    #[test]
    fn a_small_manifest_is_its_own_sample() {
        let rows = [row(b"b", ""), row(b"a", ""), row(b"b", "")];
        let found = survey(Wish { sample: 200, ..Wish::default() }, &rows);
        let keys: Vec<_> = found.sample.iter().map(|it| it.object.key.to_string()).collect();
        assert_eq!(keys, ["a", "b", "b"], "a row that stands twice is two");
    }

    proptest! {
        #[test]
        fn order_is_nothing_and_content_is_everything(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 1..40), turn in 0_usize..40,
        ) {
            let wish = Wish { sample: 5, seed: 9, digest: Some([7; 16]), every: false };
            let rows: Vec<_> = keys.iter().map(|key| row(key, "e")).collect();
            let found = survey(wish, &rows);
            let mut turned = rows.iter().collect::<Vec<_>>();
            turned.rotate_left(turn % rows.len());
            prop_assert_eq!(&survey(wish, turned), &found);
            let digest = |rows: &[Row<'_>]| survey(wish, rows).digest;
            prop_assert_ne!(digest(&rows[1..]), found.digest.clone());
            let mut changed: Vec<_> = keys.iter().map(|key| row(key, "e")).collect();
            changed[turn % rows.len()].facts.etag = Some("f");
            prop_assert_ne!(digest(&changed), found.digest.clone());
            let other = Wish { digest: Some([8; 16]), ..wish };
            prop_assert_ne!(survey(other, &rows).digest, found.digest);
        }
    }
}
