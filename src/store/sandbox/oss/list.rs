//! The three listings: `ListObjects`, `ListObjectsV2`, and `ListObjectVersions`.

use std::borrow::Cow;

use http::Response;

use super::bucket::iso;
use super::content::Content;
use super::document::Document;
use super::error::Fault;
use super::object::{etag, restored};
use super::request::{Request, encoded};
use crate::store::sandbox::listing::{self, Found, FoundVersion, From, Page, Walk};
use crate::store::sandbox::model::{Millis, Object, Version};
use crate::store::sandbox::restore;
use crate::store::sandbox::vault::Sandbox;

/// The maximum and the default number of results on a page.
const MAX_KEYS: usize = 1000;
const USUAL_KEYS: usize = 100;

/// Parses `max-keys`. The default is `usual`.
pub(super) fn page_size(request: &Request, usual: usize) -> Result<usize, Fault> {
    let Some(asked) = request.filled("max-keys") else { return Ok(usual) };
    let size = asked.parse().ok().filter(|size| (1..=MAX_KEYS).contains(size));
    size.ok_or_else(|| Fault::invalid_argument("max-keys must be an integer between 1 and 1000."))
}

/// The parameters that all listings have.
struct Ask<'r> {
    bucket: &'r str,
    prefix: &'r str,
    delimiter: Option<&'r str>,
    limit: usize,
    url: bool,
    now: Millis,
}

impl<'r> Ask<'r> {
    fn of(sandbox: &Sandbox, request: &'r Request) -> Result<Self, Fault> {
        let url = match request.filled("encoding-type") {
            None => false,
            Some("url") => true,
            Some(_) => return Err(Fault::invalid_argument("The encoding type is url, or there is none.")),
        };
        Ok(Self {
            bucket: request.bucket()?,
            prefix: request.param("prefix").unwrap_or_default(),
            delimiter: request.filled("delimiter"),
            limit: page_size(request, USUAL_KEYS)?,
            url,
            now: sandbox.now(),
        })
    }

    fn walk(&self, from: From<'r>) -> Walk<'r> {
        Walk { prefix: self.prefix, delimiter: self.delimiter, from }
    }

    fn encode<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.url { encoded(text).into() } else { text.into() }
    }

    /// Writes a name, encoded if the request asks for it.
    fn name(&self, to: &mut Document, element: &str, name: &str) {
        to.text(element, &self.encode(name));
    }

    fn head(&self, to: &mut Document, more: bool) {
        to.text("Name", self.bucket);
        self.name(to, "Prefix", self.prefix);
        to.text("MaxKeys", &self.limit.to_string());
        self.name(to, "Delimiter", self.delimiter.unwrap_or_default());
        if self.url {
            to.text("EncodingType", "url");
        }
        to.text("IsTruncated", if more { "true" } else { "false" });
    }

    fn common_prefix(&self, to: &mut Document, prefix: &str) {
        to.element("CommonPrefixes", |to| self.name(to, "Prefix", prefix));
    }

    /// Writes the fields that every listing contains for an object, except its key.
    fn object(&self, to: &mut Document, version: &Version, object: &Object) {
        to.text("LastModified", &iso(version.modified));
        to.text("ETag", &etag(object.etag));
        to.text("Type", if object.etag.parts > 0 { "Multipart" } else { "Normal" });
        to.text("Size", &object.size.to_string());
        to.text("StorageClass", object.class.oss_name());
        to.optional("RestoreInfo", restored(restore::progress(object, self.now)).as_deref());
    }

    fn contents(&self, to: &mut Document, page: &Page<Found<'_>>, with_owner: bool) {
        for found in &page.items {
            match found {
                Found::Prefix(_) => {}
                Found::Key(key, entry) => {
                    let Some(version) = entry.newest() else { continue };
                    let Some(object) = &version.object else { continue };
                    to.element("Contents", |to| {
                        self.name(to, "Key", key);
                        self.object(to, version, object);
                        if with_owner {
                            to.owner();
                        }
                    });
                }
            }
        }
        for found in &page.items {
            if let Found::Prefix(prefix) = found {
                self.common_prefix(to, prefix);
            }
        }
    }
}

/// Returns the last name of a page, if more results follow.
fn next<'s>(page: &Page<Found<'s>>) -> Option<&'s str> {
    page.items.last().filter(|_| page.more).map(Found::name)
}

