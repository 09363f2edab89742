//! The table of environment variables in the documentation: what each client does with each variable.

use std::fs;
use std::path::Path;

/// The clients, in the order of the columns.
pub(crate) const CLIENTS: [&str; 7] = ["store", "STS", "SSO", "metadata", "webhooks", "comments", "releases"];

/// The pages about environment variables.
pub(crate) fn pages() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/reference");
    ["environment.md", "proxies.md"].map(|name| fs::read_to_string(folder.join(name)).expect("a page")).concat()
}

/// Each cell of the table: the variable, the client, and what the client does with the variable.
pub(crate) fn cells() -> Vec<(String, &'static str, String)> {
    let pages = pages();
    let mut cells = Vec::new();
    for line in pages.lines().filter(|line| line.starts_with("| `")) {
        let row: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        // Other tables of the pages have fewer columns.
        if row.len() <= 3 {
            continue;
        }
        assert_eq!(row.len(), CLIENTS.len() + 1, "{line}");
        for variable in row[0].split(", ").map(|name| name.trim_matches('`')) {
            cells.extend(
                CLIENTS.iter().zip(&row[1..]).map(|(client, cell)| (variable.to_owned(), *client, (*cell).to_owned())),
            );
        }
    }
    assert!(cells.len() > 10 * CLIENTS.len(), "{pages}");
    cells
}

/// The variables that a client ignores.
pub(crate) fn ignored_by(client: &str) -> Vec<String> {
    let cells = cells().into_iter().filter(|(_, of, does)| *of == client && does == "ignored");
    cells.map(|(variable, ..)| variable).collect()
}
