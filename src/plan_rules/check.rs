//! Compares a plan and its objects with the rules.

use std::collections::BTreeSet;

use batchplan_store::object::{MaybeKnown, ObjectAcl, ObjectState, TagSet};
use batchplan_store::task::TaskId;
use globset::GlobMatcher;

use super::rules_file::{PlanRules, RuleSetting};
use super::violation::RuleViolations;
use crate::diagnostics::{FileProblem, FileProblems};
use crate::manifest::{FrozenManifest, KeyRanges, ManifestError, ManifestSource};
use crate::operation::Operation;
use crate::plan::Plan;
use crate::toml_reader::{locate, mask_for_excerpts, quote_for_message};

/// The number of rows to read at once.
const BATCH_ROWS: usize = 4096;

/// The maximum number of buckets that a message names.
const MAX_NAMED: usize = 5;

/// The tables of the manifest's sources, of which a plan has one.
const SOURCES: [&[&str]; 4] =
    [&["manifest", "prefix"], &["manifest", "csv"], &["manifest", "inventory"], &["manifest", "report"]];

/// The file of a plan, for positions in it.
#[derive(Clone, Debug)]
pub struct PlanSource {
    file: FileProblems,
    text: String,
}

impl PlanSource {
    /// Creates the source of a plan. `name` is the file's name in messages.
    #[must_use]
    pub fn new(name: &str, text: &[u8]) -> Self {
        // An accepted plan is UTF-8.
        let text = String::from_utf8_lossy(text).into_owned();
        Self { file: FileProblems::new(name, &mask_for_excerpts(&text, &[])), text }
    }

    /// Returns a problem at the first of these paths that the plan sets.
    fn problem(&self, title: String, paths: &[&[&str]], label: &str) -> FileProblem {
        let problem = FileProblem::new(title);
        match paths.iter().find_map(|path| locate(&self.text, path)) {
            Some(span) => problem.label(span, label),
            None => problem,
        }
    }
}

impl PlanRules {
    /// Checks what the plan alone shows, before anything is sent.
    ///
    /// # Errors
    /// Returns the rules that the plan breaks.
    pub fn check_plan(&self, plan: &Plan, source: &PlanSource) -> Result<(), Box<RuleViolations>> {
        let mut found = RuleViolations::of(self, source.file.clone());
        self.check_provider(plan, source, &mut found);
        self.check_named_buckets(plan, source, &mut found);
        self.check_acls(plan, source, &mut found);
        self.check_tags(plan, source, &mut found);
        found.into_result()
    }

    /// Checks the objects of a job. May read files: use it on a thread that may block.
    ///
    /// # Errors
    /// Returns an error if the frozen manifest cannot be read. The inner error is the rules that the job breaks.
    pub fn check_manifest(
        &self,
        frozen: &FrozenManifest,
        source: &PlanSource,
    ) -> Result<Result<(), Box<RuleViolations>>, ManifestError> {
        let mut found = RuleViolations::of(self, source.file.clone());
        if let Some(rule) = self.max_objects.as_ref().filter(|rule| frozen.rows() > rule.value) {
            self.push_count(rule, Some(frozen.rows()), source, &mut found);
        }
        if let Some(rule) = &self.allowed_buckets {
            let refused = refused_buckets(frozen, &rule.value)?;
            if !refused.is_empty() {
                let shown: Vec<_> = refused.iter().take(MAX_NAMED).map(|name| quote_for_message(name)).collect();
                let more = if refused.len() > MAX_NAMED { " and others" } else { "" };
                let title = format!("the manifest names objects in {}{more}", shown.join(", "));
                let problem = source.problem(title, &SOURCES, "not allowed");
                found.push(self, rule, problem, "leave these objects out of the manifest");
            }
        }
        Ok(found.into_result())
    }

    /// Returns the violation of a job with too many objects. `count` is their number, if all were counted.
    #[must_use]
    pub fn too_many_objects(&self, count: Option<u64>, source: &PlanSource) -> Option<Box<RuleViolations>> {
        let mut found = RuleViolations::of(self, source.file.clone());
        self.push_count(self.max_objects.as_ref()?, count, source, &mut found);
        found.into_result().err()
    }

    /// Returns the violation of a job whose cost is too high or unknown. `why` and `help` describe it.
    #[must_use]
    pub fn too_expensive(&self, why: &str, help: &str, source: &PlanSource) -> Option<Box<RuleViolations>> {
        let mut found = RuleViolations::of(self, source.file.clone());
        let problem = source.problem(why.to_owned(), &SOURCES, "these objects");
        found.push(self, self.max_cost.as_ref()?, problem, help);
        found.into_result().err()
    }

    fn push_count(&self, rule: &RuleSetting<u64>, count: Option<u64>, source: &PlanSource, found: &mut RuleViolations) {
        let limit = rule.value;
        let title = match count {
            Some(count) => format!("the manifest has {count} objects, and at most {limit} are allowed"),
            None => format!("the manifest has more than {limit} objects, the maximum"),
        };
        let problem = source.problem(title, &SOURCES, "these objects");
        found.push(self, rule, problem, "select fewer objects, such as by a prefix or a filter");
    }

    fn check_provider(&self, plan: &Plan, source: &PlanSource, found: &mut RuleViolations) {
        let name = plan.store.provider.as_str();
        let allows = |rule: &&RuleSetting<Vec<GlobMatcher>>| rule.value.iter().any(|glob| glob.is_match(name));
        if let Some(rule) = self.allowed_providers.as_ref().filter(|rule| !allows(rule)) {
            let problem = source.problem(
                format!("the provider `{name}` is not allowed"),
                &[&["store", "provider"]],
                "not allowed",
            );
            found.push(self, rule, problem, &format!("use a provider that matches {}", globs(&rule.value)));
        }
    }

