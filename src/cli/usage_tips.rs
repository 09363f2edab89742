//! What to write in place of an option or a command that another tool has, such as Terraform's `-auto-approve` and
//! `destroy`.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The options of other tools that ask for no confirmation.
const YES_OPTIONS: [&str; 6] = ["-y", "--yes", "-f", "--force", "--assume-yes", "--no-confirm"];

/// The options of other tools that change nothing.
const DRY_RUN_OPTIONS: [&str; 4] = ["-n", "--dry-run", "--dryrun", "--check"];

/// The options of other tools for what a plan or the environment says here.
const SETTINGS: &[(&[&str], &str)] = &[
    (&["--profile"], "set AWS_PROFILE, or the profile of your provider's own tools"),
    (&["--region"], "set `region` in the plan's [store], or AWS_REGION"),
    (&["--endpoint-url", "--endpoint"], "set `endpoint` in the plan's [store], or AWS_ENDPOINT_URL"),
    (
        &["--parallelism", "-parallelism", "--concurrency", "--numworkers", "--transfers", "--threads"],
        "set `concurrency` in the plan's [limits]",
    ),
    (
        &["--bucket", "--prefix", "--recursive", "--include", "--exclude"],
        "set [manifest] and [manifest.filter] in the plan",
    ),
];

/// The commands of other tools, and those of this one that do the same.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["destroy", "rollback", "revert"],
        "`batchplan cancel JOB` ends a job, and `batchplan delete JOB` removes one that has ended",
    ),
    (
        &["status", "describe", "get", "info", "logs", "watch"],
        "`batchplan list` lists jobs, and `batchplan show JOB` shows one",
    ),
    (&["ls", "jobs", "ps"], "`batchplan list` lists jobs"),
    (&["rm", "remove"], "`batchplan delete JOB` removes a job that has ended"),
    (&["stop", "kill", "abort"], "`batchplan pause JOB` pauses a job, and `batchplan cancel JOB` ends it"),
    (&["continue", "unpause"], "`batchplan resume JOB` resumes a paused job"),
    (
        &["start", "execute", "exec", "deploy", "up"],
        "`batchplan apply PLAN` applies a plan, and `batchplan run` runs the queue",
    ),
    (&["preview", "diff", "dry-run", "dryrun", "estimate"], "`batchplan plan PLAN` shows what would change"),
    (&["lint", "fmt", "test"], "`batchplan validate PLAN` checks a plan file"),
    (
        &["new", "create-job", "generate"],
        "`batchplan init` writes a plan, and `batchplan create PLAN` creates a job from it",
    ),
    (&["force-unlock", "unlock"], "`batchplan state unlock` takes the lock of a state in a bucket"),
    (&["approve"], "`batchplan confirm JOB` confirms a job"),
];

/// Replaces the tip of an error about an unknown option or command, if that is known from another tool. `args` are those
/// of the process, without the program.
pub(super) fn improve(error: &mut clap::Error, program: &clap::Command, args: &[OsString]) {
    if error.kind() == ErrorKind::InvalidSubcommand {
        improve_command(error);
        return;
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return };
    let Some((used, long_options)) = long_options(program, args) else { return };
    let Some(tip) = tip(unknown, args, &used, &long_options) else { return };
    // clap's own tips suggest to pass the option as a value.
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

fn improve_command(error: &mut clap::Error) {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let Some(tip) = look_up(COMMANDS, unknown) else { return };
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

fn look_up(table: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, tip)| *tip)
}

/// Returns the name of the command that the arguments name, and its long options.
fn long_options(program: &clap::Command, args: &[OsString]) -> Option<(String, Vec<String>)> {
    let names = args.iter().filter_map(|arg| arg.to_str());
    let command = names.into_iter().find_map(|name| program.find_subcommand(name))?;
    let options = command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect();
    Some((command.get_name().to_owned(), options))
}

fn tip(unknown: &str, args: &[OsString], command: &str, long_options: &[String]) -> Option<String> {
    let has = |name: &str| long_options.iter().any(|known| known == name);
    // `-auto-approve` is read as `-a` and more letters.
    let single = args.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--").find_map(|arg| {
        let name = arg.strip_prefix('-').filter(|name| !name.starts_with('-') && arg.starts_with(unknown))?;
        let bare = name.split_once('=').map_or(name, |(bare, _)| bare);
        has(bare).then(|| format!("use `--{name}`"))
    });
    if single.is_some() {
        return single;
    }
    if YES_OPTIONS.contains(&unknown) && has("auto-approve") {
        return Some("use `--auto-approve`".to_owned());
    }
    if DRY_RUN_OPTIONS.contains(&unknown) && command != "plan" {
        return Some("`batchplan plan` shows what would change".to_owned());
    }
    if DRY_RUN_OPTIONS.contains(&unknown) {
        return Some("leave it out: `batchplan plan` changes nothing".to_owned());
    }
    look_up(SETTINGS, unknown).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(args: &[&str]) -> String {
        let program = super::super::command();
        let mut all = vec![OsString::from("batchplan")];
        all.extend(args.iter().map(OsString::from));
        let mut error = program.clone().try_get_matches_from(&all).expect_err("an unknown option");
        improve(&mut error, &program, &all[1..]);
        error.render().to_string()
    }

    #[test]
    fn options_of_other_tools_are_answered_with_those_of_this_one() {
        for (args, tip) in [
            (&["apply", "plan.toml", "-auto-approve"][..], "use `--auto-approve`"),
            (&["apply", "-auto-approve", "plan.toml"], "use `--auto-approve`"),
            (&["plan", "plan.toml", "-out=plan.bpl"], "use `--out=plan.bpl`"),
            (&["apply", "plan.toml", "--yes"], "use `--auto-approve`"),
            (&["apply", "plan.toml", "-y"], "use `--auto-approve`"),
            (&["apply", "plan.toml", "--dry-run"], "`batchplan plan` shows what would change"),
            (&["plan", "plan.toml", "--dry-run"], "leave it out: `batchplan plan` changes nothing"),
            (&["apply", "plan.toml", "--parallelism", "9"], "set `concurrency` in the plan's [limits]"),
            (&["apply", "plan.toml", "--profile", "x"], "set AWS_PROFILE, or the profile of your provider's own tools"),
            (&["status"], "`batchplan list` lists jobs, and `batchplan show JOB` shows one"),
            (
                &["destroy", "plan.toml"],
                "`batchplan cancel JOB` ends a job, and `batchplan delete JOB` removes one that has ended",
            ),
        ] {
            let text = rendered(args);
            assert!(text.contains(&format!("\n  tip: {tip}\n")), "{args:?}: {text}");
            assert_eq!(text.matches("tip: ").count(), 1, "{args:?}: {text}");
        }
        let text = rendered(&["apply", "plan.toml", "--auto-aprove"]);
        assert!(text.contains("tip: a similar argument exists: '--auto-approve'"), "{text}");
    }
}
