//! batchplan applies declared operations to every object of a manifest, on any object store, and reports every outcome.
//!
//! # Modules
//!
//! | layer | module | contents |
//! |---|---|---|
//! | 0 | [`job`] | the ID, status, and progress of a job |
//! | 0 | [`frontier`] | which rows of a manifest are settled |
//! | 0 | [`failpoint`] | places at which tests kill the process |
//! | 0 | [`files`] | crash-safe small files and file locks |
//! | 0 | [`money`] | exact amounts of money |
//! | 0 | [`thousands`] | numbers with thousands separators |
//! | 0 | [`open_files`] | limits on open files and sockets |
//! | 0 | [`paths`] | paths as text, also those that are not UTF-8 |
//! | 0 | [`percent_decode`] | percent-encoded keys in manifests, inventories and reports |
//! | 0 | [`hint`] | what the user can do about a problem, with commands |
//! | 0 | [`diagnostics`] | problems in the user's files |
//! | 0 | [`varint`] | integers of variable length in binary files |
//! | 0 | [`connect`] | the store of a plan, or the sandbox in its place |
//! | 1 | [`captures`] | what each object was like before a job changed it |
//! | 1 | [`report_format`] | the formats of completion reports: settings, rows, and `manifest.json` |
//! | 1 | [`toml_reader`] | reading TOML files that users write, with all problems at once |
//! | 2 | [`manifest`] | the objects of a job |
//! | 2 | [`operation`] | what a job does to an object |
//! | 3 | [`provider`] | the rules of each provider, one file each |
//! | 3 | [`journal`] | the durable record of all jobs |
//! | 3 | [`report`] | writing and publishing completion reports |
//! | 4 | [`plan`] | plan files: parsing and validation |
//! | 5 | [`plan_rules`] | the rules that an organization sets for plans |
//! | 5 | [`diff`] | predicted changes, and differences between plans |
//! | 5 | [`engine`] | running a job |
//! | 5 | [`estimate`] | request counts, cost, and duration |
//! | 5 | [`remote`] | jobs stored in a bucket, for use from any machine |
//! | 5 | [`notify`] | webhook notifications |
//! | 6 | [`jobs`] | the life cycle of a job, from plan to end |
//! | 7 | [`cli`] | the commands, one file each |
//!
//! Three crates stand beside the program: `batchplan-store` talks to object storage, `batchplan-columnar` reads Parquet
//! and ORC files, `batchplan-sandbox` is a server to try plans out on. None of them knows the program or each other.
//!
//! A module imports only modules of lower layers. Modules of the same layer do not know each other, except in layer 0.

pub mod captures;
pub mod cli;
pub mod connect;
pub mod diagnostics;
pub mod diff;
pub mod engine;
pub mod estimate;
pub mod failpoint;
pub mod files;
pub mod frontier;
pub mod hint;
pub mod job;
pub mod jobs;
pub mod journal;
pub mod manifest;
pub mod money;
pub mod notify;
pub mod open_files;
pub mod operation;
pub mod paths;
pub mod percent_decode;
pub mod plan;
pub mod plan_rules;
pub mod provider;
pub mod remote;
pub mod report;
pub mod report_format;
pub mod thousands;
pub mod toml_reader;
pub mod varint;
