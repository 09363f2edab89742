//! Memory does not grow with the manifest: a large job of the real binary, against a server that answers at once.
//!
//! `BATCHPLAN_TEST_ROWS` sets the number of rows and `BATCHPLAN_TEST_BINARY` the binary: a debug build is given fewer.

#[path = "support/instant.rs"]
mod instant;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use instant::InstantServer;

/// What the process may have had resident at its peak, in KiB.
const LIMIT_KIB: u64 = 150 * 1024;

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

/// The highest resident size of a process, as its kernel counts it, until it has ended.
fn peak_kib(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a process").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = high.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    peak
}

#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "the figure is worth seeing, whether it passes or not")]
fn a_large_csv_takes_no_more_memory_than_a_small_one() {
    let rows: u64 = std::env::var("BATCHPLAN_TEST_ROWS").map_or(5_000, |rows| rows.parse().expect("a number"));
    let binary = std::env::var("BATCHPLAN_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_batchplan").to_owned());
    let server = InstantServer::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    write_manifest(&folder.path().join("list.csv"), rows);
    let plan = format!(
        "name = \"memory\"\n[store]\nprovider = \"s3\"\nendpoint = \"{}\"\n[manifest.csv]\npath = \"list.csv\"\n\
         [operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n[report]\nbucket = \"reports\"\n",
        server.endpoint()
    );
    fs::write(folder.path().join("plan.toml"), plan).expect("written");
    let mut child = Command::new(fs::canonicalize(binary).expect("the binary"))
        .args(["apply", "plan.toml", "--auto-approve", "--json"])
        .current_dir(folder.path())
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let peak = peak_kib(&mut child);
    eprintln!("{rows} rows: {peak} KiB resident at the peak");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{}", output.status);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(result["succeeded"], rows);
    // Each object is one request; the report's two files are two more.
    assert_eq!(server.requests(), rows + 2);
    assert!(peak > 0 && peak <= LIMIT_KIB, "{peak} KiB at its peak");
}
