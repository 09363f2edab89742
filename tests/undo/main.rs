//! `batchplan undo` and `batchplan captured`: the real binary against the sandbox in both dialects, killed at any
//! instant, in buckets with and without versions.

mod crash;
#[path = "../support/gate.rs"]
#[expect(dead_code, reason = "what is refused and what happens meanwhile is for other tests")]
mod gate;
mod objects;
#[path = "../plan/scene.rs"]
#[expect(dead_code, reason = "plans of inventories are for other tests")]
mod scene;
#[path = "../support/sdk_http.rs"]
mod sdk_http;
mod situations;
mod versions;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "jobs and their statuses are for other tests")]
mod world;
