//! The state: buckets, their keys in byte order, and the versions of each key.
//!
//! It is modified only by [`Change`]s, which the log contains as well. Replaying a log gives the same state again.

use std::collections::BTreeMap;
use std::mem;

use super::model::{Acl, Body, Millis, Object, Ownership, Part, Restore, Upload, Version, Versioning};
use super::settings::LifecycleRule;
use super::tags::{TagPool, TagsRef};

/// All buckets and multipart uploads.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<Box<str>, Bucket>,
    pub(super) uploads: BTreeMap<Box<str>, Upload>,
    pool: TagPool,
}

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: Millis,
    pub(super) versioning: Versioning,
    /// Applies to objects with [`Acl::Default`].
    pub(super) acl: Acl,
    pub(super) ownership: Ownership,
    pub(super) lifecycle: Vec<LifecycleRule>,
    pub(super) keys: BTreeMap<Box<str>, Entry>,
}

impl Bucket {
    /// Creates a bucket without keys and with the default settings.
    pub(super) fn new(created: Millis) -> Self {
        Self {
            created,
            versioning: Versioning::Never,
            acl: Acl::Private,
            ownership: Ownership::NotSet,
            lifecycle: Vec::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Returns the changes that turn the default settings into the settings of this bucket.
    fn settings(&self, name: &str) -> impl Iterator<Item = Change> {
        let bucket: Box<str> = name.into();
        let versioning = (self.versioning != Versioning::Never)
            .then(|| Change::SetVersioning { bucket: bucket.clone(), versioning: self.versioning });
        let acl = (self.acl != Acl::Private).then(|| Change::SetBucketAcl { bucket: bucket.clone(), acl: self.acl });
        let ownership = (self.ownership != Ownership::NotSet)
            .then(|| Change::SetOwnership { bucket: bucket.clone(), ownership: self.ownership });
        let lifecycle = (!self.lifecycle.is_empty())
            .then(|| Change::SetLifecycle { bucket: bucket.clone(), rules: self.lifecycle.clone() });
        [versioning, acl, ownership, lifecycle].into_iter().flatten()
    }
}

/// The versions of one key. Nearly every key has just one version, which therefore needs no list.
#[derive(Debug)]
pub(super) enum Entry {
    /// The only version.
    One(Version),
    /// Several versions, the newest last.
    Many(Vec<Version>),
}

impl Entry {
    /// Returns the versions, the newest last. There is always at least one.
    pub(super) fn versions(&self) -> &[Version] {
        match self {
            Self::One(version) => std::slice::from_ref(version),
            Self::Many(versions) => versions,
        }
    }

    /// Returns the current version, which can be a delete marker.
    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions().last()
    }

    fn find_mut(&mut self, id: Option<&str>) -> Option<&mut Version> {
        match self {
            Self::One(version) => Some(version).filter(|version| version.id.as_deref() == id),
            Self::Many(versions) => versions.iter_mut().find(|version| version.id.as_deref() == id),
        }
    }

    fn take_all(self) -> Vec<Version> {
        match self {
            Self::One(version) => vec![version],
            Self::Many(versions) => versions,
        }
    }

    fn from_all(mut versions: Vec<Version>) -> Option<Self> {
        match versions.len() {
            0 => None,
            1 => versions.pop().map(Self::One),
            _ => Some(Self::Many(versions)),
        }
    }
}

/// Identifies one version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: Box<str>,
    pub(super) key: Box<str>,
    /// `None` is the `null` version.
    pub(super) id: Option<Box<str>>,
}

/// A change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Creates a bucket.
    CreateBucket { bucket: Box<str>, created: Millis },
    /// Deletes an empty bucket.
    DeleteBucket { bucket: Box<str> },
    /// Changes the versioning of a bucket.
    SetVersioning { bucket: Box<str>, versioning: Versioning },
    /// Replaces the ACL of a bucket.
    SetBucketAcl { bucket: Box<str>, acl: Acl },
    /// Changes who owns the objects of a bucket.
    SetOwnership { bucket: Box<str>, ownership: Ownership },
    /// Replaces the lifecycle of a bucket. An empty list removes it.
    SetLifecycle { bucket: Box<str>, rules: Vec<LifecycleRule> },
    /// Writes a version or a delete marker. A `null` version replaces the earlier `null` version.
    Put { bucket: Box<str>, key: Box<str>, version: Version },
    /// Replaces the tags of a version.
    SetTags { place: Place, tags: TagsRef },
    /// Replaces the ACL of a version.
    SetAcl { place: Place, acl: Acl },
    /// Starts a restore, or changes its expiry date.
    SetRestore { place: Place, restore: Restore },
    /// Removes a version permanently.
    Remove { place: Place },
    /// Starts a multipart upload.
    CreateUpload { id: Box<str>, upload: Upload },
    /// Stores a part. It replaces an earlier part with the same number.
    PutPart { id: Box<str>, number: u16, part: Part },
    /// Removes a multipart upload that is complete or aborted.
    DropUpload { id: Box<str> },
}

