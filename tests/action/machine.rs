//! The runner of workflows: a repository that is checked out, a cache that outlives jobs, and jobs in folders of
//! their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use crate::expression::{Contexts, Status};
use crate::steps::{Step, Walk};

/// What the workflows call the action by; whoever copies them writes the owner of the repository that it lives in.
pub(crate) const ACTION: &str = "OWNER/batchplan@";

/// The runner, and what it keeps from one job to the next.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    pub(crate) vars: Map<String, Json>,
    /// What is in the environment of every step.
    pub(crate) env: BTreeMap<String, String>,
    /// Whether the action's cache holds the binary that is tested.
    pub(crate) cached: bool,
    /// Whether somebody approves of jobs in protected environments.
    pub(crate) approves: bool,
    /// `RUNNER_OS` and `RUNNER_ARCH`.
    pub(crate) kind: (&'static str, &'static str),
    /// The URLs of the GitHub that it belongs to, and of its API.
    pub(crate) github: (String, String),
}

/// What has a workflow run.
#[derive(Clone)]
pub(crate) struct Trigger {
    pub(crate) event: &'static str,
    pub(crate) payload: Json,
}

/// A run of a workflow.
pub(crate) struct Run {
    pub(crate) jobs: Vec<Job>,
}

/// A job of a run.
pub(crate) struct Job {
    pub(crate) id: String,
    /// How it ended; `None` where it was skipped, or waits for somebody's approval.
    pub(crate) ended: Option<Status>,
    pub(crate) steps: Vec<Step>,
    /// What other jobs are given of it.
    pub(crate) outputs: BTreeMap<String, String>,
    /// Its folder.
    pub(crate) workspace: PathBuf,
}

impl Run {
    /// The only job that was run.
    #[track_caller]
    pub(crate) fn job(&self) -> &Job {
        let run: Vec<_> = self.jobs.iter().filter(|job| job.ended.is_some()).collect();
        assert_eq!(run.len(), 1, "{:?}", self.jobs.iter().map(|job| (&job.id, job.ended)).collect::<Vec<_>>());
        run[0]
    }
}

impl Job {
    /// Fails with all that its steps said, unless it ended so.
    #[track_caller]
    pub(crate) fn ended(&self, ended: Status) -> &Self {
        assert_eq!(self.ended, Some(ended), "{}:\n{}", self.id, self.log());
        self
    }

    /// Every line of every step.
    pub(crate) fn log(&self) -> String {
        self.steps.iter().map(Step::log).collect::<Vec<_>>().join("\n")
    }

    /// What its steps added to its summary.
    pub(crate) fn summary(&self) -> String {
        self.steps.iter().map(Step::summary).collect()
    }

    /// The last step that ran the action.
    #[track_caller]
    pub(crate) fn action(&self) -> &Step {
        let last = self.steps.iter().rfind(|step| step.uses.starts_with(ACTION) || step.uses == "./");
        last.unwrap_or_else(|| panic!("no step uses the action"))
    }
}

