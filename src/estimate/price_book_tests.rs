//! Price books: the built-in one is complete, and problems in others are reported with their positions.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::estimate::tests::{asking, money, restore_request};
use crate::estimate::{StorePrices, estimate};
use crate::toml_reader::MAX_DOCUMENT_BYTES;

/// A valid book, for tests to break.
const RIGHT: &str = r#"dated = 2026-01-31

[book.mine]
provider = "s3"
regions  = ["*"]
currency = "EUR"
refused  = { billed = false }

[[book.mine.price]]
of     = ["put_tags", "get_tags"]
amount = 0.005
per    = 1000

[[book.mine.limit]]
per_second = 100
within     = "account"
"#;

/// Formats each problem as `line:column title / help`.
fn described(problems: &FileProblems) -> String {
    problems.iter().fold(String::new(), |mut out, problem| {
        let (line, column) = problem.label_spans().first().map_or((0, 0), |(span, _)| problems.position(span.start));
        let _ = writeln!(out, "{line}:{column} {} / {}", problem.title(), problem.hint().unwrap_or_default());
        out
    })
}

fn wrong(text: &str) -> String {
    PriceBook::from_toml("prices.toml", text).map_or_else(|problems| described(&problems), |_| "nothing\n".to_owned())
}

/// Returns the problems of the valid book with one text replaced.
fn spoiled(old: &str, new: &str) -> String {
    assert!(RIGHT.contains(old), "{old}");
    wrong(&RIGHT.replace(old, new))
}

#[test]
fn built_in_book_is_complete_and_has_sources() {
    let (book, problems) = parse_price_book("prices.toml", BUILT_IN, &PriceBookOrigin::BuiltIn);
    assert_eq!(described(&problems), "");
    let book = book.expect("no problem");
    let names: Vec<_> = book.entries().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["aws-us-east-1", "oss-cn"]);
    for entry in book.entries() {
        assert!(
            entry.prices.iter().all(|price| price.source.is_some() && price.reliability.is_some()),
            "{}",
            entry.name
        );
        assert!(
            entry.limits.iter().all(|limit| limit.source.is_some() && limit.reliability.is_some()),
            "{}",
            entry.name
        );
        assert!(entry.rejected_requests.as_ref().is_some_and(|refused| refused.source.is_some()), "{}", entry.name);
        assert!(entry.prices.len() > 10 && entry.limits.len() == 3, "{}", entry.name);
    }
}

#[test]
fn a_right_book_is_read() {
    let book = PriceBook::from_toml("prices.toml", RIGHT).expect("it is right");
    let entry = book.get("mine").expect("an entry");
    assert_eq!((entry.currency.as_str(), entry.dated.to_string().as_str()), ("EUR", "2026-01-31"));
    assert_eq!(entry.origin, PriceBookOrigin::File("prices.toml".to_owned()));
    let told = estimate(&asking(3, None, &[RequestKind::GetTags]), &StorePrices::Known(Box::new(entry.clone())));
    assert_eq!(told.total.known, Some(money("0.000015 EUR")));
    let price = told.lines[0].price.as_ref().expect("a price");
    assert_eq!((price.amount(entry.currency), price.unit()), (money("0.005 EUR"), PriceUnit::Each(1000)));
    // The price is the same with and without quotes, to the last decimal.
    for (amount, parts) in
        [("\"0.000001\"", 1_000_000), ("0.000001", 1_000_000), ("1000000", 10_u128.pow(18)), ("0", 0)]
    {
        let book = PriceBook::from_toml("p", &RIGHT.replace("0.005", amount)).expect("it is right");
        assert_eq!(book.get("mine").expect("an entry").prices[0].parts, parts, "{amount}");
    }
}

