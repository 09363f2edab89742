//! State folders that this user may not write to, or that have no file locks.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::{Scene, run, run_to};

/// How a folder is made read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// By its permissions, which count for root as well without its capabilities.
    Permissions,
    /// By a read-only mount, where this user may mount.
    Mount,
}

impl Refusal {
    /// Returns a command as it runs with a read-only folder.
    fn apply(self, command: &Command, folder: &Path) -> Command {
        let is_root = rustix::process::geteuid().is_root();
        let (program, prefix): (&str, Vec<&str>) = match self {
            Self::Mount => {
                let script =
                    "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && cd \"$PWD\" && exec \"$@\"";
                ("unshare", vec!["-rm", "sh", "-c", script, folder.to_str().expect("UTF-8")])
            }
            Self::Permissions if is_root => ("setpriv", vec!["--bounding-set=-dac_override,-dac_read_search"]),
            Self::Permissions => ("env", Vec::new()),
        };
        let mut wrapped = Command::new(program);
        wrapped.args(prefix).arg(command.get_program()).args(command.get_args()).env_clear();
        wrapped.current_dir(command.get_current_dir().expect("a folder")).stdin(Stdio::null());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped
    }

    /// Returns what the system says about a write.
    fn error(self) -> &'static str {
        match self {
            Self::Permissions => "Permission denied (os error 13)",
            Self::Mount => "Read-only file system (os error 30)",
        }
    }

    /// Returns the ways that this user can try. The first one always works.
    #[expect(clippy::print_stderr, reason = "a test that tries less than it could must say so")]
    fn all(folder: &Path) -> Vec<Self> {
        let mut probe = Command::new("true");
        probe.current_dir("/").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let can_mount = Self::Mount.apply(&probe, folder).output().is_ok_and(|output| output.status.success());
        if !can_mount {
            eprintln!("this user may not mount: only folders without write permission are tried");
        }
        [Self::Permissions, Self::Mount].into_iter().filter(|it| *it == Self::Permissions || can_mount).collect()
    }
}

/// A folder without write permissions below it, until it is dropped.
struct Locked(PathBuf);

impl Locked {
    fn new(folder: &Path) -> Self {
        set_write_permission(folder, false);
        Self(folder.to_owned())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        set_write_permission(&self.0, true);
    }
}

fn set_write_permission(path: &Path, writable: bool) {
    let found = fs::metadata(path).expect("it exists");
    let mode = found.permissions().mode();
    let set = |writable: bool| {
        let mode = if writable { mode | 0o200 } else { mode & !0o222 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    };
    if writable {
        set(true);
    }
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            set_write_permission(&entry.expect("an entry").path(), writable);
        }
    }
    if !writable {
        set(false);
    }
}

