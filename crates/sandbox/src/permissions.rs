//! What the owners of buckets and objects allow others to do.
//!
//! The permissions of an ACL mean what they mean at AWS:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#permissions>

use super::access::{AclPermission, OwnerId};
use super::state::{LookupPurpose, RequestedObject, SandboxRequestError, SandboxState, StoredBucket};

/// What a request does with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketAction {
    /// Lists objects, versions, or uploads.
    List,
    /// Writes an object. Overwriting an object of another owner is no different.
    Write,
    ReadAcl,
    WriteAcl,
    /// Reads or changes settings, or deletes the bucket. No ACL grants this.
    Manage,
}

/// What a request does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectAction {
    Read,
    ReadAcl,
    WriteAcl,
    /// Reads or changes tags, or restores the object. The bucket's owner can do this, too, but no ACL grants it.
    Manage,
    /// Deletes the object. The bucket's owner can do this. The object's owner also needs write access to the bucket.
    Delete,
}

/// What a request does with a multipart upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadAction {
    /// Adds a part, or completes the upload.
    Write,
    /// Lists the parts, or aborts the upload.
    Manage,
}

impl SandboxState {
    /// Checks whether a request can do this with a bucket.
    pub(crate) fn check_bucket_access(
        &self,
        requester: OwnerId,
        bucket: &str,
        action: BucketAction,
    ) -> Result<(), SandboxRequestError> {
        let bucket = self.bucket(bucket)?;
        allow(match action {
            BucketAction::List => bucket_grants(bucket, requester, AclPermission::Read),
            BucketAction::Write => bucket_grants(bucket, requester, AclPermission::Write),
            BucketAction::ReadAcl => bucket_grants(bucket, requester, AclPermission::ReadAcp),
            BucketAction::WriteAcl => bucket_grants(bucket, requester, AclPermission::WriteAcp),
            BucketAction::Manage => bucket.access.owner == requester,
        })
    }

    /// Checks whether a request can do this with an object. If the object does not exist, only a
    /// requester that may list the bucket learns that; others get the error for missing access.
    pub(crate) fn check_object_access(
        &self,
        requester: OwnerId,
        target: RequestedObject<'_>,
        action: ObjectAction,
    ) -> Result<(), SandboxRequestError> {
        let bucket = self.bucket(target.bucket)?;
        let Ok((_, object)) = self.find_object(target, LookupPurpose::Read) else {
            let needed = if action == ObjectAction::Delete { AclPermission::Write } else { AclPermission::Read };
            return allow(bucket_grants(bucket, requester, needed));
        };
        let access = bucket.effective_object_access(&object.access);
        let (is_bucket_owner, is_owner) = (bucket.access.owner == requester, access.owner == requester);
        allow(match action {
            ObjectAction::Read => access.allows(requester, AclPermission::Read),
            ObjectAction::ReadAcl => access.allows(requester, AclPermission::ReadAcp),
            ObjectAction::WriteAcl => access.allows(requester, AclPermission::WriteAcp),
            ObjectAction::Manage => is_bucket_owner || is_owner,
            ObjectAction::Delete => {
                is_bucket_owner || (is_owner && bucket_grants(bucket, requester, AclPermission::Write))
            }
        })
    }

    /// Checks whether a request can do this with a multipart upload.
    pub(crate) fn check_upload_access(
        &self,
        requester: OwnerId,
        bucket: &str,
        upload_id: &str,
        action: UploadAction,
    ) -> Result<(), SandboxRequestError> {
        let stored = self.bucket(bucket)?;
        let upload = self.uploads.get(upload_id).filter(|upload| *upload.bucket == *bucket);
        let is_initiator = upload.is_none_or(|upload| upload.initiator == requester);
        let can_write = bucket_grants(stored, requester, AclPermission::Write);
        allow(match action {
            _ if stored.access.owner == requester => true,
            UploadAction::Write => is_initiator && can_write,
            // What does not exist has no initiator.
            UploadAction::Manage => is_initiator && (upload.is_some() || can_write),
        })
    }
}

fn bucket_grants(bucket: &StoredBucket, requester: OwnerId, permission: AclPermission) -> bool {
    bucket.effective_access().allows(requester, permission)
}

