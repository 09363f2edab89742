//! The rules that a plan breaks.

use std::fmt;

use super::rules_file::{PlanRules, RuleSetting};
use crate::diagnostics::{FileProblem, FileProblems};

/// The rules that a plan breaks. There is at least one.
#[derive(Clone, Debug)]
pub struct RuleViolations {
    rules_file: String,
    /// The plan file, with one problem for each violation.
    problems: FileProblems,
    violations: Vec<RuleViolation>,
}

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleViolation {
    /// The key of the rule.
    pub rule: &'static str,
    /// The line and column of the rule in the rules file, both starting at 1. Columns count characters.
    pub position: (usize, usize),
}

impl RuleViolations {
    /// Creates an empty list. `problems` is the plan file without problems.
    pub(super) fn of(rules: &PlanRules, problems: FileProblems) -> Self {
        Self { rules_file: rules.file_name().to_owned(), problems, violations: Vec::new() }
    }

    /// Adds a violation. `help` says how to change the plan.
    pub(super) fn push<T>(&mut self, rules: &PlanRules, rule: &RuleSetting<T>, problem: FileProblem, help: &str) {
        let (line, column) = rules.source.position(rule.span.start);
        let (name, file) = (rule.name, &self.rules_file);
        self.problems.push(problem.help(format!("{help}; the rule is `{name}`, {file}:{line}:{column}")));
        self.violations.push(RuleViolation { rule: name, position: (line, column) });
    }

    /// Returns an error if there are any.
    pub(super) fn into_result(self) -> Result<(), Box<Self>> {
        if self.violations.is_empty() { Ok(()) } else { Err(Box::new(self)) }
    }

    /// Returns the name of the rules file, escaped for terminals.
    #[must_use]
    pub fn rules_file(&self) -> &str {
        &self.rules_file
    }

    /// Returns the plan file, with one problem for each violation, in the same order.
    #[must_use]
    pub fn problems(&self) -> &FileProblems {
        &self.problems
    }

    /// Returns the violations, each with the problem in the plan file.
    pub fn iter(&self) -> impl Iterator<Item = (&RuleViolation, &FileProblem)> {
        self.violations.iter().zip(self.problems.iter())
    }
}

/// One sentence, such as "plan.toml breaks 2 rules of rules.toml: `max_objects`, `required_tags`".
impl fmt::Display for RuleViolations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, rules) = (self.problems.file_name(), &self.rules_file);
        match self.violations.as_slice() {
            [RuleViolation { rule, .. }] => write!(f, "{plan} breaks the rule `{rule}` of {rules}"),
            several => {
                let names: Vec<_> = several.iter().map(|violation| format!("`{}`", violation.rule)).collect();
                write!(f, "{plan} breaks {} rules of {rules}: {}", several.len(), names.join(", "))
            }
        }
    }
}

impl std::error::Error for RuleViolations {}
