//! The reference of commands, from the program's own definition of its arguments.

use std::fmt::Write as _;

use clap::builder::PossibleValue;

use crate::generated::{compare, prose, sentence};

/// The program's own text.
const TEXT: &str = "<!-- test: generated -->\n\n```text\n";

#[test]
fn the_reference_of_commands_is_what_the_program_accepts() {
    let mut program = batchplan::cli::command();
    program.build();
    let mut page = String::new();
    index(&program, "batchplan", &mut page);
    for command in subcommands(&program) {
        section(command, "batchplan", &mut page);
    }
    shared(&program, &mut page);
    compare("docs/src/reference/commands.md", &page);
}

fn subcommands(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set())
}

fn index(program: &clap::Command, name: &str, page: &mut String) {
    page.push_str("\n| command | purpose |\n|---|---|\n");
    for command in subcommands(program) {
        let title = command.get_name();
        let about = prose(&command.get_about().map(ToString::to_string).unwrap_or_default());
        writeln!(page, "| [`{title}`](#{name}-{title}) | {about} |").expect("a string");
    }
}

/// Flags that have a section of their own, since most commands have them.
const SHARED: [&str; 4] = ["rules", "state", "lock_timeout", "slots"];

fn is_shared(argument: &clap::Arg) -> bool {
    SHARED.contains(&argument.get_id().as_str()) && argument.get_short_and_visible_aliases().is_none()
}

fn section(command: &clap::Command, parent: &str, page: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    writeln!(page, "\n## {name}\n").expect("a string");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let about = about.split("\n\nExample: ").next().unwrap_or_default();
    let paragraphs: Vec<_> = about.split("\n\n").map(sentence).collect();
    writeln!(page, "{}\n", paragraphs.join("\n\n")).expect("a string");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    writeln!(page, "{TEXT}{usage}\n```").expect("a string");
    let own: Vec<_> = command
        .get_arguments()
        .filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()) && !argument.is_hide_set())
        .filter(|argument| !argument.is_global_set())
        .collect();
    let shared: Vec<_> = own.iter().filter(|argument| is_shared(argument) && has_default_place(argument)).collect();
    let rows: Vec<_> = own.iter().filter(|argument| !(is_shared(argument) && has_default_place(argument))).collect();
    if !rows.is_empty() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for argument in rows {
        writeln!(page, "| `{}` | {} |", spelling(argument), meaning(argument)).expect("a string");
    }
    if !shared.is_empty() {
        let flags: Vec<_> =
            shared.iter().map(|argument| format!("`--{}`", argument.get_long().expect("a flag"))).collect();
        writeln!(page, "\nAlso [shared flags](#shared-flags): {}.", flags.join(", ")).expect("a string");
    }
    if let Some(after) = command.get_after_help() {
        writeln!(page, "\n{TEXT}{}\n```", after.to_string().trim_end()).expect("a string");
    }
    if command.has_subcommands() {
        index(command, &name.replace(' ', "-"), page);
    }
    for command in subcommands(command) {
        section(command, &name, page);
    }
}

/// Returns whether a shared flag means here what it means elsewhere.
fn has_default_place(argument: &clap::Arg) -> bool {
    !["state", "rules"].contains(&argument.get_id().as_str()) || argument.get_env().is_some()
}

fn shared(program: &clap::Command, page: &mut String) {
    page.push_str("\n## Shared flags\n\n| argument | meaning |\n|---|---|\n");
    let apply = program.find_subcommand("apply").expect("the command");
    for argument in apply.get_arguments().filter(|argument| is_shared(argument)) {
        writeln!(page, "| `{}` | {} |", spelling(argument), meaning(argument)).expect("a string");
    }
    for argument in apply.get_arguments().filter(|argument| argument.is_global_set()) {
        let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
        writeln!(page, "| {short}`{}` | {} |", spelling(argument), meaning(argument)).expect("a string");
    }
    page.push_str("| `-h`, `--help` | Prints the help of a command: `-h` a summary, `--help` everything. |\n");
    page.push_str("| `-V`, `--version` | Prints the version. |\n");
}

fn spelling(argument: &clap::Arg) -> String {
    let value = argument
        .get_value_names()
        .map(|names| names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().concat());
    let takes_value = argument.get_action().takes_values();
    let text = match (argument.get_long(), value.filter(|_| takes_value)) {
        (Some(long), Some(value)) if argument.is_require_equals_set() => format!("--{long}[={value}]"),
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_default(),
    };
    text.replace('|', "\\|")
}

fn meaning(argument: &clap::Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = sentence(&help.replace('|', "\\|"));
    let values = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let shown: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).map(possible).collect();
        write!(text, " One of {}.", shown.join(", ")).expect("a string");
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        write!(text, " Default: `{}`.", defaults.join(", ")).expect("a string");
    }
    if let Some(variable) = argument.get_env() {
        write!(text, " Environment variable: `{}`.", variable.to_string_lossy()).expect("a string");
    }
    text
}

fn possible(value: &PossibleValue) -> String {
    let help = value.get_help().map(|help| format!(" ({})", prose(&help.to_string()))).unwrap_or_default();
    format!("`{}`{help}", value.get_name())
}
