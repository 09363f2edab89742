use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::plan::Plan;

/// A plan as lines of `dotted.key = value`, each with equivalent spellings. The plan uses the first one.
type Lines = &'static [&'static [&'static str]];

const PREFIX: Lines = &[
    &["name = \"work\"", "name = \"renamed\""],
    &["store.provider = \"aws\""],
    &["store.region = \"eu-central-1\""],
    &["manifest.prefix.bucket = \"my-bucket\""],
    &["manifest.prefix.prefix = \"a/ü\"", "manifest.prefix.prefix = 'a/ü'", "manifest.prefix.prefix = \"a/\\u00fc\""],
    &["manifest.filter.include = [\"*.pdf\", \"a?\"]", "manifest.filter.include = [\"a?\", \"*.pdf\", \"a?\"]"],
    &["manifest.filter.exclude = ['x\\*']", "manifest.filter.exclude = [\"x\\\\*\"]"],
    &["manifest.filter.larger_than = \"1 MiB\"", "manifest.filter.larger_than = 0x10_0000"],
    &["manifest.filter.older_than = \"90d\"", "manifest.filter.older_than = \"2160 h\""],
    &["manifest.filter.modified_after = 2020-01-31", "manifest.filter.modified_after = \"2020-01-31T01:00:00+01:00\""],
    &[
        "manifest.filter.storage_class = [\"STANDARD\", \"GLACIER\"]",
        "manifest.filter.storage_class = ['GLACIER', 'STANDARD']",
    ],
    &["operation.add_object_tagging.tags.Team = \"DataOps\"", "operation.add_object_tagging.tags.\"Team\" = 'DataOps'"],
    &["operation.add_object_tagging.tags.\"a b\" = \"\""],
    &["operation.delete_object_tagging.keys = [\"x\", \"y\"]", "operation.delete_object_tagging.keys = [\"y\", \"x\"]"],
    &["operation.put_object_acl.acl = \"private\""],
    &["operation.restore_object.days = 7", "operation.restore_object.days = 0b111"],
];

const CSV: Lines = &[
    &["name = \"work\""],
    &["store.provider = \"s3\""],
    &["store.endpoint = \"https://s3.example.org\"", "store.endpoint = \"HTTPS://S3.example.org/\""],
    &["manifest.csv.bucket = \"my-bucket\""],
    &["manifest.csv.object = \"list.csv\""],
    &["manifest.csv.etag = \"0aB\"", "manifest.csv.etag = '\"0Ab\"'"],
    &["operation.delete_object_tagging = {}"],
    &["report.bucket = \"reports\""],
];

const LOCAL: Lines = &[
    &["name = \"work\""],
    &["store.provider = \"sandbox\""],
    &["store.data = \"state\""],
    &["manifest.csv.path = \"list.csv\""],
    &[
        "operation.put_object_tagging.tags = { a = \"1\", b = \"2\" }",
        "operation.put_object_tagging.tags = { b = '2', a = '1' }",
    ],
];

const REPORT: Lines = &[
    &["name = \"work\""],
    &["store.provider = \"s3\""],
    &["store.endpoint = \"https://s3.example.org\""],
    &["manifest.report.bucket = \"reports\""],
    &["manifest.report.object = \"r/manifest.json\""],
    &["manifest.report.etag = \"0aB\"", "manifest.report.etag = '\"0Ab\"'"],
    &["manifest.report.status = [404, 503]", "manifest.report.status = [503, 404, 503]"],
    &["manifest.report.code = [\"AccessDenied\"]", "manifest.report.code = [\"accessdenied\"]"],
    &["operation.delete_object_tagging = {}"],
];

const FAILED: Lines = &[
    &["name = \"work\""],
    &["store.provider = \"sandbox\""],
    &["store.data = \"state\""],
    &["manifest.report.path = \"report-1.csv\""],
    &["operation.delete_object_tagging = {}"],
];

const INVENTORY: Lines = &[
    &["name = \"work\""],
    &["store.provider = \"oss\""],
    &["store.endpoint = \"https://oss-cn-hangzhou.aliyuncs.com\""],
    &["store.region = \"cn-hangzhou\""],
    &["manifest.inventory.bucket = \"inventories\""],
    &["manifest.inventory.object = \"a/manifest.json\""],
    &["operation.put_object_acl.acl = \"default\""],
];

const LATEST: Lines = &[
    &["name = \"work\""],
    &["store.provider = \"aws\""],
    &["manifest.inventory.bucket = \"inventories\""],
    &["manifest.inventory.latest = \"daily/\""],
    &["operation.put_object_acl.acl = \"private\""],
    &["report.enabled = false"],
];

/// Defaults, and keys that are not covered: none of them changes the plan's identity.
const FREE: &[(Lines, &[&str])] = &[
    (
        PREFIX,
        &[
            "store.addressing = \"virtual\"",
            "store.allow_http = true",
            "store.skip_server_check = true",
            "manifest.prefix.versions = \"current\"",
            "manifest.prefix.on_unlistable = \"fail\"",
            "report = { enabled = false, bucket = \"unused\", scope = \"failed-tasks-only\", format = \"aws\" }",
            "job.priority = 7",
            "limits.concurrency = 1",
        ],
    ),
    (
        CSV,
        &[
            "description = \"two\\nlines\"",
            "store.region = \"us-east-1\"",
            "store.addressing = \"path\"",
            "manifest.csv.fields = [\"Bucket\", \"Key\"]",
            "manifest.csv.plus_is_space = false",
            "manifest.filter.exclude = []",
            "report.enabled = true",
            "report.prefix = \"\"",
            "report.scope = \"all-tasks\"",
            "report.format = \"oss\"",
            "report.keep_local = true",
            "job.client_request_token = \"t\"",
            "limits.max_cost = \"0.5 EUR\"",
            "prices = { book = \"mine\", file = \"prices.toml\" }",
            "state.url = \"s3://states/team\"",
        ],
    ),
    (
        LOCAL,
        &[
            "store.region = \"us-east-1\"",
            "store.addressing = \"path\"",
            "limits.max_disk = 1",
            "report.enabled = false",
        ],
    ),
    (
        INVENTORY,
        &["store.addressing = \"virtual\"", "report = { enabled = false }", "job.confirmation_required = false"],
    ),
    (LATEST, &["manifest.filter.exclude = []", "report.bucket = \"never-used\"", "limits.failure_threshold = 0.5"]),
];

fn read(text: &str) -> Plan {
    read_at(text, "2024-06-01T00:00:00Z", "folder")
}

fn read_at(text: &str, now: &str, folder: &str) -> Plan {
    let now: Timestamp = now.parse().expect("a time");
    let (plan, problems) = crate::plan::read("plan.toml", text, Path::new(folder), now);
    let titles: Vec<_> = problems.iter().map(|problem| problem.title().to_owned()).collect();
    plan.unwrap_or_else(|| panic!("{titles:?}\n{text}"))
}

fn written(lines: Lines) -> Vec<&'static str> {
    lines.iter().map(|ways| ways[0]).collect()
}

