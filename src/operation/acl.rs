//! The ACL of an object, and the operation that sets a predefined one.

use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState};
use batchplan_store::object_request::{ObjectRequest, RequestKind, ResponseData};
use serde_json::{Value as Json, json};

use super::rules::{
    AspectRules, FieldKind, FieldValue, NOT_READABLE, NOT_WRITABLE, ObjectAspect, OperationDescriptor,
    OperationDetails, OperationError, OperationField, OperationRules, ServiceGap, needed_change,
};

/// The ACL of an object.
pub(super) struct AclRules;

impl AspectRules for AclRules {
    fn name(&self) -> &'static str {
        "acl"
    }

    fn sub_resource(&self) -> &'static str {
        "?acl"
    }

    fn subject(&self) -> &'static str {
        "its ACL"
    }

    fn read_request(&self) -> Option<ObjectRequest> {
        Some(ObjectRequest::GetAcl)
    }

    fn write_request(&self, before: &ObjectState, after: &ObjectState) -> Option<ObjectRequest> {
        request(&before.acl, &after.acl)
    }

    fn is_known(&self, state: &ObjectState) -> bool {
        state.acl.known().is_some()
    }

    fn copy(&self, from: &ObjectState, to: &mut ObjectState) {
        to.acl = from.acl.clone();
    }

    fn lines(&self, state: &ObjectState) -> Vec<String> {
        state.acl.known().map(|acl| format!("acl {}", acl.as_str())).into_iter().collect()
    }

    fn json(&self, state: &ObjectState) -> (&'static str, Json) {
        ("acl", json!(state.acl.known().map(ObjectAcl::as_str)))
    }

    fn difference(&self, sent: &ObjectRequest, found: &ResponseData) -> Option<String> {
        match (sent, found) {
            (ObjectRequest::PutAcl(acl), ResponseData::Acl(found)) if acl == found => None,
            (_, ResponseData::Acl(ObjectAcl::Custom(_))) => {
                Some("a read returns an ACL that is not predefined".to_owned())
            }
            (_, ResponseData::Acl(acl)) => Some(format!("a read returns the ACL {}", acl.as_str())),
            _ => Some(NOT_READABLE.to_owned()),
        }
    }

    fn write_back(&self, _: RequestKind, found: &ResponseData) -> Result<ObjectRequest, &'static str> {
        match found {
            ResponseData::Acl(ObjectAcl::Custom(_)) => {
                Err("its ACL is not a predefined one, so it could not be written back: choose another object")
            }
            ResponseData::Acl(acl) => Ok(ObjectRequest::PutAcl(acl.clone())),
            _ => Err(NOT_WRITABLE),
        }
    }

    fn describe_response(&self, found: &ResponseData) -> Option<String> {
        let ResponseData::Acl(acl) = found else { return None };
        Some(acl.as_str().to_owned())
    }
}

pub(super) struct PutAcl;

static ACL: OperationField = OperationField {
    key: "acl",
    oss_element: "ObjectAcl",
    aws_path: &["AccessControlPolicy", "CannedAccessControlList"],
    aws_unsupported: &[("AccessControlList", "plans only support canned ACLs: use a CannedAccessControlList")],
    kind: FieldKind::Text,
    required: true,
};

impl OperationRules for PutAcl {
    type Settings = ObjectAcl;

    const DESCRIPTOR: OperationDescriptor = OperationDescriptor {
        name: "put_object_acl",
        oss_element: "PutObjectAcl",
        is_in_oss: true,
        aws_member: Some("S3PutObjectAcl"),
        aspect: ObjectAspect::Acl,
        reads_after_ambiguous_write: &[],
        fields: &[&ACL],
    };

    fn details(acl: &ObjectAcl) -> OperationDetails {
        let is_public = matches!(acl, ObjectAcl::PublicRead | ObjectAcl::PublicReadWrite);
        OperationDetails {
            needs_current_state: false,
            writes: &[RequestKind::PutAcl],
            settings: vec![(&ACL, FieldValue::Text(acl.as_str()))],
            summary: acl.as_str().to_owned(),
            warning: is_public.then(|| format!("{} gives everyone access to every object immediately", acl.as_str())),
            oss_gap: None,
            aws_gap: (*acl == ObjectAcl::Default).then_some(ServiceGap {
                part: "`acl = \"default\"` in [operation.put_object_acl]",
                help: "use private, public-read or public-read-write",
            }),
        }
    }

    fn desired(before: ObjectState, acl: &ObjectAcl) -> Result<ObjectState, OperationError> {
        Ok(put(before, acl.clone()))
    }

    #[cfg(test)]
    fn example() -> (ObjectAcl, ObjectState) {
        (ObjectAcl::Private, ObjectState::default())
    }
}

/// Returns the state with this ACL.
fn put(before: ObjectState, acl: ObjectAcl) -> ObjectState {
    ObjectState { acl: MaybeKnown::Known(acl), ..before }
}

/// Returns the request that sets the ACL, if it has to change.
fn request(before: &MaybeKnown<ObjectAcl>, after: &MaybeKnown<ObjectAcl>) -> Option<ObjectRequest> {
    needed_change(before, after).map(|acl| ObjectRequest::PutAcl(acl.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_acl_is_set_and_an_equal_one_is_left() {
        let after = put(ObjectState::default(), ObjectAcl::PublicRead);
        assert_eq!(request(&MaybeKnown::Unknown, &after.acl), Some(ObjectRequest::PutAcl(ObjectAcl::PublicRead)));
        assert_eq!(request(&MaybeKnown::Known(ObjectAcl::PublicRead), &after.acl), None);
        assert_eq!(
            request(&MaybeKnown::Known(ObjectAcl::Custom(None)), &after.acl),
            Some(ObjectRequest::PutAcl(ObjectAcl::PublicRead))
        );
    }
}
