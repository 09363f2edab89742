//! The three listings: `ListObjects`, `ListObjectsV2`, and `ListObjectVersions`.

use std::borrow::Cow;

use http::Response;

use super::request::{OssRequest, url_encode};
use super::response::{OssError, OssResponseBody, ResponseDocument, etag, iso_time};
use crate::listing::{self, KeyOrPrefix, ListingQuery, ListingStart, ResultPage, VersionOrPrefix};
use crate::model::{StoredObject, StoredVersion, UnixMillis};
use crate::restore;
use crate::store::Sandbox;

/// The maximum and the default number of results on a page.
const MAX_KEYS: usize = 1000;
const DEFAULT_KEYS: usize = 100;

/// Parses `max-keys`. The default is `usual`.
pub(super) fn page_size(request: &OssRequest, usual: usize) -> Result<usize, OssError> {
    let Some(asked) = request.non_empty_param("max-keys") else { return Ok(usual) };
    let size = asked.parse().ok().filter(|size| (1..=MAX_KEYS).contains(size));
    size.ok_or_else(|| OssError::invalid_argument("max-keys must be an integer between 1 and 1000."))
}

/// The parameters that all listings have.
struct OssListRequest<'r> {
    bucket: &'r str,
    prefix: &'r str,
    delimiter: Option<&'r str>,
    limit: usize,
    url_encoded: bool,
    now: UnixMillis,
}

impl<'r> OssListRequest<'r> {
    fn from_request(sandbox: &Sandbox, request: &'r OssRequest) -> Result<Self, OssError> {
        let url = match request.non_empty_param("encoding-type") {
            None => false,
            Some("url") => true,
            Some(_) => return Err(OssError::invalid_argument("The encoding type must be url.")),
        };
        Ok(Self {
            bucket: request.bucket()?,
            prefix: request.param("prefix").unwrap_or_default(),
            delimiter: request.non_empty_param("delimiter"),
            limit: page_size(request, DEFAULT_KEYS)?,
            url_encoded: url,
            now: sandbox.now(),
        })
    }

    fn query(&self, from: ListingStart<'r>) -> ListingQuery<'r> {
        ListingQuery { prefix: self.prefix, delimiter: self.delimiter, start: from }
    }

    fn encode<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.url_encoded { url_encode(text).into() } else { text.into() }
    }

    /// Writes a name, encoded if the request asks for it.
    fn write_name(&self, to: &mut ResponseDocument, element: &str, name: &str) {
        to.write_text(element, &self.encode(name));
    }

    fn write_header(&self, to: &mut ResponseDocument, more: bool) {
        to.write_text("Name", self.bucket);
        self.write_name(to, "Prefix", self.prefix);
        to.write_text("MaxKeys", &self.limit.to_string());
        self.write_name(to, "Delimiter", self.delimiter.unwrap_or_default());
        if self.url_encoded {
            to.write_text("EncodingType", "url");
        }
        to.write_text("IsTruncated", if more { "true" } else { "false" });
    }

    fn write_common_prefix(&self, to: &mut ResponseDocument, prefix: &str) {
        to.write_element("CommonPrefixes", |to| self.write_name(to, "Prefix", prefix));
    }

    /// Writes the fields that every listing contains for an object, except its key.
    fn write_object(&self, to: &mut ResponseDocument, version: &StoredVersion, object: &StoredObject) {
        to.write_text("LastModified", &iso_time(version.modified));
        to.write_text("ETag", &etag(object.etag));
        to.write_text("Type", if object.etag.parts > 0 { "Multipart" } else { "Normal" });
        to.write_text("Size", &object.size.to_string());
        to.write_text("StorageClass", object.class.oss_name());
        to.write_optional("RestoreInfo", restore::progress(object, self.now).header_value().as_deref());
    }

    fn write_contents(&self, to: &mut ResponseDocument, page: &ResultPage<KeyOrPrefix<'_>>, with_owner: bool) {
        for found in &page.items {
            match found {
                KeyOrPrefix::Prefix(_) => {}
                KeyOrPrefix::Key(key, entry) => {
                    let Some(version) = entry.newest() else { continue };
                    let Some(object) = &version.object else { continue };
                    to.write_element("Contents", |to| {
                        self.write_name(to, "Key", key);
                        self.write_object(to, version, object);
                        if with_owner {
                            to.write_owner();
                        }
                    });
                }
            }
        }
        for found in &page.items {
            if let KeyOrPrefix::Prefix(prefix) = found {
                self.write_common_prefix(to, prefix);
            }
        }
    }
}

/// Returns the last name of a page, if more results follow.
fn next_name<'s>(page: &ResultPage<KeyOrPrefix<'s>>) -> Option<&'s str> {
    page.items.last().filter(|_| page.is_truncated).map(KeyOrPrefix::name)
}

