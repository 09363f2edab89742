//! Reading a bucket's listing, a page at a time.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, ObjectStorageClass, ObjectVersionStorageClass};
use jiff::Timestamp;
use percent_encoding::percent_decode;

use super::{S3Store, text};
use crate::object::{Key, StorageClass, VersionId};
use crate::store::{ListMark, ListPage, ListRequest, Listed};
use crate::task::Fault;

impl S3Store {
    pub(super) async fn list_current(&self, request: &ListRequest) -> Result<ListPage, Fault> {
        let endpoint = self.site.request("GET", &request.bucket, &Key::from(""), "list-type=2");
        let token = match &request.from {
            Some(ListMark::Token(token)) => Some(token.clone()),
            _ => None,
        };
        let output = self
            .client
            .list_objects_v2()
            .bucket(request.bucket.as_str())
            .prefix(text(&request.prefix))
            .set_delimiter(request.directories.then(|| "/".to_owned()))
            .set_continuation_token(token)
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(|error| self.fault(error, endpoint))?;
        let encoded = output.encoding_type() == Some(&EncodingType::Url);
        let entries = output.contents().iter().map(|object| Listed {
            key: key(object.key(), encoded),
            version: None,
            size: size(object.size()),
            modified: timestamp(object.last_modified()),
            class: class(object.storage_class().map(ObjectStorageClass::as_str)),
        });
        Ok(ListPage {
            entries: entries.collect(),
            prefixes: output.common_prefixes().iter().map(|common| key(common.prefix(), encoded)).collect(),
            next: output
                .next_continuation_token()
                .filter(|_| output.is_truncated() == Some(true))
                .map(|token| ListMark::Token(token.to_owned())),
        })
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
            .send()
            .await
            .map_err(|error| self.fault(error, endpoint))?;
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
        let next = output.next_key_marker().filter(|_| output.is_truncated() == Some(true)).map(|marker| {
            let version = output.next_version_id_marker().filter(|id| !id.is_empty()).map(VersionId::new);
            ListMark::After { key: key(Some(marker), encoded), version }
        });
        Ok(ListPage {
            entries: entries.collect(),
            prefixes: output.common_prefixes().iter().map(|common| key(common.prefix(), encoded)).collect(),
            next,
        })
    }
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
}
