//! Collects what a plan needs to know of the objects while their names are frozen: a random sample, the metadata that
//! the source reports, and a digest that identifies the set of objects.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use batchplan_store::hex::hex;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::{RowOrigin, Task, TaskId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::error::ManifestError;
use super::filter::{ManifestRow, RowMetadata};
use super::frozen::FrozenManifest;
use super::input::run_blocking;
use super::row_visitor::{PartitionId, SourceCursor};
use super::row_visitor::{ResumableReading, RowFlow, RowIntake, RowVisitor, ScratchSpace};
use super::source_metadata::{MetadataWriter, SourceMetadata};

/// The number of rows that are read at once.
const BATCH: usize = 4096;

/// The number of objects that no request can name which are kept as examples.
const MAX_UNLISTABLE: usize = 3;

/// What a sampling pass collects.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleOptions {
    /// The number of objects in the sample.
    pub size: usize,
    /// The seed of the sample: the same seed selects the same objects of the same manifest, in every version of this
    /// program.
    pub seed: u64,
    /// The key of the digest; `None` if no digest is needed.
    pub digest: Option<[u8; 16]>,
    /// Whether to store the metadata of every object, and not only of the sample. A listing is then read by a single
    /// worker, so that the metadata are in the order of the rows.
    pub all_metadata: bool,
}

/// The result of a sampling pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleResult {
    /// The sample, in the order of bucket, key and version. A manifest with at most as many objects is included
    /// completely.
    pub sample: Vec<SampledObject>,
    /// The digest of bucket, key, version and `ETag` of every object, independent of their order.
    pub digest: Option<String>,
    /// The objects that no request can name. They are counted completely, and are not part of the sample.
    pub unlistable: UnlistableSample,
}

/// The objects of a manifest that no request can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlistableSample {
    /// The number of all of them.
    pub count: u64,
    /// The first of them in the order of the manifest, at most `MAX_UNLISTABLE`, each with the reason.
    pub first: Vec<(ObjectId, Box<str>)>,
}

impl UnlistableSample {
    fn add(&mut self, object: impl FnOnce() -> ObjectId, why: &str) {
        self.count += 1;
        if self.first.len() < MAX_UNLISTABLE {
            self.first.push((object(), why.into()));
        }
    }
}

/// An object of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledObject {
    /// The name of the object.
    pub object: ObjectId,
    /// The metadata that the source reports.
    pub metadata: SourceMetadata,
    /// Which captures an undo restores.
    pub origin: Option<RowOrigin>,
}

/// Collects from one row after the other.
pub(super) struct SamplingPass {
    options: SampleOptions,
    sample: SeededSample<SampledObject>,
    digest: Option<RowSetDigest>,
    metadata: Option<MetadataWriter>,
    unlistable: UnlistableSample,
    name: Vec<u8>,
    manifest_dir: Option<PathBuf>,
}

/// A random sample of rows: those with the smallest hashes. The hash of a row depends only on its name and the seed, so
/// the sample does not depend on the order of the rows, or on how a listing is distributed over workers.
#[derive(Debug)]
pub struct SeededSample<T> {
    limit: usize,
    seed: u64,
    /// A max-heap by hash.
    rows: BinaryHeap<HashedRow<T>>,
}

impl<T> SeededSample<T> {
    /// Creates an empty sample of at most `limit` rows.
    #[must_use]
    pub fn new(limit: usize, seed: u64) -> Self {
        Self { limit, seed, rows: BinaryHeap::new() }
    }

    /// Adds the row with this name, if its hash is small enough.
    pub fn offer(&mut self, name: &[u8], row: impl FnOnce() -> T) {
        let number = xxh3_64_with_seed(name, self.seed);
        if self.rows.len() < self.limit {
            self.rows.push(HashedRow { hash: number, row: row() });
        } else if let Some(mut largest) = self.rows.peek_mut()
            && number < largest.hash
        {
            *largest = HashedRow { hash: number, row: row() };
        }
    }

