//! Estimates what a job sends, what it costs, and how long it takes.
//!
//! An estimate has three steps. The caller counts the requests and objects in a [`JobWorkload`]. [`select_prices`]
//! finds the prices of the plan's store, in the built-in price book or in the user's own. [`estimate`] combines both
//! into lines, each with a quantity, a unit price with its source, and an amount. Nothing is guessed: a price that is
//! in no book is reported as unknown, and a sum with unknown parts is reported as a minimum.
//!
//! `workload` holds the counts, `price_book` the figures and their file, `price_selection` the choice of an entry,
//! `cost` the lines and the check against `max_cost`, and `run_time` the duration.
//!
//! Money is exact. A price has at most six decimals and is for a power of ten of requests, so every sum of requests is
//! a whole number of trillionths. Only bytes, which are billed by the gigabyte, are rounded: once per line, to a
//! trillionth.

mod cost;
mod price_book;
mod price_selection;
mod run_time;
mod workload;

#[cfg(test)]
mod tests;

pub use cost::{
    BilledQuantity, CostCategory, CostEstimate, CostLimitCheck, CostLimitError, CostLine, CostTotal,
    ManagedServiceCost, UnpricedReason, check_cost_limit, estimate,
};
pub use price_book::{
    BillableItem, PriceBook, PriceBookEntry, PriceBookOrigin, PriceUnit, ProviderRateLimit, RateLimitScope,
    RejectedRequestBilling, SourceReliability, UnitPrice,
};
pub use price_selection::{NoPricesError, PriceBookError, StorePrices, select_prices};
pub use run_time::{ASSUMED_LATENCY, RateBottleneck, RunTimeBound, RunTimeEstimate, estimate_run_time};
pub use workload::{BillableRequest, JobWorkload, OverheadRequests, RequestGroup, RestoreGroup, RestoreVolume};
