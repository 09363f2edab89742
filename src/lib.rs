//! batchplan applies declared operations to every object of a manifest, on any object store, and proves what it did.
//!
//! # The map of the house
//!
//! | layer | room | what is in it |
//! |---|---|---|
//! | 0 | [`object`] | bucket, key, version, tags, ACL, what is known of an object |
//! | 0 | [`backoff`] | how long to wait before asking again |
//! | 0 | [`call`] | the requests that reach one object, and their answers |
//! | 0 | [`task`] | one object's way through a job: place, outcome, fault |
//! | 0 | [`job`] | a job's id, status and counts |
//! | 0 | [`frontier`] | which rows of a manifest are settled |
//! | 0 | [`failpoint`] | where tests have the process killed |
//! | 0 | [`completion`] | what a completion report is |
//! | 0 | [`files`] | small files that must be whole |
//! | 0 | [`hex`] | bytes as hexadecimal |
//! | 0 | [`money`] | amounts of money, exact |
//! | 0 | [`descriptors`] | how many files and sockets may be open |
//! | 0 | [`diagnostics`] | mistakes in the user's files |
//! | 0 | [`timeouts`] | how long a server may keep us waiting, and saying so meanwhile |
//! | 0 | [`variants`] | enums that know all of their variants |
//! | 0 | [`web`] | web requests that are no store's |
//! | 1 | [`store`] | the only door to object storage |
//! | 1 | [`codec`] | the wire form of completion reports |
//! | 2 | [`manifest`] | which objects |
//! | 2 | [`operation`] | what is done to one |
//! | 3 | [`plan`] | the promise the user wrote |
//! | 3 | [`journal`] | what is known to have happened |
//! | 3 | [`report`] | what the user is told: written, sealed, published |
//! | 4 | [`diff`] | object by object, and plan against plan |
//! | 4 | [`engine`] | making it happen |
//! | 4 | [`estimate`] | counts, requests, money, hours |
//! | 4 | [`remote`] | jobs kept in a bucket, for whichever machine comes next |
//! | 4 | [`notify`] | telling others what becomes of a job |
//! | 5 | [`jobs`] | a job's life, from its plan to its end |
//! | 6 | [`cli`] | one file per command |
//!
//! Imports point down only; rooms of one layer above 0 do not know each other.

pub mod backoff;
pub mod call;
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
pub mod operation;
pub mod plan;
pub mod remote;
pub mod report;
pub mod store;
pub mod task;
pub mod timeouts;
pub mod variants;
pub mod web;
