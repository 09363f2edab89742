//! The three listings: `ListObjects`, `ListObjectsV2`, and `ListObjectVersions`.

use s3s::{S3Request, S3Response, S3Result, dto};

use super::shape::{Encoding, etag, invalid_argument, length, owner, time};
use crate::store::sandbox::listing::{self, Found, FoundVersion, From, Walk};
use crate::store::sandbox::model::{Object, Version};
use crate::store::sandbox::state::Bucket;
use crate::store::sandbox::vault::Sandbox;

/// The maximum number of results on a page.
const MAX_KEYS: usize = 1000;

pub(super) fn list_objects_v2(
    sandbox: &Sandbox,
    request: S3Request<dto::ListObjectsV2Input>,
) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
    let input = request.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let marker = input.continuation_token.as_deref().map(marker_of).transpose()?;
    let from = match (&marker, input.start_after.as_deref()) {
        (Some(marker), _) => From::marker(marker, prefix, delimiter),
        (None, Some(after)) if !after.is_empty() => From::Behind(after),
        _ => From::Start,
    };
    let with_owner = input.fetch_owner.unwrap_or(false);
    let walk = Walk { prefix, delimiter, from };
    let Listed { objects, prefixes, next } =
        sandbox.view_bucket(&input.bucket, |bucket| list(bucket, walk, limit, encoding, with_owner))?;
    let output = dto::ListObjectsV2Output {
        key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        is_truncated: Some(next.is_some()),
        next_continuation_token: next.map(|name| listing::token(&name)),
        max_keys: i32::try_from(limit).ok(),
        prefix: Some(encoding.text(prefix)),
        delimiter: encoding.optional(delimiter),
        start_after: encoding.optional(input.start_after.as_deref()),
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
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let from = match input.marker.as_deref() {
        Some(marker) if !marker.is_empty() => From::marker(marker, prefix, delimiter),
        _ => From::Start,
    };
    let walk = Walk { prefix, delimiter, from };
    let Listed { objects, prefixes, next } =
        sandbox.view_bucket(&input.bucket, |bucket| list(bucket, walk, limit, encoding, true))?;
    let output = dto::ListObjectsOutput {
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        is_truncated: Some(next.is_some()),
        // Without a delimiter, AWS expects the client to use the last key.
        next_marker: next.filter(|_| delimiter.is_some()).map(|name| encoding.text(&name)),
        max_keys: i32::try_from(limit).ok(),
        prefix: Some(encoding.text(prefix)),
        delimiter: encoding.optional(delimiter),
        marker: Some(encoding.text(input.marker.as_deref().unwrap_or_default())),
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

struct Listed {
    objects: Vec<dto::Object>,
    prefixes: Vec<dto::CommonPrefix>,
    /// The last name on the page, if more results follow.
    next: Option<String>,
}

fn list(bucket: &Bucket, walk: Walk<'_>, limit: usize, encoding: Encoding, with_owner: bool) -> Listed {
    let page = listing::page_of_keys(bucket, walk, limit);
    let next = page.items.last().filter(|_| page.more).map(|found| found.name().to_owned());
    let mut listed = Listed { objects: Vec::new(), prefixes: Vec::new(), next };
    for found in page.items {
        match found {
            Found::Prefix(prefix) => listed.prefixes.push(common_prefix(prefix, encoding)),
            Found::Key(key, entry) => {
                if let Some((version, object)) = entry.newest().and_then(|it| Some((it, it.object.as_ref()?))) {
                    listed.objects.push(dto::Object {
                        key: Some(encoding.text(key)),
                        last_modified: Some(time(version.modified)),
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
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let key_marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let version_marker = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
    let from = match (key_marker, version_marker) {
        (None, Some(_)) => {
            return Err(invalid_argument("A version-id marker cannot be specified without a key marker."));
        }
        (None, None) => From::Start,
        (Some(key), None) => From::marker(key, prefix, delimiter),
        (Some(key), Some(_)) => From::At(key),
    };
    let walk = Walk { prefix, delimiter, from };
    let mut output =
        sandbox.view_bucket(&input.bucket, |bucket| list_versions(bucket, walk, version_marker, limit, encoding))?;
    output.max_keys = i32::try_from(limit).ok();
    output.prefix = Some(encoding.text(prefix));
    output.delimiter = encoding.optional(delimiter);
    output.key_marker = Some(encoding.text(key_marker.unwrap_or_default()));
    output.version_id_marker = Some(version_marker.unwrap_or_default().to_owned());
    output.encoding_type = input.encoding_type;
    output.name = Some(input.bucket);
    Ok(S3Response::new(output))
}

fn list_versions(
    bucket: &Bucket,
    walk: Walk<'_>,
    behind: Option<&str>,
    limit: usize,
    encoding: Encoding,
) -> dto::ListObjectVersionsOutput {
    let page = listing::page_of_versions(bucket, walk, behind, limit);
    let mut output = dto::ListObjectVersionsOutput { is_truncated: Some(page.more), ..Default::default() };
    if let Some(last) = page.items.last().filter(|_| page.more) {
        let (name, id) = match last {
            FoundVersion::Prefix(prefix) => (*prefix, None),
            FoundVersion::Version(key, version, _) => (*key, Some(version.id_str().to_owned())),
        };
        output.next_key_marker = Some(encoding.text(name));
        output.next_version_id_marker = id;
    }
    let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for found in page.items {
        match found {
            FoundVersion::Prefix(prefix) => prefixes.push(common_prefix(prefix, encoding)),
            FoundVersion::Version(key, version, current) => match &version.object {
                Some(object) => versions.push(told_version(key, version, object, current, encoding)),
                None => markers.push(dto::DeleteMarkerEntry {
                    key: Some(encoding.text(key)),
                    version_id: Some(version.id_str().to_owned()),
                    is_latest: Some(current),
                    last_modified: Some(time(version.modified)),
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

fn told_version(
    key: &str,
    version: &Version,
    object: &Object,
    current: bool,
    encoding: Encoding,
) -> dto::ObjectVersion {
    dto::ObjectVersion {
        key: Some(encoding.text(key)),
        version_id: Some(version.id_str().to_owned()),
        is_latest: Some(current),
        last_modified: Some(time(version.modified)),
        e_tag: Some(etag(object.etag)),
        size: Some(length(object.size)),
        storage_class: Some(dto::ObjectVersionStorageClass::from_static(object.class.as_str())),
        owner: Some(owner()),
        ..Default::default()
    }
}

fn common_prefix(prefix: &str, encoding: Encoding) -> dto::CommonPrefix {
    dto::CommonPrefix { prefix: Some(encoding.text(prefix)) }
}

fn limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.map_or(Ok(MAX_KEYS), usize::try_from);
    Ok(asked
        .map_err(|_| invalid_argument("Argument max-keys must be an integer between 0 and 2147483647"))?
        .min(MAX_KEYS))
}

/// Returns the name that a continuation token encodes, which is the last one on the page before.
fn marker_of(token: &str) -> S3Result<String> {
    listing::name_of_token(token).ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
}
