//! Bucket settings that affect a plan's operations.

/// A bucket setting that can be read. Each read is one request, which changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketSetting {
    /// The lifecycle rules that filter by tags.
    TagRules,
    /// Whether the bucket keeps old versions.
    Versioning,
    /// Who owns the objects of the bucket, and whether ACLs are in effect.
    Ownership,
}

impl BucketSetting {
    /// Returns the subresource to request. OSS uses the same names, but has no ownership setting.
    #[must_use]
    pub fn subresource(self) -> &'static str {
        match self {
            Self::TagRules => "lifecycle",
            Self::Versioning => "versioning",
            Self::Ownership => "ownershipControls",
        }
    }
}

/// The value of a [`BucketSetting`]: always the variant of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketSettingValue {
    /// The enabled rules that filter by tags, in the bucket's order. Empty if the bucket has no lifecycle.
    TagRules(Vec<TagLifecycleRule>),
    /// Whether the bucket keeps old versions.
    Versioning(BucketVersioning),
    /// Who owns the objects of the bucket, and whether ACLs are in effect.
    Ownership(OwnershipSetting),
}

/// A lifecycle rule that includes or excludes objects by their tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagLifecycleRule {
    /// The ID of the rule. Empty if it has none.
    pub id: String,
    /// The tag keys in the rule's filter, in the rule's order, without duplicates.
    pub keys: Vec<String>,
}

/// The versioning state of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketVersioning {
    /// Versioning was never enabled: an overwritten object is lost.
    Never,
    /// Versioning is enabled.
    Enabled,
    /// Versioning was enabled earlier. Existing versions are kept.
    Suspended,
}

/// Who owns the objects of a bucket, which decides whether ACLs are in effect.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnershipSetting {
    /// The store does not have this setting, for example OSS.
    NotApplicable,
    /// Not set: ACLs are in effect.
    NotSet,
    /// The bucket owner. ACLs are rejected.
    BucketOwnerEnforced,
    /// The bucket owner, if the writer grants it. ACLs are in effect.
    BucketOwnerPreferred,
    /// The writer of the object. ACLs are in effect.
    ObjectWriter,
}
