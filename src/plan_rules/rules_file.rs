//! The file of the rules: its keys, and how it is read.

use batchplan_store::StoreProvider;
use globset::{Glob, GlobMatcher};
use serde_json::{Value as Json, json};

use crate::diagnostics::{FileProblem, FileProblems};
use crate::money::{Currency, Money};
use crate::plan::ObjectCount;
use crate::toml_reader::{
    BoundedArray, DocumentReader, DocumentType, DocumentValue, MAX_DOCUMENT_BYTES, ParsedField, RawField, SpannedValue,
    TextSpan, TextValue, nearest, quote_for_message, table,
};

/// The maximum size of a file of rules, in bytes.
pub const MAX_RULES_BYTES: usize = MAX_DOCUMENT_BYTES;

const RULES_FILE: DocumentType = DocumentType {
    name: "rules file",
    too_large: "the rules file is too large",
    too_large_help: "use globs such as \"acme-*\" in place of long lists",
};

/// The maximum number of globs in a list.
const MAX_GLOBS: usize = 1000;

table! {
    /// Rules for batchplan plans. Every key is optional, and a plan must keep each rule that is set.
    struct PlanRulesTable {
        /// The maximum number of objects in a job.
        optional max_objects: ObjectCount,
        /// The maximum estimated cost of a job, such as "50 USD", or a list with one amount for each currency. A job
        /// whose cost is unknown breaks the rule. Jobs in the sandbox cost nothing.
        optional max_cost: MoneyPerCurrency,
        /// Whether plans may set ACLs that make objects public. True by default.
        optional allow_public_acls: bool,
        /// The keys of tags that no plan may take away: a plan that replaces all tags must set them, and a plan that
        /// removes tags must leave them.
        optional required_tags: BoundedArray<TextValue<1, 128>, 1, 10>,
        /// Globs for the buckets whose objects plans may change, and to which they may publish reports.
        optional allowed_buckets: BoundedArray<NameGlob, 1, MAX_GLOBS>,
        /// Globs for the providers that plans may use: "aws", "oss", "s3" and "sandbox".
        optional allowed_providers: BoundedArray<NameGlob, 1, MAX_GLOBS>,
    }
}

/// A glob for names.
pub(crate) enum NameGlob {}

impl DocumentValue for NameGlob {
    type Value = Glob;

    fn schema() -> Json {
        Glob::schema()
    }

    fn example() -> String {
        "\"acme-*\"".to_owned()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        Glob::read(field, reader)
    }
}

/// An amount of money, or a list with one amount for each currency.
pub(crate) enum MoneyPerCurrency {}

impl DocumentValue for MoneyPerCurrency {
    type Value = Vec<Money>;

    fn schema() -> Json {
        json!({ "anyOf": [Money::schema(), { "type": "array", "items": Money::schema(), "minItems": 1 }] })
    }

    fn example() -> String {
        Money::example()
    }

    fn read(field: &RawField<'_>, reader: &mut DocumentReader) -> Option<Self::Value> {
        let Some(items) = field.items() else { return Money::read(field, reader).map(|amount| vec![amount]) };
        let read: Vec<_> = items.map(|item| Money::read(&item, reader)).collect();
        let amounts: Vec<Money> = read.into_iter().collect::<Option<_>>()?;
        let repeated = |(index, amount): (usize, &Money)| {
            amounts[..index].iter().any(|other| other.currency() == amount.currency())
        };
        if amounts.is_empty() || amounts.iter().enumerate().any(repeated) {
            let title = if amounts.is_empty() { "has too few items" } else { "has two amounts in one currency" };
            field.report_invalid(title, "in this list", "use one amount for each currency", reader);
            return None;
        }
        Some(amounts)
    }
}

/// A rule that is set, and the span of its key in the rules file.
#[derive(Clone, Debug)]
pub(super) struct RuleSetting<T> {
    pub(super) name: &'static str,
    pub(super) value: T,
    pub(super) span: TextSpan,
}

impl<T: Clone> RuleSetting<T> {
    fn of(name: &'static str, field: &ParsedField<T>) -> Option<Self> {
        let SpannedValue { key, value, .. } = field.present()?;
        Some(Self { name, value: value.clone(), span: key.clone() })
    }
}

impl<T> RuleSetting<T> {
    fn map<U>(self, convert: impl FnOnce(T) -> U) -> RuleSetting<U> {
        RuleSetting { name: self.name, value: convert(self.value), span: self.span }
    }
}

