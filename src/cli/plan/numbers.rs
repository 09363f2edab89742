//! Formats counts, amounts of money and durations.

use std::time::Duration;

use indicatif::HumanCount;

use super::PreviewView;
use crate::diff::{ConfidenceInterval, SampleShare};
use crate::estimate::{
    ASSUMED_LATENCY, BilledQuantity, CostEstimate, CostLine, RateBottleneck, StorePrices, UnitPrice,
};
use crate::money::Currency;
use crate::plan::MAX_CONCURRENCY;

/// The minimum run time for which a higher concurrency is suggested.
const LONG_RUN_TIME: Duration = Duration::from_secs(10);

/// Returns each predicted result and the number of objects in the sample that have it.
pub(super) fn predicted_counts(view: &PreviewView<'_>) -> [(&'static str, u64); 4] {
    let tally = &view.preview.tally;
    [
        ("to change", tally.changes),
        ("unchanged", tally.unchanged),
        ("would fail", tally.fails),
        ("unknown", tally.unknown),
    ]
}

/// Extrapolates a count in the sample to all objects.
pub(super) fn extrapolate(view: &PreviewView<'_>, found: u64) -> ConfidenceInterval {
    share(view, found).estimate()
}

pub(super) fn share(view: &PreviewView<'_>, found: u64) -> SampleShare {
    view.preview.tally.share(found, view.preview.frozen.rows())
}

/// Returns whether every object was read.
pub(super) fn is_exact(view: &PreviewView<'_>) -> bool {
    share(view, 0).is_exact()
}

/// Returns the headline, such as `1,204,331 objects: 1,180,002 to change, 23,900 unchanged, 429 would fail`.
pub(super) fn headline(view: &PreviewView<'_>) -> String {
    let about = if is_exact(view) { "" } else { "about " };
    let parts: Vec<_> = predicted_counts(view)
        .into_iter()
        .filter(|(word, found)| *word != "unknown" || *found > 0)
        .map(|(word, found)| format!("{about}{} {word}", HumanCount(extrapolate(view, found).likely)))
        .collect();
    format!("{}: {}", crate::cli::summary::format_objects(view.preview.frozen.rows()), parts.join(", "))
}

