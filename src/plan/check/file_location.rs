//! The location of a source file, in a bucket or on this machine. CSV manifests and reports have the same keys for it.

use batchplan_store::object::ObjectKey;

use super::{PlanCheckContext, bucket, report_conflict, report_not_allowed};
use crate::diagnostics::FileProblem;
use crate::manifest::FileLocation;
use crate::plan::parser::{ParsedField, PlanParser, SpannedValue, TextSpan};
use crate::plan::value_types::{ObjectKeyText, TextValue};

/// The keys of a table that locate its file.
pub(super) struct FileLocationKeys<'a> {
    /// The table as written, for messages.
    pub(super) table: &'static str,
    /// What messages call the file.
    pub(super) noun: &'static str,
    pub(super) bucket: &'a ParsedField<TextValue<1, 255>>,
    pub(super) object: &'a ParsedField<ObjectKeyText<1>>,
    pub(super) etag: &'a ParsedField<TextValue<1, 1024>>,
    pub(super) path: &'a ParsedField<TextValue<1, 4096>>,
}

impl FileLocationKeys<'_> {
    /// Checks that the keys name one file, in one way.
    pub(super) fn check(
        &self,
        header: &TextSpan,
        context: &PlanCheckContext<'_>,
        walk: &mut PlanParser,
    ) -> Option<FileLocation> {
        if self.path.is_absent() {
            self.report_incomplete_object(header, walk);
        }
        let Some(path) = self.path.present() else {
            let bucket = bucket::check(self.bucket.present()?, context, walk)?;
            let key = ObjectKey::from(self.object.value()?.0.as_str());
            return Some(FileLocation::Object { bucket, key, etag: etag(self.etag) });
        };
        let title = format!("{} has two locations", self.noun);
        if let Some(elsewhere) = self.bucket.present() {
            report_conflict(path, elsewhere, &title, "keep either `path`, or `bucket` and `object`", walk);
        } else if let Some(elsewhere) = self.object.present() {
            report_conflict(path, elsewhere, &title, "keep either `path`, or `bucket` and `object`", walk);
        }
        report_not_allowed(
            self.etag,
            "a local file has no ETag",
            "remove it: local files are pinned by their content",
            walk,
        );
        Some(FileLocation::Local(context.resolve_file(path, walk)))
    }

    fn report_incomplete_object(&self, header: &TextSpan, walk: &mut PlanParser) {
        match (self.bucket.is_absent(), self.object.is_absent()) {
            (true, true) => walk.push(
                FileProblem::new(format!("the location of {} is missing in {}", self.noun, self.table))
                    .label(header.clone(), "which file?")
                    .help("add `bucket` and `object`, or `path` for a file on this machine"),
            ),
            (true, false) => self.report_missing("bucket", self.object.present(), walk),
            (false, true) => self.report_missing("object", self.bucket.present(), walk),
            (false, false) => {}
        }
    }

    /// Reports that one of `bucket` and `object` is missing beside the other.
    fn report_missing<T>(&self, name: &str, other: Option<&SpannedValue<T>>, walk: &mut PlanParser) {
        let problem =
            FileProblem::new(format!("`{name}` is missing in {}", self.table)).help(format!("add `{name} = \"...\"`"));
        walk.push(match other {
            Some(other) => problem.label(other.key.clone(), format!("requires `{name}`")),
            None => problem,
        });
    }
}

/// Returns an `ETag` without the quotes that are often copied with it.
pub(super) fn etag(field: &ParsedField<TextValue<1, 1024>>) -> Option<String> {
    field.value().map(|etag| etag.0.trim_matches('"').to_owned())
}
