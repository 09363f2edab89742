//! One capture, and how its state is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use batchplan_store::object::{AclGrant, AclGrantee, AclPolicy, ObjectAcl, TagSet, VersionId};
use batchplan_store::task::TaskId;
use serde::{Deserialize, Serialize};

/// The longest state in JSON, in bytes. A response with tags or an ACL has at most 64 KiB, of which JSON makes six times
/// as much if every character must be escaped.
pub(super) const MAX_STATE_BYTES: usize = 512 << 10;

/// What one object was like before a job changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The row of the job's manifest.
    pub row: TaskId,
    /// The version that was current, if the bucket has versions and the row does not name one.
    pub version: Option<VersionId>,
    /// The state of the object. Objects in the same state share it.
    pub former: Arc<FormerState>,
}

/// The state of an object before a job changed it: those of its aspects that the job changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormerState {
    /// All tags of the object.
    pub tags: FormerValue<TagSet>,
    /// The ACL of the object.
    pub acl: FormerValue<ObjectAcl>,
}

/// The value of one aspect before a job changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FormerValue<T> {
    /// The job does not change this aspect.
    #[default]
    NotCaptured,
    /// The value that was read before the job's first write.
    Known(T),
    /// The value that was read is the one that the job wants, and an earlier run, whose captures were lost with its
    /// machine, may have written it.
    Unknown,
}

impl<T> FormerValue<T> {
    /// Returns the value if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::NotCaptured | Self::Unknown => None,
        }
    }

    /// Returns whether the job changed this aspect and its former value was lost.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// The ACLs that are stored by their name. The last one has grants that are not known.
const NAMED_ACLS: [ObjectAcl; 5] = [
    ObjectAcl::Private,
    ObjectAcl::PublicRead,
    ObjectAcl::PublicReadWrite,
    ObjectAcl::Default,
    ObjectAcl::Custom(None),
];

/// An ACL in JSON: its name, or its grants if it has none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredAcl {
    Named(String),
    Grants { owner: String, grants: Vec<StoredGrant> },
}

/// A grant of an ACL in JSON. It has exactly one of the three grantees.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredGrant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    permission: String,
}

/// A state in JSON. An aspect that was not captured is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acl: Option<StoredAcl>,
    /// The aspects whose value is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<StoredAspect>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredAspect {
    Tags,
    Acl,
}

impl FormerState {
    /// Returns the state in JSON. Equal states have equal JSON.
    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        let mut unknown = Vec::new();
        unknown.extend(self.tags.is_unknown().then_some(StoredAspect::Tags));
        unknown.extend(self.acl.is_unknown().then_some(StoredAspect::Acl));
        let pairs = |tags: &TagSet| tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        serde_json::to_string(&StoredState {
            tags: self.tags.known().map(pairs),
            acl: self.acl.known().map(StoredAcl::of),
            unknown,
        })
    }

    /// Parses the JSON of a state.
    pub(super) fn from_json(json: &str) -> Result<Self, String> {
        let StoredState { tags, acl, unknown } = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let acl = acl.map(StoredAcl::into_acl).transpose()?;
        Ok(Self {
            tags: former_value(tags.map(TagSet::from_iter), unknown.contains(&StoredAspect::Tags))?,
            acl: former_value(acl, unknown.contains(&StoredAspect::Acl))?,
        })
    }
}

fn former_value<T>(known: Option<T>, is_unknown: bool) -> Result<FormerValue<T>, String> {
    match (known, is_unknown) {
        (Some(_), true) => Err("a state is both known and unknown".to_owned()),
        (Some(value), false) => Ok(FormerValue::Known(value)),
        (None, true) => Ok(FormerValue::Unknown),
        (None, false) => Ok(FormerValue::NotCaptured),
    }
}

impl StoredAcl {
    fn of(acl: &ObjectAcl) -> Self {
        let ObjectAcl::Custom(Some(policy)) = acl else { return Self::Named(acl.as_str().to_owned()) };
        let grant = |AclGrant { grantee, permission }: &AclGrant| {
            let grant = StoredGrant { permission: permission.clone(), ..StoredGrant::default() };
            match grantee.clone() {
                AclGrantee::User(id) => StoredGrant { user: Some(id), ..grant },
                AclGrantee::Group(uri) => StoredGrant { group: Some(uri), ..grant },
                AclGrantee::Email(email) => StoredGrant { email: Some(email), ..grant },
            }
        };
        Self::Grants { owner: policy.owner.clone(), grants: policy.grants.iter().map(grant).collect() }
    }

    fn into_acl(self) -> Result<ObjectAcl, String> {
        let grant = |StoredGrant { user, group, email, permission }| {
            let grantee = match (user, group, email) {
                (Some(id), None, None) => AclGrantee::User(id),
                (None, Some(uri), None) => AclGrantee::Group(uri),
                (None, None, Some(email)) => AclGrantee::Email(email),
                _ => return Err("a grant has no grantee, or several".to_owned()),
            };
            Ok(AclGrant { grantee, permission })
        };
        match self {
            Self::Named(name) => {
                let found = NAMED_ACLS.into_iter().find(|acl| acl.as_str() == name);
                found.ok_or_else(|| format!("{name:?} is not an ACL"))
            }
            Self::Grants { owner, grants } => {
                let grants = grants.into_iter().map(grant).collect::<Result<_, _>>()?;
                Ok(ObjectAcl::Custom(Some(Arc::new(AclPolicy { owner, grants }))))
            }
        }
    }
}
