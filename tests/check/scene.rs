//! A folder with a plan for a store behind a gate, the binary run in it, and what it said compared with a file.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use serde_json::Value as Json;

use crate::gate::{Gate, Rule};

/// What the sandbox holds.
pub(crate) const TABLE: &str = "bucket,key,size,storage_class,tags,acl\n\
     bkt,docs/a.txt,3,GLACIER,team=web&old=1,public-read\n\
     bkt,docs/b.txt,3,STANDARD,,private\n\
     bkt,docs/known.txt,3,STANDARD,,authenticated-read\n\
     bkt,other,3,STANDARD,,private\n\
     audit,x,1,STANDARD,,private\n";

/// Everything below `docs/`.
pub(crate) const PREFIX: &str = "[manifest.prefix]\nbucket = \"bkt\"\nprefix = \"docs/\"\n";

pub(crate) struct Scene {
    folder: tempfile::TempDir,
    pub(crate) gate: Gate,
    provider: &'static str,
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

impl Scene {
    /// A plan for this provider that says this besides its store; the gate turns away what the rules say.
    pub(crate) fn new(provider: &'static str, plan: &str, rules: &[Rule]) -> Self {
        Self::with(provider, plan, TABLE, rules)
    }

    pub(crate) fn with(provider: &'static str, plan: &str, table: &str, rules: &[Rule]) -> Self {
        let scene = Self { folder: tempfile::tempdir().expect("a folder"), gate: Gate::before(table, rules), provider };
        scene.plan_at(&scene.gate.endpoint(), plan);
        scene
    }

    /// The plan again, for a store at another place.
    pub(crate) fn plan_at(&self, endpoint: &str, plan: &str) {
        let region = if self.provider == "oss" { "cn-hangzhou" } else { "us-east-1" };
        let store = format!(
            "[store]\nprovider = \"{}\"\nendpoint = \"{endpoint}\"\nregion = \"{region}\"\naddressing = \"path\"\n",
            self.provider
        );
        self.write("plan.toml", &format!("name = \"test\"\n{store}{plan}"));
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).expect("written");
    }

    pub(crate) fn check(&self, args: &[&str]) -> Ran {
        self.check_as(SECRET_KEY, args)
    }

    /// `check plan.toml`, signed with this secret.
    pub(crate) fn check_as(&self, secret: &str, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
        command.arg("check").arg("plan.toml").args(args).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("OSS_ACCESS_KEY_ID", ACCESS_KEY).env("OSS_ACCESS_KEY_SECRET", secret);
        let output = command.output().expect("the binary runs");
        let left = fs::read_dir(self.folder.path()).expect("a folder").count();
        assert!(left <= 3, "a check leaves nothing behind");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Compares all that a run said and how it ended with a file; with `UPDATE_EXPECTED` set, writes that file.
    #[track_caller]
    pub(crate) fn says(&self, name: &str, ran: &Ran) {
        let random = |text: &str| match text.split_once(".batchplan-check-") {
            Some((front, back)) => format!("{front}.batchplan-check-[RANDOM]{}", &back[16..]),
            None => text.to_owned(),
        };
        let said = format!("{}---\n{}---\nexit {}\n", ran.stdout, ran.stderr, ran.code);
        let said = random(&said).replace(&self.gate.endpoint(), "[ENDPOINT]");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/check").join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&file, &said).expect("written");
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(said, expected, "look, then UPDATE_EXPECTED=1");
    }
}
