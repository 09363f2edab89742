//! batchplan applies declared operations to every object of a manifest, on any object store, and reports every outcome.
//!
//! # Modules
//!
//! | layer | module | contents |
//! |---|---|---|
//! | 0 | [`object`] | buckets, keys, versions, tags, ACLs, and the state of an object |
//! | 0 | [`backoff`] | the delay before a retry |
//! | 0 | [`object_request`] | requests for one object, and their responses |
//! | 0 | [`task`] | one row of a job: its position in the manifest, outcome, and failure |
//! | 0 | [`job`] | the ID, status, and progress of a job |
//! | 0 | [`frontier`] | which rows of a manifest are settled |
//! | 0 | [`failpoint`] | places at which tests kill the process |
//! | 0 | [`completion`] | the settings of a completion report |
//! | 0 | [`files`] | crash-safe small files and file locks |
//! | 0 | [`hex`] | hexadecimal encoding |
//! | 0 | [`money`] | exact amounts of money |
//! | 0 | [`descriptors`] | limits on open files and sockets |
//! | 0 | [`diagnostics`] | problems in the user's files |
//! | 0 | [`timeouts`] | time limits for servers, and messages while waiting |
//! | 0 | [`variants`] | enums that list all their variants |
//! | 0 | [`web`] | HTTP requests to servers other than stores |
//! | 1 | [`store`] | access to object storage |
//! | 1 | [`codec`] | the file format of completion reports |
//! | 2 | [`manifest`] | the objects of a job |
//! | 2 | [`operation`] | what a job does to an object |
//! | 3 | [`plan`] | plan files: parsing and validation |
//! | 3 | [`journal`] | the durable record of all jobs |
//! | 3 | [`report`] | writing and publishing completion reports |
//! | 4 | [`diff`] | predicted changes, and differences between plans |
//! | 4 | [`engine`] | running a job |
//! | 4 | [`estimate`] | request counts, cost, and duration |
//! | 4 | [`remote`] | jobs stored in a bucket, for use from any machine |
//! | 4 | [`notify`] | webhook notifications |
//! | 5 | [`jobs`] | the life cycle of a job, from plan to end |
//! | 6 | [`cli`] | the commands, one file each |
//!
//! A module imports only modules of lower layers. Modules of the same layer do not know each other, except in layer 0.

pub mod backoff;
pub mod cli;
pub mod codec;
pub mod completion;
pub mod descriptors;
pub mod diagnostics;
pub mod diff;
pub mod engine;
pub mod estimate;
pub mod failpoint;
pub mod files;
pub mod frontier;
pub mod hex;
pub mod job;
pub mod jobs;
pub mod journal;
pub mod manifest;
pub mod money;
pub mod notify;
pub mod object;
pub mod object_request;
pub mod operation;
pub mod plan;
pub mod remote;
pub mod report;
pub mod store;
pub mod task;
pub mod timeouts;
pub mod variants;
pub mod web;