/// A change that does not fit the state, because the log is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit(pub(super) &'static str);

const NO_BUCKET: Misfit = Misfit("it names a bucket that is not there");
const NO_VERSION: Misfit = Misfit("it names an object version that is not there");
const NO_UPLOAD: Misfit = Misfit("it names a multipart upload that is not there");

impl State {
    /// Applies a change. Returns the blob files that are no longer used.
    ///
    /// # Errors
    /// Returns an error if the change does not fit the state. The state is then unchanged.
    pub(super) fn apply(&mut self, change: Change) -> Result<Vec<u64>, Misfit> {
        match change {
            Change::CreateBucket { bucket, created } => {
                self.buckets.insert(bucket, Bucket::new(created));
                Ok(Vec::new())
            }
            Change::DeleteBucket { bucket } => {
                let gone = self.buckets.remove(&bucket).ok_or(NO_BUCKET)?;
                let versions = gone.keys.into_values().flat_map(Entry::take_all);
                let mut files: Vec<u64> = versions.filter_map(|version| file_of(&version)).collect();
                let ids: Vec<_> =
                    self.uploads.iter().filter(|(_, up)| up.bucket == bucket).map(|(id, _)| id.clone()).collect();
                for id in ids {
                    files.extend(self.drop_upload(&id)?);
                }
                Ok(files)
            }
            Change::SetVersioning { bucket, versioning } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.versioning = versioning;
                Ok(Vec::new())
            }
            Change::SetBucketAcl { bucket, acl } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.acl = acl;
                Ok(Vec::new())
            }
            Change::SetOwnership { bucket, ownership } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.ownership = ownership;
                Ok(Vec::new())
            }
            Change::SetLifecycle { bucket, rules } => {
                self.buckets.get_mut(&bucket).ok_or(NO_BUCKET)?.lifecycle = rules;
                Ok(Vec::new())
            }
            Change::Put { bucket, key, mut version } => {
                if let Some(object) = &mut version.object {
                    object.tags = self.pool.share(mem::take(&mut object.tags));
                }
                self.put(&bucket, key, version)
            }
            Change::SetTags { place, tags } => {
                let tags = self.pool.share(tags);
                self.object_mut(&place)?.tags = tags;
                Ok(Vec::new())
            }
            Change::SetAcl { place, acl } => {
                self.object_mut(&place)?.acl = acl;
                Ok(Vec::new())
            }
            Change::SetRestore { place, restore } => {
                self.object_mut(&place)?.restore = Some(Box::new(restore));
                Ok(Vec::new())
            }
            Change::Remove { place } => self.remove(&place),
            Change::CreateUpload { id, mut upload } => {
                upload.tags = self.pool.share(mem::take(&mut upload.tags));
                self.uploads.insert(id, upload);
                Ok(Vec::new())
            }
            Change::PutPart { id, number, part } => {
                let upload = self.uploads.get_mut(&id).ok_or(NO_UPLOAD)?;
                Ok(upload.parts.insert(number, part).and_then(|old| old.body.file()).into_iter().collect())
            }
            Change::DropUpload { id } => self.drop_upload(&id),
        }
    }

    /// Inserts a version by its modification time instead of as the newest one, because a seed file can list versions
    /// in any order.
    ///
    /// # Errors
    /// Returns an error if the bucket does not exist, or the key already has a version with this ID.
    pub(super) fn insert_by_age(&mut self, bucket: &str, key: &str, mut version: Version) -> Result<(), Misfit> {
        if let Some(object) = &mut version.object {
            object.tags = self.pool.share(mem::take(&mut object.tags));
        }
        let keys = &mut self.buckets.get_mut(bucket).ok_or(NO_BUCKET)?.keys;
        let Some(entry) = keys.get_mut(key) else {
            keys.insert(key.into(), Entry::One(version));
            return Ok(());
        };
        if entry.find_mut(version.id.as_deref()).is_some() {
            return Err(Misfit("it was listed before"));
        }
        let mut versions = mem::replace(entry, Entry::Many(Vec::new())).take_all();
        let at = versions.partition_point(|other| other.modified <= version.modified);
        versions.insert(at, version);
        *entry = Entry::Many(versions);
        Ok(())
    }

    fn put(&mut self, bucket: &str, key: Box<str>, version: Version) -> Result<Vec<u64>, Misfit> {
        let keys = &mut self.buckets.get_mut(bucket).ok_or(NO_BUCKET)?.keys;
        let Some(entry) = keys.get_mut(&key) else {
            keys.insert(key, Entry::One(version));
            return Ok(Vec::new());
        };
        if let Entry::One(old) = entry
            && old.id == version.id
        {
            let old = mem::replace(old, version);
            return Ok(file_of(&old).into_iter().collect());
        }
        let mut versions = mem::replace(entry, Entry::Many(Vec::new())).take_all();
        let replaced = versions.iter().position(|old| old.id == version.id).map(|at| versions.remove(at));
        versions.push(version);
        *entry = Entry::Many(versions);
        Ok(replaced.and_then(|old| file_of(&old)).into_iter().collect())
    }

    fn remove(&mut self, place: &Place) -> Result<Vec<u64>, Misfit> {
        let keys = &mut self.buckets.get_mut(&place.bucket).ok_or(NO_BUCKET)?.keys;
        let entry = keys.get_mut(&place.key).ok_or(NO_VERSION)?;
        let at = entry.versions().iter().position(|version| version.id == place.id).ok_or(NO_VERSION)?;
        let mut versions = mem::replace(entry, Entry::Many(Vec::new())).take_all();
        let gone = versions.remove(at);
        match Entry::from_all(versions) {
            Some(rest) => *entry = rest,
            None => {
                keys.remove(&place.key);
            }
        }
        Ok(file_of(&gone).into_iter().collect())
    }

    fn object_mut(&mut self, place: &Place) -> Result<&mut Object, Misfit> {
        let keys = &mut self.buckets.get_mut(&place.bucket).ok_or(NO_BUCKET)?.keys;
        let entry = keys.get_mut(&place.key).ok_or(NO_VERSION)?;
        let version = entry.find_mut(place.id.as_deref()).ok_or(NO_VERSION)?;
        version.object.as_mut().ok_or(NO_VERSION)
    }

    fn drop_upload(&mut self, id: &str) -> Result<Vec<u64>, Misfit> {
        let upload = self.uploads.remove(id).ok_or(NO_UPLOAD)?;
        Ok(upload.parts.into_values().filter_map(|part| part.body.file()).collect())
    }

    /// Returns the changes that create this state from an empty one. A new log consists of them.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let buckets = self.buckets.iter().flat_map(|(name, bucket)| {
            let created = Change::CreateBucket { bucket: name.clone(), created: bucket.created };
            let puts = bucket.keys.iter().flat_map(move |(key, entry)| {
                entry.versions().iter().map(move |version| Change::Put {
                    bucket: name.clone(),
                    key: key.clone(),
                    version: version.clone(),
                })
            });
            std::iter::once(created).chain(bucket.settings(name)).chain(puts)
        });
        let uploads =
            self.uploads.iter().map(|(id, upload)| Change::CreateUpload { id: id.clone(), upload: upload.clone() });
        buckets.chain(uploads)
    }

    /// Returns the approximate number of [`Self::changes`].
    pub(super) fn weight(&self) -> u64 {
        let entries = self.buckets.values().flat_map(|bucket| bucket.keys.values());
        let versions: usize = entries.map(|entry| entry.versions().len()).sum();
        (versions + self.buckets.len() + self.uploads.len()) as u64
    }

    /// Returns the blob files that are in use.
    pub(super) fn body_files(&self) -> impl Iterator<Item = u64> + '_ {
        let entries = self.buckets.values().flat_map(|bucket| bucket.keys.values());
        let versions = entries.flat_map(Entry::versions).filter_map(file_of);
        let parts = self.uploads.values().flat_map(|upload| upload.parts.values());
        versions.chain(parts.filter_map(|part| part.body.file()))
    }
}

