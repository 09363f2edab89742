//! Owners, and the ACLs of buckets and objects: what an owner grants to whom.
//!
//! Each access key belongs to an owner. The owner of the first key owns what was stored before the sandbox knew
//! several, so a folder that was filled with one key stays accessible with one key, whatever its name.
//!
//! An owner always has full access to what is theirs, as an AWS account has whose users are administrators. An ACL only
//! adds to that.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::coded_enum::coded_enum;
use super::pool::SharedPool;
use super::{ACCOUNT_ID, SandboxKey};

/// The length of a canonical ID, in bytes. It is written in hexadecimal.
const OWNER_ID_BYTES: usize = 32;

/// The canonical ID of requests without a signature. AWS has the same one.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
const ANONYMOUS_ID: &str = "65a011a29cdf8ec533ec3d1ccaae921c";

/// The range of OSS's owner IDs, which are numbers with 16 digits. The first owner has the lowest one.
const OSS_ID_BASE: u64 = 1_000_000_000_000_000;
const OSS_ID_RANGE: u64 = 9 * OSS_ID_BASE;

/// The range of account IDs, which are numbers with 12 digits. The first owner has [`ACCOUNT_ID`], which is zero.
const ACCOUNT_ID_RANGE: u64 = 1_000_000_000_000;

/// The canonical ID of an owner, which also identifies the sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerId([u8; OWNER_ID_BYTES]);

impl OwnerId {
    /// The owner with the first access key.
    pub(crate) const FIRST: Self = Self([
        0x5a, 0x6d, 0x7b, 0x0c, 0x53, 0xa4, 0xd0, 0xb0, 0xa3, 0xf4, 0xe7, 0xa2, 0xc1, 0xd9, 0x8f, 0x6e, 0x5b, 0x4a,
        0x39, 0x28, 0x17, 0x06, 0xf5, 0xe4, 0xd3, 0xc2, 0xb1, 0xa0, 0x9f, 0x8e, 0x7d, 0x6c,
    ]);
    /// Requests without a signature, and the owner of the objects that they write.
    pub(crate) const ANONYMOUS: Self = Self([0; OWNER_ID_BYTES]);

    /// Returns the owner with another access key than the first. The ID depends only on the name of the key, so it is
    /// the same whenever the sandbox is started with this key.
    pub(crate) fn of_further_key(access_key: &str) -> Self {
        Self(Sha256::digest(format!("batchplan-sandbox/owner/{access_key}")).into())
    }

