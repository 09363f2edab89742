//! What to write in place of an option that another tool has, such as Terraform's `-auto-approve`.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The options of other tools that ask for no confirmation.
const YES_OPTIONS: [&str; 6] = ["-y", "--yes", "-f", "--force", "--assume-yes", "--no-confirm"];

/// The options of other tools that change nothing.
const DRY_RUN_OPTIONS: [&str; 4] = ["-n", "--dry-run", "--dryrun", "--check"];

/// Replaces the tip of an error about an unknown option, if the option is known from another tool. `args` are those of
/// the process, without the program.
pub(super) fn improve(error: &mut clap::Error, program: &clap::Command, args: &[OsString]) {
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
    None
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
        ] {
            let text = rendered(args);
            assert!(text.contains(&format!("\n  tip: {tip}\n")), "{args:?}: {text}");
            assert_eq!(text.matches("tip: ").count(), 1, "{args:?}: {text}");
        }
        let text = rendered(&["apply", "plan.toml", "--auto-aprove"]);
        assert!(text.contains("tip: a similar argument exists: '--auto-approve'"), "{text}");
    }
}
