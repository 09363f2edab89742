//! What the sandbox holds: plain values, without the dialect that asked for them.

use std::fmt;

use jiff::Timestamp;

use super::tags::TagsRef;

/// A moment, in milliseconds since 1970: what S3 listings can say, in half the room of a full timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Millis(pub(super) i64);

impl Millis {
    /// One day.
    pub(super) const DAY: i64 = 86_400_000;

    /// The nearest moment that every format on the wire can say: from 1970 to the end of 9999.
    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0.max(0)).unwrap_or(Timestamp::MAX)
    }

    /// This much later.
    pub(super) fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The first midnight in UTC that is not before this moment.
    pub(super) fn midnight_after(self) -> Self {
        let into_day = self.0.rem_euclid(Self::DAY);
        if into_day == 0 { self } else { self.plus(Self::DAY - into_day) }
    }
}

impl From<Timestamp> for Millis {
    fn from(at: Timestamp) -> Self {
        Self(at.as_millisecond())
    }
}

/// An enum with stable numbers for the log, and the names that S3 has for them.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$each:meta])* $variant:ident = $code:literal, $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub(super) enum $type {
            $($(#[$each])* $variant = $code,)*
        }

        impl $type {
            /// Its name on the wire and in fill files.
            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The one with this name.
            pub(super) fn parse(name: &str) -> Option<Self> {
                [$(Self::$variant),*].into_iter().find(|it| it.as_str() == name)
            }

            /// The one with this number in the log.
            pub(super) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

named! {
    /// A storage class.
    Class {
        /// The default.
        Standard = 0, "STANDARD";
        /// Infrequent access.
        StandardIa = 1, "STANDARD_IA";
        /// Infrequent access, in one zone.
        OneZoneIa = 2, "ONEZONE_IA";
        /// Moves between tiers by itself.
        IntelligentTiering = 3, "INTELLIGENT_TIERING";
        /// Archived, but readable at once.
        GlacierIr = 4, "GLACIER_IR";
        /// Archived: minutes to hours to restore.
        Glacier = 5, "GLACIER";
        /// Archived: half a day to two days to restore.
        DeepArchive = 6, "DEEP_ARCHIVE";
        /// An old class, still accepted.
        ReducedRedundancy = 7, "REDUCED_REDUNDANCY";
        /// Archived in OSS's `ColdArchive`. S3 has no such class and takes it for its nearest.
        ColdArchive = 8, "GLACIER";
    }
}

impl Class {
    /// Whether its content must be restored before it can be read.
    pub(super) fn archived(self) -> bool {
        matches!(self, Self::Glacier | Self::ColdArchive | Self::DeepArchive)
    }

    /// What OSS calls it: a class that OSS does not have by the nearest one that is read in the same way.
    pub(super) fn oss_name(self) -> &'static str {
        match self {
            Self::Standard | Self::IntelligentTiering | Self::ReducedRedundancy => "Standard",
            Self::StandardIa | Self::OneZoneIa | Self::GlacierIr => "IA",
            Self::Glacier => "Archive",
            Self::ColdArchive => "ColdArchive",
            Self::DeepArchive => "DeepColdArchive",
        }
    }

    /// The one that OSS calls so.
    pub(super) fn parse_oss(name: &str) -> Option<Self> {
        let classes = [Self::Standard, Self::StandardIa, Self::Glacier, Self::ColdArchive, Self::DeepArchive];
        classes.into_iter().find(|class| class.oss_name() == name)
    }
}

named! {
    /// A canned ACL.
    Acl {
        /// Only the owner.
        Private = 0, "private";
        /// Everyone reads.
        PublicRead = 1, "public-read";
        /// Everyone reads and writes.
        PublicReadWrite = 2, "public-read-write";
        /// Every signed request reads.
        AuthenticatedRead = 3, "authenticated-read";
        /// Whatever the bucket's is. Only OSS has it.
        Default = 4, "default";
    }
}

impl Acl {
    /// Whether a request without a signature may read.
    pub(super) fn anonymous_read(self) -> bool {
        matches!(self, Self::PublicRead | Self::PublicReadWrite)
    }
}

named! {
    /// How fast an archived object is brought back, slowest first.
    Tier {
        /// The slowest.
        Bulk = 0, "Bulk";
        /// The default.
        Standard = 1, "Standard";
        /// The fastest.
        Expedited = 2, "Expedited";
    }
}

named! {
    /// A bucket's versioning.
    Versioning {
        /// It was never on.
        Never = 0, "";
        /// Every write makes a version.
        Enabled = 1, "Enabled";
        /// It was on: old versions stay, a write replaces the `null` version.
        Suspended = 2, "Suspended";
    }
}

named! {
    /// Whose the objects of a bucket are. Only S3 has it.
    Ownership {
        /// Nobody has said.
        NotSet = 0, "";
        /// Whoever writes them.
        Writer = 1, "ObjectWriter";
        /// The bucket's owner where the writer says so.
        Preferred = 2, "BucketOwnerPreferred";
        /// The bucket's owner, and ACLs neither hold nor can be set.
        Enforced = 3, "BucketOwnerEnforced";
    }
}

/// The entity tag: an MD5, and how many parts it was made of, where it was uploaded in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ETag {
    pub(super) md5: [u8; 16],
    pub(super) parts: u16,
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.md5 {
            write!(f, "{byte:02x}")?;
        }
        if self.parts > 0 {
            write!(f, "-{}", self.parts)?;
        }
        Ok(())
    }
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nowhere: zero bytes are served. What a fill file describes has a size and no content.
    Zeros,
    /// Here, because they are few.
    Inline(Box<[u8]>),
    /// In the body file with this number.
    File(u64),
}

