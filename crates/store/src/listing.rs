//! Listings: the request for a page, the page, and where the listing continues after it.
//!
//! A server's cursor is not trusted beyond the entries that the server returned. Some servers return a cursor after
//! the last entry of a page that began at an invented key (`MinIO`, <https://github.com/minio/minio/issues/21463>),
//! or cursors that form a cycle. In the first case the listing would skip objects, in the second it would never end.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use jiff::Timestamp;

use crate::object::{BucketName, MAX_KEY_BYTES, ObjectKey, StorageClass, VersionId};

/// The maximum length of an `ETag` that is kept from a listing, in bytes. Those of AWS and OSS have up to 40.
pub const MAX_ETAG_BYTES: usize = 1024;

/// The maximum length of a key that is kept from a listing, in bytes: four times what the services allow, and the
/// longest path of Linux. A longer key is cut there, and is not exact.
pub const MAX_LISTED_KEY_BYTES: usize = 4096;

/// A request for one page of a listing.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The bucket to list.
    pub bucket: BucketName,
    /// Lists only keys with this prefix.
    pub prefix: ObjectKey,
    /// Whether to list all versions instead of only the current ones.
    pub all_versions: bool,
    /// Whether to roll up keys into `common_prefixes`, at the first `/` after the prefix.
    pub group_by_directory: bool,
    /// Where the page starts: `next` of the previous page, any key, or `None` for the start of the listing.
    pub from: Option<ListPosition>,
}

/// A position at which a listing continues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListPosition {
    /// The server's continuation token (current versions only).
    Token(String),
    /// After this key, including all of its versions if no version is given. A listing of current versions can start
    /// here in the middle of a bucket (`start-after`) and then also continues here. A listing of all versions always
    /// continues here.
    After {
        /// The key marker. The key does not need to exist.
        key: ObjectKey,
        /// The version marker, if a listing of all versions stopped between two versions of a key.
        version: Option<VersionId>,
    },
}

/// One page of a listing, in the server's order.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The objects, without delete markers.
    pub entries: Vec<ListedObject>,
    /// With `group_by_directory`: the rolled-up prefixes, each ending in `/`.
    pub common_prefixes: Vec<ObjectKey>,
    /// In a listing of all versions: the delete marker at the end of the page, if the page ends with one.
    pub trailing_delete_marker: Option<(ObjectKey, VersionId)>,
    /// Where the listing continues according to the server, or `None` on the last page. [`ListCursor`] makes the
    /// decision.
    pub next: Option<ListPosition>,
}

impl ListPage {
    /// Returns all names on the page that are exact: keys, prefixes and the trailing delete marker.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ObjectKey> {
        let deleted = self.trailing_delete_marker.iter().map(|(key, _)| key);
        let exact = self.entries.iter().filter(|entry| entry.inexact.is_none());
        exact.map(|entry| &entry.key).chain(&self.common_prefixes).chain(deleted)
    }

    /// Returns the position after the last entry of the page, including delete markers, or `None` if the page has no
    /// entry whose name can be requested.
    pub(crate) fn last_position(&self) -> Option<ListPosition> {
        let deleted = self.trailing_delete_marker.clone().filter(|(key, _)| can_be_position(key));
        let deleted = deleted.map(|(key, version)| (key, Some(version)));
        let last = self.entries.iter().rfind(|entry| entry.can_be_position());
        let last = deleted.or_else(|| last.map(|entry| (entry.key.clone(), entry.version.clone())));
        last.map(|(key, version)| ListPosition::After { key, version })
    }

    /// Removes the entries at the end of the page whose names cannot be requested, so that the page ends with a
    /// position: the next page starts with the removed entries. The last page of a listing keeps them. `from` is where
    /// the page started.
    ///
    /// A key with U+FFFD is a position only if there is no other new one on the page. A server may write U+FFFD in place
    /// of bytes that are not UTF-8 before it encodes the key: a page that starts after such a name would leave out the
    /// keys between the object's real key and the name.
    ///
    /// # Errors
    /// Returns the reason if nothing new would be left, so that the listing cannot continue.
    fn end_at_position(&mut self, from: Option<&ListPosition>) -> Result<(), String> {
        let is_sure = |entry: &ListedObject| {
            entry.can_be_position() && !has_replacement(&entry.key) && from != Some(&entry.position())
        };
        let last = self.entries.iter().rposition(is_sure);
        let last = last.or_else(|| self.entries.iter().rposition(ListedObject::can_be_position));
        let kept = last.map_or(0, |last| last + 1);
        let Some(first) = self.entries.get(kept).filter(|_| self.next.is_some()) else { return Ok(()) };
        let stuck = format!("it cannot continue after any key of a page, such as {}", first.key);
        self.entries.truncate(kept);
        // It may precede the removed entries or follow them. The next page has it again.
        self.trailing_delete_marker = None;
        match self.last_position() {
            // Some servers start a page with the entry that it should start after.
            Some(last) if from != Some(&last) => Ok(()),
            _ => Err(stuck),
        }
    }
}

