//! Commands and flags that the text names, outside of blocks, are the program's.

use std::collections::BTreeSet;

use clap::error::ErrorKind;

use crate::page;

/// Flags of other programs.
const FOREIGN: [&str; 1] = ["--no-default-features"];

/// The page that compares batchplan with other programs has their flags, too.
const COMPARISON: &str = "docs/src/coming-from.md";

/// The flags of a command and of those below it.
fn flags(command: &clap::Command, found: &mut BTreeSet<String>) {
    found.extend(command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))));
    command.get_subcommands().for_each(|command| flags(command, found));
}

/// What is wrong with a command that a text names. It may leave arguments out.
fn wrong_command(text: &str) -> Option<String> {
    let words = text.split(" > ").next().unwrap_or_default().split_whitespace();
    let error = batchplan::cli::command().try_get_matches_from(words).err()?;
    let may_be = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::MissingSubcommand,
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ErrorKind::DisplayVersion,
    ];
    (!may_be.contains(&error.kind())).then(|| error.kind().to_string())
}

#[test]
fn commands_and_flags_that_the_text_names_exist() {
    let mut program = batchplan::cli::command();
    program.build();
    let mut known: BTreeSet<_> = FOREIGN.iter().map(|flag| (*flag).to_owned()).collect();
    flags(&program, &mut known);
    let (mut commands, mut problems) = (0, Vec::new());
    for page in page::all() {
        for (text, line) in &page.code {
            if text.starts_with("batchplan ") {
                commands += 1;
                let wrong = wrong_command(text);
                problems.extend(wrong.map(|why| format!("{}:{line}: `{text}`: {why}", page.name)));
            }
            let flag = text.split([' ', '=', '[']).next().unwrap_or_default();
            if flag.starts_with("--") && !known.contains(flag) && page.name != COMPARISON {
                problems.push(format!("{}:{line}: no command has {flag}", page.name));
            }
        }
    }
    assert!(commands > 30, "{commands} commands");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_wrong_command_is_noticed() {
    assert_eq!(wrong_command("batchplan retry JOB --failed-only"), None);
    assert_eq!(wrong_command("batchplan publish"), None);
    assert!(wrong_command("batchplan publish JOB --no-such-flag").is_some());
    assert!(wrong_command("batchplan no-such-command").is_some());
}
