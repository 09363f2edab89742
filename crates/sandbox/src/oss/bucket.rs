//! Requests about buckets: which operation answers a request; the settings of buckets, which are versioning, ACLs, and
//! lifecycle rules; and the listings of their objects and versions.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use http::{Method, Response, StatusCode};

use super::object::delete_objects;
use super::request::{OssRequest, OssRequestBody, RequestElement, parse_acl, parse_tags, receive_document, url_encode};
use super::response::{
    OssError, OssResponseBody, ResponseDocument, acl_document, empty_response, etag, iso_time, object_type,
};
use crate::access::{CannedAcl, StoredAcl};
use crate::listing::{self, KeyOrPrefix, ListingQuery, ListingStart, ResultPage, VersionOrPrefix};
use crate::model::{
    LifecycleError, LifecycleRule, ObjectStorageClass, StoredObject, StoredVersion, UnixMillis, VersioningStatus,
    validate_rules,
};
use crate::restore;
use crate::state::{SandboxRequestError, StoredBucket};
use crate::store::{NewBucket, Sandbox};

/// The length of a bucket name.
const BUCKET_NAME_BYTES: RangeInclusive<usize> = 3..=63;

/// The parameters of a GET request to a bucket, except for its settings (ACL, versioning and lifecycle).
const BUCKET_GET_PARAMS: [&str; 15] = [
    "bucketInfo",
    "location",
    "versions",
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "encoding-type",
    "start-after",
    "continuation-token",
    "fetch-owner",
    "key-marker",
    "version-id-marker",
    "response-content-type",
];

/// Answers a request that names no bucket.
pub(super) fn handle_service_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
) -> Result<Response<OssResponseBody>, OssError> {
    if request.method != Method::GET {
        return Err(OssError::method_not_allowed());
    }
    request.allow_params(&["prefix", "marker", "max-keys"])?;
    list_buckets(sandbox, request, region)
}

/// Answers a request that names a bucket but no object.
pub(super) async fn handle_bucket_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    let method = &request.method;
    if request.has_param("acl") {
        request.allow_params(&["acl"])?;
        return match *method {
            Method::GET => get_acl(sandbox, request),
            Method::PUT => put_acl(sandbox, request),
            _ => Err(OssError::method_not_allowed()),
        };
    }
    if request.has_param("versioning") {
        request.allow_params(&["versioning"])?;
        return match *method {
            Method::GET => get_versioning(sandbox, request),
            Method::PUT => put_versioning(sandbox, request, &receive_document(&request.headers, body).await?),
            _ => Err(OssError::method_not_allowed()),
        };
    }
    if request.has_param("lifecycle") {
        request.allow_params(&["lifecycle"])?;
        return match *method {
            Method::GET => get_lifecycle(sandbox, request),
            Method::PUT => put_lifecycle(sandbox, request, &receive_document(&request.headers, body).await?),
            Method::DELETE => delete_lifecycle(sandbox, request),
            _ => Err(OssError::method_not_allowed()),
        };
    }
    match *method {
        Method::PUT => {
            request.allow_params(&[])?;
            create_bucket(sandbox, request, &receive_document(&request.headers, body).await?)
        }
        Method::DELETE => {
            request.allow_params(&[])?;
            delete_bucket(sandbox, request)
        }
        Method::POST if request.has_param("delete") => {
            request.allow_params(&["delete", "encoding-type"])?;
            delete_objects(sandbox, request, &receive_document(&request.headers, body).await?)
        }
        Method::GET => {
            request.allow_params(&BUCKET_GET_PARAMS)?;
            handle_bucket_get(sandbox, request, region)
        }
        _ => Err(OssError::method_not_allowed()),
    }
}

/// Answers a GET request whose parameters are all in [`BUCKET_GET_PARAMS`].
fn handle_bucket_get(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
) -> Result<Response<OssResponseBody>, OssError> {
    if request.has_param("bucketInfo") {
        get_info(sandbox, request, region)
    } else if request.has_param("location") {
        get_location(sandbox, request, region)
    } else if request.has_param("versions") {
        list_object_versions(sandbox, request)
    } else if request.param("list-type") == Some("2") {
        list_objects_v2(sandbox, request)
    } else {
        list_objects(sandbox, request)
    }
}