    /// Returns the sampled rows, in no particular order.
    pub fn into_rows(self) -> impl Iterator<Item = T> {
        self.rows.into_iter().map(|numbered| numbered.row)
    }
}

#[derive(Debug)]
struct HashedRow<T> {
    hash: u64,
    row: T,
}

impl SamplingPass {
    /// Creates a sampling pass. The metadata of every object, if wanted, are stored in `manifest_dir`, the manifest's
    /// folder.
    pub(super) fn new(options: SampleOptions, manifest_dir: Option<PathBuf>) -> Result<Self, ManifestError> {
        let facts = manifest_dir.as_deref().filter(|_| options.all_metadata).map(MetadataWriter::create).transpose()?;
        let digest = options.digest.map(RowSetDigest::new);
        let sample = SeededSample::new(options.size, options.seed);
        let unlistable = UnlistableSample::default();
        Ok(Self { options, sample, digest, metadata: facts, unlistable, name: Vec::new(), manifest_dir })
    }

    /// Discards everything collected so far.
    fn restart(&mut self) -> Result<(), ManifestError> {
        *self = Self::new(self.options, self.manifest_dir.take())?;
        Ok(())
    }

    fn record(&mut self, row: &ManifestRow<'_>) -> Result<(), ManifestError> {
        self.record_name(row)?;
        self.sample.offer(&self.name, || sampled_object(row));
        Ok(())
    }

    /// Records a row whose object no request can name.
    fn record_unlistable(&mut self, row: &ManifestRow<'_>, why: &str) -> Result<(), ManifestError> {
        self.record_name(row)?;
        self.unlistable.add(|| sampled_object(row).object, why);
        Ok(())
    }

