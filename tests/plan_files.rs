//! The library's reader of plan files: what is in a plan, and that no text at all can upset it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use batchplan::diagnostics::FileProblems;
use batchplan::manifest::{FileLocation, InventorySelector, ListedVersions, ManifestSource, ReportRowFilter};
use batchplan::money::Money;
use batchplan::operation::Operation;
use batchplan::plan::{self, ExactShare, JobLimits, Plan, PriceSettings, WebhookEvent, WebhookTarget};
use batchplan::report_format::{ReportFormat, ReportScope};
use batchplan_store::{AddressingStyle, StoreProvider};
use jiff::Timestamp;
use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;

const NOW: &str = "2024-06-01T00:00:00Z";

fn read(text: &str) -> (Option<Plan>, FileProblems) {
    plan::read("plan.toml", text, Path::new("folder"), NOW.parse().expect("a time"))
}

fn valid(text: &str) -> Plan {
    let (plan, problems) = read(text);
    let titles: Vec<_> = problems.iter().map(|problem| problem.title().to_owned()).collect();
    plan.unwrap_or_else(|| panic!("{titles:?}\n{text}"))
}

/// A plan with this `[store]` and `[manifest...]`, and one operation.
fn plan_with(store: &str, manifest: &str) -> String {
    format!("name = \"work\"\n[store]\n{store}\n{manifest}\n[operation.delete_object_tagging]\n")
}

const AWS: &str = "provider = \"aws\"";
const PREFIX: &str = "[manifest.prefix]\nbucket = \"my-bucket\"";

#[test]
fn what_a_plan_does_not_say_has_its_default() {
    let plan = valid(&plan_with(AWS, PREFIX));
    assert_eq!((plan.name.as_str(), plan.description), ("work", None));
    assert_eq!((plan.store.provider, plan.store.addressing), (StoreProvider::Aws, AddressingStyle::Virtual));
    assert_eq!((plan.store.endpoint, plan.store.region), (None, None));
    let ManifestSource::Prefix { bucket, prefix, versions, .. } = plan.manifest.source else { panic!("a prefix") };
    assert_eq!((bucket.as_str(), prefix.as_bytes(), versions), ("my-bucket", &b""[..], ListedVersions::Current));
    assert_eq!(plan.operations, [Operation::DeleteTagging(None)]);
    assert_eq!((plan.report.location, plan.report.scope), (None, ReportScope::FailedTasksOnly));
    assert_eq!(plan.report.format, ReportFormat::Aws);
    assert!(plan.job.confirmation_required);
    assert_eq!((plan.limits, plan.prices), (JobLimits::default(), PriceSettings::default()));
    assert_eq!((plan.limits.failure_threshold, plan.limits.max_disk), (ExactShare::percent(20), None));
}

#[test]
fn webhooks_are_read_with_what_they_are_told_by_default() {
    let text = "[[notify]]\nurl = \"HTTPS://Hooks.example.com/a?b=s3cret\"\nsecret_env = \"HOOK\"\n\
                on = [\"active\", \"failed\", \"active\"]\nfailure_rate = 0.05\nrun_time = \"90m\"\n\
                [[notify]]\nurl_env = \"HOOK_URL\"\n";
    let plan = valid(&format!("{}\n{text}", plan_with(AWS, PREFIX)));
    let [first, second] = &plan.notify[..] else { panic!("two") };
    let WebhookTarget::Url(url) = &first.target else { panic!("a URL") };
    assert_eq!(url.full_url(), "https://hooks.example.com/a?b=s3cret");
    assert_eq!(
        (first.secret_env.as_deref(), &first.events[..]),
        (Some("HOOK"), &[WebhookEvent::Active, WebhookEvent::Failed][..])
    );
    assert_eq!((first.failure_rate, first.run_time), (Some(ExactShare::percent(5)), Some(Duration::from_mins(90))));
    assert_eq!(second.target, WebhookTarget::Variable("HOOK_URL".to_owned()));
    let by_default = [
        WebhookEvent::Suspended,
        WebhookEvent::Paused,
        WebhookEvent::Complete,
        WebhookEvent::Failed,
        WebhookEvent::Cancelled,
    ];
    assert_eq!((&second.events[..], second.failure_rate, second.run_time), (&by_default[..], None, None));
    assert!(!format!("{plan:?}").contains("s3cret"), "whoever knows the path and the query can write there");
    assert!(valid(&plan_with(AWS, PREFIX)).notify.is_empty());
}

