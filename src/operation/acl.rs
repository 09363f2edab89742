//! Sets a predefined ACL.

use super::wanted;
use crate::call::Call;
use crate::object::{Acl, Fact, ObjectState};

/// Returns the state with this ACL.
pub(super) fn put(before: ObjectState, acl: Acl) -> ObjectState {
    ObjectState { acl: Fact::Known(acl), ..before }
}

/// Returns the request that sets the ACL, if it has to change.
pub(super) fn call(before: &Fact<Acl>, after: &Fact<Acl>) -> Option<Call> {
    wanted(before, after).map(|acl| Call::PutAcl(*acl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_acl_is_set_and_an_equal_one_is_left() {
        let after = put(ObjectState::default(), Acl::PublicRead);
        assert_eq!(call(&Fact::Unknown, &after.acl), Some(Call::PutAcl(Acl::PublicRead)));
        assert_eq!(call(&Fact::Known(Acl::PublicRead), &after.acl), None);
        assert_eq!(call(&Fact::Known(Acl::Custom), &after.acl), Some(Call::PutAcl(Acl::PublicRead)));
    }
}
