//! Stores that differ from AWS and OSS, each in a way that was reported of one, with the real binary at work on them.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::bucket::{BucketServer, Faults, Kind, Manner, Nature, Object};

const PUT: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
const ADD: &str = "[operation.add_object_tagging]\ntags = { t = \"1\" }\n";
const DELETE: &str = "[operation.delete_object_tagging]\n";
const DELETE_KEY: &str = "[operation.delete_object_tagging]\nkeys = [\"old\"]\n";
const ALL: &str = "[manifest.prefix]\nbucket = \"bkt\"\n";
const APPLY: [&str; 4] = ["apply", "plan.toml", "--auto-approve", "--json"];

/// A folder with a plan, and a server with the bucket `bkt`.
struct Place {
    folder: tempfile::TempDir,
    server: BucketServer,
}

/// What a run of the binary came to.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(format!("{}{}", self.stdout, self.stderr).contains(text), "{text}: {}\n{}", self.stdout, self.stderr);
        self
    }
}

impl Place {
    fn new() -> Self {
        let server = BucketServer::start(&["bkt"], 1000, Faults::default(), 0);
        Self { folder: tempfile::tempdir().expect("a folder"), server }
    }

    /// A bucket with two objects, of which one has tags.
    fn with_two_objects() -> Self {
        let place = Self::new();
        let tags = [("old".to_owned(), "1".to_owned())].into();
        place.server.put("bkt", "a", Object { body: "first".into(), ..Object::default() });
        place.server.put("bkt", "b", Object { body: "second".into(), tags, ..Object::default() });
        place
    }

    /// Writes `plan.toml` for a provider, which has these lines in `[store]`.
    fn plan(&self, provider: &str, store: &str, rest: &str) {
        let region = if provider == "oss" { "cn-hangzhou" } else { "us-east-1" };
        let text = format!(
            "name = \"t\"\n[store]\nprovider = \"{provider}\"\nendpoint = \"{}\"\nregion = \"{region}\"\naddressing = \"path\"\n\
             {store}{rest}",
            self.server.endpoint()
        );
        fs::write(self.folder.path().join("plan.toml"), text).expect("written");
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"] {
            command.env(name, "hushhush");
        }
        let output = command.output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The action of `plan` for each object, with the code of a failure.
    fn predicted(&self) -> Vec<(String, String)> {
        let ran = self.run(&["plan", "plan.toml", "--all", "--json"]).ended(0);
        let objects = ran.stdout.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
        let objects = objects.filter(|object| object["key"].is_string());
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        objects
            .map(|object| {
                let code = text(&object["code"]);
                (text(&object["key"]), if code.is_empty() { text(&object["action"]) } else { code })
            })
            .collect()
    }
}

/// Versity S3 Gateway (<https://github.com/versity/versitygw/issues/1686>) and others.
#[test]
fn no_tag_set_is_an_empty_one_to_every_command() {
    for provider in ["s3", "oss"] {
        for (operation, expected) in [(PUT, &["t"][..]), (ADD, &["t"]), (DELETE, &[]), (DELETE_KEY, &[])] {
            for job in ["", "[job]\nskip_unchanged = true\n"] {
                let place = Place::with_two_objects();
                place.server.turn(Nature::NoTagSet);
                place.plan(provider, "", &format!("{ALL}{operation}{job}"));
                let _ = place.run(&["check", "plan.toml", "--write-probe", "a"]).ended(0);
                let planned = place.run(&["plan", "plan.toml", "--full", "--json"]).ended(0).json();
                for none in ["fail", "unknown"] {
                    assert_eq!(planned["counts"][none]["likely"], 0, "{provider} {operation}: {planned}");
                }
                let applied = place.run(&APPLY).ended(0).json();
                assert_eq!(applied["succeeded"], 2, "{provider} {operation}: {applied}");
                let tags = place.server.state("bkt", "a").expect("it is there").tags;
                assert_eq!(tags.keys().collect::<Vec<_>>(), expected, "{provider} {operation}");
            }
        }
    }
}

