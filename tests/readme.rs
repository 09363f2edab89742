//! The README keeps its word: each of its commands is run, and each of its plans is valid.

#[path = "support/folders.rs"]
mod folders;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use batchplan::diagnostics::FileProblems;
use batchplan::estimate::PriceBook;
use folders::copy;

/// A command of the README, how it ends where nobody sits at a terminal, and who runs it.
const COMMANDS: [(&str, Runner); 33] = [
    ("cargo run --release -- apply plans/quickstart.toml --auto-approve", Runner::Here(0)),
    ("cargo test", Runner::Ci),
    ("cargo install --path .", Runner::Ci),
    ("mkdir -p ~/.local/share/bash-completion/completions", Runner::Here(0)),
    ("batchplan completions bash > ~/.local/share/bash-completion/completions/batchplan", Runner::Here(0)),
    ("batchplan init plan.toml", Runner::Here(0)),
    ("batchplan validate plan.toml", Runner::Here(0)),
    ("batchplan apply plan.toml", Runner::Here(6)),
    ("batchplan schema > plan.schema.json", Runner::Here(0)),
    ("batchplan policy plan.toml > policy.json", Runner::Here(0)),
    // The plan that init writes names a bucket that its sandbox does not have.
    ("batchplan check plan.toml", Runner::Here(1)),
    ("batchplan plan plans/quickstart.toml", Runner::Here(0)),
    ("batchplan plan plans/quickstart.toml --out quickstart.bpl", Runner::Here(0)),
    ("batchplan apply quickstart.bpl --plan plans/quickstart.toml --auto-approve", Runner::Here(0)),
    (
        "batchplan import plans/requests/restore-archive.xml --name restore --region cn-hangzhou \
         --endpoint https://oss-cn-hangzhou.aliyuncs.com --out restore.toml",
        Runner::Here(0),
    ),
    ("batchplan export restore.toml > job.xml", Runner::Here(0)),
    ("batchplan create plan.toml", Runner::Job("Suspended", 0)),
    ("batchplan list", Runner::Job("Suspended", 0)),
    ("batchplan show JOB", Runner::Job("Suspended", 0)),
    ("batchplan confirm JOB", Runner::Job("Suspended", 0)),
    ("batchplan run", Runner::Job("Ready", 0)),
    ("batchplan priority JOB 10", Runner::Job("Ready", 0)),
    ("batchplan pause JOB", Runner::Job("Ready", 0)),
    ("batchplan resume JOB", Runner::Job("Paused", 0)),
    ("batchplan cancel JOB --reason \"wrong bucket\"", Runner::Job("Ready", 0)),
    ("batchplan retry JOB", Runner::Job("Failed", 6)),
    ("batchplan delete JOB", Runner::Job("Failed", 6)),
    ("batchplan sandbox --listen 127.0.0.1:9100 --data .batchplan/sandbox", Runner::Served),
    ("batchplan schedule plan.toml --cron \"17 3 * * *\" --state s3://my-state/jobs", Runner::Here(0)),
    ("batchplan schedule plan.toml --cron \"17 3 * * MON-FRI\" --as systemd", Runner::Here(0)),
    ("batchplan schedule plan.toml --cron \"*/30 * * * *\" --as crontab", Runner::Here(0)),
    ("batchplan validate plans/", Runner::Here(0)),
    ("batchplan apply plan.toml --auto-approve --json > result.json", Runner::Applied),
];

#[derive(Clone, Copy)]
enum Runner {
    /// This test, in a copy of the repository's plans; the exit code.
    Here(i32),
    /// This test, in a folder of its own whose one job stands there; the exit code.
    Job(&'static str, i32),
    /// This test, with a plan for the sandbox in the place of the one that wants an account.
    Applied,
    /// This test, until the server says that it is up.
    Served,
    /// The project's own `.ci/run`, since cargo cannot be run within cargo.
    Ci,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands in the README's code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let opening = format!("```{language}\n");
    readme.split(opening.as_str()).skip(1).map(|rest| rest.split("```").next().expect("a block").to_owned()).collect()
}

#[test]
fn every_command_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&root().join("plans"), &folder.path().join("plans"));
    let commands = blocks("sh").concat();
    let commands: Vec<_> = commands.lines().map(|line| line.split(" #").next().expect("a part").trim()).collect();
    for command in &commands {
        let (_, runner) = COMMANDS.iter().find(|(known, _)| known == command).unwrap_or_else(|| panic!("{command}?"));
        match runner {
            Runner::Here(code) => run(folder.path(), command, *code),
            Runner::Job(status, code) => run_on_a_job(command, status, *code),
            Runner::Served => serve(folder.path(), command),
            Runner::Applied => {
                fs::copy(root().join("plans/quickstart.toml"), folder.path().join("plan.toml")).expect("copied");
                copy(&root().join("plans/quickstart"), &folder.path().join("quickstart"));
                run(folder.path(), command, 0);
                let result = fs::read_to_string(folder.path().join("result.json")).expect("a result");
                assert!(result.contains("\"failed\":0"), "{result}");
            }
            Runner::Ci => {
                let ci = fs::read_to_string(root().join(".ci/run")).expect("the CI script");
                // With --locked and a root of its own, but the command.
                let words = command.split(' ').take(2).collect::<Vec<_>>().join(" ");
                assert!(ci.lines().any(|line| line.starts_with(&words)), "{command} is not in .ci/run");
            }
        }
    }
    for (known, _) in COMMANDS {
        assert!(commands.contains(&known), "the README says no more: {known}");
    }
}

