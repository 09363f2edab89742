//! ACLs: their operations, and the three forms in which requests set them, which are canned ACLs, headers with grants,
//! and documents.

use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3Request, S3Response, S3Result, dto, s3_error};

use super::access::requester;
use super::object::requested_object;
use super::response::{custom_error, invalid_argument, with_version};
use crate::access::{
    AccessPolicy, AclGrant, AclPermission, CannedAcl, Grantee, GranteeGroup, OwnerId, SharedAccess, StoredAcl,
};
use crate::model::ObjectOwnership;
use crate::state::StoredBucket;
use crate::store::Sandbox;

/// The maximum number of grants in an ACL.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>
const MAX_GRANTS: usize = 100;

/// The headers that contain grants, and what they grant.
const GRANT_HEADERS: [(&str, AclPermission); 5] = [
    ("x-amz-grant-full-control", AclPermission::FullControl),
    ("x-amz-grant-read", AclPermission::Read),
    ("x-amz-grant-read-acp", AclPermission::ReadAcp),
    ("x-amz-grant-write", AclPermission::Write),
    ("x-amz-grant-write-acp", AclPermission::WriteAcp),
];

pub(super) fn get_bucket_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::GetBucketAclInput>,
) -> S3Result<S3Response<dto::GetBucketAclOutput>> {
    let policy = sandbox.with_bucket(&request.input.bucket, StoredBucket::effective_access)?;
    Ok(S3Response::new(dto::GetBucketAclOutput {
        grants: Some(to_s3_grants(sandbox, &policy)),
        owner: Some(to_s3_owner(sandbox, policy.owner)),
    }))
}

pub(super) fn put_bucket_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::PutBucketAclInput>,
) -> S3Result<S3Response<dto::PutBucketAclOutput>> {
    let dto::PutBucketAclInput { bucket, acl, access_control_policy, .. } = request.input;
    check_acls_allowed(sandbox, &bucket)?;
    let owner = sandbox.with_bucket(&bucket, |bucket| bucket.access.owner)?;
    let canned = acl.as_ref().map(dto::BucketCannedACL::as_str);
    let requested = RequestedAcl::parse(sandbox, &request.headers, canned, access_control_policy.as_ref(), owner)?;
    let acl = requested.for_bucket(owner)?.ok_or_else(missing_acl)?;
    sandbox.set_bucket_acl(&bucket, acl)?;
    Ok(S3Response::new(dto::PutBucketAclOutput {}))
}

pub(super) fn get_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::GetObjectAclInput>,
) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
    let input = request.input;
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let found = sandbox.find_object(target)?;
    let policy = sandbox.with_bucket(&input.bucket, |bucket| bucket.effective_object_access(&found.object.access))?;
    let output = dto::GetObjectAclOutput {
        grants: Some(to_s3_grants(sandbox, &policy)),
        owner: Some(to_s3_owner(sandbox, policy.owner)),
        ..Default::default()
    };
    Ok(with_version(output, found.id.as_deref()))
}

pub(super) fn put_object_acl(
    sandbox: &Sandbox,
    request: S3Request<dto::PutObjectAclInput>,
) -> S3Result<S3Response<dto::PutObjectAclOutput>> {
    let input = request.input;
    check_acls_allowed(sandbox, &input.bucket)?;
    let target = requested_object(&input.bucket, &input.key, input.version_id.as_ref())?;
    let bucket_owner = sandbox.with_bucket(&input.bucket, |bucket| bucket.access.owner)?;
    let owner = sandbox.object_owner(target)?;
    let canned = input.acl.as_ref().map(dto::ObjectCannedACL::as_str);
    let document = input.access_control_policy.as_ref();
    let requested = RequestedAcl::parse(sandbox, &request.headers, canned, document, owner)?;
    let acl = requested.for_object(owner, bucket_owner)?.ok_or_else(missing_acl)?;
    let id = sandbox.set_acl(target, acl)?;
    Ok(with_version(dto::PutObjectAclOutput::default(), id.as_deref()))
}

