//! `batchplan import` and `batchplan export`: the services' own requests become plans and come back as they were, and
//! what either side cannot say is refused by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value as Json;
use tempfile::TempDir;

/// What the XML of a request does not say.
const FLAGS: [&str; 6] =
    ["--name", "work", "--region", "cn-hangzhou", "--endpoint", "https://oss-cn-hangzhou.aliyuncs.com"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/interchange")
}

/// The files of a folder with this ending, in order.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted));
    let mut files: Vec<_> = entries.filter(wanted).collect();
    files.sort();
    files
}

/// Runs the program in a folder with an empty environment.
fn batchplan(folder: &Path, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_batchplan"));
    program.args(args).current_dir(folder).env_clear().stdin(Stdio::null()).output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8(output.stdout.clone()).expect("data is UTF-8")
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

/// A document as a tree whose siblings are in an order of their own, as they mean the same in any.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

fn tree(document: &str) -> Element {
    let mut reader = Reader::from_str(document);
    let mut open = vec![Element { name: String::new(), text: String::new(), children: Vec::new() }];
    loop {
        let start = |element: &quick_xml::events::BytesStart<'_>| {
            let name = String::from_utf8(element.name().as_ref().to_vec()).expect("a name");
            Element { name, text: String::new(), children: Vec::new() }
        };
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => open.push(start(&element)),
            Event::Empty(element) => open.last_mut().expect("a parent").children.push(start(&element)),
            Event::Text(text) => open.last_mut().expect("a parent").text.push_str(&text.xml10_content().expect("text")),
            Event::End(_) => {
                let mut element = open.pop().expect("an element");
                element.children.sort();
                element.text = String::from(element.text.trim());
                open.last_mut().expect("a parent").children.push(element);
            }
            Event::Eof => break,
            Event::Decl(_) => {}
            other => panic!("no request has {other:?}"),
        }
    }
    let mut root = open.pop().expect("the document");
    assert_eq!((open.len(), root.children.len()), (0, 1), "one root");
    root.children.remove(0)
}

/// Imports a request into `work.toml` of a new folder, and checks the plan as a user would.
fn imported(request: &Path, flags: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let request = request.to_str().expect("UTF-8");
    let output = batchplan(folder.path(), &[&["import", request, "--out", "work.toml"], flags].concat());
    assert_eq!(output.status.code(), Some(0), "{request}: {}", said(&output));
    let output = batchplan(folder.path(), &["validate", "work.toml"]);
    assert_eq!(printed(&output), "1 plan, 1 valid\n", "{request}: {}", said(&output));
    folder
}

#[test]
fn each_sample_of_oss_comes_back_as_it_was() {
    let samples = files(&fixtures(), &["xml"]);
    assert_eq!(samples.len(), 15);
    for sample in samples {
        let folder = imported(&sample, &FLAGS);
        let document = printed(&batchplan(folder.path(), &["export", "work.toml", "--format", "oss-xml"]));
        let before = fs::read_to_string(&sample).expect("a sample");
        assert_eq!(tree(&document), tree(&before), "{}", name(&sample));
    }
}

#[test]
fn each_input_of_aws_comes_back_as_it_was() {
    let inputs = files(&fixtures().join("aws"), &["json"]);
    assert!(inputs.len() >= 4);
    for input in inputs {
        let before = fs::read_to_string(&input).expect("an input");
        let region = if before.contains("arn:aws-cn:") { "cn-north-1" } else { "eu-central-1" };
        let folder = imported(&input, &["--name", "work", "--region", region]);
        let document = printed(&batchplan(folder.path(), &["export", "work.toml", "--format", "aws-json"]));
        let parsed = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
        assert_eq!(parsed(&document), parsed(&before), "{}", name(&input));
    }
}

/// Compares what is said with the file beside it; with `UPDATE_EXPECTED` set, writes that file instead.
fn compare(beside: &Path, said: &str) -> Option<String> {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(beside, said).expect("written");
    }
    let expected = fs::read_to_string(beside).unwrap_or_default();
    (expected != said).then(|| format!("{}\n--- expected\n{expected}\n--- said\n{said}", name(beside)))
}

