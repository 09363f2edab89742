//! The comparison of a job's cost with its limit.

use super::*;

fn judged(work: &JobWorkload, rates: &StorePrices, max: &str) -> String {
    let verdict = check_cost_limit(&estimate(work, rates), &money(max));
    let kind = match &verdict {
        CostLimitCheck::Within => "within".to_owned(),
        CostLimitCheck::Above(_) => "above".to_owned(),
        CostLimitCheck::Undetermined(_) => "not known".to_owned(),
    };
    verdict.error().map_or(kind.clone(), |refusal| format!("{kind}: {refusal} / {}", refusal.help()))
}

fn tagging(objects: u64) -> JobWorkload {
    asking(objects, Some("STANDARD"), &[RequestKind::PutTags])
}

#[test]
fn cost_equal_to_the_limit_is_within() {
    let aws = rates("aws-us-east-1");
    assert_eq!(judged(&tagging(MILLION), &aws, "5 USD"), "within");
    assert_eq!(judged(&tagging(0), &aws, "0 USD"), "within");
    assert_eq!(
        judged(&tagging(MILLION + 2000), &aws, "5 USD"),
        "above: the job would cost 5.01 USD, more than max_cost (5.00 USD) / nothing was changed; raise `max_cost` in \
         the plan's [limits], or select fewer objects"
    );
    // Amounts in messages are exact: in cents, both would be equal.
    let said = judged(&tagging(MILLION + 1), &aws, "5 USD");
    assert!(said.starts_with("above: the job would cost 5.01 USD, more than max_cost (5.00 USD) / "), "{said}");
}

#[test]
fn partly_unknown_cost_is_refused() {
    let aws = rates("aws-us-east-1");
    let mut work = tagging(MILLION);
    work.add_requests(RequestKind::DeleteTags, Some(&class("STANDARD")), 1);
    assert_eq!(
        judged(&work, &aws, "4.99 USD"),
        "above: the job would cost at least 5.00 USD, more than max_cost (4.99 USD) / nothing was changed; raise \
         `max_cost` in the plan's [limits], or select fewer objects"
    );
    assert_eq!(
        judged(&work, &aws, "50 USD"),
        "not known: cannot check max_cost (50.00 USD): part of the cost is unknown: DeleteObjectTagging, class \
         STANDARD: no price in the price book / nothing was changed; add the price to your own price book (`file` in \
         the plan's [prices], or --prices FILE), use a manifest with storage classes and sizes, or remove `max_cost`"
    );
    for name in ["A", "B", "C", "D"] {
        work.add_requests(RequestKind::Head, Some(&class(name)), 1);
    }
    let said = judged(&work, &aws, "50 USD");
    assert!(said.contains("; and 2 more / "), "{said}");
}

#[test]
fn other_currencies_are_not_compared() {
    assert_eq!(
        judged(&tagging(0), &rates("aws-us-east-1"), "50 CNY"),
        "not known: cannot check max_cost (50.00 CNY): the prices of `aws-us-east-1` are in USD / nothing was changed; \
         set `max_cost` in USD, or use your own price book"
    );
}

#[test]
fn missing_prices_are_refused() {
    let why = NoPricesError {
        provider: batchplan_store::StoreProvider::Sandbox,
        region: None,
        foreign_endpoint: None,
        known: vec!["mine".to_owned()],
    };
    assert_eq!(
        judged(&tagging(0), &StorePrices::Unknown(why), "50 CNY"),
        "not known: cannot check max_cost (50.00 CNY): no prices are known for the sandbox / nothing was changed; to \
         use the prices of mine, set `book` in the plan's [prices]; to use your own price book, set `file` in [prices] or \
         pass --prices FILE; or remove `max_cost`"
    );
}

#[test]
fn unpredictable_objects_make_the_cost_unknown() {
    let work = JobWorkload { unpredictable_objects: 1, ..asking(10, Some("STANDARD"), &[RequestKind::PutTags]) };
    let estimate = estimate(&work, &rates("aws-us-east-1"));
    assert!(!estimate.total.is_complete());
    assert!(!estimate.managed_service.as_ref().expect("a service").total.is_complete());
    assert!(matches!(check_cost_limit(&estimate, &money("1000 USD")), CostLimitCheck::Undetermined(_)));
}
