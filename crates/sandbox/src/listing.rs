//! Listings of a bucket's keys: by prefix, rolled up at a delimiter, and in pages.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::model::{PendingUpload, StoredVersion};
use super::state::{KeyVersions, StoredBucket};

/// What to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListingQuery<'q> {
    /// Only keys with this prefix are listed.
    pub(crate) prefix: &'q str,
    /// If set, keys are rolled up at its first occurrence after the prefix. Never empty.
    pub(crate) delimiter: Option<&'q str>,
    pub(crate) start: ListingStart<'q>,
}

/// Where a listing starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ListingStart<'q> {
    /// At the first key.
    FirstKey,
    /// After this key.
    After(&'q str),
    /// At this key.
    At(&'q str),
    /// After all keys with this prefix, because they were rolled up.
    AfterPrefix(&'q str),
}

impl<'q> ListingStart<'q> {
    /// Returns where to continue after the marker of an earlier page. A marker that is a rolled-up prefix stands for
    /// all of its keys.
    pub(crate) fn after_marker(marker: &'q str, prefix: &str, delimiter: Option<&str>) -> Self {
        match (marker.strip_prefix(prefix), delimiter) {
            (Some(rest), Some(delimiter)) if rest.find(delimiter) == Some(rest.len().wrapping_sub(delimiter.len())) => {
                Self::AfterPrefix(marker)
            }
            _ => Self::After(marker),
        }
    }
}

/// One result of a listing.
#[derive(Debug)]
pub(crate) enum KeyOrPrefix<'s> {
    /// A key and its versions.
    Key(&'s str, &'s KeyVersions),
    /// A prefix that one or more keys were rolled up into.
    Prefix(&'s str),
}

impl<'s> KeyOrPrefix<'s> {
    /// Returns the key or the prefix.
    pub(crate) fn name(&self) -> &'s str {
        match self {
            Self::Key(name, _) | Self::Prefix(name) => name,
        }
    }
}

struct BucketKeyIter<'s, 'q, W> {
    keys: &'s BTreeMap<Box<str>, KeyVersions>,
    range: btree_map::Range<'s, Box<str>, KeyVersions>,
    query: ListingQuery<'q>,
    rolled_up: Option<String>,
    filter: W,
}

/// Lists the keys whose entries match `filter`, in byte order.
fn list_keys<'s>(
    bucket: &'s StoredBucket,
    query: ListingQuery<'s>,
    filter: impl Fn(&KeyVersions) -> bool + 's,
) -> impl Iterator<Item = KeyOrPrefix<'s>> {
    let keys = &bucket.keys;
    let prefix = query.prefix;
    let (range, rolled_up) = match query.start {
        ListingStart::After(key) if key >= prefix => (range_from(keys, Bound::Excluded(key)), None),
        ListingStart::At(key) if key >= prefix => (range_from(keys, Bound::Included(key)), None),
        ListingStart::AfterPrefix(rolled) if rolled >= prefix => {
            (range_after_prefix(keys, rolled), Some(rolled.to_owned()))
        }
        ListingStart::FirstKey | ListingStart::After(_) | ListingStart::At(_) | ListingStart::AfterPrefix(_) => {
            (range_from(keys, Bound::Included(prefix)), None)
        }
    };
    BucketKeyIter { keys, range, query, rolled_up, filter }
}

fn range_from<'s>(
    keys: &'s BTreeMap<Box<str>, KeyVersions>,
    start: Bound<&str>,
) -> btree_map::Range<'s, Box<str>, KeyVersions> {
    keys.range::<str, _>((start, Bound::Unbounded))
}

/// Skips the keys with this prefix, except those that continue with the last character of all, U+10FFFF. The caller
/// skips these one by one.
fn range_after_prefix<'s>(
    keys: &'s BTreeMap<Box<str>, KeyVersions>,
    prefix: &str,
) -> btree_map::Range<'s, Box<str>, KeyVersions> {
    range_from(keys, Bound::Excluded(&format!("{prefix}{}", char::MAX)))
}

impl<'s, W: Fn(&KeyVersions) -> bool> Iterator for BucketKeyIter<'s, '_, W> {
    type Item = KeyOrPrefix<'s>;

    fn next(&mut self) -> Option<KeyOrPrefix<'s>> {
        loop {
            let (key, entry) = self.range.next()?;
            let rest = key.strip_prefix(self.query.prefix)?;
            if !(self.filter)(entry) {
                continue;
            }
            let rolled = self.query.delimiter.and_then(|delimiter| {
                rest.find(delimiter).map(|at| &key[..self.query.prefix.len() + at + delimiter.len()])
            });
            let Some(rolled) = rolled else { return Some(KeyOrPrefix::Key(key, entry)) };
            if self.rolled_up.as_deref() == Some(rolled) {
                continue;
            }
            self.rolled_up = Some(rolled.to_owned());
            self.range = range_after_prefix(self.keys, rolled);
            return Some(KeyOrPrefix::Prefix(rolled));
        }
    }
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct ResultPage<T> {
    pub(crate) items: Vec<T>,
    /// Whether more results follow.
    pub(crate) is_truncated: bool,
}