fn file_of(version: &Version) -> Option<u64> {
    version.object.as_ref().map(|object| &object.body).and_then(Body::file)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::sandbox::model::{Class, ETag};

    pub(in crate::store::sandbox) fn object(body: Body) -> Object {
        Object {
            size: 3,
            etag: ETag { md5: [7; 16], parts: 0 },
            class: Class::Standard,
            acl: Acl::Private,
            tags: TagsRef::default(),
            body,
            restore: None,
            headers: None,
        }
    }

    pub(in crate::store::sandbox) fn version(id: Option<&str>, modified: i64, body: Body) -> Version {
        Version { id: id.map(Into::into), modified: Millis(modified), object: Some(object(body)) }
    }

    fn put(state: &mut State, key: &str, version: Version) -> Vec<u64> {
        state.apply(Change::Put { bucket: "b".into(), key: key.into(), version }).unwrap()
    }

    fn with_bucket() -> State {
        let mut state = State::default();
        state.apply(Change::CreateBucket { bucket: "b".into(), created: Millis(1) }).unwrap();
        state
    }

    fn ids(state: &State, key: &str) -> Vec<String> {
        state.buckets["b"].keys[key].versions().iter().map(|version| version.id_str().to_owned()).collect()
    }

    #[test]
    fn a_null_version_replaces_the_null_version_and_becomes_current() {
        let mut state = with_bucket();
        assert!(put(&mut state, "k", version(None, 1, Body::File(1))).is_empty());
        assert_eq!(put(&mut state, "k", version(None, 2, Body::File(2))), [1]);
        put(&mut state, "k", version(Some("v1"), 3, Body::Zeros));
        assert_eq!(ids(&state, "k"), ["null", "v1"]);
        assert_eq!(put(&mut state, "k", version(None, 4, Body::Zeros)), [2]);
        assert_eq!(ids(&state, "k"), ["v1", "null"]);
    }

    #[test]
    fn removing_versions_frees_their_files_and_in_the_end_the_key() {
        let mut state = with_bucket();
        put(&mut state, "k", version(Some("v1"), 1, Body::File(1)));
        put(&mut state, "k", version(Some("v2"), 2, Body::File(2)));
        let place = |id: &str| Place { bucket: "b".into(), key: "k".into(), id: Some(id.into()) };
        assert_eq!(state.apply(Change::Remove { place: place("v2") }).unwrap(), [2]);
        assert_eq!(state.apply(Change::Remove { place: place("v2") }), Err(NO_VERSION));
        assert_eq!(state.apply(Change::Remove { place: place("v1") }).unwrap(), [1]);
        assert!(state.buckets["b"].keys.is_empty());
    }

    #[test]
    fn filled_versions_stand_by_age_whatever_their_order() {
        let mut state = with_bucket();
        for (id, modified) in [("new", 30), ("old", 10), ("mid", 20)] {
            state.insert_by_age("b", "k", version(Some(id), modified, Body::Zeros)).unwrap();
        }
        assert_eq!(ids(&state, "k"), ["old", "mid", "new"]);
        assert!(state.insert_by_age("b", "k", version(Some("mid"), 5, Body::Zeros)).is_err());
    }

    #[test]
    fn the_changes_of_a_state_make_it_again() {
        let mut state = with_bucket();
        state.apply(Change::SetVersioning { bucket: "b".into(), versioning: Versioning::Enabled }).unwrap();
        state.apply(Change::SetBucketAcl { bucket: "b".into(), acl: Acl::PublicRead }).unwrap();
        put(&mut state, "k", version(Some("v1"), 1, Body::Inline((*b"abc").into())));
        put(&mut state, "k", Version { id: Some("v2".into()), modified: Millis(2), object: None });
        put(&mut state, "j", version(None, 1, Body::File(9)));
        let changes: Vec<Change> = state.changes().collect();
        let mut again = State::default();
        for change in changes.clone() {
            again.apply(change).unwrap();
        }
        assert_eq!(again.changes().collect::<Vec<_>>(), changes);
        assert_eq!(again.body_files().collect::<Vec<_>>(), [9]);
    }
}
