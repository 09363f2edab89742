//! Reads the listing of a bucket, one page at a time.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, `API_ListObjectVersions.html`;
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/listobjectsv2>, `listobjectversions`.
//!
//! Keys are bytes, and XML cannot carry every byte, so URL encoding is requested. Not every server supports it. A page
//! is therefore read leniently, key by key:
//!
//! | what the server sends as a key | what is read |
//! |---|---|
//! | `%FF`, in URL encoding | the byte |
//! | `%EF%BF%BD`, in URL encoding | U+FFFD: the key has it, or the server has replaced bytes before it encoded the key. Nothing tells the two apart, except that replaced keys may be equal or out of order, which ends the listing |
//! | bytes that are not UTF-8, control characters, or `&#0;` | these bytes |
//! | a reference that stands for nothing (`&#xD800;`, `&eacute;`), or an `&` that starts none | the text as it is written, marked as not exact |
//! | U+FFFD, which servers write in place of bytes that are not UTF-8 | the text as it is written, marked as not exact |
//! | more than [`MAX_LISTED_KEY_BYTES`] bytes | the first bytes, marked as not exact |
//! | an unescaped `<` | nothing: no key of the page can be trusted |

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;
use percent_encoding::percent_decode;

use super::client::{RequestPayload, StoreHttpClient, StoreRequest};
use super::date::parse_date;
use super::dialect::StoreDialect;
use super::response::ResponseLimit;
use crate::error::{FaultClass, StoreError, truncate};
use crate::listing::{
    InexactName, ListPage, ListPosition, ListRequest, ListedObject, MAX_ETAG_BYTES, MAX_LISTED_KEY_BYTES,
};
use crate::object::{MAX_KEY_BYTES, ObjectKey, StorageClass, VersionId};
use crate::xml::{self, LenientText, XmlReadError};

/// The maximum number of keys and rolled-up prefixes on a page. It is requested, and a server must not send more.
const MAX_ENTRIES: usize = 1000;

/// The maximum length of a token or marker in bytes. URL-encoded, a key of 1,024 bytes has up to 3,072 bytes.
const MAX_MARKER_BYTES: usize = 8192;

/// Why a page is rejected.
#[derive(Debug, PartialEq, Eq)]
enum ListPageError {
    /// The document is invalid or incomplete.
    Unreadable(XmlReadError),
    /// The page is not one that a correct server sends. A wrong end of the listing would leave a gap, and a key outside
    /// the prefix would be an object that the plan did not request.
    Untrusted(String),
}

impl ListPageError {
    fn untrusted(why: &str) -> Self {
        Self::Untrusted(why.to_owned())
    }
}

impl StoreHttpClient {
    /// Requests a page of a listing.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a valid page.
    pub(crate) async fn list_page(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let query = list_query(request);
        let store_request = StoreRequest {
            method: "GET",
            bucket: &request.bucket,
            key: None,
            query: &query,
            headers: Vec::new(),
            payload: RequestPayload::empty(),
        };
        let response = self.execute_with_timeout(store_request, ResponseLimit::Page).await?;
        parse_page(&response.body, request, self.dialect()).map_err(|why| {
            let request_line = self.endpoint().request_line("GET", &request.bucket, &ObjectKey::from(""), &query);
            match why {
                ListPageError::Unreadable(fault) => response.unreadable_error(&fault.to_string(), request_line),
                // A web page can be a complete XML document, too.
                ListPageError::Untrusted(why) if response.is_web_page() => {
                    response.unreadable_error(&why, request_line)
                }
                ListPageError::Untrusted(why) => {
                    let message = truncate(&format!("a page of the listing is not valid: {why}"));
                    let class = FaultClass::Rejected;
                    StoreError::unusable_response(class, response.status, "InvalidListing", &message, request_line)
                }
            }
        })
    }
}