fn missing_acl() -> S3Error {
    s3_error!(MissingSecurityHeader, "Your request was missing a required header: x-amz-acl")
}

/// Returns an error if the bucket's owner owns all objects, so that the bucket allows no ACLs.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
fn check_acls_allowed(sandbox: &Sandbox, bucket: &str) -> S3Result<()> {
    if sandbox.with_bucket(bucket, StoredBucket::acls_disabled)? { Err(acls_not_supported()) } else { Ok(()) }
}

fn acls_not_supported() -> S3Error {
    let message = "The bucket does not allow ACLs";
    custom_error("AccessControlListNotSupported", StatusCode::BAD_REQUEST, message)
}

/// Returns the owner and the ACL of a new object.
pub(super) fn new_object_access<T>(
    sandbox: &Sandbox,
    request: &S3Request<T>,
    bucket: &str,
    canned: Option<&dto::ObjectCannedACL>,
) -> S3Result<SharedAccess> {
    let writer = requester(sandbox, request);
    let (bucket_owner, ownership) = sandbox.with_bucket(bucket, |bucket| (bucket.access.owner, bucket.ownership))?;
    let canned = canned.map(dto::ObjectCannedACL::as_str);
    let requested = RequestedAcl::parse(sandbox, &request.headers, canned, None, writer)?;
    let gives_control = requested.gives_control_to(bucket_owner);
    match ownership {
        ObjectOwnership::Enforced if !gives_control && requested != RequestedAcl::None => Err(acls_not_supported()),
        ObjectOwnership::Enforced => Ok(SharedAccess::new(bucket_owner, StoredAcl::PRIVATE)),
        ObjectOwnership::Preferred if gives_control => Ok(SharedAccess::new(bucket_owner, StoredAcl::PRIVATE)),
        ObjectOwnership::NotSet | ObjectOwnership::Writer | ObjectOwnership::Preferred => {
            let acl = requested.for_object(writer, bucket_owner)?.unwrap_or(StoredAcl::PRIVATE);
            Ok(SharedAccess::new(writer, acl))
        }
    }
}

/// Returns the ACL of a new bucket, or `None` if the request names none.
pub(super) fn new_bucket_acl(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    canned: Option<&dto::BucketCannedACL>,
    owner: OwnerId,
) -> S3Result<Option<StoredAcl>> {
    let canned = canned.map(dto::BucketCannedACL::as_str);
    RequestedAcl::parse(sandbox, headers, canned, None, owner)?.for_bucket(owner)
}

/// Returns an error if a bucket's ACL grants something to others, so that its owner cannot own all objects.
pub(super) fn check_acl_for_enforced_ownership(access: &AccessPolicy) -> S3Result<()> {
    if access.is_private() {
        return Ok(());
    }
    let message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    Err(s3_error!(InvalidBucketAclWithObjectOwnership, "{message}"))
}

/// The ACL in a request.
#[derive(Debug, PartialEq, Eq)]
enum RequestedAcl<'r> {
    None,
    Canned(&'r str),
    Grants(Vec<AclGrant>),
}

impl<'r> RequestedAcl<'r> {
    /// Parses the ACL of a request, which must have only one of the three forms. `owner` is the owner of the bucket or
    /// object, which a document cannot change.
    fn parse(
        sandbox: &Sandbox,
        headers: &HeaderMap,
        canned: Option<&'r str>,
        document: Option<&dto::AccessControlPolicy>,
        owner: OwnerId,
    ) -> S3Result<Self> {
        let has_grant_headers = GRANT_HEADERS.iter().any(|(name, _)| headers.contains_key(*name));
        match (canned, document) {
            (Some(_), _) if has_grant_headers => {
                Err(s3_error!(InvalidRequest, "Specifying both Canned ACLs and Header Grants is not allowed"))
            }
            (_, Some(_)) if has_grant_headers || canned.is_some() => {
                Err(s3_error!(UnexpectedContent, "This request does not support content"))
            }
            (Some(name), _) => Ok(Self::Canned(name)),
            (None, Some(document)) => parse_document(sandbox, document, owner).map(Self::Grants),
            (None, None) if has_grant_headers => parse_headers(sandbox, headers).map(Self::Grants),
            (None, None) => Ok(Self::None),
        }
    }

