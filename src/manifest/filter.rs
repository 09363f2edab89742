//! Decides which rows of a source are included.

use std::fmt;

use batchplan_store::InexactName;
use batchplan_store::object::{BucketName, ObjectAcl, ObjectKey, StorageClass};
use batchplan_store::task::RowOrigin;
use globset::{Candidate, Glob, GlobSet, GlobSetBuilder};
use jiff::Timestamp;

use super::error::ManifestError;
use crate::job::JobId;
use crate::report_format::{ReportFormat, ReportLocation};

/// A set of glob patterns for keys.
#[derive(Clone)]
pub struct KeyGlobs {
    set: GlobSet,
    expressions: Vec<String>,
}

impl KeyGlobs {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// Returns an error if the compiled set is too large.
    pub fn new(globs: impl IntoIterator<Item = Glob>) -> Result<Self, globset::Error> {
        let (mut set, mut expressions) = (GlobSetBuilder::new(), Vec::new());
        for glob in globs {
            expressions.push(glob.regex().to_owned());
            set.add(glob);
        }
        Ok(Self { set: set.build()?, expressions })
    }

    /// Returns whether at least one pattern matches the bytes of a key.
    #[must_use]
    pub fn is_match(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        self.matches(&Candidate::from_bytes(key.as_ref()))
    }

    fn matches(&self, key: &Candidate<'_>) -> bool {
        self.set.is_match_candidate(key)
    }
}

/// Shows the regular expressions, not their compiled form, so that equal text means equal matching in every build.
impl fmt::Debug for KeyGlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.expressions).finish()
    }
}

/// The objects that a plan's own reports consist of, in the bucket that its manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnReports {
    /// Everything below this prefix, which ends in a slash.
    Below(ObjectKey),
    /// The folders of reports below this prefix, which has other objects, too: the manifest lists no more than it. It
    /// ends in a slash or is empty.
    Among(ObjectKey, ReportFormat),
}

impl OwnReports {
    /// Returns the reports at `location` that a listing of `prefix` in `bucket` contains, if it may contain any.
    #[must_use]
    pub fn in_listing(
        (bucket, prefix): (&BucketName, &ObjectKey),
        location: &ReportLocation,
        format: ReportFormat,
    ) -> Option<Self> {
        let root = location.root();
        if location.bucket != *bucket || !root.as_bytes().starts_with(prefix.as_bytes()) {
            return None;
        }
        Some(if root == *prefix { Self::Among(root, format) } else { Self::Below(root) })
    }

    /// Returns the prefix that all of them have.
    pub(crate) fn root(&self) -> &ObjectKey {
        let (Self::Below(root) | Self::Among(root, _)) = self;
        root
    }

    fn contains(&self, key: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(self.root().as_bytes()) else { return false };
        match self {
            Self::Below(_) => true,
            Self::Among(_, format) => is_in_report_folder(rest, *format),
        }
    }
}

/// Returns whether a path relative to where reports are published is in the folder of a report.
fn is_in_report_folder(path: &[u8], format: ReportFormat) -> bool {
    let Some(end) = memchr::memchr(b'/', path) else { return false };
    let folder = std::str::from_utf8(&path[..end]).unwrap_or_default();
    let id = match format {
        ReportFormat::Oss => Some(folder),
        ReportFormat::Aws => folder.strip_prefix("job-"),
    };
    id.is_some_and(|id| id.parse::<JobId>().is_ok())
}

/// Selects objects of a source: all conditions must hold, and an absent condition always holds.
#[derive(Clone, Default)]
pub struct Filter {
    /// The object is none of the plan's own reports. Plans do not write this condition: it follows from where they list
    /// objects and publish reports.
    pub own_reports: Option<OwnReports>,
    /// At least one of these globs matches the key.
    pub include: Option<KeyGlobs>,
    /// None of these globs matches the key.
    pub exclude: Option<KeyGlobs>,
    /// The size is greater than this number of bytes.
    pub larger_than: Option<u64>,
    /// The size is less than this number of bytes.
    pub smaller_than: Option<u64>,
    /// The object was last modified after this time.
    pub modified_after: Option<Timestamp>,
    /// The object was last modified before this time. The plan's `older_than` is converted to this when the plan is
    /// read.
    pub modified_before: Option<Timestamp>,
    /// The storage class is one of these, compared without regard to case.
    pub storage_class: Option<Vec<StorageClass>>,
}