fn allow(is_allowed: bool) -> Result<(), SandboxRequestError> {
    if is_allowed { Ok(()) } else { Err(SandboxRequestError::AccessDenied) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{AclGrant, CannedAcl, Grantee, SharedAccess, StoredAcl};
    use crate::model::{ObjectBlob, ObjectOwnership, UnixMillis};
    use crate::state::StateChange;
    use crate::state::tests::version;

    const OBJECT: RequestedObject<'_> = RequestedObject { bucket: "b", key: "k", version: None };
    const ABSENT: RequestedObject<'_> = RequestedObject { bucket: "b", key: "absent", version: None };

    fn writer() -> OwnerId {
        OwnerId::of_further_key("writer")
    }

    fn other() -> OwnerId {
        OwnerId::of_further_key("other")
    }

    /// A bucket of the first owner with an object of the writer.
    fn state(bucket_acl: StoredAcl, object_acl: StoredAcl) -> SandboxState {
        let mut state = SandboxState::default();
        let mut object = version(None, 1, ObjectBlob::Zeros);
        if let Some(object) = &mut object.object {
            object.access = SharedAccess::new(writer(), object_acl);
        }
        for change in [
            StateChange::CreateBucket { bucket: "b".into(), created: UnixMillis(1), owner: OwnerId::FIRST },
            StateChange::SetBucketAcl { bucket: "b".into(), acl: bucket_acl },
            StateChange::Put { bucket: "b".into(), key: "k".into(), version: object },
        ] {
            state.apply(change).unwrap();
        }
        state
    }

    fn can(state: &SandboxState, requester: OwnerId, target: RequestedObject<'_>, action: ObjectAction) -> bool {
        match state.check_object_access(requester, target, action) {
            Ok(()) => true,
            Err(SandboxRequestError::AccessDenied) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn the_buckets_owner_manages_and_deletes_objects_of_others_but_does_not_read_them() {
        let private = state(StoredAcl::PRIVATE, StoredAcl::PRIVATE);
        for (action, bucket_owner, object_owner) in [
            (ObjectAction::Read, false, true),
            (ObjectAction::ReadAcl, false, true),
            (ObjectAction::WriteAcl, false, true),
            (ObjectAction::Manage, true, true),
            (ObjectAction::Delete, true, false),
        ] {
            assert_eq!(can(&private, OwnerId::FIRST, OBJECT, action), bucket_owner, "{action:?}");
            assert_eq!(can(&private, writer(), OBJECT, action), object_owner, "{action:?}");
            assert!(!can(&private, other(), OBJECT, action), "{action:?}");
            assert!(!can(&private, OwnerId::ANONYMOUS, OBJECT, action), "{action:?}");
        }
        let public = state(StoredAcl::Canned(CannedAcl::PublicReadWrite), StoredAcl::PRIVATE);
        assert!(can(&public, writer(), OBJECT, ObjectAction::Delete));
        assert!(!can(&public, other(), OBJECT, ObjectAction::Delete));
        assert!(!can(&public, other(), OBJECT, ObjectAction::Read));
        let mut enforced = public;
        let ownership = ObjectOwnership::Enforced;
        enforced.apply(StateChange::SetOwnership { bucket: "b".into(), ownership }).unwrap();
        assert!(can(&enforced, OwnerId::FIRST, OBJECT, ObjectAction::Read));
        assert!(!can(&enforced, writer(), OBJECT, ObjectAction::Read));
    }

    #[test]
    fn only_who_can_list_the_bucket_learns_what_is_absent() {
        let listable = state(StoredAcl::Canned(CannedAcl::PublicRead), StoredAcl::PRIVATE);
        assert!(can(&listable, other(), ABSENT, ObjectAction::Read));
        assert!(!can(&listable, other(), ABSENT, ObjectAction::Delete));
        let private = state(StoredAcl::PRIVATE, StoredAcl::PRIVATE);
        assert!(!can(&private, other(), ABSENT, ObjectAction::Read));
        assert!(can(&private, OwnerId::FIRST, ABSENT, ObjectAction::Read));
    }

    #[test]
    fn a_grant_on_a_bucket_allows_one_action() {
        let actions = [BucketAction::List, BucketAction::Write, BucketAction::ReadAcl, BucketAction::WriteAcl];
        let permissions = (0..=4).filter_map(AclPermission::from_code);
        for (at, permission) in permissions.enumerate() {
            let grant = AclGrant::new(Grantee::Owner(other()), permission);
            let state = state(StoredAcl::Grants([grant].into()), StoredAcl::PRIVATE);
            for (granted, action) in actions.into_iter().enumerate() {
                let allowed = state.check_bucket_access(other(), "b", action).is_ok();
                assert_eq!(allowed, granted == at || permission == AclPermission::FullControl, "{permission:?}");
                assert!(state.check_bucket_access(OwnerId::FIRST, "b", action).is_ok());
            }
            assert!(state.check_bucket_access(other(), "b", BucketAction::Manage).is_err());
        }
    }

    #[test]
    fn an_upload_belongs_to_who_started_it() {
        use crate::model::{ObjectStorageClass, PendingUpload};

        let mut state = state(StoredAcl::Canned(CannedAcl::PublicReadWrite), StoredAcl::PRIVATE);
        let upload = PendingUpload {
            bucket: "b".into(),
            key: "k".into(),
            initiated: UnixMillis(1),
            initiator: writer(),
            class: ObjectStorageClass::Standard,
            access: SharedAccess::private(),
            tags: crate::tags::SharedTags::default(),
            headers: None,
            checksum: None,
            parts: std::collections::BTreeMap::new(),
        };
        state.apply(StateChange::CreateUpload { id: "u".into(), upload }).unwrap();
        for action in [UploadAction::Write, UploadAction::Manage] {
            assert!(state.check_upload_access(writer(), "b", "u", action).is_ok());
            assert!(state.check_upload_access(OwnerId::FIRST, "b", "u", action).is_ok());
            assert!(state.check_upload_access(other(), "b", "u", action).is_err());
            assert!(state.check_upload_access(other(), "b", "none", action).is_ok());
        }
        state.apply(StateChange::SetBucketAcl { bucket: "b".into(), acl: StoredAcl::PRIVATE }).unwrap();
        assert!(state.check_upload_access(writer(), "b", "u", UploadAction::Manage).is_ok());
        assert!(state.check_upload_access(writer(), "b", "u", UploadAction::Write).is_err());
        assert!(state.check_upload_access(other(), "b", "none", UploadAction::Manage).is_err());
    }
}
