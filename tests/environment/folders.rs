//! Folders that are missing or read-only: they matter only where they are needed, and are named there.

use std::process::Command;

use crate::{Scene, run_to};

const APPLY: [&str; 3] = ["apply", "plan.toml", "--auto-approve"];

#[test]
fn home_does_not_matter_without_a_profile() {
    for home in [None, Some("/nonexistent/home"), Some("/dev/null"), Some("")] {
        let scene = Scene::new();
        let mut command = scene.command_with_keys(&APPLY);
        match home {
            Some(home) => command.env("HOME", home),
            None => command.env_remove("HOME"),
        };
        let said = run_to(0, command);
        assert!(said.contains("2 changed"), "{said}");
    }
}

#[test]
fn a_profile_without_a_home_is_named_with_it() {
    for home in [None, Some("/nonexistent/home"), Some("/dev/null")] {
        let scene = Scene::new();
        let mut command = scene.command(&APPLY);
        command.env("AWS_PROFILE", "dev");
        match home {
            Some(home) => command.env("HOME", home),
            None => command.env_remove("HOME"),
        };
        let said = run_to(1, command);
        let place = home.map_or_else(|| "HOME is not set".to_owned(), |home| format!("{home}/.aws/config"));
        assert!(said.contains("the profile \"dev\" of AWS_PROFILE") && said.contains(&place), "{said}");
    }
}

#[test]
fn a_profile_that_is_missing_is_an_error_even_with_keys() {
    for provider in ["s3", "aws"] {
        let scene = Scene::new();
        let plan = scene.read("plan.toml").replace("\"s3\"", &format!("{provider:?}"));
        scene.write("plan.toml", &plan);
        scene.write(".aws/config", "[profile dev]\nregion = us-east-1\n");
        let mut command = scene.command_with_keys(&APPLY);
        command.env("AWS_PROFILE", "missing");
        let said = run_to(1, command);
        assert!(
            said.contains("error: the profile \"missing\" of AWS_PROFILE is not in ") && !said.contains("help:"),
            "{said}"
        );
        for profile in ["dev", "default", " "] {
            let mut command = scene.command_with_keys(&["plan", "plan.toml"]);
            command.env("AWS_PROFILE", profile);
            run_to(0, command);
        }
    }
}

#[test]
fn a_region_that_is_missing_or_none_of_awss_is_named_with_what_to_write() {
    let scene = Scene::new();
    let said = run_to(1, scene.command_with_keys(&["list", "--state", "s3://my-state/jobs"]));
    assert!(said.contains("no region: neither its URL nor the environment sets one"), "{said}");
    assert!(said.contains("help: set AWS_REGION, or add the region to the URL: --state 's3://BUCKET/"), "{said}");
    scene.write(
        "plan.toml",
        "name = \"t\"\n[store]\nprovider = \"aws\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
         [operation.put_object_tagging]\ntags = { t = \"1\" }\n",
    );
    for (region, expected) in [
        ("US-EAST-1", "error: \"US-EAST-1\" is not a region of AWS\n  help: did you mean us-east-1?"),
        ("eu-central-1a", "error: \"eu-central-1a\" is not a region of AWS\n  help: did you mean eu-central-1?"),
        (
            "eu west",
            "error: AWS_REGION is not a valid region: use only letters, digits, `-` and `_`\n  help: set it to",
        ),
    ] {
        let mut command = scene.command_with_keys(&["plan", "plan.toml"]);
        command.env("AWS_REGION", region);
        let said = run_to(1, command);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_folder_for_temporary_files_does_not_matter_to_a_job() {
    for folder in ["/nonexistent/tmp", "/dev/null"] {
        let scene = Scene::new();
        let mut command = scene.command_with_keys(&APPLY);
        command.env("TMPDIR", folder);
        run_to(0, command);
    }
}

/// The program in a current folder that no longer exists.
#[cfg(unix)]
fn in_a_deleted_folder(scene: &Scene, args: &[&str]) -> Command {
    let gone = scene.folder.path().join("gone");
    std::fs::create_dir_all(&gone).expect("a folder");
    let program = scene.command_with_keys(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", "cd \"$1\" && rmdir \"$1\" && shift && exec \"$@\"", "sh"]);
    command.arg(gone).arg(program.get_program()).args(args).env_clear().stdin(std::process::Stdio::null());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[cfg(unix)]
#[test]
fn a_deleted_current_folder_is_named_where_it_is_needed() {
    let scene = Scene::new();
    for command in ["run", "list"] {
        let said = run_to(1, in_a_deleted_folder(&scene, &[command]));
        assert!(said.contains("the current folder was deleted or cannot be read"), "{said}");
    }
    let path = |name: &str| scene.folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (plan, state) = (path("plan.toml"), path("state"));
    let said = run_to(0, in_a_deleted_folder(&scene, &["apply", &plan, "--auto-approve", "--state", &state]));
    assert!(!said.contains("the current folder"), "{said}");
    run_to(0, in_a_deleted_folder(&scene, &["validate", &plan]));
    run_to(0, in_a_deleted_folder(&scene, &["list", "--state", &state]));
}

/// Nobody can create a file in `/proc`, not even root.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_current_folder_asks_for_another_state() {
    let scene = Scene::new();
    let plan = scene.folder.path().join("plan.toml");
    let plan = plan.to_str().expect("UTF-8");
    let mut command = scene.command_with_keys(&["apply", plan, "--auto-approve"]);
    command.current_dir("/proc");
    let said = run_to(1, command);
    assert!(said.contains(".batchplan") && said.contains("--state DIR"), "{said}");
    let mut command = scene.command_with_keys(&["plan", plan]);
    command.current_dir("/proc");
    run_to(0, command);
}