/// Answers `ListObjectsV2`.
pub(super) fn second(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let ask = Ask::of(sandbox, request)?;
    let token = request.filled("continuation-token");
    let marker = token.map(|token| {
        listing::name_of_token(token).ok_or_else(|| Fault::invalid_argument("The continuation token is incorrect."))
    });
    let marker = marker.transpose()?;
    let after = request.filled("start-after");
    let from = match (&marker, after) {
        (Some(marker), _) => From::marker(marker, ask.prefix, ask.delimiter),
        (None, Some(after)) => From::Behind(after),
        (None, None) => From::Start,
    };
    let with_owner = request.param("fetch-owner") == Some("true");
    let document = sandbox.view_bucket(ask.bucket, |bucket| {
        let page = listing::page_of_keys(bucket, ask.walk(from), ask.limit);
        Document::of("ListBucketResult", |to| {
            ask.head(to, page.more);
            to.optional("StartAfter", after.map(|after| ask.encode(after)).as_deref());
            to.optional("ContinuationToken", token);
            to.optional("NextContinuationToken", next(&page).map(listing::token).as_deref());
            to.text("KeyCount", &page.items.len().to_string());
            ask.contents(to, &page, with_owner);
        })
    })?;
    Ok(document.into_response())
}

/// Answers `ListObjects`.
pub(super) fn first(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let ask = Ask::of(sandbox, request)?;
    let marker = request.filled("marker");
    let from = marker.map_or(From::Start, |marker| From::marker(marker, ask.prefix, ask.delimiter));
    let document = sandbox.view_bucket(ask.bucket, |bucket| {
        let page = listing::page_of_keys(bucket, ask.walk(from), ask.limit);
        Document::of("ListBucketResult", |to| {
            ask.head(to, page.more);
            ask.name(to, "Marker", marker.unwrap_or_default());
            to.optional("NextMarker", next(&page).map(|name| ask.encode(name)).as_deref());
            ask.contents(to, &page, true);
        })
    })?;
    Ok(document.into_response())
}

/// Answers `ListObjectVersions`.
pub(super) fn versions(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let ask = Ask::of(sandbox, request)?;
    let (key_marker, version_marker) = (request.filled("key-marker"), request.filled("version-id-marker"));
    let from = match (key_marker, version_marker) {
        (None, Some(_)) => return Err(Fault::invalid_argument("A version-id marker needs a key marker.")),
        (None, None) => From::Start,
        (Some(key), None) => From::marker(key, ask.prefix, ask.delimiter),
        (Some(key), Some(_)) => From::At(key),
    };
    let document = sandbox.view_bucket(ask.bucket, |bucket| {
        let page = listing::page_of_versions(bucket, ask.walk(from), version_marker, ask.limit);
        Document::of("ListVersionsResult", |to| {
            ask.head(to, page.more);
            ask.name(to, "KeyMarker", key_marker.unwrap_or_default());
            to.text("VersionIdMarker", version_marker.unwrap_or_default());
            match page.items.last().filter(|_| page.more) {
                None => {}
                Some(FoundVersion::Prefix(prefix)) => ask.name(to, "NextKeyMarker", prefix),
                Some(FoundVersion::Version(key, version, _)) => {
                    ask.name(to, "NextKeyMarker", key);
                    to.text("NextVersionIdMarker", version.id_str());
                }
            }
            for found in &page.items {
                one_version(&ask, to, found);
            }
        })
    })?;
    Ok(document.into_response())
}

fn one_version(ask: &Ask<'_>, to: &mut Document, found: &FoundVersion<'_>) {
    let (key, version, current) = match found {
        FoundVersion::Prefix(prefix) => return ask.common_prefix(to, prefix),
        FoundVersion::Version(key, version, current) => (key, version, *current),
    };
    let element = if version.object.is_some() { "Version" } else { "DeleteMarker" };
    to.element(element, |to| {
        ask.name(to, "Key", key);
        to.text("VersionId", version.id_str());
        to.text("IsLatest", if current { "true" } else { "false" });
        match &version.object {
            Some(object) => ask.object(to, version, object),
            None => to.text("LastModified", &iso(version.modified)),
        }
        to.owner();
    });
}
