//! The real binary, run as a user would: on a sandbox of each test's own, with a cleared environment.

mod completions;
mod edges;
mod endings;
mod events;
#[path = "../support/folders.rs"]
mod folders;
mod formats;
#[path = "../support/inventory.rs"]
mod inventory;
mod json;
mod oss;
mod pipes;
mod replaced;
mod reports;
mod rules;
mod runs;
mod saved;
#[path = "../support/sdk_http.rs"]
mod sdk_http;
mod shared;
mod strangers;
mod terminal;
mod world;