#[test]
fn specific_prices_take_precedence() {
    let more = "[[book.mine.price]]\nof = [\"put_tags\"]\nclasses = [\"COLD\"]\namount = \"7\"\nper = 1\n\
                [[book.mine.price]]\nof = [\"restore\"]\nclasses = [\"COLD\"]\namount = \"2\"\nper = 1\n\
                [[book.mine.price]]\nof = [\"restore\"]\nclasses = [\"COLD\"]\ntiers = [\"Bulk\"]\namount = \"1\"\nper = 1\n";
    let book = PriceBook::from_toml("p", &format!("{RIGHT}{more}")).expect("it is right");
    let rates = StorePrices::Known(Box::new(book.get("mine").expect("an entry").clone()));
    for (of_class, kind, cost) in [
        (Some("COLD"), RequestKind::PutTags.into(), Some("7 EUR")),
        (Some("WARM"), RequestKind::PutTags.into(), Some("0.000005 EUR")),
        (None, RequestKind::PutTags.into(), None),
        (Some("COLD"), restore_request(Some(RestoreTier::Bulk)), Some("1 EUR")),
        (Some("COLD"), restore_request(Some(RestoreTier::Expedited)), Some("2 EUR")),
        (Some("COLD"), restore_request(None), Some("2 EUR")),
        (Some("WARM"), restore_request(None), None),
    ] {
        let told = estimate(&asking(1, of_class, &[kind]), &rates);
        assert_eq!(told.lines[0].amount.clone().ok(), cost.map(money), "{of_class:?} {kind}");
    }
}

#[test]
fn reports_every_problem_with_its_position() {
    let text = r#"date = 2026-01-31
[book.mine]
provider = "as3"
regions  = ["us-*", "["]
curency  = "EUR"
refused  = { billed = "no" }
[[book.mine.price]]
of     = ["put_tag"]
amount = -0.005
per    = 1001
mark   = "sure"
[[book.mine.price]]
amount = "1e3"
per    = "GB"
of     = ["put_tags"]
classes = []
[[book.mine.limit]]
of = ["retrieval"]
per_second = 0
[book."a b"]
"#;
    assert_eq!(
        wrong(text),
        "1:1 unknown key `date` / did you mean `dated`?\n\
         1:1 `dated` is missing / add `dated = 2026-01-31`\n\
         2:1 `currency` is missing in [book.mine] / add `currency = \"USD\"`\n\
         3:12 `provider` cannot be `as3` / did you mean `s3`? valid values: aws, oss, s3, sandbox\n\
         4:21 `regions` contains an invalid pattern / write a region such as \"us-east-1\", or \"cn-*\" for all that \
         start with cn-\n\
         5:1 unknown key `curency` in [book.mine] / did you mean `currency`?\n\
         6:23 `billed` must be true or false, without quotes / for example: `billed = true`\n\
         8:11 `of` cannot be `put_tag` / did you mean `put_tags`? valid values: get_tags, put_tags, delete_tags, \
         get_acl, put_acl, restore, head, list, get_object, put_object, retrieval, temporary_copy, storage, \
         managed_job, managed_object\n\
         9:10 `amount` is not a price / use a plain number, not negative, with at most 6 decimals, such as \"0.005\"; for \
         smaller prices, use a larger `per`\n\
         10:10 `per` is not a unit / use 1, 10, 100 and so on up to 1000000, or \"GB\", or \"GB-month\"\n\
         11:10 `mark` cannot be `sure` / valid values: verified, secondary\n\
         13:10 `amount` is not a price / use a plain number, not negative, with at most 6 decimals, such as \"0.005\"; for \
         smaller prices, use a larger `per`\n\
         16:11 `classes` has too few items / use 1 to 64 items\n\
         17:1 `within` is missing in [book.mine.limit] / add `within = ...`, one of \"prefix\", \"account\"\n\
         18:7 this is not a request / limits apply only to requests\n\
         19:14 `per_second` is out of range / use a value from 1 to 10000000\n\
         20:7 `a b` is not a valid name / use 1 to 64 letters, digits, hyphens and underscores\n"
    );
}

#[test]
fn a_problem_hides_no_other() {
    let text = r#"currency = "EUR"
[book.mine]
provider = "s3"
provider = "oss"
regions  = ["*"]
currency = "EUR"
price    = { of = ["head"] }
[book.other]
secret_key = "hunter2"
regions = []
[book.other.limit]
"#;
    assert_eq!(
        wrong(text),
        "1:1 unknown key `currency` / `currency` belongs in [book.NAME]\n\
         1:1 `dated` is missing / add `dated = 2026-01-31`\n\
         4:1 duplicate key or table / TOML allows each of them once: keep one\n\
         7:12 `price` must be an array of tables / write its keys under a [[book.mine.price]] header\n\
         8:1 `provider` is missing in [book.other] / add `provider = ...`, one of \"aws\", \"oss\", \"s3\", \
         \"sandbox\"\n\
         8:1 `currency` is missing in [book.other] / add `currency = \"USD\"`\n\
         9:1 credentials are not allowed in a price book / set them in the environment or in a profile, as for your \
         provider's own tools\n\
         10:11 `regions` has too few items / use 1 to 64 items\n\
         11:1 `limit` must be an array of tables / write its keys under a [[book.other.limit]] header\n"
    );
    assert_eq!(wrong("dated = 2026-01-31"), "1:1 `book` is missing / add a table [book.NAME]\n");
}

