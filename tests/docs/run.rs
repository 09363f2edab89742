//! Runs the blocks of one page, in one folder and with one sandbox.
//!
//! | block | what happens |
//! |---|---|
//! | `console` | each `$ command` is run; the lines below it are its output, see `varying` |
//! | `toml` | a plan that must be valid; with `part`, keys of a plan; with `prices`, a price book; with `rules`, rules |
//! | `yaml` | a workflow, which `tests/action/lint.sh` checks |
//! | `json` | must be JSON |
//! | `sh` | one of the commands that `.ci/run` runs |
//!
//! | directive | meaning |
//! |---|---|
//! | `file NAME` | the block is also a file in the page's folder |
//! | `hidden file NAME`, then text | a file that the page does not show |
//! | `hidden run`, then commands | commands that the page does not show |
//! | `sandbox FILE REGION` | a sandbox with the objects that this file lists stands in for AWS in this region |
//! | `repository` | the page's folder has the repository's `plans/` |
//! | `env NAME=VALUE` | for the block's commands |
//! | `exit N` | how the block's last command ends; the others end with 0 |
//! | `keys TEXT` | what is typed at the question of the block's last command |
//! | `server` | the block's command runs until the page's end; its first line is compared |
//! | `ends with`, then Python | what must hold behind a block of Python |
//! | `generated` | a test compares the block with the program |
//! | `not run (REASON)` | nothing happens |

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use batchplan::diagnostics::FileProblems;
use batchplan::estimate::PriceBook;
use batchplan::plan_rules::PlanRules;
use tempfile::TempDir;

use crate::folders::copy;
use crate::page::{Block, Directive, Page, root};
use crate::varying::{JobIds, matches, normalise};

const BINARY: &str = env!("CARGO_BIN_EXE_batchplan");

/// The home folder, as pages show it. The page's commands run in its folder `work`.
const SHOWN_HOME: &str = "/home/ana";

/// The program, as pages show it.
const SHOWN_BINARY: &str = "/home/ana/.cargo/bin/batchplan";

/// The endpoint of a page's own server, as pages show it.
const SHOWN_ENDPOINT: &str = "http://127.0.0.1:9100";

/// A page that is run.
pub(crate) struct PageRun<'a> {
    page: &'a Page,
    folder: TempDir,
    servers: Vec<Child>,
    env: Vec<(String, String)>,
    /// The endpoint of the page's server.
    endpoint: String,
    /// How messages name the sandbox that stands in for AWS, and the region that they would name without it.
    stand_in: Option<(String, String)>,
    /// The jobs that the page shows, and those of this run in their place.
    shown_jobs: JobIds,
    jobs: JobIds,
    /// The page's new text, from its end to its beginning.
    edits: Vec<(std::ops::Range<usize>, String)>,
    problems: Vec<String>,
}

/// One command of a `console` block, and the output that the page shows.
struct Step {
    command: String,
    shown: String,
}

