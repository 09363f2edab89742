//! The machine around the program: credentials from sessions and processes, folders that are missing or read-only, and
//! the environment variables that have an effect.

mod cells;
mod clients;
mod folders;
#[cfg(target_os = "linux")]
mod odd_names;
mod portal;
mod processes;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "the tests of proxies look closer at them")]
mod proxy;
#[cfg(target_os = "linux")]
mod read_only;
mod sessions;
#[path = "../support/variables.rs"]
mod table;
mod variables;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions, SandboxServer};
use tempfile::TempDir;

/// A sandbox with some objects, a plan for it, and a home folder.
pub(crate) struct Scene {
    pub(crate) folder: TempDir,
    /// Where the program logs everything, apart from `folder`, which a test may protect.
    log_folder: TempDir,
    sandbox: SandboxServer,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("objects.csv"), "bucket,key\nbkt,k0\nbkt,k1\n");
        let objects = folder.path().join("objects.csv");
        let sandbox = Sandbox::in_memory(Some(&objects), SandboxOptions::default()).expect("a sandbox");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let sandbox = SandboxServer::start(sandbox, listen, false).expect("a server");
        let plan = format!(
            "name = \"t\"\n[store]\nprovider = \"s3\"\nendpoint = \"{}\"\naddressing = \"path\"\nregion = \"us-east-1\"\n\
             [manifest.prefix]\nbucket = \"bkt\"\n[operation.put_object_tagging]\ntags = {{ t = \"1\" }}\n",
            sandbox.endpoint()
        );
        write(&folder.path().join("plan.toml"), &plan);
        Self { folder, log_folder: tempfile::tempdir().expect("a folder"), sandbox }
    }

    /// The program in this folder, which is the home folder as well, without credentials. It logs everything that it
    /// can.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchplan"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.arg("-vvv").arg(LOG_FILE).arg(self.log_folder.path().join("log")).env("RUST_LOG", LOG_ALL);
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// The program with the sandbox's keys in the environment.
    pub(crate) fn command_with_keys(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    pub(crate) fn endpoint(&self) -> String {
        self.sandbox.endpoint()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        write(&self.folder.path().join(file), text);
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).expect("text")
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("written");
}

/// The option that names the log file.
const LOG_FILE: &str = "--log-file";

/// Directives that log as much of the libraries as is possible.
const LOG_ALL: &str = "trace,aws_config=trace,aws_runtime=trace,aws_sdk_sso=trace,aws_sdk_ssooidc=trace,\
                       aws_sdk_signin=trace,aws_sdk_sts=trace,aws_sigv4=trace,aws_smithy_http=trace,\
                       aws_smithy_runtime=trace,aws_smithy_runtime_api=trace,hyper=trace,hyper_util=trace,rustls=trace";

/// Reads what a command has logged, if it got that far.
fn log_of(command: &Command) -> String {
    let mut args = command.get_args().skip_while(|arg| *arg != LOG_FILE);
    args.nth(1).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

/// Runs a command. Returns its exit code and all that it printed. Neither that nor its log ever contains a secret.
pub(crate) fn run(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
    for text in [&said, &log_of(&command)] {
        assert!(!text.contains("hush") && !text.contains(SECRET_KEY) && !text.contains("panicked"), "{text}");
    }
    (status.code(), said)
}

/// Runs a command that must end with this code.
pub(crate) fn run_to(code: i32, command: Command) -> String {
    let (found, said) = run(command);
    assert_eq!(found, Some(code), "{said}");
    said
}