/// Servers without tags, and buckets that are elsewhere.
#[test]
fn what_a_server_supports_for_no_object_is_foretold() {
    for (status, code) in [
        (501, "NotImplemented"),
        (405, "MethodNotAllowed"),
        (301, "PermanentRedirect"),
        (400, "MethodNotAllowed"),
        (403, "XNotImplemented"),
    ] {
        for provider in ["s3", "oss"] {
            let place = Place::with_two_objects();
            place.server.behave(move |seen| match seen.kind {
                Kind::GetTags | Kind::PutTags => Manner::Refuse(status, code),
                _ => Manner::Serve,
            });
            let undo = "[undo]\ncapture = false\n";
            place.plan(provider, "skip_server_check = true\n", &format!("{undo}{ALL}{PUT}"));
            let foretold = [("a", code), ("b", code)].map(|(key, code)| (key.to_owned(), code.to_owned()));
            assert_eq!(place.predicted(), foretold, "{provider} {status}");
            let shown =
                place.run(&["plan", "plan.toml"]).ended(0).says("2 objects: 0 to change, 0 unchanged, 2 would fail");
            assert!(shown.stdout.contains("more objects would fail than failure_threshold allows"), "{}", shown.stdout);
            let checked = place.run(&["check", "plan.toml"]).ended(6).says("refused      read the tags of bkt/a");
            assert!(checked.stdout.contains(&format!("{status} {code}")), "{}", checked.stdout);
            assert!(!format!("{}{}", checked.stdout, checked.stderr).contains("next: batchplan apply"));
            let applied = place.run(&APPLY).json();
            assert_eq!(applied["succeeded"], 0, "{applied}");
        }
    }
}

/// A listing of the two objects, whose entries have this besides their keys.
fn listing(fields: &str, rest: &str) -> String {
    let entry = |key: &str| format!("<Contents><Key>{key}</Key>{fields}</Contents>");
    format!("<ListBucketResult>{}{}{rest}</ListBucketResult>", entry("a"), entry("b"))
}

fn place_that_lists(provider: &str, listing: String, rest: &str) -> Place {
    let place = Place::with_two_objects();
    place.server.behave(move |seen| match seen.kind {
        Kind::List => Manner::Say(200, listing.clone()),
        _ => Manner::Serve,
    });
    place.plan(provider, "skip_server_check = true\n", rest);
    place
}

#[test]
fn a_listing_need_not_say_more_than_the_plan_needs() {
    for provider in ["s3", "oss"] {
        for fields in ["", "<Size>-1</Size>", "<LastModified>yesterday</LastModified><Size/>"] {
            let place = place_that_lists(provider, listing(fields, ""), &format!("{ALL}{PUT}"));
            let planned = place.run(&["plan", "plan.toml", "--json"]).ended(0).json();
            assert_eq!(planned["objects"], 2, "{provider} {fields}: {planned}");
            assert_eq!(place.run(&APPLY).ended(0).json()["succeeded"], 2, "{provider} {fields}");
        }
        for (filter, key, fact) in [
            ("larger_than = \"1 B\"", "`larger_than`", "size"),
            ("smaller_than = \"1 GB\"", "`smaller_than`", "size"),
            ("modified_after = 2020-01-01", "`modified_after`", "last-modified date"),
            ("older_than = \"1d\"", "`older_than`", "last-modified date"),
        ] {
            let rest = format!("{ALL}[manifest.filter]\n{filter}\n{PUT}");
            let place = place_that_lists(provider, listing("", ""), &rest);
            for (args, code) in [(&["plan", "plan.toml"][..], 1), (&APPLY, 4)] {
                let ran = place.run(args).ended(code);
                let said = format!("{}{}", ran.stdout, ran.stderr);
                assert!(said.contains(key) && said.contains(&format!("needs the object's {fact}")), "{said}");
                assert!(said.contains("the listing of bkt/ has none for a"), "{said}");
            }
            assert_eq!(place.server.count(Kind::PutTags).arrived, 0);
        }
    }
}

/// `s3rver` writes RFC 1123 (<https://github.com/jamhall/s3rver/issues/181>).
#[test]
fn dates_of_listings_come_in_several_forms() {
    let rest = format!("{ALL}[manifest.filter]\nmodified_after = 2024-01-01\nmodified_before = 2024-02-01\n{PUT}");
    for date in ["Mon, 15 Jan 2024 10:00:00 GMT", "2024-01-15T10:00:00", "2024-01-15T10:00:00.000Z"] {
        let fields = format!("<LastModified>{date}</LastModified>");
        let place = place_that_lists("s3", listing(&fields, ""), &rest);
        assert_eq!(place.run(&APPLY).ended(0).json()["succeeded"], 2, "{date}");
    }
}

