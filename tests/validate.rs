//! `batchplan validate` on whole files: every invalid plan beside exactly what is said of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tests' own folder.
fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder)
}

/// Runs the program in a folder with an empty environment.
fn batchplan(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_batchplan"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("the program starts")
}

/// The names of the plans in a folder, in order.
fn plans(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("the entry is readable").file_name().into_string().expect("the name is UTF-8"))
        .filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "toml"))
        .collect();
    names.sort();
    names
}

/// Compares each plan's messages with the file beside it; with `UPDATE_EXPECTED` set, writes that file instead.
fn compare_all(folder: &Path, code: i32) {
    let mut different = Vec::new();
    for name in plans(folder) {
        let output = batchplan(folder, &["validate", &name]);
        let said = String::from_utf8(output.stderr).expect("messages are UTF-8")
            + &String::from_utf8(output.stdout).expect("the summary is UTF-8");
        assert_eq!(output.status.code(), Some(code), "{name}:\n{said}");
        let beside = folder.join(&name).with_extension("stderr");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&beside, &said).expect("the expected message can be written");
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            different.push(format!("{name}\n--- expected\n{expected}\n--- said\n{said}"));
        }
    }
    let count = different.len();
    assert!(different.is_empty(), "{count} differ; look, then UPDATE_EXPECTED=1\n{}", different.join("\n"));
}

#[test]
fn an_invalid_plan_is_answered_with_its_expected_message() {
    let folder = fixtures("invalid");
    assert!(plans(&folder).len() >= 30, "the fixtures are there");
    compare_all(&folder, 2);
}

