//! Known costs, to the cent: with this program, and with the managed service.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::plan::JobLimits;

/// Returns the fees of the managed service for tagging this number of objects, without the requests.
fn fees(entry: &str, objects: u64) -> Money {
    let managed = estimate(&asking(objects, None, NO_REQUESTS), &rates(entry)).managed_service.expect("a service");
    managed.total.known.expect("its fees are known")
}

#[test]
fn managed_service_fees_match_the_price_lists() {
    // The billing examples of the OSS Batch Operations documentation.
    assert_eq!(fees("oss-cn", 5 * MILLION), money("5 CNY"));
    assert_eq!(fees("oss-cn", 5000 * MILLION), money("5000 CNY"));
    // A job has no base fee there, and the fee per object is not rounded.
    assert_eq!(fees("oss-cn", 0), money("0 CNY"));
    assert_eq!(fees("oss-cn", 1), money("0.000001 CNY"));
    assert_eq!(fees("aws-us-east-1", 0), money("0.25 USD"));
    assert_eq!(fees("aws-us-east-1", MILLION), money("1.25 USD"));
    assert_eq!(fees("aws-us-east-1", 5000 * MILLION), money("5000.25 USD"));
}

#[test]
fn a_managed_job_does_one_operation() {
    let work = JobWorkload { operations: 3, ..asking(MILLION, None, NO_REQUESTS) };
    let managed = estimate(&work, &rates("aws-us-east-1")).managed_service.expect("a service");
    assert_eq!(managed.total.known, Some(money("3.75 USD")));
    assert_eq!(managed.service, "S3 Batch Operations");
}

/// The cost of a million objects with this program, and with the managed service.
#[test]
fn estimates_a_million_objects() {
    use RequestKind::{GetTags, PutAcl, PutTags};
    for (entry, of_class, kinds, ours, managed) in [
        ("aws-us-east-1", "STANDARD", &[PutTags][..], "5 USD", "6.25 USD"),
        ("aws-us-east-1", "STANDARD", &[GetTags, PutTags], "5.40 USD", "6.65 USD"),
        ("aws-us-east-1", "STANDARD", &[PutAcl], "5 USD", "6.25 USD"),
        ("aws-us-east-1", "STANDARD_IA", &[PutAcl], "10 USD", "11.25 USD"),
        // Tags cost the same as in Standard, whatever the class.
        ("aws-us-east-1", "STANDARD_IA", &[PutTags], "5 USD", "6.25 USD"),
        ("aws-us-east-1", "DEEP_ARCHIVE", &[PutTags], "5 USD", "6.25 USD"),
        ("oss-cn", "Standard", &[PutTags], "1 CNY", "2 CNY"),
        ("oss-cn", "Standard", &[GetTags, PutTags], "2 CNY", "3 CNY"),
        ("oss-cn", "IA", &[PutTags], "10 CNY", "11 CNY"),
        ("oss-cn", "Archive", &[PutTags], "10 CNY", "11 CNY"),
        ("oss-cn", "ColdArchive", &[PutTags], "10 CNY", "11 CNY"),
    ] {
        let told = estimate(&asking(MILLION, Some(of_class), kinds), &rates(entry));
        assert!(told.total.is_complete(), "{of_class} {kinds:?}");
        assert_eq!(told.total.known, Some(money(ours)), "{of_class} {kinds:?}");
        let beside = told.managed_service.expect("a service").total;
        assert_eq!((beside.known, beside.unknown_lines), (Some(money(managed)), 0), "{of_class} {kinds:?}");
    }
}