/// Returns the plan with one more line, which replaces the line of the same key.
fn with(lines: Lines, line: &str) -> Plan {
    let key = |line: &str| line.split(" = ").next().expect("a key").to_owned();
    let kept = written(lines).into_iter().filter(|old| key(old) != key(line)).chain([line]);
    read(&kept.collect::<Vec<_>>().join("\n"))
}

fn plan(lines: Lines) -> Plan {
    read(&written(lines).join("\n"))
}

#[test]
fn the_form_is_this_text_and_its_hash_stays() {
    let plan = plan(PREFIX);
    let form = r#"manifest.filter.exclude = "[\"x\\\\*\"]"
manifest.filter.include = "[\"*.pdf\",\"a?\"]"
manifest.filter.larger_than = "1048576"
manifest.filter.modified_after = "2020-01-31T00:00:00Z"
manifest.filter.older_than = "90d"
manifest.filter.storage_class = "[\"GLACIER\",\"STANDARD\"]"
manifest.prefix.bucket = "my-bucket"
manifest.prefix.prefix = "a/ü"
operation.add_object_tagging.tags."a b" = ""
operation.add_object_tagging.tags.Team = "DataOps"
operation.delete_object_tagging.keys = "[\"x\",\"y\"]"
operation.put_object_acl.acl = "private"
operation.restore_object.days = "7"
store.provider = "aws"
store.region = "eu-central-1"
"#;
    assert_eq!(plan.canonical().to_string(), form);
    // Hashes are stored in journals: if this one changed, every unfinished job would have another plan.
    assert_eq!(plan.hash(), "4237514303f21708ef190b8696d80f8b890d27303d16a95ac3d76d3fb4d8bb94");
}