/// Answers `ListObjectsV2`.
pub(super) fn list_objects_v2(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let params = OssListRequest::from_request(sandbox, request)?;
    let token = request.non_empty_param("continuation-token");
    let marker = token.map(|token| {
        listing::parse_continuation_token(token)
            .ok_or_else(|| OssError::invalid_argument("The continuation token is incorrect."))
    });
    let marker = marker.transpose()?;
    let after = request.non_empty_param("start-after");
    let from = match (&marker, after) {
        (Some(marker), _) => ListingStart::after_marker(marker, params.prefix, params.delimiter),
        (None, Some(after)) => ListingStart::After(after),
        (None, None) => ListingStart::FirstKey,
    };
    let with_owner = request.param("fetch-owner") == Some("true");
    let document = sandbox.with_bucket(params.bucket, |bucket| {
        let page = listing::page_of_keys(bucket, params.query(from), params.limit);
        ResponseDocument::new("ListBucketResult", |to| {
            params.write_header(to, page.is_truncated);
            to.write_optional("StartAfter", after.map(|after| params.encode(after)).as_deref());
            to.write_optional("ContinuationToken", token);
            to.write_optional("NextContinuationToken", next_name(&page).map(listing::continuation_token).as_deref());
            to.write_text("KeyCount", &page.items.len().to_string());
            params.write_contents(to, &page, with_owner);
        })
    })?;
    Ok(document.into_response())
}

/// Answers `ListObjects`.
pub(super) fn list_objects(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let params = OssListRequest::from_request(sandbox, request)?;
    let marker = request.non_empty_param("marker");
    let from = marker
        .map_or(ListingStart::FirstKey, |marker| ListingStart::after_marker(marker, params.prefix, params.delimiter));
    let document = sandbox.with_bucket(params.bucket, |bucket| {
        let page = listing::page_of_keys(bucket, params.query(from), params.limit);
        ResponseDocument::new("ListBucketResult", |to| {
            params.write_header(to, page.is_truncated);
            params.write_name(to, "Marker", marker.unwrap_or_default());
            to.write_optional("NextMarker", next_name(&page).map(|name| params.encode(name)).as_deref());
            params.write_contents(to, &page, true);
        })
    })?;
    Ok(document.into_response())
}

/// Answers `ListObjectVersions`.
pub(super) fn list_object_versions(
    sandbox: &Sandbox,
    request: &OssRequest,
) -> Result<Response<OssResponseBody>, OssError> {
    let params = OssListRequest::from_request(sandbox, request)?;
    let (key_marker, version_marker) =
        (request.non_empty_param("key-marker"), request.non_empty_param("version-id-marker"));
    let from = match (key_marker, version_marker) {
        (None, Some(_)) => return Err(OssError::invalid_argument("A version-id marker needs a key marker.")),
        (None, None) => ListingStart::FirstKey,
        (Some(key), None) => ListingStart::after_marker(key, params.prefix, params.delimiter),
        (Some(key), Some(_)) => ListingStart::At(key),
    };
    let document = sandbox.with_bucket(params.bucket, |bucket| {
        let page = listing::page_of_versions(bucket, params.query(from), version_marker, params.limit);
        ResponseDocument::new("ListVersionsResult", |to| {
            params.write_header(to, page.is_truncated);
            params.write_name(to, "KeyMarker", key_marker.unwrap_or_default());
            to.write_text("VersionIdMarker", version_marker.unwrap_or_default());
            match page.items.last().filter(|_| page.is_truncated) {
                None => {}
                Some(VersionOrPrefix::Prefix(prefix)) => params.write_name(to, "NextKeyMarker", prefix),
                Some(VersionOrPrefix::Version(key, version, _)) => {
                    params.write_name(to, "NextKeyMarker", key);
                    to.write_text("NextVersionIdMarker", version.id_str());
                }
            }
            for found in &page.items {
                write_version(&params, to, found);
            }
        })
    })?;
    Ok(document.into_response())
}

fn write_version(params: &OssListRequest<'_>, to: &mut ResponseDocument, found: &VersionOrPrefix<'_>) {
    let (key, version, current) = match found {
        VersionOrPrefix::Prefix(prefix) => return params.write_common_prefix(to, prefix),
        VersionOrPrefix::Version(key, version, current) => (key, version, *current),
    };
    let element = if version.object.is_some() { "Version" } else { "DeleteMarker" };
    to.write_element(element, |to| {
        params.write_name(to, "Key", key);
        to.write_text("VersionId", version.id_str());
        to.write_text("IsLatest", if current { "true" } else { "false" });
        match &version.object {
            Some(object) => params.write_object(to, version, object),
            None => to.write_text("LastModified", &iso_time(version.modified)),
        }
        to.write_owner();
    });
}
