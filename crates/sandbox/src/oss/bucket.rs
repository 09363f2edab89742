//! Requests about buckets: which operation answers a request, the operations on buckets, and the settings of buckets:
//! versioning, ACLs, and lifecycle rules.

use http::{Method, Response, StatusCode};

use super::list::{list_object_versions, list_objects, list_objects_v2, page_size};
use super::object::delete_multiple;
use super::request::{OssRequest, OssRequestBody, RequestElement, parse_acl, receive_document};
use super::response::{OssError, OssResponseBody, ResponseDocument, acl_document, acl_name, empty_response, iso_time};
use crate::lifecycle::{LifecycleError, LifecycleRule, validate_rules};
use crate::model::{ObjectStorageClass, StoredAcl, UnixMillis, VersioningStatus};
use crate::state::SandboxRequestError;
use crate::store::Sandbox;
use crate::tags::{TagList, check_for_oss};

/// The parameters of a GET request to a bucket.
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
    list(sandbox, request, region)
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
            create(sandbox, request, &receive_document(&request.headers, body).await?)
        }
        Method::DELETE => {
            request.allow_params(&[])?;
            delete(sandbox, request)
        }
        Method::POST if request.has_param("delete") => {
            request.allow_params(&["delete", "encoding-type"])?;
            delete_multiple(sandbox, request, &receive_document(&request.headers, body).await?)
        }
        Method::GET if request.allow_params(&BUCKET_GET_PARAMS).map(|()| request.has_param("bucketInfo"))? => {
            info(sandbox, request, region)
        }
        Method::GET if request.has_param("location") => location(sandbox, request, region),
        Method::GET if request.has_param("versions") => list_object_versions(sandbox, request),
        Method::GET if request.param("list-type") == Some("2") => list_objects_v2(sandbox, request),
        Method::GET => list_objects(sandbox, request),
        _ => Err(OssError::method_not_allowed()),
    }
}

fn requested_acl(request: &OssRequest) -> Result<Option<StoredAcl>, OssError> {
    let acl = request.header("x-oss-acl").map(parse_acl).transpose()?;
    if acl == Some(StoredAcl::Default) { parse_acl("").map(Some) } else { Ok(acl) }
}

