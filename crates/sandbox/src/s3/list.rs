//! The three listings: `ListObjects`, `ListObjectsV2`, and `ListObjectVersions`.

use percent_encoding::percent_encode;
use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{etag, invalid_argument, length, owner, to_s3_time};
use crate::listing::{self, KeyOrPrefix, ListingQuery, ListingStart, VersionOrPrefix};
use crate::model::{StoredObject, StoredVersion};
use crate::state::StoredBucket;
use crate::store::Sandbox;

/// The maximum number of results on a page.
const MAX_KEYS: usize = 1000;

pub(super) fn list_objects_v2(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectsV2Input>,
) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let limit = page_limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let marker = input.continuation_token.as_deref().map(parse_token).transpose()?;
    let from = match (&marker, input.start_after.as_deref()) {
        (Some(marker), _) => ListingStart::after_marker(marker, prefix, delimiter),
        (None, Some(after)) if !after.is_empty() => ListingStart::After(after),
        _ => ListingStart::FirstKey,
    };
    let with_owner = input.fetch_owner.unwrap_or(false);
    let query = ListingQuery { prefix, delimiter, start: from };
    let ObjectListing { objects, prefixes, next } =
        sandbox.with_bucket(&input.bucket, |bucket| list_page(bucket, query, limit, encoding, with_owner))?;
    let output = dto::ListObjectsV2Output {
        key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        is_truncated: Some(next.is_some()),
        next_continuation_token: next.map(|name| listing::continuation_token(&name)),
        max_keys: i32::try_from(limit).ok(),
        prefix: Some(encoding.encode(prefix)),
        delimiter: encoding.encode_optional(delimiter),
        start_after: encoding.encode_optional(input.start_after.as_deref()),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(super) fn list_objects(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectsInput>,
) -> S3Result<S3Response<dto::ListObjectsOutput>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let limit = page_limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let from = match input.marker.as_deref() {
        Some(marker) if !marker.is_empty() => ListingStart::after_marker(marker, prefix, delimiter),
        _ => ListingStart::FirstKey,
    };
    let query = ListingQuery { prefix, delimiter, start: from };
    let ObjectListing { objects, prefixes, next } =
        sandbox.with_bucket(&input.bucket, |bucket| list_page(bucket, query, limit, encoding, true))?;
    let output = dto::ListObjectsOutput {
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        is_truncated: Some(next.is_some()),
        // Without a delimiter, AWS expects the client to use the last key.
        next_marker: next.filter(|_| delimiter.is_some()).map(|name| encoding.encode(&name)),
        max_keys: i32::try_from(limit).ok(),
        prefix: Some(encoding.encode(prefix)),
        delimiter: encoding.encode_optional(delimiter),
        marker: Some(encoding.encode(input.marker.as_deref().unwrap_or_default())),
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

/// How a listing writes keys: unchanged, or URL-encoded as AWS does it, with `/` and `*` unchanged and a space as `+`.
#[derive(Clone, Copy)]
struct KeyEncoding {
    url: bool,
}

impl KeyEncoding {
    /// Parses `encoding-type`.
    fn parse(asked: Option<&dto::EncodingType>) -> S3Result<Self> {
        match asked.map(dto::EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    /// Encodes a key, a prefix, a delimiter, or a marker.
    fn encode(self, text: &str) -> String {
        const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b'/')
            .remove(b'*')
            .remove(b' ');
        if self.url { percent_encode(text.as_bytes(), ENCODED).to_string().replace(' ', "+") } else { text.to_owned() }
    }

    /// Encodes an optional text.
    fn encode_optional(self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.encode(text))
    }
}

struct ObjectListing {
    objects: Vec<dto::Object>,
    prefixes: Vec<dto::CommonPrefix>,
    /// The last name on the page, if more results follow.
    next: Option<String>,
}

fn list_page(
    bucket: &StoredBucket,
    query: ListingQuery<'_>,
    limit: usize,
    encoding: KeyEncoding,
    with_owner: bool,
) -> ObjectListing {
    let page = listing::page_of_keys(bucket, query, limit);
    let next = page.items.last().filter(|_| page.is_truncated).map(|found| found.name().to_owned());
    let mut listed = ObjectListing { objects: Vec::new(), prefixes: Vec::new(), next };
    for found in page.items {
        match found {
            KeyOrPrefix::Prefix(prefix) => listed.prefixes.push(common_prefix(prefix, encoding)),
            KeyOrPrefix::Key(key, entry) => {
                if let Some((version, object)) = entry.newest().and_then(|it| Some((it, it.object.as_ref()?))) {
                    listed.objects.push(dto::Object {
                        key: Some(encoding.encode(key)),
                        last_modified: Some(to_s3_time(version.modified)),
                        e_tag: Some(etag(object.etag)),
                        size: Some(length(object.size)),
                        storage_class: Some(dto::ObjectStorageClass::from_static(object.class.as_str())),
                        owner: with_owner.then(owner),
                        ..Default::default()
                    });
                }
            }
        }
    }
    listed
}

pub(super) fn list_object_versions(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectVersionsInput>,
) -> S3Result<S3Response<dto::ListObjectVersionsOutput>> {
    let input = request.input;
    let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
    let limit = page_limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let key_marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let version_marker = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
    let from = match (key_marker, version_marker) {
        (None, Some(_)) => {
            return Err(invalid_argument("A version-id marker cannot be specified without a key marker."));
        }
        (None, None) => ListingStart::FirstKey,
        (Some(key), None) => ListingStart::after_marker(key, prefix, delimiter),
        (Some(key), Some(_)) => ListingStart::At(key),
    };
    let query = ListingQuery { prefix, delimiter, start: from };
    let mut output =
        sandbox.with_bucket(&input.bucket, |bucket| list_versions(bucket, query, version_marker, limit, encoding))?;
    output.max_keys = i32::try_from(limit).ok();
    output.prefix = Some(encoding.encode(prefix));
    output.delimiter = encoding.encode_optional(delimiter);
    output.key_marker = Some(encoding.encode(key_marker.unwrap_or_default()));
    output.version_id_marker = Some(version_marker.unwrap_or_default().to_owned());
    output.encoding_type = input.encoding_type;
    output.name = Some(input.bucket);
    Ok(S3Response::new(output))
}

fn list_versions(
    bucket: &StoredBucket,
    query: ListingQuery<'_>,
    behind: Option<&str>,
    limit: usize,
    encoding: KeyEncoding,
) -> dto::ListObjectVersionsOutput {
    let page = listing::page_of_versions(bucket, query, behind, limit);
    let mut output = dto::ListObjectVersionsOutput { is_truncated: Some(page.is_truncated), ..Default::default() };
    if let Some(last) = page.items.last().filter(|_| page.is_truncated) {
        let (name, id) = match last {
            VersionOrPrefix::Prefix(prefix) => (*prefix, None),
            VersionOrPrefix::Version(key, version, _) => (*key, Some(version.id_str().to_owned())),
        };
        output.next_key_marker = Some(encoding.encode(name));
        output.next_version_id_marker = id;
    }
    let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for found in page.items {
        match found {
            VersionOrPrefix::Prefix(prefix) => prefixes.push(common_prefix(prefix, encoding)),
            VersionOrPrefix::Version(key, version, current) => match &version.object {
                Some(object) => versions.push(version_entry(key, version, object, current, encoding)),
                None => markers.push(dto::DeleteMarkerEntry {
                    key: Some(encoding.encode(key)),
                    version_id: Some(version.id_str().to_owned()),
                    is_latest: Some(current),
                    last_modified: Some(to_s3_time(version.modified)),
                    owner: Some(owner()),
                }),
            },
        }
    }
    output.versions = Some(versions);
    output.delete_markers = Some(markers);
    output.common_prefixes = Some(prefixes);
    output
}

fn version_entry(
    key: &str,
    version: &StoredVersion,
    object: &StoredObject,
    current: bool,
    encoding: KeyEncoding,
) -> dto::ObjectVersion {
    dto::ObjectVersion {
        key: Some(encoding.encode(key)),
        version_id: Some(version.id_str().to_owned()),
        is_latest: Some(current),
        last_modified: Some(to_s3_time(version.modified)),
        e_tag: Some(etag(object.etag)),
        size: Some(length(object.size)),
        storage_class: Some(dto::ObjectVersionStorageClass::from_static(object.class.as_str())),
        owner: Some(owner()),
        ..Default::default()
    }
}

fn common_prefix(prefix: &str, encoding: KeyEncoding) -> dto::CommonPrefix {
    dto::CommonPrefix { prefix: Some(encoding.encode(prefix)) }
}

fn page_limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.map_or(Ok(MAX_KEYS), usize::try_from);
    Ok(asked
        .map_err(|_| invalid_argument("Argument max-keys must be an integer between 0 and 2147483647"))?
        .min(MAX_KEYS))
}

/// Returns the name that a continuation token encodes, which is the last one on the page before.
fn parse_token(token: &str) -> S3Result<String> {
    listing::parse_continuation_token(token)
        .ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_encoded_as_aws_does_it() {
        let url = KeyEncoding { url: true };
        assert_eq!(url.encode("a+b c/d%2F~*é\n\u{1}'\","), "a%2Bb+c/d%252F%7E*%C3%A9%0A%01%27%22%2C");
        assert_eq!(KeyEncoding { url: false }.encode("a+b c"), "a+b c");
    }
}