impl<'a> PageRun<'a> {
    /// Runs all blocks. Returns the problems, and the page's text with the real output.
    pub(crate) fn run(page: &'a Page) -> (Vec<String>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder of its own for the shell's commands, beside which nothing of the test is.
        fs::create_dir_all(folder.path().join("work")).expect("a folder");
        fs::create_dir_all(folder.path().join("bin")).expect("a folder");
        std::os::unix::fs::symlink(BINARY, folder.path().join("bin/batchplan")).expect("a link");
        let mut run = Self {
            page,
            folder,
            servers: Vec::new(),
            env: Vec::new(),
            endpoint: String::new(),
            stand_in: None,
            shown_jobs: JobIds::default(),
            jobs: JobIds::default(),
            edits: Vec::new(),
            problems: Vec::new(),
        };
        // A page may name a job in a command before the output that shows it is compared.
        page.blocks.iter().for_each(|block| run.shown_jobs.learn(&block.text));
        for block in &page.blocks {
            let before = run.problems.len();
            run.block(block);
            for problem in &mut run.problems[before..] {
                *problem = format!("{}:{}: {problem}", page.name, block.line);
            }
        }
        for server in &mut run.servers {
            // It ends by a signal, as a person would end it.
            let _ = Command::new("kill").arg(server.id().to_string()).status();
            let _ = server.wait();
        }
        let mut text = page.text.clone();
        for (range, edit) in run.edits.into_iter().rev() {
            text.replace_range(range, &edit);
        }
        (run.problems, text)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn block(&mut self, block: &Block) {
        for directive in &block.directives {
            self.prepare(directive);
        }
        if let Some(reason) = block.directive("not run") {
            let given = reason.strip_prefix('(').and_then(|reason| reason.strip_suffix(')'));
            if given.is_none_or(|reason| reason.len() < 10) {
                self.problems.push("say why the block is not run: `not run (REASON)`".to_owned());
            }
            return;
        }
        if block.directive("generated").is_some() {
            return;
        }
        let file = block.directive("file");
        if let Some(name) = file {
            self.write(name, &block.text);
        }
        match block.language.as_str() {
            "console" => self.console(block),
            "toml" if block.directive("prices").is_some() => self.price_book(&block.text),
            "toml" if block.directive("rules").is_some() => self.rules(&block.text),
            "toml" if block.directive("part").is_some() => self.part_of_a_plan(&block.text),
            "toml" => self.validate(&block.text),
            "yaml" => self.workflow(),
            "json" => {
                if let Err(error) = serde_json::from_str::<serde_json::Value>(&block.text) {
                    self.problems.push(format!("not JSON: {error}"));
                }
            }
            "python" => self.python(block),
            "sh" => self.ci(&block.text),
            _ if file.is_some() => {}
            other => self.problems.push(format!("nothing runs a block of {other:?}: say `not run (REASON)`")),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, self.shown_jobs.translate(text, &self.jobs)).expect("written");
    }

    /// What a directive does before its block.
    fn prepare(&mut self, directive: &Directive) {
        const OF_BLOCKS: [&str; 11] =
            ["file", "part", "prices", "rules", "env", "exit", "keys", "server", "not run", "ends with", "generated"];
        if let Some(name) = directive.after("hidden file") {
            self.write(name, &directive.text);
        } else if directive.after("hidden run").is_some() {
            for command in directive.text.lines().filter(|line| !line.trim().is_empty()) {
                let command = self.shown_jobs.translate(command, &self.jobs);
                let (code, output) = self.shell(&command, &[]);
                if code != 0 {
                    self.problems.push(format!("{command} exits with {code}:\n{output}"));
                }
            }
        } else if let Some((fill, region)) = directive.after("sandbox").and_then(|words| words.split_once(' ')) {
            let mut command = Command::new(BINARY);
            command.args(["sandbox", "--data", "../store", "--fill", fill]).current_dir(self.work());
            let endpoint = self.serve(command);
            self.stand_in = Some((format!("{endpoint} (from AWS_ENDPOINT_URL)"), region.to_owned()));
            let set = [
                ("AWS_ENDPOINT_URL", endpoint.as_str()),
                ("AWS_ACCESS_KEY_ID", "sandbox"),
                ("AWS_SECRET_ACCESS_KEY", "sandboxsecret"),
            ];
            self.env.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
        } else if directive.after("repository").is_some() {
            copy(&root().join("plans"), &self.work().join("plans"));
        } else if !OF_BLOCKS.iter().any(|known| directive.after(known).is_some()) {
            self.problems.push(format!("the directive `{}` is not known", directive.words));
        }
    }

    /// Starts a server, and returns its first line.
    fn serve(&mut self, mut command: Command) -> String {
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        self.servers.push(server);
        line.trim_end().to_owned()
    }

    /// A command in a shell with nothing of this process's environment.
    fn command(&self, words: [&str; 2], extra: &[(&str, &str)]) -> Command {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        let mut shell = Command::new(words[0]);
        shell.args([if words[0] == "script" { "-qec" } else { "-c" }, words[1]]).current_dir(self.work()).env_clear();
        shell.env("HOME", self.folder.path()).env("PATH", path).env("LANG", "C.UTF-8").env("USER", "ana");
        shell.env("HOSTNAME", "laptop").env("COLUMNS", "80").envs(self.env.iter().map(|(name, value)| (name, value)));
        shell.envs(extra.iter().copied()).stdin(Stdio::null());
        shell
    }

    fn shell(&self, command: &str, extra: &[(&str, &str)]) -> (i32, String) {
        let output = self.command(["bash", &format!("exec 2>&1\n{command}")], extra).output().expect("a shell");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command at a terminal, and types these keys at its question.
    fn at_terminal(&self, command: &str, keys: &str, extra: &[(&str, &str)]) -> (i32, String) {
        let mut command = self.command(["script", &format!("stty -echo cols 120; exec {command}")], extra);
        let command = command.arg("/dev/null").env("NO_COLOR", "1").env("TERM", "dumb");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script of util-linux");
        let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (mut screen, mut part, mut typed) = (Vec::new(), [0; 4096], false);
        while let Ok(count @ 1..) = stdout.read(&mut part) {
            screen.extend_from_slice(&part[..count]);
            if !typed && String::from_utf8_lossy(&screen).contains("accepted: ") {
                typed = true;
                // What is typed is shown with the question, as a terminal does.
                screen.extend_from_slice(format!("{keys}\n").as_bytes());
                stdin.write_all(format!("{keys}\n").as_bytes()).expect("typed");
            }
        }
        let code = child.wait().expect("it ends").code().unwrap_or(-1);
        (code, without_progress(&String::from_utf8_lossy(&screen)))
    }

    fn console(&mut self, block: &Block) {
        let extra: Vec<_> =
            block.directives.iter().filter_map(|directive| directive.after("env")?.split_once('=')).collect();
        let steps = steps(&block.text);
        let (mut real, count) = (String::new(), steps.len());
        if count == 0 {
            self.problems.push("a console block without a command".to_owned());
        }
        for (index, step) in steps.iter().enumerate() {
            let command = self.shown_jobs.translate(&step.command, &self.jobs);
            if let Some(settings) = command.strip_prefix("export ") {
                self.export(settings);
                writeln!(real, "$ {}", step.command).expect("a string");
                continue;
            }
            let last = index + 1 == count;
            let (code, output) = match block.directive("keys").filter(|_| last) {
                _ if block.directive("server").is_some() => {
                    let command = command.replace("batchplan ", "exec batchplan ").replace(":9100", ":0");
                    let command = self.command(["bash", &command], &extra);
                    self.endpoint = self.serve(command);
                    (0, format!("{}\n", self.endpoint))
                }
                Some(keys) => self.at_terminal(&command, keys, &extra),
                None => self.shell(&command, &extra),
            };
            let wanted = block.directive("exit").filter(|_| last).map_or(0, |code| code.parse().expect("a code"));
            if code != wanted {
                self.problems.push(format!("{} exits with {code} and not with {wanted}:\n{output}", step.command));
            }
            self.compare(step, &output, &mut real);
        }
        if real != block.text {
            self.edits.push((block.range.clone(), real));
        }
    }

    /// Sets variables for the commands that follow. The page's server has an address of its own.
    fn export(&mut self, settings: &str) {
        for setting in settings.split(' ') {
            let (name, value) = setting.split_once('=').expect("NAME=VALUE");
            self.env.push((name.to_owned(), value.replace(SHOWN_ENDPOINT, &self.endpoint)));
        }
    }

    /// Compares a command's output with what the page shows, and adds both to the block as it should be.
    fn compare(&mut self, step: &Step, output: &str, real: &mut String) {
        let home = self.folder.path().canonicalize().expect("the folder");
        let output = output.replace(BINARY, SHOWN_BINARY).replace(&*home.to_string_lossy(), SHOWN_HOME);
        let output = self.as_at_aws(&output);
        self.jobs.learn(&output);
        let shown = normalise(&step.shown, &self.shown_jobs);
        let got = normalise(&output, &self.jobs);
        let (shown_lines, got_lines): (Vec<_>, Vec<_>) =
            (shown.lines().map(str::trim_end).collect(), got.lines().map(str::trim_end).collect());
        let command = step.command.replace('\n', "\n> ");
        writeln!(real, "$ {command}").expect("a string");
        if matches(&shown_lines, &got_lines) {
            real.push_str(&step.shown);
            return;
        }
        let output = self.jobs.translate(&output, &self.shown_jobs);
        self.problems.push(format!("{} prints:\n{output}", step.command));
        self.shown_jobs.learn(&output);
        for line in output.lines() {
            writeln!(real, "{}", line.trim_end()).expect("a string");
        }
    }

    /// Returns what a command would print at AWS, for which the page's sandbox stands.
    fn as_at_aws(&self, output: &str) -> String {
        // These lines are printed only if the environment names an endpoint.
        const ABOUT_THE_ENDPOINT: [&str; 2] = ["note: the state is at ", "endpoint "];
        let Some((sandbox, region)) = &self.stand_in else { return output.to_owned() };
        let is_kept =
            |line: &&str| !line.contains(sandbox) || !ABOUT_THE_ENDPOINT.iter().any(|start| line.starts_with(start));
        let kept: String = output.split_inclusive('\n').filter(is_kept).collect();
        kept.replace(sandbox, region)
    }

    fn validate(&mut self, plan: &str) {
        let folder = tempfile::tempdir_in(self.work()).expect("a folder");
        fs::write(folder.path().join("plan.toml"), plan).expect("written");
        let plan = folder.path().join("plan.toml");
        let (code, output) = self.shell(&format!("batchplan validate '{}'", plan.display()), &[]);
        if code != 0 {
            self.problems.push(format!("not a valid plan:\n{output}"));
        }
    }

    /// Validates keys of a plan in a plan that has the others.
    fn part_of_a_plan(&mut self, part: &str) {
        let base = "name = \"a\"\n[store]\nprovider = \"aws\"\nregion = \"eu-central-1\"\n[manifest.prefix]\nbucket = \"bkt\"\n\
                    [operation.add_object_tagging]\ntags = { a = \"1\" }\n";
        let mut plan: toml::Table = base.parse().expect("a plan");
        let part: toml::Table = match part.parse() {
            Ok(part) => part,
            Err(error) => return self.problems.push(format!("not TOML: {error}")),
        };
        for (key, value) in part {
            match (plan.get_mut(&key), value) {
                (Some(toml::Value::Table(table)), toml::Value::Table(filter))
                    if key == "manifest" && filter.keys().all(|key| key == "filter") =>
                {
                    table.extend(filter);
                }
                (_, value) => drop(plan.insert(key, value)),
            }
        }
        self.validate(&toml::to_string(&plan).expect("a plan"));
    }

    fn price_book(&mut self, text: &str) {
        let titles =
            |problems: FileProblems| problems.iter().map(|problem| problem.title().to_owned()).collect::<Vec<_>>();
        match PriceBook::from_toml("prices.toml", text).map_err(titles) {
            Ok(book) => assert!(book.entries().count() > 0),
            Err(titles) => self.problems.push(format!("not a price book: {titles:?}")),
        }
    }

    fn rules(&mut self, text: &str) {
        let (rules, problems) = PlanRules::parse("rules.toml", text.as_bytes());
        if rules.is_none() {
            let titles: Vec<_> = problems.iter().map(|problem| problem.title().to_owned()).collect();
            self.problems.push(format!("not rules for plans: {titles:?}"));
        }
    }

    fn workflow(&mut self) {
        let lint = fs::read_to_string(root().join("tests/action/lint.sh")).expect("the script");
        let folder = Path::new(&self.page.name).parent().expect("a folder").to_string_lossy();
        let pattern = if folder.is_empty() { self.page.name.clone() } else { format!("{folder}/*.md") };
        if !lint.contains(&pattern) {
            self.problems.push(format!("tests/action/lint.sh does not check {pattern}"));
        }
    }

    /// Runs Python after the lines of a directive, and with those of another behind it.
    fn python(&mut self, block: &Block) {
        let of = |words| block.directives.iter().find(|directive| directive.words == words);
        let Some(test) = of("ends with") else { return self.problems.push("a block of Python has no test".to_owned()) };
        self.write("page.py", &format!("{}\n{}", block.text, test.text));
        let output = Command::new("python3").arg(self.work().join("page.py")).output().expect("python3");
        if !output.status.success() {
            self.problems.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }

    /// The commands that `.ci/run` runs, since cargo cannot be run within cargo.
    fn ci(&mut self, commands: &str) {
        let ci = fs::read_to_string(root().join(".ci/run")).expect("the CI script");
        for command in commands.lines().filter(|line| !line.is_empty()) {
            // With --locked and a root of its own.
            let words: Vec<_> = command.split(' ').take(2).collect();
            let arguments = command.split(" -- ").nth(1).unwrap_or_default();
            let runs = |line: &str| line.starts_with(&words.join(" ")) && line.contains(arguments);
            if words[0] != "cargo" || !ci.lines().any(runs) {
                self.problems.push(format!("{command} is not in .ci/run"));
            }
        }
    }
}

/// Splits a `console` block into its commands, which `> ` continues, and their output.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
            (Some(command), _, _) => steps.push(Step { command: command.to_owned(), shown: String::new() }),
            (None, Some(more), Some(step)) if step.shown.is_empty() => {
                step.command.push('\n');
                step.command.push_str(more);
            }
            (None, _, Some(step)) => {
                step.shown.push_str(line);
                step.shown.push('\n');
            }
            (None, _, None) => panic!("a console block begins with `$ `, not with {line:?}"),
        }
    }
    steps
}