/// Which keys are covered: a key of the schema, a plan, another line for the key, and the path that differs then;
/// `None` if the key is not covered.
const KEYS: &[(&str, Lines, &str, Option<&str>)] = &[
    ("recurring.only_changed", LATEST, "recurring.only_changed = true", Some("recurring.only_changed")),
    ("name", CSV, "name = \"other\"", None),
    ("description", CSV, "description = \"x\"", None),
    ("notify", CSV, "notify = [{ url = \"https://hooks.example.com/a\" }]", None),
    ("store.provider", CSV, "store.provider = \"aws\"", Some("store.provider")),
    ("store.endpoint", CSV, "store.endpoint = \"https://b.example.org\"", Some("store.endpoint")),
    ("store.region", PREFIX, "store.region = \"eu-west-1\"", Some("store.region")),
    ("store.addressing", CSV, "store.addressing = \"virtual\"", Some("store.addressing")),
    ("store.role_arn", CSV, "store.role_arn = \"arn:aws:iam:::role/Batch\"", Some("store.role_arn")),
    ("store.allow_http", CSV, "store.allow_http = true", None),
    ("store.requester_pays", CSV, "store.requester_pays = true", Some("store.requester_pays")),
    ("store.skip_server_check", CSV, "store.skip_server_check = true", None),
    ("store.data", LOCAL, "store.data = \"./state\"", Some("store.data")),
    ("store.fill", LOCAL, "store.fill = \"fill.csv\"", Some("store.fill")),
    ("manifest.prefix.bucket", PREFIX, "manifest.prefix.bucket = \"other\"", Some("manifest.prefix.bucket")),
    ("manifest.prefix.prefix", PREFIX, "manifest.prefix.prefix = \"\"", Some("manifest.prefix.prefix")),
    ("manifest.prefix.versions", PREFIX, "manifest.prefix.versions = \"all\"", Some("manifest.prefix.versions")),
    (
        "manifest.prefix.on_unlistable",
        PREFIX,
        "manifest.prefix.on_unlistable = \"report\"",
        Some("manifest.prefix.on_unlistable"),
    ),
    ("manifest.report.bucket", REPORT, "manifest.report.bucket = \"other\"", Some("manifest.report.bucket")),
    ("manifest.report.object", REPORT, "manifest.report.object = \"x.csv\"", Some("manifest.report.object")),
    ("manifest.report.etag", REPORT, "manifest.report.etag = \"0c\"", Some("manifest.report.etag")),
    ("manifest.report.path", FAILED, "manifest.report.path = \"x.csv\"", Some("manifest.report.path")),
    ("manifest.report.status", REPORT, "manifest.report.status = [403]", Some("manifest.report.status")),
    ("manifest.report.code", REPORT, "manifest.report.code = [\"SlowDown\"]", Some("manifest.report.code")),
    ("manifest.csv.bucket", CSV, "manifest.csv.bucket = \"other\"", Some("manifest.csv.bucket")),
    ("manifest.csv.object", CSV, "manifest.csv.object = \"x.csv\"", Some("manifest.csv.object")),
    ("manifest.csv.etag", CSV, "manifest.csv.etag = \"0c\"", Some("manifest.csv.etag")),
    ("manifest.csv.path", LOCAL, "manifest.csv.path = \"x.csv\"", Some("manifest.csv.path")),
    ("manifest.csv.fields", CSV, "manifest.csv.fields = [\"Key\", \"Bucket\"]", Some("manifest.csv.fields")),
    ("manifest.csv.plus_is_space", CSV, "manifest.csv.plus_is_space = true", Some("manifest.csv.plus_is_space")),
    ("manifest.inventory.bucket", LATEST, "manifest.inventory.bucket = \"other\"", Some("manifest.inventory.bucket")),
    (
        "manifest.inventory.object",
        INVENTORY,
        "manifest.inventory.object = \"manifest.json\"",
        Some("manifest.inventory.object"),
    ),
    ("manifest.inventory.etag", INVENTORY, "manifest.inventory.etag = \"0a\"", Some("manifest.inventory.etag")),
    ("manifest.inventory.latest", LATEST, "manifest.inventory.latest = \"weekly/\"", Some("manifest.inventory.latest")),
    ("manifest.filter.include", LATEST, "manifest.filter.include = [\"*\"]", Some("manifest.filter.include")),
    ("manifest.filter.exclude", PREFIX, "manifest.filter.exclude = []", Some("manifest.filter.exclude")),
    ("manifest.filter.larger_than", LATEST, "manifest.filter.larger_than = 0", Some("manifest.filter.larger_than")),
    (
        "manifest.filter.smaller_than",
        LATEST,
        "manifest.filter.smaller_than = \"1B\"",
        Some("manifest.filter.smaller_than"),
    ),
    (
        "manifest.filter.modified_after",
        PREFIX,
        "manifest.filter.modified_after = 2020-02-01",
        Some("manifest.filter.modified_after"),
    ),
    (
        "manifest.filter.modified_before",
        LATEST,
        "manifest.filter.modified_before = 2020-02-01",
        Some("manifest.filter.modified_before"),
    ),
    (
        "manifest.filter.older_than",
        PREFIX,
        "manifest.filter.older_than = \"2161h\"",
        Some("manifest.filter.older_than"),
    ),
    (
        "manifest.filter.storage_class",
        LATEST,
        "manifest.filter.storage_class = [\"GLACIER\"]",
        Some("manifest.filter.storage_class"),
    ),
    (
        "operation.put_object_tagging.tags",
        LOCAL,
        "operation.put_object_tagging.tags = { a = \"1\", b = \"3\" }",
        Some("operation.put_object_tagging.tags.b"),
    ),
    (
        "operation.add_object_tagging.tags",
        INVENTORY,
        "operation.add_object_tagging.tags = { \"a.b\" = \"c\" }",
        Some("operation.add_object_tagging.tags.\"a.b\""),
    ),
    (
        "operation.delete_object_tagging.keys",
        PREFIX,
        "operation.delete_object_tagging.keys = [\"x\"]",
        Some("operation.delete_object_tagging.keys"),
    ),
    (
        "operation.put_object_acl.acl",
        INVENTORY,
        "operation.put_object_acl.acl = \"private\"",
        Some("operation.put_object_acl.acl"),
    ),
    (
        "operation.restore_object.days",
        PREFIX,
        "operation.restore_object.days = 8",
        Some("operation.restore_object.days"),
    ),
    (
        "operation.restore_object.tier",
        PREFIX,
        "operation.restore_object.tier = \"Standard\"",
        Some("operation.restore_object.tier"),
    ),
    ("report.enabled", CSV, "report.enabled = false", Some("report.bucket")),
    ("report.bucket", CSV, "report.bucket = \"other\"", Some("report.bucket")),
    ("report.prefix", CSV, "report.prefix = \"r\"", Some("report.prefix")),
    ("report.scope", CSV, "report.scope = \"failed-tasks-only\"", Some("report.scope")),
    ("report.format", CSV, "report.format = \"aws\"", Some("report.format")),
    ("report.keep_local", CSV, "report.keep_local = false", Some("report.keep_local")),
    ("job.priority", CSV, "job.priority = 7", None),
    ("job.confirmation_required", CSV, "job.confirmation_required = false", None),
    ("job.client_request_token", CSV, "job.client_request_token = \"t\"", None),
    ("job.skip_unchanged", CSV, "job.skip_unchanged = true", None),
    ("limits.concurrency", CSV, "limits.concurrency = 1", None),
    ("limits.requests_per_second", CSV, "limits.requests_per_second = 1", None),
    ("limits.failure_threshold", CSV, "limits.failure_threshold = 1", None),
    ("limits.max_disk", CSV, "limits.max_disk = 1", None),
    ("limits.max_objects", CSV, "limits.max_objects = 1", None),
    ("limits.max_cost", CSV, "limits.max_cost = \"50 CNY\"", None),
    ("prices.book", CSV, "prices.book = \"aws-us-east-1\"", None),
    ("prices.file", CSV, "prices.file = \"prices.toml\"", None),
    ("state.url", CSV, "state.url = \"s3://states/team\"", None),
    ("undo.capture", CSV, "undo.capture = false", None),
    ("undo.keep", CSV, "undo.keep = \"90d\"", None),
];

