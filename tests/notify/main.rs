//! Webhooks as a receiver meets them: the real binary, a bucket that the test holds in its hands, and a receiver that
//! answers as it is told to.

mod bad_receivers;
#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "the crash tests call the server at single requests and read what it kept")]
mod bucket;
mod encrypted;
mod events;
mod receiver;
#[path = "../lifecycle/scene.rs"]
#[expect(dead_code, reason = "the lifecycle tests look closer at what becomes of objects")]
mod scene;
mod silence;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "tests of apply work on the sandbox, which is not needed here")]
mod world;
