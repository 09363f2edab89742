//! Models of servers that read and return cursors in different ways: whatever the keys, the pages and the split points,
//! every object is listed exactly once, or the listing fails.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use batchplan_store::object::MAX_KEY_BYTES;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{
    BucketSetting, BucketSettingValue, InexactName, ListPage, ListPosition, ListRequest, ObjectContent, OpenedObject,
    Store,
};

use crate::manifest::testing::{fault, listed};

/// How a server handles cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Like AWS: a cursor is the last entry of its page.
    Aws,
    /// Like MinIO from 2025-05-26 to 2025-08-01: see [`Model::minio`].
    Minio,
    /// It ignores `start-after`.
    TokenOnly,
    /// It rejects `start-after` with this status.
    TokenOrRefusal(u16),
    /// It ignores tokens.
    StartOnly,
    /// It answers every nth request with the page that led to it.
    Repeats(usize),
    /// It fails every request the first time.
    Loses,
    /// Its cursors name the next entry, and a page starts with the entry that its cursor names.
    NamesNext,
    /// A page that should start after an entry starts with that entry, if it exists.
    BeginsAgain,
    /// Alternates two tokens with empty pages, in place of the page with this number.
    Circle(usize),
}

/// An entry of the bucket: its key, its version, and whether it is an object.
pub(super) type Row = (ObjectKey, VersionId, bool);

/// A server in memory.
pub(super) struct Model {
    /// In the server's order. A listing of current versions has one row per key. If that row is not an object, it takes
    /// no room on a page of MinIO, but it does on a page of other servers.
    pub(super) rows: Vec<Row>,
    pub(super) page: usize,
    pub(super) rule: Rule,
    /// Refuses all requests after this number; 0 means never.
    pub(super) refuses_from: usize,
    /// Writes U+FFFD in place of the byte 1 in keys, as servers do that do not support URL encoding.
    pub(super) replaces_bytes: bool,
    requests: AtomicUsize,
    /// Pages by the cursor that led to them.
    led: Mutex<HashMap<ListPosition, ListPage>>,
    /// The requests that were received at least once.
    heard: Mutex<BTreeSet<String>>,
}

/// Where a page starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    At(usize),
    Circling(bool),
}

impl Model {
    pub(super) fn new(rows: Vec<Row>, page: usize, rule: Rule) -> Self {
        let (requests, led, heard) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        Self { rows, page, rule, refuses_from: 0, replaces_bytes: false, requests, led, heard }
    }

    fn after(&self, key: &ObjectKey, version: Option<&VersionId>) -> usize {
        let begin = self.rows.partition_point(|row| row.0 < *key);
        let end = self.rows.partition_point(|row| row.0 <= *key);
        match version {
            None => end,
            // A marker whose version does not exist starts the key again.
            Some(version) => {
                let found = self.rows[begin..end].iter().position(|row| row.1 == *version);
                found.map_or(begin, |at| begin + at + usize::from(self.rule != Rule::NamesNext))
            }
        }
    }

    fn begin(&self, request: &ListRequest) -> Begin {
        match &request.from {
            None => Begin::At(0),
            Some(ListPosition::Token(_)) if self.rule == Rule::StartOnly => Begin::At(0),
            Some(ListPosition::Token(token)) => match token.as_str() {
                "left" => Begin::Circling(false),
                "right" => Begin::Circling(true),
                token => Begin::At(token.parse().expect("a token of this server")),
            },
            Some(ListPosition::After { .. }) if self.rule == Rule::TokenOnly && !request.all_versions => Begin::At(0),
            Some(ListPosition::After { key, version }) => Begin::At(self.after(key, version.as_ref())),
        }
    }

    /// Returns the page that starts there, with the cursor of the next page.
    fn page_at(&self, begin: usize, from: Option<&ListPosition>, all_versions: bool) -> ListPage {
        let before = begin.checked_sub(1).map(|before| &self.rows[before]);
        let is_there = match (from, before) {
            (Some(ListPosition::After { key, version }), Some(row)) => {
                *key == row.0 && version.as_ref().is_none_or(|version| *version == row.1)
            }
            _ => false,
        };
        let again = usize::from(self.rule == Rule::BeginsAgain && is_there);
        let begin = begin - again;
        let end = self.rows.len().min(begin + self.page + again);
        let rows = &self.rows[begin..end];
        let entry = |row: &Row| row.2.then(|| listed(row.0.as_bytes(), 1, all_versions.then_some(row.1.as_str())));
        let cursor = if self.rule == Rule::NamesNext { self.rows.get(end) } else { rows.last() };
        let next = cursor.filter(|_| end < self.rows.len()).map(|(key, version, _)| {
            if all_versions {
                ListPosition::After { key: key.clone(), version: Some(version.clone()) }
            } else {
                ListPosition::Token(end.to_string())
            }
        });
        let deleted_last = rows.last().filter(|row| all_versions && !row.2).map(|row| (row.0.clone(), row.1.clone()));
        ListPage {
            entries: rows.iter().filter_map(entry).collect(),
            trailing_delete_marker: deleted_last,
            next,
            ..ListPage::default()
        }
    }

