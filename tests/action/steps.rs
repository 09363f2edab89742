//! A job's steps, and those of a composite action: scripts in a shell, and the few actions that the harness knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use crate::expression::{Contexts, Status, text_of};
use crate::files::{Told, command, values};
use crate::folders;
use crate::install;
use crate::machine::{ACTION, Machine, parsed, root};
use crate::process;

/// A step that was run.
#[derive(Default)]
pub(crate) struct Step {
    /// What it uses; empty for a script.
    pub(crate) uses: String,
    /// How it ended; `None` where it was skipped.
    pub(crate) ended: Option<Status>,
    pub(crate) code: Option<i32>,
    /// What its process was sent.
    pub(crate) signals: Vec<&'static str>,
    pub(crate) outputs: BTreeMap<String, String>,
    lines: Vec<String>,
    summary: String,
    /// The steps of a composite action.
    pub(crate) inner: Vec<Step>,
}

impl Step {
    fn all(&self) -> Vec<&Self> {
        std::iter::once(self).chain(self.inner.iter().flat_map(Self::all)).collect()
    }

    pub(crate) fn log(&self) -> String {
        self.all().iter().flat_map(|step| &step.lines).map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
    }

    pub(crate) fn summary(&self) -> String {
        self.all().iter().map(|step| step.summary.as_str()).collect()
    }

    /// What the runner took for commands in what it wrote.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.all().iter().flat_map(|step| &step.lines).filter_map(|line| command(line)).collect()
    }

    /// The step of a composite action that ran last.
    #[track_caller]
    pub(crate) fn last(&self) -> &Self {
        self.inner.iter().rfind(|step| step.ended.is_some()).expect("a step that was run")
    }
}

/// A way through a job's steps.
pub(crate) struct Walk<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) workspace: &'a Path,
    pub(crate) temp: &'a Path,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) contexts: Contexts,
    pub(crate) permissions: Json,
    pub(crate) cancelled: &'a mut dyn FnMut() -> bool,
}