/// Returns what a screen shows in the end: without what progress bars drew and removed.
fn without_progress(screen: &str) -> String {
    let mut lines = Vec::new();
    for line in screen.replace("\r\n", "\n").lines() {
        let line = line.rsplit(['\r']).next().unwrap_or_default();
        let line = line.rsplit("\u{1b}[2K").next().unwrap_or_default().trim_end();
        lines.push(line.to_owned());
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_block_has_commands_and_their_output() {
    let steps = steps("$ a \\\n> b\nc\n> d\n$ e\n");
    let parts: Vec<_> = steps.iter().map(|step| (step.command.as_str(), step.shown.as_str())).collect();
    assert_eq!(parts, [("a \\\nb", "c\n> d\n"), ("e", "")]);
}

#[test]
fn a_page_that_is_wrong_is_noticed() {
    for (text, wrong) in [
        ("```console\n$ echo a\nb\n```\n", "prints"),
        ("```console\n$ false\n```\n", "exits with 1"),
        ("<!-- test: exit 1 -->\n\n```console\n$ true\n```\n", "exits with 0"),
        ("```toml\nname = \"a\"\n```\n", "not a valid plan"),
        ("<!-- test: part -->\n\n```toml\n[limits]\nno = 1\n```\n", "not a valid plan"),
        ("<!-- test: prices -->\n\n```toml\na = 1\n```\n", "not a price book"),
        ("<!-- test: rules -->\n\n```toml\na = 1\n```\n", "not rules for plans"),
        ("```json\n{\n```\n", "not JSON"),
        ("```text\na\n```\n", "nothing runs"),
        ("```sh\ncargo nothing\n```\n", "not in .ci/run"),
        ("```python\nprint()\n```\n", "no test"),
        ("<!-- test: not run -->\n\n```text\na\n```\n", "say why"),
        ("<!-- test: surprise -->\n\n```json\n1\n```\n", "not known"),
    ] {
        let page = Page::parse("page.md".to_owned(), text.to_owned());
        let (problems, _) = PageRun::run(&page);
        assert!(problems.len() == 1 && problems[0].contains(wrong), "{text}{problems:?}");
    }
    let page = Page::parse("page.md".to_owned(), "```console\n$ echo a\nb\n```\n".to_owned());
    assert_eq!(PageRun::run(&page).1, "```console\n$ echo a\na\n```\n");
}
