//! The reference of error codes, and the messages that the page about problems quotes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use batchplan::jobs::codes_with_hints;

use crate::generated::{compare, prose, sentence};
use crate::page::{Page, root};

#[test]
fn the_reference_of_error_codes_has_the_advice_of_the_program() {
    let mut advice: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for (codes, hint) in codes_with_hints() {
        if !advice.contains_key(hint) {
            order.push(hint);
        }
        advice.entry(hint).or_default().extend(codes);
    }
    let mut page = "| error code | what to do |\n|---|---|\n".to_owned();
    for hint in order {
        let codes: Vec<_> = advice[hint].iter().map(|code| format!("`{code}`")).collect();
        let mut text = prose(hint);
        if let Some(first) = text.get(..1) {
            text = first.to_uppercase() + &text[1..];
        }
        writeln!(page, "| {} | {text}. |", codes.join(", ")).expect("a string");
    }
    compare("docs/src/reference/error-codes.md", &page);
}

/// The text of all files of the program.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, text);
        } else if entry.extension().is_some_and(|kind| kind == "rs") {
            text.push_str(&fs::read_to_string(&entry).expect("text"));
        }
    }
}

#[test]
fn the_messages_that_troubleshooting_quotes_are_the_programs() {
    let mut text = String::new();
    for folder in ["src", "crates/store/src"] {
        sources(&root().join(folder), &mut text);
    }
    // A string literal may continue on the next line.
    let text: String = text.split("\\\n").map(str::trim_start).collect();
    let page = Page::read(&root().join("docs/src/troubleshooting.md"));
    let (_, part) = page.text.split_once("\n## By message\n").expect("the part");
    let part = part.split("\n## ").next().unwrap_or_default();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 15, "{rows:?}");
    for message in rows {
        // What varies is `...` in the page.
        for words in message.split("...").map(str::trim).filter(|words| !words.is_empty()) {
            assert!(text.contains(words), "the program does not say {words:?}");
        }
    }
}

#[test]
fn the_reference_of_json_lists_the_codes_of_errors() {
    let mut page = String::from("\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in batchplan::cli::error_codes() {
        writeln!(page, "| `{code}` | {} |", sentence(meaning.trim())).expect("a string");
    }
    compare("docs/src/reference/json.md", &page);
}
