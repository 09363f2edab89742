//! Jobs kept in a bucket: the real binary on several machines, which are folders here, with the state in a sandbox of
//! the test's and the work in a bucket that it holds in its hands.

mod broken;
#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "the crash tests call the server at single requests")]
mod bucket;
mod commands;
mod handover;
mod latency;
mod locks;
mod named;
mod place;
mod races;