#[test]
fn a_covered_key_makes_another_plan_and_no_other_key_does() {
    for (key, lines, line, difference) in KEYS {
        let (old, new) = (plan(lines), with(lines, line));
        let changes = old.canonical().changes(new.canonical());
        let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, difference.iter().copied().collect::<Vec<_>>(), "{key}");
        assert_eq!(old.hash() == new.hash(), difference.is_none(), "{key}");
    }
}

#[test]
fn every_key_of_the_schema_is_in_the_table() {
    let mut keys = Vec::new();
    collect_keys(&crate::plan::schema(), "", &mut keys);
    let known: Vec<_> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    keys.sort();
    let mut sorted = known.clone();
    sorted.sort();
    assert_eq!(keys, sorted, "does a new key count, or does it not?");
}

/// Collects the dotted paths of all keys in the schema that are not tables.
fn collect_keys(schema: &Json, path: &str, keys: &mut Vec<String>) {
    match schema.get("properties").and_then(Json::as_object) {
        None => keys.push(path.to_owned()),
        Some(properties) => {
            for (name, inner) in properties {
                let dot = if path.is_empty() { "" } else { "." };
                collect_keys(inner, &format!("{path}{dot}{name}"), keys);
            }
        }
    }
}

#[test]
fn neither_the_day_nor_the_folder_makes_another_plan() {
    for lines in [PREFIX, LOCAL] {
        let text = written(lines).join("\n");
        let one = read_at(&text, "2024-06-01T00:00:00Z", "folder");
        let other = read_at(&text, "2025-01-01T00:00:00Z", "/elsewhere/checkout");
        assert_eq!((one.hash(), one.identity()), (other.hash(), other.identity()));
    }
}