/// The cost of restoring a million objects of one gigabyte for a day: the requests, the retrieval and the copy.
#[test]
fn a_restore_costs_requests_gigabytes_and_the_copy() {
    use RestoreTier::{Bulk, Expedited, Standard};
    let free = "0";
    let day_of_standard = "766.666666666667"; // 0.023 per GB-month, divided by 30, times a million.
    let day_in_oss = "4000"; // 0.12 per GB-month.
    for (entry, currency, of_class, tier, requests, gigabytes, copy) in [
        ("aws-us-east-1", "USD", "DEEP_ARCHIVE", Some(Bulk), "25", "2500", day_of_standard),
        ("aws-us-east-1", "USD", "DEEP_ARCHIVE", Some(Standard), "100", "20000", day_of_standard),
        ("aws-us-east-1", "USD", "DEEP_ARCHIVE", None, "100", "20000", day_of_standard),
        ("aws-us-east-1", "USD", "GLACIER", Some(Expedited), "10000", "30000", day_of_standard),
        ("aws-us-east-1", "USD", "GLACIER", Some(Standard), "50", "10000", day_of_standard),
        ("aws-us-east-1", "USD", "GLACIER", Some(Bulk), free, free, day_of_standard),
        ("oss-cn", "CNY", "ColdArchive", Some(Expedited), "3000", "200000", day_in_oss),
        ("oss-cn", "CNY", "ColdArchive", Some(Standard), "300", "60000", day_in_oss),
        ("oss-cn", "CNY", "ColdArchive", None, "300", "60000", day_in_oss),
        ("oss-cn", "CNY", "ColdArchive", Some(Bulk), "30", "30000", day_in_oss),
        // In Archive, a restore is billed as a PUT, without tiers and without a copy.
        ("oss-cn", "CNY", "Archive", None, "10", "60000", free),
    ] {
        let told = estimate(&restoring(MILLION, of_class, tier, 1, GIGABYTE), &rates(entry));
        let amounts: Vec<_> = told.lines.iter().map(|line| line.amount.clone()).collect();
        let expected = [requests, gigabytes, copy].map(|amount| Ok(money(&format!("{amount} {currency}"))));
        assert_eq!(amounts, expected, "{of_class} {tier:?}");
    }
}

#[test]
fn a_copy_costs_by_the_day() {
    let copy = |days| {
        let told = estimate(&restoring(10, "ColdArchive", Some(RestoreTier::Bulk), days, GIGABYTE), &rates("oss-cn"));
        told.lines[2].amount.clone()
    };
    assert_eq!(copy(30), Ok(money("1.20 CNY")));
    assert_eq!(copy(60), Ok(money("2.40 CNY")));
    assert_eq!(copy(7), Ok(money("0.28 CNY")));
}

#[test]
fn missing_prices_make_the_total_a_minimum() {
    for (entry, work) in [
        ("aws-us-east-1", asking(7, Some("STANDARD"), &[RequestKind::DeleteTags])),
        ("oss-cn", asking(7, Some("Standard"), &[RequestKind::DeleteTags])),
        ("aws-us-east-1", asking(7, Some("GLACIER_IR"), &[RequestKind::Head])),
        ("oss-cn", asking(7, Some("DeepColdArchive"), &[restore_request(Some(RestoreTier::Standard))])),
        // This tier does not exist.
        ("aws-us-east-1", asking(7, Some("DEEP_ARCHIVE"), &[restore_request(Some(RestoreTier::Expedited))])),
    ] {
        let told = estimate(&work, &rates(entry));
        let reasons: Vec<_> = told.unknown_lines().map(|(_, why)| why.clone()).collect();
        assert_eq!(reasons, [UnpricedReason::NotInBook], "{work:?}");
        assert!(!told.total.is_complete());
    }
    let mut work = asking(MILLION, Some("STANDARD"), &[RequestKind::PutTags]);
    work.add_requests(RequestKind::DeleteTags, None, 3);
    let told = estimate(&work, &rates("aws-us-east-1"));
    assert_eq!(told.total.to_string(), "at least 5.00 USD, plus 1 line of unknown price");
    let beside = told.managed_service.expect("a service").total;
    assert_eq!(beside.to_string(), "at least 6.25 USD, plus 1 line of unknown price");
    let mut work = asking(1, Some("STANDARD"), &[RequestKind::PutTags]);
    work.add_requests(RequestKind::DeleteTags, None, 3);
    let total = estimate(&work, &rates("aws-us-east-1")).total;
    assert_eq!(total.to_string(), "unknown for 1 line, less than 0.01 USD for the others");
}

#[test]
fn unknown_class_does_not_matter_if_prices_are_equal() {
    let work = asking(MILLION, None, &[RequestKind::PutTags]);
    assert_eq!(estimate(&work, &rates("aws-us-east-1")).total.known, Some(money("5 USD")));
    let told = estimate(&work, &rates("oss-cn"));
    let (line, why) = told.unknown_lines().next().expect("it depends");
    assert_eq!((line.description.as_str(), &line.price), ("PutObjectTagging", &None));
    assert_eq!(*why, UnpricedReason::ClassUnknown { min: money("1 CNY"), max: money("10 CNY") });
    assert_eq!(why.to_string(), "the storage class is unknown (1.00 CNY to 10.00 CNY)");
}

