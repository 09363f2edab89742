//! What a person at a terminal meets: the binary below `script`, which gives it a terminal of its own.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::world::World;

const TAG: &str = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = { t = \"1\" }\n";

/// Applies the plan, types these keys at the question, and gives the exit code and what the screen showed.
fn answer(world: &World, keys: &str) -> (i32, String) {
    type_at(world, "apply plan.toml", "accepted: ", keys)
}

/// Runs a command, types these keys at a question that ends like this, and gives the exit code and the screen.
fn type_at(world: &World, command: &str, question: &str, keys: &str) -> (i32, String) {
    let binary = env!("CARGO_BIN_EXE_batchplan");
    let mut child = Command::new("script")
        // A shell that stays in between would end as the signal has it, and not with the code of what it ran.
        .args(["-qec", &format!("exec '{binary}' {command}"), "/dev/null"])
        .current_dir(world.path(""))
        .env_remove("BATCHPLAN_STATE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("script, of the package bsdutils or util-linux");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut screen, mut block) = (Vec::new(), [0; 1024]);
    let mut typed = false;
    loop {
        match stdout.read(&mut block) {
            Ok(0) | Err(_) => break,
            Ok(count) => screen.extend_from_slice(&block[..count]),
        }
        if !typed && String::from_utf8_lossy(&screen).contains(question) {
            typed = true;
            stdin.write_all(keys.as_bytes()).expect("typed");
            stdin.flush().expect("typed");
        }
    }
    let code = child.wait().expect("it ends").code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&screen).into_owned())
}

#[test]
fn the_question_is_answered_by_yes_by_anything_else_and_by_signals() {
    for (keys, code, says, tags) in [
        ("yes\n", 0, "1 changed, 0 failed", "t=1"),
        ("y\n", 7, "cancelled: nothing was changed", ""),
        ("\u{4}", 7, "cancelled: nothing was changed", ""),
        ("\u{3}", 5, "nothing was changed; job ", ""),
    ] {
        let world = World::filled("bucket,key\nbkt,a\n");
        world.plan(TAG);
        let (ended, screen) = answer(&world, keys);
        assert_eq!(ended, code, "{keys:?}: {screen}");
        assert!(screen.contains(says), "{keys:?}: {screen}");
        assert_eq!(world.objects().tags("a", None), tags, "{keys:?}");
    }
}

#[test]
fn init_asks_for_what_the_plan_is_about() {
    let world = World::filled("");
    let answers = "sand\n\nphotos/\nput_object_acl\n";
    let (code, screen) = type_at(&world, "init", "[sandbox]: ", answers);
    assert_eq!(code, 0, "{screen}");
    for question in ["Provider (aws, oss, s3, sandbox) [sandbox]: ", "Bucket [my-bucket]: ", "[documents/2024/]: "] {
        assert!(screen.contains(question), "{question}: {screen}");
    }
    let plan = std::fs::read_to_string(world.path("plan.toml")).expect("the plan");
    assert!(plan.contains("prefix   = \"photos/\"") && plan.contains("\n[operation.put_object_acl]"), "{plan}");
    let ran = world.run(&["apply", "plan.toml", "--auto-approve", "--json"]).ended(0);
    assert_eq!(ran.json()["succeeded"], 3);
    // Whoever gives an option is not asked, and neither is a script.
    let (code, screen) = type_at(&world, "init other.toml --provider aws", "[sandbox]: ", "");
    assert!(code == 0 && !screen.contains("Bucket"), "{screen}");
    let (code, screen) = type_at(&world, "init third.toml", "[sandbox]: ", "\u{4}");
    assert!(code == 7 && screen.contains("nothing was written"), "{screen}");
    assert!(!world.path("third.toml").exists());
}
