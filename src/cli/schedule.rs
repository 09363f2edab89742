//! `batchplan schedule`: prints a workflow, a timer or a crontab line that applies a plan at given times.

mod cron;
mod crontab;
mod github;
mod systemd;

use std::path::{Path, PathBuf};

use batchplan_store::hex::hex;
use batchplan_store::printable::affects_terminal;
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::terminal::Terminal;
use super::{plan_file, problems};
use crate::diagnostics::FileProblems;
use crate::plan::{StateUrl, mask_for_excerpts};
use cron::CronExpression;

/// Print a workflow, timer or crontab line that applies a plan on a schedule.
///
/// The expression has the five fields of cron: minute, hour, day of the month, month and day of the week. Each is *, a
/// value, a range, a step, or a list of these. GitHub uses UTC, systemd and cron use the machine's time zone. A plan
/// with [recurring] does nothing until there is a new inventory, so you can schedule it more often than inventories
/// appear.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan schedule plan.toml --cron \"17 3 * * *\" --state s3://my-state/jobs > .github/workflows/nightly.yml
  batchplan schedule plan.toml --cron \"17 3 * * MON-FRI\" --as systemd
  batchplan schedule plan.toml --cron \"*/30 * * * *\" --as crontab

Exit codes: 0 printed, 2 the plan or the expression is not valid.")]
pub(super) struct ScheduleArgs {
    /// The plan file
    plan: PathBuf,
    /// When to run: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    cron: String,
    /// What to print
    #[arg(long = "as", value_enum, value_name = "FORMAT", default_value = "github")]
    form: ScheduleFormat,
    /// Where jobs are kept, as in other commands
    #[arg(long, value_name = "DIR|URL")]
    state: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleFormat {
    /// A GitHub workflow
    Github,
    /// A systemd service and its timer
    Systemd,
    /// A line of a crontab
    Crontab,
}

/// The command to schedule.
struct ScheduledCommand<'a> {
    /// The plan's name.
    name: &'a str,
    /// The name in letters, digits and dashes.
    slug: String,
    /// The path of the plan file.
    plan: String,
    /// The value of `--state`, if given.
    state: Option<String>,
    /// Whether the plan has a `[state]` table.
    plan_has_state: bool,
}

impl ScheduledCommand<'_> {
    /// Returns the arguments that follow the program's name.
    fn arguments(&self) -> impl Iterator<Item = String> {
        let state = self.state.iter().flat_map(|state| ["--state".to_owned(), state.clone()]);
        ["apply", &self.plan, "--auto-approve"].map(str::to_owned).into_iter().chain(state)
    }
}

impl CliCommand for ScheduleArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let mut mistakes = FileProblems::new("--cron", &mask_for_excerpts(&self.cron, &[]));
        let cron = cron::parse(&self.cron, &mut mistakes);
        problems::show(&mistakes, terminal);
        let plan = plan_file::require(&self.plan, terminal)?.plan;
        let Some(cron) = cron else {
            return Err(CommandError::new(ExitStatus::Invalid, "the cron expression is not valid")
                .help("fix the problems shown above; an example: --cron \"17 3 * * *\""));
        };
        let local = self.form != ScheduleFormat::Github;
        let folder = std::env::current_dir()?;
        let path = if local { std::path::absolute(&self.plan)? } else { checkout_path(&self.plan, &folder)? };
        let job = ScheduledCommand {
            name: &plan.name,
            slug: slug(&plan.name, &plan.identity()),
            plan: path_on_one_line(&path)?,
            state: self.state.as_deref().map(|state| state_argument(state, local)).transpose()?,
            plan_has_state: plan.state.is_some(),
        };
        let printed = match self.form {
            ScheduleFormat::Github => github::workflow(&job, &cron, plan.store.provider),
            ScheduleFormat::Systemd | ScheduleFormat::Crontab => {
                let program = std::env::current_exe()?;
                path_on_one_line(&program)?;
                path_on_one_line(&folder)?;
                if self.form == ScheduleFormat::Systemd {
                    systemd::units(&job, &cron, &cron.normalized(), &program, &folder)
                } else {
                    crontab::line(&job, &cron, &program, &folder)
                }
            }
        };
        terminal.print(printed)?;
        if plan.recurring.is_none() {
            terminal.eprint("the plan has no [recurring]: each run covers all objects of its manifest, new or not");
        }
        if self.form == ScheduleFormat::Github && cron.min_interval_minutes() < 5 {
            terminal.eprint("GitHub runs a workflow at most every 5 minutes, and skips runs that are due in between");
        }
        terminal.eprint(format_args!("next: {}", next_step(self.form, &job.slug)));
        Ok(ExitStatus::Success)
    }
}

