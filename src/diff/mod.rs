//! Predicts what a job would do to each object before it runs, and compares plan files.
//!
//! This module sends no requests. Given the state of an object, a [`Predictor`] predicts the effect on it. A
//! [`PredictionTotals`] adds up the predictions for many objects: exactly, or, if the objects are a sample, with a
//! confidence interval.
//!
//! | file | what it does |
//! |---|---|
//! | `predictor` | predicts the effect on one object |
//! | `restores` | predicts which restore requests a service accepts |
//! | `totals` | totals over many objects: counts, reasons, a few examples of each |
//! | `interval` | estimates for the whole population, from a sample |
//! | `state_lines` | the state of an object before and after, as lines |
//! | `plan_diff` | the diff of two plan files |

mod interval;
mod plan_diff;
mod predictor;
mod restores;
mod state_lines;
mod totals;

pub use interval::{ConfidenceInterval, SampleShare};
pub use plan_diff::unified_diff;
pub use predictor::{Effect, FailureReason, Prediction, Predictor, ReadFailure};
pub use state_lines::{LineChange, StateLine, compare_states};
pub use totals::{PredictionTotals, ReasonGroup, RequestCount, busiest_directory};
