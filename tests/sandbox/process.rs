//! The command, as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use std::path::Path;

use aws_sdk_s3::Client;
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};

use crate::fixture::{BUCKET, OTHER_KEYS, client_of, list_v2};

/// A process that is not left behind.
struct Running(Child, String);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
    command.arg("sandbox").arg("--data").arg(data).stderr(Stdio::null());
    command
}

fn start(data: &Path) -> Running {
    start_with(data, &[])
}

fn start_with(data: &Path, args: &[&str]) -> Running {
    let mut child = command(data).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut endpoint = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
    Running(child, endpoint.trim().to_owned())
}

fn client_to(running: &Running) -> Client {
    client_of(&running.1, Some((ACCESS_KEY, SECRET_KEY)))
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path());
    let s3 = client_to(&running);
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    for n in 0..50 {
        let put = s3.put_object().bucket(BUCKET).key(format!("{n:02}")).body(vec![n; 2000].into());
        put.send().await.unwrap();
    }
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let running = start(dir.path());
    let s3 = client_to(&running);
    assert_eq!(list_v2(&s3, 1000).await.len(), 50);
    let got = s3.get_object().bucket(BUCKET).key("49").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), vec![49; 2000]);
}

#[test]
fn it_stops_on_request_and_refuses_what_is_unsafe() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path());
    assert!(running.1.starts_with("http://127.0.0.1:"), "{}", running.1);
    assert_eq!(command(dir.path()).status().unwrap().code(), Some(6));
    let remote = command(&dir.path().join("other")).args(["--listen", "0.0.0.0:0"]).status().unwrap();
    assert_eq!(remote.code(), Some(6));
    let id = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_fill_file_is_used_while_there_are_no_buckets_and_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let (data, fill) = (dir.path().join("data"), dir.path().join("fill.csv"));
    drop(start(&data));
    let missing = command(&data).arg("--fill").arg(&fill).stderr(Stdio::piped()).output().unwrap();
    let cannot = format!("error: cannot read {}: No such file or directory", fill.display());
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with(&cannot), "{missing:?}");

    std::fs::write(&fill, "bucket,key\ntest-bucket,a\n").unwrap();
    drop(start_with(&data, &["--fill", fill.to_str().unwrap()]));
    let mut said = String::new();
    let mut child =
        command(&data).arg("--fill").arg(&fill).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    drop(Running(child, String::new()));
    let ignored = format!("note: --fill {} is ignored: {} has buckets already\n", fill.display(), data.display());
    assert_eq!(said, ignored);

    std::fs::remove_file(&fill).unwrap();
    let missing = command(&data).arg("--fill").arg(&fill).stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with(&cannot), "{missing:?}");
}

#[tokio::test]
async fn each_access_key_is_an_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (access, secret) = OTHER_KEYS;
    let keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, "--access-key", access, "--secret-key", secret];
    let running = start_with(dir.path(), &keys);
    client_to(&running).create_bucket().bucket(BUCKET).send().await.unwrap();
    let other = client_of(&running.1, Some(OTHER_KEYS));
    let listed = other.list_buckets().send().await.unwrap();
    assert_eq!((listed.buckets(), listed.owner().unwrap().display_name()), (&[][..], Some(access)));
    assert!(other.list_objects_v2().bucket(BUCKET).send().await.is_err());
}

#[test]
fn keys_that_do_not_pair_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = |args: &[&str]| {
        let output = command(&dir.path().join("data")).args(args).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let two = ["--access-key", "a", "--access-key", "b"];
    assert_eq!(
        said(&two),
        "error: the numbers of keys differ: 2 for --access-key, 1 for --secret-key\n  \
         help: give one --secret-key for each --access-key, in the same order\n"
    );
    assert!(
        said(&["--access-key", "a", "--access-key", "a", "--secret-key", "1", "--secret-key", "2"])
            .contains("more than once")
    );
    assert!(said(&["--access-key", ""]).contains("--secret-key is empty"));
    assert!(!dir.path().join("data").exists());
}
