//! `--rules`: the rules that plans must keep, and the problems of their file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::error_code::ErrorCode;
use super::exit::{CommandError, ExitStatus};
use super::github;
use super::plan_input::{job_error, place_json, problems_json, read_up_to, show_problems};
use super::terminal::{Terminal, escape_for_terminal};
use crate::files::access_help;
use crate::jobs::RuleCheck;
use crate::paths::show_path;
use crate::plan::Plan;
use crate::plan_rules::{MAX_RULES_BYTES, PlanRules};

/// The rules for plans.
#[derive(Debug, Args)]
pub(super) struct PlanRulesArgs {
    /// Refuse a plan that breaks a rule of this file
    #[arg(long, value_name = "FILE", env = "BATCHPLAN_RULES")]
    rules: Option<PathBuf>,
}

impl PlanRulesArgs {
    /// Reads the rules, if there are any. Prints their problems.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not valid: no plan is accepted without its rules.
    pub(super) fn load(&self, terminal: Terminal) -> Result<Option<Arc<PlanRules>>, CommandError> {
        let Some(path) = &self.rules else { return Ok(None) };
        let name = escape_for_terminal(&show_path(path).to_string());
        let bytes = read_up_to(path, MAX_RULES_BYTES as u64).map_err(|error| {
            let help = access_help(&error).unwrap_or("check the path in --rules or BATCHPLAN_RULES");
            CommandError::new(ExitStatus::Invalid, format!("cannot read the rules in {name}: {error}"))
                .code(ErrorCode::InvalidRules)
                .help(help)
        })?;
        let (rules, problems) = PlanRules::parse(&name, &bytes);
        show_problems(&problems, terminal);
        github::annotate([&problems], terminal);
        let invalid = || {
            CommandError::new(ExitStatus::Invalid, format!("{name} is not a valid file of rules"))
                .code(ErrorCode::InvalidRules)
                .problems(place_json(&problems), problems_json(&problems))
                .help("fix the problems shown above; nothing was sent")
        };
        Ok(Some(Arc::new(rules.ok_or_else(invalid)?)))
    }

    /// Reads the rules, and checks what a plan alone shows. `path` is the file of the plan, and `text` its content.
    ///
    /// # Errors
    /// Returns an error if the rules are not valid, or if the plan breaks one. All broken rules are printed.
    pub(super) fn check(
        &self,
        plan: &Plan,
        (path, text): (&Path, &[u8]),
        terminal: Terminal,
    ) -> Result<Option<Arc<PlanRules>>, CommandError> {
        let rules = self.load(terminal)?;
        check_plan(rules.as_ref(), plan, (path, text), terminal)?;
        Ok(rules)
    }
}

/// Checks what a plan alone shows. `path` is the file of the plan, and `text` its content.
///
/// # Errors
/// Returns an error if the plan breaks a rule. All broken rules are printed.
pub(super) fn check_plan(
    rules: Option<&Arc<PlanRules>>,
    plan: &Plan,
    (path, text): (&Path, &[u8]),
    terminal: Terminal,
) -> Result<(), CommandError> {
    rule_check(rules, (path, text)).check_plan(plan).map_err(|error| job_error(&error, terminal))
}

/// Returns the check of a plan file.
pub(super) fn rule_check(rules: Option<&Arc<PlanRules>>, (path, text): (&Path, &[u8])) -> RuleCheck {
    RuleCheck::new(rules, &escape_for_terminal(&show_path(path).to_string()), text)
}
