//! What a bucket is set to, as far as a plan's work may depend on it.

/// What can be asked of a bucket. Each is one request, which changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketQuestion {
    /// Which lifecycle rules look at tags.
    TagRules,
    /// Whether it keeps versions.
    Versioning,
    /// Whether ACLs hold in it.
    Ownership,
}

impl BucketQuestion {
    /// The sub-resource that is asked for, on S3 and on OSS alike.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::TagRules => "lifecycle",
            Self::Versioning => "versioning",
            Self::Ownership => "ownershipControls",
        }
    }
}

/// The answer to a [`BucketQuestion`]: always the variant of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketFact {
    /// The rules that are enabled and look at tags, in the bucket's order; none where it has no lifecycle.
    TagRules(Vec<TagRule>),
    /// Whether it keeps versions.
    Versioning(Versioning),
    /// Whether ACLs hold in it.
    Ownership(Ownership),
}

/// A lifecycle rule that takes objects, or leaves them out, by their tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagRule {
    /// Its name; empty where it has none.
    pub id: String,
    /// The keys of the tags that it looks at, in its order; each of them once.
    pub keys: Vec<String>,
}

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It never has: what is overwritten is gone.
    Never,
    /// It does.
    Enabled,
    /// It did, and keeps those that it has.
    Suspended,
}

/// Who owns the objects of a bucket, and with it whether ACLs hold.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The store has no such setting, as OSS.
    NotApplicable,
    /// Nobody has set it: ACLs hold.
    NotSet,
    /// The bucket's owner, and ACLs are refused.
    BucketOwnerEnforced,
    /// The bucket's owner where the writer says so; ACLs hold.
    BucketOwnerPreferred,
    /// Whoever wrote them; ACLs hold.
    ObjectWriter,
}
