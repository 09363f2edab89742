//! Reading a bucket's listing, a page at a time.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, ObjectStorageClass, ObjectVersionStorageClass};
use jiff::Timestamp;
use percent_encoding::percent_decode;

use super::interceptors::WholeListing;
use super::{S3Store, text};
use crate::object::{Key, StorageClass, VersionId};
use crate::store::{ListMark, ListPage, ListRequest, Listed};
use crate::task::{Fault, FaultClass};

/// The most keys and rolled-up prefixes that a page may have: no server may send more than it was asked for, and nobody
/// asks for more than the default.
const MAX_ENTRIES: usize = 1000;

impl S3Store {
    pub(super) async fn list_current(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        let endpoint = self.site.request("GET", &request.bucket, &Key::from(""), "list-type=2");
        let (token, start_after) = match &request.from {
            Some(ListMark::Token(token)) => (Some(token.clone()), None),
            Some(ListMark::After { key, .. }) => (None, Some(text(key))),
            None => (None, None),
        };
        let output = self
            .client
            .list_objects_v2()
            .bucket(request.bucket.as_str())
            .prefix(text(&request.prefix))
            .set_delimiter(request.directories.then(|| "/".to_owned()))
            .set_continuation_token(token)
            .set_start_after(start_after)
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(WholeListing)
            .send()
            .await
            .map_err(|error| self.fault(error, endpoint.clone()))?;
        let encoded = output.encoding_type() == Some(&EncodingType::Url);
        let entries = output.contents().iter().map(|object| Listed {
            key: key(object.key(), encoded),
            version: None,
            size: size(object.size()),
            modified: timestamp(object.last_modified()),
            class: class(object.storage_class().map(ObjectStorageClass::as_str)),
        });
        let token = output.next_continuation_token().filter(|token| !token.is_empty());
        let page = ListPage {
            entries: entries.collect(),
            prefixes: output.common_prefixes().iter().map(|common| key(common.prefix(), encoded)).collect(),
            next: token.filter(|_| output.is_truncated() == Some(true)).map(|token| ListMark::Token(token.to_owned())),
        };
        trusted(page, &request.prefix, output.is_truncated()).map_err(|why| untrusted(&why, endpoint))
    }

    pub(super) async fn list_versions(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        let endpoint = self.site.request("GET", &request.bucket, &Key::from(""), "versions");
        let (key_marker, version_marker) = match &request.from {
            Some(ListMark::After { key, version }) => {
                (Some(text(key)), version.as_ref().map(|v| v.as_str().to_owned()))
            }
            _ => (None, None),
        };
        let output = self
            .client
            .list_object_versions()
            .bucket(request.bucket.as_str())
            .prefix(text(&request.prefix))
            .set_delimiter(request.directories.then(|| "/".to_owned()))
            .set_key_marker(key_marker)
            .set_version_id_marker(version_marker)
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(WholeListing)
            .send()
            .await
            .map_err(|error| self.fault(error, endpoint.clone()))?;
        let encoded = output.encoding_type() == Some(&EncodingType::Url);
        let entries = output.versions().iter().map(|version| Listed {
            key: key(version.key(), encoded),
            version: Some(
                version.version_id().filter(|id| !id.is_empty()).map_or_else(VersionId::null, VersionId::new),
            ),
            size: size(version.size()),
            modified: timestamp(version.last_modified()),
            class: class(version.storage_class().map(ObjectVersionStorageClass::as_str)),
        });
        let marker = output.next_key_marker().filter(|marker| !marker.is_empty());
        let next = marker.filter(|_| output.is_truncated() == Some(true)).map(|marker| {
            let version = output.next_version_id_marker().filter(|id| !id.is_empty()).map(VersionId::new);
            let versions = output.versions().iter().map(|version| version.key());
            let listed = versions.chain(output.delete_markers().iter().map(|marker| marker.key()));
            let last = listed.map(|listed| key(listed, encoded)).max();
            ListMark::After { key: marker_key(marker, encoded, last.as_ref()), version }
        });
        let page = ListPage {
            entries: entries.collect(),
            prefixes: output.common_prefixes().iter().map(|common| key(common.prefix(), encoded)).collect(),
            next,
        };
        trusted(page, &request.prefix, output.is_truncated()).map_err(|why| untrusted(&why, endpoint))
    }
}

/// A page, unless it shows that the server does not list as S3 does: an end that is none would be a listing with a gap,
/// and a key from elsewhere an object that nobody asked for.
fn trusted(page: ListPage, prefix: &Key, truncated: Option<bool>) -> Result<ListPage, String> {
    if truncated == Some(true) && page.next.is_none() {
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

fn untrusted(why: &str, endpoint: String) -> Fault {
    let message = format!("a page of the listing cannot be trusted: {why}");
    Fault::unanswered(FaultClass::Rejected, "InvalidListing", &message, endpoint)
}

/// A listed key. In a URL-encoded listing a space may come as `+`; a plus itself comes as `%2B`.
fn key(text: Option<&str>, encoded: bool) -> Key {
    let text = text.unwrap_or_default();
    if !encoded {
        return Key::from(text);
    }
    let spaced = text.replace('+', " ");
    Key::new(percent_decode(spaced.as_bytes()).collect::<Vec<u8>>())
}

/// The key of a marker. Radosgw does not encode it where it encodes keys; decoded, it would be another key, and what lies
/// between the two would be listed twice or not at all. It is the last key of its page that tells.
fn marker_key(marker: &str, encoded: bool, last: Option<&Key>) -> Key {
    let raw = Key::from(marker);
    if last == Some(&raw) { raw } else { key(Some(marker), encoded) }
}

/// A listing leaves the class out where it is STANDARD.
fn class(name: Option<&str>) -> StorageClass {
    StorageClass::new(name.filter(|name| !name.is_empty()).unwrap_or("STANDARD"))
}

fn size(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

fn timestamp(time: Option<&DateTime>) -> Timestamp {
    time.and_then(|time| Timestamp::from_second(time.secs()).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded_once_where_the_server_encoded_them() {
        assert_eq!(key(Some("a%2Bb+c%2520"), true), Key::from("a+b c%20"));
        assert_eq!(key(Some("a%2Bb+c"), false), Key::from("a%2Bb+c"));
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
        assert_eq!(check(page(1000, &[], Some("t")), Some(true)), Ok(1000));
        assert_eq!(check(page(2, &["p/a/"], None), Some(false)), Ok(2));
        assert_eq!(check(page(0, &[], None), None), Ok(0));
        assert!(check(page(3, &[], None), Some(true)).unwrap_err().contains("not where to go on"));
        assert!(check(page(1000, &["p/a/"], None), None).unwrap_err().contains("1001 entries"));
        assert!(check(page(1, &["q/"], None), None).unwrap_err().contains("q/, which does not begin with p/"));
        assert!(trusted(page(1, &[], None), &Key::from("q"), None).unwrap_err().contains("p/0"));
    }
}