impl Walk<'_> {
    pub(crate) fn steps(&mut self, steps: &[Json]) -> Vec<Step> {
        steps.iter().map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: &Json) -> Step {
        for key in step.as_object().expect("a step").keys() {
            let known =
                ["name", "id", "if", "uses", "with", "run", "shell", "env", "working-directory", "continue-on-error"];
            assert!(known.contains(&key.as_str()), "the harness does not know what {key} of a step means");
        }
        let mut done = Step { uses: step["uses"].as_str().unwrap_or_default().to_owned(), ..Step::default() };
        if self.contexts.holds(step["if"].as_str()) {
            let outer = self.env.clone();
            for (name, value) in step["env"].as_object().into_iter().flatten() {
                self.env.insert(name.clone(), self.contexts.text(&text_of(value)));
            }
            let env = std::mem::replace(&mut self.env, outer);
            if done.uses.is_empty() { self.script(step, env, &mut done) } else { self.used(step, &env, &mut done) }
        }
        let mut status = done.ended.unwrap_or_default();
        if status == Status::Failure && step["continue-on-error"] == true {
            status = Status::Success;
        }
        if self.contexts.status == Status::Success {
            self.contexts.status = status;
        }
        if let Some(id) = step["id"].as_str() {
            let outcome = match done.ended {
                None => "skipped",
                Some(Status::Success) => "success",
                Some(Status::Failure) => "failure",
                Some(Status::Cancelled) => "cancelled",
            };
            self.contexts.roots["steps"][id] = json!({ "outputs": done.outputs, "outcome": outcome });
        }
        done
    }

    fn script(&mut self, step: &Json, mut env: BTreeMap<String, String>, done: &mut Step) {
        let names = ["GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"];
        let files = names.map(|name| self.temp.join(format!("{name}-{}", uuid::Uuid::new_v4().simple())));
        for (name, file) in names.iter().zip(&files) {
            fs::write(file, "").expect("written");
            env.insert((*name).to_owned(), file.display().to_string());
        }
        let script = step["run"].as_str().expect("a script");
        assert!(!script.contains("${{"), "an expression in a script: {script}");
        let script = process::script(self.temp, script);
        let shell: &[&str] = match step["shell"].as_str() {
            Some("bash") => &["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
            None => &["bash", "-e"],
            Some(other) => panic!("the harness does not know the shell {other}"),
        };
        let folder = step["working-directory"].as_str().map_or_else(String::new, |folder| self.contexts.text(folder));
        let ended = process::run(&script, shell, &self.workspace.join(folder), &env, self.cancelled);
        done.ended = Some(match ended.code {
            _ if !ended.signals.is_empty() => Status::Cancelled,
            Some(0) => Status::Success,
            _ => Status::Failure,
        });
        (done.code, done.signals, done.lines) = (ended.code, ended.signals, ended.log);
        let [outputs, set, paths, summary] = files.map(|file| fs::read_to_string(file).expect("UTF-8"));
        done.outputs = values(&outputs).into_iter().collect();
        done.summary = summary;
        self.set(values(&set));
        for path in paths.lines() {
            let all = format!("{path}:{}", self.env["PATH"]);
            self.env.insert("PATH".to_owned(), all);
        }
    }

    /// Sets variables for the steps that follow.
    fn set(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            self.contexts.roots["env"][&name] = json!(value);
            self.env.insert(name, value);
        }
    }

    fn used(&mut self, step: &Json, env: &BTreeMap<String, String>, done: &mut Step) {
        let (name, reference) = done.uses.split_once('@').unwrap_or((&done.uses, ""));
        let (name, reference) = (name.to_owned(), reference.to_owned());
        let with = |walk: &Self, key: &str| with(&walk.contexts, step, key);
        if done.uses == "./" || done.uses.starts_with(ACTION) {
            self.composite(step, &reference, env, done);
            return;
        }
        let pinned = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(pinned, "{} is not pinned by a commit", done.uses);
        match name.as_str() {
            "actions/checkout" => folders::copy(&self.machine.path("repository"), self.workspace),
            "actions/cache/restore" => {
                let hit = self.restore(&with(self, "key"), Path::new(&with(self, "path")));
                done.outputs.insert("cache-hit".to_owned(), hit.to_string());
            }
            "actions/cache/save" => {
                let path = PathBuf::from(with(self, "path"));
                let saved = self.machine.path("cache").join(with(self, "key"));
                assert!(!saved.exists(), "a key of the cache is written once");
                folders::copy(&path, &saved);
            }
            "actions/upload-artifact" => {
                assert_eq!(with(self, "if-no-files-found"), "error", "a job after this one would find nothing");
                let (kept, path) = (self.machine.path("artifacts").join(with(self, "name")), with(self, "path"));
                // The latest run of a workflow has artifacts of its own.
                let _ = fs::remove_dir_all(&kept);
                fs::create_dir(&kept).expect("a folder");
                fs::copy(self.workspace.join(&path), kept.join(&path)).expect("the file");
            }
            "actions/download-artifact" => {
                folders::copy(&self.machine.path("artifacts").join(with(self, "name")), self.workspace);
            }
            "aws-actions/configure-aws-credentials" => {
                assert_eq!(self.permissions["id-token"], "write", "nobody is told who this workflow is");
                assert!(!with(self, "role-to-assume").is_empty() && !with(self, "aws-region").is_empty());
                let keys = [("AWS_ACCESS_KEY_ID", "sandbox"), ("AWS_SECRET_ACCESS_KEY", "sandboxsecret")];
                self.set(keys.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            other => panic!("the harness does not know {other}"),
        }
        done.ended = Some(Status::Success);
    }

    fn restore(&self, key: &str, path: &Path) -> bool {
        let saved = self.machine.path("cache").join(key);
        if !saved.exists() && self.machine.cached {
            fs::create_dir(&saved).expect("a folder");
            let binary = env!("CARGO_BIN_EXE_batchplan");
            if key.starts_with("batchplan-source-") {
                fs::copy(binary, saved.join("batchplan")).expect("copied");
            } else {
                // A release's binary gives way to the one that is tested: the archive of that would be packed for
                // each test.
                for (name, content) in install::release(key, &format!("exec '{binary}' \"$@\"")) {
                    fs::write(saved.join(name), content).expect("written");
                }
            }
        }
        if saved.exists() {
            folders::copy(&saved, path);
        }
        saved.exists()
    }

    fn composite(&mut self, step: &Json, reference: &str, env: &BTreeMap<String, String>, done: &mut Step) {
        let action = parsed(&fs::read_to_string(root().join("action.yml")).expect("the action"));
        let mut inputs = Map::new();
        let declared = action["inputs"].as_object().expect("inputs");
        let given = step["with"].as_object().cloned().unwrap_or_default();
        for name in given.keys() {
            assert!(declared.contains_key(name), "the action has no input {name}");
        }
        for (name, input) in declared {
            assert!(given.contains_key(name) || input["required"] != true, "the action needs the input {name}");
            let default = input.get("default").map(text_of).unwrap_or_default();
            let given = given.contains_key(name).then(|| with(&self.contexts, step, name));
            inputs.insert(name.clone(), json!(given.unwrap_or(default)));
        }
        let mut contexts = self.contexts.clone();
        contexts.status = Status::Success;
        contexts.roots.insert("inputs".to_owned(), Json::Object(inputs));
        contexts.roots["steps"] = json!({});
        contexts.roots["github"]["action_ref"] = json!(reference);
        contexts.roots["github"]["action_repository"] = json!(if reference.is_empty() { "" } else { "acme/batchplan" });
        let mut env = env.clone();
        env.insert("GITHUB_ACTION_PATH".to_owned(), root().display().to_string());
        let mut walk = Walk {
            machine: self.machine,
            workspace: self.workspace,
            temp: self.temp,
            env,
            contexts,
            permissions: self.permissions.clone(),
            cancelled: self.cancelled,
        };
        done.inner = walk.steps(action["runs"]["steps"].as_array().expect("steps"));
        done.ended = Some(walk.contexts.status);
        done.code = done.inner.iter().rev().find_map(|step| step.code);
        done.signals = done.inner.iter().flat_map(|step| step.signals.clone()).collect();
        for (name, output) in action["outputs"].as_object().expect("outputs") {
            done.outputs.insert(name.clone(), walk.contexts.text(output["value"].as_str().expect("a value")));
        }
    }
}

/// An input of a step.
fn with(contexts: &Contexts, step: &Json, key: &str) -> String {
    let value = step["with"].get(key).unwrap_or_else(|| panic!("{} has no {key}", step["uses"]));
    contexts.text(&text_of(value))
}