/// Returns the ACL in the header of a request. `default`, with which an object has the ACL of its bucket, is not an ACL
/// for a bucket.
fn requested_acl(request: &OssRequest) -> Result<Option<StoredAcl>, OssError> {
    match request.header("x-oss-acl").map(parse_acl).transpose()? {
        Some(CannedAcl::Default) => Err(OssError::unknown_acl()),
        acl => Ok(acl.map(StoredAcl::Canned)),
    }
}

/// <https://www.alibabacloud.com/help/en/oss/user-guide/bucket-naming-conventions>
fn is_valid_bucket_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    BUCKET_NAME_BYTES.contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn create_bucket(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let bucket = request.bucket()?;
    if !is_valid_bucket_name(bucket) {
        return Err(OssError::invalid_bucket_name());
    }
    if !document.is_empty() {
        RequestElement::parse(document, "CreateBucketConfiguration")?;
    }
    let acl = requested_acl(request)?;
    let new = NewBucket { owner: request.requester, acl: acl.clone(), ownership: None, location: None };
    match (sandbox.create_bucket(bucket, new), acl) {
        // The owner of a bucket can create it again.
        (Err(SandboxRequestError::BucketExists), Some(acl)) => sandbox.set_bucket_acl(bucket, acl)?,
        (Ok(()) | Err(SandboxRequestError::BucketExists), _) => {}
        (Err(error), _) => return Err(error.into()),
    }
    Ok(empty_response(StatusCode::OK))
}

fn delete_bucket(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.delete_bucket(request.bucket()?)?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

fn list_buckets(sandbox: &Sandbox, request: &OssRequest, region: &str) -> Result<Response<OssResponseBody>, OssError> {
    let limit = page_size(request, DEFAULT_BUCKETS)?;
    let prefix = request.param("prefix").unwrap_or_default();
    let marker = request.param("marker").unwrap_or_default();
    let document = sandbox.with_state(|state| {
        let own = state.buckets.iter().filter(|(_, bucket)| bucket.access.owner == request.requester);
        let mut matching = own.filter(|(name, _)| name.starts_with(prefix) && ***name > *marker).peekable();
        let mut last = None;
        ResponseDocument::new("ListAllMyBucketsResult", |to| {
            to.write_owner(request.requester);
            to.write_element("Buckets", |to| {
                for (name, bucket) in matching.by_ref().take(limit) {
                    last = Some(name);
                    to.write_element("Bucket", |to| write_bucket(to, name, bucket.created, region));
                }
            });
            let is_truncated = matching.peek().is_some();
            to.write_text("Prefix", prefix);
            to.write_text("Marker", marker);
            to.write_text("MaxKeys", &limit.to_string());
            to.write_text("IsTruncated", &is_truncated.to_string());
            to.write_optional("NextMarker", last.filter(|_| is_truncated).map(|name| &**name));
        })
    });
    Ok(document.into_response())
}

fn write_bucket(to: &mut ResponseDocument, name: &str, created: UnixMillis, region: &str) {
    to.write_text("Name", name);
    to.write_text("CreationDate", &iso_time(created));
    to.write_text("Location", &format!("oss-{region}"));
    to.write_text("Region", region);
    to.write_text("StorageClass", "Standard");
    to.write_text("ExtranetEndpoint", &format!("oss-{region}.aliyuncs.com"));
    to.write_text("IntranetEndpoint", &format!("oss-{region}-internal.aliyuncs.com"));
}

fn get_info(sandbox: &Sandbox, request: &OssRequest, region: &str) -> Result<Response<OssResponseBody>, OssError> {
    let name = request.bucket()?;
    let document = sandbox.with_bucket(name, |bucket| {
        ResponseDocument::new("BucketInfo", |to| {
            to.write_element("Bucket", |to| {
                write_bucket(to, name, bucket.created, region);
                to.write_owner(bucket.access.owner);
                to.write_acl(&bucket.access);
                to.write_text("DataRedundancyType", "LRS");
                if bucket.versioning != VersioningStatus::Never {
                    to.write_text("Versioning", bucket.versioning.as_str());
                }
            });
        })
    })?;
    Ok(document.into_response())
}

fn get_location(sandbox: &Sandbox, request: &OssRequest, region: &str) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.with_bucket(request.bucket()?, |_| ())?;
    Ok(ResponseDocument::with_text("LocationConstraint", &format!("oss-{region}")).into_response())
}

