//! `batchplan plan`: the real binary against the sandbox in both dialects, held to what is there, to what `apply`
//! then does, and to what a gate before the sandbox saw of it.

#[path = "../support/gate.rs"]
#[expect(dead_code, reason = "what happens meanwhile is for other tests")]
mod gate;
mod intervals;
mod model;
mod property;
mod quiet;
mod readout;
mod recommended;
mod scene;
#[path = "../support/sdk_http.rs"]
mod sdk_http;
mod situations;
mod told;
mod truth;
mod verify;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "jobs and their statuses are for other tests")]
mod world;
