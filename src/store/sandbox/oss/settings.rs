//! Lifecycle rules of buckets.
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketlifecycle>

use http::{Response, StatusCode};

use super::content::{Content, empty};
use super::document::{Document, Element};
use super::error::Fault;
use super::request::Request;
use crate::store::sandbox::model::Class;
use crate::store::sandbox::settings::{LifecycleFault, LifecycleRule, checked};
use crate::store::sandbox::tags::{TagList, check_for_oss};
use crate::store::sandbox::vault::Sandbox;

pub(super) fn get_lifecycle(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let rules = sandbox.view_bucket(request.bucket()?, |bucket| bucket.lifecycle.clone())?;
    if rules.is_empty() {
        let message = "No Row found in Lifecycle Table.";
        return Err(Fault::new(StatusCode::NOT_FOUND, "NoSuchLifecycle", "0055-00000011", message));
    }
    let document = Document::of("LifecycleConfiguration", |to| {
        for rule in &rules {
            to.element("Rule", |to| tell(to, rule));
        }
    });
    Ok(document.into_response())
}

fn tell(to: &mut Document, rule: &LifecycleRule) {
    to.text("ID", &rule.id);
    to.text("Prefix", &rule.prefix);
    to.text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
    for (key, value) in rule.tags.iter() {
        to.element("Tag", |to| {
            to.text("Key", key);
            to.text("Value", value);
        });
    }
    if let Some(days) = rule.expires {
        to.element("Expiration", |to| to.text("Days", &days.to_string()));
    }
    for (days, class) in &rule.moves {
        to.element("Transition", |to| {
            to.text("Days", &days.to_string());
            to.text("StorageClass", class.oss_name());
        });
    }
}

pub(super) fn put_lifecycle(sandbox: &Sandbox, request: &Request, document: &[u8]) -> Result<Response<Content>, Fault> {
    let lifecycle = Element::parse(document, "LifecycleConfiguration")?;
    lifecycle.only(&["Rule"])?;
    let rules = checked(lifecycle.children.iter().map(rule).collect::<Result<_, _>>()?).map_err(Fault::from)?;
    sandbox.set_lifecycle(request.bucket()?, rules)?;
    Ok(empty(StatusCode::OK))
}

pub(super) fn delete_lifecycle(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    sandbox.set_lifecycle(request.bucket()?, Vec::new())?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Parses a rule. Rejects what the sandbox does not store, so that nothing is lost silently.
fn rule(rule: &Element) -> Result<LifecycleRule, Fault> {
    let kept = ["ID", "Prefix", "Status", "Tag", "Expiration", "Transition"];
    if rule.children.iter().any(|child| !kept.contains(&child.name.as_str())) {
        return Err(not_kept());
    }
    let enabled = match rule.text_of("Status")? {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(Fault::malformed_xml()),
    };
    let named = |name: &'static str| rule.children.iter().filter(move |child| child.name == name);
    let tags = named("Tag").map(|tag| {
        tag.only(&["Key", "Value"])?;
        let key = tag.text_of("Key")?.ok_or_else(Fault::malformed_xml)?;
        Ok((key.into(), tag.text_of("Value")?.unwrap_or_default().into()))
    });
    let moves = named("Transition").map(|transition| {
        let class = transition.text_of("StorageClass")?.and_then(Class::parse_oss);
        Ok((days(transition, &["Days", "StorageClass"])?, class.ok_or_else(Fault::malformed_xml)?))
    });
    Ok(LifecycleRule {
        id: rule.text_of("ID")?.unwrap_or_default().into(),
        enabled,
        prefix: rule.text_of("Prefix")?.unwrap_or_default().into(),
        tags: check_for_oss(tags.collect::<Result<TagList, Fault>>()?)?,
        expires: rule.child("Expiration")?.map(|expiration| days(expiration, &["Days"])).transpose()?,
        moves: moves.collect::<Result<_, Fault>>()?,
    })
}

fn days(action: &Element, known: &[&str]) -> Result<u32, Fault> {
    action.only(known).map_err(|_| not_kept())?;
    let days = action.text_of("Days")?.and_then(|days| days.trim().parse().ok());
    days.ok_or_else(Fault::malformed_xml)
}

fn not_kept() -> Fault {
    Fault::not_implemented(
        "The sandbox keeps lifecycle rules by prefix and tags that expire objects or change their class after days",
    )
}

impl From<LifecycleFault> for Fault {
    fn from(fault: LifecycleFault) -> Self {
        match fault {
            LifecycleFault::Rules | LifecycleFault::Idle => Self::malformed_xml(),
            LifecycleFault::Id | LifecycleFault::Days => Self::invalid_argument(fault.message()),
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
            rule(&Element::parse(document.as_bytes(), "Rule").unwrap())
        };
        let inner = "<ID>r</ID><Prefix>a/</Prefix><Status>Enabled</Status><Tag><Key>k</Key><Value>v</Value></Tag>\
                     <Expiration><Days>9</Days></Expiration>\
                     <Transition><Days>3</Days><StorageClass>IA</StorageClass></Transition>";
        let told = Document::of("Rule", |to| tell(to, &read(inner).unwrap())).into_text();
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
