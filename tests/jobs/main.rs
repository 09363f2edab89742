//! The commands about jobs: the real binary on real jobs, alone and beside a process that works on them.

mod beside;
#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "what it counts and how it fails is for other tests")]
mod bucket;
mod fixture;
mod listing;
mod orders;
mod showing;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "what became of the objects is for other tests")]
mod world;