    /// Returns whether this is the ACL `bucket-owner-full-control`, or the same as grants.
    fn gives_control_to(&self, bucket_owner: OwnerId) -> bool {
        match self {
            Self::None => false,
            Self::Canned(name) => *name == dto::ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL,
            Self::Grants(grants) => {
                *grants == [AclGrant::new(Grantee::Owner(bucket_owner), AclPermission::FullControl)]
            }
        }
    }

    /// Returns the ACL for a bucket.
    fn for_bucket(self, owner: OwnerId) -> S3Result<Option<StoredAcl>> {
        let logs = Grantee::Group(GranteeGroup::LogDelivery);
        match self {
            // A bucket ignores the ACLs that refer to its owner.
            Self::Canned("bucket-owner-read" | "bucket-owner-full-control") => Ok(Some(StoredAcl::PRIVATE)),
            Self::Canned("log-delivery-write") => Ok(Some(StoredAcl::Grants(Box::new([
                AclGrant::new(Grantee::Owner(owner), AclPermission::FullControl),
                AclGrant::new(logs, AclPermission::Write),
                AclGrant::new(logs, AclPermission::ReadAcp),
            ])))),
            other => other.for_all_kinds(),
        }
    }

    /// Returns the ACL for an object.
    fn for_object(self, owner: OwnerId, bucket_owner: OwnerId) -> S3Result<Option<StoredAcl>> {
        let permission = match self {
            Self::Canned("bucket-owner-read") => AclPermission::Read,
            Self::Canned("bucket-owner-full-control") => AclPermission::FullControl,
            other => return other.for_all_kinds(),
        };
        if owner == bucket_owner {
            return Ok(Some(StoredAcl::PRIVATE));
        }
        Ok(Some(StoredAcl::Grants(Box::new([
            AclGrant::new(Grantee::Owner(owner), AclPermission::FullControl),
            AclGrant::new(Grantee::Owner(bucket_owner), permission),
        ]))))
    }

    fn for_all_kinds(self) -> S3Result<Option<StoredAcl>> {
        match self {
            Self::None => Ok(None),
            Self::Grants(grants) => Ok(Some(StoredAcl::Grants(grants.into()))),
            Self::Canned("aws-exec-read") => {
                Err(s3_error!(NotImplemented, "The sandbox does not support aws-exec-read"))
            }
            Self::Canned(name) => {
                let known = CannedAcl::parse(name).filter(|acl| *acl != CannedAcl::Default);
                let known = known.ok_or_else(|| s3_error!(InvalidArgument, "The canned ACL `{name}` does not exist"));
                Ok(Some(StoredAcl::Canned(known?)))
            }
        }
    }
}

/// Parses the headers that contain grants. Each is a list such as `id="5a6d", uri="http://acs.amazonaws.com/..."`.
fn parse_headers(sandbox: &Sandbox, headers: &HeaderMap) -> S3Result<Vec<AclGrant>> {
    let not_recognized = || invalid_argument("Argument format not recognized");
    let mut grants = Vec::new();
    for (name, permission) in GRANT_HEADERS {
        for header in headers.get_all(name) {
            let list = header.to_str().map_err(|_| not_recognized())?;
            for item in list.split(',') {
                let (kind, value) = item.split_once('=').ok_or_else(not_recognized)?;
                let value = value.trim().trim_matches('"');
                let grantee = match kind.trim() {
                    "id" => parse_owner(sandbox, value)?,
                    "uri" => parse_group(value)?,
                    "emailAddress" => return Err(email_not_supported()),
                    _ => return Err(not_recognized()),
                };
                grants.push(AclGrant::new(grantee, permission));
            }
        }
    }
    check_count(grants)
}