#[test]
fn unknown_sizes_make_the_cost_unknown_unless_free() {
    let unknown = |of_class: &str, tier| {
        let mut work = JobWorkload { objects: 1, operations: 1, ..JobWorkload::default() };
        add_restore(&mut work, RestoreRequest { days: Some(1), tier: Some(tier) }, Some(&class(of_class)), None);
        let told = estimate(&work, &rates("aws-us-east-1"));
        told.unknown_lines().map(|(line, why)| format!("{}: {why}", line.description)).collect::<Vec<_>>()
    };
    let copy = |of| format!("temporary copy, class {of}, sizes unknown: the sizes are unknown");
    let retrieval = "retrieval, class DEEP_ARCHIVE, tier Bulk, sizes unknown: the sizes are unknown".to_owned();
    assert_eq!(unknown("DEEP_ARCHIVE", RestoreTier::Bulk), [retrieval, copy("DEEP_ARCHIVE")]);
    assert_eq!(unknown("GLACIER", RestoreTier::Bulk), [copy("GLACIER")]);
}

#[test]
fn refused_requests_follow_the_billing_of_the_provider() {
    let refused = |entry: &str, of_class: &str| {
        let mut work = JobWorkload::default();
        work.add_rejected_requests(RequestKind::PutTags, Some(&class(of_class)), MILLION);
        estimate(&work, &rates(entry)).lines[0].amount.clone()
    };
    assert_eq!(refused("aws-us-east-1", "STANDARD"), Ok(money("5 USD")));
    assert_eq!(refused("oss-cn", "Standard"), Ok(money("0 CNY")));
    let StorePrices::Known(mut entry) = rates("aws-us-east-1") else { panic!("an entry") };
    entry.rejected_requests = None;
    let mut work = JobWorkload::default();
    work.add_rejected_requests(RequestKind::PutTags, None, 1);
    assert_eq!(
        estimate(&work, &StorePrices::Known(entry)).lines[0].amount,
        Err(UnpricedReason::RejectionBillingUnknown)
    );
}

#[test]
fn overhead_is_not_part_of_the_managed_service() {
    let own = OverheadRequests { lists: 1000, reads: 10, uploads: 2, report_bytes: u128::from(10 * GIGABYTE) };
    let told = estimate(&JobWorkload { overhead: own, ..asking(0, None, NO_REQUESTS) }, &rates("aws-us-east-1"));
    let lines: Vec<_> =
        told.lines.iter().map(|line| (line.description.as_str(), line.category, line.amount.clone())).collect();
    assert_eq!(
        lines,
        [
            ("ListObjects, listings", CostCategory::Overhead, Ok(money("0.005 USD"))),
            ("GetObject, manifests, class STANDARD", CostCategory::Overhead, Ok(money("0.000004 USD"))),
            ("PutObject, the report, class STANDARD", CostCategory::Overhead, Ok(money("0.00001 USD"))),
        ]
    );
    assert_eq!(told.managed_service.expect("a service").total.known, Some(money("0.25 USD")));
    assert_eq!(told.report_per_month.expect("a report").amount, Ok(money("0.23 USD")));
    let told = estimate(&JobWorkload { overhead: own, ..asking(0, None, NO_REQUESTS) }, &rates("oss-cn"));
    // A listing is billed as a PUT.
    assert_eq!(told.lines[0].amount, Ok(money("0.001 CNY")));
}

fn seconds_apart(one: Duration, other: Duration) -> u64 {
    one.abs_diff(other).as_secs()
}