/// One object in a listing.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// The key, decoded.
    pub key: ObjectKey,
    /// The version, in a listing of all versions.
    pub version: Option<VersionId>,
    /// The size in bytes. `None` if the listing contains no valid size.
    pub size: Option<u64>,
    /// The time of the last write. `None` if the listing contains no valid date.
    pub last_modified: Option<Timestamp>,
    /// The storage class, by the server's name.
    pub class: StorageClass,
    /// The `ETag` without quotes, if the listing contains it and it has at most [`MAX_ETAG_BYTES`] bytes.
    pub etag: Option<Box<str>>,
    /// Why key or version may differ from those of the object, so that no request can name it. `None` if they are
    /// exact.
    pub inexact: Option<InexactName>,
}

impl ListedObject {
    /// Returns whether a request can say that a page is to start after this object. A server that lists a key which is
    /// longer than the API allows need not accept it as a marker.
    fn can_be_position(&self) -> bool {
        self.inexact.is_none() && can_be_position(&self.key)
    }

    fn position(&self) -> ListPosition {
        ListPosition::After { key: self.key.clone(), version: self.version.clone() }
    }
}

/// Returns whether a key has a U+FFFD, which the object's own key may have, or other bytes in its place.
fn has_replacement(key: &ObjectKey) -> bool {
    memchr::memmem::find(key.as_bytes(), "\u{fffd}".as_bytes()).is_some()
}

fn can_be_position(key: &ObjectKey) -> bool {
    (1..=MAX_KEY_BYTES).contains(&key.as_bytes().len()) && key.as_str().is_ok()
}

/// Why the name of an object in a listing is not exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InexactName {
    /// The key has a reference that stands for nothing in XML, or an `&` that starts none.
    #[error("the server sent the key as invalid XML")]
    UndefinedReference,
    /// The key has a U+FFFD. Servers write it in place of bytes that are not UTF-8.
    #[error("the server replaced bytes of the key with U+FFFD")]
    ReplacedBytes,
    /// The key is longer than [`MAX_LISTED_KEY_BYTES`].
    #[error("the key is longer than {MAX_LISTED_KEY_BYTES} bytes, and only its start is shown")]
    TooLong,
    /// The version ID is not UTF-8, or was not written as XML.
    #[error("the server did not send the exact version ID")]
    Version,
}

/// The state of one listing: decides where each page starts, and guarantees that the listing ends.
///
/// A listing of current versions that started at a key (`start-after`), and every listing of all versions, continues
/// after the last entry received, including delete markers. Every other listing continues at the server's token,
/// because not every server supports `start-after`. A page without new names always continues where the server says.
#[derive(Clone, Debug)]
pub struct ListCursor {
    /// Whether the listing continues after the last entry received.
    continue_after_entry: bool,
    /// The maximum number of consecutive pages without a greater name.
    idle_limit: u32,
    idle_pages: u32,
    /// The greatest name received so far.
    greatest_name: Option<ObjectKey>,
    /// Digests of the positions at which pages started since the last greater name.
    visited: HashSet<u64>,
    hasher: RandomState,
}

