//! Lifecycle rules of buckets.
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketlifecycle>

use http::{Response, StatusCode};

use super::body::{OssResponseBody, empty_response};
use super::document::{RequestElement, ResponseDocument};
use super::error::OssError;
use super::request::OssRequest;
use crate::lifecycle::{LifecycleError, LifecycleRule, validate_rules};
use crate::model::ObjectStorageClass;
use crate::store::Sandbox;
use crate::tags::{TagList, check_for_oss};

pub(super) fn get_lifecycle(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
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

pub(super) fn put_lifecycle(
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

pub(super) fn delete_lifecycle(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    sandbox.set_lifecycle(request.bucket()?, Vec::new())?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Parses a rule. Rejects what the sandbox does not store, so that nothing is lost silently.
fn parse_rule(rule: &RequestElement) -> Result<LifecycleRule, OssError> {
    let kept = ["ID", "Prefix", "Status", "Tag", "Expiration", "Transition"];
    if rule.children.iter().any(|child| !kept.contains(&child.name.as_str())) {
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
