//! Rules that an organization sets for plans: limits that every plan must stay within.
//!
//! `rules_file` reads the file of the rules, `check` compares a plan and its objects with them, and `violation` says
//! which rules a plan breaks: each with its position in the rules file and in the plan. What a job would cost is known
//! only in `jobs`, which checks the rule about it with the functions here.

mod check;
mod rules_file;
mod violation;

pub use check::PlanSource;
pub use rules_file::{MAX_RULES_BYTES, PlanRules, schema};
pub use violation::{RuleViolation, RuleViolations};

#[cfg(test)]
mod tests;