impl Body {
    /// The body file, if there is one.
    pub(super) fn file(&self) -> Option<u64> {
        match self {
            Self::File(number) => Some(*number),
            Self::Zeros | Self::Inline(_) => None,
        }
    }
}

/// A restore that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restore {
    /// When the copy can be read.
    pub(super) ready: Millis,
    /// When the copy is gone again.
    pub(super) expiry: Millis,
    /// The days that were asked for.
    pub(super) days: u32,
    /// How fast.
    pub(super) tier: Tier,
}

/// What else a client sent along with an object and wants back: header names in lower case, with values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers(pub(super) Vec<(Box<str>, Box<str>)>);

/// An object's state and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) size: u64,
    pub(super) etag: ETag,
    pub(super) class: Class,
    pub(super) acl: Acl,
    pub(super) tags: TagsRef,
    pub(super) body: Body,
    pub(super) restore: Option<Box<Restore>>,
    /// Boxed twice on purpose: most objects have none, and a million of them should pay eight bytes for it.
    pub(super) headers: Option<Box<Headers>>,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Its id; `None` is the `null` version.
    pub(super) id: Option<Box<str>>,
    /// When it was written.
    pub(super) modified: Millis,
    /// `None` is a delete marker.
    pub(super) object: Option<Object>,
}

impl Version {
    /// The id as the wire has it.
    pub(super) fn id_str(&self) -> &str {
        self.id.as_deref().unwrap_or("null")
    }
}

/// A multipart upload that is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) bucket: Box<str>,
    pub(super) key: Box<str>,
    pub(super) initiated: Millis,
    pub(super) class: Class,
    pub(super) acl: Acl,
    pub(super) tags: TagsRef,
    pub(super) headers: Option<Box<Headers>>,
    /// By number.
    pub(super) parts: std::collections::BTreeMap<u16, Part>,
}

/// One part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) size: u64,
    pub(super) md5: [u8; 16],
    pub(super) modified: Millis,
    pub(super) body: Body,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_rounds_up_to_midnight_and_midnight_stays() {
        let noon: Timestamp = "2026-03-04T12:00:00Z".parse().unwrap();
        let midnight: Timestamp = "2026-03-05T00:00:00Z".parse().unwrap();
        assert_eq!(Millis::from(noon).midnight_after().timestamp(), midnight);
        assert_eq!(Millis::from(midnight).midnight_after().timestamp(), midnight);
        assert_eq!(Millis(i64::MAX).midnight_after().timestamp(), Timestamp::MAX);
    }

    #[test]
    fn names_and_codes_lead_back() {
        for code in 0..=255 {
            if let Some(class) = Class::from_code(code) {
                assert!(Class::parse(class.as_str()).is_some_and(|it| it == class || class == Class::ColdArchive));
                assert_eq!(class as u8, code);
            }
        }
        assert_eq!(Class::parse("standard"), None);
    }

    #[test]
    fn what_oss_calls_a_class_leads_back_and_is_archived_alike() {
        for class in (0..=255).filter_map(Class::from_code) {
            let told = Class::parse_oss(class.oss_name()).unwrap();
            assert_eq!(told.oss_name(), class.oss_name());
            assert_eq!(told.archived(), class.archived());
        }
        assert_eq!(Class::parse_oss("STANDARD"), None);
    }
}
