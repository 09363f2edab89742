//! Sub-resources of objects: tags, ACLs, and restores.

use http::{HeaderName, Response, StatusCode};

use super::body::{OssResponseBody, empty_response};
use super::bucket::{acl_document, parse_acl};
use super::document::{RequestElement, ResponseDocument};
use super::error::{OssError, VERSION_ID, set_header};
use super::request::OssRequest;
use crate::model::{ObjectStorageClass, RetrievalTier};
use crate::restore::{RestoreDialect, RestoreParameters};
use crate::store::{AcceptedRestoreKind, Sandbox};
use crate::tags::{SharedTags, TagList, check_for_oss};

const PRIORITY: HeaderName = HeaderName::from_static("x-oss-object-restore-priority");

/// Adds the version ID to a response, if there is one.
pub(super) fn with_version(mut response: Response<OssResponseBody>, id: Option<&str>) -> Response<OssResponseBody> {
    if let Some(id) = id {
        set_header(response.headers_mut(), VERSION_ID, id);
    }
    response
}

pub(super) fn get_tagging(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let seen = sandbox.find_object(request.target()?)?;
    let document = ResponseDocument::new("Tagging", |to| {
        to.write_element("TagSet", |to| {
            for (key, value) in seen.object.tags.iter() {
                to.write_element("Tag", |to| {
                    to.write_text("Key", key);
                    to.write_text("Value", value);
                });
            }
        });
    });
    Ok(with_version(document.into_response(), seen.id.as_deref()))
}

pub(super) fn put_tagging(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let tagging = RequestElement::parse(document, "Tagging")?;
    tagging.check_children(&["TagSet"])?;
    let set = tagging.child("TagSet")?.ok_or_else(OssError::malformed_xml)?;
    set.check_children(&["Tag"])?;
    let pairs = set.children.iter().map(|tag| {
        tag.check_children(&["Key", "Value"])?;
        let key = tag.child_text("Key")?.ok_or_else(OssError::malformed_xml)?;
        Ok((key.into(), tag.child_text("Value")?.unwrap_or_default().into()))
    });
    let tags = check_for_oss(pairs.collect::<Result<TagList, OssError>>()?)?;
    let id = sandbox.set_tags(request.target()?, tags)?;
    Ok(with_version(empty_response(StatusCode::OK), id.as_deref()))
}

pub(super) fn delete_tagging(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let id = sandbox.set_tags(request.target()?, SharedTags::default())?;
    Ok(with_version(empty_response(StatusCode::NO_CONTENT), id.as_deref()))
}

pub(super) fn get_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let seen = sandbox.find_object(request.target()?)?;
    Ok(with_version(acl_document(seen.object.acl).into_response(), seen.id.as_deref()))
}

pub(super) fn put_acl(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let named = request.header("x-oss-object-acl");
    let acl = parse_acl(named.ok_or_else(|| OssError::invalid_argument("The header x-oss-object-acl is missing."))?)?;
    let id = sandbox.set_acl(request.target()?, acl)?;
    Ok(with_version(empty_response(StatusCode::OK), id.as_deref()))
}

pub(super) fn restore(
    sandbox: &Sandbox,
    request: &OssRequest,
    document: &[u8],
) -> Result<Response<OssResponseBody>, OssError> {
    let ask = if document.is_empty() {
        RestoreParameters { days: 1, tier: None, rules: RestoreDialect::Oss }
    } else {
        parse_restore_request(document)?
    };
    let target = request.target()?;
    let begun = sandbox.restore_object(target, ask)?;
    let status = if begun.kind == AcceptedRestoreKind::Started { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = empty_response(status);
    if begun.class != ObjectStorageClass::Glacier {
        set_header(response.headers_mut(), PRIORITY, begun.tier.as_str());
    }
    let seen = sandbox.find_object(target)?;
    Ok(with_version(response, seen.id.as_deref()))
}

/// Parses a `RestoreRequest`. The default is one day.
fn parse_restore_request(document: &[u8]) -> Result<RestoreParameters, OssError> {
    let asked = RequestElement::parse(document, "RestoreRequest")?;
    asked.check_children(&["Days", "JobParameters"])?;
    let days = match asked.child_text("Days")? {
        None => 1,
        Some(days) => days
            .trim()
            .parse()
            .map_err(|_| OssError::bad_request("MalformedXML", "0016-00000708", "Days must be an integer."))?,
    };
    let tier = match asked.child("JobParameters")? {
        None => None,
        Some(parameters) => {
            parameters.check_children(&["Tier"])?;
            let name = parameters.child_text("Tier")?.ok_or_else(OssError::malformed_xml)?;
            let unknown = || {
                OssError::bad_request("MalformedXML", "0016-00000703", "The tier must be Expedited, Standard or Bulk.")
            };
            Some(RetrievalTier::parse(name).ok_or_else(unknown)?)
        }
    };
    Ok(RestoreParameters { days, tier, rules: RestoreDialect::Oss })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_request_says_days_and_perhaps_a_tier() {
        let read = |content: &str| {
            let asked = parse_restore_request(format!("<RestoreRequest>{content}</RestoreRequest>").as_bytes());
            asked.map(|ask| (ask.days, ask.tier)).map_err(|fault| fault.ec)
        };
        assert_eq!(read("<Days>7</Days>"), Ok((7, None)));
        let tier = |name| format!("<Days>2</Days><JobParameters><Tier>{name}</Tier></JobParameters>");
        assert_eq!(read(&tier("Bulk")), Ok((2, Some(RetrievalTier::Bulk))));
        assert_eq!(read(&tier("Test")), Err("0016-00000703"));
        assert_eq!(read("<Days>a</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>-1</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>1</Days><Days>2</Days>"), Err("0016-00000714"));
        assert_eq!(read("<Days>1</Days><Unknown/>"), Err("0016-00000714"));
    }
}