impl ListCursor {
    /// Creates the cursor of a listing that has received no page yet. The listing fails after more than `idle_limit`
    /// consecutive pages without a name greater than all previous ones.
    #[must_use]
    pub fn new(all_versions: bool, idle_limit: u32) -> Self {
        Self {
            continue_after_entry: all_versions,
            idle_limit,
            idle_pages: 0,
            greatest_name: None,
            visited: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Returns where the listing continues after this page, or `None` after the last page. `from` is where this page
    /// started.
    ///
    /// # Errors
    /// Returns the reason if the server's cursor does not advance.
    pub fn advance(&mut self, from: Option<&ListPosition>, page: &ListPage) -> Result<Option<ListPosition>, String> {
        self.note_start(from);
        self.record_names(page)?;
        let Some(server) = &page.next else { return Ok(None) };
        let own = page.last_position().filter(|own| self.continue_after_entry && from != Some(own));
        let next = match own {
            Some(own) => own,
            None => validate_advance(from, server)?.clone(),
        };
        self.visited.insert(self.digest(from));
        if self.visited.contains(&self.digest(Some(&next))) {
            return Err("its pages form a loop".to_owned());
        }
        Ok(Some(next))
    }

    /// Removes the entries at the end of a page that will be on the next page as well, because it starts after an
    /// earlier entry: no request can name the removed ones. Call this before anything else is done with the page.
    ///
    /// # Errors
    /// Returns the reason if the page has no entry after which the listing could continue.
    pub fn drop_unnamable_end(&mut self, from: Option<&ListPosition>, page: &mut ListPage) -> Result<(), String> {
        self.note_start(from);
        if self.continue_after_entry { page.end_at_position(from) } else { Ok(()) }
    }

    fn note_start(&mut self, from: Option<&ListPosition>) {
        self.continue_after_entry |= matches!(from, Some(ListPosition::After { .. }));
    }

    /// Records whether the page contains a greater name, and counts pages that do not.
    fn record_names(&mut self, page: &ListPage) -> Result<(), String> {
        let greatest = page.names().max();
        if greatest.is_some_and(|name| self.greatest_name.as_ref().is_none_or(|before| name > before)) {
            self.greatest_name = greatest.cloned();
            self.visited.clear();
            self.idle_pages = 0;
            return Ok(());
        }
        self.idle_pages += 1;
        if self.idle_pages > self.idle_limit {
            return Err(format!("{} pages in a row had no new names", self.idle_limit));
        }
        Ok(())
    }

    fn digest(&self, mark: Option<&ListPosition>) -> u64 {
        self.hasher.hash_one(mark)
    }
}

/// Returns the server's cursor, unless it goes backwards or stays in place.
fn validate_advance<'a>(from: Option<&ListPosition>, server: &'a ListPosition) -> Result<&'a ListPosition, String> {
    match (from, server) {
        (Some(from), server) if from == server => Err("the next page starts where this one started".to_owned()),
        (Some(ListPosition::After { key: before, .. }), ListPosition::After { key, .. }) if key < before => {
            Err(format!("it went backwards: {key} after {before}"))
        }
        _ => Ok(server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(token: &str) -> ListPosition {
        ListPosition::Token(token.to_owned())
    }

    fn after(key: &str, version: Option<&str>) -> ListPosition {
        ListPosition::After { key: ObjectKey::from(key), version: version.map(VersionId::new) }
    }

    /// A page with these names that continues at `next`.
    fn page(names: &[&str], next: impl Into<Option<ListPosition>>) -> ListPage {
        let prefixes = names.iter().map(|name| ObjectKey::from(*name)).collect();
        ListPage { common_prefixes: prefixes, next: next.into(), ..ListPage::default() }
    }

    /// A page of delete markers, of which this is the last.
    fn deleted(key: &str, version: &str, next: ListPosition) -> ListPage {
        let last = Some((ObjectKey::from(key), VersionId::new(version)));
        ListPage { trailing_delete_marker: last, next: Some(next), ..ListPage::default() }
    }

    fn follow(cursor: &mut ListCursor, from: &ListPosition, page: &ListPage) -> Result<Option<ListPosition>, String> {
        cursor.advance(Some(from), page)
    }

    #[test]
    fn a_listing_continues_at_the_servers_token() {
        let mut cursor = ListCursor::new(false, 10);
        assert_eq!(cursor.advance(None, &page(&["a/"], token("1"))), Ok(Some(token("1"))));
        assert_eq!(follow(&mut cursor, &token("1"), &page(&[], token("2"))), Ok(Some(token("2"))));
        assert_eq!(follow(&mut cursor, &token("2"), &page(&["b/"], None)), Ok(None));
    }

    #[test]
    fn all_versions_continue_after_the_last_entry_and_delete_markers_are_entries() {
        let mut cursor = ListCursor::new(true, 10);
        let (here, beyond) = (after("k", Some("4")), after("z", Some("9")));
        assert_eq!(cursor.advance(None, &deleted("k", "4", beyond.clone())), Ok(Some(here.clone())));
        assert_eq!(follow(&mut cursor, &here, &page(&[], beyond.clone())), Ok(Some(beyond)));
    }

    /// A page of objects with these keys, of which those with a `?` are not exact, that continues at `next`.
    fn objects(keys: &[&str], next: impl Into<Option<ListPosition>>) -> ListPage {
        let entry = |key: &&str| ListedObject {
            key: ObjectKey::from(*key),
            version: None,
            size: Some(1),
            last_modified: Some(Timestamp::UNIX_EPOCH),
            class: StorageClass::new("STANDARD"),
            etag: None,
            inexact: key.contains('?').then_some(InexactName::ReplacedBytes),
        };
        ListPage { entries: keys.iter().map(entry).collect(), next: next.into(), ..ListPage::default() }
    }

    fn left(page: &ListPage) -> Vec<String> {
        page.entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    #[test]
    fn a_page_ends_with_a_key_that_the_next_one_can_start_after() {
        let (start, long) = (after("a", None), "l".repeat(MAX_KEY_BYTES + 1));
        let mut page = objects(&["b", "c?", "d", &long, "m?"], token("t"));
        let mut cursor = ListCursor::new(false, 10);
        assert_eq!(cursor.drop_unnamable_end(Some(&start), &mut page), Ok(()));
        assert_eq!(left(&page), ["b", "c?", "d"]);
        assert_eq!(follow(&mut cursor, &start, &page), Ok(Some(after("d", None))));
        let mut last = objects(&["d?", "e?"], None);
        assert_eq!(cursor.drop_unnamable_end(Some(&after("d", None)), &mut last), Ok(()));
        assert_eq!(left(&last), ["d?", "e?"], "nothing follows them");
    }

    #[test]
    fn a_key_that_may_be_replaced_is_a_position_only_if_there_is_no_other() {
        let start = after("a", None);
        let end = |keys: &[&str]| {
            let (mut page, mut cursor) = (objects(keys, token("t")), ListCursor::new(false, 10));
            cursor.drop_unnamable_end(Some(&start), &mut page).expect("a position");
            (left(&page).join(" "), follow(&mut cursor, &start, &page).expect("an advance"))
        };
        let (one, two) = ("c\u{fffd}", "d\u{fffd}");
        assert_eq!(end(&["b", one, two]), ("b".to_owned(), Some(after("b", None))));
        assert_eq!(end(&[one, "d"]), (format!("{one} d"), Some(after("d", None))));
        assert_eq!(end(&[one, two]), (format!("{one} {two}"), Some(after(two, None))));
        assert_eq!(end(&["a", one]), (format!("a {one}"), Some(after(one, None))), "the first is not new");
        // With the server's token, nothing can be left out.
        let (mut page, mut cursor) = (objects(&["b", one], token("t")), ListCursor::new(false, 10));
        cursor.drop_unnamable_end(None, &mut page).expect("a position");
        assert_eq!((left(&page).len(), cursor.advance(None, &page)), (2, Ok(Some(token("t")))));
    }

    #[test]
    fn a_token_leads_past_every_key() {
        let mut page = objects(&["b?", "c?"], token("t"));
        let mut cursor = ListCursor::new(false, 10);
        assert_eq!(cursor.drop_unnamable_end(None, &mut page), Ok(()));
        assert_eq!(left(&page), ["b?", "c?"]);
        assert_eq!(cursor.advance(None, &page), Ok(Some(token("t"))));
    }

    #[test]
    fn a_page_without_a_key_to_start_after_ends_the_listing() {
        for keys in [&["b?", "c?"][..], &["a", "b?"]] {
            let mut page = objects(keys, token("t"));
            let stuck = ListCursor::new(false, 10).drop_unnamable_end(Some(&after("a", None)), &mut page);
            assert!(stuck.unwrap_err().ends_with("such as b?"), "{keys:?}");
        }
    }

    #[test]
    fn a_marker_that_an_earlier_release_kept_is_left_behind() {
        let mut cursor = ListCursor::new(true, 10);
        let kept = after("k[minio_cache:v2,return:]", Some("1"));
        let next = follow(&mut cursor, &kept, &deleted("k/a", "4", kept.clone()));
        assert_eq!(next, Ok(Some(after("k/a", Some("4")))));
    }

    #[test]
    fn follows_a_server_that_repeats_its_marker() {
        let mut cursor = ListCursor::new(true, 10);
        let (here, next) = (after("k", Some("4")), after("k", Some("3")));
        assert_eq!(cursor.advance(None, &deleted("k", "4", here.clone())), Ok(Some(here.clone())));
        assert_eq!(follow(&mut cursor, &here, &deleted("k", "4", next.clone())), Ok(Some(next)));
    }

    #[test]
    fn two_tokens_by_turns_end_the_listing() {
        let mut cursor = ListCursor::new(false, 1000);
        assert_eq!(cursor.advance(None, &page(&["a/"], token("1"))), Ok(Some(token("1"))));
        assert_eq!(follow(&mut cursor, &token("1"), &page(&[], token("2"))), Ok(Some(token("2"))));
        let circle = follow(&mut cursor, &token("2"), &page(&["a/"], token("1"))).expect_err("a circle");
        assert!(circle.contains("form a loop"), "{circle}");
    }

    #[test]
    fn versions_of_one_key_that_lead_in_a_circle_end_the_listing() {
        let mut cursor = ListCursor::new(true, 1000);
        let (one, two) = (after("k", Some("1")), after("k", Some("2")));
        assert_eq!(cursor.advance(None, &deleted("k", "1", one.clone())), Ok(Some(one.clone())));
        assert_eq!(follow(&mut cursor, &one, &deleted("k", "2", two.clone())), Ok(Some(two.clone())));
        assert!(follow(&mut cursor, &two, &deleted("k", "1", one)).is_err());
    }

    #[test]
    fn a_cursor_that_stays_or_goes_back_is_an_error() {
        let mut cursor = ListCursor::new(false, 1000);
        let stays = follow(&mut cursor, &token("1"), &page(&["a/"], token("1"))).expect_err("it stays");
        assert!(stays.contains("starts where this one started"), "{stays}");
        let back = follow(&mut cursor, &after("b", None), &page(&[], after("a", None))).expect_err("it goes back");
        assert_eq!(back, "it went backwards: a after b");
    }

    #[test]
    fn new_tokens_for_ever_end_the_listing_as_well() {
        let mut cursor = ListCursor::new(false, 5);
        let mut from = None;
        for number in 0..5 {
            from = cursor.advance(from.as_ref(), &page(&[], token(&number.to_string()))).expect("patience");
        }
        let over = cursor.advance(from.as_ref(), &page(&[], token("5"))).expect_err("no more patience");
        assert_eq!(over, "5 pages in a row had no new names");
    }
}