#[test]
fn estimates_run_time_at_both_rates() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let assumed = BTreeMap::new();
    let plan =
        JobLimits { concurrency: 100, max_concurrency: 100, requests_per_second: Some(1000), ..JobLimits::default() };
    let work = asking(42 * MILLION, Some("STANDARD"), &[RequestKind::PutTags]);
    let told = estimate_run_time(&work, &plan, &rates("aws-us-east-1"), &assumed);
    assert_eq!((told.requests, told.per_second, told.bottleneck), (42 * MILLION, 1000, RateBottleneck::RateLimit));
    assert!(seconds_apart(told.at_plan_rate, minutes(700)) <= 1, "{:?}", told.at_plan_rate);
    assert_eq!(told.at_provider_limits(), Some(minutes(200)));
    // 100 requests in flight at 50 ms each are 2,000 per second.
    let free = JobLimits { requests_per_second: Some(2001), ..plan };
    let told = estimate_run_time(&work, &free, &rates("aws-us-east-1"), &assumed);
    assert_eq!((told.per_second, told.bottleneck, told.is_measured), (2000, RateBottleneck::Concurrency, false));
    assert!(seconds_apart(told.at_plan_rate, minutes(350)) <= 1, "{:?}", told.at_plan_rate);
    assert_eq!(u128::from(told.per_second) * ASSUMED_LATENCY.as_millis(), 100 * 1000);
    // OSS: 10,000 per second, 2,000 if the keys are sequential, about 500 restores of Cold Archive.
    let work = restoring(6 * MILLION, "ColdArchive", Some(RestoreTier::Bulk), 1, 1);
    let told = estimate_run_time(&work, &plan, &rates("oss-cn"), &assumed);
    let bounds: Vec<_> = told.bounds.iter().map(|bound| (bound.limit.per_second, bound.duration)).collect();
    assert_eq!(bounds, [(10_000, minutes(10)), (2000, minutes(50)), (500, minutes(200))]);
    assert_eq!(told.at_provider_limits(), Some(minutes(200)));
    let work = asking(6 * MILLION, Some("Standard"), &[RequestKind::PutTags]);
    assert_eq!(
        estimate_run_time(&work, &plan, &rates("oss-cn"), &assumed).at_provider_limits(),
        Some(minutes(10)),
        "not as if sequential"
    );
}

#[test]
fn run_time_follows_from_measured_latencies() {
    let milliseconds = Duration::from_millis;
    let limits = JobLimits::default();
    let prices = rates("aws-us-east-1");
    let estimate = |work: &JobWorkload, latencies: &[(RequestKind, u64)]| {
        let latencies = latencies.iter().map(|(kind, latency)| (*kind, milliseconds(*latency))).collect();
        estimate_run_time(work, &limits, &prices, &latencies)
    };
    let work = asking(MILLION, Some("STANDARD"), &[RequestKind::PutTags]);
    // What is not measured takes as long as what is. 256 in flight at 100 ms are 2,560 a second; the window opens to
    // that in about three seconds.
    let told = estimate(&work, &[(RequestKind::GetTags, 100)]);
    assert_eq!((told.per_second, told.latency, told.is_measured), (2560, milliseconds(100), true));
    assert!((391..=393).contains(&told.at_plan_rate.as_secs()), "{:?}", told.at_plan_rate);
    let told = estimate(&work, &[(RequestKind::GetTags, 10), (RequestKind::PutTags, 200)]);
    assert_eq!((told.per_second, told.bottleneck), (1280, RateBottleneck::Concurrency));
    // Half of the requests take 10 ms, and half 30 ms.
    let both = asking(MILLION, Some("STANDARD"), &[RequestKind::GetTags, RequestKind::PutTags]);
    let told = estimate(&both, &[(RequestKind::GetTags, 10), (RequestKind::PutTags, 30)]);
    assert_eq!((told.latency, told.per_second), (milliseconds(20), 12_800));
    // A store that answers at once is not what limits the rate.
    let told = estimate(&work, &[(RequestKind::PutTags, 1)]);
    assert_eq!((told.per_second, told.bottleneck), (30_000, RateBottleneck::Processor));
    // A few requests take as long as one.
    let few = asking(3, Some("STANDARD"), &[RequestKind::PutTags]);
    assert_eq!(estimate(&few, &[(RequestKind::PutTags, 1500)]).at_plan_rate, Duration::from_secs(2));
    let none = asking(0, None, &[RequestKind::PutTags]);
    assert_eq!(estimate(&none, &[(RequestKind::PutTags, 1500)]).at_plan_rate, Duration::ZERO);
}

#[test]
fn counts_without_prices_have_no_amounts() {
    let nothing = NoPricesError {
        provider: batchplan_store::StoreProvider::S3,
        region: None,
        foreign_endpoint: None,
        known: Vec::new(),
    };
    let work = asking(MILLION, None, &[RequestKind::PutTags]);
    let told = estimate(&work, &StorePrices::Unknown(nothing.clone()));
    assert_eq!(told.lines[0].quantity, BilledQuantity::Requests(MILLION));
    assert_eq!(told.lines[0].amount, Err(UnpricedReason::NoPrices));
    assert_eq!((told.total.to_string().as_str(), told.managed_service), ("unknown", None));
    let told = estimate_run_time(&work, &JobLimits::default(), &StorePrices::Unknown(nothing), &BTreeMap::new());
    assert_eq!((told.at_provider_limits(), told.per_second), (None, 5120));
}