impl Machine {
    /// A runner on Linux whose cache holds the binary, of a repository without a file.
    pub(crate) fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().expect("a folder"),
            vars: Map::new(),
            env: BTreeMap::new(),
            cached: true,
            approves: true,
            kind: ("Linux", "X64"),
            github: ("https://github.com".to_owned(), "https://api.github.com".to_owned()),
        };
        for folder in ["repository", "cache", "jobs", "artifacts"] {
            fs::create_dir(machine.path(folder)).expect("a folder");
        }
        machine
    }

    /// A path in the machine's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the repository.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path("repository").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// Runs the action alone, in a repository that is checked out.
    pub(crate) fn action(&self, with: &Json) -> Job {
        self.called("./", with)
    }

    /// Runs the action alone, called by this reference.
    pub(crate) fn called(&self, uses: &str, with: &Json) -> Job {
        let checkout = json!({ "uses": "actions/checkout@0000000000000000000000000000000000000000" });
        let steps = json!([checkout, { "uses": uses, "with": with }]);
        let workflow = json!({ "on": "push", "jobs": { "job": { "runs-on": "ubuntu-latest", "steps": steps } } });
        let mut run = self.run(&workflow, &Trigger { event: "push", payload: json!({}) }, &mut || false);
        run.jobs.pop().expect("a job")
    }

    /// Runs a workflow.
    pub(crate) fn run(&self, workflow: &Json, trigger: &Trigger, cancelled: &mut dyn FnMut() -> bool) -> Run {
        let on = &workflow["on"];
        assert!(on == trigger.event || on.get(trigger.event).is_some(), "{on} is not for {}", trigger.event);
        assert!(on.get("pull_request_target").is_none(), "pull_request_target gives strangers' code the secrets");
        let jobs = workflow["jobs"].as_object().expect("jobs");
        let mut run = Run { jobs: Vec::new() };
        // A job comes after those that it needs. Otherwise the order is free.
        let mut left: Vec<_> = jobs.iter().collect();
        while !left.is_empty() {
            let done = |id: &str| run.jobs.iter().any(|job: &Job| job.id == id);
            let ready = left.iter().position(|(_, job)| job["needs"].as_str().is_none_or(done));
            let (id, job) = left.remove(ready.expect("a job whose needs are met"));
            let needs = job["needs"].as_str().and_then(|id| run.jobs.iter().find(|job| job.id == id));
            let done = self.job(workflow, (id, job), needs, trigger, cancelled);
            run.jobs.push(done);
        }
        run.jobs.sort_by(|one, other| one.id.cmp(&other.id));
        run
    }

    fn job(
        &self,
        workflow: &Json,
        (id, job): (&str, &Json),
        needs: Option<&Job>,
        trigger: &Trigger,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Job {
        for key in job.as_object().expect("a job").keys() {
            let known = [
                "name",
                "if",
                "runs-on",
                "environment",
                "permissions",
                "concurrency",
                "env",
                "steps",
                "timeout-minutes",
                "needs",
                "outputs",
            ];
            assert!(known.contains(&key.as_str()), "the harness does not know what {key} of {id} means");
        }
        let folder = tempfile::TempDir::with_prefix_in("job-", self.path("jobs")).expect("a folder").keep();
        let workspace = folder.join("workspace");
        let temp = folder.join("temp");
        for made in [&workspace, &temp] {
            fs::create_dir(made).expect("a folder");
        }
        let mut contexts = self.contexts(workflow, trigger, &workspace, &temp);
        let skipped = |steps| Job {
            id: id.to_owned(),
            ended: None,
            steps,
            workspace: workspace.clone(),
            outputs: BTreeMap::new(),
        };
        if let Some(needed) = needs {
            contexts.roots["needs"][&needed.id] = json!({ "outputs": needed.outputs });
        }
        if needs.is_some_and(|needed| needed.ended != Some(Status::Success))
            || !contexts.holds(job["if"].as_str())
            || (job.get("environment").is_some() && !self.approves)
        {
            return skipped(Vec::new());
        }
        let mut env = self.process_env(trigger, &folder);
        for level in [&workflow["env"], &job["env"]] {
            for (name, value) in level.as_object().into_iter().flatten() {
                let value = contexts.text(&crate::expression::text_of(value));
                env.insert(name.clone(), value.clone());
                contexts.roots["env"][name] = json!(value);
            }
        }
        let permissions = job.get("permissions").or_else(|| workflow.get("permissions")).cloned();
        let mut walk = Walk {
            machine: self,
            workspace: &workspace,
            temp: &temp,
            env,
            contexts,
            permissions: permissions.unwrap_or(json!({})),
            cancelled,
        };
        let steps = walk.steps(job["steps"].as_array().expect("steps"));
        let declared = job["outputs"].as_object().into_iter().flatten();
        let outputs = declared.map(|(name, value)| (name.clone(), walk.contexts.text(value.as_str().expect("a text"))));
        Job { ended: Some(walk.contexts.status), outputs: outputs.collect(), ..skipped(steps) }
    }

    fn contexts(&self, workflow: &Json, trigger: &Trigger, workspace: &Path, temp: &Path) -> Contexts {
        let mut inputs = Map::new();
        let declared = workflow["on"]["workflow_dispatch"]["inputs"].as_object();
        for (name, input) in declared.into_iter().flatten() {
            let given = trigger.payload["inputs"].get(name).or_else(|| input.get("default"));
            inputs.insert(name.clone(), given.cloned().unwrap_or(json!("")));
        }
        let (os, arch) = self.kind;
        let roots = json!({
            "github": {
                "event_name": trigger.event, "event": trigger.payload, "token": "ghs_harness", "repository": "acme/data",
                "ref": "refs/heads/main", "workspace": workspace, "run_id": "1", "run_number": "17",
                "server_url": self.github.0, "api_url": self.github.1,
                "action_ref": "", "action_repository": "",
            },
            "runner": { "temp": temp, "os": os, "arch": arch },
            "vars": self.vars, "secrets": {}, "env": {}, "steps": {}, "needs": {}, "inputs": inputs,
        });
        Contexts { roots: roots.as_object().expect("an object").clone(), status: Status::Success }
    }

    /// What every step of a job finds in its environment: nothing of the test's own.
    fn process_env(&self, trigger: &Trigger, folder: &Path) -> BTreeMap<String, String> {
        let event = folder.join("event.json");
        fs::write(&event, trigger.payload.to_string()).expect("written");
        let (os, arch) = self.kind;
        let text = |path: &Path| path.display().to_string();
        let mut env: BTreeMap<_, _> = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("HOME", text(folder)),
            ("CI", "true".to_owned()),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_WORKSPACE", text(&folder.join("workspace"))),
            ("GITHUB_REPOSITORY", "acme/data".to_owned()),
            ("GITHUB_EVENT_NAME", trigger.event.to_owned()),
            ("GITHUB_EVENT_PATH", text(&event)),
            ("GITHUB_SERVER_URL", "https://github.com".to_owned()),
            ("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567".to_owned()),
            ("RUNNER_OS", os.to_owned()),
            ("RUNNER_ARCH", arch.to_owned()),
            ("RUNNER_TEMP", text(&folder.join("temp"))),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        env.extend(self.env.clone());
        env
    }
}

/// A workflow, or an action, from its file.
pub(crate) fn parsed(text: &str) -> Json {
    serde_norway::from_str(text).expect("YAML")
}

/// The repository that this is.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository that this is, as YAML.
pub(crate) fn yaml(name: &str) -> Json {
    parsed(&fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
}