#[test]
fn a_listing_that_promises_more_and_does_not_say_where_is_refused() {
    for (rest, why) in [
        ("<IsTruncated>true</IsTruncated>", "it is truncated but has no continuation marker"),
        ("<NextMarker>b</NextMarker>", "it continues at a marker of version 1 of ListObjects"),
        ("<MaxKeys>2</MaxKeys>", "it is full, but does not say whether it is truncated"),
    ] {
        let place = place_that_lists("s3", listing("<Size>1</Size>", rest), &format!("{ALL}{PUT}"));
        for (args, code) in [(&["plan", "plan.toml"][..], 1), (&APPLY, 4)] {
            let _ = place.run(args).ended(code).says(why);
        }
        assert_eq!(place.server.count(Kind::PutTags).arrived, 0);
    }
}

/// A token without `IsTruncated` is followed: the objects behind it are not missed.
#[test]
fn a_token_is_followed_without_a_word_about_it() {
    let place = Place::with_two_objects();
    let mut pages = 0;
    place.server.behave(move |seen| {
        if seen.kind != Kind::List {
            return Manner::Serve;
        }
        pages += 1;
        let (key, token) =
            if pages % 2 == 1 { ("a", "<NextContinuationToken>t</NextContinuationToken>") } else { ("b", "") };
        Manner::Say(200, format!("<ListBucketResult><Contents><Key>{key}</Key></Contents>{token}</ListBucketResult>"))
    });
    place.plan("s3", "skip_server_check = true\n", &format!("{ALL}{PUT}"));
    assert_eq!(place.run(&APPLY).ended(0).json()["succeeded"], 2);
}

/// Objects of several classes, of which each restore fails for some (<https://github.com/s3tools/s3cmd/issues/1377>).
#[test]
fn restores_that_fail_for_a_class_are_foretold_for_each_object() {
    let days = "days = 3\n";
    let fast = "days = 3\ntier = \"Expedited\"\n";
    for (settings, expected) in [
        (days, ["change", "change", "InvalidObjectState", "InvalidArgument", "InvalidArgument", "InvalidObjectState"]),
        (
            fast,
            [
                "InvalidArgument",
                "change",
                "InvalidObjectState",
                "InvalidArgument",
                "InvalidArgument",
                "InvalidObjectState",
            ],
        ),
        (
            "",
            [
                "MalformedXML",
                "MalformedXML",
                "InvalidObjectState",
                "ObjectAlreadyInActiveTierError",
                "change",
                "InvalidObjectState",
            ],
        ),
    ] {
        let place = Place::new();
        for (key, class, archive_status) in [
            ("deep", "DEEP_ARCHIVE", ""),
            ("glacier", "GLACIER", ""),
            ("instant", "GLACIER_IR", ""),
            ("smart", "INTELLIGENT_TIERING", ""),
            ("smart-archived", "INTELLIGENT_TIERING", "ARCHIVE_ACCESS"),
            ("standard", "STANDARD", ""),
        ] {
            let (class, archive_status) = (class.to_owned(), archive_status.to_owned());
            place.server.put("bkt", key, Object { class, archive_status, body: "x".into(), ..Object::default() });
        }
        let rest = format!("{ALL}[operation.restore_object]\n{settings}[limits]\nfailure_threshold = 1\n");
        place.plan("aws", "skip_server_check = true\n", &rest);
        let found: Vec<_> = place.predicted().into_iter().map(|(_, found)| found).collect();
        assert_eq!(found, expected, "{settings}");
        // The model takes any restore of an object that is not of INTELLIGENT_TIERING, so only these are compared.
        let _ = place.run(&APPLY).ended(3);
        let restored = |key: &str| place.server.state("bkt", key).expect("it is there").restoring;
        assert_eq!(restored("smart"), None, "{settings}");
        assert_eq!(restored("smart-archived"), settings.is_empty().then_some(0), "{settings}");
        assert_eq!(restored("glacier"), (!settings.is_empty()).then_some(3), "{settings}");
    }
}