#[test]
fn limits_and_what_becomes_of_the_report_are_read() {
    let limits = "[limits]\nfailure_threshold = 0\nmax_disk = \"1.5 KiB\"\n[report]\nbucket = \"my-bucket\"\n";
    let plan = valid(&format!("{}{limits}", plan_with(AWS, PREFIX)));
    assert_eq!(
        plan.limits,
        JobLimits { failure_threshold: ExactShare::percent(0), max_disk: Some(1536), ..JobLimits::default() }
    );
    assert!(plan.report.keep_local);
    assert!(!valid(&format!("{}{limits}keep_local = false\n", plan_with(AWS, PREFIX))).report.keep_local);
}

#[test]
fn what_a_job_may_cost_and_by_which_prices_is_read() {
    let prices = "[limits]\nmax_cost = \"12.50 CNY\"\n[prices]\nbook = \"mine\"\nfile = \"prices/mine.toml\"\n";
    let plan = valid(&format!("{}{prices}", plan_with(AWS, PREFIX)));
    assert_eq!(plan.limits.max_cost, Money::parse("12.5 CNY"));
    let file = Path::new("folder/prices/mine.toml").to_owned();
    assert_eq!(plan.prices, PriceSettings { book: Some("mine".to_owned()), file: Some(file) });
}

#[test]
fn each_provider_has_its_own_defaults() {
    for (store, addressing, region, format) in [
        (AWS, AddressingStyle::Virtual, None, ReportFormat::Aws),
        (
            "provider = \"oss\"\nendpoint = \"https://oss-cn-hangzhou.aliyuncs.com/\"\nregion = \"cn-hangzhou\"",
            AddressingStyle::Virtual,
            Some("cn-hangzhou"),
            ReportFormat::Oss,
        ),
        (
            "provider = \"s3\"\nendpoint = \"http://[::1]:9\"",
            AddressingStyle::Path,
            Some("us-east-1"),
            ReportFormat::Oss,
        ),
        ("provider = \"sandbox\"\ndata = \"state\"", AddressingStyle::Path, Some("us-east-1"), ReportFormat::Oss),
    ] {
        let plan = valid(&plan_with(store, PREFIX));
        assert_eq!((plan.store.addressing, plan.store.region.as_deref()), (addressing, region), "{store}");
        assert_eq!(plan.report.format, format, "{store}");
        assert!(plan.store.endpoint.is_none_or(|url| !url.ends_with('/')), "{store}");
    }
}

#[test]
fn paths_start_from_the_plans_folder() {
    let plan = valid(&plan_with("provider = \"sandbox\"\ndata = \"state\"", "[manifest.csv]\npath = \"o.csv\""));
    assert_eq!(plan.store.data.as_deref(), Some(Path::new("folder/state")));
    let ManifestSource::Csv { location: place, .. } = plan.manifest.source else { panic!("a CSV file") };
    assert_eq!(place, FileLocation::Local("folder/o.csv".into()));
}

#[test]
fn an_etag_loses_its_quotes() {
    let manifest = "[manifest.inventory]\nbucket = \"inv\"\nobject = \"a/manifest.json\"\netag = '\"0aB\"'";
    let ManifestSource::Inventory { selector: object, .. } = valid(&plan_with(AWS, manifest)).manifest.source else {
        panic!()
    };
    let InventorySelector::Exact { etag, .. } = object else { panic!("a manifest") };
    assert_eq!(etag.as_deref(), Some("0aB"));
}

