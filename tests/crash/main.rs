//! Jobs survive `kill -9` at any instant: the real binary against a bucket that the test holds in its hands.

#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "here faults are drawn from a seed; other tests decide about single requests")]
mod bucket;
mod bucket_tests;
mod elsewhere;
mod judge;
mod judge_tests;
mod process;
mod report;
mod runs;
mod scenario;
