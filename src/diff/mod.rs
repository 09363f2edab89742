//! Predicts what a job would do to each object before it runs, and compares plan files.
//!
//! This module sends no requests. Given the state of an object, a [`Predictor`] predicts the effect on it. A
//! [`PredictionTotals`] adds up the predictions for many objects: exactly, or, if the objects are a sample, with a
//! confidence interval.
//!
//! | file | what it does |
//! |---|---|
//! | `predictor` | predicts the effect on one object, restores included |
//! | `totals` | totals over many objects, and estimates for the whole population from a sample |
//! | `text_diff` | the lines that differ: of an object's state, and of two plan files |

mod predictor;
mod text_diff;
mod totals;

pub use predictor::{Effect, FailureReason, Prediction, Predictor, ReadFailure};
pub use text_diff::{LineChange, StateLine, compare_states, unified_diff};
pub use totals::{ConfidenceInterval, PredictionTotals, ReasonGroup, RequestCount, SampleShare, busiest_directory};
