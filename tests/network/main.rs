//! Proxies and private CAs, as the real binary meets them: a store, an STS, a webhook and GitHub, each behind a proxy
//! of the test's own, with certificates that only these tests trust.

#[path = "../support/bucket.rs"]
#[expect(dead_code, reason = "the crash tests call the server at single requests and read what it kept")]
mod bucket;
mod clients;
mod endpoints;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../notify/receiver.rs"]
#[expect(dead_code, reason = "the tests of webhooks look closer at what is sent")]
mod receiver;
#[path = "../lifecycle/scene.rs"]
#[expect(dead_code, reason = "the lifecycle tests look closer at what becomes of objects")]
mod scene;
mod settings;
mod stores;
#[path = "../apply/world.rs"]
#[expect(dead_code, reason = "tests of apply work on the sandbox, which is not needed here")]
mod world;

use std::path::Path;

use crate::scene::{Running, Scene};
use crate::world::Ran;

/// The user name and password `user:p@ss`, as they are sent.
const BASIC: &str = "Basic dXNlcjpwQHNz";

/// A file of the certificates that these tests use.
fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The URL of a proxy that requires [`BASIC`].
fn with_password(port: u16) -> String {
    format!("http://user:p%40ss@127.0.0.1:{port}")
}

/// The port of a URL on loopback.
fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
}

/// Has `plan.toml` work at this endpoint instead.
fn move_to(scene: &Scene, endpoint: &str, more: &str) {
    let plan = std::fs::read_to_string(scene.path("plan.toml")).expect("the plan");
    let moved = plan.replace(&scene.server.endpoint(), endpoint).replace("[store]\n", &format!("[store]\n{more}\n"));
    scene.write("plan.toml", moved);
}

/// Runs a command with these variables. Nothing that it prints may contain the password of the proxy.
fn run(scene: &Scene, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = scene.command(args);
    // The log is kept where secrets are looked for.
    std::fs::create_dir_all(scene.path(".batchplan")).expect("a folder");
    command.args(["-vvv", "--log-file", ".batchplan/log"]).envs(variables.iter().copied());
    let ran = Running::of(command).over();
    let log = std::fs::read_to_string(scene.path(".batchplan/log")).expect("a log");
    assert!(log.contains("command started") && !log.contains("hush"), "{log}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!said.contains("p@ss") && !said.contains("p%40ss") && !said.contains(&BASIC[6..]), "{said}");
    assert_no_secret_in(&scene.path(".batchplan"));
    ran
}

fn assert_no_secret_in(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_no_secret_in(&path);
            continue;
        }
        let content = std::fs::read(&path).unwrap_or_default();
        for secret in ["p@ss", "p%40ss", &BASIC[6..]] {
            assert!(!content.windows(secret.len()).any(|it| it == secret.as_bytes()), "{}", path.display());
        }
    }
}