/// Takes up to `limit` items. An empty page never announces more results, because it has no last name to continue
/// after.
fn take_page<T>(mut items: impl Iterator<Item = T>, limit: usize) -> ResultPage<T> {
    let taken: Vec<T> = items.by_ref().take(limit).collect();
    let more = limit > 0 && items.next().is_some();
    ResultPage { items: taken, is_truncated: more }
}

/// Returns one page of the current objects. Both parameters have the same lifetime, so that the result can borrow from
/// either.
pub(crate) fn page_of_keys<'s>(
    bucket: &'s StoredBucket,
    query: ListingQuery<'s>,
    limit: usize,
) -> ResultPage<KeyOrPrefix<'s>> {
    take_page(list_keys(bucket, query, is_live), limit)
}

/// Returns one page of all versions.
pub(crate) fn page_of_versions<'s>(
    bucket: &'s StoredBucket,
    query: ListingQuery<'s>,
    version_marker: Option<&'s str>,
    limit: usize,
) -> ResultPage<VersionOrPrefix<'s>> {
    take_page(list_versions(bucket, query, version_marker), limit)
}

/// Which multipart uploads to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadQuery<'q> {
    pub(crate) bucket: &'q str,
    /// Only uploads of keys with this prefix are listed.
    pub(crate) prefix: &'q str,
    /// If set, keys are rolled up at its first occurrence after the prefix. Never empty.
    pub(crate) delimiter: Option<&'q str>,
    /// The last key or rolled-up prefix on the page before.
    pub(crate) key_marker: Option<&'q str>,
    /// The last upload of that key on the page before.
    pub(crate) id_marker: Option<&'q str>,
}

impl UploadQuery<'_> {
    /// Returns whether an upload is on this page or a later one.
    fn is_after_marker(&self, key: &str, id: &str) -> bool {
        let Some(marker) = self.key_marker else { return true };
        match (ListingStart::after_marker(marker, self.prefix, self.delimiter), self.id_marker) {
            (_, Some(id_marker)) if key == marker => id > id_marker,
            (ListingStart::AfterPrefix(prefix), _) => key > prefix && !key.starts_with(prefix),
            _ => key > marker,
        }
    }
}

/// One result of a listing of multipart uploads.
#[derive(Debug)]
pub(crate) enum UploadOrPrefix<'s> {
    /// The ID of an upload, and the upload.
    Upload(&'s str, &'s PendingUpload),
    /// A prefix that one or more keys were rolled up into.
    Prefix(&'s str),
}

/// Returns one page of the multipart uploads, ordered by their keys and IDs.
pub(crate) fn page_of_uploads<'s>(
    uploads: &'s BTreeMap<Box<str>, PendingUpload>,
    query: UploadQuery<'s>,
    limit: usize,
) -> ResultPage<UploadOrPrefix<'s>> {
    let mut matching: Vec<(&str, &str, &PendingUpload)> = uploads
        .iter()
        .filter(|(_, upload)| *upload.bucket == *query.bucket && upload.key.starts_with(query.prefix))
        .filter(|(id, upload)| query.is_after_marker(&upload.key, id))
        .map(|(id, upload)| (&*upload.key, &**id, upload))
        .collect();
    matching.sort_unstable_by_key(|(key, id, _)| (*key, *id));
    let mut last_prefix = None;
    let items = matching.into_iter().filter_map(|(key, id, upload)| {
        let rolled = query.delimiter.and_then(|delimiter| {
            let at = key[query.prefix.len()..].find(delimiter)?;
            Some(&key[..query.prefix.len() + at + delimiter.len()])
        });
        match rolled {
            None => Some(UploadOrPrefix::Upload(id, upload)),
            Some(prefix) => (last_prefix.replace(prefix) != Some(prefix)).then_some(UploadOrPrefix::Prefix(prefix)),
        }
    });
    take_page(items, limit)
}

/// Returns a continuation token for the last name of a page.
pub(crate) fn continuation_token(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

/// Returns the name that a continuation token encodes, or `None` if the token is not valid.
pub(crate) fn parse_continuation_token(token: &str) -> Option<String> {
    let name = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| !name.is_empty())
}

/// Returns whether the current version of an entry is an object, not a delete marker.
fn is_live(entry: &KeyVersions) -> bool {
    entry.newest().is_some_and(|version| version.object.is_some())
}

/// One result of a listing of versions.
#[derive(Debug)]
pub(crate) enum VersionOrPrefix<'s> {
    /// A key, its version, and whether this is the current version.
    Version(&'s str, &'s StoredVersion, bool),
    /// A prefix that one or more keys were rolled up into.
    Prefix(&'s str),
}