    /// Parses a canonical ID.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == ANONYMOUS_ID {
            return Some(Self::ANONYMOUS);
        }
        let digits = text.as_bytes();
        if digits.len() != 2 * OWNER_ID_BYTES {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut id = [0; OWNER_ID_BYTES];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Some(Self(id)).filter(|id| *id != Self::ANONYMOUS)
    }

    pub(crate) fn from_bytes(bytes: [u8; OWNER_ID_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; OWNER_ID_BYTES] {
        &self.0
    }

    /// Returns the ID of this owner in OSS responses.
    pub(crate) fn oss_id(&self) -> String {
        if *self == Self::FIRST {
            return OSS_ID_BASE.to_string();
        }
        (OSS_ID_BASE + self.number() % OSS_ID_RANGE).to_string()
    }

    /// Returns the number of this owner's account, as AWS has one for each.
    pub(crate) fn account_id(&self) -> String {
        if *self == Self::FIRST {
            return ACCOUNT_ID.to_owned();
        }
        format!("{:012}", 1 + self.number() % (ACCOUNT_ID_RANGE - 1))
    }

    /// Returns a number that depends on this ID.
    fn number(&self) -> u64 {
        self.0[..size_of::<u64>()].iter().fold(0, |number, byte| (number << u8::BITS) | u64::from(*byte))
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANONYMOUS {
            return f.write_str(ANONYMOUS_ID);
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The owners, each with its access key.
#[derive(Debug)]
pub(crate) struct OwnerDirectory(Vec<(OwnerId, SandboxKey)>);

impl OwnerDirectory {
    pub(crate) fn new(keys: &[SandboxKey]) -> Self {
        let owners = keys.iter().enumerate().map(|(at, key)| {
            let id = if at == 0 { OwnerId::FIRST } else { OwnerId::of_further_key(&key.access_key) };
            (id, key.clone())
        });
        Self(owners.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerId, &SandboxKey)> {
        self.0.iter().map(|(id, key)| (*id, key))
    }

    /// Returns the owner with this access key, and the key.
    pub(crate) fn with_key(&self, access_key: &str) -> Option<(OwnerId, &SandboxKey)> {
        self.iter().find(|(_, key)| key.access_key == access_key)
    }

    /// Returns the name of an owner, or `None` if none of the keys belongs to it.
    pub(crate) fn display_name(&self, owner: OwnerId) -> Option<&str> {
        self.iter().find(|(id, _)| *id == owner).map(|(_, key)| key.access_key.as_str())
    }
}

coded_enum! {
    /// A canned ACL, which means the same for every owner.
    CannedAcl {
        /// Only the owner has access.
        Private = 0, "private";
        /// Everyone can read.
        PublicRead = 1, "public-read";
        /// Everyone can read and write.
        PublicReadWrite = 2, "public-read-write";
        /// Every signed request can read.
        AuthenticatedRead = 3, "authenticated-read";
        /// The ACL of the bucket applies. Only OSS has this.
        Default = 4, "default";
    }
}

coded_enum! {
    /// What a grant allows.
    AclPermission {
        /// To read an object, or to list a bucket.
        Read = 0, "READ";
        /// To write objects to a bucket. It has no meaning for an object.
        Write = 1, "WRITE";
        /// To read the ACL.
        ReadAcp = 2, "READ_ACP";
        /// To replace the ACL.
        WriteAcp = 3, "WRITE_ACP";
        /// All of these.
        FullControl = 4, "FULL_CONTROL";
    }
}

coded_enum! {
    /// A group that access can be granted to, with its URI.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#specifying-grantee-predefined-groups>
    GranteeGroup {
        /// Everyone, including requests without a signature.
        AllUsers = 0, "http://acs.amazonaws.com/groups/global/AllUsers";
        /// Every signed request.
        AuthenticatedUsers = 1, "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
        /// The service that delivers access logs, which the sandbox does not have.
        LogDelivery = 2, "http://acs.amazonaws.com/groups/s3/LogDelivery";
    }
}

/// Whom a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Grantee {
    Owner(OwnerId),
    Group(GranteeGroup),
}

impl Grantee {
    fn includes(self, requester: OwnerId) -> bool {
        match self {
            Self::Owner(id) => id == requester,
            Self::Group(GranteeGroup::AllUsers) => true,
            Self::Group(GranteeGroup::AuthenticatedUsers) => requester != OwnerId::ANONYMOUS,
            Self::Group(GranteeGroup::LogDelivery) => false,
        }
    }
}

/// One entry of an ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AclGrant {
    pub(crate) grantee: Grantee,
    pub(crate) permission: AclPermission,
}

impl AclGrant {
    pub(crate) fn new(grantee: Grantee, permission: AclPermission) -> Self {
        Self { grantee, permission }
    }

    fn allows(self, requester: OwnerId, permission: AclPermission) -> bool {
        (self.permission == permission || self.permission == AclPermission::FullControl)
            && self.grantee.includes(requester)
    }
}

/// An ACL as the request set it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StoredAcl {
    Canned(CannedAcl),
    /// The grants, in the order of the request.
    Grants(Box<[AclGrant]>),
}

impl StoredAcl {
    pub(crate) const PRIVATE: Self = Self::Canned(CannedAcl::Private);

    /// Returns OSS's nearest ACL that grants no more.
    pub(crate) fn nearest_oss_acl(&self) -> CannedAcl {
        let everyone = |permission| match self {
            Self::Canned(_) => false,
            Self::Grants(grants) => grants.iter().any(|grant| grant.allows(OwnerId::ANONYMOUS, permission)),
        };
        match self {
            Self::Canned(CannedAcl::AuthenticatedRead) => CannedAcl::Private,
            Self::Canned(acl) => *acl,
            Self::Grants(_) if !everyone(AclPermission::Read) => CannedAcl::Private,
            Self::Grants(_) if everyone(AclPermission::Write) => CannedAcl::PublicReadWrite,
            Self::Grants(_) => CannedAcl::PublicRead,
        }
    }
}

/// The owner of a bucket or an object, and its ACL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AccessPolicy {
    pub(crate) owner: OwnerId,
    pub(crate) acl: StoredAcl,
}

