//! What every attempt of every worker passes before it is sent: the plan's caps, and what each bucket bears.
//!
//! For each bucket a [`Governor`](governor::Governor) finds out by itself how much may be sent. A store that refuses
//! nothing costs two uncontended locks for each request, and its bucket is open to the plan's concurrency after some round
//! trips.

mod governor;
mod latency;
mod rate;
#[cfg(test)]
mod simulation;
mod window;

mod gate;

pub use gate::Throttle;
