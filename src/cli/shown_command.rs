//! The commands that are shown to the user: quoted for the shell, with the flag that finds the same jobs, and the next
//! command for a job by its status.

use std::path::Path;

use crate::engine::{INCONCLUSIVE, reason_says};
use crate::hint::{Hint, ShownCommand};
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

/// Returns the text of a hint. `flag` is the ` --state` flag that its commands need to find the same jobs, or empty; it
/// is added to each command that accepts it.
pub(crate) fn render_hint(hint: &Hint, flag: &str) -> String {
    hint.render(|command| render_command(command, flag))
}

fn render_command(command: &ShownCommand, flag: &str) -> String {
    let flag = if command.accepts_state() { flag } else { "" };
    let mut words = vec![format!("batchplan {}{flag}", command.name())];
    words.extend(command.args().iter().map(|arg| quote(arg)));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::{command, hint};
    use crate::job::JobId;
    use crate::jobs::JobError;
    use crate::journal::JournalError;
    use crate::remote::RemoteError;

    #[test]
    fn quotes_words_for_the_shell() {
        assert_eq!(quote("plans/tag-2024.toml"), "plans/tag-2024.toml");
        assert_eq!(quote("my plan.toml"), "'my plan.toml'");
        assert_eq!(quote("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn shown_commands_get_the_state_flag() {
        let rendered = |hint: Hint| render_hint(&hint, " --state 'my dir'");
        assert_eq!(
            rendered(hint!("{}; or {}", command!("show", "A"), command!("run"))),
            "batchplan show --state 'my dir' A; or batchplan run --state 'my dir'"
        );
        assert_eq!(
            rendered(hint!("if so: {}", command!("state unlock", "--auto-approve"))),
            "if so: batchplan state unlock --state 'my dir' --auto-approve"
        );
        assert_eq!(
            rendered(hint!("use {}, or the batchplan that made it", command!("validate", "plan.toml"))),
            "use batchplan validate plan.toml, or the batchplan that made it"
        );
        assert_eq!(render_hint(&command!("show", "A").into(), ""), "batchplan show A");
    }

    #[test]
    fn texts_get_no_state_flag() {
        for text in ["batchplan publish A --state 'my dir'", "`t`: `batchplan run` is now `batchplan list`"] {
            assert_eq!(render_hint(&text.into(), " --state other"), text);
        }
    }

    #[test]
    fn arguments_of_shown_commands_are_quoted() {
        let hint = hint!("apply its plan again: {}", command!("apply", "my plan.toml"));
        assert_eq!(render_hint(&hint, " --state x"), "apply its plan again: batchplan apply --state x 'my plan.toml'");
    }

    #[test]
    fn hints_of_errors_are_shown_with_the_state() {
        let shown = |help: Option<Hint>| render_hint(&help.expect("a hint"), " --state x");
        assert_eq!(
            shown(JournalError::NoSuchJob("A".to_owned()).help()),
            "batchplan list --state x shows the jobs; --state or BATCHPLAN_STATE selects the folder that keeps them"
        );
        assert_eq!(
            shown(JournalError::QueueFull(3).help()),
            "batchplan run --state x runs them; batchplan cancel --state x JOB cancels one"
        );
        assert_eq!(
            shown(RemoteError::Diverged("it".to_owned()).help()),
            "batchplan state show --state x shows the state in the bucket; batchplan state push --state x --force replaces \
             it with this machine's copy"
        );
        let job = JobId::random();
        let changed = JobError::PlanChanged { job: job.clone(), changes: Vec::new(), token: false };
        assert_eq!(
            shown(changed.help()),
            format!(
                "resume with the stored plan (batchplan resume --state x {job} --stored-plan), cancel the job (batchplan \
                 cancel --state x {job}), or leave it and create another one (batchplan apply --state x PLAN --new)"
            )
        );
    }
}
