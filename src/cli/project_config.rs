//! `.batchplan/config.toml`: the states of a project by name, so that `--state big` stands for a long URL.

use std::path::Path;

use super::exit::{CommandError, ExitStatus};
use super::plan_input::read_up_to;
use crate::diagnostics::{FileProblem, FileProblems};
use crate::files::access_help;
use crate::paths::show_path;
use crate::plan::StateUrl;
use crate::toml_reader::{DocumentReader, DocumentType, MAX_DOCUMENT_BYTES, NamedTables, TextValue, nearest, table};

/// The name of the file in the folder `.batchplan`.
const FILE_NAME: &str = "config.toml";

const CONFIG_FILE: DocumentType = DocumentType {
    name: "configuration file",
    too_large: "the configuration file is too large",
    too_large_help: "it needs one table for each state",
};

table! {
    /// The configuration file of a project.
    struct ConfigTable {
        /// The states that `--state NAME` stands for.
        optional states: NamedTables<NamedStateTable>,
    }
}

table! {
    /// A state in a bucket.
    struct NamedStateTable {
        /// `s3://BUCKET/PREFIX` or `oss://BUCKET/PREFIX`, as in a plan's [state].
        required url: TextValue<1, 4096>,
    }
}

/// The states of a project, by their names.
#[derive(Debug, Default)]
pub(super) struct NamedStates(Vec<(String, StateUrl)>);

impl NamedStates {
    /// Reads the file in a state folder. Without a file, there are no names.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or has problems; the message lists them.
    pub(super) fn load(folder: &Path) -> Result<Self, CommandError> {
        let path = folder.join(FILE_NAME);
        let name = show_path(&path).to_string();
        let bytes = match read_up_to(&path, MAX_DOCUMENT_BYTES as u64) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(CommandError::new(ExitStatus::ToolFailed, format!("cannot read {name}: {error}"))
                    .maybe_help(access_help(&error)));
            }
            Ok(bytes) => bytes,
        };
        Self::parse(&name, &bytes).map_err(|problems| {
            let listed: Vec<_> = problems.iter().filter(|problem| !problem.is_warning()).collect();
            let lines: Vec<_> = listed.iter().map(|problem| describe(problem, &problems)).collect();
            let help = listed.iter().find_map(|problem| problem.hint()).map(str::to_owned);
            CommandError::new(ExitStatus::Invalid, lines.join("\n")).maybe_help(help)
        })
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<Self, FileProblems> {
        let text = CONFIG_FILE.decode(name, bytes)?;
        let (states, problems) =
            CONFIG_FILE.read(name, text, |file: &ConfigTable, reader: &mut DocumentReader| Some(read(file, reader)));
        states.ok_or(problems)
    }

    /// Returns the URL of the state with this name.
    pub(super) fn get(&self, name: &str) -> Option<&StateUrl> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, url)| url)
    }

    /// Returns whether there are no names.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the name that is most like a text, or all names.
    pub(super) fn suggestion(&self, text: &str) -> String {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the names are {}", names.join(", ")),
        }
    }
}

fn describe(problem: &FileProblem, problems: &FileProblems) -> String {
    let label = problem.label_spans().first();
    let place = label.map_or_else(String::new, |(span, _)| {
        let (line, column) = problems.position(span.start);
        format!(":{line}:{column}")
    });
    let what = label.map_or_else(String::new, |(_, text)| format!(": {text}"));
    format!("{}{place}: {}{what}", problems.file_name(), problem.title())
}

fn read(file: &ConfigTable, reader: &mut DocumentReader) -> NamedStates {
    let mut states = NamedStates::default();
    for (name, table) in file.states.value().into_iter().flatten() {
        let Some(url) = table.value.url.present() else { continue };
        match StateUrl::parse(&url.value) {
            Ok(state) => states.0.push((name.value.clone(), state)),
            Err(refused) => {
                if url.value.contains('@') {
                    reader.hide(url.span.clone());
                }
                let problem = FileProblem::new("invalid state URL").label(url.span.clone(), refused.message);
                reader.push(problem.help(refused.help));
            }
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_urls() {
        let text =
            "[states.big]\nurl = \"s3://big/state\"\n[states.small-1]\nurl = \"oss://small?region=cn-beijing\"\n";
        let states = NamedStates::parse("config.toml", text.as_bytes()).expect("valid");
        assert_eq!(states.get("big"), Some(&StateUrl::parse("s3://big/state").expect("a URL")));
        assert!(states.get("small-1").is_some() && states.get("small").is_none() && !states.is_empty());
        assert_eq!(states.suggestion("bgi"), "did you mean `big`?");
        assert_eq!(states.suggestion("elsewhere"), "the names are big, small-1");
        assert!(NamedStates::parse("config.toml", b"").expect("valid").is_empty());
    }

    #[test]
    fn mistakes_are_reported_with_their_places_and_without_secrets() {
        for (text, place, says) in [
            ("[states.big]\nurl = \"https://big\"\n", ":2:7: invalid state URL", "its scheme is"),
            ("[states.big]\nurl = \"s3://user:hush@big/x\"\n", ":2:7: invalid state URL", "password"),
            ("[states.\"a b\"]\nurl = \"s3://big\"\n", ":1:9: `a b` is not a valid name", ""),
            ("[states.big]\nulr = \"s3://big\"\n", ":2:1: unknown key `ulr`", ""),
            ("[states.big\n", ":1:", "invalid TOML"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join(FILE_NAME), text).expect("written");
            let error = NamedStates::load(folder.path()).expect_err("a mistake");
            assert!(error.message.contains(place) && error.message.contains(says), "{text}: {}", error.message);
            assert!(!error.message.contains("hush"), "{}", error.message);
        }
        let none = tempfile::tempdir().expect("a folder");
        assert!(NamedStates::load(none.path()).expect("no file").is_empty());
    }
}
