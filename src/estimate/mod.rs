//! What a job will send, what that costs, and how long it takes: counts, requests, money, hours.
//!
//! It comes in three steps. Who knows the objects counts a [`Workload`]; [`rates_for`] finds the prices of the plan's
//! store, in the price book of this program or in the user's own; [`estimate`] makes lines of both, each a quantity, a
//! unit price with its source, and an amount. Nothing is guessed: a price that stands in no book is said to be unknown,
//! and a sum of which a part is unknown is said to be the least it can be.
//!
//! Money is exact. A price has at most six decimals and is for a power of ten of requests, so that every sum of requests
//! is a whole number of trillionths. Only bytes, billed by the gigabyte, are rounded: once a line, to a trillionth.

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