#[test]
fn every_plan_is_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let plans = blocks("toml");
    assert!(!plans.is_empty());
    for plan in plans {
        fs::write(folder.path().join("plan.toml"), plan).expect("written");
        run(folder.path(), "batchplan validate plan.toml", 0);
    }
}

#[test]
fn every_price_book_is_right() {
    let books = blocks("toml prices");
    assert!(!books.is_empty());
    for text in books {
        let titles =
            |problems: FileProblems| problems.iter().map(|problem| problem.title().to_owned()).collect::<Vec<_>>();
        let book = PriceBook::from_toml("prices.toml", &text).map_err(titles).expect("a price book");
        assert!(book.entries().count() > 0);
    }
}

/// The command through a shell, with the built binary for both `batchplan` and `cargo run`.
fn shell(folder: &Path, command: &str) -> Command {
    let binary = env!("CARGO_BIN_EXE_batchplan");
    let command = command.replace("cargo run --release --", "batchplan").replace(":9100", ":0");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("batchplan() {{ '{binary}' \"$@\"; }}\n{command}")]);
    shell.current_dir(folder).env_clear().env("HOME", folder).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    shell
}

fn run(folder: &Path, command: &str, code: i32) {
    let output = shell(folder, command).output().expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command}: {stderr}");
}

/// Runs a command where there is one job that stands there. It fails where it ends: one object of its two is missing.
fn run_on_a_job(command: &str, status: &str, code: i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("list.csv"), "bkt,a\nbkt,b\n").expect("written");
    fs::write(
        folder.join("fill.csv"),
        if status == "Failed" { "bucket,key\nbkt,a\n" } else { "bucket,key\nbkt,a\nbkt,b\n" },
    )
    .expect("written");
    let plan = "name = \"t\"\n[store]\nprovider = \"sandbox\"\ndata = \"data\"\nfill = \"fill.csv\"\n\
                [manifest.csv]\npath = \"list.csv\"\n[operation.put_object_acl]\nacl = \"private\"\n";
    fs::write(folder.join("plan.toml"), plan).expect("written");
    let before: &[(&str, i32)] = match status {
        "Suspended" => &[("batchplan create plan.toml", 0)],
        "Ready" => &[("batchplan create plan.toml", 0), ("batchplan confirm JOB", 0)],
        "Paused" => &[("batchplan create plan.toml", 0), ("batchplan confirm JOB", 0), ("batchplan pause JOB", 0)],
        _ => &[("batchplan apply plan.toml --auto-approve", 4)],
    };
    for (command, code) in before.iter().chain([&(command, code)]) {
        run(folder, &command.replace("JOB", &newest_job(folder)), *code);
    }
}

/// The id of the only job, which must be said before a command can name it.
fn newest_job(folder: &Path) -> String {
    let jobs = fs::read_dir(folder.join(".batchplan/jobs")).into_iter().flatten().flatten();
    jobs.map(|job| job.file_name().to_string_lossy().into_owned()).next().unwrap_or_default()
}

fn serve(folder: &Path, command: &str) {
    // The shell becomes the server, so that ending the one ends the other.
    let command = command.replace("batchplan ", &format!("exec '{}' ", env!("CARGO_BIN_EXE_batchplan")));
    let mut server = shell(folder, &command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a server");
    let mut endpoint = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut endpoint).expect("its endpoint");
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
    let ended = Command::new("kill").arg(server.id().to_string()).status().expect("kill");
    assert!(ended.success() && server.wait().expect("it ends").success());
}
