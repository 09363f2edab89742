//! Sets a predefined ACL.

use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState};
use batchplan_store::object_request::ObjectRequest;

use super::needed_change;

/// Returns the state with this ACL.
pub(super) fn put(before: ObjectState, acl: ObjectAcl) -> ObjectState {
    ObjectState { acl: MaybeKnown::Known(acl), ..before }
}

/// Returns the request that sets the ACL, if it has to change.
pub(super) fn request(before: &MaybeKnown<ObjectAcl>, after: &MaybeKnown<ObjectAcl>) -> Option<ObjectRequest> {
    needed_change(before, after).map(|acl| ObjectRequest::PutAcl(*acl))
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
            request(&MaybeKnown::Known(ObjectAcl::Custom), &after.acl),
            Some(ObjectRequest::PutAcl(ObjectAcl::PublicRead))
        );
    }
}