fn get_versioning(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let versioning = sandbox.with_bucket(request.bucket()?, |bucket| bucket.versioning)?;
    let status = (versioning != VersioningStatus::Never).then(|| versioning.as_str());
    Ok(ResponseDocument::new("VersioningConfiguration", |to| to.write_optional("Status", status)).into_response())
}

fn put_versioning(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let configuration = RequestElement::parse(document, "VersioningConfiguration")?;
    configuration.check_children(&["Status"])?;
    let status = configuration.child_text("Status")?.and_then(VersioningStatus::parse);
    let versioning = status.filter(|status| *status != VersioningStatus::Never).ok_or_else(OssError::malformed_xml)?;
    sandbox.set_versioning(request.bucket()?, versioning)?;
    Ok(empty_response(StatusCode::OK))
}

fn get_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let document = sandbox.with_bucket(request.bucket()?, |bucket| acl_document(&bucket.access))?;
    Ok(document.into_response())
}

fn put_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let acl = requested_acl(request)?.ok_or_else(|| OssError::invalid_argument("The header x-oss-acl is missing."))?;
    sandbox.set_bucket_acl(request.bucket()?, acl)?;
    Ok(empty_response(StatusCode::OK))
}

fn get_lifecycle(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let rules = sandbox.with_bucket(request.bucket()?, |bucket| bucket.lifecycle.clone())?;
    if rules.is_empty() {
        return Err(OssError::no_such_lifecycle());
    }
    let document = ResponseDocument::new("LifecycleConfiguration", |to| {
        for rule in &rules {
            to.write_element("Rule", |to| write_rule(to, rule));
        }
    });
    Ok(document.into_response())
}

fn write_rule(to: &mut ResponseDocument, rule: &LifecycleRule) {
    to.write_text("ID", &rule.id);
    to.write_text("Prefix", &rule.prefix);
    to.write_text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
    to.write_tags(&rule.tags);
    if let Some(days) = rule.expiration_days {
        to.write_element("Expiration", |to| to.write_text("Days", &days.to_string()));
    }
    for (days, class) in &rule.transitions {
        to.write_element("Transition", |to| {
            to.write_text("Days", &days.to_string());
            to.write_text("StorageClass", class.oss_name());
        });
    }
}

fn put_lifecycle(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let lifecycle = RequestElement::parse(document, "LifecycleConfiguration")?;
    lifecycle.check_children(&["Rule"])?;
    let rules =
        validate_rules(lifecycle.children.iter().map(parse_rule).collect::<Result<_, _>>()?).map_err(OssError::from)?;
    sandbox.set_lifecycle(request.bucket()?, rules)?;
    Ok(empty_response(StatusCode::OK))
}

