//! Folders whose names are not UTF-8: a job works below them from its plan to its end, and what is shown can be used.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::{Scene, run, run_to};

const FOLDER: &[u8] = b"w\xff d's";

/// A scene whose plan, CSV manifest and state are below a folder that is not UTF-8.
struct OddScene {
    scene: Scene,
    folder: PathBuf,
}

impl OddScene {
    fn new() -> Self {
        let scene = Scene::new();
        let folder = scene.folder.path().join(OsStr::from_bytes(FOLDER));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("list.csv"), "bkt,k0\nbkt,k1\n").expect("written");
        let plan = scene
            .read("plan.toml")
            .replace("[manifest.prefix]\nbucket = \"bkt\"", "[manifest.csv]\npath = \"list.csv\"");
        fs::write(folder.join("plan.toml"), plan).expect("written");
        // The program under the name that is shown to users.
        symlink(env!("CARGO_BIN_EXE_batchplan"), scene.folder.path().join("batchplan")).expect("a link");
        Self { scene, folder }
    }

    /// The path of a file in the folder, relative to the current one.
    fn path(&self, name: impl AsRef<Path>) -> OsString {
        let folder = self.folder.strip_prefix(self.scene.folder.path()).expect("below it");
        folder.join(name).into_os_string()
    }

    fn command(&self, args: &[&OsStr]) -> Command {
        let mut command = self.scene.command_with_keys(&[]);
        command.args(args);
        command
    }

    /// Runs a command with the state below the folder. Returns what it prints.
    fn run(&self, code: i32, args: &[&OsStr]) -> String {
        let mut command = self.command(args);
        run_to(code, {
            command.arg("--state").arg(self.path("state"));
            command
        })
    }

    fn json(&self, args: &[&OsStr]) -> Json {
        let mut command = self.command(args);
        let output = command.arg("--state").arg(self.path("state")).arg("--json").output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Runs the command that is shown after this text, as a user does who pastes it into a shell.
    fn paste(&self, said: &str, after: &str) -> String {
        let shown = said.lines().find_map(|line| line.split_once(after)).unwrap_or_else(|| panic!("{after}: {said}")).1;
        let program = self.scene.command_with_keys(&[]);
        let mut command = Command::new("bash");
        command.args(["-c", shown]).current_dir(self.scene.folder.path()).env_clear().stdin(Stdio::null());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.scene.folder.path().display()));
        run_to(0, command)
    }
}

/// Returns the path that JSON output names as text.
fn path_in_json(json: &Json) -> PathBuf {
    let text = json.as_str().expect("a text").strip_prefix("bytes:").expect("a path that is not UTF-8");
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    PathBuf::from(OsString::from_vec(bytes))
}

#[test]
fn a_job_below_a_folder_that_is_not_utf_8() {
    let odd = OddScene::new();
    let plan = odd.path("plan.toml");
    // The report stays below the folder, and has a row for each object.
    let text = fs::read_to_string(odd.folder.join("plan.toml")).expect("text");
    let report = "\n[report]\nenabled = false\nscope = \"all-tasks\"\n";
    fs::write(odd.folder.join("plan.toml"), text + report).expect("written");
    run_to(0, odd.command(&["validate".as_ref(), &plan]));
    let created = odd.run(0, &["create".as_ref(), &plan]);
    assert!(created.contains(r"2 objects in w\xff d's/list.csv"), "{created}");

    let listed = odd.json(&["list".as_ref()]);
    let job = listed["jobs"][0]["job_id"].as_str().expect("an ID").to_owned();
    let shown = odd.json(&["show".as_ref(), job.as_ref()]);
    assert_eq!(path_in_json(&shown["plan_file"]), odd.folder.join("plan.toml"));
    let state = PathBuf::from(odd.path("state"));
    assert_eq!(path_in_json(&shown["folder"]), state.join("jobs").join(&job));
    assert_eq!(path_in_json(&shown["report_folder"]), state.join("jobs").join(&job).join("report"));
    assert!(odd.run(0, &["show".as_ref(), job.as_ref()]).contains(r"w\xff d's/plan.toml"));

    let confirmed = odd.paste(&created, "next: ");
    assert!(confirmed.contains("Ready"), "{confirmed}");

    // The manifest is found again, and compared with what was frozen.
    let resume: [&OsStr; 2] = ["resume".as_ref(), job.as_ref()];
    fs::write(odd.folder.join("list.csv"), "bkt,k0\n").expect("written");
    let said = odd.run(6, &resume);
    assert!(said.contains(r"w\xff d's/list.csv has changed since the job was prepared"), "{said}");
    fs::write(odd.folder.join("list.csv"), "bkt,k0\nbkt,k1\n").expect("written");

    // So is the plan.
    let text = fs::read_to_string(odd.folder.join("plan.toml")).expect("text");
    fs::write(odd.folder.join("plan.toml"), text.replace("\"1\"", "\"2\"")).expect("written");
    let said = odd.run(6, &resume);
    assert!(said.contains("the plan has changed since job"), "{said}");
    fs::write(odd.folder.join("plan.toml"), text).expect("written");

    let resumed = odd.run(0, &resume);
    assert!(resumed.contains("2 changed"), "{resumed}");
    assert!(odd.paste(&resumed, "next: ").contains("bkt,k1"));
}

#[test]
fn a_saved_plan_and_a_report_below_a_folder_that_is_not_utf_8() {
    let odd = OddScene::new();
    let (plan, saved) = (odd.path("plan.toml"), odd.path(OsStr::from_bytes(b"p\xfe")));
    let planned = odd.run(0, &["plan".as_ref(), &plan, "--out".as_ref(), &saved]);
    assert!(planned.contains(r"--state $'w\377 d\047s/state'"), "{planned}");
    let applied = odd.json(&["apply".as_ref(), &saved, "--auto-approve".as_ref()]);
    assert_eq!(applied["succeeded"], 2, "{applied}");
    let folder = odd.scene.folder.path().join(path_in_json(&applied["report_folder"]));
    assert!(folder.join("manifest.json").is_file(), "{applied}");
    assert!(odd.scene.folder.path().join(path_in_json(&applied["report"])).is_file(), "{applied}");
    let compared = odd.run(0, &["plan".as_ref(), &plan]);
    assert!(compared.contains("the same objects"), "{compared}");

    let report = "bkt,k0,,failed,503,SlowDown,slow down\n";
    let path = odd.path(OsStr::from_bytes(b"r\xfd.csv"));
    fs::write(odd.scene.folder.path().join(&path), report).expect("written");
    let retry: [&OsStr; 6] =
        ["retry".as_ref(), "--report".as_ref(), &path, "--plan".as_ref(), &plan, "--auto-approve".as_ref()];
    let retried = odd.run(0, &retry);
    assert!(retried.contains("1 changed"), "{retried}");
}

#[test]
fn nothing_is_lost_in_a_state_in_a_bucket_either() {
    let odd = OddScene::new();
    // The current folder holds the local copy.
    let remote = format!("{}?endpoint={}", "s3://bkt/state", odd.scene.endpoint());
    let mut apply = odd.scene.command_with_keys(&["apply", "plan.toml", "--auto-approve", "--state", &remote]);
    apply.current_dir(&odd.folder);
    let (code, said) = run(apply);
    assert_eq!(code, Some(0), "{said}");
    let mut list = odd.scene.command_with_keys(&["list", "--json", "--state", &remote]);
    list.current_dir(&odd.folder);
    assert!(run_to(0, list).contains("Complete"));
}
