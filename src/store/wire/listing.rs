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
use crate::object::{Key, StorageClass, VersionId};
use crate::store::xml::{self, XmlFault};
use crate::store::{ListMark, ListPage, ListRequest, Listed};
use crate::task::{Fault, FaultClass};

/// The most keys and rolled-up prefixes that a page may have: it is asked for, and no server may send more.
const MAX_ENTRIES: usize = 1000;

/// Why a page is not taken.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    /// It is no listing, or not all of one.
    Unreadable(XmlFault),
    /// It is not what an honest server sends: an end that is none would be a listing with a gap, and a key from elsewhere
    /// an object that nobody asked for.
    Untrusted(String),
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
                    let message = format!("a page of the listing cannot be trusted: {why}");
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
    encoded: bool,
    truncated: bool,
    whole: bool,
    token: String,
    next_key: String,
    next_version: String,
    prefixes: Vec<String>,
    entries: Vec<Entry>,
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
}

fn read(document: &[u8], request: &ListRequest, dialect: Dialect) -> Result<ListPage, Unusable> {
    let mut page = Page::default();
    xml::read(document, |path, text| page.take(path, text)).map_err(Unusable::Unreadable)?;
    let read = if page.whole { page.finished(request.all_versions, dialect) } else { Err(XmlFault::Malformed) };
    let (page, truncated) = read.map_err(Unusable::Unreadable)?;
    trusted(page, &request.prefix, truncated).map_err(Unusable::Untrusted)
}

impl Page {
    fn take(&mut self, path: &str, text: &str) {
        let Some((root, rest)) = path.split_once('/') else {
            self.whole = is_listing(path);
            return;
        };
        if !is_listing(root) {
            return;
        }
        match rest {
            "EncodingType" => self.encoded = text == "url",
            "IsTruncated" => self.truncated = text == "true",
            "NextContinuationToken" => text.clone_into(&mut self.token),
            "NextKeyMarker" => text.clone_into(&mut self.next_key),
            "NextVersionIdMarker" => text.clone_into(&mut self.next_version),
            "CommonPrefixes/Prefix" => self.prefixes.push(text.to_owned()),
            "Contents" | "Version" => self.entries.push(std::mem::take(&mut self.entry)),
            // Delete markers are no objects.
            "DeleteMarker" => self.entry = Entry::default(),
            "DeleteMarker/Key" => text.clone_into(&mut self.last),
            _ => self.entry.take(rest, text),
        }
    }

    /// The page, and whether it says that more follows.
    fn finished(self, all_versions: bool, dialect: Dialect) -> Result<(ListPage, bool), XmlFault> {
        let entries = self.entries.iter().map(|entry| entry.listed(self.encoded, all_versions, dialect));
        let page = ListPage {
            entries: entries.collect::<Result<_, _>>()?,
            prefixes: self.prefixes.iter().map(|prefix| key(prefix, self.encoded)).collect(),
            next: self.truncated.then(|| self.next(all_versions, dialect)).flatten(),
        };
        Ok((page, self.truncated))
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

/// Whether a document of this root is a listing.
fn is_listing(root: &str) -> bool {
    matches!(root, "ListBucketResult" | "ListVersionsResult")
}

impl Entry {
    fn take(&mut self, path: &str, text: &str) {
        match path {
            "Contents/Key" | "Version/Key" => text.clone_into(&mut self.key),
            "Version/VersionId" => text.clone_into(&mut self.version),
            "Contents/Size" | "Version/Size" => self.size = text.parse().ok(),
            "Contents/LastModified" | "Version/LastModified" => self.modified = text.parse().ok(),
            "Contents/StorageClass" | "Version/StorageClass" if !text.is_empty() => {
                self.class = Some(StorageClass::new(text));
            }
            _ => {}
        }
    }

    fn listed(&self, encoded: bool, all_versions: bool, dialect: Dialect) -> Result<Listed, XmlFault> {
        let version = if self.version.is_empty() { VersionId::null() } else { VersionId::new(&self.version) };
        Ok(Listed {
            key: key(&self.key, encoded),
            version: all_versions.then_some(version),
            size: self.size.ok_or(XmlFault::Malformed)?,
            modified: self.modified.ok_or(XmlFault::Malformed)?,
            class: self.class.clone().unwrap_or_else(|| StorageClass::new(dialect.standard_class())),
        })
    }
}

/// A page, unless it shows that the server does not list as the protocol has it.
fn trusted(page: ListPage, prefix: &Key, truncated: bool) -> Result<ListPage, String> {
    if truncated && page.next.is_none() {
        return Err("it says that there is more, and not where to go on".to_owned());
    }
    let entries = page.entries.len() + page.prefixes.len();
    if entries > MAX_ENTRIES {
        return Err(format!("it has {entries} entries, and the most is {MAX_ENTRIES}"));
    }
    let keys = page.entries.iter().map(|entry| &entry.key).chain(&page.prefixes);
    match keys.into_iter().find(|key| !key.as_bytes().starts_with(prefix.as_bytes())) {
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

    #[test]
    fn what_cannot_be_gone_on_from_or_believed_is_refused() {
        for document in [
            "<Other/>",
            "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>k</Key>",
        ] {
            assert_eq!(page_of(document, false).err(), Some(Unusable::Unreadable(XmlFault::Malformed)), "{document}");
        }
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

    fn page(keys: usize, prefixes: &[&str], next: Option<&str>) -> ListPage {
        let entry = |number| Listed {
            key: Key::from(format!("p/{number}").as_str()),
            version: None,
            size: 0,
            modified: Timestamp::UNIX_EPOCH,
            class: StorageClass::new("STANDARD"),
        };
        ListPage {
            entries: (0..keys).map(entry).collect(),
            prefixes: prefixes.iter().map(|prefix| Key::from(*prefix)).collect(),
            next: next.map(|token| ListMark::Token(token.to_owned())),
        }
    }

    #[test]
    fn a_page_that_no_honest_server_sends_is_refused() {
        let check = |page, truncated| trusted(page, &Key::from("p/"), truncated).map(|page| page.entries.len());
        assert_eq!(check(page(1000, &[], Some("t")), true), Ok(1000));
        assert_eq!(check(page(2, &["p/a/"], None), false), Ok(2));
        assert_eq!(check(page(0, &[], None), false), Ok(0));
        assert!(check(page(3, &[], None), true).unwrap_err().contains("not where to go on"));
        assert!(check(page(1000, &["p/a/"], None), false).unwrap_err().contains("1001 entries"));
        assert!(check(page(1, &["q/"], None), false).unwrap_err().contains("q/, which does not begin with p/"));
        assert!(trusted(page(1, &[], None), &Key::from("q"), false).unwrap_err().contains("p/0"));
    }
}
