//! Jobs survive `kill -9` at any instant: the real binary against a bucket that the test holds in its hands.

#[path = "../support/bucket.rs"]
mod bucket;
mod bucket_tests;
mod judge;
mod judge_tests;
mod report;
