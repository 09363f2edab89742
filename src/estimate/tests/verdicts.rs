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
    asking(objects, Some("STANDARD"), &[BillableRequest::PutTags])
}

#[test]
fn a_job_may_cost_exactly_what_it_may() {
    let aws = rates("aws-us-east-1");
    assert_eq!(judged(&tagging(MILLION), &aws, "5 USD"), "within");
    assert_eq!(judged(&tagging(0), &aws, "0 USD"), "within");
    assert_eq!(
        judged(&tagging(MILLION + 2000), &aws, "5 USD"),
        "above: max_cost is 5.00 USD, and the job would cost 5.01 USD / nothing was changed; raise `max_cost` in the \
         plan's [limits] if it is right, or name fewer objects"
    );
    // Amounts in messages are exact: in cents, both would be equal.
    let said = judged(&tagging(MILLION + 1), &aws, "5 USD");
    assert!(said.starts_with("above: max_cost is 5.00 USD, and the job would cost 5.000005 USD / "), "{said}");
}

#[test]
fn what_is_partly_unknown_is_refused_as_well() {
    let aws = rates("aws-us-east-1");
    let mut work = tagging(MILLION);
    work.add_requests(BillableRequest::DeleteTags, Some(&class("STANDARD")), 1);
    assert_eq!(
        judged(&work, &aws, "4.99 USD"),
        "above: max_cost is 4.99 USD, and the job would cost at least 5.00 USD / nothing was changed; raise `max_cost` \
         in the plan's [limits] if it is right, or name fewer objects"
    );
    assert_eq!(
        judged(&work, &aws, "50 USD"),
        "not known: max_cost is 50.00 USD, and it is not known what the job costs: DeleteObjectTagging, class STANDARD: \
         the price book does not have its price / nothing was changed; add the price to a price book of your own (`file` \
         in the plan's [prices], or --prices FILE), take a manifest that knows classes and sizes, or remove `max_cost`"
    );
    for name in ["A", "B", "C", "D"] {
        work.add_requests(BillableRequest::Head, Some(&class(name)), 1);
    }
    let said = judged(&work, &aws, "50 USD");
    assert!(said.contains("; and 2 more / "), "{said}");
}

#[test]
fn other_currencies_are_not_compared() {
    assert_eq!(
        judged(&tagging(0), &rates("aws-us-east-1"), "50 CNY"),
        "not known: max_cost is 50.00 CNY, and the prices of `aws-us-east-1` are in USD / nothing was changed; write \
         `max_cost` in USD, or take a price book of your own in its currency"
    );
}

#[test]
fn without_prices_nothing_is_within() {
    let why = NoPricesError {
        provider: batchplan_store::StoreProvider::Sandbox,
        region: None,
        known: vec!["mine".to_owned()],
    };
    assert_eq!(
        judged(&tagging(0), &StorePrices::Unknown(why), "50 CNY"),
        "not known: max_cost is 50.00 CNY, and no prices are known for the sandbox / nothing was changed; `book` in the \
         plan's [prices] takes those of mine; `file` in [prices], or --prices FILE, takes a price book of your own; or \
         remove `max_cost`"
    );
}

#[test]
fn objects_of_which_nobody_can_tell_leave_the_cost_unknown() {
    let work = JobWorkload { unpredictable_objects: 1, ..asking(10, Some("STANDARD"), &[BillableRequest::PutTags]) };
    let estimate = estimate(&work, &rates("aws-us-east-1"));
    assert!(!estimate.total.is_complete());
    assert!(!estimate.managed_service.as_ref().expect("a service").total.is_complete());
    assert!(matches!(check_cost_limit(&estimate, &money("1000 USD")), CostLimitCheck::Undetermined(_)));
}
