//! Predicts what a job would do to each object before it runs, and compares plan files.
//!
//! This module sends no requests. Given the state of an object, a [`Judge`] predicts the effect on it. A [`Tally`]
//! adds up the predictions for many objects: exactly, or, if the objects are a sample, with a confidence interval.
//!
//! | file | what it does |
//! |---|---|
//! | `judge` | predicts the effect on one object |
//! | `restores` | predicts which restore requests a service accepts |
//! | `tally` | totals over many objects: counts, reasons, a few examples of each |
//! | `interval` | estimates for the whole population, from a sample |
//! | `shown` | the state of an object before and after, as lines |
//! | `texts` | the diff of two plan files |

mod interval;
mod judge;
mod restores;
mod shown;
mod tally;
mod texts;

pub use interval::{Interval, Share};
pub use judge::{Fate, Judge, Prospect, Reason, Trouble};
pub use restores::Service;
pub use shown::{Line, Mark, lines};
pub use tally::{Group, Sent, Tally, busiest};
pub use texts::unified;
