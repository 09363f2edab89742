//! `batchplan check`: the real binary against the sandbox in both dialects, through a gate that sees every request and turns
//! some away.

mod gate;
mod looks;
mod probes;
mod scene;
