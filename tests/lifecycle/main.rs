//! The life of a job as a user meets it: the real binary, interrupted, resumed, failed, retried and queued, against a
//! bucket that the test holds in its hands.

mod baddays;
#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "the crash tests call the server at single requests and read what it kept")]
mod bucket;
mod credentials;
mod damage;
mod descriptors;
mod endpoints;
mod metadata;
mod renewal;
mod resume;
mod retry;
mod run;
mod scene;
mod threshold;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "tests of apply work on the sandbox, which is not needed here")]
mod world;
