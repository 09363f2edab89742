//! The completion scripts know plan files and jobs.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::world::World;

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// What bash offers for the last of these words.
fn offered(world: &World, words: &[&str]) -> Vec<String> {
    let typed: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source completions.bash\nCOMP_WORDS=(batchplan {})\nCOMP_CWORD={}\n_batchplan_words batchplan '{}' '{}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        typed.join(" "),
        words.len(),
        words.last().expect("a word"),
        words.iter().rev().nth(1).copied().unwrap_or("batchplan"),
    );
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-c", &script]).current_dir(world.path("")).env_clear();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", world.path("bin").display());
    let output = bash.env("PATH", path).env("HOME", world.path("")).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn plan_files_and_job_ids_are_completed() {
    let world = World::filled("bucket,key\nbkt,a\n");
    world.plan(TAG);
    world.write("prices.toml", "[book.x]\n");
    world.write("plans/my plan.toml", std::fs::read(world.path("plan.toml")).expect("the plan"));
    world.write("bin/readme", "");
    symlink(env!("CARGO_BIN_EXE_batchplan"), world.path("bin/batchplan")).expect("a link");
    let script = world.run(&["completions", "bash"]).ended(0).stdout;
    world.write("completions.bash", script);
    world.run(&["plan", "plan.toml", "--out", "plan.bpl"]).ended(0);
    let done = world.apply().ended(0).json()["job_id"].as_str().expect("an id").to_owned();
    world.plan(&format!("{TAG}[job]\npriority = 1\n"));
    let waits = world.run(&["create", "plan.toml", "--new", "--json"]).ended(0).json()["job_id"].clone();
    let (done, waits) = (&done[..8], &waits.as_str().expect("an id")[..8]);

    let has = |words: &[&str], word: &str| offered(&world, words).iter().any(|offer| offer == word);
    assert!(has(&["show", ""], done) && has(&["show", ""], waits) && has(&["show", ""], "plan.bpl"));
    assert!(has(&["show", &done[..5]], done) && !has(&["show", &done[..5]], waits));
    assert!(has(&["resume", ""], waits) && !has(&["resume", ""], done), "only what can be resumed");
    assert!(has(&["retry", ""], done) && !has(&["retry", ""], waits));
    for words in [&["apply", "pl"][..], &["list", "--state-of", ""], &["plan", ""]] {
        assert!(has(words, "plan.toml"), "{words:?}: {:?}", offered(&world, words));
        assert!(!has(words, "prices.toml"), "{words:?}");
    }
    assert!(has(&["apply", "pl"], "plan.bpl") && !has(&["plan", "pl"], "plan.bpl"));
    assert!(has(&["validate", "plans/"], "plans/my\\ plan.toml"), "{:?}", offered(&world, &["validate", "plans/"]));
    assert!(has(&["apply", "--auto"], "--auto-approve"), "options are completed as before");
    for (shell, function) in [("zsh", "_batchplan_words() {"), ("fish", "complete -c batchplan -n")] {
        assert!(world.run(&["completions", shell]).ended(0).stdout.contains(function), "{shell}");
    }
}
