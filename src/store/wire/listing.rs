//! Reading a bucket's listing, a page at a time.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, `API_ListObjectVersions.html`;
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/listobjectsv2>, `listobjectversions`.

use std::borrow::Cow;

use jiff::Timestamp;
use percent_encoding::percent_decode;

use super::answer::Limit;
use super::dialect::Dialect;
use super::payload::Payload;
use super::{Ask, Wire};
use crate::object::{Key, MAX_KEY_BYTES, StorageClass, VersionId};
use crate::store::fault::shortened;
use crate::store::xml::{self, XmlFault};
use crate::store::{ListMark, ListPage, ListRequest, Listed, MAX_ETAG};
use crate::task::{Fault, FaultClass};

/// The most keys and rolled-up prefixes that a page may have: it is asked for, and no server may send more.
const MAX_ENTRIES: usize = 1000;

/// The longest token or marker, in bytes: an escaped key of a kilobyte has three.
const MAX_MARK: usize = 8192;

/// Why a page is not taken.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    /// It is no document, or not all of one.
    Unreadable(XmlFault),
    /// It is not what an honest server sends: an end that is none would be a listing with a gap, and a key from elsewhere
    /// an object that nobody asked for.
    Untrusted(String),
}

impl Unusable {
    fn untrusted(why: &str) -> Self {
        Self::Untrusted(why.to_owned())
    }
}

impl Wire {
    /// Asks for a page of a listing.
    ///
    /// # Errors
    /// Whatever is not a page, classified.
    pub(in crate::store) async fn page(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        let query = query(request);
        let ask = Ask {
            method: "GET",
            bucket: &request.bucket,
            key: None,
            query: &query,
            headers: Vec::new(),
            payload: Payload::none(),
        };
        let whole = self.patiently(ask, Limit::Page).await?;
        read(&whole.body, request, self.dialect).map_err(|why| {
            let in_words = self.site.request("GET", &request.bucket, &Key::from(""), &query);
            match why {
                Unusable::Unreadable(fault) => whole.unreadable(&fault.to_string(), in_words),
                Unusable::Untrusted(why) => {
                    let message = shortened(&format!("a page of the listing cannot be trusted: {why}"));
                    Fault::unanswered(FaultClass::Rejected, "InvalidListing", &message, in_words)
                }
            }
        })
    }
}

