//! The commands in groups by what one wants, as `batchplan --help` lists them, and the page of the documentation that is
//! about each.

use std::fmt::Write as _;

use clap::builder::StyledStr;

use super::wrap::wrap_words;

/// The width that help texts are made for.
const WIDTH: usize = 80;

/// The commands with their pages of the documentation.
const GROUPS: &[(&str, &[(&str, &str)])] = &[
    (
        "Plan",
        &[
            ("init", "tutorial.md"),
            ("validate", "reference/plan-file.md"),
            ("plan", "previews.md"),
            ("check", "reference/permissions.md"),
            ("policy", "reference/permissions.md"),
            ("sandbox", "howto/test-in-the-sandbox.md"),
        ],
    ),
    (
        "Run",
        &[
            ("apply", "tutorial.md"),
            ("create", "jobs.md"),
            ("confirm", "jobs.md"),
            ("run", "jobs.md"),
            ("pause", "jobs.md"),
            ("resume", "crash-recovery.md"),
            ("retry", "howto/retry-what-failed.md"),
            ("undo", "howto/undo.md"),
            ("cancel", "jobs.md"),
            ("priority", "jobs.md"),
        ],
    ),
    (
        "Watch",
        &[
            ("list", "jobs.md"),
            ("show", "jobs.md"),
            ("verify", "howto/verify.md"),
            ("captured", "howto/undo.md"),
            ("publish", "reference/reports.md"),
            ("delete", "jobs.md"),
            ("state", "reference/state.md"),
        ],
    ),
    (
        "CI",
        &[
            ("schedule", "recurring.md"),
            ("export", "howto/managed-services.md"),
            ("import", "howto/managed-services.md"),
        ],
    ),
    (
        "More",
        &[
            ("schema", "reference/plan-file.md"),
            ("completions", "install.md"),
            ("man", "install.md"),
            ("version", "install.md"),
            ("help", "reference/commands.md"),
        ],
    ),
];

/// Groups the commands in the help of the program, and adds its page to the help of each command.
pub(super) fn arrange(program: clap::Command) -> clap::Command {
    let header = *program.get_styles().get_header();
    let mut template = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (title, commands) in GROUPS {
        let _ = write!(template, "\n{header}{title}:{header:#}\n");
        for (name, _) in *commands {
            let about = program.find_subcommand(name).and_then(|command| command.get_about());
            let about = about.map_or_else(|| "Print the help of a command".to_owned(), ToString::to_string);
            template.push_str(&entry(name, &about));
        }
    }
    let _ = write!(template, "\n{header}Options:{header:#}\n{{options}}{{after-help}}");
    let pages = GROUPS.iter().flat_map(|(_, commands)| *commands);
    let with_pages = pages.fold(program, |program, (name, page)| match program.find_subcommand(name) {
        Some(_) => program.mut_subcommand(name, |command| with_page(command, page)),
        None => program,
    });
    with_pages.help_template(StyledStr::from(template))
}

/// Returns the lines of one command.
fn entry(name: &str, about: &str) -> String {
    const INDENT: usize = 15;
    format!("  {name:<width$}{}\n", wrap_words(about, WIDTH - INDENT, INDENT), width = INDENT - 2)
}

fn with_page(command: clap::Command, page: &str) -> clap::Command {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_help(format!("{}\n\nDocumentation: docs/src/{page}", help.trim_end()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_has_an_example_and_a_page() {
        let program = super::super::command();
        let listed: Vec<_> = GROUPS.iter().flat_map(|(_, commands)| commands.iter().map(|(name, _)| *name)).collect();
        let all: BTreeSet<_> = program
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(clap::Command::get_name)
            .chain(["help"])
            .collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(listed.len(), all.len(), "one is listed twice");
        for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
            let page = help.lines().find_map(|line| line.strip_prefix("Documentation: ")).expect("a page");
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            assert!(root.join(page).is_file(), "{}: {page}", command.get_name());
        }
    }

    #[test]
    fn the_help_of_the_program_fits_eighty_columns() {
        let mut program = super::super::command().term_width(WIDTH);
        let help = program.render_help().to_string();
        for group in ["Plan:", "Run:", "Watch:", "CI:", "More:", "Options:"] {
            assert!(help.contains(&format!("\n{group}\n")), "{group}: {help}");
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