    /// Adds a row to the digest and to the stored metadata, which have every row, and sets its name.
    fn record_name(&mut self, row: &ManifestRow<'_>) -> Result<(), ManifestError> {
        self.name.clear();
        // Neither a bucket nor a version id contains a zero byte. A key may, so it comes last.
        self.name.extend_from_slice(row.bucket.as_bytes());
        self.name.push(0);
        self.name.extend_from_slice(row.version.unwrap_or_default().as_bytes());
        self.name.push(0);
        self.name.extend_from_slice(row.key);
        if let Some(digest) = &mut self.digest {
            digest.add(&self.name, row.metadata.etag.unwrap_or_default());
        }
        if let Some(facts) = &mut self.metadata {
            facts.push(&row.metadata)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<SampleResult, ManifestError> {
        if let Some(facts) = self.metadata {
            facts.finish()?;
        }
        let mut sample: Vec<_> = self.sample.into_rows().collect();
        sample.sort_unstable_by(|one, other| {
            let name =
                |it: &SampledObject| (it.object.bucket.clone(), it.object.key.clone(), it.object.version.clone());
            name(one).cmp(&name(other))
        });
        Ok(SampleResult { sample, digest: self.digest.map(|digest| digest.to_hex()), unlistable: self.unlistable })
    }
}

/// Passes rows on to another visitor, and samples those that it includes.
pub(super) struct SamplingTee<V> {
    visitor: V,
    sampling: SamplingPass,
}

impl<V: RowVisitor> SamplingTee<V> {
    pub(super) fn new(visitor: V, sampling: SamplingPass) -> Self {
        Self { visitor, sampling }
    }

    pub(super) fn into_parts(self) -> (V, SamplingPass) {
        (self.visitor, self.sampling)
    }
}

impl<V: RowVisitor> RowVisitor for SamplingTee<V> {
    fn intake(&self) -> &RowIntake {
        self.visitor.intake()
    }

    fn intake_mut(&mut self) -> &mut RowIntake {
        self.visitor.intake_mut()
    }

    fn count_row(&mut self) -> Result<RowFlow, ManifestError> {
        self.visitor.count_row()
    }

    fn include(&mut self, row: &ManifestRow<'_>) -> Result<RowFlow, ManifestError> {
        let flow = self.visitor.include(row)?;
        self.sampling.record(row)?;
        Ok(flow)
    }

    fn include_unlistable(&mut self, row: &ManifestRow<'_>, why: &str) -> Result<RowFlow, ManifestError> {
        let flow = self.visitor.include_unlistable(row, why)?;
        self.sampling.record_unlistable(row, why)?;
        Ok(flow)
    }

    fn count_page(&mut self) -> RowFlow {
        self.visitor.count_page()
    }

    fn set_listed_prefix(&mut self, bucket: &str, prefix: &[u8]) {
        self.visitor.set_listed_prefix(bucket, prefix);
    }

    fn set_rows_read(&mut self, rows: u64) {
        self.visitor.set_rows_read(rows);
    }

    fn needs_all_metadata(&self) -> bool {
        true
    }

    fn needs_all_rows(&self) -> bool {
        self.visitor.needs_all_rows()
    }

    fn scratch(&self) -> ScratchSpace {
        self.visitor.scratch()
    }

    fn reserve_temporary(&mut self, place: &str, bytes: u64) -> Result<(), ManifestError> {
        self.visitor.reserve_temporary(place, bytes)
    }

    fn blame_temporary(&self, error: ManifestError, place: &str) -> ManifestError {
        self.visitor.blame_temporary(error, place)
    }

    fn reject_too_large(&self, place: &str, estimate: u64) -> Result<(), ManifestError> {
        self.visitor.reject_too_large(place, estimate)
    }
}

impl<V: RowVisitor> ResumableReading for SamplingTee<V> {
    fn take_cursor(&mut self) -> Option<SourceCursor> {
        self.visitor.take_cursor()
    }

    fn restart(&mut self) -> Result<(), ManifestError> {
        self.visitor.restart()?;
        self.sampling.restart()
    }

    fn add_partition(&mut self) -> PartitionId {
        self.visitor.add_partition()
    }

    fn select_partition(&mut self, partition: PartitionId) {
        self.visitor.select_partition(partition);
    }

    fn set_partition_order(&mut self, order: Vec<PartitionId>) {
        self.visitor.set_partition_order(order);
    }

    fn seal_partition(&mut self) -> Result<(), ManifestError> {
        self.visitor.seal_partition()
    }

    fn save_due(&mut self) -> bool {
        self.visitor.save_due()
    }

    fn unsaved_partitions(&self) -> Vec<PartitionId> {
        self.visitor.unsaved_partitions()
    }

    fn sync_partition(&mut self) -> Result<(), ManifestError> {
        self.visitor.sync_partition()
    }

    fn save_cursor(&mut self, cursor: SourceCursor) -> Result<(), ManifestError> {
        self.visitor.save_cursor(cursor)
    }
}

/// Samples a manifest that is already frozen. Only the names of its objects are known.
///
/// # Errors
/// Returns an error if the parts cannot be read, or if the stop token is cancelled.
pub async fn sample_frozen(
    frozen: &FrozenManifest,
    options: SampleOptions,
    stop: &CancellationToken,
) -> Result<SampleResult, ManifestError> {
    let (frozen, stop) = (frozen.clone(), stop.clone());
    let options = SampleOptions { digest: None, all_metadata: false, ..options };
    run_blocking(move || {
        let mut sampling = SamplingPass::new(options, None)?;
        for batch in frozen.tasks(TaskId { part: 0, row: 0 }, BATCH) {
            if stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            for Task { object, unlistable, origin, .. } in batch? {
                let ObjectId { bucket, key, version } = &object;
                let version = version.as_ref().map(VersionId::as_str);
                let (bucket, key) = (bucket.as_str(), key.as_bytes());
                let row =
                    ManifestRow { bucket, key, version, metadata: RowMetadata { origin, ..RowMetadata::default() } };
                match unlistable {
                    None => sampling.record(&row)?,
                    Some(why) => sampling.record_unlistable(&row, &why)?,
                }
            }
        }
        sampling.finish()
    })
    .await
}

fn sampled_object(row: &ManifestRow<'_>) -> SampledObject {
    let object = ObjectId {
        bucket: BucketName::new(row.bucket),
        key: ObjectKey::new(row.key),
        version: row.version.map(VersionId::new),
    };
    let RowMetadata { size, modified, class, acl, origin, .. } = row.metadata.clone();
    SampledObject { object, metadata: SourceMetadata::new(size, modified, class, acl), origin }
}

impl<T> PartialEq for HashedRow<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for HashedRow<T> {}

impl<T> PartialOrd for HashedRow<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for HashedRow<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}

/// The sum, modulo 2^256, of a keyed hash of each row. The sum does not depend on the order of the rows, so a listing
/// may be distributed over workers. Without the key it is not feasible to construct other rows with the same sum.
struct RowSetDigest {
    key: Hmac<Sha256>,
    sum: [u64; 4],
}

impl RowSetDigest {
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

