//! A profile's `credential_process` that hangs.

use std::time::{Duration, Instant};

use crate::{Scene, run_to};

/// Returns whether a process runs. One that has ended but was not waited for does not count.
fn is_running(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_hangs_is_killed_with_its_children() {
    let scene = Scene::new();
    scene.write("hang.sh", "sh -c 'echo $$ > child; sleep 1000; true' &\necho $$ > parent\nwait\n");
    scene.write(".aws/config", "[profile slow]\ncredential_process = sh hang.sh hushhush\n");
    let mut command = scene.command(&["plan", "plan.toml"]);
    // A minute of every limit lasts three seconds.
    command.env("AWS_PROFILE", "slow").env("BATCHPLAN_MINUTE_MS", "3000");
    let said = run_to(1, command);
    for part in [
        "waiting for the credential_process of the profile \"slow\" for 0.5 s: it has not finished; gives up in 2.5 s",
        "no credentials: the credential_process of the profile \"slow\" did not finish within 3 s and was killed",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for file in ["parent", "child"] {
        let (id, began) = (scene.read(file), Instant::now());
        while is_running(id.trim()) {
            assert!(began.elapsed() < Duration::from_mins(1), "{file} still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