/// Returns what to do with the printed text.
fn next_step(form: ScheduleFormat, slug: &str) -> String {
    match form {
        ScheduleFormat::Github => {
            format!("save it as .github/workflows/batchplan-{slug}.yml, and follow its first lines")
        }
        ScheduleFormat::Systemd => format!(
            "save both units where their first lines say, then: systemctl --user daemon-reload && systemctl --user enable \
             --now batchplan-{slug}.timer"
        ),
        ScheduleFormat::Crontab => "crontab -e, and add the line".to_owned(),
    }
}

/// Returns the path of a plan relative to the repository that a workflow checks out.
fn checkout_path(plan: &Path, folder: &Path) -> Result<PathBuf, CommandError> {
    let below = if plan.is_absolute() { plan.strip_prefix(folder).ok() } else { Some(plan) };
    let leaves = |path: &&Path| path.components().any(|part| part == std::path::Component::ParentDir);
    below.filter(|path| !leaves(path)).map(Path::to_owned).ok_or_else(|| {
        CommandError::new(ExitStatus::Invalid, format!("{} is not in the current folder", plan.display()))
            .help("a workflow sees only what it checks out: run this command at the top of the repository")
    })
}

/// Returns the value of `--state` for the schedule. A local path becomes absolute if the schedule runs on this machine.
fn state_argument(state: &str, local: bool) -> Result<String, CommandError> {
    if StateUrl::is_state_url(state) {
        let url = StateUrl::parse(state).map_err(|refused| {
            CommandError::new(ExitStatus::Invalid, format!("invalid --state: {}", refused.message)).help(refused.help)
        })?;
        return check_one_line(&url.to_string());
    }
    if !local {
        return check_one_line(state);
    }
    path_on_one_line(&std::path::absolute(state)?)
}

/// Returns a path as text that stays on one line.
fn path_on_one_line(path: &Path) -> Result<String, CommandError> {
    let text = path.to_str().ok_or_else(|| {
        CommandError::new(ExitStatus::Invalid, format!("{} is not UTF-8", path.display()))
            .help("rename the file or its folder")
    })?;
    check_one_line(text)
}

fn check_one_line(text: &str) -> Result<String, CommandError> {
    // A backslash at the end would join this line with the next one.
    if text.chars().any(affects_terminal) || text.ends_with('\\') {
        let what = format!("`{}` contains characters that a schedule cannot hold", text.escape_debug());
        return Err(CommandError::new(ExitStatus::Invalid, what)
            .help("use a name without control characters and without a backslash at its end"));
    }
    Ok(text.to_owned())
}

/// Returns a name in letters, digits and dashes. If that loses something, eight hex digits distinguish it from other
/// names that lose the same.
fn slug(name: &str, identity: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let plain: String = name.chars().map(kept).collect();
    let plain = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    if plain == name && plain.len() <= 48 {
        return plain;
    }
    let digest = hex(&Sha256::digest(identity));
    let short: String = plain.chars().take(40).collect();
    let short = short.trim_end_matches('-');
    if short.is_empty() { format!("plan-{}", &digest[..8]) } else { format!("{short}-{}", &digest[..8]) }
}

/// Describes when an expression runs.
fn describe_times(cron: &CronExpression) -> String {
    let two = |value: Option<&u8>| format!("{:02}", value.copied().unwrap_or_default());
    let single = |field: &cron::CronField| field.values.len() == 1;
    let every_day = cron.day.all && cron.month.all && cron.weekday.all;
    match (single(&cron.minute), single(&cron.hour)) {
        (true, true) => {
            let days = if every_day { "every day" } else { "on the given days" };
            format!("{days} at {}:{}", two(cron.hour.values.first()), two(cron.minute.values.first()))
        }
        (true, false) if cron.hour.all && every_day => {
            format!("every hour at minute {}", two(cron.minute.values.first()))
        }
        _ => "at the given times".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_file_names_and_distinct() {
        assert_eq!(slug("tag-documents-2024", "i"), "tag-documents-2024");
        let lossy = slug("Tag Documents/../é", "i");
        assert!(lossy.starts_with("tag-documents-") && lossy.len() == "tag-documents-".len() + 8, "{lossy}");
        assert_ne!(slug("é", "one"), slug("è", "other"));
        assert!(slug(&"x".repeat(128), "i").len() <= 49);
    }

    #[test]
    fn workflow_plan_must_be_in_the_checkout() {
        let folder = Path::new("/repository");
        let found = |plan: &str| checkout_path(Path::new(plan), folder).ok();
        assert_eq!(found("plans/a.toml"), Some(PathBuf::from("plans/a.toml")));
        assert_eq!(found("/repository/plans/a.toml"), Some(PathBuf::from("plans/a.toml")));
        assert_eq!(found("../a.toml"), None);
        assert_eq!(found("/elsewhere/a.toml"), None);
    }

    #[test]
    fn rejects_text_that_leaves_its_line() {
        assert!(check_one_line("a b\u{e9}").is_ok());
        for text in ["a\nb", "a\u{7f}", "a\\", "a\u{202e}"] {
            assert!(check_one_line(text).is_err(), "{text:?}");
        }
    }
}