/// Interrupted jobs are identified by this text, so it names no condition that earlier versions did not have, unless it
/// is set.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            own_reports,
            include,
            exclude,
            larger_than,
            smaller_than,
            modified_after,
            modified_before,
            storage_class,
        } = self;
        let mut text = f.debug_struct("Filter");
        text.field("include", include)
            .field("exclude", exclude)
            .field("larger_than", larger_than)
            .field("smaller_than", smaller_than)
            .field("modified_after", modified_after)
            .field("modified_before", modified_before)
            .field("storage_class", storage_class);
        if let Some(own_reports) = own_reports {
            text.field("own_reports", own_reports);
        }
        text.finish()
    }
}

/// An object as its source names it, before it is frozen.
pub(crate) struct ManifestRow<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) version: Option<&'a str>,
    pub(crate) metadata: RowMetadata<'a>,
}

/// The metadata that the source reports for an object.
#[derive(Clone, Default)]
pub(crate) struct RowMetadata<'a> {
    pub(crate) size: Option<u64>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) class: Option<&'a str>,
    /// Without quotes.
    pub(crate) etag: Option<&'a str>,
    pub(crate) acl: Option<ObjectAcl>,
    /// Which captures an undo restores.
    pub(crate) origin: Option<RowOrigin>,
}

/// A fact that a filter condition needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterFact {
    Size,
    Modified,
    Class,
}

impl FilterFact {
    /// Returns the name that messages use.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Size => "the object's size",
            Self::Modified => "the object's last-modified date",
            Self::Class => "the object's storage class",
        }
    }

    /// Returns the inventory column that holds the fact.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Size => "Size",
            Self::Modified => "LastModifiedDate",
            Self::Class => "StorageClass",
        }
    }
}

/// The result of applying a filter to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum FilterDecision {
    Included,
    Excluded,
    /// The row does not have this fact, so the filter cannot decide.
    Unknown(FilterFact),
}

impl Filter {
    /// Returns the conditions that need more than the key: the key in the plan, as messages write it, and the fact it
    /// needs.
    pub(crate) fn required_facts(&self) -> Vec<(&'static str, FilterFact)> {
        let conditions = [
            (self.larger_than.is_some(), "`larger_than`", FilterFact::Size),
            (self.smaller_than.is_some(), "`smaller_than`", FilterFact::Size),
            (self.modified_after.is_some(), "`modified_after`", FilterFact::Modified),
            // A plan may have either of these two keys.
            (self.modified_before.is_some(), "`modified_before` or `older_than`", FilterFact::Modified),
            (self.storage_class.is_some(), "`storage_class`", FilterFact::Class),
        ];
        conditions.into_iter().filter(|(set, ..)| *set).map(|(_, name, fact)| (name, fact)).collect()
    }

    /// Rejects a filter that needs more than names, for a source that has only names, before anything is read.
    pub(crate) fn require_names_only(&self, source: &str) -> Result<(), ManifestError> {
        match self.required_facts().first() {
            None => Ok(()),
            Some((condition, fact)) => Err(ManifestError::MissingFact {
                what: format!("the filter's {condition} needs {}, but {source} has only names", fact.label()),
                help: format!("use [manifest.prefix] or [manifest.inventory], or remove {condition}"),
            }),
        }
    }

