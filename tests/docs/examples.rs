//! The page of examples lists every plan in `plans/`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::generated::{compare, sentence};
use crate::page::root;

#[test]
fn every_example_is_listed_with_its_text() {
    let mut names: Vec<_> = fs::read_dir(root().join("plans"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "toml"))
        .collect();
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    let (mut index, mut sections) = (String::new(), String::new());
    for name in &names {
        let text = fs::read_to_string(root().join("plans").join(name)).expect("a plan");
        let first: Vec<_> = text.lines().take_while(|line| line.starts_with("# ")).map(|line| &line[2..]).collect();
        let about = first.join(" ");
        let about = about.split_inclusive(". ").next().unwrap_or_default().trim();
        assert!(!about.is_empty(), "plans/{name} begins with a comment that says what it does");
        writeln!(index, "| [`{name}`](#{}) | {} |", name.replace('.', ""), sentence(about)).expect("a string");
        writeln!(
            sections,
            "\n## {name}\n\n<!-- test: not run (tests/validate.rs checks it in its folder) -->\n\n```toml\n{}\n```",
            text.trim_end()
        )
        .expect("a string");
    }
    let page = format!("| plan | what it does |\n|---|---|\n{index}{sections}");
    compare("docs/src/examples.md", &page);
}