/// A price for some items, classes or tiers must not become one for all.
#[test]
fn a_list_is_valid_as_a_whole() {
    let price = |list: &str| RIGHT.replace("per    = 1000", &format!("per    = 1000\n{list}"));
    for (list, problem) in [
        (
            "classes = [\"COLD\", 1]",
            "13:20 each item of `classes` must be a string / for example: `classes = [\"...\"]`\n",
        ),
        ("classes = \"COLD\"", "13:11 `classes` must be an array / for example: `classes = [\"...\"]`\n"),
        (
            "tiers = [\"Bulk\", \"bulk\"]",
            "13:18 `tiers` cannot be `bulk` / did you mean `Bulk`? valid values: Standard, Bulk, Expedited\n",
        ),
        ("tiers = []", "13:9 `tiers` has too few items / use 1 to 64 items\n"),
    ] {
        assert_eq!(wrong(&price(list)), problem);
    }
    let classes =
        |count: usize| price(&format!("classes = {:?}", (0..count).map(|i| i.to_string()).collect::<Vec<_>>()));
    assert_eq!(wrong(&classes(65)), "13:11 `classes` has too many items / use 1 to 64 items\n");
    assert_eq!(wrong(&classes(64)), "nothing\n");
}

#[test]
fn rejects_invalid_figures() {
    for amount in [
        "-1",
        "-0.0",
        "1e3",
        "1e-3",
        "inf",
        "nan",
        "-inf",
        "+nan",
        "0x10",
        "true",
        "[]",
        "{}",
        "2026-01-31",
        "\"\"",
        "\"-1\"",
        "\"1,5\"",
        "\"0.0000001\"",
        "0.0000001",
        "\" 1\"",
        "\"1 EUR\"",
        "9999999999999999999",
        "\"1000001\"",
        "\"99999999999999999999999999999999999999999\"",
    ] {
        let said = spoiled("0.005", amount);
        assert!(said.starts_with("11:10 `amount` is "), "{amount}: {said}");
    }
    for per in ["0", "-1000", "3", "1001", "10000000", "1000.0", "\"1000\"", "\"gb\"", "9223372036854775807", "[]"] {
        let said = spoiled("per    = 1000", &format!("per    = {per}"));
        assert!(said.starts_with("12:10 `per` is not a unit"), "{per}: {said}");
    }
    let (range, integer) =
        ("is out of range / use a value from 1 to 10000000\n", "must be an integer, without quotes / ");
    for (rate, problem) in [("0", range), ("-1", range), ("1.5", integer), ("10000001", range), ("\"100\"", integer)] {
        let said = spoiled("per_second = 100", &format!("per_second = {rate}"));
        assert!(said.starts_with(&format!("15:14 `per_second` {problem}")), "{rate}: {said}");
    }
    for date in ["2026", "\"\"", "2026-02-30", "2026-01-31T00:00:00Z", "[]"] {
        assert!(spoiled("2026-01-31", date).starts_with("1:"), "{date}");
    }
    for code in ["\"eur\"", "\"EURO\"", "\"€\"", "978", "\"\""] {
        assert!(spoiled("\"EUR\"", code).starts_with("6:12 `currency` "), "{code}");
    }
}

/// The compiler of patterns panics on deep nesting, and the rest of the program never needs alternatives.
#[test]
fn a_pattern_of_regions_is_plain() {
    for pattern in ["{".repeat(300) + &"}".repeat(300), "[ab]".to_owned(), "us-{east,west}".to_owned()] {
        let found = spoiled("regions  = [\"*\"]", &format!("regions  = [\"{pattern}\"]"));
        assert!(found.contains("`regions` contains an invalid pattern"), "{found}");
    }
}

