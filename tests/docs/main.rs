//! The documentation keeps its word: every command of README and of the book in `docs/` is run and prints what the page
//! shows, every plan is valid, every link leads somewhere, and the references are what the program says of itself.
//!
//! With `UPDATE_EXPECTED` in the environment, the pages are rewritten with what the commands print.

mod commands;
mod error_codes;
mod examples;
#[path = "../support/folders.rs"]
mod folders;
mod generated;
mod inline;
mod links;
mod page;
mod picture;
mod plan_keys;
mod run;
mod varying;

use std::fs;
use std::sync::Mutex;
use std::thread;

use page::{Page, root};
use run::PageRun;

/// How many pages are run at once: most of their time is spent in processes that wait.
const WORKERS: usize = 3;

#[test]
fn every_block_is_run_and_prints_what_the_page_shows() {
    let mut pages = page::all();
    if let Ok(only) = std::env::var("BATCHPLAN_DOCS_PAGE") {
        pages.retain(|page| page.name.contains(&only));
    }
    let queue = Mutex::new(pages.iter());
    let problems = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(page) = queue.lock().expect("the queue").next() else { break };
                    let found = check(page);
                    problems.lock().expect("the problems").extend(found);
                }
            });
        }
    });
    let problems = problems.into_inner().expect("the problems");
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

fn check(page: &Page) -> Vec<String> {
    let (problems, text) = PageRun::run(page);
    if std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| !value.is_empty()) && text != page.text {
        fs::write(root().join(&page.name), text).expect("written");
    }
    problems
}