    /// Returns the first condition that needs this fact, as messages write it.
    pub(crate) fn condition_for(&self, fact: FilterFact) -> &'static str {
        self.required_facts().into_iter().find(|(_, needed)| *needed == fact).map_or("filter", |(name, _)| name)
    }

    /// Returns whether a condition needs this fact.
    pub(crate) fn requires(&self, fact: FilterFact) -> bool {
        self.required_facts().iter().any(|(_, needed)| *needed == fact)
    }

    /// Returns whether an object is one of the plan's own reports.
    pub(crate) fn is_own_report(&self, key: &[u8]) -> bool {
        self.own_reports.as_ref().is_some_and(|reports| reports.contains(key))
    }

    /// Returns whether the plan's filter has no condition at all.
    pub(crate) fn accepts_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none() && self.required_facts().is_empty()
    }

    /// Applies the filter to one row.
    pub(crate) fn evaluate(&self, row: &ManifestRow<'_>) -> FilterDecision {
        if self.matches_key(row.key) { self.evaluate_metadata(row) } else { FilterDecision::Excluded }
    }

    /// Applies the filter to a row of a listing. Conditions on the key do not apply if the name is not exact.
    pub(crate) fn evaluate_listed(&self, row: &ManifestRow<'_>, inexact: Option<InexactName>) -> FilterDecision {
        if inexact.is_none() { self.evaluate(row) } else { self.evaluate_metadata(row) }
    }

    /// Applies all conditions except those on the key.
    fn evaluate_metadata(&self, row: &ManifestRow<'_>) -> FilterDecision {
        for verdict in
            [self.evaluate_size(row.metadata.size), self.evaluate_age(row.metadata.modified), self.evaluate_class(row)]
        {
            if verdict != FilterDecision::Included {
                return verdict;
            }
        }
        FilterDecision::Included
    }

    fn matches_key(&self, key: &[u8]) -> bool {
        if self.is_own_report(key) {
            return false;
        }
        if self.include.is_none() && self.exclude.is_none() {
            return true;
        }
        // Matched as bytes: a key may not be UTF-8, and a lossy copy could match where the key itself does not.
        let candidate = Candidate::from_bytes(key);
        self.include.as_ref().is_none_or(|globs| globs.matches(&candidate))
            && !self.exclude.as_ref().is_some_and(|globs| globs.matches(&candidate))
    }

    fn evaluate_size(&self, size: Option<u64>) -> FilterDecision {
        if self.larger_than.is_none() && self.smaller_than.is_none() {
            return FilterDecision::Included;
        }
        let Some(size) = size else { return FilterDecision::Unknown(FilterFact::Size) };
        decide(self.larger_than.is_none_or(|limit| size > limit) && self.smaller_than.is_none_or(|limit| size < limit))
    }

    fn evaluate_age(&self, modified: Option<Timestamp>) -> FilterDecision {
        if self.modified_after.is_none() && self.modified_before.is_none() {
            return FilterDecision::Included;
        }
        let Some(modified) = modified else { return FilterDecision::Unknown(FilterFact::Modified) };
        decide(
            self.modified_after.is_none_or(|limit| modified > limit)
                && self.modified_before.is_none_or(|limit| modified < limit),
        )
    }

    fn evaluate_class(&self, row: &ManifestRow<'_>) -> FilterDecision {
        let Some(wanted) = &self.storage_class else { return FilterDecision::Included };
        let Some(class) = row.metadata.class else { return FilterDecision::Unknown(FilterFact::Class) };
        // OSS writes `Standard` where S3 writes `STANDARD`.
        decide(wanted.iter().any(|name| name.as_str().eq_ignore_ascii_case(class)))
    }
}

