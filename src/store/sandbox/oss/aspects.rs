//! Sub-resources of objects: tags, ACLs, and restores.

use http::{HeaderName, Response, StatusCode};

use super::bucket::{acl_of, policy};
use super::content::{Content, empty};
use super::document::{Document, Element};
use super::error::{Fault, VERSION_ID, set};
use super::request::Request;
use crate::store::sandbox::model::{Class, Tier};
use crate::store::sandbox::restore::{Ask, Rules};
use crate::store::sandbox::tags::{TagList, TagsRef, check_for_oss};
use crate::store::sandbox::vault::{Restored, Sandbox};

const PRIORITY: HeaderName = HeaderName::from_static("x-oss-object-restore-priority");

/// Adds the version ID to a response, if there is one.
pub(super) fn with_version(mut response: Response<Content>, id: Option<&str>) -> Response<Content> {
    if let Some(id) = id {
        set(response.headers_mut(), VERSION_ID, id);
    }
    response
}

pub(super) fn get_tagging(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let seen = sandbox.look(request.target()?)?;
    let document = Document::of("Tagging", |to| {
        to.element("TagSet", |to| {
            for (key, value) in seen.object.tags.iter() {
                to.element("Tag", |to| {
                    to.text("Key", key);
                    to.text("Value", value);
                });
            }
        });
    });
    Ok(with_version(document.into_response(), seen.id.as_deref()))
}

pub(super) fn put_tagging(sandbox: &Sandbox, request: &Request, document: &[u8]) -> Result<Response<Content>, Fault> {
    let tagging = Element::parse(document, "Tagging")?;
    tagging.only(&["TagSet"])?;
    let set = tagging.child("TagSet")?.ok_or_else(Fault::malformed_xml)?;
    set.only(&["Tag"])?;
    let pairs = set.children.iter().map(|tag| {
        tag.only(&["Key", "Value"])?;
        let key = tag.text_of("Key")?.ok_or_else(Fault::malformed_xml)?;
        Ok((key.into(), tag.text_of("Value")?.unwrap_or_default().into()))
    });
    let tags = check_for_oss(pairs.collect::<Result<TagList, Fault>>()?)?;
    let id = sandbox.set_tags(request.target()?, tags)?;
    Ok(with_version(empty(StatusCode::OK), id.as_deref()))
}

pub(super) fn delete_tagging(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let id = sandbox.set_tags(request.target()?, TagsRef::default())?;
    Ok(with_version(empty(StatusCode::NO_CONTENT), id.as_deref()))
}

pub(super) fn get_acl(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let seen = sandbox.look(request.target()?)?;
    Ok(with_version(policy(seen.object.acl).into_response(), seen.id.as_deref()))
}

pub(super) fn put_acl(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let named = request.header("x-oss-object-acl");
    let acl = acl_of(named.ok_or_else(|| Fault::invalid_argument("The header x-oss-object-acl is missing."))?)?;
    let id = sandbox.set_acl(request.target()?, acl)?;
    Ok(with_version(empty(StatusCode::OK), id.as_deref()))
}

pub(super) fn restore(sandbox: &Sandbox, request: &Request, document: &[u8]) -> Result<Response<Content>, Fault> {
    let ask = if document.is_empty() { Ask { days: 1, tier: None, rules: Rules::Oss } } else { asked(document)? };
    let target = request.target()?;
    let begun = sandbox.restore(target, ask)?;
    let status = if begun.restored == Restored::Accepted { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = empty(status);
    if begun.class != Class::Glacier {
        set(response.headers_mut(), PRIORITY, begun.tier.as_str());
    }
    let seen = sandbox.look(target)?;
    Ok(with_version(response, seen.id.as_deref()))
}

/// Parses a `RestoreRequest`. The default is one day.
fn asked(document: &[u8]) -> Result<Ask, Fault> {
    let asked = Element::parse(document, "RestoreRequest")?;
    asked.only(&["Days", "JobParameters"])?;
    let days = match asked.text_of("Days")? {
        None => 1,
        Some(days) => days
            .trim()
            .parse()
            .map_err(|_| Fault::bad("MalformedXML", "0016-00000708", "The days are not a number of days."))?,
    };
    let tier = match asked.child("JobParameters")? {
        None => None,
        Some(parameters) => {
            parameters.only(&["Tier"])?;
            let name = parameters.text_of("Tier")?.ok_or_else(Fault::malformed_xml)?;
            let unknown =
                || Fault::bad("MalformedXML", "0016-00000703", "The tier is not Expedited, Standard or Bulk.");
            Some(Tier::parse(name).ok_or_else(unknown)?)
        }
    };
    Ok(Ask { days, tier, rules: Rules::Oss })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_request_says_days_and_perhaps_a_tier() {
        let read = |content: &str| {
            let asked = asked(format!("<RestoreRequest>{content}</RestoreRequest>").as_bytes());
            asked.map(|ask| (ask.days, ask.tier)).map_err(|fault| fault.ec)
        };
        assert_eq!(read("<Days>7</Days>"), Ok((7, None)));
        let tier = |name| format!("<Days>2</Days><JobParameters><Tier>{name}</Tier></JobParameters>");
        assert_eq!(read(&tier("Bulk")), Ok((2, Some(Tier::Bulk))));
        assert_eq!(read(&tier("Test")), Err("0016-00000703"));
        assert_eq!(read("<Days>a</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>-1</Days>"), Err("0016-00000708"));
        assert_eq!(read("<Days>1</Days><Days>2</Days>"), Err("0016-00000714"));
        assert_eq!(read("<Days>1</Days><Unknown/>"), Err("0016-00000714"));
    }
}