#[test]
fn what_no_plan_comes_of_is_refused_by_name() {
    let folder = fixtures().join("refused");
    let mut different = Vec::new();
    for request in files(&folder, &["xml", "json"]) {
        let output = batchplan(&folder, &[&["import", name(&request)], &FLAGS[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}: {}", name(&request), said(&output));
        assert!(output.stdout.is_empty(), "{}", name(&request));
        let beside = folder.join(format!("{}.stderr", name(&request)));
        different.extend(compare(&beside, &said(&output)));
    }
    assert!(different.is_empty(), "UPDATE_EXPECTED=1 rewrites these:\n{}", different.join("\n"));
}

#[test]
fn what_no_request_comes_of_is_refused_by_name() {
    let folder = fixtures().join("unsaid");
    let mut different = Vec::new();
    let plans = files(&folder, &["toml"]);
    assert!(!plans.is_empty());
    for plan in plans {
        let format = if name(&plan).contains("aws") { "aws-json" } else { "oss-xml" };
        let output = batchplan(&folder, &["export", name(&plan), "--format", format, "--out", "requests"]);
        assert_eq!(output.status.code(), Some(2), "{}: {}", name(&plan), said(&output));
        assert!(output.stdout.is_empty() && !folder.join("requests").exists(), "{}", name(&plan));
        different.extend(compare(&plan.with_extension("stderr"), &said(&output)));
    }
    assert!(different.is_empty(), "UPDATE_EXPECTED=1 rewrites these:\n{}", different.join("\n"));
}

#[test]
fn a_huge_file_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    for text in ["x".repeat(2 << 20), format!("<CreateJobRequest>{}</CreateJobRequest>", "y".repeat(2 << 20))] {
        fs::write(folder.path().join("huge.xml"), text).expect("written");
        let output = batchplan(folder.path(), &[&["import", "huge.xml"], &FLAGS[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("the file is too large for a request"), "{}", said(&output));
        assert!(said(&output).len() < 1000, "{}", said(&output));
    }
}

#[test]
fn a_request_says_what_it_misses_by_flag() {
    let sample = fixtures().join("restore-prefix.xml");
    let output = batchplan(&fixtures(), &["import", sample.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2));
    for flag in ["--name", "--endpoint", "--region"] {
        assert!(said(&output).contains(&format!("`{flag}` is missing")), "{}", said(&output));
    }
    let flags = ["--name", "work", "--region", "oss-cn-hangzhou", "--endpoint", "oss-cn-hangzhou.aliyuncs.com"];
    let output = batchplan(&fixtures(), &[&["import", "restore-prefix.xml"], &flags[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    for flag in ["`--endpoint`: invalid endpoint", "`--region`: this is an endpoint name, not a region"] {
        assert!(said(&output).contains(flag), "{}", said(&output));
    }
}

/// A plan with three operations, each about something else.
const THREE: &str = "name = \"three\"\n[store]\nprovider = \"oss\"\nregion = \"cn-hangzhou\"\n\
    endpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"\n[manifest.prefix]\nbucket = \"my-bucket\"\n\
    [operation.put_object_tagging]\ntags = { a = \"1\" }\n[operation.put_object_acl]\nacl = \"default\"\n\
    [operation.restore_object]\ndays = 3\n";

#[test]
fn several_operations_are_several_requests_with_tokens_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let role = ["--role-arn", "acs:ram::1234567890123456:role/BatchRole"];
    for (token, expected) in
        [("[job]\nclient_request_token = \"mine\"\n", Some(["mine-1", "mine-2", "mine-3"])), ("", None)]
    {
        fs::write(folder.join("three.toml"), format!("{THREE}{token}")).expect("written");
        let output = batchplan(folder, &[&["export", "three.toml"], &role[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("--out DIR"), "{}", said(&output));
        let out = if token.is_empty() { "random" } else { "mine" };
        let output = batchplan(folder, &[&["export", "three.toml", "--out", out], &role[..]].concat());
        assert_eq!(printed(&output), "");
        assert_eq!(said(&output).contains("a new random one"), token.is_empty(), "{}", said(&output));
        let requests = files(&folder.join(out), &["xml"]);
        assert_eq!(
            requests.iter().map(|path| name(path)).collect::<Vec<_>>(),
            ["three-1.xml", "three-2.xml", "three-3.xml"]
        );
        let documents = requests.iter().map(|path| fs::read_to_string(path).expect("a request"));
        let trees: Vec<_> = documents.map(|document| tree(&document)).collect();
        let child = |tree: &Element, name: &str| {
            let found = tree.children.iter().find(|child| child.name == name).expect("an element");
            (found.text.clone(), found.children.iter().map(|child| child.name.clone()).collect::<Vec<_>>())
        };
        let operations: Vec<_> = trees.iter().map(|tree| child(tree, "Operation").1.join(",")).collect();
        assert_eq!(operations, ["PutObjectTagging", "PutObjectAcl", "RestoreObject"]);
        let tokens: std::collections::BTreeSet<_> =
            trees.iter().map(|tree| child(tree, "ClientRequestToken").0).collect();
        assert_eq!(tokens.len(), 3);
        if let Some(expected) = expected {
            assert!(tokens.iter().eq(expected.iter()), "{tokens:?}");
        }
        // A second time nothing is overwritten, and nothing else is written.
        fs::remove_file(&requests[0]).expect("removed");
        let output = batchplan(folder, &[&["export", "three.toml", "--out", out], &role[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("three-2.xml already exists"), "{}", said(&output));
        assert!(!requests[0].exists());
    }
}

#[test]
fn an_import_overwrites_nothing_and_reads_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = fs::File::open(fixtures().join("set-acl-csv.xml")).expect("a sample");
    fs::write(folder.path().join("plan.toml"), "mine").expect("written");
    let mut program = Command::new(env!("CARGO_BIN_EXE_batchplan"));
    program.args(["import", "-"]).args(FLAGS).args(["--out", "plan.toml"]);
    let output = program.current_dir(folder.path()).env_clear().stdin(sample).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("plan.toml already exists"), "{}", said(&output));
    assert_eq!(fs::read_to_string(folder.path().join("plan.toml")).expect("the file"), "mine");
}
