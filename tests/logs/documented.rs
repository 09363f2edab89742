//! The table of events in the documentation names exactly the events of the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Adds the events in a piece of code: level, target, message.
fn events_in(code: TokenStream, target: &str, found: &mut BTreeSet<String>) {
    let tokens: Vec<_> = code.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        events_in(group.stream(), target, found);
        let before = at.checked_sub(2).map(|at| (&tokens[at], &tokens[at + 1]));
        let Some((TokenTree::Ident(name), TokenTree::Punct(bang))) = before else { continue };
        let level = name.to_string();
        if bang.as_char() != '!' || group.delimiter() != Delimiter::Parenthesis || !LEVELS.contains(&level.as_str()) {
            continue;
        }
        let message = group.stream().into_iter().filter_map(|token| match token {
            TokenTree::Literal(text) => text.to_string().strip_prefix('"')?.strip_suffix('"').map(str::to_owned),
            _ => None,
        });
        let message = message.last().unwrap_or_else(|| panic!("an event of {target} has no message: {group}"));
        found.insert(format!("{level} {target} {message}"));
    }
}

/// Adds the events of a folder's files. `target` is the path of its module.
fn events_of(folder: &Path, target: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_stem().expect("a name").to_string_lossy().into_owned();
        if entry.is_dir() {
            events_of(&entry, &format!("{target}::{name}"), found);
        } else if entry.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&entry).expect("text");
            let code: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", entry.display()));
            let is_root = ["mod", "lib", "main"].contains(&name.as_str());
            events_in(code, &if is_root { target.to_owned() } else { format!("{target}::{name}") }, found);
        }
    }
}

#[test]
fn every_event_is_in_the_table_with_its_level_and_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for (folder, target) in [
        ("src", "batchplan"),
        ("crates/store/src", "batchplan_store"),
        ("crates/columnar/src", "batchplan_columnar"),
        ("crates/sandbox/src", "batchplan_sandbox"),
    ] {
        events_of(&root.join(folder), target, &mut found);
    }
    let docs = fs::read_to_string(root.join("docs/src/logs.md")).expect("the documentation");
    let (_, table) = docs.split_once("| level | target | message |\n|---|---|---|\n").expect("the table");
    let rows: Vec<_> = table
        .lines()
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.replace(" | ", " ").replace('`', ""))
        .collect();
    let documented: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), documented.len(), "a row is there twice");
    assert_eq!(documented, found);
    assert!(found.len() > 40, "{found:?}");
}
