//! Neither memory nor the journal grows with the manifest, nor with what fails: a large job of the real binary,
//! against a server that answers at once.
//!
//! Nor does that of a plan's preview, however closely it looks.
//!
//! `BATCHPLAN_TEST_ROWS` sets the number of rows, `BATCHPLAN_TEST_FAILING` how many of a thousand fail, and
//! `BATCHPLAN_TEST_BINARY` the binary: a debug build is given fewer rows. `BATCHPLAN_TEST_PREVIEWED` sets how many
//! objects a preview looks at.

#[path = "support/instant.rs"]
mod instant;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use instant::InstantServer;

/// What the process may have had resident at its peak, in KiB.
const LIMIT_KIB: u64 = 150 * 1024;

/// What the journal may take at any size of job.
const JOURNAL_LIMIT_KIB: u64 = 64 * 1024;

/// What a report that does not stay here may take: a report file has 256 MiB.
const REPORT_LIMIT_KIB: u64 = 5 * 256 * 1024;

fn write_manifest(path: &Path, rows: u64) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    let mut line = String::new();
    for n in 0..rows {
        line.clear();
        let _ =
            writeln!(line, "bucket,documents%2F2024%2F{:02}%2Fcustomer-{:09}%2Fscan-{n:012}.pdf", n % 12 + 1, n % 977);
        file.write_all(line.as_bytes()).expect("written");
    }
    file.flush().expect("written");
}

/// The most that a process and its files took until it had ended, in KiB.
#[derive(Debug, Default)]
struct Peak {
    /// Resident, as the kernel counts it.
    memory: u64,
    /// The journal, with what it has yet to take in.
    journal: u64,
    /// The report's files on this machine.
    report: u64,
}

/// The files of a folder whose names begin so, in KiB, those of folders below included.
fn size_kib(folder: &Path, begins: &str) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(begins)).map(|entry| {
        if entry.path().is_dir() {
            size_kib(&entry.path(), "")
        } else {
            entry.metadata().map_or(0, |file| file.len() / 1024)
        }
    });
    sizes.sum()
}

fn watch(child: &mut Child, state: &Path) -> Peak {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = Peak::default();
    while child.try_wait().expect("a process").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = high.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok());
        peak.memory = peak.memory.max(kib.unwrap_or(0));
        peak.journal = peak.journal.max(size_kib(state, "journal.db"));
        let jobs = fs::read_dir(state.join("jobs")).into_iter().flatten().flatten();
        peak.report = peak.report.max(jobs.map(|job| size_kib(&job.path().join("report"), "")).sum());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    peak
}

/// What a preview of thirty times as many objects may take more, in KiB: allocators are not exact, and few bytes an
/// object would be many times as much.
const MORE_KIB: u64 = 6 * 1024;

fn number(name: &str, other: u64) -> u64 {
    std::env::var(name).map_or(other, |value| value.parse().expect("a number"))
}

fn binary() -> PathBuf {
    let binary = std::env::var("BATCHPLAN_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_batchplan").to_owned());
    fs::canonicalize(binary).expect("the binary")
}

/// The binary in a folder, with keys that the server does not look at.
fn start(folder: &Path, args: &[&str], stdout: Stdio) -> Child {
    let mut command = Command::new(binary());
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null()).stdout(stdout);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").spawn().expect("the binary runs")
}

/// The most memory that a preview of so many objects has, in KiB.
fn preview(rows: u64, how: &[&str]) -> u64 {
    let server = InstantServer::failing(10).expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    write_manifest(&folder.path().join("list.csv"), rows);
    let plan = format!(
        "name = \"memory\"\n[store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"{}\"\n[manifest.csv]\npath = \"list.csv\"\n\
         [operation.add_object_tagging]\ntags = {{ t = \"1\" }}\n",
        server.endpoint()
    );
    fs::write(folder.path().join("plan.toml"), plan).expect("written");
    let said = folder.path().join("said");
    let stdout = File::create(&said).expect("a file");
    let mut child = start(folder.path(), &[&["plan", "plan.toml", "--json"], how].concat(), stdout.into());
    let peak = watch(&mut child, &folder.path().join(".batchplan"));
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let said = fs::read_to_string(said).expect("what it said");
    let whole: serde_json::Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(whole["objects"], rows);
    if how.is_empty() {
        assert_eq!(whole["sample"]["looked"], 200);
    } else {
        let (change, fail) = (&whole["counts"]["change"]["low"], &whole["counts"]["fail"]["low"]);
        assert_eq!((change, fail), (&(rows - rows / 100).into(), &(rows / 100).into()));
    }
    assert!(server.requests() > 0 && peak.memory > 0);
    peak.memory
}

#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "the figures are worth seeing, whether it passes or not")]
fn a_preview_of_many_objects_takes_no_more_than_one_of_few() {
    let looked = number("BATCHPLAN_TEST_PREVIEWED", 40_000);
    for (how, few, many) in [(&[][..], 10_000, 300_000), (&["--full"], 4_000, looked), (&["--all"], 4_000, looked)] {
        let (small, large) = (preview(few, how), preview(many, how));
        eprintln!("plan {how:?}: {few} objects {small} KiB, {many} objects {large} KiB");
        assert!(large <= small + MORE_KIB, "{how:?}: {small} KiB for {few}, {large} KiB for {many}");
    }
}

#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "the figure is worth seeing, whether it passes or not")]
fn a_large_job_takes_no_more_than_a_small_one() {
    let (rows, failing) = (number("BATCHPLAN_TEST_ROWS", 5_000), number("BATCHPLAN_TEST_FAILING", 10));
    let server = InstantServer::failing(failing).expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    write_manifest(&folder.path().join("list.csv"), rows);
    let plan = format!(
        "name = \"memory\"\n[store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"{}\"\n[manifest.csv]\npath = \"list.csv\"\n\
         [operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n[undo]\ncapture = false\n[report]\nbucket = \"reports\"\nkeep_local = false\n",
        server.endpoint()
    );
    fs::write(folder.path().join("plan.toml"), plan).expect("written");
    let mut child = start(folder.path(), &["apply", "plan.toml", "--auto-approve", "--json"], Stdio::piped());
    let peak = watch(&mut child, &folder.path().join(".batchplan"));
    let output = child.wait_with_output().expect("its output");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let took = result["elapsed_seconds"].as_f64().unwrap_or_default();
    eprintln!("{rows} rows, {failing} of a thousand fail: {peak:?} in {took:.0} s");
    assert_eq!(output.status.code(), Some(if failing == 0 { 0 } else { 3 }), "{result}");
    assert_eq!(
        (&result["succeeded"], &result["failed"]),
        (&(rows - rows * failing / 1000).into(), &(rows * failing / 1000).into())
    );
    // Each object is one request; the report's files are some more.
    assert!((rows..rows + 100).contains(&server.requests()), "{}", server.requests());
    assert!(peak.memory > 0 && peak.memory <= LIMIT_KIB, "{peak:?}");
    assert!(peak.journal > 0 && peak.journal <= JOURNAL_LIMIT_KIB, "{peak:?}");
    // Of each kind one file that is written and few that are on their way.
    assert!(peak.report <= REPORT_LIMIT_KIB, "{peak:?}");
}
