//! The limits that every attempt of every worker passes before it is sent: the plan's own limits, and what each
//! bucket can take.
//!
//! For each bucket, a [`CongestionController`](congestion::CongestionController) finds by itself how much may be sent.
//! With a store that never throttles, the cost is two uncontended locks per request, and the window opens to the plan's
//! concurrency within a few round trips.

mod adaptive_rate;
mod congestion;
mod latency;
#[cfg(test)]
mod simulation;
mod window;

mod admission;

pub use admission::Throttle;
