//! Checks a parsed plan: the rules between keys, and the rules of each provider.
//!
//! `plan` checks a whole plan with its settings; `store`, `manifest` and `operation` check the tables of these names,
//! `bucket` names of buckets. `context` is what all of them share.

mod bucket;
mod context;
mod manifest;
mod operation;
mod plan;
mod store;

pub(super) use plan::check;