fn create(sandbox: &Sandbox, request: &OssRequest, document: &[u8]) -> Result<Response<OssResponseBody>, OssError> {
    let bucket = request.bucket()?;
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = bucket.as_bytes();
    let allowed = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if !allowed || !(3..=63).contains(&bytes.len()) || !edge(bytes.first()) || !edge(bytes.last()) {
        return Err(OssError::invalid_bucket_name());
    }
    if !document.is_empty() {
        RequestElement::parse(document, "CreateBucketConfiguration")?;
    }
    let acl = requested_acl(request)?;
    match sandbox.create_bucket(bucket) {
        // The owner of a bucket can create it again.
        Ok(()) | Err(SandboxRequestError::BucketExists) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    if let Some(acl) = acl {
        sandbox.set_bucket_acl(bucket, acl)?;
    }
    Ok(empty_response(StatusCode::OK))
}

fn delete(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.delete_bucket(request.bucket()?)?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

fn list(sandbox: &Sandbox, request: &OssRequest, region: &str) -> Result<Response<OssResponseBody>, OssError> {
    let limit = page_size(request, 100)?;
    let prefix = request.param("prefix").unwrap_or_default();
    let marker = request.param("marker").unwrap_or_default();
    let document = sandbox.with_state(|state| {
        let mut named =
            state.buckets.iter().filter(|(name, _)| name.starts_with(prefix) && ***name > *marker).peekable();
        let mut last = None;
        ResponseDocument::new("ListAllMyBucketsResult", |to| {
            to.write_owner();
            to.write_element("Buckets", |to| {
                for (name, bucket) in named.by_ref().take(limit) {
                    last = Some(name);
                    to.write_element("Bucket", |to| write_bucket(to, name, bucket.created, region));
                }
            });
            let more = limit > 0 && named.peek().is_some();
            to.write_text("Prefix", prefix);
            to.write_text("Marker", marker);
            to.write_text("MaxKeys", &limit.to_string());
            to.write_text("IsTruncated", &more.to_string());
            to.write_optional("NextMarker", last.filter(|_| more).map(|name| &**name));
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

fn info(sandbox: &Sandbox, request: &OssRequest, region: &str) -> Result<Response<OssResponseBody>, OssError> {
    let name = request.bucket()?;
    let document = sandbox.with_bucket(name, |bucket| {
        ResponseDocument::new("BucketInfo", |to| {
            to.write_element("Bucket", |to| {
                write_bucket(to, name, bucket.created, region);
                to.write_owner();
                to.write_element("AccessControlList", |to| to.write_text("Grant", acl_name(bucket.acl)));
                to.write_text("DataRedundancyType", "LRS");
                if bucket.versioning != VersioningStatus::Never {
                    to.write_text("Versioning", bucket.versioning.as_str());
                }
            });
        })
    })?;
    Ok(document.into_response())
}

fn location(sandbox: &Sandbox, request: &OssRequest, region: &str) -> Result<Response<OssResponseBody>, OssError> {
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
    let acl = sandbox.with_bucket(request.bucket()?, |bucket| bucket.acl)?;
    Ok(acl_document(acl).into_response())
}

fn put_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let acl = requested_acl(request)?.ok_or_else(|| OssError::invalid_argument("The header x-oss-acl is missing."))?;
    sandbox.set_bucket_acl(request.bucket()?, acl)?;
    Ok(empty_response(StatusCode::OK))
}

fn get_lifecycle(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let rules = sandbox.with_bucket(request.bucket()?, |bucket| bucket.lifecycle.clone())?;
    if rules.is_empty() {
        let message = "No Row found in Lifecycle Table.";
        return Err(OssError::new(StatusCode::NOT_FOUND, "NoSuchLifecycle", "0055-00000011", message));
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
    for (key, value) in rule.tags.iter() {
        to.write_element("Tag", |to| {
            to.write_text("Key", key);
            to.write_text("Value", value);
        });
    }
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
    let known = ["ID", "Prefix", "Status", "Tag", "Expiration", "Transition"];
    if rule.children.iter().any(|child| !known.contains(&child.name.as_str())) {
        return Err(unsupported_rule());
    }
    let enabled = match rule.child_text("Status")? {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(OssError::malformed_xml()),
    };
    let named = |name: &'static str| rule.children.iter().filter(move |child| child.name == name);
    let tags = named("Tag").map(|tag| {
        tag.check_children(&["Key", "Value"])?;
        let key = tag.child_text("Key")?.ok_or_else(OssError::malformed_xml)?;
        Ok((key.into(), tag.child_text("Value")?.unwrap_or_default().into()))
    });
    let moves = named("Transition").map(|transition| {
        let class = transition.child_text("StorageClass")?.and_then(ObjectStorageClass::parse_oss_name);
        Ok((parse_days(transition, &["Days", "StorageClass"])?, class.ok_or_else(OssError::malformed_xml)?))
    });
    Ok(LifecycleRule {
        id: rule.child_text("ID")?.unwrap_or_default().into(),
        enabled,
        prefix: rule.child_text("Prefix")?.unwrap_or_default().into(),
        tags: check_for_oss(tags.collect::<Result<TagList, OssError>>()?)?,
        expiration_days: rule.child("Expiration")?.map(|expiration| parse_days(expiration, &["Days"])).transpose()?,
        transitions: moves.collect::<Result<_, OssError>>()?,
    })
}

fn parse_days(action: &RequestElement, known: &[&str]) -> Result<u32, OssError> {
    action.check_children(known).map_err(|_| unsupported_rule())?;
    let days = action.child_text("Days")?.and_then(|days| days.trim().parse().ok());
    days.ok_or_else(OssError::malformed_xml)
}

fn unsupported_rule() -> OssError {
    OssError::not_implemented(
        "The sandbox supports only lifecycle rules with a prefix, tags, and expiration or transitions after days",
    )
}

impl From<LifecycleError> for OssError {
    fn from(fault: LifecycleError) -> Self {
        match fault {
            LifecycleError::RuleCount | LifecycleError::NoAction => Self::malformed_xml(),
            LifecycleError::InvalidId | LifecycleError::InvalidDays => Self::invalid_argument(fault.message()),
        }
    }
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
        let told = ResponseDocument::new("Rule", |to| write_rule(to, &read(inner).unwrap())).into_text();
        assert!(told.ends_with(&format!("<Rule>{inner}</Rule>")), "{told}");
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
