//! The location of a source file, in a bucket or on this machine. CSV manifests and reports have the same keys for it.

use super::{Context, bucket, refuse_beside, refuse_pair};
use crate::diagnostics::Problem;
use crate::manifest::CsvPlace;
use crate::object::Key;
use crate::plan::leaf::{KeyText, Text};
use crate::plan::walk::{At, Field, Span, Walk};

/// The keys of a table that locate its file.
pub(super) struct Place<'a> {
    /// The table as written, for messages.
    pub(super) table: &'static str,
    /// What messages call the file.
    pub(super) noun: &'static str,
    pub(super) bucket: &'a Field<Text<1, 255>>,
    pub(super) object: &'a Field<KeyText<1>>,
    pub(super) etag: &'a Field<Text<1, 1024>>,
    pub(super) path: &'a Field<Text<1, 4096>>,
}

impl Place<'_> {
    /// Checks that the keys name one file, in one way.
    pub(super) fn check(&self, header: &Span, context: &Context<'_>, walk: &mut Walk) -> Option<CsvPlace> {
        if self.path.is_absent() {
            self.object_is_whole(header, walk);
        }
        let Some(path) = self.path.given() else {
            let bucket = bucket::check(self.bucket.given()?, context, walk)?;
            let key = Key::from(self.object.value()?.0.as_str());
            return Some(CsvPlace::Object { bucket, key, etag: etag(self.etag) });
        };
        let title = format!("{} is in two places", self.noun);
        if let Some(elsewhere) = self.bucket.given() {
            refuse_pair(path, elsewhere, &title, "keep `path`, or `bucket` and `object`", walk);
        } else if let Some(elsewhere) = self.object.given() {
            refuse_pair(path, elsewhere, &title, "keep `path`, or `bucket` and `object`", walk);
        }
        refuse_beside(
            self.etag,
            "a local file has no ETag",
            "remove it: local files are pinned by their content",
            walk,
        );
        Some(CsvPlace::Local(context.file(path, walk)))
    }

    fn object_is_whole(&self, header: &Span, walk: &mut Walk) {
        match (self.bucket.is_absent(), self.object.is_absent()) {
            (true, true) => walk.push(
                Problem::new(format!("{} does not say where {} is", self.table, self.noun))
                    .label(header.clone(), "which file?")
                    .help("add `bucket` and `object`, or `path` for a file on this machine"),
            ),
            (true, false) => self.miss("bucket", self.object.given(), walk),
            (false, true) => self.miss("object", self.bucket.given(), walk),
            (false, false) => {}
        }
    }

    /// Reports that one of `bucket` and `object` is missing beside the other.
    fn miss<T>(&self, name: &str, other: Option<&At<T>>, walk: &mut Walk) {
        let problem =
            Problem::new(format!("`{name}` is missing in {}", self.table)).help(format!("add `{name} = \"...\"`"));
        walk.push(match other {
            Some(other) => problem.label(other.key.clone(), format!("needs `{name}` beside it")),
            None => problem,
        });
    }
}

/// Returns an `ETag` without the quotes that are often copied with it.
pub(super) fn etag(field: &Field<Text<1, 1024>>) -> Option<String> {
    field.value().map(|etag| etag.0.trim_matches('"').to_owned())
}
