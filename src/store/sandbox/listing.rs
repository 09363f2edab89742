//! Listings of a bucket's keys: by prefix, rolled up at a delimiter, and in pages.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::model::Version;
use super::state::{Bucket, Entry};

/// What to list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'q> {
    /// Only keys with this prefix are listed.
    pub(super) prefix: &'q str,
    /// If set, keys are rolled up at its first occurrence after the prefix. Never empty.
    pub(super) delimiter: Option<&'q str>,
    pub(super) from: From<'q>,
}

/// Where a listing starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum From<'q> {
    /// At the first key.
    Start,
    /// After this key.
    Behind(&'q str),
    /// At this key.
    At(&'q str),
    /// After all keys with this prefix, because they were rolled up.
    BehindAll(&'q str),
}

impl<'q> From<'q> {
    /// Returns where to continue after the marker of an earlier page. A marker that is a rolled-up prefix stands for
    /// all of its keys.
    pub(super) fn marker(marker: &'q str, prefix: &str, delimiter: Option<&str>) -> Self {
        match (marker.strip_prefix(prefix), delimiter) {
            (Some(rest), Some(delimiter)) if rest.find(delimiter) == Some(rest.len().wrapping_sub(delimiter.len())) => {
                Self::BehindAll(marker)
            }
            _ => Self::Behind(marker),
        }
    }
}

/// One result of a listing.
#[derive(Debug)]
pub(super) enum Found<'s> {
    /// A key and its versions.
    Key(&'s str, &'s Entry),
    /// A prefix that one or more keys were rolled up into.
    Prefix(&'s str),
}

impl<'s> Found<'s> {
    /// Returns the key or the prefix.
    pub(super) fn name(&self) -> &'s str {
        match self {
            Self::Key(name, _) | Self::Prefix(name) => name,
        }
    }
}

struct Walker<'s, 'q, W> {
    keys: &'s BTreeMap<Box<str>, Entry>,
    range: btree_map::Range<'s, Box<str>, Entry>,
    walk: Walk<'q>,
    rolled_up: Option<String>,
    wanted: W,
}

/// Lists the keys whose entries match `wanted`, in byte order.
pub(super) fn walk<'s>(
    bucket: &'s Bucket,
    walk: Walk<'s>,
    wanted: impl Fn(&Entry) -> bool + 's,
) -> impl Iterator<Item = Found<'s>> {
    let keys = &bucket.keys;
    let prefix = walk.prefix;
    let (range, rolled_up) = match walk.from {
        From::Behind(key) if key >= prefix => (from(keys, Bound::Excluded(key)), None),
        From::At(key) if key >= prefix => (from(keys, Bound::Included(key)), None),
        From::BehindAll(rolled) if rolled >= prefix => (behind_all(keys, rolled), Some(rolled.to_owned())),
        From::Start | From::Behind(_) | From::At(_) | From::BehindAll(_) => (from(keys, Bound::Included(prefix)), None),
    };
    Walker { keys, range, walk, rolled_up, wanted }
}

fn from<'s>(keys: &'s BTreeMap<Box<str>, Entry>, start: Bound<&str>) -> btree_map::Range<'s, Box<str>, Entry> {
    keys.range::<str, _>((start, Bound::Unbounded))
}

/// Skips the keys with this prefix, except those that continue with the last character of all, U+10FFFF. The caller
/// skips these one by one.
fn behind_all<'s>(keys: &'s BTreeMap<Box<str>, Entry>, prefix: &str) -> btree_map::Range<'s, Box<str>, Entry> {
    from(keys, Bound::Excluded(&format!("{prefix}{}", char::MAX)))
}

impl<'s, W: Fn(&Entry) -> bool> Iterator for Walker<'s, '_, W> {
    type Item = Found<'s>;

    fn next(&mut self) -> Option<Found<'s>> {
        loop {
            let (key, entry) = self.range.next()?;
            let rest = key.strip_prefix(self.walk.prefix)?;
            if !(self.wanted)(entry) {
                continue;
            }
            let rolled = self.walk.delimiter.and_then(|delimiter| {
                rest.find(delimiter).map(|at| &key[..self.walk.prefix.len() + at + delimiter.len()])
            });
            let Some(rolled) = rolled else { return Some(Found::Key(key, entry)) };
            if self.rolled_up.as_deref() == Some(rolled) {
                continue;
            }
            self.rolled_up = Some(rolled.to_owned());
            self.range = behind_all(self.keys, rolled);
            return Some(Found::Prefix(rolled));
        }
    }
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Whether more results follow.
    pub(super) more: bool,
}

/// Takes up to `limit` items. An empty page never announces more results, because it has no last name to continue
/// after.
pub(super) fn page<T>(mut items: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let taken: Vec<T> = items.by_ref().take(limit).collect();
    let more = limit > 0 && items.next().is_some();
    Page { items: taken, more }
}

/// Returns one page of the current objects. Both parameters have the same lifetime, so that the result can borrow from
/// either.
pub(super) fn page_of_keys<'s>(bucket: &'s Bucket, range: Walk<'s>, limit: usize) -> Page<Found<'s>> {
    page(walk(bucket, range, is_live), limit)
}

/// Returns one page of all versions.
pub(super) fn page_of_versions<'s>(
    bucket: &'s Bucket,
    range: Walk<'s>,
    behind: Option<&'s str>,
    limit: usize,
) -> Page<FoundVersion<'s>> {
    page(walk_versions(bucket, range, behind), limit)
}

/// Returns a continuation token for the last name of a page.
pub(super) fn token(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

/// Returns the name that a continuation token encodes, or `None` if the token is not valid.
pub(super) fn name_of_token(token: &str) -> Option<String> {
    let name = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| !name.is_empty())
}

