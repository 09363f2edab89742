//! Estimates what a job sends, what it costs, and how long it takes.
//!
//! An estimate has three steps. The caller counts the requests and objects in a [`Workload`]. [`rates_for`] finds the
//! prices of the plan's store, in the built-in price book or in the user's own. [`estimate`] combines both into lines,
//! each with a quantity, a unit price with its source, and an amount. Nothing is guessed: a price that is in no book is
//! reported as unknown, and a sum with unknown parts is reported as a minimum.
//!
//! Money is exact. A price has at most six decimals and is for a power of ten of requests, so every sum of requests is
//! a whole number of trillionths. Only bytes, which are billed by the gigabyte, are rounded: once per line, to a
//! trillionth.

mod book;
mod cells;
mod choose;
mod cost;
mod hours;
mod limit;
mod read;
mod workload;

#[cfg(test)]
mod tests;

pub use book::{Entry, Item, Mark, Origin, Price, PriceBook, RateLimit, Refused, Unit, Within};
pub use choose::{BookError, MAX_BOOK_BYTES, NoPrices, Rates, rates_for};
pub use cost::{Estimate, Line, Managed, Part, Quantity, Total, Unpriced, estimate};
pub use hours::{ASSUMED_LATENCY, Bound, Hours, Pace, hours};
pub use limit::{CostRefusal, Verdict, exceeds};
pub use workload::{Asked, Own, RequestKind, Restored, Volume, Workload};