/// Builds the query, sorted by name. Requests URL-encoded keys, because XML cannot represent every key.
fn list_query(request: &ListRequest) -> String {
    let mut pairs: Vec<(&str, String)> = vec![
        ("encoding-type", "url".to_owned()),
        ("max-keys", MAX_ENTRIES.to_string()),
        ("prefix", request.prefix.encoded()),
    ];
    if request.group_by_directory {
        pairs.push(("delimiter", "%2F".to_owned()));
    }
    match (&request.from, request.all_versions) {
        (Some(ListPosition::Token(token)), false) => {
            pairs.push(("continuation-token", ObjectKey::from(token.as_str()).encoded()));
        }
        (Some(ListPosition::After { key, .. }), false) => pairs.push(("start-after", key.encoded())),
        (Some(ListPosition::After { key, version }), true) => {
            pairs.push(("key-marker", key.encoded()));
            if let Some(version) = version {
                pairs.push(("version-id-marker", ObjectKey::from(version.as_str()).encoded()));
            }
        }
        // `next_position` returns no token for a listing of all versions, so it never continues at one.
        (Some(ListPosition::Token(_)), true) | (None, _) => {}
    }
    pairs.push(if request.all_versions { ("versions", String::new()) } else { ("list-type", "2".to_owned()) });
    pairs.retain(|(name, value)| !value.is_empty() || *name == "versions");
    pairs.sort_unstable_by_key(|(name, _)| *name);
    let pair = |(name, value): &(&str, String)| {
        if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") }
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// A key, prefix or marker as the page has it, before it is decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PageText {
    bytes: Vec<u8>,
    /// Why the bytes may not be those that the server means.
    inexact: Option<InexactName>,
}

impl PageText {
    fn read(text: LenientText<'_>) -> Self {
        let replaced = memchr::memmem::find(text.bytes, REPLACEMENT).is_some();
        let inexact = match (text.is_exact, replaced) {
            (false, _) => Some(InexactName::UndefinedReference),
            (true, true) => Some(InexactName::ReplacedBytes),
            (true, false) => None,
        };
        Self { bytes: text.bytes.to_vec(), inexact }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The elements of a page, collected while it is parsed.
#[derive(Default)]
struct ListPageParser {
    all_versions: bool,
    is_url_encoded: bool,
    /// Whether more pages follow: the text of `IsTruncated`, in lower case. Empty if the document does not say so.
    truncated: String,
    /// The size of a full page, if the document says so.
    page_size: Option<usize>,
    /// Whether the root element is the one of the requested listing, and is complete.
    has_expected_root: bool,
    token: PageText,
    next_key: PageText,
    next_version: PageText,
    /// The marker of version 1 of `ListObjects`, which was not requested.
    version_1_marker: PageText,
    prefixes: Vec<PageText>,
    entries: Vec<ParsedListEntry>,
    /// The number of keys and prefixes received. At most [`MAX_ENTRIES`] are kept.
    count: usize,
    entry: ParsedListEntry,
    /// The delete marker that is being parsed.
    delete_marker: ParsedDeleteMarker,
    /// The last complete delete marker.
    last_delete_marker: Option<ParsedDeleteMarker>,
    /// The value of `count` at the last delete marker.
    count_at_delete_marker: usize,
    /// The number of delete markers received.
    delete_markers: usize,
}

#[derive(Default)]
struct ParsedListEntry {
    key: PageText,
    version: PageText,
    size: Option<u64>,
    modified: Option<Timestamp>,
    class: Option<StorageClass>,
    etag: Option<Box<str>>,
}

#[derive(Default)]
struct ParsedDeleteMarker {
    key: PageText,
    version: PageText,
}

impl ParsedDeleteMarker {
    fn is_exact(&self) -> bool {
        self.key.inexact.is_none() && exact_version(&self.version).is_some()
    }
}

fn parse_page(document: &[u8], request: &ListRequest, dialect: StoreDialect) -> Result<ListPage, ListPageError> {
    let mut page = ListPageParser { all_versions: request.all_versions, ..ListPageParser::default() };
    xml::read_lenient(document, |path, text| page.read_element(path, text)).map_err(ListPageError::Unreadable)?;
    validate_page(page.finish(dialect)?, &request.prefix).map_err(ListPageError::Untrusted)
}

impl ListPageParser {
    /// Returns the root element, and the element of one object.
    fn element_names(&self) -> (&'static str, &'static str) {
        if self.all_versions { ("ListVersionsResult", "Version") } else { ("ListBucketResult", "Contents") }
    }

    fn read_element(&mut self, path: &str, raw: LenientText<'_>) {
        let (root, object) = self.element_names();
        let Some(rest) = path.strip_prefix(root) else { return };
        let Some(rest) = rest.strip_prefix('/') else {
            self.has_expected_root |= rest.is_empty();
            return;
        };
        match rest {
            "EncodingType" => self.is_url_encoded = raw.to_text().trim().eq_ignore_ascii_case("url"),
            "IsTruncated" => self.truncated = raw.to_text().trim().to_ascii_lowercase(),
            "MaxKeys" => self.page_size = raw.to_text().trim().parse().ok(),
            "NextMarker" => self.version_1_marker = PageText::read(raw),
            "NextContinuationToken" => self.token = PageText::read(raw),
            "NextKeyMarker" => self.next_key = PageText::read(raw),
            "NextVersionIdMarker" => self.next_version = PageText::read(raw),
            "CommonPrefixes/Prefix" if self.count_entry() => self.prefixes.push(PageText::read(raw)),
            // Delete markers are not objects, but the listing continues after them.
            "DeleteMarker" => {
                self.last_delete_marker = Some(std::mem::take(&mut self.delete_marker));
                self.count_at_delete_marker = self.count;
                self.delete_markers += 1;
            }
            "DeleteMarker/Key" => self.delete_marker.key = PageText::read(raw),
            "DeleteMarker/VersionId" => self.delete_marker.version = PageText::read(raw),
            rest if rest == object => {
                let entry = std::mem::take(&mut self.entry);
                if self.count_entry() {
                    self.entries.push(entry);
                }
            }
            rest => {
                if let Some(field) = rest.strip_prefix(object).and_then(|field| field.strip_prefix('/')) {
                    self.entry.read_field(field, raw);
                }
            }
        }
    }

    /// Counts one more key or prefix. Returns whether it can be kept.
    fn count_entry(&mut self) -> bool {
        self.count += 1;
        self.count <= MAX_ENTRIES
    }

    fn finish(self, dialect: StoreDialect) -> Result<ListPage, ListPageError> {
        if !self.has_expected_root {
            return Err(ListPageError::untrusted("it is not the listing that was requested"));
        }
        if self.count > MAX_ENTRIES {
            return Err(ListPageError::Untrusted(format!(
                "it has {} entries; the maximum is {MAX_ENTRIES}",
                self.count
            )));
        }
        let longest = [&self.token, &self.next_key, &self.next_version].map(|text| text.bytes.len()).into_iter().max();
        if longest.is_some_and(|longest| longest > MAX_MARKER_BYTES) {
            return Err(ListPageError::untrusted("its continuation marker is too long"));
        }
        let marker = self.next_position(self.all_versions, dialect);
        let next = if self.is_truncated(marker.is_some())? { marker } else { None };
        let entries =
            self.entries.iter().map(|entry| entry.to_listed_object(self.is_url_encoded, self.all_versions, dialect));
        let entries: Vec<_> = entries.collect();
        let prefixes = self.prefixes.iter().map(|prefix| parse_key(&prefix.bytes, self.is_url_encoded)).collect();
        let trailing_delete_marker = self.trailing_delete_marker(&entries, next.as_ref());
        let mut page = ListPage { entries, common_prefixes: prefixes, trailing_delete_marker, next };
        if page.next.is_some() && !self.has_exact_marker(dialect) {
            // A request with the server's marker would start somewhere else.
            page.next = page.last_position();
            if page.next.is_none() {
                return Err(ListPageError::untrusted("its continuation marker is not exact"));
            }
        }
        Ok(page)
    }

    /// Returns whether more pages follow, of which the first starts at the page's marker, if it has one.
    ///
    /// Some servers leave out `IsTruncated` on the last page. If they leave it out together with a marker, the listing
    /// continues there: if it is at its end already, that costs one empty page, and no object is missed. A full page
    /// without both is rejected, because it may not be the last one.
    fn is_truncated(&self, has_marker: bool) -> Result<bool, ListPageError> {
        let is_full = || {
            let full = self.page_size.filter(|size| *size > 0).map_or(MAX_ENTRIES, |size| size.min(MAX_ENTRIES));
            self.count + self.delete_markers >= full
        };
        let untrusted = |why| Err(ListPageError::untrusted(why));
        match (self.truncated.as_str(), has_marker) {
            ("true" | "", true) => Ok(true),
            ("true", false) => untrusted("it is truncated but has no continuation marker"),
            ("", false) if !self.version_1_marker.is_empty() => {
                untrusted("it continues at a marker of version 1 of ListObjects, but version 2 was requested")
            }
            ("", false) if is_full() => untrusted("it is full, but does not say whether it is truncated"),
            ("false", _) | ("", false) => Ok(false),
            _ => untrusted("it does not say whether it is truncated"),
        }
    }

    /// Returns the delete marker at the end of the page, if the page ends with one.
    ///
    /// Some servers send all objects of a page before its delete markers, so the order on the page proves nothing: the
    /// greater of the last two keys decides. If the keys are equal, the position where the server continues names the
    /// last of the two. Only if it names neither does the order on the page decide. Objects and delete markers whose
    /// names are not exact are left out of this.
    fn trailing_delete_marker(
        &self,
        entries: &[ListedObject],
        next: Option<&ListPosition>,
    ) -> Option<(ObjectKey, VersionId)> {
        let marker = self.last_delete_marker.as_ref().filter(|marker| self.all_versions && marker.is_exact())?;
        let deleted = (parse_key(&marker.key.bytes, self.is_url_encoded), version_id(&marker.version));
        let Some(last) = entries.iter().rfind(|entry| entry.inexact.is_none()) else { return Some(deleted) };
        let continues_after = |key: &ObjectKey, version: Option<&VersionId>| match next {
            Some(ListPosition::After { key: next_key, version: next_version }) => {
                next_key == key && next_version.as_ref() == version
            }
            _ => false,
        };
        let is_last_received = self.count_at_delete_marker == self.count;
        let is_last = match deleted.0.cmp(&last.key) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal if continues_after(&last.key, last.version.as_ref()) => false,
            Ordering::Equal => continues_after(&deleted.0, Some(&deleted.1)) || is_last_received,
        };
        is_last.then_some(deleted)
    }

    /// Returns whether the page has its token or markers exactly. A version ID or a token is text, a key is bytes.
    fn has_exact_marker(&self, dialect: StoreDialect) -> bool {
        if self.all_versions {
            return self.next_key.inexact.is_none() && exact_version(&self.next_version).is_some();
        }
        self.token.inexact.is_none() && std::str::from_utf8(&self.decoded_token(dialect)).is_ok()
    }

    /// Returns the continuation token. OSS encodes tokens like keys, S3 never does.
    fn decoded_token(&self, dialect: StoreDialect) -> Cow<'_, [u8]> {
        match dialect {
            StoreDialect::S3 => Cow::Borrowed(self.token.bytes.as_slice()),
            StoreDialect::Oss => decode_text(&self.token.bytes, self.is_url_encoded),
        }
    }

    /// Returns where the page says that the listing continues.
    fn next_position(&self, all_versions: bool, dialect: StoreDialect) -> Option<ListPosition> {
        if !all_versions {
            let token = self.decoded_token(dialect);
            return (!token.is_empty()).then(|| ListPosition::Token(String::from_utf8_lossy(&token).into_owned()));
        }
        let parse = |text: &PageText| parse_key(&text.bytes, self.is_url_encoded);
        let last = self.entries.last().map(|entry| parse(&entry.key));
        let deleted = self.last_delete_marker.as_ref().map(|marker| parse(&marker.key));
        let last = last.max(deleted);
        let version = Some(&self.next_version).filter(|id| !id.is_empty()).map(version_id);
        let key = marker_key(&self.next_key.bytes, self.is_url_encoded, last.as_ref());
        (!self.next_key.is_empty()).then_some(ListPosition::After { key, version })
    }
}

impl ParsedListEntry {
    fn read_field(&mut self, field: &str, raw: LenientText<'_>) {
        match field {
            "Key" => self.key = PageText::read(raw),
            "VersionId" => self.version = PageText::read(raw),
            "Size" => self.size = raw.to_text().trim().parse().ok(),
            "LastModified" => self.modified = parse_date(raw.to_text().trim()),
            "ETag" => self.etag = parse_etag(&raw.to_text()),
            "StorageClass" if !raw.bytes.is_empty() => self.class = Some(StorageClass::new(&raw.to_text())),
            _ => {}
        }
    }

    fn to_listed_object(&self, encoded: bool, all_versions: bool, dialect: StoreDialect) -> ListedObject {
        let mut key = parse_key(&self.key.bytes, encoded);
        let mut inexact = self.key.inexact;
        if key.as_bytes().len() > MAX_LISTED_KEY_BYTES {
            inexact = Some(InexactName::TooLong);
            key = ObjectKey::new(&key.as_bytes()[..MAX_LISTED_KEY_BYTES]);
        }
        if all_versions && exact_version(&self.version).is_none() {
            inexact = inexact.or(Some(InexactName::Version));
        }
        ListedObject {
            key,
            version: all_versions.then(|| version_id(&self.version)),
            size: self.size,
            last_modified: self.modified,
            class: self.class.clone().unwrap_or_else(|| StorageClass::new(dialect.standard_class())),
            etag: self.etag.clone(),
            inexact,
        }
    }
}

/// Returns the version ID of an entry, as far as it is text. An entry without one belongs to a bucket that never had
/// versioning.
fn version_id(text: &PageText) -> VersionId {
    if text.is_empty() { VersionId::null() } else { VersionId::new(&String::from_utf8_lossy(&text.bytes)) }
}

/// Returns the text of a version ID, or `None` if the page does not have it exactly.
fn exact_version(text: &PageText) -> Option<&str> {
    std::str::from_utf8(&text.bytes).ok().filter(|_| text.inexact.is_none())
}

/// Returns the `ETag` without quotes, or `None` if it is missing or too long to keep.
fn parse_etag(text: &str) -> Option<Box<str>> {
    let bare = text.trim().trim_matches('"');
    (!bare.is_empty() && bare.len() <= MAX_ETAG_BYTES).then(|| bare.into())
}

/// Checks that the page contains only keys with the requested prefix. A key that is too long is the caller's concern; a
/// prefix that is too long names nothing that could be requested.
fn validate_page(page: ListPage, prefix: &ObjectKey) -> Result<ListPage, String> {
    let mut prefixes = page.common_prefixes.iter().map(|prefix| prefix.as_bytes().len());
    if let Some(long) = prefixes.find(|length| *length > MAX_KEY_BYTES) {
        return Err(format!("it has a prefix of {long} bytes; the maximum is {MAX_KEY_BYTES}"));
    }
    if let Some(stray) = page.names().find(|key| !key.as_bytes().starts_with(prefix.as_bytes())) {
        return Err(format!("it has {stray}, which does not start with {prefix}"));
    }
    Ok(page)
}

fn parse_key(text: &[u8], encoded: bool) -> ObjectKey {
    ObjectKey::new(decode_text(text, encoded).into_owned())
}

/// Decodes a text of a listing. In URL encoding a space may be written as `+`; a plus sign is `%2B`.
fn decode_text(text: &[u8], encoded: bool) -> Cow<'_, [u8]> {
    if !encoded || memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// Returns the key of a marker. Radosgw does not encode markers, even if it encodes keys. Decoding such a marker
/// would give a different key, and the keys between the two would be listed twice or not at all. A marker that equals
/// the last key of its page is not encoded.
fn marker_key(marker: &[u8], encoded: bool, last: Option<&ObjectKey>) -> ObjectKey {
    let raw = ObjectKey::new(marker);
    if last == Some(&raw) { raw } else { parse_key(marker, encoded) }
}

#[cfg(test)]
mod tests;