/// The query, in the order of its names. Keys are asked for in URL encoding: XML cannot carry every one.
fn query(request: &ListRequest) -> String {
    let mut pairs: Vec<(&str, String)> = vec![
        ("encoding-type", "url".to_owned()),
        ("max-keys", MAX_ENTRIES.to_string()),
        ("prefix", request.prefix.encoded()),
    ];
    if request.directories {
        pairs.push(("delimiter", "%2F".to_owned()));
    }
    match (&request.from, request.all_versions) {
        (Some(ListMark::Token(token)), false) => {
            pairs.push(("continuation-token", Key::from(token.as_str()).encoded()));
        }
        (Some(ListMark::After { key, .. }), false) => pairs.push(("start-after", key.encoded())),
        (Some(ListMark::After { key, version }), true) => {
            pairs.push(("key-marker", key.encoded()));
            if let Some(version) = version {
                pairs.push(("version-id-marker", Key::from(version.as_str()).encoded()));
            }
        }
        (Some(ListMark::Token(_)), true) | (None, _) => {}
    }
    pairs.push(if request.all_versions { ("versions", String::new()) } else { ("list-type", "2".to_owned()) });
    pairs.retain(|(name, value)| !value.is_empty() || *name == "versions");
    pairs.sort_unstable_by_key(|(name, _)| *name);
    let pair = |(name, value): &(&str, String)| {
        if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") }
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// What a page says, as it is read.
#[derive(Default)]
struct Page {
    all_versions: bool,
    encoded: bool,
    /// Whether more follows, as soon as that is said.
    truncated: Option<bool>,
    whole: bool,
    token: String,
    next_key: String,
    next_version: String,
    prefixes: Vec<String>,
    entries: Vec<Entry>,
    /// Keys and prefixes, of which no more are kept than a page may have.
    count: usize,
    entry: Entry,
    /// The last key, of a delete marker perhaps.
    last: String,
}

#[derive(Default)]
struct Entry {
    key: String,
    version: String,
    size: Option<u64>,
    modified: Option<Timestamp>,
    class: Option<StorageClass>,
    etag: Option<Box<str>>,
}

fn read(document: &[u8], request: &ListRequest, dialect: Dialect) -> Result<ListPage, Unusable> {
    let mut page = Page { all_versions: request.all_versions, ..Page::default() };
    xml::read(document, |path, text| page.take(path, text)).map_err(Unusable::Unreadable)?;
    trusted(page.finished(dialect)?, &request.prefix).map_err(Unusable::Untrusted)
}

impl Page {
    /// The document's root, and what it calls an object.
    fn names(&self) -> (&'static str, &'static str) {
        if self.all_versions { ("ListVersionsResult", "Version") } else { ("ListBucketResult", "Contents") }
    }

    fn take(&mut self, path: &str, text: &str) {
        let (root, object) = self.names();
        let Some(rest) = path.strip_prefix(root) else { return };
        let Some(rest) = rest.strip_prefix('/') else {
            self.whole |= rest.is_empty();
            return;
        };
        match rest {
            "EncodingType" => self.encoded = text == "url",
            "IsTruncated" => self.truncated = text.trim().parse().ok(),
            "NextContinuationToken" => text.clone_into(&mut self.token),
            "NextKeyMarker" => text.clone_into(&mut self.next_key),
            "NextVersionIdMarker" => text.clone_into(&mut self.next_version),
            "CommonPrefixes/Prefix" if self.has_room() => self.prefixes.push(text.to_owned()),
            // Delete markers are no objects.
            "DeleteMarker" => self.entry = Entry::default(),
            "DeleteMarker/Key" => text.clone_into(&mut self.last),
            rest if rest == object => {
                let entry = std::mem::take(&mut self.entry);
                if self.has_room() {
                    self.entries.push(entry);
                }
            }
            rest => {
                if let Some(field) = rest.strip_prefix(object).and_then(|field| field.strip_prefix('/')) {
                    self.entry.take(field, text);
                }
            }
        }
    }

    /// Whether there may be one more key or prefix, which is then there.
    fn has_room(&mut self) -> bool {
        self.count += 1;
        self.count <= MAX_ENTRIES
    }

    fn finished(self, dialect: Dialect) -> Result<ListPage, Unusable> {
        if !self.whole {
            return Err(Unusable::untrusted("it is another document than a listing of what was asked for"));
        }
        if self.count > MAX_ENTRIES {
            return Err(Unusable::Untrusted(format!("it has {} entries, and the most is {MAX_ENTRIES}", self.count)));
        }
        let longest = [&self.token, &self.next_key, &self.next_version].map(String::len).into_iter().max();
        if longest.is_some_and(|longest| longest > MAX_MARK) {
            return Err(Unusable::untrusted("where to go on is longer than any key or token"));
        }
        let truncated = self.truncated.ok_or_else(|| Unusable::untrusted("it does not say whether more follows"))?;
        let next = if truncated { self.next(self.all_versions, dialect) } else { None };
        if truncated && next.is_none() {
            return Err(Unusable::untrusted("it says that there is more, and not where to go on"));
        }
        let entries = self.entries.iter().map(|entry| entry.listed(self.encoded, self.all_versions, dialect));
        Ok(ListPage {
            entries: entries.collect::<Result<_, _>>()?,
            prefixes: self.prefixes.iter().map(|prefix| key(prefix, self.encoded)).collect(),
            next,
        })
    }

    fn next(&self, all_versions: bool, dialect: Dialect) -> Option<ListMark> {
        if !all_versions {
            // OSS encodes tokens as it does keys, and S3 never does.
            let token = match dialect {
                Dialect::S3 => Cow::Borrowed(self.token.as_bytes()),
                Dialect::Oss => decoded(&self.token, self.encoded),
            };
            return (!token.is_empty()).then(|| ListMark::Token(String::from_utf8_lossy(&token).into_owned()));
        }
        let last = self.entries.last().map(|entry| key(&entry.key, self.encoded));
        let last = last.max(Some(key(&self.last, self.encoded)));
        let version = Some(self.next_version.as_str()).filter(|id| !id.is_empty()).map(VersionId::new);
        let key = marker_key(&self.next_key, self.encoded, last.as_ref());
        (!self.next_key.is_empty()).then_some(ListMark::After { key, version })
    }
}

impl Entry {
    fn take(&mut self, field: &str, text: &str) {
        match field {
            "Key" => text.clone_into(&mut self.key),
            "VersionId" => text.clone_into(&mut self.version),
            "Size" => self.size = text.trim().parse().ok(),
            "LastModified" => self.modified = text.trim().parse().ok(),
            "ETag" => self.etag = etag(text),
            "StorageClass" if !text.is_empty() => self.class = Some(StorageClass::new(text)),
            _ => {}
        }
    }

    fn listed(&self, encoded: bool, all_versions: bool, dialect: Dialect) -> Result<Listed, Unusable> {
        let lacks = |what: &str| Unusable::Untrusted(format!("{} has no {what} that can be read", self.key));
        let version = if self.version.is_empty() { VersionId::null() } else { VersionId::new(&self.version) };
        Ok(Listed {
            key: key(&self.key, encoded),
            version: all_versions.then_some(version),
            size: self.size.ok_or_else(|| lacks("Size"))?,
            modified: self.modified.ok_or_else(|| lacks("LastModified"))?,
            class: self.class.clone().unwrap_or_else(|| StorageClass::new(dialect.standard_class())),
            etag: self.etag.clone(),
        })
    }
}

/// An `ETag` without its quotes; none where there is none that can be kept.
fn etag(text: &str) -> Option<Box<str>> {
    let bare = text.trim().trim_matches('"');
    (!bare.is_empty() && bare.len() <= MAX_ETAG).then(|| bare.into())
}

/// A page, unless it names what was not asked for, or no server can have.
fn trusted(page: ListPage, prefix: &Key) -> Result<ListPage, String> {
    let keys = || page.entries.iter().map(|entry| &entry.key).chain(&page.prefixes);
    if let Some(long) = keys().map(|key| key.as_bytes().len()).find(|length| *length > MAX_KEY_BYTES) {
        return Err(format!("it names a key of {long} bytes, and the most is {MAX_KEY_BYTES}"));
    }
    match keys().find(|key| !key.as_bytes().starts_with(prefix.as_bytes())) {
        Some(stray) => Err(format!("it names {stray}, which does not begin with {prefix}")),
        None => Ok(page),
    }
}

fn key(text: &str, encoded: bool) -> Key {
    Key::new(decoded(text, encoded).into_owned())
}

/// A text of a listing. Where it is URL-encoded a space may come as `+`; a plus itself comes as `%2B`.
fn decoded(text: &str, encoded: bool) -> Cow<'_, [u8]> {
    let text = text.as_bytes();
    if !encoded || memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// The key of a marker. Radosgw does not encode it where it encodes keys; decoded, it would be another key, and what lies
/// between the two would be listed twice or not at all. It is the last key of its page that tells.
fn marker_key(marker: &str, encoded: bool, last: Option<&Key>) -> Key {
    let raw = Key::from(marker);
    if last == Some(&raw) { raw } else { key(marker, encoded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Bucket;

    fn request(from: Option<ListMark>, all_versions: bool) -> ListRequest {
        ListRequest { bucket: Bucket::new("b"), prefix: Key::from("a b/&"), all_versions, directories: false, from }
    }

    #[test]
    fn the_query_is_in_the_order_of_its_names() {
        let after = |version: Option<&str>| {
            Some(ListMark::After { key: Key::from("é"), version: version.map(VersionId::new) })
        };
        let prefix = "max-keys=1000&prefix=a%20b%2F%26";
        assert_eq!(query(&request(None, false)), format!("encoding-type=url&list-type=2&{prefix}"));
        assert_eq!(
            query(&request(Some(ListMark::Token("t/+=".to_owned())), false)),
            format!("continuation-token=t%2F%2B%3D&encoding-type=url&list-type=2&{prefix}")
        );
        assert_eq!(
            query(&request(after(None), false)),
            format!("encoding-type=url&list-type=2&{prefix}&start-after=%C3%A9")
        );
        assert_eq!(
            query(&request(after(Some("v/1")), true)),
            format!("encoding-type=url&key-marker=%C3%A9&{prefix}&version-id-marker=v%2F1&versions")
        );
        let everything = ListRequest { prefix: Key::from(""), directories: true, ..request(None, true) };
        assert_eq!(query(&everything), "delimiter=%2F&encoding-type=url&max-keys=1000&versions");
    }

    fn page_of(document: &str, all_versions: bool) -> Result<ListPage, Unusable> {
        read(document.as_bytes(), &ListRequest { prefix: Key::from(""), ..request(None, all_versions) }, Dialect::Oss)
    }

    const ENTRY: &str = "<Key>a%2Bb+c</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"E\"</ETag>\
                         <Size>7</Size><Owner><ID>1</ID></Owner>";

    #[test]
    fn current_objects_are_read() {
        let document = format!(
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>t%2F1</NextContinuationToken><Contents>{ENTRY}<StorageClass>ColdArchive</StorageClass>\
             </Contents><CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>"
        );
        let page = page_of(&document, false).expect("a page");
        assert_eq!(page.next, Some(ListMark::Token("t/1".to_owned())));
        assert_eq!(page.prefixes, [Key::from("d/")]);
        let [entry] = &page.entries[..] else { panic!("{page:?}") };
        assert_eq!((&entry.key, entry.size, entry.class.as_str()), (&Key::from("a+b c"), 7, "ColdArchive"));
        assert_eq!((entry.version.clone(), entry.modified.as_second()), (None, 1_767_323_045));
    }

    #[test]
    fn versions_are_read_and_delete_markers_left_out() {
        let version = |id: &str| format!("<Version>{ENTRY}<VersionId>{id}</VersionId></Version>");
        let document = format!(
            "<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <NextKeyMarker>k%20</NextKeyMarker><NextVersionIdMarker>v%2F</NextVersionIdMarker>{}\
             <DeleteMarker>{ENTRY}<VersionId>m</VersionId></DeleteMarker>{}</ListVersionsResult>",
            version("v1"),
            version("null")
        );
        let page = page_of(&document, true).expect("a page");
        // Version ids are never encoded.
        let next = ListMark::After { key: Key::from("k "), version: Some(VersionId::new("v%2F")) };
        assert_eq!(page.next, Some(next));
        let ids: Vec<_> =
            page.entries.iter().filter_map(|entry| entry.version.as_ref()).map(VersionId::as_str).collect();
        assert_eq!(ids, ["v1", "null"]);
        assert_eq!(page.entries[0].class.as_str(), "Standard");
    }

    fn refused(document: &str, all_versions: bool) -> String {
        match page_of(document, all_versions) {
            Err(Unusable::Untrusted(why)) => why,
            other => panic!("{document}: {other:?}"),
        }
    }

    #[test]
    fn a_document_that_is_cut_is_no_page() {
        let cut = page_of("<ListBucketResult><Contents><Key>k</Key>", false);
        assert_eq!(cut.err(), Some(Unusable::Unreadable(XmlFault::Malformed)));
    }

    #[test]
    fn a_page_of_another_kind_than_was_asked_for_is_refused() {
        let other = "it is another document than a listing of what was asked for";
        let objects = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{ENTRY}</Contents></ListBucketResult>"
        );
        assert_eq!(refused(&objects, true), other);
        for document in
            ["<Other/>", "<html><body>Welcome</body></html>", "<ListVersionsResult/>", "<ListBucketResults/>"]
        {
            assert_eq!(refused(document, false), other, "{document}");
        }
    }

    #[test]
    fn a_page_that_does_not_say_how_to_go_on_is_refused() {
        let page = |inside: &str| format!("<ListBucketResult>{inside}</ListBucketResult>");
        let token = "<NextContinuationToken>t</NextContinuationToken>";
        let truncated = |value: &str| page(&format!("<IsTruncated>{value}</IsTruncated>{token}"));
        assert_eq!(page_of(&truncated("\n true\n"), false).unwrap().next, Some(ListMark::Token("t".to_owned())));
        for document in [page(token), truncated("yes"), truncated(""), page("")] {
            assert_eq!(refused(&document, false), "it does not say whether more follows", "{document}");
        }
        let nowhere = page("<IsTruncated>true</IsTruncated>");
        assert_eq!(refused(&nowhere, false), "it says that there is more, and not where to go on");
        let versions = "<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>";
        assert_eq!(refused(versions, true), "it says that there is more, and not where to go on");
    }

    #[test]
    fn an_entry_without_size_or_date_is_refused_by_its_name() {
        let page = |field: &str| {
            format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key>{field}</Contents></ListBucketResult>"
            )
        };
        assert_eq!(refused(&page(""), false), "k has no Size that can be read");
        assert_eq!(refused(&page("<Size>-1</Size>"), false), "k has no Size that can be read");
        assert_eq!(refused(&page("<Size>1</Size>"), false), "k has no LastModified that can be read");
    }

    #[test]
    fn more_entries_than_were_asked_for_are_refused_and_not_kept() {
        let page = |keys: usize, prefixes: usize| {
            format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated>{}{}</ListBucketResult>",
                format!("<Contents>{ENTRY}</Contents>").repeat(keys),
                "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>".repeat(prefixes)
            )
        };
        assert_eq!(page_of(&page(1000, 0), false).unwrap().entries.len(), 1000);
        assert_eq!(refused(&page(1000, 1), false), "it has 1001 entries, and the most is 1000");
        let mut read = Page::default();
        xml::read(page(5000, 5000).as_bytes(), |path, text| read.take(path, text)).unwrap();
        assert_eq!((read.entries.len(), read.prefixes.len(), read.count), (1000, 0, 10_000));
    }

    #[test]
    fn etags_are_read_without_their_quotes_and_kept_up_to_a_length() {
        let of = |element: &str| {
            let entry = ENTRY.replace("<ETag>\"E\"</ETag>", element);
            let page = format!(
                "<ListVersionsResult><IsTruncated>false</IsTruncated><Version>{entry}</Version><Version>{ENTRY}</Version>\
                 </ListVersionsResult>"
            );
            let page = page_of(&page, true).expect("a page");
            assert_eq!(page.entries[1].etag.as_deref(), Some("E"));
            page.entries[0].etag.clone()
        };
        assert_eq!(of("<ETag>&quot;9B2-3&quot;</ETag>").as_deref(), Some("9B2-3"));
        assert_eq!(of("<ETag>bare</ETag>").as_deref(), Some("bare"));
        for none in [String::new(), "<ETag/>".to_owned(), format!("<ETag>\"{}\"</ETag>", "e".repeat(MAX_ETAG + 1))] {
            assert_eq!(of(&none), None, "{none:.40}");
        }
        assert_eq!(of(&format!("<ETag>\"{}\"</ETag>", "e".repeat(MAX_ETAG))).map(|etag| etag.len()), Some(MAX_ETAG));
    }

    #[test]
    fn what_s3_leaves_out_or_does_not_encode_is_known() {
        let document = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t%2F+1</NextContinuationToken>\
             <Contents>{ENTRY}</Contents><EncodingType>url</EncodingType></ListBucketResult>"
        );
        let asked = ListRequest { prefix: Key::from("a+"), ..request(None, false) };
        let page = read(document.as_bytes(), &asked, Dialect::S3).expect("a page");
        assert_eq!(page.next, Some(ListMark::Token("t%2F+1".to_owned())));
        assert_eq!((&page.entries[0].key, page.entries[0].class.as_str()), (&Key::from("a+b c"), "STANDARD"));
        let plain = document.replace("<EncodingType>url</EncodingType>", "");
        let page = page_of(&plain, false).expect("a page");
        assert_eq!(page.entries[0].key, Key::from("a%2Bb+c"));
    }

    #[test]
    fn a_marker_that_is_not_encoded_is_taken_as_it_is() {
        let last = Key::from("k+%7E");
        assert_eq!(marker_key("k+%7E", true, Some(&last)), last);
        assert_eq!(marker_key("k%2B%257E", true, Some(&last)), last);
        assert_eq!(marker_key("k%2B/", true, Some(&last)), Key::from("k+/"));
        assert_eq!(marker_key("k+%7E", false, None), last);
    }

    #[test]
    fn a_key_from_elsewhere_is_refused() {
        let document = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{ENTRY}</Contents></ListBucketResult>"
        );
        let asked = ListRequest { prefix: Key::from("b"), ..request(None, false) };
        let why = read(document.as_bytes(), &asked, Dialect::S3).unwrap_err();
        assert_eq!(why, Unusable::untrusted("it names a%2Bb+c, which does not begin with b"));
        let long = document.replace("a%2Bb+c", &"k".repeat(1025));
        assert_eq!(refused(&long, false), "it names a key of 1025 bytes, and the most is 1024");
        let mark = format!("<NextContinuationToken>{}</NextContinuationToken><Contents>", "t".repeat(8193));
        let endless = document.replace("<Contents>", &mark);
        assert_eq!(refused(&endless, false), "where to go on is longer than any key or token");
    }
}
