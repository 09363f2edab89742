use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::plan::Plan;

const STORE: &str = "[store]\nprovider = \"sandbox\"\ndata = \"sb\"\n";
const PREFIX: &str = "[manifest.prefix]\nbucket = \"acme-logs\"\n";
const PUT: &str = "[operation.put_object_tagging]\ntags = { Team = \"1\" }\n";

fn plan(rest: &str) -> (Plan, PlanSource) {
    let text = format!("name = \"p\"\n{rest}");
    let (plan, problems) = crate::plan::read("plan.toml", &text, Path::new("."), jiff::Timestamp::UNIX_EPOCH);
    let plan = plan.unwrap_or_else(|| panic!("{:?}", problems.iter().map(ToString::to_string).collect::<Vec<_>>()));
    (plan, PlanSource::new("plan.toml", text.as_bytes()))
}

fn rules(text: &str) -> PlanRules {
    let (rules, problems) = PlanRules::parse("rules.toml", text.as_bytes());
    rules.unwrap_or_else(|| panic!("{:?}", problems.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

/// Returns each broken rule with its position in the rules file and in the plan, its title, and the marked text.
fn broken(rules_text: &str, plan_text: &str) -> Vec<String> {
    let (plan, source) = plan(plan_text);
    let Err(found) = rules(rules_text).check_plan(&plan, &source) else { return Vec::new() };
    let line = |(violation, problem): (&RuleViolation, &crate::diagnostics::FileProblem)| {
        let (line, column) = violation.position;
        let place = problem.label_spans().first().map(|(span, _)| found.problems().position(span.start));
        let (plan_line, plan_column) = place.expect("a position");
        format!("{} {line}:{column} {plan_line}:{plan_column} {}", violation.rule, problem.title())
    };
    found.iter().map(line).collect()
}

#[test]
fn a_broken_rule_has_its_place_in_both_files() {
    let text = "allowed_providers = [\"aws\", \"o*\"]\n# who may write where\n  allowed_buckets = [\"prod-*\"]\n\
                allow_public_acls = false\nrequired_tags = [\"Owner\", \"Team\"]\n";
    let report = "[report]\nbucket = \"prod-audit\"\n";
    let acl = "[operation.put_object_acl]\nacl = \"public-read\"\n";
    assert_eq!(
        broken(text, &format!("{STORE}{PREFIX}{PUT}{acl}{report}")),
        [
            "allowed_providers 1:1 3:12 the provider `sandbox` is not allowed",
            "allowed_buckets 3:3 6:10 the bucket `acme-logs` is not allowed",
            "allow_public_acls 4:1 10:7 the ACL `public-read` makes objects public",
            "required_tags 5:1 8:8 put_object_tagging would remove the tag `Owner`",
        ]
    );
}

#[test]
fn a_plan_that_keeps_the_rules_passes() {
    let text = "max_objects = 5\nmax_cost = \"1 USD\"\nallowed_providers = [\"sand*\"]\nallowed_buckets = [\"acme-*\"]\n\
                allow_public_acls = false\nrequired_tags = [\"Team\"]\n";
    let acl = "[operation.put_object_acl]\nacl = \"private\"\n";
    assert_eq!(broken(text, &format!("{STORE}{PREFIX}{PUT}{acl}")), Vec::<String>::new());
    assert_eq!(broken("", &format!("{STORE}{PREFIX}{PUT}")), Vec::<String>::new());
    // Without the rule, public ACLs are allowed, as they are with its default.
    let public = "[operation.put_object_acl]\nacl = \"public-read-write\"\n";
    for text in ["", "allow_public_acls = true\n"] {
        assert_eq!(broken(text, &format!("{STORE}{PREFIX}{public}")), Vec::<String>::new());
    }
}

#[test]
fn the_bucket_of_the_report_must_be_allowed_too() {
    let text = "allowed_buckets = [\"acme-logs\"]\n";
    let report = "[report]\nbucket = \"elsewhere\"\n";
    assert_eq!(
        broken(text, &format!("{STORE}{PREFIX}{PUT}{report}")),
        ["allowed_buckets 1:1 10:10 the bucket `elsewhere` is not allowed"]
    );
}

#[test]
fn required_tags_are_kept_by_all_operations_together() {
    let rule = "required_tags = [\"Owner\"]\n";
    let of = |operations: &str| broken(rule, &format!("{STORE}{PREFIX}{operations}"));
    let add = |key: &str| format!("[operation.add_object_tagging]\ntags = {{ {key} = \"me\" }}\n");
    let delete = |keys: &str| format!("[operation.delete_object_tagging]\n{keys}");
    let put = "[operation.put_object_tagging]\ntags = { Owner = \"me\" }\n";
    for kept in [put.to_owned(), add("Team"), add("Owner"), delete("keys = [\"Team\"]\n")] {
        assert_eq!(of(&kept), Vec::<String>::new(), "{kept}");
    }
    assert_eq!(of(&delete("")), ["required_tags 1:1 7:1 delete_object_tagging would remove the tag `Owner`"]);
    assert_eq!(
        of(&delete("keys = [\"Team\", \"Owner\"]\n")),
        ["required_tags 1:1 8:8 delete_object_tagging would remove the tag `Owner`"]
    );
    let both = of(&format!("{}{}", add("Team"), delete("keys = [\"Owner\"]\n")));
    assert_eq!(both, ["required_tags 1:1 10:8 delete_object_tagging would remove the tag `Owner`"]);
}

#[test]
fn a_bucket_of_another_tenant_needs_a_glob_with_a_tenant() {
    let store = "[store]\nprovider = \"s3\"\nendpoint = \"https://s3.example.org\"\n";
    let of = |glob: &str| {
        let rule = format!("allowed_buckets = [\"{glob}\"]\n");
        broken(&rule, &format!("{store}[manifest.prefix]\nbucket = \"acme:logs\"\n{PUT}")).len()
    };
    assert_eq!([of("acme*"), of("*"), of("acme:*"), of("*:logs"), of("other:*")], [1, 1, 0, 0, 1]);
}

#[test]
fn a_count_and_a_cost_have_the_manifest_as_their_place() {
    let (_, source) = plan(&format!("{STORE}{PREFIX}{PUT}"));
    let rules = rules("max_objects = 1000\nmax_cost = [\"2 CNY\", \"1 USD\"]\n");
    let shown = |found: Option<Box<RuleViolations>>| {
        let found = found.expect("a broken rule");
        let (violation, problem) = found.iter().next().expect("a broken rule");
        let place = found.problems().position(problem.label_spans()[0].0.start);
        (found.to_string(), violation.position, place, problem.title().to_owned(), problem.hint().map(str::to_owned))
    };
    let (text, rule, place, title, help) = shown(rules.too_many_objects(Some(1001), &source));
    assert_eq!(text, "plan.toml breaks the rule `max_objects` of rules.toml");
    assert_eq!((rule, place), ((1, 1), (5, 1)));
    assert_eq!(title, "the manifest has 1001 objects, and at most 1000 are allowed");
    assert_eq!(
        help.as_deref(),
        Some("select fewer objects, such as by a prefix or a filter; the rule is `max_objects`, rules.toml:1:1")
    );
    let (_, rule, place, title, _) = shown(rules.too_expensive("it would cost 3.00 USD", "select fewer", &source));
    assert_eq!((rule, place, title.as_str()), ((2, 1), (5, 1), "it would cost 3.00 USD"));
    let cost = |code: &str| rules.max_cost(crate::money::Currency::parse(code)).expect("a limit").to_string();
    assert_eq!([cost("USD"), cost("CNY"), cost("EUR")], ["1.00 USD", "2.00 CNY", "2.00 CNY"]);
}

#[test]
fn mistakes_in_rules_are_reported_with_their_places() {
    let text = "max_objects = 0\nmax_cost = [\"1 USD\", \"2 USD\"]\nallow_public_acl = false\nrequired_tags = []\n\
                allowed_providers = [\"asw\"]\nallowed_buckets = \"acme\"\n";
    let (rules, problems) = PlanRules::parse("rules.toml", text.as_bytes());
    assert!(rules.is_none());
    let shown: Vec<_> = problems
        .iter()
        .map(|problem| {
            let (line, column) = problems.position(problem.label_spans()[0].0.start);
            format!("{line}:{column} {} ({})", problem.title(), problem.hint().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1:15 `max_objects` is out of range (use an integer from 1)",
            "2:12 `max_cost` has two amounts in one currency (use one amount for each currency)",
            "3:1 unknown key `allow_public_acl` (did you mean `allow_public_acls`?)",
            "4:17 `required_tags` has too few items (use 1 to 10 items)",
            "5:22 `asw` matches no provider (did you mean `aws`? the providers are aws, oss, s3, sandbox)",
            "6:19 `allowed_buckets` must be an array (for example: `allowed_buckets = [\"acme-*\"]`)",
        ]
    );
}

proptest! {
    /// Whatever a file says: there are rules exactly if there is no error.
    #[test]
    fn any_file_is_accepted_or_explained(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (rules, problems) = PlanRules::parse("rules.toml", &bytes);
        prop_assert_eq!(rules.is_some(), !problems.has_errors());
    }

    #[test]
    fn any_value_of_a_key_is_accepted_or_explained(
        key in prop::sample::select(vec!["max_objects", "max_cost", "required_tags", "allowed_buckets", "allowed_providers"]),
        value in "[\\[\\]\"a-zA-Z0-9 ,.*{}:!-]{0,40}",
    ) {
        let (rules, problems) = PlanRules::parse("rules.toml", format!("{key} = {value}\n").as_bytes());
        prop_assert_eq!(rules.is_some(), !problems.has_errors());
    }
}
