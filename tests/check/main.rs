//! `batchplan check`: the real binary against the sandbox in both dialects, through a gate that sees every request
//! and turns some away.

#[path = "../support/gate.rs"]
#[expect(dead_code, reason = "sandboxes that are filled otherwise are for other tests")]
mod gate;
mod looks;
mod probes;
mod scene;