/// Returns whether the current version of an entry is an object, not a delete marker.
pub(super) fn is_live(entry: &Entry) -> bool {
    entry.newest().is_some_and(|version| version.object.is_some())
}

/// One result of a listing of versions.
#[derive(Debug)]
pub(super) enum FoundVersion<'s> {
    /// A key, its version, and whether this is the current version.
    Version(&'s str, &'s Version, bool),
    /// A prefix that one or more keys were rolled up into.
    Prefix(&'s str),
}

/// Lists all versions, the newest of each key first. `behind` is the version of the key in [`From::At`] after which to
/// continue.
pub(super) fn walk_versions<'s>(
    bucket: &'s Bucket,
    range: Walk<'s>,
    behind: Option<&'s str>,
) -> impl Iterator<Item = FoundVersion<'s>> {
    let started_at = match range.from {
        From::At(key) => Some(key),
        _ => None,
    };
    walk(bucket, range, |_| true).flat_map(move |found| {
        let (key, versions) = match found {
            Found::Prefix(prefix) => (prefix, &[][..]),
            Found::Key(key, entry) => (key, entry.versions()),
        };
        let prefix = versions.is_empty().then_some(FoundVersion::Prefix(key));
        // If the version of the marker no longer exists, the key is listed from its start: twice is better than not at
        // all.
        let skip = behind
            .filter(|_| started_at == Some(key))
            .and_then(|behind| versions.iter().rev().position(|version| version.id_str() == behind).map(|at| at + 1));
        let current = versions.len().wrapping_sub(1);
        let each = versions.iter().enumerate().rev().skip(skip.unwrap_or(0));
        prefix.into_iter().chain(each.map(move |(at, version)| FoundVersion::Version(key, version, at == current)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sandbox::model::{Body, Millis};
    use crate::store::sandbox::state::tests::version;

    fn bucket(keys: &[&str]) -> Bucket {
        let keys = keys
            .iter()
            .map(|key| (Box::from(*key), Entry::One(version(None, 1, Body::Zeros))))
            .collect::<BTreeMap<Box<str>, _>>();
        Bucket { keys, ..Bucket::new(Millis(0)) }
    }

    fn names(bucket: &Bucket, prefix: &str, delimiter: Option<&str>, from: From<'_>) -> Vec<String> {
        walk(bucket, Walk { prefix, delimiter, from }, is_live).map(|found| found.name().to_owned()).collect()
    }

    #[test]
    fn keys_come_in_byte_order_and_only_those_with_the_prefix() {
        let bucket = bucket(&["é", "b/1", "a", "Z", "b0", "\u{10ffff}", "\u{1}"]);
        assert_eq!(names(&bucket, "", None, From::Start), ["\u{1}", "Z", "a", "b/1", "b0", "é", "\u{10ffff}"]);
        assert_eq!(names(&bucket, "b", None, From::Start), ["b/1", "b0"]);
        assert_eq!(names(&bucket, "b", None, From::Behind("a")), ["b/1", "b0"]);
        assert_eq!(names(&bucket, "b", None, From::Behind("b/1")), ["b0"]);
        assert_eq!(names(&bucket, "b", None, From::At("b/1")), ["b/1", "b0"]);
        assert_eq!(names(&bucket, "b", None, From::Behind("z")), [""; 0]);
    }

    #[test]
    fn keys_are_rolled_up_once_each_even_behind_the_last_character() {
        let bucket = bucket(&["a/1", "a/2", "a/\u{10ffff}\u{10ffff}", "a0", "b/x/1", "b/x/2", "b/y", "c"]);
        assert_eq!(names(&bucket, "", Some("/"), From::Start), ["a/", "a0", "b/", "c"]);
        assert_eq!(names(&bucket, "b/", Some("/"), From::Start), ["b/x/", "b/y"]);
        assert_eq!(names(&bucket, "", Some("/"), From::marker("a/", "", Some("/"))), ["a0", "b/", "c"]);
        assert_eq!(names(&bucket, "", Some("/"), From::marker("a/1", "", Some("/"))), ["a/", "a0", "b/", "c"]);
        assert_eq!(names(&bucket, "", Some("/"), From::Behind("a/")), ["a/", "a0", "b/", "c"]);
    }

    #[test]
    fn a_page_says_whether_there_is_more() {
        assert!(!page(0..3, 3).more);
        assert!(page(0..4, 3).more);
        assert!(!page(0..4, 0).more);
    }

    #[test]
    fn versions_come_newest_first_and_go_on_behind_a_marker() {
        let mut bucket = bucket(&["a", "c"]);
        let versions = ["1", "2", "3"].map(|id| version(Some(id), 1, Body::Zeros));
        bucket.keys.insert("b".into(), Entry::Many(versions.into()));
        let listed = |from, behind| -> Vec<String> {
            walk_versions(&bucket, Walk { prefix: "", delimiter: None, from }, behind)
                .map(|found| match found {
                    FoundVersion::Version(key, version, current) => {
                        format!("{key}{}{}", version.id_str(), if current { "!" } else { "" })
                    }
                    FoundVersion::Prefix(prefix) => prefix.to_owned(),
                })
                .collect()
        };
        assert_eq!(listed(From::Start, None), ["anull!", "b3!", "b2", "b1", "cnull!"]);
        assert_eq!(listed(From::At("b"), Some("2")), ["b1", "cnull!"]);
        assert_eq!(listed(From::At("b"), Some("gone")), ["b3!", "b2", "b1", "cnull!"]);
    }
}