    fn to_hex(&self) -> String {
        let bytes: Vec<u8> = self.sum.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        hex(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampling<'a>(options: SampleOptions, rows: impl IntoIterator<Item = &'a ManifestRow<'a>>) -> SampleResult {
        let mut sampling = SamplingPass::new(options, None).expect("nothing is written");
        for row in rows {
            sampling.record(row).expect("nothing is written");
        }
        sampling.finish().expect("nothing is written")
    }

    fn row<'a>(key: &'a [u8], etag: &'a str) -> ManifestRow<'a> {
        ManifestRow {
            bucket: "b",
            key,
            version: None,
            metadata: RowMetadata { etag: Some(etag), ..RowMetadata::default() },
        }
    }

    #[test]
    fn a_seed_takes_the_same_objects_in_every_version() {
        let keys: Vec<String> = (0..1000).map(|number| format!("k{number}")).collect();
        let rows: Vec<_> = keys.iter().map(|key| row(key.as_bytes(), "")).collect();
        let taken = |seed| {
            let found = sampling(SampleOptions { size: 3, seed, ..SampleOptions::default() }, &rows);
            found.sample.iter().map(|it| it.object.key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(taken(0), ["k420", "k754", "k954"]);
        assert_ne!(taken(1), taken(0));
    }

    #[test]
    fn a_small_manifest_is_its_own_sample() {
        let rows = [row(b"b", ""), row(b"a", ""), row(b"b", "")];
        let found = sampling(SampleOptions { size: 200, ..SampleOptions::default() }, &rows);
        let keys: Vec<_> = found.sample.iter().map(|it| it.object.key.to_string()).collect();
        assert_eq!(keys, ["a", "b", "b"], "a row that stands twice is two");
    }

    proptest! {
        #[test]
        fn digest_depends_on_content_and_not_on_order(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 1..40), turn in 0_usize..40,
        ) {
            let options = SampleOptions { size: 5, seed: 9, digest: Some([7; 16]), all_metadata: false };
            let rows: Vec<_> = keys.iter().map(|key| row(key, "e")).collect();
            let found = sampling(options, &rows);
            let mut turned = rows.iter().collect::<Vec<_>>();
            turned.rotate_left(turn % rows.len());
            prop_assert_eq!(&sampling(options, turned), &found);
            let digest = |rows: &[ManifestRow<'_>]| sampling(options, rows).digest;
            prop_assert_ne!(digest(&rows[1..]), found.digest.clone());
            let mut changed: Vec<_> = keys.iter().map(|key| row(key, "e")).collect();
            changed[turn % rows.len()].metadata.etag = Some("f");
            prop_assert_ne!(digest(&changed), found.digest.clone());
            let other = SampleOptions { digest: Some([8; 16]), ..options };
            prop_assert_ne!(sampling(other, &rows).digest, found.digest);
        }
    }
}
