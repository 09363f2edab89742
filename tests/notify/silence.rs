//! What is never told, and what is never begun.

use std::fs;
use std::path::Path;

use crate::events::run;
use crate::receiver::{Receiver, SECRET};
use crate::scene::{APPLY, Scene, TAG};

/// Whether a file below this folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).any(|path| {
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn who_only_looks_tells_nobody() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::new());
    scene.plan(&format!("{TAG}{}", receiver.hook("secret_env = \"HOOK\"\nrun_time = \"0s\"")));
    run(&scene, &["validate", "plan.toml"]).ended(0);
    run(&scene, &["plan", "plan.toml"]).ended(0);
    let checked = run(&scene, &["check", "plan.toml"]).ended(0);
    assert!(checked.stdout.contains("not checked  notify http://127.0.0.1:"), "{}", checked.stdout);
    assert!(checked.stdout.contains("its settings are complete; a check sends no messages\n"), "{}", checked.stdout);
    assert_eq!(receiver.letters().len(), 0);
    assert!(!checked.stdout.contains("/hook"), "{}", checked.stdout);
}

#[test]
fn without_what_it_needs_nothing_is_begun() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::new());
    scene.plan(&format!("{TAG}{}", receiver.hook("secret_env = \"OTHER_HOOK\"")));
    let said = "error: environment variable OTHER_HOOK is not set (`secret_env` in [[notify]])\n  \
                help: set OTHER_HOOK where batchplan runs, or remove its [[notify]] from the plan\n";
    for args in [&APPLY[..], &["create", "plan.toml"]] {
        let ran = run(&scene, args).ended(6);
        assert_eq!(ran.stderr, said);
        assert!(scene.jobs().is_empty());
    }
    run(&scene, &["validate", "plan.toml"]).ended(0);
    let checked = run(&scene, &["check", "plan.toml"]).ended(6);
    assert!(checked.stdout.contains("refused      notify a webhook\n"), "{}", checked.stdout);

    let mut given = scene.command(&["create", "plan.toml", "--json"]);
    let created = given.env("OTHER_HOOK", "x").output().expect("it runs");
    assert!(created.status.success());
    let id = scene.newest().id;
    run(&scene, &["confirm", id.as_str()]).ended(0);
    let before = scene.server.requests();
    for args in [&["resume", id.as_str()][..], &["run"]] {
        let ran = run(&scene, args).ended(6);
        assert!(ran.stderr.contains("environment variable OTHER_HOOK is not set"), "{}", ran.stderr);
    }
    assert_eq!(scene.server.requests(), before, "nothing was sent");
    // Who gives a job up is not kept from it.
    let ran = run(&scene, &["cancel", id.as_str()]).ended(0);
    let short: String = id.as_str().chars().take(8).collect();
    let line = format!("warning: no notifications for job {short}: environment variable OTHER_HOOK is not set");
    assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    assert_eq!(receiver.events(), ["suspended"]);
}

#[test]
fn what_is_secret_stays_in_the_environment() {
    let (scene, receiver) = (Scene::with_objects(3), Receiver::new());
    let hook = "[[notify]]\nurl_env = \"HOOK_URL\"\nsecret_env = \"HOOK\"\n";
    let gone = "[[notify]]\nurl_env = \"GONE_URL\"\nsecret_env = \"HOOK\"\n";
    scene.plan(&format!("{TAG}{hook}{gone}[report]\nbucket = \"reports\"\n"));
    let mut command = scene.command(&[&APPLY[..], &["-vvv", "--log-file", "log"]].concat());
    command.env("HOOK", SECRET).env("HOOK_URL", receiver.url());
    let dead = Receiver::always(crate::receiver::Answer::Status("410 Gone", ""));
    command.env("GONE_URL", dead.url());
    let ran = crate::world::Ran::of(&command.output().expect("it runs")).ended(0);
    assert_eq!(receiver.events(), ["complete"]);
    receiver.letters()[0].assert_signed();
    assert!(ran.stderr.contains("answered 410"), "{}", ran.stderr);
    let log = fs::read_to_string(scene.path("log")).expect("a log");
    assert!(log.contains("notification sent") && log.contains("notification not delivered"), "{log}");
    for secret in [SECRET, "pathkey"] {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{}\n{}", ran.stdout, ran.stderr);
        assert!(!holds(&scene.path("."), secret), "{secret} was written to a file");
        assert!(!String::from_utf8_lossy(&receiver.letters()[0].raw).contains(secret));
        let sent = scene.server.uploads("reports");
        assert!(!sent.is_empty());
        assert!(sent.values().all(|body| !String::from_utf8_lossy(body).contains(secret)));
    }
}