#[test]
fn an_earlier_report_is_narrowed_by_status_and_code() {
    let report = "[manifest.report]\nbucket = \"audit\"\nobject = \"r/manifest.json\"\netag = '\"0aB\"'";
    let ManifestSource::Report { location: place, row_filter: narrowing } =
        valid(&plan_with(AWS, report)).manifest.source
    else {
        panic!()
    };
    let FileLocation::Object { bucket, key, etag } = place else { panic!("an object") };
    assert_eq!((bucket.as_str(), key.as_bytes()), ("audit", &b"r/manifest.json"[..]));
    assert_eq!((etag.as_deref(), narrowing), (Some("0aB"), ReportRowFilter::default()));

    let report = "[manifest.report]\npath = \"x.CSV.gz\"\nstatus = [403, 0x1f7]\ncode = [\"SlowDown\"]";
    let ManifestSource::Report { location: place, row_filter: narrowing } =
        valid(&plan_with(AWS, report)).manifest.source
    else {
        panic!()
    };
    assert_eq!(place, FileLocation::Local("folder/x.CSV.gz".into()));
    let expected = ReportRowFilter { status: Some(vec![403, 503]), code: Some(vec!["SlowDown".to_owned()]) };
    assert_eq!(narrowing, expected);
}

#[test]
fn a_filter_is_turned_into_bytes_instants_and_globs() {
    let filter = format!(
        "{PREFIX}\n[manifest.filter]\ninclude = [\"*.pdf\", \"a?b\"]\nexclude = [\"x/*\"]\nlarger_than = \"1.5 KiB\"\n\
         smaller_than = 0x1000\nmodified_after = 2024-01-31\nmodified_before = \"2024-05-31T08:00:00+08:00\"\n\
         older_than = \"4w\"\nstorage_class = [\"STANDARD\"]"
    );
    let filter = valid(&plan_with(AWS, &filter)).manifest.filter;
    let (include, exclude) = (filter.include.expect("globs"), filter.exclude.expect("globs"));
    assert!(include.is_match("deep/down/a.pdf") && include.is_match("a/b") && !include.is_match("a.pdf.bak"));
    assert!(exclude.is_match("x/y/z") && !exclude.is_match("y/x/z"));
    assert_eq!((filter.larger_than, filter.smaller_than), (Some(1536), Some(4096)));
    let instant = |text: &str| Some(text.parse::<Timestamp>().expect("a time"));
    assert_eq!(filter.modified_after, instant("2024-01-31T00:00:00Z"));
    assert_eq!(filter.modified_before, instant("2024-05-04T00:00:00Z"), "older_than is the earlier bound");
}

#[test]
fn the_order_of_tables_means_nothing() {
    let head = plan_with(AWS, PREFIX).replace("[operation.delete_object_tagging]", "");
    let acl = "[operation.put_object_acl]\nacl = \"private\"\n";
    let tags = "[operation.add_object_tagging]\ntags = { a = \"b\" }\n";
    let one = format!("{head}{acl}{tags}");
    let other = format!("name = \"work\"\n{tags}{acl}[store]\n{AWS}\n{PREFIX}\n");
    assert_eq!(valid(&one).operations, valid(&other).operations);
}

#[test]
fn a_warning_leaves_the_plan_and_an_error_takes_it() {
    let acl = "[operation.put_object_acl]\nacl = \"public-read\"\n";
    let (plan, problems) = read(&(plan_with(AWS, PREFIX).replace("[operation.delete_object_tagging]\n", acl)));
    assert!(plan.is_some() && problems.iter().count() == 1 && !problems.has_errors());
    let (plan, problems) = read(&plan_with("provider = \"s3\"", PREFIX));
    assert!(plan.is_none() && problems.has_errors());
}

