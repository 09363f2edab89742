//! The real binary among such servers: objects fail, the job goes on, and memory stays what it is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The most that a run may take, in KiB: the binary itself is a third of it.
const LIMIT_KIB: u64 = 96 * 1024;

/// Answers every request with ten megabytes of refusal, as long as anybody listens.
fn babbler() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let padding = "<Padding>xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx</Padding>".repeat(200_000);
    let body = format!("<Error><Code>AccessDenied</Code><Message>No.</Message>{padding}</Error>");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = body.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut head = [0; 4096];
                if stream.read(&mut head).is_ok_and(|read| read > 0) {
                    let start = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n", body.len());
                    // Nobody reads it to its end.
                    let _ = stream.write_all(start.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
                }
            });
        }
    });
    endpoint
}

#[test]
fn a_server_that_babbles_fails_each_object_in_bounded_memory() {
    for (store, variables) in [
        ("provider = \"s3\"", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
        ("provider = \"oss\"\nregion = \"cn-hangzhou\"", ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let rows: Vec<_> = (0..40).map(|n| format!("bkt,k{n}\n")).collect();
        fs::write(folder.path().join("list.csv"), rows.concat()).expect("written");
        let plan = format!(
            "name = \"t\"\n[store]\nskip_server_check = true\n{store}\nendpoint = \"{}\"\n[manifest.csv]\npath = \"list.csv\"\n\
             [undo]\ncapture = false\n[operation.delete_object_tagging]\n[limits]\nfailure_threshold = 1\n",
            babbler()
        );
        fs::write(folder.path().join("plan.toml"), plan).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_batchplan"))
            .args(["apply", "plan.toml", "--auto-approve", "--json"])
            .current_dir(folder.path())
            .env_clear()
            .envs(variables.map(|name| (name, "hushhush")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut peak = 0;
        while child.try_wait().expect("a state").is_none() {
            peak = peak.max(high_water(child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().expect("its output");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(3), "{stdout}\n{stderr}");
        let result: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((&result["succeeded"], &result["failed"]), (&0.into(), &40.into()));
        assert!(peak <= LIMIT_KIB, "{peak} KiB");
        let report = folder.path().join(result["report_folder"].as_str().expect("a folder"));
        let listed = fs::read_dir(report).expect("a report").flatten().map(|file| file.path());
        let rows: String = listed.filter(|path| path.extension().is_some_and(|kind| kind == "csv")).map(text).collect();
        assert!(rows.contains("AccessDenied") && rows.contains("No."), "{rows}");
        assert!(!format!("{rows}{stderr}{stdout}").contains("hushhush"));
    }
}

fn text(path: std::path::PathBuf) -> String {
    fs::read_to_string(path).expect("text")
}

/// `VmHWM` of a process, in KiB (Linux; 0 elsewhere).
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