impl AccessPolicy {
    /// Returns the grants in the order in which AWS lists them. A canned ACL first grants everything to the owner.
    pub(crate) fn grants(&self) -> Vec<AclGrant> {
        let acl = match &self.acl {
            StoredAcl::Grants(grants) => return grants.to_vec(),
            StoredAcl::Canned(acl) => *acl,
        };
        let everyone = Grantee::Group(GranteeGroup::AllUsers);
        let signed = Grantee::Group(GranteeGroup::AuthenticatedUsers);
        let mut grants = vec![AclGrant::new(Grantee::Owner(self.owner), AclPermission::FullControl)];
        match acl {
            // `Default` is replaced by the ACL of the bucket before this is called.
            CannedAcl::Private | CannedAcl::Default => {}
            CannedAcl::PublicRead => grants.push(AclGrant::new(everyone, AclPermission::Read)),
            CannedAcl::PublicReadWrite => {
                grants.push(AclGrant::new(everyone, AclPermission::Read));
                grants.push(AclGrant::new(everyone, AclPermission::Write));
            }
            CannedAcl::AuthenticatedRead => grants.push(AclGrant::new(signed, AclPermission::Read)),
        }
        grants
    }

    /// Returns whether a request can do this.
    pub(crate) fn allows(&self, requester: OwnerId, permission: AclPermission) -> bool {
        requester == self.owner || self.grants().iter().any(|grant| grant.allows(requester, permission))
    }

    /// Returns whether the ACL grants nothing to others.
    pub(crate) fn is_private(&self) -> bool {
        self.grants().iter().all(|grant| grant.grantee == Grantee::Owner(self.owner))
    }
}

/// An owner and an ACL that many objects share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedAccess(Arc<AccessPolicy>);

impl SharedAccess {
    pub(crate) fn new(owner: OwnerId, acl: StoredAcl) -> Self {
        Self(Arc::new(AccessPolicy { owner, acl }))
    }

    /// Returns the access of what only the first owner can use.
    #[cfg(test)]
    pub(crate) fn private() -> Self {
        Self::new(OwnerId::FIRST, StoredAcl::PRIVATE)
    }
}

impl Deref for SharedAccess {
    type Target = AccessPolicy;

    fn deref(&self) -> &AccessPolicy {
        &self.0
    }
}

impl From<AccessPolicy> for SharedAccess {
    fn from(policy: AccessPolicy) -> Self {
        Self(Arc::new(policy))
    }
}

/// Each distinct pair of owner and ACL that is in use, once.
#[derive(Debug, Default)]
pub(crate) struct AccessPool(SharedPool<AccessPolicy>);