/// The rules that plans must keep.
#[derive(Clone, Debug)]
pub struct PlanRules {
    /// The file of the rules, for positions in it.
    pub(super) source: FileProblems,
    pub(super) max_objects: Option<RuleSetting<u64>>,
    pub(super) max_cost: Option<RuleSetting<Vec<Money>>>,
    pub(super) allow_public_acls: Option<RuleSetting<bool>>,
    pub(super) required_tags: Option<RuleSetting<Vec<String>>>,
    pub(super) allowed_buckets: Option<RuleSetting<Vec<GlobMatcher>>>,
    pub(super) allowed_providers: Option<RuleSetting<Vec<GlobMatcher>>>,
}

/// Returns the JSON Schema of rules files, for editors. It is generated from the same definitions as the parser.
#[must_use]
pub fn schema() -> Json {
    let mut schema = PlanRulesTable::schema();
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("batchplan rules for plans");
    schema
}

impl PlanRules {
    /// Reads a file of rules, and reports all problems in it. `name` is the file's name in messages. There are rules
    /// exactly if no problem is an error.
    #[must_use]
    pub fn parse(name: &str, bytes: &[u8]) -> (Option<Self>, FileProblems) {
        let text = match RULES_FILE.decode(name, bytes) {
            Ok(text) => text,
            Err(problems) => return (None, problems),
        };
        let (rules, problems) = RULES_FILE.read(name, text, |file: &PlanRulesTable, reader| Some(check(file, reader)));
        let source = FileProblems::new(name, text);
        (rules.map(|rules| Self { source, ..rules }), problems)
    }

    /// Returns the name of the file, escaped for terminals.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.source.file_name()
    }

    /// Returns the maximum number of objects in a job, if there is one.
    #[must_use]
    pub fn max_objects(&self) -> Option<u64> {
        self.max_objects.as_ref().map(|rule| rule.value)
    }

    /// Returns the maximum cost of a job whose prices are in this currency: the amount in that currency, or else the
    /// first, which then cannot be compared. Returns `None` if there is no rule about the cost.
    #[must_use]
    pub fn max_cost(&self, currency: Option<Currency>) -> Option<Money> {
        let amounts = &self.max_cost.as_ref()?.value;
        amounts.iter().find(|amount| Some(amount.currency()) == currency).or_else(|| amounts.first()).copied()
    }
}

fn check(file: &PlanRulesTable, reader: &mut DocumentReader) -> PlanRules {
    for glob in file.allowed_providers.value().into_iter().flatten() {
        check_provider(glob, reader);
    }
    let matchers = |globs: Vec<SpannedValue<Glob>>| globs.iter().map(|at| at.value.compile_matcher()).collect();
    let texts = |tags: Vec<SpannedValue<String>>| tags.into_iter().map(|at| at.value).collect();
    PlanRules {
        source: FileProblems::new("", ""),
        max_objects: RuleSetting::of("max_objects", &file.max_objects),
        max_cost: RuleSetting::of("max_cost", &file.max_cost),
        allow_public_acls: RuleSetting::of("allow_public_acls", &file.allow_public_acls),
        required_tags: RuleSetting::of("required_tags", &file.required_tags).map(|rule| rule.map(texts)),
        allowed_buckets: RuleSetting::of("allowed_buckets", &file.allowed_buckets).map(|rule| rule.map(matchers)),
        allowed_providers: RuleSetting::of("allowed_providers", &file.allowed_providers).map(|rule| rule.map(matchers)),
    }
}

/// Reports a glob that matches no provider: nothing could ever match it.
fn check_provider(glob: &SpannedValue<Glob>, reader: &mut DocumentReader) {
    let names: Vec<_> = StoreProvider::NAMES.iter().map(|(name, _)| *name).collect();
    let matcher = glob.value.compile_matcher();
    if names.iter().any(|name| matcher.is_match(name)) {
        return;
    }
    let choice = format!("the providers are {}", names.join(", "));
    let near = nearest(glob.value.glob(), names.iter().copied());
    let help = near.map_or_else(|| choice.clone(), |near| format!("did you mean `{near}`? {choice}"));
    let title = format!("`{}` matches no provider", quote_for_message(glob.value.glob()));
    reader.push(FileProblem::new(title).label(glob.span.clone(), "no provider").help(help));
}