fn delete_lifecycle(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.set_lifecycle(request.bucket()?, Vec::new())?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Parses a rule. Rejects what the sandbox does not store, so that nothing is lost silently.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketlifecycle>
fn parse_rule(rule: &RequestElement) -> Result<LifecycleRule, OssError> {
    let supported = ["ID", "Prefix", "Status", "Tag", "Expiration", "Transition"];
    if rule.children.iter().any(|child| !supported.contains(&child.name.as_str())) {
        return Err(unsupported_rule());
    }
    let enabled = match rule.child_text("Status")? {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(OssError::malformed_xml()),
    };
    let transitions = rule.children_named("Transition").map(|transition| {
        let class = transition.child_text("StorageClass")?.and_then(ObjectStorageClass::parse_oss_name);
        Ok((parse_days(transition, &["Days", "StorageClass"])?, class.ok_or_else(OssError::malformed_xml)?))
    });
    Ok(LifecycleRule {
        id: rule.child_text("ID")?.unwrap_or_default().into(),
        enabled,
        prefix: rule.child_text("Prefix")?.unwrap_or_default().into(),
        tags: parse_tags(rule.children_named("Tag"))?,
        expiration_days: rule.child("Expiration")?.map(|expiration| parse_days(expiration, &["Days"])).transpose()?,
        transitions: transitions.collect::<Result<_, OssError>>()?,
    })
}

fn parse_days(action: &RequestElement, children: &[&str]) -> Result<u32, OssError> {
    action.check_children(children).map_err(|_| unsupported_rule())?;
    let days = action.child_text("Days")?.and_then(|days| days.trim().parse().ok());
    days.ok_or_else(OssError::malformed_xml)
}

fn unsupported_rule() -> OssError {
    OssError::not_implemented(
        "The sandbox supports only lifecycle rules with a prefix, tags, and expiration or transitions after days",
    )
}

impl From<LifecycleError> for OssError {
    fn from(error: LifecycleError) -> Self {
        match error {
            LifecycleError::RuleCount | LifecycleError::NoAction => Self::malformed_xml(),
            LifecycleError::InvalidId | LifecycleError::InvalidDays => Self::invalid_argument(error.message()),
        }
    }
}

/// The maximum of `max-keys` in every listing.
const MAX_KEYS: usize = 1000;
/// The number of keys or versions on a page if a request has no `max-keys`.
const DEFAULT_KEYS: usize = 100;
/// The number of buckets on a page if a request has no `max-keys`.
const DEFAULT_BUCKETS: usize = 100;

/// Parses `max-keys`.
fn page_size(request: &OssRequest, default: usize) -> Result<usize, OssError> {
    let Some(max_keys) = request.non_empty_param("max-keys") else { return Ok(default) };
    let size = max_keys.parse().ok().filter(|size| (1..=MAX_KEYS).contains(size));
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
        let url_encoded = match request.non_empty_param("encoding-type") {
            None => false,
            Some("url") => true,
            Some(_) => return Err(OssError::invalid_argument("The encoding type must be url.")),
        };
        Ok(Self {
            bucket: request.bucket()?,
            prefix: request.param("prefix").unwrap_or_default(),
            delimiter: request.non_empty_param("delimiter"),
            limit: page_size(request, DEFAULT_KEYS)?,
            url_encoded,
            now: sandbox.now(),
        })
    }

    fn query(&self, start: ListingStart<'r>) -> ListingQuery<'r> {
        ListingQuery { prefix: self.prefix, delimiter: self.delimiter, start }
    }

    fn encode<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.url_encoded { url_encode(text).into() } else { text.into() }
    }

    /// Writes a name, encoded if the request asks for it.
    fn write_name(&self, to: &mut ResponseDocument, element: &str, name: &str) {
        to.write_text(element, &self.encode(name));
    }

    /// Writes the elements at the start of every listing: the parameters of the request, and whether more results
    /// follow.
    fn write_common_elements(&self, to: &mut ResponseDocument, is_truncated: bool) {
        to.write_text("Name", self.bucket);
        self.write_name(to, "Prefix", self.prefix);
        to.write_text("MaxKeys", &self.limit.to_string());
        self.write_name(to, "Delimiter", self.delimiter.unwrap_or_default());
        if self.url_encoded {
            to.write_text("EncodingType", "url");
        }
        to.write_text("IsTruncated", &is_truncated.to_string());
    }

    fn write_common_prefix(&self, to: &mut ResponseDocument, prefix: &str) {
        to.write_element("CommonPrefixes", |to| self.write_name(to, "Prefix", prefix));
    }

    /// Writes the fields that every listing contains for an object, except its key.
    fn write_object(&self, to: &mut ResponseDocument, version: &StoredVersion, object: &StoredObject) {
        to.write_text("LastModified", &iso_time(version.modified));
        to.write_text("ETag", &etag(object.etag));
        to.write_text("Type", object_type(object.etag));
        to.write_text("Size", &object.size.to_string());
        to.write_text("StorageClass", object.class.oss_name());
        to.write_optional("RestoreInfo", restore::progress(object, self.now).header_value().as_deref());
    }

    fn write_contents(
        &self,
        to: &mut ResponseDocument,
        bucket: &StoredBucket,
        page: &ResultPage<KeyOrPrefix<'_>>,
        with_owner: bool,
    ) {
        for found in &page.items {
            let KeyOrPrefix::Key(key, versions) = found else { continue };
            let Some(version) = versions.newest() else { continue };
            let Some(object) = &version.object else { continue };
            to.write_element("Contents", |to| {
                self.write_name(to, "Key", key);
                self.write_object(to, version, object);
                if with_owner {
                    to.write_owner(bucket.object_owner(object));
                }
            });
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
fn list_objects_v2(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let params = OssListRequest::from_request(sandbox, request)?;
    let token = request.non_empty_param("continuation-token");
    let marker = token.map(|token| {
        listing::parse_continuation_token(token)
            .ok_or_else(|| OssError::invalid_argument("The continuation token is incorrect."))
    });
    let marker = marker.transpose()?;
    let after = request.non_empty_param("start-after");
    let start = match (&marker, after) {
        (Some(marker), _) => ListingStart::after_marker(marker, params.prefix, params.delimiter),
        (None, Some(after)) => ListingStart::After(after),
        (None, None) => ListingStart::FirstKey,
    };
    let with_owner = request.param("fetch-owner") == Some("true");
    let document = sandbox.with_bucket(params.bucket, |bucket| {
        let page = listing::page_of_keys(bucket, params.query(start), params.limit);
        ResponseDocument::new("ListBucketResult", |to| {
            params.write_common_elements(to, page.is_truncated);
            to.write_optional("StartAfter", after.map(|after| params.encode(after)).as_deref());
            to.write_optional("ContinuationToken", token);
            to.write_optional("NextContinuationToken", next_name(&page).map(listing::continuation_token).as_deref());
            to.write_text("KeyCount", &page.items.len().to_string());
            params.write_contents(to, bucket, &page, with_owner);
        })
    })?;
    Ok(document.into_response())
}

/// Answers `ListObjects`.
fn list_objects(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let params = OssListRequest::from_request(sandbox, request)?;
    let marker = request.non_empty_param("marker");
    let start = marker
        .map_or(ListingStart::FirstKey, |marker| ListingStart::after_marker(marker, params.prefix, params.delimiter));
    let document = sandbox.with_bucket(params.bucket, |bucket| {
        let page = listing::page_of_keys(bucket, params.query(start), params.limit);
        ResponseDocument::new("ListBucketResult", |to| {
            params.write_common_elements(to, page.is_truncated);
            params.write_name(to, "Marker", marker.unwrap_or_default());
            to.write_optional("NextMarker", next_name(&page).map(|name| params.encode(name)).as_deref());
            params.write_contents(to, bucket, &page, true);
        })
    })?;
    Ok(document.into_response())
}

/// Answers `ListObjectVersions`.
fn list_object_versions(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let params = OssListRequest::from_request(sandbox, request)?;
    let (key_marker, version_marker) =
        (request.non_empty_param("key-marker"), request.non_empty_param("version-id-marker"));
    let start = match (key_marker, version_marker) {
        (None, Some(_)) => return Err(OssError::invalid_argument("A version-id marker needs a key marker.")),
        (None, None) => ListingStart::FirstKey,
        (Some(key), None) => ListingStart::after_marker(key, params.prefix, params.delimiter),
        (Some(key), Some(_)) => ListingStart::At(key),
    };
    let document = sandbox.with_bucket(params.bucket, |bucket| {
        let page = listing::page_of_versions(bucket, params.query(start), version_marker, params.limit);
        ResponseDocument::new("ListVersionsResult", |to| {
            params.write_common_elements(to, page.is_truncated);
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
                write_version(&params, to, bucket, found);
            }
        })
    })?;
    Ok(document.into_response())
}

fn write_version(
    params: &OssListRequest<'_>,
    to: &mut ResponseDocument,
    bucket: &StoredBucket,
    found: &VersionOrPrefix<'_>,
) {
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
        to.write_owner(version.object.as_ref().map_or(bucket.access.owner, |object| bucket.object_owner(object)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_as_it_was_said_and_what_is_not_kept_is_refused() {
        let read = |inner: &str| {
            let document = format!("<Rule>{inner}</Rule>");
            parse_rule(&RequestElement::parse(document.as_bytes(), "Rule").unwrap())
        };
        let inner = "<ID>r</ID><Prefix>a/</Prefix><Status>Enabled</Status><Tag><Key>k</Key><Value>v</Value></Tag>\
                     <Expiration><Days>9</Days></Expiration>\
                     <Transition><Days>3</Days><StorageClass>IA</StorageClass></Transition>";
        let written = ResponseDocument::new("Rule", |to| write_rule(to, &read(inner).unwrap())).into_text();
        assert!(written.ends_with(&format!("<Rule>{inner}</Rule>")), "{written}");
        for (inner, code) in [
            ("<Status>Maybe</Status>", "MalformedXML"),
            ("<Status>Enabled</Status><AbortMultipartUpload/>", "NotImplemented"),
            ("<Status>Enabled</Status><Expiration><Date>x</Date></Expiration>", "NotImplemented"),
            ("<Status>Enabled</Status><Expiration><Days>-1</Days></Expiration>", "MalformedXML"),
            ("<Status>Enabled</Status><Tag><Value>v</Value></Tag>", "MalformedXML"),
        ] {
            assert_eq!(read(inner).unwrap_err().code, code, "{inner}");
        }
    }
}