    /// Lists current versions like MinIO between its commits 2c7fe094d and 71f293d9a.
    ///
    /// A walk over the disks meets each folder before its contents. From a marker on, one key more than requested is
    /// collected, because the marker itself may be the first. Folders and hidden objects are skipped, also after the
    /// last key that fits. If the walk was not requested by a token, the last skipped name becomes the next token if it
    /// is greater than the last key. So if the marker is not a key, the surplus key lies before the token, and is never
    /// returned.
    fn minio(&self, request: &ListRequest) -> ListPage {
        let (marker, by_token) = match &request.from {
            None => (Vec::new(), false),
            Some(ListPosition::After { key, .. }) => (key.as_bytes().to_vec(), false),
            Some(ListPosition::Token(token)) => (token.clone().into_bytes(), true),
        };
        let limit = self.page + usize::from(!marker.is_empty());
        let (mut found, mut skipped, mut truncated) = (Vec::<&[u8]>::new(), Vec::new(), false);
        for (name, is_object) in self.walked(request.prefix.as_bytes()) {
            if !is_object || *name < *marker {
                skipped = name;
                continue;
            }
            if found.len() == limit {
                truncated = true;
                break;
            }
            found.push(self.key(&name));
        }
        found.retain(|name| **name > *marker);
        truncated |= found.len() > self.page;
        found.truncate(self.page);
        let next = found.last().filter(|_| truncated).map(|last| {
            let token = if !by_token && *skipped > **last { &skipped[..] } else { *last };
            ListPosition::Token(String::from_utf8(token.to_vec()).expect("text"))
        });
        ListPage { entries: found.iter().map(|key| listed(key, 1, None)).collect(), next, ..ListPage::default() }
    }