fn decide(yes: bool) -> FilterDecision {
    if yes { FilterDecision::Included } else { FilterDecision::Excluded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(pattern: &str) -> KeyGlobs {
        KeyGlobs::new([Glob::new(pattern).unwrap()]).unwrap()
    }

    fn row<'a>(key: &'a [u8], facts: RowMetadata<'a>) -> ManifestRow<'a> {
        ManifestRow { bucket: "b", key, version: None, metadata: facts }
    }

    fn judge(filter: &Filter, key: &[u8]) -> FilterDecision {
        filter.evaluate(&row(key, RowMetadata::default()))
    }

    #[test]
    fn globs_match_the_keys_bytes() {
        let filter = Filter { include: Some(globs("*.pdf")), exclude: Some(globs("tmp/*")), ..Filter::default() };
        assert_eq!(judge(&filter, b"a/b/c.pdf"), FilterDecision::Included);
        assert_eq!(judge(&filter, b"a/\xff\xfe.pdf"), FilterDecision::Included);
        assert_eq!(judge(&filter, b"a\nb.pdf"), FilterDecision::Included);
        assert_eq!(judge(&filter, b"a.pdfx"), FilterDecision::Excluded);
        assert_eq!(judge(&filter, b"tmp/c.pdf"), FilterDecision::Excluded);
        assert_eq!(judge(&filter, b"../x.pdf"), FilterDecision::Included);
    }

    #[test]
    fn own_reports_are_left_out_wherever_they_are_published() {
        let id = "ODRiZWQ5Njc5ZTE0NDE5NTlmNjJmZDlkMTk2ODI2NDU=";
        let reports = |listed: &str, published: &str, format| {
            let location = ReportLocation { bucket: BucketName::new("b"), prefix: ObjectKey::from(published) };
            OwnReports::in_listing((&BucketName::new("b"), &ObjectKey::from(listed)), &location, format)
        };
        let leaves_out = |own_reports: Option<OwnReports>, key: &str| {
            let filter = Filter { own_reports, ..Filter::default() };
            judge(&filter, key.as_bytes()) == FilterDecision::Excluded
        };
        // Below the listed prefix, everything under the report's prefix is left out.
        for published in ["logs/reports", "logs/reports/"] {
            let own = || reports("logs/", published, ReportFormat::Aws);
            assert!(
                leaves_out(own(), "logs/reports/anything") && leaves_out(own(), "logs/reports/job-1/manifest.json")
            );
            assert!(!leaves_out(own(), "logs/reports") && !leaves_out(own(), "logs/reports-2024/a.csv"));
        }
        // Otherwise, only what is certainly a report.
        for prefix in ["", "data/"] {
            let own = |format| reports(prefix, prefix, format);
            assert!(leaves_out(own(ReportFormat::Oss), &format!("{prefix}{id}/results/report-0.csv")));
            assert!(leaves_out(own(ReportFormat::Aws), &format!("{prefix}job-{id}/manifest.json")));
            for other in ["a.csv", "job-1/manifest.json", id, "results/report-0.csv"] {
                assert!(!leaves_out(own(ReportFormat::Oss), &format!("{prefix}{other}")), "{other}");
                assert!(!leaves_out(own(ReportFormat::Aws), &format!("{prefix}{other}")), "{other}");
            }
        }
        // A listing of what is below the reports' prefix is meant.
        assert_eq!(reports("reports/2024/", "reports/", ReportFormat::Oss), None);
        let elsewhere = ReportLocation { bucket: BucketName::new("c"), prefix: ObjectKey::from("reports/") };
        let listed = (&BucketName::new("b"), &ObjectKey::from(""));
        assert_eq!(OwnReports::in_listing(listed, &elsewhere, ReportFormat::Oss), None);
    }

    #[test]
    fn the_text_that_identifies_interrupted_jobs_stays_as_it_was() {
        let text = "Filter { include: None, exclude: None, larger_than: None, smaller_than: None, modified_after: None, \
                    modified_before: None, storage_class: None }";
        assert_eq!(format!("{:?}", Filter::default()), text);
        let own_reports = Some(OwnReports::Below(ObjectKey::from("r/")));
        assert_ne!(format!("{:?}", Filter { own_reports, ..Filter::default() }), text);
    }

    #[test]
    fn sizes_and_ages_are_strict_bounds() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let filter = Filter {
            larger_than: Some(10),
            smaller_than: Some(20),
            modified_after: Some(at(100)),
            modified_before: Some(at(200)),
            ..Filter::default()
        };
        let judge = |size, second| {
            filter.evaluate(&row(
                b"k",
                RowMetadata { size: Some(size), modified: Some(at(second)), ..RowMetadata::default() },
            ))
        };
        assert_eq!(judge(11, 101), FilterDecision::Included);
        assert_eq!(judge(10, 101), FilterDecision::Excluded);
        assert_eq!(judge(20, 101), FilterDecision::Excluded);
        assert_eq!(judge(15, 100), FilterDecision::Excluded);
        assert_eq!(judge(15, 200), FilterDecision::Excluded);
    }

    #[test]
    fn classes_are_compared_without_case_and_a_missing_fact_is_unknown() {
        let filter = Filter { storage_class: Some(vec![StorageClass::new("Standard")]), ..Filter::default() };
        let facts = RowMetadata { class: Some("STANDARD"), ..RowMetadata::default() };
        assert_eq!(filter.evaluate(&row(b"k", facts)), FilterDecision::Included);
        assert_eq!(judge(&filter, b"k"), FilterDecision::Unknown(FilterFact::Class));
        assert!(filter.requires(FilterFact::Class));
        assert!(!filter.requires(FilterFact::Size));
    }
}
