//! Reading a bucket's listing, a page at a time.
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/listobjectsv2> and `/listobjectversions`.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::OssStore;
use crate::object::{Key, StorageClass, VersionId};
use crate::store::wire::{Ask, Limit, Payload};
use crate::store::xml::{self, XmlFault};
use crate::store::{ListMark, ListPage, ListRequest, Listed};
use crate::task::Fault;

/// The most objects that a page has.
const PAGE: &str = "1000";

impl OssStore {
    pub(super) async fn page(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        let query = query(request);
        let ask = Ask {
            method: "GET",
            bucket: &request.bucket,
            key: None,
            query: &query,
            headers: Vec::new(),
            payload: Payload::none(),
        };
        let whole = self.wire.patiently(ask, Limit::Page).await?;
        read(&whole.body, request.all_versions).map_err(|why| {
            let in_words = self.wire.site().request("GET", &request.bucket, &Key::from(""), &query);
            whole.unreadable(&why.to_string(), in_words)
        })
    }
}

/// The query, in the order of its names. Keys are asked for in URL encoding: XML cannot carry every one.
fn query(request: &ListRequest) -> String {
    let mut pairs: Vec<(&str, String)> =
        vec![("encoding-type", "url".to_owned()), ("max-keys", PAGE.to_owned()), ("prefix", request.prefix.encoded())];
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
}

#[derive(Default)]
struct Entry {
    key: String,
    version: String,
    size: String,
    modified: String,
    class: String,
}

fn read(document: &[u8], all_versions: bool) -> Result<ListPage, XmlFault> {
    let mut page = Page::default();
    xml::read(document, |path, text| page.take(path, text))?;
    if page.whole { page.finished(all_versions) } else { Err(XmlFault::Malformed) }
}

impl Page {
    fn take(&mut self, path: &str, text: &str) {
        let Some((root, rest)) = path.split_once('/') else {
            self.whole = matches!(path, "ListBucketResult" | "ListVersionsResult");
            return;
        };
        if !matches!(root, "ListBucketResult" | "ListVersionsResult") {
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
            _ => self.entry.take(rest, text),
        }
    }

    fn finished(self, all_versions: bool) -> Result<ListPage, XmlFault> {
        let decoded = |text: &str| Key::new(decoded(text, self.encoded));
        let next = match (self.truncated, all_versions) {
            (false, _) => None,
            (true, false) if self.token.is_empty() => return Err(XmlFault::Malformed),
            (true, false) => {
                let token = decoded(&self.token);
                Some(ListMark::Token(String::from_utf8_lossy(token.as_bytes()).into_owned()))
            }
            (true, true) if self.next_key.is_empty() => return Err(XmlFault::Malformed),
            (true, true) => {
                let version = Some(self.next_version.as_str()).filter(|id| !id.is_empty()).map(VersionId::new);
                Some(ListMark::After { key: decoded(&self.next_key), version })
            }
        };
        let entries = self.entries.iter().map(|entry| entry.listed(self.encoded, all_versions));
        Ok(ListPage {
            entries: entries.collect::<Result<_, _>>()?,
            prefixes: self.prefixes.iter().map(|prefix| decoded(prefix)).collect(),
            next,
        })
    }
}

impl Entry {
    fn take(&mut self, path: &str, text: &str) {
        let to = match path {
            "Contents/Key" | "Version/Key" => &mut self.key,
            "Version/VersionId" => &mut self.version,
            "Contents/Size" | "Version/Size" => &mut self.size,
            "Contents/LastModified" | "Version/LastModified" => &mut self.modified,
            "Contents/StorageClass" | "Version/StorageClass" => &mut self.class,
            _ => return,
        };
        text.clone_into(to);
    }

    fn listed(&self, encoded: bool, all_versions: bool) -> Result<Listed, XmlFault> {
        let class = if self.class.is_empty() { "Standard" } else { &self.class };
        let version = if self.version.is_empty() { VersionId::null() } else { VersionId::new(&self.version) };
        Ok(Listed {
            key: Key::new(decoded(&self.key, encoded)),
            version: all_versions.then_some(version),
            size: self.size.parse().map_err(|_| XmlFault::Malformed)?,
            modified: self.modified.parse::<Timestamp>().map_err(|_| XmlFault::Malformed)?,
            class: StorageClass::new(class),
        })
    }
}

/// A text of a URL-encoded listing. A space may come as `+`; a plus itself comes as `%2B`.
fn decoded(text: &str, encoded: bool) -> Vec<u8> {
    if encoded { percent_decode_str(&text.replace('+', " ")).collect() } else { text.as_bytes().to_vec() }
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

    const ENTRY: &str = "<Key>a%2Bb+c</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"E\"</ETag>\
                         <Size>7</Size><Owner><ID>1</ID></Owner>";

    #[test]
    fn current_objects_are_read() {
        let document = format!(
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>t%2F1</NextContinuationToken><Contents>{ENTRY}<StorageClass>ColdArchive</StorageClass>\
             </Contents><CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>"
        );
        let page = read(document.as_bytes(), false).expect("a page");
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
        let page = read(document.as_bytes(), true).expect("a page");
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
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>k</Key>",
        ] {
            assert!(read(document.as_bytes(), false).is_err(), "{document}");
        }
    }
}
