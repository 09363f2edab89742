//! A saved plan as a file, and what `show` prints of it.

use std::path::{Path, PathBuf};

use indicatif::HumanCount;
use serde_json::{Value as Json, json};

use super::descriptions::{
    describe_operation, describe_report, describe_source, describe_store, format_instant, quote_path,
};
use super::detail_page::DetailPage;
use super::exit::CommandError;
use super::file_digest::FileDigest;
use super::plan_input::{is_saved_plan, read_up_to};
use crate::jobs::{SavedCounts, SavedPlan};
use crate::manifest::SourcePin;
use crate::paths::{path_to_text, show_path};
use crate::plan::Plan;

/// A saved plan that was read from a file.
pub(super) struct LoadedSavedPlan {
    path: PathBuf,
    digest: FileDigest,
    saved: SavedPlan,
    plan: Plan,
}

impl LoadedSavedPlan {
    /// Reads a saved plan. Returns `None` if the path is not that of a saved plan.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is damaged, or if this version does not accept its plan.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, CommandError> {
        if !is_saved_plan(path) {
            return Ok(None);
        }
        let bytes = read_up_to(path, SavedPlan::MAX_BYTES)?;
        let saved = SavedPlan::parse(path, &bytes)?;
        let plan = saved.plan(path, None)?;
        Ok(Some(Self { path: path.to_owned(), digest: FileDigest::of(&bytes), saved, plan }))
    }

    /// Returns the saved plan as text for a terminal. The caller must escape it before printing.
    pub(super) fn page(&self, state_flag: &str) -> String {
        let Self { saved, plan, .. } = self;
        let mut page = DetailPage::new(format!("{} is a saved plan", show_path(&self.path)));
        page.row("digest", self.digest.as_str());
        page.row("saved", format_instant(saved.fingerprint.as_of));
        page.row("name", &plan.name);
        page.text_if("description", plan.description.as_deref());
        page.row("plan", show_path(&saved.plan_file));
        page.row("plan hash", &saved.hash);
        page.row("store", describe_store(&plan.store));
        page.row("manifest", describe_source(&plan.manifest.source));
        page.row_if("source", describe_pin(&saved.fingerprint.pin));
        for operation in &plan.operations {
            page.row("operation", describe_operation(operation));
        }
        page.row("report", describe_report(plan));
        page.row("objects", HumanCount(saved.fingerprint.objects));
        page.row("preview", describe_counts(saved.counts));
        page.text_if("text", Some(&saved.plan));
        page.finish(Some(&self.next_command(state_flag)))
    }

    /// Returns the saved plan as JSON. The help of `batchplan show` documents the format.
    pub(super) fn to_json(&self, state_flag: &str) -> Json {
        let Self { saved, plan, .. } = self;
        let SavedCounts { exact, change, unchanged, fail, unknown } = saved.counts;
        json!({
            "file": path_to_text(&self.path),
            "digest": self.digest.as_str(),
            "saved": saved.fingerprint.as_of,
            "name": plan.name,
            "description": plan.description,
            "plan_file": path_to_text(&saved.plan_file),
            "plan_hash": saved.hash,
            "plan": saved.plan,
            "store": describe_store(&plan.store),
            "manifest": describe_source(&plan.manifest.source),
            "operations": plan.operations.iter().map(describe_operation).collect::<Vec<_>>(),
            "report": describe_report(plan),
            "objects": saved.fingerprint.objects,
            "counts": {
                "exact": exact, "change": change, "unchanged": unchanged, "fail": fail, "unknown": unknown,
            },
            "next": self.next_command(state_flag),
        })
    }

    /// Returns the command that applies exactly this file.
    fn next_command(&self, state_flag: &str) -> String {
        let (path, digest) = (quote_path(&self.path), self.digest.as_str());
        format!("batchplan apply {path} --expect-digest {digest}{state_flag}")
    }
}

/// Describes what the manifest was made from, if it was a file.
fn describe_pin(pin: &str) -> Option<String> {
    match SourcePin::from_json(pin)? {
        SourcePin::File { sha256, .. } | SourcePin::Object { sha256, .. } => Some(format!("SHA-256 {sha256}")),
        SourcePin::Inventory { bucket, key, etag, .. } => Some(format!("{bucket}/{key}, ETag {etag}")),
        SourcePin::Listing => None,
    }
}

fn describe_counts(SavedCounts { exact, change, unchanged, fail, unknown }: SavedCounts) -> String {
    let [change, unchanged, fail, unknown] = [change, unchanged, fail, unknown].map(HumanCount);
    let counts = format!("{change} change, {unchanged} stay as they are, {fail} fail, {unknown} unknown");
    if exact { counts } else { format!("about {counts}, estimated from a sample") }
}
