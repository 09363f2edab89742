//! README's picture of the quick start is what a real run of it prints.

use std::fmt::Write as _;
use std::fs;

use crate::page::{Page, root};
use crate::run::PageRun;
use crate::varying::{JobIds, normalise};

/// The run, as a page of its own.
const RUN: &str = "<!-- test: repository -->\n<!-- test: keys yes -->\n\n\
                   ```console\n$ batchplan apply plans/quickstart.toml\n```\n";

const PICTURE: &str = "docs/src/images/quickstart.svg";

/// The picture's columns; longer lines are cut.
const COLUMNS: usize = 96;

/// How the line with the estimated duration begins.
const DURATION: &str = "  time     at the plan's rate: ";

/// What the terminal shows: the command and its output.
fn screen() -> String {
    let page = Page::parse("picture.md".to_owned(), RUN.to_owned());
    let (_, text) = PageRun::run(&page);
    let text = Page::parse("picture.md".to_owned(), text).blocks.remove(0).text;
    // Where the estimated duration wraps depends on the latency that was measured.
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if last.starts_with(DURATION) && line.starts_with("           ") => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The class of a line, which selects its colour.
fn class(line: &str) -> &'static str {
    match line.trim_start().chars().next() {
        Some('$') => "command",
        Some('+') => "added",
        Some('~') => "changed",
        Some('-') => "removed",
        _ if line.contains(" changed, ") => "added",
        _ => "plain",
    }
}

/// Draws the screen as a terminal, which looks the same on light and dark pages.
fn draw(screen: &str) -> String {
    const LINE: usize = 19;
    let lines: Vec<_> = screen.lines().collect();
    let (width, height) = (COLUMNS * 8 + 40, lines.len() * LINE + 70);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>batchplan apply plans/quickstart.toml</title>\n\
         <style>\n\
         text {{ font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre; fill: #d4d8e0; }}\n\
         .command {{ fill: #ffffff; font-weight: bold; }} .added {{ fill: #7ee08a; }} .changed {{ fill: #f0c674; }} \
         .removed {{ fill: #f28b82; }}\n\
         </style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1b1f27\" stroke=\"#4a5263\"/>\n\
         <circle cx=\"22\" cy=\"20\" r=\"6\" fill=\"#f28b82\"/><circle cx=\"42\" cy=\"20\" r=\"6\" fill=\"#f0c674\"/>\
         <circle cx=\"62\" cy=\"20\" r=\"6\" fill=\"#7ee08a\"/>\n"
    );
    for (index, line) in lines.iter().enumerate() {
        let cut: String = line.chars().take(COLUMNS - 1).collect();
        let cut = if cut.len() < line.len() { cut + "…" } else { cut };
        let (class, y) = (class(line), 56 + index * LINE);
        writeln!(svg, "<text x=\"20\" y=\"{y}\" class=\"{class}\" xml:space=\"preserve\">{}</text>", escape(&cut))
            .expect("a string");
    }
    svg + "</svg>\n"
}

#[test]
fn the_picture_of_the_quick_start_is_a_real_run() {
    let screen = screen();
    assert!(screen.contains("96 changed, 0 failed"), "{screen}");
    let picture = draw(&screen);
    let path = root().join(PICTURE);
    let shown = fs::read_to_string(&path).unwrap_or_default();
    let same = |text: &str| {
        let mut jobs = JobIds::default();
        jobs.learn(text);
        let lasting: String = text.split_inclusive('\n').filter(|line| !line.contains(DURATION)).collect();
        normalise(&lasting, &jobs)
    };
    if std::env::var_os("UPDATE_EXPECTED").is_some() && same(&shown) != same(&picture) {
        fs::write(&path, picture).expect("written");
    } else {
        assert_eq!(same(&shown), same(&picture), "run this test with UPDATE_EXPECTED=1");
    }
}