#[test]
fn a_hostile_file_gets_a_short_answer() {
    let (plan, problems) = read(&"x".repeat(plan::MAX_PLAN_BYTES + 1));
    assert!(plan.is_none() && problems.iter().count() == 1);
    let keys: Vec<_> = (0..50_000).map(|n| format!("k{n} = 1")).collect();
    let (_, problems) = read(&keys.join("\n"));
    assert_eq!(problems.iter().count(), 101);
    assert_eq!(
        problems.iter().last().map(|problem| problem.title().to_owned()).as_deref(),
        Some("49904 more problems are not shown")
    );
    let (_, problems) = read(&format!("a = {}", "[".repeat(100_000)));
    assert_eq!(problems.iter().count(), 1);
}

/// Every file below `plans/` and every valid fixture.
fn good_plans() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["plans", "tests/fixtures/valid"].map(|folder| fs::read_dir(root.join(folder)).expect("the folder"));
    let paths = files.into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let mut plans: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    plans.sort();
    plans.iter().map(|path| fs::read_to_string(path).expect("a plan")).collect()
}

#[test]
fn a_stored_text_read_again_is_the_same_work() {
    for text in good_plans() {
        let plan = valid(&text);
        let later = "2031-01-01T00:00:00Z".parse().expect("a time");
        let (again, _) = plan::read_bytes("stored.toml", text.as_bytes(), Path::new("/another/place"), later);
        let again = again.expect("it is still valid");
        assert_eq!(plan.canonical().changes(again.canonical()), []);
        assert_eq!((plan.hash(), plan.identity()), (again.hash(), again.identity()));
    }
}

/// Holds for whatever was read: a plan or an error, labels inside the text, and messages that can be drawn.
fn check_any(text: &str) {
    let (plan, problems) = read(text);
    assert_eq!(plan.is_none(), problems.has_errors());
    for problem in problems.iter() {
        assert!(problem.hint().is_some() || problem.title().ends_with("not shown"), "{}", problem.title());
        for (span, _) in problem.label_spans() {
            assert!(span.start <= span.end && span.end <= text.len(), "{span:?} in {}", text.len());
            assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}");
        }
        let mut drawn = String::new();
        GraphicalReportHandler::new_themed(GraphicalTheme::none()).render_report(&mut drawn, problem).expect("drawn");
        assert!(drawn.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r')), "{drawn:?}");
    }
}

/// Pieces that plans are made of, and some that they should not be.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "[store]",
        "[manifest.csv]",
        "[manifest.report]",
        "status = [",
        "[[manifest]]",
        "tags = {",
        "}",
        "\"",
        "'''",
        "\"\"\"",
        "=",
        "\n",
        "\r",
        "\u{1b}",
        "é",
        "\u{feff}",
        "bucket",
        "secret = ",
        "endpoint = \"https://a:b@c\"",
        "9e99",
        "-1",
        "1979-05-27",
        "[",
        "]",
        ".",
        ",",
        "true",
        "\\u0000",
        "\u{202e}",
        "#",
        "{a,b",
        "\u{0}",
        "days = 99999999999999999999",
    ];
    prop_oneof![proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), any::<String>()]
}

/// A valid plan in which some bits are gone, doubled or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0_usize..40, proptest::option::of(piece()), any::<bool>());
    (proptest::sample::select(good_plans()), prop::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (at, length, put, twice) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
            let old = text[start..end].to_owned();
            let new = put.unwrap_or_default() + if twice { &old } else { "" } + if twice { &old } else { "" };
            text.replace_range(start..end, &new);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_upsets_the_reader(text in prop::collection::vec(piece(), 0..20).prop_map(|pieces| pieces.concat())) {
        check_any(&text);
    }

    #[test]
    fn no_change_to_a_plan_upsets_the_reader(text in mutated()) {
        check_any(&text);
    }

    #[test]
    fn no_bytes_upset_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (plan, problems) = plan::read_bytes("p", &bytes, Path::new(""), Timestamp::UNIX_EPOCH);
        prop_assert_eq!(plan.is_none(), problems.has_errors());
    }
}
