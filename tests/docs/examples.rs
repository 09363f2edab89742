//! The page of examples lists every plan, workflow and request in `plans/`.

use std::fmt::Write as _;
use std::fs;

use crate::generated::{compare, prose, sentence};
use crate::page::root;

/// The files of a folder of the repository with this extension, in alphabetical order.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|kind| kind == extension));
    let mut names: Vec<_> =
        files.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(!names.is_empty(), "{folder}");
    names
}

/// The first paragraph of the comment at a file's beginning.
fn about(path: &str) -> String {
    let text = fs::read_to_string(root().join(path)).expect("a file");
    let lines: Vec<_> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
    assert!(!lines.is_empty(), "{path} begins with a comment that says what it does");
    lines.join(" ")
}

#[test]
fn every_example_is_listed_with_its_text() {
    let (mut index, mut sections) = (String::new(), String::new());
    for name in files("plans", "toml") {
        let path = format!("plans/{name}");
        writeln!(index, "| [`{name}`](#{}) | {} |", name.replace('.', ""), sentence(&about(&path))).expect("a string");
        let text = fs::read_to_string(root().join(path)).expect("a plan");
        writeln!(
            sections,
            "\n## {name}\n\n<!-- test: not run (tests/validate.rs checks it in its folder) -->\n\n```toml\n{}\n```",
            text.trim_end()
        )
        .expect("a string");
    }
    for name in files("plans/workflows", "yml") {
        let path = format!("plans/workflows/{name}");
        writeln!(index, "| `workflows/{name}` | {} |", prose(&about(&path))).expect("a string");
    }
    for name in files("plans/requests", "xml") {
        writeln!(index, "| `requests/{name}` | A job of OSS Batch Operations to import. |").expect("a string");
    }
    let page = format!("| file | what it does |\n|---|---|\n{index}{sections}");
    compare("docs/src/examples.md", &page);
}