/// Returns the text to show instead of a command if every object was read and none would change.
pub(super) fn nothing_to_do(view: &PreviewView<'_>) -> Option<&'static str> {
    let idle = is_exact(view) && !view.preview.tally.has_changes();
    idle.then_some("Nothing to do: all objects already match the plan.")
}

/// Returns the confidence intervals of a sample, or `None` if every object was read.
pub(super) fn confidence(view: &PreviewView<'_>) -> Option<String> {
    if is_exact(view) {
        return None;
    }
    let ranges: Vec<_> = predicted_counts(view)
        .into_iter()
        .filter(|(word, found)| *word != "unknown" || *found > 0)
        .map(|(word, found)| {
            let ConfidenceInterval { low, high, .. } = extrapolate(view, found);
            format!("{} to {} {word}", HumanCount(low), HumanCount(high))
        })
        .collect();
    let looked = HumanCount(view.preview.tally.total());
    Some(format!(
        "from a random sample of {looked} (seed {}), with 95 % confidence: {}",
        view.preview.options.seed,
        ranges.join(", ")
    ))
}

pub(super) fn format_quantity(quantity: BilledQuantity) -> String {
    match quantity {
        BilledQuantity::Requests(count) | BilledQuantity::Objects(count) | BilledQuantity::Jobs(count) => {
            HumanCount(count).to_string()
        }
        BilledQuantity::Bytes(bytes) => format_gigabytes(bytes),
        BilledQuantity::Stored { bytes, days } => {
            format!("{} for {days} day{}", format_gigabytes(bytes), if days == 1 { "" } else { "s" })
        }
    }
}

/// Formats a size in GB of 2^30 bytes, as it is billed. A size that rounds to 0.00 GB is shown in bytes.
fn format_gigabytes(bytes: u128) -> String {
    const GB: u128 = 1 << 30;
    let hundredths = (bytes * 100 + GB / 2) / GB;
    if hundredths == 0 {
        return format!("{} bytes", HumanCount(u64::try_from(bytes).unwrap_or(u64::MAX)));
    }
    let whole = u64::try_from(hundredths / 100).unwrap_or(u64::MAX);
    format!("{}.{:02} GB", HumanCount(whole), hundredths % 100)
}

/// Formats a price, such as `0.005 USD per 1,000`.
pub(super) fn format_price(price: &UnitPrice, currency: Currency) -> String {
    let unit = match price.unit() {
        crate::estimate::PriceUnit::Each(1) => "each".to_owned(),
        crate::estimate::PriceUnit::Each(count) => format!("per {}", HumanCount(u64::from(count))),
        unit => format!("per {unit}"),
    };
    format!("{} {unit}", price.amount(currency))
}

/// Returns the columns of an estimate line: what, quantity, unit price, and the amount or why it is not known.
pub(super) fn cost_line(line: &CostLine, currency: Option<Currency>) -> [String; 4] {
    let unit = match (&line.price, currency) {
        (Some(it), Some(currency)) if it.amount(currency).is_zero() => "free".to_owned(),
        (Some(it), Some(currency)) => format_price(it, currency),
        _ => String::new(),
    };
    let amount = match &line.amount {
        Ok(amount) => amount.format_rounded(),
        Err(why) => format!("unknown: {why}"),
    };
    [line.description.clone(), format_quantity(line.quantity), unit, amount]
}

/// Returns the name and date of the price book. If there are no prices, returns why and what to do about it.
pub(super) fn price_book_name(estimate: &CostEstimate) -> Result<String, (String, String)> {
    match &estimate.prices {
        StorePrices::Known(entry) => Ok(format!("{}, {}", entry.name, entry.dated)),
        StorePrices::Unknown(why) => Err((why.to_string(), why.help())),
    }
}

pub(super) fn currency(estimate: &CostEstimate) -> Option<Currency> {
    estimate.prices.entry().map(|entry| entry.currency)
}

/// Returns the duration at the plan's rate and, if the provider's limits are known, at those limits.
pub(super) fn durations(view: &PreviewView<'_>) -> Vec<(&'static str, String)> {
    let hours = view.duration;
    let limit = match hours.bottleneck {
        RateBottleneck::RateLimit => "`[limits] requests_per_second`".to_owned(),
        RateBottleneck::Concurrency => {
            let in_flight = HumanCount(u64::from(view.plan.limits.concurrency));
            format!("{in_flight} in flight, {} ms each", ASSUMED_LATENCY.as_millis())
        }
    };
    let (time, rate) = (format_duration(hours.at_plan_rate), HumanCount(hours.per_second));
    let mut at_plan_rate = format!("about {time} at {rate} requests/s ({limit})");
    let at_provider_limits = hours.at_provider_limits();
    let provider_allows_more = at_provider_limits.is_none_or(|at| at < hours.at_plan_rate);
    let can_be_raised = provider_allows_more && view.plan.limits.concurrency < MAX_CONCURRENCY;
    if hours.bottleneck == RateBottleneck::Concurrency && hours.at_plan_rate >= LONG_RUN_TIME && can_be_raised {
        at_plan_rate.push_str(". Raise `[limits] concurrency` to go faster");
    }
    let mut lines = vec![("at the plan's rate", at_plan_rate)];
    if let Some(at) = at_provider_limits {
        lines
            .push(("at the provider's limit", format!("at least {}, if all keys share a prefix", format_duration(at))));
    }
    lines
}

/// Formats a duration, such as `2 h 5 min` or `40 s`.
pub(super) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) if minutes < 10 => format!("{minutes} min {seconds} s"),
        (0, 0, minutes, _) => format!("{minutes} min"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{} d {hours} h", HumanCount(days)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_durations_in_two_units() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (120, "2 min"), (125, "2 min 5 s"), (1199, "19 min"), (7500, "2 h 5 min")];
        for (seconds, text) in cases {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_duration(Duration::from_hours(25)), "1 d 1 h");
    }

    #[test]
    fn formats_billed_sizes() {
        assert_eq!(format_quantity(BilledQuantity::Bytes(1 << 30)), "1.00 GB");
        assert_eq!(format_quantity(BilledQuantity::Bytes(1000)), "1,000 bytes");
        assert_eq!(format_quantity(BilledQuantity::Stored { bytes: 5 << 40, days: 1 }), "5,120.00 GB for 1 day");
    }
}