    async fn answer(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        // Responses arrive in another order than the requests were sent.
        for _ in 0..fastrand::u8(0..4) {
            tokio::task::yield_now().await;
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if self.refuses_from > 0 && number > self.refuses_from {
            return Err(fault(FaultClass::Rejected, 403, "AccessDenied"));
        }
        let begins = matches!(request.from, Some(ListPosition::After { .. })) && !request.all_versions;
        match self.rule {
            Rule::Minio if request.all_versions => return Ok(self.minio_versions(request)),
            Rule::Minio => return Ok(self.minio(request)),
            Rule::TokenOrRefusal(status) if begins => {
                let class = match status {
                    500 => FaultClass::Ambiguous,
                    503 => FaultClass::Throttled,
                    _ => FaultClass::Rejected,
                };
                return Err(fault(class, status, "NoStartAfter"));
            }
            Rule::Loses if self.heard.lock().unwrap().insert(format!("{:?}", request.from)) => {
                return Err(StoreError::without_response(
                    FaultClass::Ambiguous,
                    "ConnectionError",
                    "lost",
                    String::new(),
                ));
            }
            Rule::Repeats(each) if number.is_multiple_of(each + 1) => {
                let led = request.from.as_ref().and_then(|from| self.led.lock().unwrap().get(from).cloned());
                if let Some(before) = led {
                    return Ok(before);
                }
            }
            Rule::Circle(at) if number == at && !request.all_versions => {
                return Ok(ListPage { next: Some(ListPosition::Token("left".to_owned())), ..ListPage::default() });
            }
            _ => {}
        }
        let page = match self.begin(request) {
            Begin::At(begin) => self.page_at(begin, request.from.as_ref(), request.all_versions),
            Begin::Circling(right) => {
                let next = if right { "left" } else { "right" };
                ListPage { next: Some(ListPosition::Token(next.to_owned())), ..ListPage::default() }
            }
        };
        let last = page.entries.last().map(|entry| (entry.key.clone(), entry.version.clone()));
        let last = page.trailing_delete_marker.clone().map(|(key, version)| (key, Some(version))).or(last);
        let own = last.map(|(key, version)| ListPosition::After { key, version });
        let mut led = self.led.lock().unwrap();
        page.next.iter().cloned().chain(own).for_each(|mark| drop(led.insert(mark, page.clone())));
        Ok(page)
    }

    fn key(&self, name: &[u8]) -> &[u8] {
        let at = self.rows.partition_point(|row| row.0.as_bytes() < name);
        self.rows[at].0.as_bytes()
    }

    /// Returns the names in the order in which the walk of MinIO meets them, folders before their contents; and whether
    /// each is an object.
    fn walked(&self, prefix: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let (mut names, mut folders) = (Vec::new(), BTreeSet::new());
        for (key, _, live) in self.rows.iter().filter(|row| row.0.as_bytes().starts_with(prefix)) {
            let key = key.as_bytes();
            let slashes = (prefix.len()..key.len()).filter(|at| key[*at] == b'/');
            for folder in slashes.map(|at| &key[..=at]).filter(|folder| *folder != key) {
                if folders.insert(folder) {
                    names.push((folder.to_vec(), false));
                }
            }
            names.push((key.to_vec(), *live));
        }
        names
    }

    /// Lists all versions like MinIO: its markers are keys with a suffix.
    fn minio_versions(&self, request: &ListRequest) -> ListPage {
        const NOTE: &str = "[minio_cache:v2,return:]";
        let begin = match &request.from {
            Some(ListPosition::After { key, version }) => {
                let text = key.as_str().expect("text");
                self.after(&ObjectKey::from(text.strip_suffix(NOTE).unwrap_or(text)), version.as_ref())
            }
            _ => 0,
        };
        let mut page = self.page_at(begin, request.from.as_ref(), true);
        if let Some(ListPosition::After { key, .. }) = &mut page.next {
            *key = ObjectKey::from(format!("{key}{NOTE}").as_str());
        }
        page
    }
}

/// The byte that some servers cannot write in XML.
pub(super) const UNWRITABLE: u8 = 1;

/// Returns a key as a server without URL encoding writes it.
pub(super) fn as_written(key: &ObjectKey) -> ObjectKey {
    let pieces = key.as_bytes().split(|byte| *byte == UNWRITABLE).collect::<Vec<_>>();
    ObjectKey::new(pieces.join("\u{fffd}".as_bytes()))
}

/// Returns a page as the client reads it from such a server.
fn with_replaced_bytes(mut page: ListPage) -> Result<ListPage, StoreError> {
    let is_replaced = |key: &ObjectKey| key.as_bytes().contains(&UNWRITABLE);
    for entry in page.entries.iter_mut().filter(|entry| is_replaced(&entry.key)) {
        entry.key = as_written(&entry.key);
        entry.inexact = Some(InexactName::ReplacedBytes);
    }
    page.trailing_delete_marker = page.trailing_delete_marker.filter(|(key, _)| !is_replaced(key));
    if matches!(&page.next, Some(ListPosition::After { key, .. }) if is_replaced(key)) {
        let is_name = |key: &ObjectKey| (1..=MAX_KEY_BYTES).contains(&key.as_bytes().len());
        let last = page.entries.iter().rfind(|entry| entry.inexact.is_none() && is_name(&entry.key));
        let last = last.map(|entry| (entry.key.clone(), entry.version.clone()));
        let deleted = page.trailing_delete_marker.clone().filter(|(key, _)| is_name(key));
        let last = deleted.map(|(key, version)| (key, Some(version))).or(last);
        page.next = last.map(|(key, version)| ListPosition::After { key, version });
        if page.next.is_none() {
            return Err(fault(FaultClass::Rejected, 200, "InvalidListing"));
        }
    }
    Ok(page)
}

#[async_trait]
impl Store for Model {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        if let Some(ListPosition::After { key, .. }) = &request.from {
            assert!(!key.to_string().contains('\u{fffd}'), "a page after {key}");
        }
        let page = self.answer(request).await?;
        if self.replaces_bytes { with_replaced_bytes(page) } else { Ok(page) }
    }

    async fn send_request(&self, _: &ObjectId, _: &ObjectRequest) -> Result<ObjectResponse, StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    async fn bucket_setting(&self, _: &BucketName, _: BucketSetting) -> Result<BucketSettingValue, StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    async fn read(&self, _: &BucketName, _: &ObjectKey, _: Option<&str>) -> Result<OpenedObject, StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    async fn write(&self, _: &BucketName, _: &ObjectKey, _: ObjectContent, _: &str) -> Result<(), StoreError> {
        Err(fault(FaultClass::Rejected, 501, "NotImplemented"))
    }

    fn request_line(&self, _: &ObjectId, _: &ObjectRequest) -> String {
        String::new()
    }

    fn unsupported_key_reason(&self, _: &ObjectKey) -> Option<&'static str> {
        None
    }
}