#[test]
fn an_item_has_one_price_in_its_own_unit() {
    let again = "[[book.mine.price]]\nof = [\"head\", \"get_tags\"]\namount = 1\nper = 1\n";
    assert_eq!(
        wrong(&format!("{RIGHT}{again}")),
        "17:1 this is priced twice / keep one price for each item, class and tier\n"
    );
    let units = "requests, jobs and objects are priced per 1, 10, 100 and so on, `retrieval` per \"GB\", `temporary_copy` \
                 and `storage` per \"GB-month\"";
    assert_eq!(
        spoiled("per    = 1000", "per = \"GB\""),
        format!("10:11 this cannot be priced per GB / {units}\n10:23 this cannot be priced per GB / {units}\n")
    );
    for (item, per) in
        [("retrieval", "1000"), ("storage", "\"GB\""), ("temporary_copy", "1"), ("retrieval", "\"GB-month\"")]
    {
        let said = wrong(
            &RIGHT
                .replace("\"put_tags\", \"get_tags\"", &format!("{item:?}"))
                .replace("per    = 1000", &format!("per    = {per}")),
        );
        assert!(said.starts_with("10:11 this cannot be priced per "), "{item} {per}: {said}");
    }
}

#[test]
fn rejects_hostile_books_with_few_problems() {
    for text in [
        "",
        "dated",
        "book = 1\ndated = 2026-01-31",
        "[[book]]",
        "[book]\nx = 1",
        "[book.x]\nprice = 1",
        "\0",
        "\u{feff}\u{1b}[",
    ] {
        assert!(PriceBook::from_toml("p", text).is_err(), "{text:?}");
    }
    let many: String = (0..5000).fold(String::from("dated = 2026-01-31\n"), |mut text, number| {
        let _ = writeln!(text, "[book.b{number}]\nx = 1");
        text
    });
    let problems = PriceBook::from_toml("p", &many).expect_err("nothing of it is right");
    assert_eq!(problems.iter().count(), 101);
    let prices = "[[book.mine.price]]\nof = [\"head\"]\namount = 1\nper = 1\n".repeat(501);
    assert!(wrong(&format!("{RIGHT}{prices}")).contains("too many `price` tables"));
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(PriceBook::from_toml("p", &deep).is_err());
    assert!(wrong(&"#".repeat(MAX_DOCUMENT_BYTES + 1)).contains("price book is too large"));
    let turned = spoiled("\"account\"", "\"acc\\u202eount\"") + &spoiled("[book.mine]", "[book.\"\\u001b[2J\"]");
    assert!(!turned.chars().any(|c| c != '\n' && batchplan_store::printable::affects_terminal(c)), "{turned:?}");
    assert!(spoiled("\"*\"", "\"us-\\u001b\"").contains("`regions` contains a control character"));
}

/// Lines of a book, valid and invalid, in any order.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        proptest::sample::select(RIGHT.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
        "[a-z_]{1,10} = (-?[0-9]{1,20}(\\.[0-9]{1,9})?|\"[^\"\\\\\n]{0,9}\"|\\[\\]|\\{\\})",
        ".{0,20}",
    ];
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_upsets_the_reader(text in lines()) {
        match PriceBook::from_toml("prices.toml", &text) {
            Ok(book) => prop_assert!(book.entries().all(|entry| !entry.regions.is_empty())),
            Err(problems) => {
                prop_assert!(problems.has_errors());
                for problem in problems.iter() {
                    prop_assert!(problem.label_spans().iter().all(|(span, _)| span.end <= text.len().max(1)));
                    prop_assert!(!problem.title().chars().any(batchplan_store::printable::affects_terminal));
                }
            }
        }
    }

    #[test]
    fn prices_are_exact(whole in 0..1_000_000_u64, decimals in "[0-9]{1,6}") {
        let text = RIGHT.replace("0.005", &format!("{whole}.{decimals}"));
        let book = PriceBook::from_toml("p", &text).expect("a price");
        let parts = book.get("mine").expect("an entry").prices[0].parts;
        prop_assert_eq!(parts, money(&format!("{whole}.{decimals} EUR")).parts());
    }
}