#[test]
fn a_valid_plan_is_accepted_with_at_most_its_expected_warnings() {
    compare_all(&fixtures("valid"), 0);
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = batchplan(root, &["validate", "plans"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn there_is_an_example_for_each_operation_and_each_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let all: String = plans(&folder).iter().map(|name| read(&folder.join(name))).collect();
    for table in schema()["properties"]["operation"]["properties"].as_object().expect("operations").keys() {
        assert!(all.contains(&format!("\n[operation.{table}]")), "{table}");
    }
    for table in schema()["properties"]["manifest"]["properties"].as_object().expect("sources").keys() {
        assert!(all.contains(&format!("\n[manifest.{table}]")), "{table}");
    }
}

#[test]
fn a_folder_is_searched_in_order_and_links_and_hidden_folders_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/set-acl.toml"));
    for place in ["b.toml", "a/deep/c.toml", ".hidden/d.toml", "a/notes.txt"] {
        let path = folder.path().join(place);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, &plan).expect("a file");
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", folder.path().join("a/circle")).expect("a link");
    let output = batchplan(folder.path(), &["validate", ".", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let files: Vec<_> = said["plans"].as_array().expect("plans").iter().map(|plan| &plan["file"]).collect();
    assert_eq!(files, ["./a/deep/c.toml", "./b.toml"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_cannot_be_read_is_a_problem_and_the_others_are_still_checked() {
    let folder = fixtures("valid");
    let output = batchplan(&folder, &["validate", "no-such.toml", "crlf.toml", "acl-public-warns.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "3 plans, 2 valid, 1 with problems, 1 warning\n");
    assert!(text(&output.stderr).contains("no such file: no-such.toml"), "{}", text(&output.stderr));
    let empty = tempfile::tempdir().expect("a folder");
    let output = batchplan(empty.path(), &["validate", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no plan files"), "{}", text(&output.stderr));
}

#[test]
fn in_a_folder_only_plans_are_checked_and_what_is_skipped_is_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/set-acl.toml"));
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).expect("a file");
    write("prices.toml", "[prices.mine]\ncurrency = \"EUR\"\n");
    write("Cargo.toml", "[package]\nname = \"store\"\n");
    let output = batchplan(folder.path(), &["validate", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: no plan files (*.toml) in .: none of 2 *.toml files has a [store], [manifest] or [operation] table\n  \
         help: batchplan init writes a plan to start from\n"
    );

    write("plan.toml", &plan);
    let output = batchplan(folder.path(), &["validate", "."]);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "1 plan, 1 valid, 2 other files skipped\n")
    );
    let skipped = "not a plan: it has no [store], [manifest] or [operation] table";
    assert_eq!(text(&output.stderr), format!("skipped ./Cargo.toml: {skipped}\nskipped ./prices.toml: {skipped}\n"));
    let said: serde_json::Value =
        serde_json::from_slice(&batchplan(folder.path(), &["validate", ".", "--json"]).stdout).expect("JSON");
    assert_eq!(
        said["skipped"],
        serde_json::json!([{ "file": "./Cargo.toml", "why": skipped }, { "file": "./prices.toml", "why": skipped }])
    );
    // A file that is named is checked, whatever it is.
    let output = batchplan(folder.path(), &["validate", "Cargo.toml"]);
    assert_eq!(output.status.code(), Some(2));

    // A plan with a mistake stays a plan.
    for mistake in
        ["[store\nprovider = 1\n", "[store]\nprovider = \n", "[manifst]\n[operation]\n", "[store]\n[store]\n"]
    {
        write("plan.toml", mistake);
        let output = batchplan(folder.path(), &["validate", "."]);
        assert_eq!(text(&output.stdout), "1 plan, 0 valid, 1 with problems, 2 other files skipped\n", "{mistake}");
    }
}

#[test]
fn json_gives_every_problem_its_place() {
    let output = batchplan(&fixtures("invalid"), &["validate", "--json", "contradiction-add-delete-key.toml"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), String::new()));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({ "plans": [{
        "file": "contradiction-add-delete-key.toml",
        "valid": false,
        "problems": [{
            "severity": "error",
            "message": "a tag is both added and deleted",
            "help": "keep one of them",
            "labels": [
                { "line": 12, "column": 25, "end_line": 12, "end_column": 30, "text": "this" },
                { "line": 15, "column": 9, "end_line": 15, "end_column": 16, "text": "and this" },
            ],
        }],
    }], "skipped": [], "version": 2 });
    assert_eq!(said, expected);
}

#[test]
fn no_secret_is_echoed_anywhere() {
    let folder = fixtures("invalid");
    for (plan, secrets) in [
        ("credentials-in-store.toml", &["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI"][..]),
        ("credentials-in-endpoint.toml", &["hunter2", "admin"]),
        ("credentials-table.toml", &["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI"]),
        ("syntax-secret-not-echoed.toml", &["wJalrXUtnFEMI"]),
    ] {
        for args in [&["validate", plan][..], &["validate", "--json", plan]] {
            let output = batchplan(&folder, args);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
        }
    }
}

#[test]
fn the_schema_is_the_expected_one() {
    let beside = fixtures("schema.json");
    let printed = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&beside, &printed).expect("the schema can be written");
    }
    assert_eq!(printed, read(&beside), "look, then UPDATE_EXPECTED=1");
}

#[test]
fn init_writes_a_valid_plan_once() {
    for provider in ["aws", "oss", "s3", "sandbox"] {
        let folder = tempfile::tempdir().expect("a folder");
        let init = ["init", "--provider", provider];
        assert_eq!(batchplan(folder.path(), &init).status.code(), Some(0), "{provider}");
        let output = batchplan(folder.path(), &["validate", "plan.toml"]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{provider}");
        let printed = batchplan(folder.path(), &["init", "-", "--provider", provider]);
        let on_disk = read(&folder.path().join("plan.toml"));
        assert_eq!(text(&printed.stdout), on_disk.replacen("\nfill    ", "\n# fill  ", 1), "{provider}");

        fs::write(folder.path().join("plan.toml"), "mine").expect("a file");
        let output = batchplan(folder.path(), &init);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));
        assert_eq!(read(&folder.path().join("plan.toml")), "mine");
        let output = batchplan(folder.path(), &["init", "--force", "--provider", provider]);
        assert_eq!(output.status.code(), Some(0));
        assert_ne!(read(&folder.path().join("plan.toml")), "mine");
    }
}

#[test]
fn the_first_plan_for_the_sandbox_finds_its_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = batchplan(folder.path(), &["init"]);
    assert_eq!(
        text(&output.stderr),
        "wrote plan.toml\nwrote sandbox.csv, the objects of its sandbox\n\
         next: run `batchplan plan plan.toml`, or edit it first\n"
    );
    let output = batchplan(folder.path(), &["plan", "plan.toml"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(text(&output.stdout).contains("3 objects: 3 to change"), "{}", text(&output.stdout));

    fs::write(folder.path().join("sandbox.csv"), "mine").expect("a file");
    let output = batchplan(folder.path(), &["init", "--force"]);
    assert!(text(&output.stderr).contains("kept sandbox.csv"), "{}", text(&output.stderr));
    assert_eq!(read(&folder.path().join("sandbox.csv")), "mine");
}

#[test]
fn a_plan_that_cannot_be_read_is_answered_with_what_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, why, help) in [
        ("plam.toml", "no such file: plam.toml", "check the path; `batchplan init` writes a plan to start from"),
        (
            ".",
            ". is a folder, but this command needs a plan file",
            "name a plan file in this folder; `batchplan validate` checks all of them",
        ),
    ] {
        for command in ["plan", "apply", "check", "policy", "create"] {
            let output = batchplan(folder.path(), &[command, path]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert_eq!(said, format!("error: {why}\n  help: {help}\n"), "{command}");
        }
    }
}

#[test]
fn a_missing_manifest_is_reported_once_where_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = "name = \"n\"\n[store]\nprovider = \"sandbox\"\ndata = \"d\"\n[manifest.csv]\npath = \"PATH\"\n\
                [operation.delete_object_tagging]\n";
    fs::write(folder.path().join("plan.toml"), plan.replace("PATH", "none.csv")).expect("a file");
    let said = text(&batchplan(folder.path(), &["validate", "plan.toml"]).stderr);
    assert!(said.contains("the file does not exist yet"), "{said}");
    let output = batchplan(folder.path(), &["plan", "plan.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: cannot read none.csv: No such file or directory"), "{said}");

    fs::write(folder.path().join("plan.toml"), plan.replace("PATH", ".")).expect("a file");
    let output = batchplan(folder.path(), &["plan", "plan.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("a file is required, not a folder"), "{}", text(&output.stderr));
}

/// What `init` shows commented out must be right as well: each comment that is TOML is uncommented by itself.
#[test]
fn what_init_comments_out_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    for provider in ["aws", "oss", "s3", "sandbox"] {
        let printed = text(&batchplan(folder.path(), &["init", "-", "--provider", provider]).stdout);
        let uncommented: String = printed
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if rest.starts_with('[') || rest.split('#').next().is_some_and(|text| text.contains(" = ")) =>
                {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        fs::write(folder.path().join("all.toml"), &uncommented).expect("a file");
        let output = text(&batchplan(folder.path(), &["validate", "all.toml"]).stderr);
        assert!(!output.contains("unknown") && !output.contains("invalid TOML"), "{uncommented}\n{output}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = batchplan(Path::new("."), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("validate"), "{shell}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema() -> serde_json::Value {
    serde_json::from_slice(&batchplan(Path::new("."), &["schema"]).stdout).expect("the schema is JSON")
}

#[test]
fn in_a_workflow_three_mistakes_are_three_annotations_at_their_lines() {
    let workspace = tempfile::tempdir().expect("a folder");
    let folder = workspace.path().join("plans");
    fs::create_dir(&folder).expect("a folder");
    let plan = "name = \"x\"\n[store]\nprovider = \"sandbox\"\ndata = \"sb\"\nregoin = \"::warning::y\"\n[manifest.prefix]\n\
                bucket = 1\nprefix = \"\"\n[operation.put_object_acl]\nacl = \"privat\"\n";
    fs::write(folder.join("a.toml"), plan).expect("written");
    let run = |actions: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_batchplan"))
            .args(["validate", "a.toml", "--json"])
            .current_dir(&folder)
            .env_clear()
            .env("GITHUB_ACTIONS", actions)
            .env("GITHUB_WORKSPACE", fs::canonicalize(workspace.path()).expect("a path"))
            .output()
            .expect("the program starts");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("the data stays JSON");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let said = run("true");
    let commands: Vec<_> = said.lines().filter(|line| line.starts_with("::")).collect();
    let places: Vec<_> = commands.iter().filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(places, ["line=5", "line=7", "line=10"], "{said}");
    assert!(commands.iter().all(|line| line.starts_with("::error file=plans/a.toml,")), "{said}");
    assert!(!run("false").contains("::error"));
}

/// `init` with these options: the plan is valid, and the sandbox's own has objects that can be applied to at once.
#[test]
fn init_takes_what_it_is_told() {
    for operation in
        ["put_object_tagging", "add_object_tagging", "delete_object_tagging", "put_object_acl", "restore_object"]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let init = ["init", "--bucket", "archive", "--prefix", "a b/\u{e9}/", "--operation", operation];
        assert_eq!(batchplan(folder.path(), &init).status.code(), Some(0), "{operation}");
        let plan = read(&folder.path().join("plan.toml"));
        assert!(plan.contains("prefix   = \"a b/\u{e9}/\"\n") && plan.contains("bucket   = \"archive\"\n"), "{plan}");
        let active = plan.lines().filter(|line| line.starts_with("[operation.")).collect::<Vec<_>>();
        assert!(active.len() == 1 && active[0].contains(operation), "{active:?}");
        let validated = batchplan(folder.path(), &["validate", "plan.toml"]);
        assert_eq!(validated.status.code(), Some(0), "{operation}: {}", text(&validated.stderr));
        let applied = batchplan(folder.path(), &["apply", "plan.toml", "--auto-approve", "--json"]);
        assert_eq!(applied.status.code(), Some(0), "{operation}: {}", text(&applied.stderr));
        let result: serde_json::Value = serde_json::from_slice(&applied.stdout).expect("JSON");
        assert_eq!((&result["total"], &result["succeeded"]), (&3.into(), &3.into()), "{operation}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    for provider in ["aws", "oss", "s3"] {
        let init = [
            "init",
            "x.toml",
            "--force",
            "--provider",
            provider,
            "--bucket",
            "archive",
            "--operation",
            "put_object_acl",
        ];
        assert_eq!(batchplan(folder.path(), &init).status.code(), Some(0), "{provider}");
        assert_eq!(batchplan(folder.path(), &["validate", "x.toml"]).status.code(), Some(0), "{provider}");
    }
    let refused = batchplan(folder.path(), &["init", "--bucket", "No Such Name"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("would not be valid"), "{}", text(&refused.stderr));
    assert!(!folder.path().join("plan.toml").exists());
}
