//! ACLs of objects. Only canned ACLs are supported, including those that a client writes as grants.

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::convert::{owner, parse_canned_acl, requested_version, with_version};
use super::settings::check_acls_allowed;
use super::write::reject_grant_headers;
use crate::model::StoredAcl;
use crate::state::RequestedObject;
use crate::store::Sandbox;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

pub(super) fn get_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectAclInput>,
) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
    let input = request.input;
    let version = requested_version(input.version_id.as_ref())?;
    let seen = sandbox.find_object(RequestedObject { bucket: &input.bucket, key: &input.key, version })?;
    let output = dto::GetObjectAclOutput {
        grants: Some(grants(seen.effective_acl())),
        owner: Some(owner()),
        ..Default::default()
    };
    Ok(with_version(output, seen.id.as_deref()))
}

pub(super) fn put_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectAclInput>,
) -> S3Result<S3Response<dto::PutObjectAclOutput>> {
    reject_grant_headers(&request.headers)?;
    let input = request.input;
    check_acls_allowed(sandbox, &input.bucket)?;
    let acl = match (&input.acl, input.access_control_policy) {
        (Some(_), Some(_)) => {
            return Err(s3_error!(UnexpectedContent, "This request does not support content"));
        }
        (Some(name), None) => parse_canned_acl(Some(name))?,
        (None, Some(policy)) => canned_acl_of_grants(&policy)?,
        (None, None) => {
            return Err(s3_error!(MissingSecurityHeader, "Your request was missing a required header: x-amz-acl"));
        }
    };
    let version = requested_version(input.version_id.as_ref())?;
    let id = sandbox.set_acl(RequestedObject { bucket: &input.bucket, key: &input.key, version }, acl)?;
    Ok(with_version(dto::PutObjectAclOutput::default(), id.as_deref()))
}

/// Returns what a canned ACL grants to groups. The owner always has full control.
fn group_grants(acl: StoredAcl) -> &'static [(&'static str, &'static str)] {
    match acl {
        // `Default` is replaced by the ACL of the bucket before this is called.
        StoredAcl::Private | StoredAcl::Default => &[],
        StoredAcl::PublicRead => &[(ALL_USERS, "READ")],
        StoredAcl::PublicReadWrite => &[(ALL_USERS, "READ"), (ALL_USERS, "WRITE")],
        StoredAcl::AuthenticatedRead => &[(AUTHENTICATED_USERS, "READ")],
    }
}

fn grants(acl: StoredAcl) -> Vec<dto::Grant> {
    let grant = |grantee, permission| dto::Grant {
        grantee: Some(grantee),
        permission: Some(dto::Permission::from_static(permission)),
    };
    let dto::Owner { id, display_name } = owner();
    let to_owner = dto::Grantee {
        type_: dto::Type::from_static(dto::Type::CANONICAL_USER),
        id,
        display_name,
        email_address: None,
        uri: None,
    };
    let to_group = |uri: &str| dto::Grantee {
        type_: dto::Type::from_static(dto::Type::GROUP),
        id: None,
        display_name: None,
        email_address: None,
        uri: Some(uri.to_owned()),
    };
    let groups = group_grants(acl).iter().map(|(uri, permission)| grant(to_group(uri), permission));
    std::iter::once(grant(to_owner, "FULL_CONTROL")).chain(groups).collect()
}

/// Returns the canned ACL that has exactly these grants.
fn canned_acl_of_grants(policy: &dto::AccessControlPolicy) -> S3Result<StoredAcl> {
    let Some(grants) = policy.grants.as_ref().filter(|_| policy.owner.is_some()) else {
        return Err(s3_error!(MalformedACLError, "An access control policy must have an owner and grants"));
    };
    let mut groups = Vec::new();
    for grant in grants {
        let permission = grant.permission.as_ref().map_or("", dto::Permission::as_str);
        let Some(grantee) = &grant.grantee else {
            return Err(s3_error!(MalformedACLError, "A grant must have a grantee"));
        };
        match (&grantee.uri, &grantee.id) {
            (Some(uri), _) => groups.push((uri.as_str(), permission)),
            (None, Some(id)) if permission == "FULL_CONTROL" && owner().id.as_ref() == Some(id) => {}
            _ => return Err(s3_error!(NotImplemented, "The sandbox supports grants only to its owner and to groups")),
        }
    }
    groups.sort_unstable();
    [StoredAcl::Private, StoredAcl::PublicRead, StoredAcl::PublicReadWrite, StoredAcl::AuthenticatedRead]
        .into_iter()
        .find(|acl| group_grants(*acl) == groups)
        .ok_or_else(|| s3_error!(NotImplemented, "The sandbox supports only canned ACLs"))
}