/// Parses a document with grants, and keeps them in their order.
fn parse_document(sandbox: &Sandbox, document: &dto::AccessControlPolicy, owner: OwnerId) -> S3Result<Vec<AclGrant>> {
    let (Some(grants), Some(named_owner)) = (&document.grants, &document.owner) else { return Err(malformed_acl()) };
    let named_owner = OwnerId::parse(named_owner.id.as_deref().unwrap_or_default()).ok_or_else(invalid_id)?;
    if named_owner != owner {
        return Err(super::response::access_denied());
    }
    check_count(grants.iter().map(|grant| parse_grant(sandbox, grant)).collect::<S3Result<_>>()?)
}

fn parse_grant(sandbox: &Sandbox, grant: &dto::Grant) -> S3Result<AclGrant> {
    let permission = grant.permission.as_ref().and_then(|permission| AclPermission::parse(permission.as_str()));
    let (Some(permission), Some(grantee)) = (permission, &grant.grantee) else { return Err(malformed_acl()) };
    let grantee = match grantee.type_.as_str() {
        dto::Type::CANONICAL_USER => parse_owner(sandbox, grantee.id.as_deref().unwrap_or_default())?,
        dto::Type::GROUP => parse_group(grantee.uri.as_deref().unwrap_or_default())?,
        dto::Type::AMAZON_CUSTOMER_BY_EMAIL => return Err(email_not_supported()),
        _ => return Err(malformed_acl()),
    };
    Ok(AclGrant::new(grantee, permission))
}

/// Parses a canonical ID, which must be that of an owner.
fn parse_owner(sandbox: &Sandbox, id: &str) -> S3Result<Grantee> {
    let known = OwnerId::parse(id).filter(|id| sandbox.owner_directory().iter().any(|(known, _)| known == *id));
    known.map(Grantee::Owner).ok_or_else(invalid_id)
}

fn parse_group(uri: &str) -> S3Result<Grantee> {
    GranteeGroup::parse(uri).map(Grantee::Group).ok_or_else(|| invalid_argument("Invalid group uri"))
}

fn check_count(grants: Vec<AclGrant>) -> S3Result<Vec<AclGrant>> {
    if grants.len() > MAX_GRANTS { Err(malformed_acl()) } else { Ok(grants) }
}

fn invalid_id() -> S3Error {
    invalid_argument("Invalid id")
}

fn malformed_acl() -> S3Error {
    let message = "The XML you provided was not well-formed or did not validate against our published schema";
    s3_error!(MalformedACLError, "{message}")
}

/// AWS no longer accepts email addresses.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html>
fn email_not_supported() -> S3Error {
    s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.")
}

/// Converts an owner for s3s.
pub(super) fn to_s3_owner(sandbox: &Sandbox, id: OwnerId) -> dto::Owner {
    let display_name = sandbox.owner_directory().display_name(id).map(str::to_owned);
    dto::Owner { id: Some(id.to_string()), display_name }
}

fn to_s3_grants(sandbox: &Sandbox, policy: &AccessPolicy) -> Vec<dto::Grant> {
    let grants = policy.grants().into_iter().map(|AclGrant { grantee, permission }| dto::Grant {
        grantee: Some(to_s3_grantee(sandbox, grantee)),
        permission: Some(dto::Permission::from_static(permission.as_str())),
    });
    grants.collect()
}

fn to_s3_grantee(sandbox: &Sandbox, grantee: Grantee) -> dto::Grantee {
    match grantee {
        Grantee::Owner(id) => {
            let dto::Owner { id, display_name } = to_s3_owner(sandbox, id);
            let type_ = dto::Type::from_static(dto::Type::CANONICAL_USER);
            dto::Grantee { type_, id, display_name, uri: None, email_address: None }
        }
        Grantee::Group(group) => dto::Grantee {
            type_: dto::Type::from_static(dto::Type::GROUP),
            uri: Some(group.as_str().to_owned()),
            id: None,
            display_name: None,
            email_address: None,
        },
    }
}