impl AccessPool {
    /// Returns the shared copy of this pair.
    pub(crate) fn share(&mut self, access: SharedAccess) -> SharedAccess {
        SharedAccess(self.0.share(access.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: OwnerId = OwnerId([7; OWNER_ID_BYTES]);

    #[test]
    fn canonical_ids_round_trip() {
        let further = OwnerId::of_further_key("other");
        assert_ne!(further, OwnerId::FIRST);
        assert_eq!(further, OwnerId::of_further_key("other"));
        for id in [OwnerId::FIRST, OwnerId::ANONYMOUS, OTHER, further] {
            assert_eq!(OwnerId::parse(&id.to_string()), Some(id));
            assert_eq!(id.oss_id().len(), 16);
            assert_eq!(id.account_id().len(), ACCOUNT_ID.len());
        }
        let first = OwnerId::FIRST.to_string();
        assert_eq!(first, "5a6d7b0c53a4d0b0a3f4e7a2c1d98f6e5b4a39281706f5e4d3c2b1a09f8e7d6c");
        assert_eq!(OwnerId::FIRST.oss_id(), "1000000000000000");
        assert_eq!(OwnerId::FIRST.account_id(), ACCOUNT_ID);
        assert_ne!(further.account_id(), ACCOUNT_ID);
        for text in ["", "_foo", &first[1..], &first.replace('c', "g"), &"0".repeat(64), &"é".repeat(32)] {
            assert_eq!(OwnerId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn grants_allow_what_they_name_and_owners_everything() {
        let policy = |grants: &[(Grantee, AclPermission)]| AccessPolicy {
            owner: OwnerId::FIRST,
            acl: StoredAcl::Grants(grants.iter().map(|(grantee, given)| AclGrant::new(*grantee, *given)).collect()),
        };
        let permissions: Vec<AclPermission> = (0..=4).filter_map(AclPermission::from_code).collect();
        let allowed = |policy: &AccessPolicy, requester| -> Vec<&str> {
            let allowed = permissions.iter().filter(|permission| policy.allows(requester, **permission));
            allowed.map(|permission| permission.as_str()).collect()
        };
        let all = ["READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"];
        assert_eq!(allowed(&policy(&[]), OwnerId::FIRST), all);
        assert_eq!(allowed(&policy(&[]), OTHER), [""; 0]);
        let full = policy(&[(Grantee::Owner(OTHER), AclPermission::FullControl)]);
        assert_eq!(allowed(&full, OTHER), all);
        assert_eq!(allowed(&full, OwnerId::ANONYMOUS), [""; 0]);
        for (group, other, anonymous) in [
            (GranteeGroup::AllUsers, 1, 1),
            (GranteeGroup::AuthenticatedUsers, 1, 0),
            (GranteeGroup::LogDelivery, 0, 0),
        ] {
            let granted = policy(&[(Grantee::Group(group), AclPermission::ReadAcp)]);
            assert_eq!(allowed(&granted, OTHER), ["READ_ACP"][..other]);
            assert_eq!(allowed(&granted, OwnerId::ANONYMOUS), ["READ_ACP"][..anonymous]);
        }
    }

    #[test]
    fn oss_sees_the_nearest_acl_that_grants_no_more() {
        let everyone = Grantee::Group(GranteeGroup::AllUsers);
        let nearest = |grants: &[(Grantee, AclPermission)]| {
            let grants = grants.iter().map(|(grantee, permission)| AclGrant::new(*grantee, *permission));
            StoredAcl::Grants(grants.collect()).nearest_oss_acl()
        };
        assert_eq!(nearest(&[]), CannedAcl::Private);
        assert_eq!(nearest(&[(Grantee::Owner(OTHER), AclPermission::FullControl)]), CannedAcl::Private);
        assert_eq!(nearest(&[(everyone, AclPermission::Write)]), CannedAcl::Private);
        assert_eq!(nearest(&[(everyone, AclPermission::Read)]), CannedAcl::PublicRead);
        let both = [(everyone, AclPermission::Write), (everyone, AclPermission::Read)];
        assert_eq!(nearest(&both), CannedAcl::PublicReadWrite);
        assert_eq!(nearest(&[(everyone, AclPermission::FullControl)]), CannedAcl::PublicReadWrite);
        for acl in (0..=4).filter_map(CannedAcl::from_code) {
            let expected = if acl == CannedAcl::AuthenticatedRead { CannedAcl::Private } else { acl };
            assert_eq!(StoredAcl::Canned(acl).nearest_oss_acl(), expected);
        }
    }
}