/// The names and sizes of all files below a folder, sorted.
fn content(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let bytes = fs::metadata(&path).expect("a file").len();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// A scene with a job that is complete, and its ID.
fn scene_with_job() -> (Scene, String) {
    let scene = Scene::new();
    let said = run_to(0, scene.command_with_keys(&["apply", "plan.toml", "--auto-approve", "--json"]));
    let json = &said[said.find('{').expect("JSON")..];
    let applied: Json = serde_json::from_str(json).expect("JSON");
    let job = applied["job_id"].as_str().expect("an ID").to_owned();
    (scene, job)
}

#[test]
fn jobs_are_listed_and_plans_previewed_without_write_permission() {
    let (scene, job) = scene_with_job();
    let state = scene.folder.path().join(".batchplan");
    let before = content(&state);
    for refusal in Refusal::all(&state) {
        let _locked = (refusal == Refusal::Permissions).then(|| Locked::new(&state));
        let refused = |args: &[&str]| refusal.apply(&scene.command_with_keys(args), &state);
        let mut touch = Command::new("touch");
        touch.arg(state.join("new")).current_dir("/").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        assert_ne!(run(refusal.apply(&touch, &state)).0, Some(0), "{refusal:?} refuses nothing");

        assert!(run_to(0, refused(&["list"])).contains("Complete"));
        assert!(run_to(0, refused(&["show", &job])).contains("2\n  failed"));
        let planned = run_to(0, refused(&["plan", "plan.toml"]));
        assert!(
            planned.contains(&format!("Since job {} ", &job[..8])) && planned.contains("the same objects"),
            "{planned}"
        );
        for args in [&["apply", "plan.toml", "--auto-approve", "--new"][..], &["run"], &["cancel", &job]] {
            let said = run_to(1, refused(args));
            let expected = format!(
                "error: cannot write .batchplan/journal.db: {}\n  help: make the folder writable, or use another \
                 one with --state DIR\n",
                refusal.error()
            );
            assert_eq!(said, expected, "{args:?}");
        }
        assert_eq!(content(&state), before);
        // Another folder works.
        run_to(0, refused(&["apply", "plan.toml", "--auto-approve", "--state", &format!("{refusal:?}")]));
    }
}

/// Changes the journal as a process does that is then killed: its changes are in the write-ahead log.
fn rename_job_and_be_killed(journal: &Path, name: &str) {
    let copy = tempfile::tempdir().expect("a folder");
    let beside = |path: &Path, ending: &str| PathBuf::from(format!("{}{ending}", path.to_str().expect("UTF-8")));
    let connection = Connection::open(journal).expect("opened");
    connection.execute("UPDATE job SET name = ?1", [name]).expect("renamed");
    for ending in ["", "-wal", "-shm"] {
        fs::copy(beside(journal, ending), beside(&copy.path().join("j"), ending)).expect("copied");
    }
    drop(connection);
    for ending in ["", "-wal", "-shm"] {
        fs::copy(beside(&copy.path().join("j"), ending), beside(journal, ending)).expect("copied");
    }
}

#[test]
fn what_a_killed_process_recorded_is_shown_as_well() {
    let (scene, _) = scene_with_job();
    let state = scene.folder.path().join(".batchplan");
    rename_job_and_be_killed(&state.join("journal.db"), "after the kill");
    for shared_memory in [true, false] {
        if !shared_memory {
            // As in a copy of the folder that was made without this file.
            fs::remove_file(state.join("journal.db-shm")).expect("removed");
        }
        for refusal in Refusal::all(&state) {
            let _locked = (refusal == Refusal::Permissions).then(|| Locked::new(&state));
            let before = content(&state);
            let said = run_to(0, refusal.apply(&scene.command(&["list"]), &state));
            assert!(said.contains("after the kill"), "{said}");
            assert_eq!(content(&state), before);
        }
    }
}

#[test]
fn a_watched_copy_leaves_no_file_for_others() {
    let scene = Scene::new();
    let said = run_to(0, scene.command_with_keys(&["create", "plan.toml", "--json"]));
    let created: Json = serde_json::from_str(&said[said.find("{\"").expect("JSON")..]).expect("JSON");
    let job = created["job_id"].as_str().expect("an ID");
    // A job that waits for a runner is watched until one has run it.
    run_to(0, scene.command(&["confirm", job]));
    let state = scene.folder.path().join(".batchplan");
    let temporary = tempfile::tempdir().expect("a folder");
    let _locked = Locked::new(&state);
    let mut command = Refusal::Permissions.apply(&scene.command(&["show", job, "--watch"]), &state);
    command.env("TMPDIR", temporary.path()).stdout(Stdio::piped());
    let mut watching = command.spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(watching.stdout.take().expect("piped")).read_line(&mut line).expect("read");
    watching.kill().expect("killed");
    watching.wait().expect("ended");
    assert!(line.contains("Ready"), "{line}");
    assert_eq!(fs::read_dir(temporary.path()).expect("a folder").count(), 0);
}

#[test]
fn a_pipe_in_the_place_of_a_file_of_the_journal_is_named() {
    let (scene, _) = scene_with_job();
    let state = scene.folder.path().join(".batchplan");
    for name in ["journal.db-wal", "journal.db-shm", "journal.db-journal", "journal.db"] {
        let path = state.join(name);
        fs::remove_file(&path).ok();
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let expected = format!("error: .batchplan/{name}: it is not a regular file; remove it");
        for locked in [true, false] {
            let _locked = locked.then(|| Locked::new(&state));
            let said = run_to(1, Refusal::Permissions.apply(&scene.command(&["list"]), &state));
            assert!(said.contains(&expected), "{said}");
        }
        fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn a_journal_that_cannot_be_read_either_is_named() {
    let (scene, _) = scene_with_job();
    let state = scene.folder.path().join(".batchplan");
    let _locked = Locked::new(&state);
    let mut command = Refusal::Permissions.apply(&scene.command(&["list"]), &state);
    command.env("TMPDIR", "/nonexistent");
    let said = run_to(1, command);
    assert!(
        said.contains("journal.db is in a read-only folder and cannot be copied") && said.contains("TMPDIR"),
        "{said}"
    );
    fs::set_permissions(state.join("journal.db"), fs::Permissions::from_mode(0o000)).expect("set");
    let said = run_to(1, Refusal::Permissions.apply(&scene.command(&["list"]), &state));
    fs::set_permissions(state.join("journal.db"), fs::Permissions::from_mode(0o644)).expect("set");
    assert!(said.contains(".batchplan/journal.db: Permission denied") && !said.contains("TMPDIR"), "{said}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let (scene, _) = scene_with_job();
    let path = |name: &str| scene.folder.path().join(name);
    let run_without = |locked: &str, args: &[&str]| {
        let _locked = Locked::new(&path(locked));
        run_to(1, Refusal::Permissions.apply(&scene.command_with_keys(args), &path(locked)))
    };
    let help = "help: make the file and its folder readable and writable, then run the command again";

    // A saved plan. Nothing of it stays, and on a full disk neither.
    fs::create_dir(path("saved")).expect("a folder");
    let said = run_without("saved", &["plan", "plan.toml", "--out", "saved/p.bpl"]);
    assert!(
        said.contains("error: cannot write the saved plan saved/p.bpl: Permission denied (os error 13)\n"),
        "{said}"
    );
    let advice = "nothing was changed; check the permissions of the file and of its folder, or choose another file";
    assert!(said.contains(&format!("help: {advice} with --out")), "{said}");
    assert_eq!(content(&path("saved")), []);

    // A new plan.
    let said = run_without("saved", &["init", "saved/x.toml"]);
    let expected = "error: cannot write saved/x.toml: Permission denied (os error 13)\n  \
        help: check the permissions of the file and of its folder\n";
    assert!(said.ends_with(expected), "{said}");

    // The folder of a new job, and the report of another one.
    let said = run_without(".batchplan/jobs", &["create", "plan.toml", "--new"]);
    assert!(said.contains("error: .batchplan/jobs/") && said.contains("=: Permission denied"), "{said}");
    assert!(said.contains(help), "{said}");
    let said = run_to(0, scene.command_with_keys(&["create", "plan.toml", "--new", "--json"]));
    let created: Json = serde_json::from_str(&said[said.find("{\"").expect("JSON")..]).expect("JSON");
    let job = created["job_id"].as_str().expect("an ID");
    let folder = format!(".batchplan/jobs/{job}");
    let resume = ["resume", job, "--auto-approve"];
    let said = run_without(&folder, &resume);
    assert!(
        said.contains(&format!("error: cannot lock job {}: {folder}/lease: Permission denied", &job[..8])),
        "{said}"
    );
    assert!(said.contains(help), "{said}");
    fs::create_dir(path(&folder).join("report")).expect("a folder");
    let said = run_without(&format!("{folder}/report"), &resume);
    assert!(said.contains(&format!("cannot write the report: {folder}/report/")), "{said}");
    assert!(said.contains(help), "{said}");
    run_to(0, scene.command_with_keys(&resume));

    // The frozen manifest of a preview and the journal, where no file may have a byte.
    let run_full = |args: &[&str]| {
        let command = scene.command_with_keys(args);
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f 0 && exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        limited.env_clear().current_dir(scene.folder.path()).env("TMPDIR", path("saved"));
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run_to(1, limited)
    };
    let said = run_full(&["plan", "plan.toml", "--state", "none"]);
    let part = format!("error: no space left on the disk: cannot write {}/", path("saved").display());
    assert!(said.contains(&part) && said.contains("part-00000.bpm: "), "{said}");
    let said = run_full(&["list"]);
    assert!(said.contains("error: .batchplan/journal.db") && said.contains("  help: "), "{said}");
    assert!(said.starts_with("warning: cannot write the log file: "), "{said}");
}

#[test]
fn a_folder_for_temporary_files_is_named_where_it_is_needed() {
    let scene = Scene::new();
    let mut command = scene.command_with_keys(&["plan", "plan.toml"]);
    command.env("TMPDIR", "/nonexistent/tmp");
    let said = run_to(1, command);
    assert!(said.contains("cannot create a temporary folder") && said.contains("/nonexistent/tmp/"), "{said}");
    assert!(said.contains("set TMPDIR"), "{said}");
}

#[test]
fn jobs_in_a_bucket_are_listed_from_a_read_only_folder() {
    let scene = Scene::new();
    scene.write("plan.toml", &scene.read("plan.toml").replace("[operation", "prefix = \"k\"\n[operation"));
    let state = format!("s3://bkt/state?endpoint={}", scene.endpoint());
    let said = run_to(0, scene.command_with_keys(&["apply", "plan.toml", "--auto-approve", "--state", &state]));
    assert!(said.contains("2 changed"), "{said}");
    let plan = scene.folder.path().join("plan.toml");
    let plan = plan.to_str().expect("UTF-8");
    let elsewhere = tempfile::tempdir().expect("a folder");
    for refusal in Refusal::all(elsewhere.path()) {
        let _locked = (refusal == Refusal::Permissions).then(|| Locked::new(elsewhere.path()));
        let run_there = |args: &[&str]| {
            let mut command = scene.command_with_keys(args);
            command.current_dir(elsewhere.path()).args(["--state", &state]);
            run_to(0, refusal.apply(&command, elsewhere.path()))
        };
        let listed: Json = serde_json::from_str(&run_there(&["list", "--json"])).expect("JSON");
        let job = listed["jobs"][0]["job_id"].as_str().expect("an ID").to_owned();
        assert!(run_there(&["show", &job]).contains("is Complete"));
        let planned = run_there(&["plan", plan]);
        assert!(planned.contains(&format!("Since job {} ", &job[..8])) && planned.contains("manifest"), "{planned}");
        assert!(!planned.contains("was not resolved"), "{planned}");
        // A job of a bucket needs a local copy, which is not possible here.
        let mut command = scene.command_with_keys(&["apply", plan, "--auto-approve", "--new", "--state", &state]);
        command.current_dir(elsewhere.path());
        let said = run_to(1, refusal.apply(&command, elsewhere.path()));
        let expected = "error: cannot use the local copy of the state: .batchplan";
        assert!(said.contains(expected) && said.contains("help: make the folder writable, or run"), "{said}");
    }
}

/// Starts a program whose calls of `flock`, and of `fcntl` for locks, fail with this code: `PERL CODE PROGRAM ...`.
const WITHOUT_LOCKS: &str = r#"
    my ($arch, $flock, $fcntl, $prctl, $code) = splice(@ARGV, 0, 5);
    sub step { pack("S C C L", @_) }
    my $filter = join("",
        step(0x20, 0, 0, 4), step(0x15, 0, 7, $arch),    # another architecture: allow
        step(0x20, 0, 0, 0), step(0x15, 6, 0, $flock), step(0x15, 0, 4, $fcntl),
        step(0x20, 0, 0, 24),                            # the command of fcntl: F_SETLK, F_SETLKW, F_OFD_SETLK
        step(0x15, 3, 0, 6), step(0x15, 2, 0, 7), step(0x15, 1, 0, 37),
        step(0x06, 0, 0, 0x7fff0000), step(0x06, 0, 0, 0x00050000 | $code));
    my $program = pack("S x6 P", 11, $filter);
    syscall($prctl + 0, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
    syscall($prctl + 0, 22, 2, $program, 0, 0) == 0 or die "seccomp: $!";
    exec(@ARGV) or die "exec: $!";
"#;

/// `ENOLCK`, as on NFS without its lock service; `ENOSYS` and `EOPNOTSUPP`, as on other file systems without locks.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn a_file_system_without_locks_is_named_as_that() {
    let (arch, flock, fcntl, prctl) =
        if cfg!(target_arch = "x86_64") { (0xC000_003E_u32, 73, 72, 157) } else { (0xC000_00B7, 32, 25, 167) };
    let (scene, _) = scene_with_job();
    let help = "\n  help: NFS without its lock service, for example, cannot hold jobs: keep them on a local disk with \
                --state DIR, or in a bucket with --state s3://BUCKET/PREFIX\n";
    for (code, text) in [
        (37, "No locks available (os error 37)"),
        (38, "Function not implemented (os error 38)"),
        (95, "Operation not supported (os error 95)"),
    ] {
        for (args, file) in [
            (&["apply", "plan.toml", "--auto-approve", "--state", "new"][..], "new/lease"),
            (&["apply", "plan.toml", "--auto-approve", "--new"], ".batchplan/lease"),
            (&["run"], ".batchplan/lease"),
            (&["list"], ".batchplan/journal.db"),
            (&["plan", "plan.toml"], ".batchplan/journal.db"),
        ] {
            let command = scene.command_with_keys(args);
            let mut wrapped = Command::new("perl");
            wrapped.args(["-e", WITHOUT_LOCKS]);
            wrapped.args([arch, flock, fcntl, prctl, code].map(|number| number.to_string()));
            wrapped.arg(command.get_program()).args(command.get_args()).env_clear();
            wrapped.current_dir(scene.folder.path()).stdin(Stdio::null());
            wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let said = run_to(1, wrapped);
            assert_eq!(said, format!("error: {file}: its file system offers no file locks ({text}){help}"), "{args:?}");
        }
    }
}