#[test]
fn a_change_names_the_value_and_what_became_of_it() {
    let old = plan(LOCAL);
    let new = with(LOCAL, "operation.put_object_tagging.tags = { a = \"2\", c = \"3\" }");
    let told: Vec<_> = old.canonical().changes(new.canonical()).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "operation.put_object_tagging.tags.a: `1` is now `2`",
            "operation.put_object_tagging.tags.b: was `2`, is not set now",
            "operation.put_object_tagging.tags.c: was not set, is now `3`",
        ]
    );
    let some = with(CSV, "operation.delete_object_tagging = { keys = [\"all\"] }");
    let told: Vec<_> = plan(CSV).canonical().changes(some.canonical()).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["operation.delete_object_tagging.keys: `all` is now `[\"all\"]`"]);
}

#[test]
fn the_work_is_named_by_its_token_or_by_store_and_name() {
    for (lines, identity) in [
        (PREFIX, r#"["plan","aws","eu-central-1","work"]"#),
        (CSV, r#"["plan","s3","https://s3.example.org","work"]"#),
        (LOCAL, r#"["plan","sandbox","state","work"]"#),
        (INVENTORY, r#"["plan","oss","https://oss-cn-hangzhou.aliyuncs.com","work"]"#),
        (LATEST, r#"["plan","aws","","work"]"#),
    ] {
        assert_eq!(plan(lines).identity(), identity);
        assert_eq!(with(lines, "job.client_request_token = 'a\"b'").identity(), r#"["token","a\"b"]"#);
        assert_ne!(with(lines, "name = \"other\"").identity(), identity);
        let limited = with(lines, "limits.concurrency = 2");
        assert_eq!(limited.identity(), identity);
    }
    let forged = with(CSV, "job.client_request_token = 'plan\",\"s3\",\"https://s3.example.org\",\"work'");
    assert_ne!(forged.identity(), plan(CSV).identity());
    let region = with(CSV, "store.region = \"eu-west-1\"");
    assert_eq!(region.identity(), plan(CSV).identity(), "the same server, told apart by the hash");
}

/// The same plan written differently: lines in any order, dotted keys or tables, other spellings, with defaults and
/// comments.
fn rewritten() -> impl Strategy<Value = (Lines, String)> {
    proptest::sample::select(FREE).prop_flat_map(|(lines, free)| {
        let ways: Vec<_> = lines.iter().map(|ways| proptest::sample::select(*ways)).collect();
        let free = proptest::sample::subsequence(free, 0..=free.len());
        (ways, free, any::<bool>(), any::<bool>()).prop_flat_map(move |(mut all, free, tables, comments)| {
            // A key can be set only once.
            all.retain(|line| !free.iter().any(|other| other.split(' ').next() == line.split(' ').next()));
            all.extend(free);
            Just(all).prop_shuffle().prop_map(move |all| (lines, render(&all, tables, comments)))
        })
    })
}

fn render(lines: &[&str], tables: bool, comments: bool) -> String {
    let note = if comments { " # noted" } else { "" };
    let dotted = |line: &&str| format!("{line}{note}\n");
    if !tables {
        return lines.iter().map(dotted).collect();
    }
    let mut below: BTreeMap<&str, String> = BTreeMap::new();
    let mut order = Vec::new();
    for line in lines {
        let end = line.find(['"', '=']).expect("an equals sign");
        let (header, rest) =
            line[..end].rsplit_once('.').map_or(("", *line), |(header, _)| (header, &line[header.len() + 1..]));
        if !order.contains(&header) && !header.is_empty() {
            order.push(header);
        }
        below.entry(header).or_default().push_str(&dotted(&rest));
    }
    let root = below.get("").cloned().unwrap_or_default();
    order.iter().fold(root, |text, header| format!("{text}{note}\n[{header}]{note}\n{}", below[header]))
}

/// Tags of a few unusual characters, so that many are nearly equal.
fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[ab.\\\\\"\n =]{1,2}", "[ab.\\\\\"\n =]{0,2}", 1..3)
}

fn tagging(tags: &BTreeMap<String, String>) -> Plan {
    let tags: Vec<_> =
        tags.iter().map(|(key, value)| format!("{} = {}", Json::from(&**key), Json::from(&**value))).collect();
    let text = written(CSV).join("\n");
    let tags = format!("operation.put_object_tagging.tags = {{ {} }}", tags.join(", "));
    read(&text.replace("operation.delete_object_tagging = {}", &tags))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_the_same_however_it_is_written((lines, text) in rewritten()) {
        let (one, other) = (plan(lines), read(&text));
        prop_assert_eq!(one.canonical().changes(other.canonical()), vec![]);
        prop_assert_eq!(one.hash(), other.hash());
    }

    #[test]
    fn plans_with_other_values_have_other_hashes(one in tags(), other in tags()) {
        let (a, b) = (tagging(&one), tagging(&other));
        prop_assert_eq!(a.hash() == b.hash(), one == other);
        prop_assert_eq!(a.canonical().changes(b.canonical()).is_empty(), one == other);
    }
}

#[test]
fn every_operation_has_a_key_in_plans_and_is_part_of_the_form() {
    let schema = crate::plan::schema();
    let keys = schema["properties"]["operation"]["properties"].as_object().expect("the operations");
    for (operation, _) in Operation::examples() {
        let mut form = CanonicalForm::default();
        form.operation(&operation);
        let prefix = format!("operation.{}.", operation.name());
        assert!(form.iter().next().is_some() && form.iter().all(|(path, _)| path.starts_with(&prefix)), "{form}");
        assert!(keys.contains_key(operation.name()), "{}", operation.name());
    }
    assert_eq!(keys.len(), Operation::DESCRIPTORS.len());
}

fn described_change(before: Option<&str>, after: Option<&str>) -> String {
    let path = "operation.put_object_tagging.tags.Team".to_owned();
    let change = PlanChange { path, before: before.map(str::to_owned), after: after.map(str::to_owned) };
    change.to_string().strip_prefix("operation.put_object_tagging.tags.Team: ").expect("the path").to_owned()
}

#[test]
fn a_change_is_told_in_one_sentence() {
    assert_eq!(described_change(Some("DataOps"), Some("Data")), "`DataOps` is now `Data`");
    assert_eq!(described_change(None, Some("Data")), "was not set, is now `Data`");
    assert_eq!(described_change(Some("DataOps"), None), "was `DataOps`, is not set now");
    assert_eq!(described_change(Some(""), Some("x\u{1b}[2J")), "`` is now `x\\u{1b}[2J`");
}

#[test]
fn a_long_value_is_cut_and_its_difference_is_shown() {
    let long = "x".repeat(100);
    assert_eq!(described_change(None, Some(&long)), format!("was not set, is now `{}…`", "x".repeat(60)));
    let lead = "x".repeat(20);
    assert_eq!(
        described_change(Some(&format!("{long}old")), Some(&format!("{long}new"))),
        format!("`…{lead}old` is now `…{lead}new`")
    );
    assert_eq!(described_change(Some(&long), Some("y")), format!("`{}…` is now `y`", "x".repeat(60)));
    assert_eq!(described_change(Some(&long), Some(&long[..70])), format!("`…{}` is now `…{lead}`", "x".repeat(50)));
}
