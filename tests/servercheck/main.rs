//! Servers that take a request about an object's tags, ACL or restore for one about the object itself: whatever the
//! command, no byte of any object changes beyond the one that shows it.

#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "other tests inject faults and look at single requests")]
mod bucket;
mod good;
mod odd;
mod once;
#[path = "../lifecycle/scene.rs"]
#[expect(dead_code, reason = "the life of a job is tested elsewhere")]
mod scene;
mod stage;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "tests of apply work on the sandbox, which is not needed here")]
mod world;
