//! ACLs of objects. Only canned ACLs are supported, including those that a client writes as grants.

use s3s::{S3Request, S3Response, S3Result, dto, s3_error};

use super::settings::acls_hold;
use super::shape::{canned, owner, version_of, with_version};
use super::write::no_grants;
use crate::store::sandbox::find::Target;
use crate::store::sandbox::model::Acl;
use crate::store::sandbox::vault::Sandbox;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

pub(super) fn get_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectAclInput>,
) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
    let input = request.input;
    let version = version_of(input.version_id.as_ref())?;
    let seen = sandbox.look(Target { bucket: &input.bucket, key: &input.key, version })?;
    let output =
        dto::GetObjectAclOutput { grants: Some(grants(seen.acl())), owner: Some(owner()), ..Default::default() };
    Ok(with_version(output, seen.id.as_deref()))
}

pub(super) fn put_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectAclInput>,
) -> S3Result<S3Response<dto::PutObjectAclOutput>> {
    no_grants(&request.headers)?;
    let input = request.input;
    acls_hold(sandbox, &input.bucket)?;
    let acl = match (&input.acl, input.access_control_policy) {
        (Some(_), Some(_)) => {
            return Err(s3_error!(UnexpectedContent, "This request does not support content"));
        }
        (Some(name), None) => canned(Some(name))?,
        (None, Some(policy)) => spelled_out(&policy)?,
        (None, None) => {
            return Err(s3_error!(MissingSecurityHeader, "Your request was missing a required header: x-amz-acl"));
        }
    };
    let version = version_of(input.version_id.as_ref())?;
    let id = sandbox.set_acl(Target { bucket: &input.bucket, key: &input.key, version }, acl)?;
    Ok(with_version(dto::PutObjectAclOutput::default(), id.as_deref()))
}

/// Returns what a canned ACL grants to groups. The owner always has full control.
fn group_grants(acl: Acl) -> &'static [(&'static str, &'static str)] {
    match acl {
        // `Default` is replaced by the ACL of the bucket before this is called.
        Acl::Private | Acl::Default => &[],
        Acl::PublicRead => &[(ALL_USERS, "READ")],
        Acl::PublicReadWrite => &[(ALL_USERS, "READ"), (ALL_USERS, "WRITE")],
        Acl::AuthenticatedRead => &[(AUTHENTICATED_USERS, "READ")],
    }
}

fn grants(acl: Acl) -> Vec<dto::Grant> {
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
fn spelled_out(policy: &dto::AccessControlPolicy) -> S3Result<Acl> {
    let Some(grants) = policy.grants.as_ref().filter(|_| policy.owner.is_some()) else {
        return Err(s3_error!(MalformedACLError, "An access control policy has an owner and grants"));
    };
    let mut groups = Vec::new();
    for grant in grants {
        let permission = grant.permission.as_ref().map_or("", dto::Permission::as_str);
        let Some(grantee) = &grant.grantee else {
            return Err(s3_error!(MalformedACLError, "A grant has a grantee"));
        };
        match (&grantee.uri, &grantee.id) {
            (Some(uri), _) => groups.push((uri.as_str(), permission)),
            (None, Some(id)) if permission == "FULL_CONTROL" && owner().id.as_ref() == Some(id) => {}
            _ => return Err(s3_error!(NotImplemented, "The sandbox grants to its owner and to groups only")),
        }
    }
    groups.sort_unstable();
    [Acl::Private, Acl::PublicRead, Acl::PublicReadWrite, Acl::AuthenticatedRead]
        .into_iter()
        .find(|acl| group_grants(*acl) == groups)
        .ok_or_else(|| s3_error!(NotImplemented, "The sandbox knows no ACL but the canned ones"))
}