    /// Checks the buckets that the plan itself names: where its objects are, if it lists a prefix, and where its report
    /// goes.
    fn check_named_buckets(&self, plan: &Plan, source: &PlanSource, found: &mut RuleViolations) {
        let Some(rule) = &self.allowed_buckets else { return };
        let listed = match &plan.manifest.source {
            ManifestSource::Prefix { bucket, .. } => Some((bucket, ["manifest", "prefix", "bucket"].as_slice())),
            _ => None,
        };
        let reported = plan.report.location.as_ref().map(|place| (&place.bucket, ["report", "bucket"].as_slice()));
        for (bucket, path) in listed.into_iter().chain(reported) {
            if !is_allowed(bucket.as_str(), &rule.value) {
                let title = format!("the bucket `{}` is not allowed", quote_for_message(bucket.as_str()));
                let problem = source.problem(title, &[path], "not allowed");
                found.push(self, rule, problem, &format!("use a bucket that matches {}", globs(&rule.value)));
            }
        }
    }

    fn check_acls(&self, plan: &Plan, source: &PlanSource, found: &mut RuleViolations) {
        let Some(rule) = self.allow_public_acls.as_ref().filter(|rule| !rule.value) else { return };
        for operation in &plan.operations {
            let after = operation.desired(empty_state());
            let acl = after.as_ref().ok().and_then(|after| after.acl.known());
            let Some(acl @ (ObjectAcl::PublicRead | ObjectAcl::PublicReadWrite)) = acl else { continue };
            let title = format!("the ACL `{}` makes objects public", acl.as_str());
            let table = ["operation", operation.name()];
            let problem = source.problem(title, &[&["operation", operation.name(), "acl"], &table], "not allowed");
            found.push(self, rule, problem, "set another ACL, such as \"private\"");
        }
    }

    /// Checks that an object that has the required tags keeps them.
    fn check_tags(&self, plan: &Plan, source: &PlanSource, found: &mut RuleViolations) {
        let Some(rule) = &self.required_tags else { return };
        for operation in &plan.operations {
            let lost: Vec<_> = rule.value.iter().filter(|key| loses_tag(plan, operation, key)).collect();
            if lost.is_empty() {
                continue;
            }
            let names: Vec<_> = lost.iter().map(|key| format!("`{}`", quote_for_message(key))).collect();
            let noun = if names.len() == 1 { "tag" } else { "tags" };
            let title = format!("{} would remove the {noun} {}", operation.name(), names.join(", "));
            let (tags, keys) = (["operation", operation.name(), "tags"], ["operation", operation.name(), "keys"]);
            let problem = source.problem(title, &[&tags, &keys, &["operation", operation.name()]], "not kept");
            found.push(self, rule, problem, "set these tags, or leave them as they are");
        }
    }
}

/// Returns whether an object loses a tag in a job of this plan, and this operation is the last that removes it.
fn loses_tag(plan: &Plan, operation: &Operation, key: &str) -> bool {
    let mut last_removal = None;
    let mut state = empty_state();
    state.tags = MaybeKnown::Known([(key, "")].into_iter().collect());
    for each in &plan.operations {
        // An object for which the operation is not possible is not changed.
        let Ok(after) = each.desired(state.clone()) else { return false };
        match (has_tag(&state, key), has_tag(&after, key)) {
            (true, false) => last_removal = Some(each),
            (_, true) => last_removal = None,
            (false, false) => {}
        }
        state = after;
    }
    last_removal == Some(operation)
}

fn has_tag(state: &ObjectState, key: &str) -> bool {
    state.tags.known().is_some_and(|tags| tags.iter().any(|(own, _)| own == key))
}

/// Returns the state of an object without tags, of which nothing else is known.
fn empty_state() -> ObjectState {
    ObjectState { tags: MaybeKnown::Known(TagSet::default()), ..ObjectState::default() }
}

/// Returns the buckets of a frozen manifest that match none of the globs, but only a few of them if they are many.
fn refused_buckets(frozen: &FrozenManifest, globs: &[GlobMatcher]) -> Result<BTreeSet<String>, ManifestError> {
    if let KeyRanges::Known(ranges) = frozen.key_ranges() {
        let names = ranges.iter().map(|range| range.bucket.as_str());
        return Ok(names.filter(|name| !is_allowed(name, globs)).map(str::to_owned).collect());
    }
    let (mut refused, mut last) = (BTreeSet::new(), None);
    for batch in frozen.tasks(TaskId { part: 0, row: 0 }, BATCH_ROWS) {
        for task in batch? {
            // Rows of one bucket are usually adjacent.
            let bucket = task.object.bucket;
            if last.as_ref() == Some(&bucket) {
                continue;
            }
            if !is_allowed(bucket.as_str(), globs) {
                refused.insert(bucket.as_str().to_owned());
            }
            if refused.len() > MAX_NAMED {
                return Ok(refused);
            }
            last = Some(bucket);
        }
    }
    Ok(refused)
}

/// Returns whether a bucket matches one of the globs. A name with a colon is that of a bucket of another tenant, or an
/// ARN: only a glob with a colon matches it.
fn is_allowed(bucket: &str, globs: &[GlobMatcher]) -> bool {
    globs.iter().any(|glob| glob.is_match(bucket) && (!bucket.contains(':') || glob.glob().glob().contains(':')))
}

fn globs(globs: &[GlobMatcher]) -> String {
    let shown: Vec<_> = globs.iter().take(MAX_NAMED).map(|glob| quote_for_message(glob.glob().glob())).collect();
    let more = if globs.len() > MAX_NAMED { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}