/// Lists all versions, the newest of each key first. `version_marker` is the version of the key in
/// [`ListingStart::At`] after which to continue.
fn list_versions<'s>(
    bucket: &'s StoredBucket,
    query: ListingQuery<'s>,
    version_marker: Option<&'s str>,
) -> impl Iterator<Item = VersionOrPrefix<'s>> {
    let started_at = match query.start {
        ListingStart::At(key) => Some(key),
        _ => None,
    };
    list_keys(bucket, query, |_| true).flat_map(move |found| {
        let (key, versions) = match found {
            KeyOrPrefix::Prefix(prefix) => (prefix, &[][..]),
            KeyOrPrefix::Key(key, entry) => (key, entry.versions()),
        };
        let prefix = versions.is_empty().then_some(VersionOrPrefix::Prefix(key));
        // If the version of the marker no longer exists, the key is listed from its start: twice is better than not at
        // all.
        let marker = version_marker.filter(|_| started_at == Some(key));
        let marker_at = marker.and_then(|id| versions.iter().rev().position(|version| version.id_str() == id));
        let skipped = marker_at.map_or(0, |at| at + 1);
        let current = versions.len().wrapping_sub(1);
        let each = versions.iter().enumerate().rev().skip(skipped);
        prefix.into_iter().chain(each.map(move |(at, version)| VersionOrPrefix::Version(key, version, at == current)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::OwnerId;
    use crate::model::{ObjectBlob, UnixMillis};
    use crate::state::tests::version;

    fn bucket(keys: &[&str]) -> StoredBucket {
        let keys = keys
            .iter()
            .map(|key| (Box::from(*key), KeyVersions::One(version(None, 1, ObjectBlob::Zeros))))
            .collect::<BTreeMap<Box<str>, _>>();
        StoredBucket { keys, ..StoredBucket::new(UnixMillis(0), OwnerId::FIRST) }
    }

    fn names(bucket: &StoredBucket, prefix: &str, delimiter: Option<&str>, from: ListingStart<'_>) -> Vec<String> {
        list_keys(bucket, ListingQuery { prefix, delimiter, start: from }, is_live)
            .map(|found| found.name().to_owned())
            .collect()
    }

    #[test]
    fn keys_come_in_byte_order_and_only_those_with_the_prefix() {
        let bucket = bucket(&["é", "b/1", "a", "Z", "b0", "\u{10ffff}", "\u{1}"]);
        assert_eq!(
            names(&bucket, "", None, ListingStart::FirstKey),
            ["\u{1}", "Z", "a", "b/1", "b0", "é", "\u{10ffff}"]
        );
        assert_eq!(names(&bucket, "b", None, ListingStart::FirstKey), ["b/1", "b0"]);
        assert_eq!(names(&bucket, "b", None, ListingStart::After("a")), ["b/1", "b0"]);
        assert_eq!(names(&bucket, "b", None, ListingStart::After("b/1")), ["b0"]);
        assert_eq!(names(&bucket, "b", None, ListingStart::At("b/1")), ["b/1", "b0"]);
        assert_eq!(names(&bucket, "b", None, ListingStart::After("z")), [""; 0]);
    }

    #[test]
    fn keys_are_rolled_up_once_each_even_behind_the_last_character() {
        let bucket = bucket(&["a/1", "a/2", "a/\u{10ffff}\u{10ffff}", "a0", "b/x/1", "b/x/2", "b/y", "c"]);
        assert_eq!(names(&bucket, "", Some("/"), ListingStart::FirstKey), ["a/", "a0", "b/", "c"]);
        assert_eq!(names(&bucket, "b/", Some("/"), ListingStart::FirstKey), ["b/x/", "b/y"]);
        assert_eq!(names(&bucket, "", Some("/"), ListingStart::after_marker("a/", "", Some("/"))), ["a0", "b/", "c"]);
        assert_eq!(
            names(&bucket, "", Some("/"), ListingStart::after_marker("a/1", "", Some("/"))),
            ["a/", "a0", "b/", "c"]
        );
        assert_eq!(names(&bucket, "", Some("/"), ListingStart::After("a/")), ["a/", "a0", "b/", "c"]);
    }

    #[test]
    fn a_page_says_whether_there_is_more() {
        assert!(!take_page(0..3, 3).is_truncated);
        assert!(take_page(0..4, 3).is_truncated);
        assert!(!take_page(0..4, 0).is_truncated);
    }

    #[test]
    fn versions_come_newest_first_and_go_on_behind_a_marker() {
        let mut bucket = bucket(&["a", "c"]);
        let versions = ["1", "2", "3"].map(|id| version(Some(id), 1, ObjectBlob::Zeros));
        bucket.keys.insert("b".into(), KeyVersions::Many(versions.into()));
        let listed = |from, version_marker| -> Vec<String> {
            list_versions(&bucket, ListingQuery { prefix: "", delimiter: None, start: from }, version_marker)
                .map(|found| match found {
                    VersionOrPrefix::Version(key, version, current) => {
                        format!("{key}{}{}", version.id_str(), if current { "!" } else { "" })
                    }
                    VersionOrPrefix::Prefix(prefix) => prefix.to_owned(),
                })
                .collect()
        };
        assert_eq!(listed(ListingStart::FirstKey, None), ["anull!", "b3!", "b2", "b1", "cnull!"]);
        assert_eq!(listed(ListingStart::At("b"), Some("2")), ["b1", "cnull!"]);
        assert_eq!(listed(ListingStart::At("b"), Some("gone")), ["b3!", "b2", "b1", "cnull!"]);
    }
}
