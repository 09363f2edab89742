//! What is fuzzed: a name, a corpus, and what is done with an input. What is refused is as good as what is taken.

mod answers;
mod folders;
mod remote;
mod shelf;
mod sources;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

/// One format.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Inputs in a short run: a second or so.
    pub(crate) short: u64,
    /// Inputs that are right, or nearly.
    pub(crate) corpus: fn() -> Vec<Vec<u8>>,
    /// Panics where an input brings about what none may.
    pub(crate) run: fn(&[u8]),
}

/// Every format that comes from outside.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "plan", short: 1000, corpus: texts::plans, run: texts::plan },
    Target { name: "prices", short: 500, corpus: texts::price_books, run: texts::prices },
    Target { name: "saved_plan", short: 500, corpus: texts::saved_plans, run: texts::saved_plan },
    Target { name: "import", short: 1000, corpus: texts::requests, run: texts::import },
    Target { name: "csv", short: 100, corpus: sources::csvs, run: sources::csv },
    Target { name: "inventory_manifest", short: 100, corpus: sources::manifests, run: sources::inventory_manifest },
    Target { name: "inventory_csv", short: 100, corpus: sources::csv_data, run: sources::inventory_csv },
    Target { name: "inventory_parquet", short: 100, corpus: sources::parquet_data, run: sources::inventory_parquet },
    Target { name: "inventory_orc", short: 100, corpus: sources::orc_data, run: sources::inventory_orc },
    Target { name: "report", short: 200, corpus: sources::reports, run: sources::report },
    Target { name: "journal", short: 100, corpus: folders::files, run: folders::journal },
    Target { name: "remote_state", short: 20, corpus: remote::objects, run: remote::remote_state },
    Target { name: "answers", short: 200, corpus: answers::documents, run: answers::answers },
];

/// A place in the repository, whichever crate of it this is compiled into.
fn repository(path: &str) -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.find(|folder| folder.join("tests/fuzz").exists()).expect("the repository").join(path)
}

/// A folder for one input, in memory where that is to be had: what is frozen is synced to its disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

/// The files below a folder of the repository that end so, in a fixed order.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![repository(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.into_iter().map(|path| fs::read(path).expect("a file")).collect()
}

/// An input that begins with a number: what it is about, and the rest.
fn choice(input: &[u8], of: usize) -> (usize, &[u8]) {
    match input.split_first() {
        Some((first, rest)) => (usize::from(*first) % of, rest),
        None => (0, input),
    }
}
