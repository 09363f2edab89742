//! The commands that are shown to the user: quoted for the shell, with the flag that finds the same jobs, and the next
//! command for a job by its status.

use std::path::Path;

use crate::engine::{INCONCLUSIVE, reason_says};
use crate::job::JobStatus;
use crate::jobs::JobPresence;
use crate::journal::{JobFolder, JobRecord, PauseCause, ReportDelivery};
use crate::report::MANIFEST_NAME;

/// Quotes a word for the shell if it contains a character that the shell would interpret.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Quotes a path for the shell.
pub(crate) fn quote_path(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// Returns the next command for a job, or `None` if nothing is left to do. `flag` is the ` --state` flag it
/// needs, or empty.
pub(crate) fn next_command(job: &JobRecord, presence: &JobPresence, folder: &JobFolder, flag: &str) -> Option<String> {
    use JobStatus::{
        Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
        Ready, Suspended,
    };
    let command = |name: &str| Some(format!("batchplan {name} {}{flag}", job.id));
    let held = matches!(presence, JobPresence::HeldBy(_));
    match job.status {
        Complete | Cancelled | Failed if job.report_delivery == ReportDelivery::Due => command("publish"),
        Complete if job.progress.failed > 0 => command("retry"),
        Cancelled | Failed if job.progress.failed + job.progress.remaining() > 0 => command("retry"),
        Complete | Cancelled | Failed => {
            let listing = folder.report_folder().join(MANIFEST_NAME);
            listing.exists().then(|| format!("cat {}", quote_path(&listing)))
        }
        Suspended => command("confirm"),
        Ready if !held => Some(format!("batchplan run{flag}")),
        New | Preparing | Ready | Active | Pausing | Cancelling | Failing if held => {
            command("show").map(|command| format!("{command} --watch"))
        }
        // Resuming would be refused, or would find the server unchanged, unless the check was inconclusive.
        Paused if job.pause_cause == Some(PauseCause::Server) => {
            let unclear = job.reason.as_ref().is_some_and(|why| reason_says(why, INCONCLUSIVE));
            command(if unclear { "resume" } else { "cancel" })
        }
        New | Preparing | Ready | Active | Pausing | Paused | Cancelling | Failing => command("resume"),
        Cleaning | Cleaned => None,
    }
}

/// The text that every shown command starts with.
const COMMAND_PREFIX: &str = "batchplan ";

/// The commands that accept `--state`.
pub(crate) const COMMANDS_WITH_STATE: &[&str] = &[
    "plan",
    "apply",
    "create",
    "confirm",
    "list",
    "show",
    "run",
    "pause",
    "resume",
    "retry",
    "cancel",
    "priority",
    "delete",
    "publish",
    "state show",
    "state pull",
    "state push",
    "state unlock",
    "schedule",
];

/// Inserts `flag` after each command in `text` that accepts it. Messages from outside `cli` know no flags and omit it. A
/// text that already contains the flag is returned unchanged.
pub(crate) fn add_state_flag(text: &str, flag: &str) -> String {
    if flag.is_empty() || text.contains(flag) {
        return text.to_owned();
    }
    let mut pieces = text.split(COMMAND_PREFIX);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_at(command_with_state(piece).map_or(0, str::len));
        let flag = if name.is_empty() { "" } else { flag };
        out.extend([COMMAND_PREFIX, name, flag, rest]);
    }
    out
}

/// Returns the command that a text starts with, such as `state unlock`, if that command accepts `--state`.
fn command_with_state(text: &str) -> Option<&'static str> {
    COMMANDS_WITH_STATE
        .iter()
        .copied()
        .find(|name| text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_words_for_the_shell() {
        assert_eq!(quote("plans/tag-2024.toml"), "plans/tag-2024.toml");
        assert_eq!(quote("my plan.toml"), "'my plan.toml'");
        assert_eq!(quote("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn shown_commands_get_the_state_flag() {
        let named = |text: &str| add_state_flag(text, " --state 'my dir'");
        assert_eq!(
            named("batchplan show A; or batchplan run"),
            "batchplan show --state 'my dir' A; or batchplan run --state 'my dir'"
        );
        assert_eq!(
            named("if so: batchplan state unlock --auto-approve"),
            "if so: batchplan state unlock --state 'my dir' --auto-approve"
        );
        let without = "use batchplan validate plan.toml, or the batchplan that made it";
        assert_eq!(named(without), without);
        let has_it = "batchplan publish A --state 'my dir'";
        assert_eq!(named(has_it), has_it);
        assert_eq!(add_state_flag("batchplan show A", ""), "batchplan show A");
    }
}
