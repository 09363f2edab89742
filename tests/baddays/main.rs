//! Servers that misbehave, against every store that goes through the lean client: nothing hangs, nothing grows,
//! nothing is sent where it should not go, and each failure says what it is.

mod answers;
mod binary;
#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "other tests inject faults and look at single requests")]
mod bucket;
mod connections;
mod elsewhere;
mod folders;
mod gateway;
mod reports;
mod server;
mod slow;
mod stores;
mod trust;
mod unlistable;
