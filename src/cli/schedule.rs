//! `batchplan schedule`: prints a workflow, a timer or a crontab line that applies a plan at given times.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use batchplan_store::StoreProvider;
use batchplan_store::hex::hex;
use batchplan_store::printable::affects_terminal;
use clap::ValueEnum;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::cron::{self, CronExpression, calendar_events, describe_times};
use super::descriptions::{quote, quote_path};
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::plan_input::{self, show_problems};
use super::terminal::Terminal;
use crate::diagnostics::FileProblems;
use crate::plan::StateUrl;
use crate::provider::{ProviderRules, WorkflowCredentials};
use crate::toml_reader::mask_for_excerpts;

/// Print a workflow, timer or crontab line that applies a plan on a schedule.
///
/// The expression has the five fields of cron: minute, hour, day of the month, month and day of the week. Each is *, a
/// value, a range, a step, or a list of these. GitHub uses UTC, systemd and cron use the machine's time zone. A plan
/// with [recurring] does nothing until there is a new inventory, so you can schedule it more often than inventories
/// appear.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan schedule plan.toml --cron \"17 3 * * *\" \\
      --state s3://my-state/jobs > .github/workflows/nightly.yml
  batchplan schedule plan.toml --cron \"17 3 * * MON-FRI\" --as systemd
  batchplan schedule plan.toml --cron \"*/30 * * * *\" --as crontab

Exit codes: 0 printed, 2 the plan or the expression is not valid.")]
pub(super) struct ScheduleArgs {
    /// The plan file
    plan: PathBuf,
    /// When to run: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    cron: String,
    /// What to print
    #[arg(long = "as", value_enum, value_name = "FORMAT", default_value = "github")]
    form: ScheduleFormat,
    /// Where jobs are kept, as in other commands
    #[arg(long, value_name = "DIR|URL")]
    state: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleFormat {
    /// A GitHub workflow
    Github,
    /// A systemd service and its timer
    Systemd,
    /// A line of a crontab
    Crontab,
}

/// The command to schedule.
struct ScheduledCommand<'a> {
    /// The plan's name.
    name: &'a str,
    /// The name in letters, digits and dashes.
    slug: String,
    /// The path of the plan file.
    plan: String,
    /// The value of `--state`, if given.
    state: Option<String>,
    /// Whether the plan has a `[state]` table.
    plan_has_state: bool,
}

impl ScheduledCommand<'_> {
    /// Returns the arguments that follow the program's name.
    fn arguments(&self) -> impl Iterator<Item = String> {
        let state = self.state.iter().flat_map(|state| ["--state".to_owned(), state.clone()]);
        ["apply", &self.plan, "--auto-approve"].map(str::to_owned).into_iter().chain(state)
    }
}

impl CliCommand for ScheduleArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let mut mistakes = FileProblems::new("--cron", &mask_for_excerpts(&self.cron, &[]));
        let cron = cron::parse(&self.cron, &mut mistakes);
        show_problems(&mistakes, terminal);
        let plan = plan_input::require(&self.plan, terminal)?.plan;
        let Some(cron) = cron else {
            return Err(CommandError::new(ExitStatus::Invalid, "the cron expression is not valid")
                .help("fix the problems shown above; an example: --cron \"17 3 * * *\""));
        };
        let local = self.form != ScheduleFormat::Github;
        let folder = std::env::current_dir()?;
        let path = if local { std::path::absolute(&self.plan)? } else { checkout_path(&self.plan, &folder)? };
        let job = ScheduledCommand {
            name: &plan.name,
            slug: slug(&plan.name, &plan.identity()),
            plan: path_on_one_line(&path)?,
            state: self.state.as_deref().map(|state| state_argument(state, local)).transpose()?,
            plan_has_state: plan.state.is_some(),
        };
        let printed = match self.form {
            ScheduleFormat::Github => workflow(&job, &cron, plan.store.provider),
            ScheduleFormat::Systemd | ScheduleFormat::Crontab => {
                let program = std::env::current_exe()?;
                path_on_one_line(&program)?;
                path_on_one_line(&folder)?;
                if self.form == ScheduleFormat::Systemd {
                    systemd_units(&job, &cron, &cron.normalized(), &program, &folder)
                } else {
                    crontab_line(&job, &cron, &program, &folder)
                }
            }
        };
        if terminal.is_json() {
            terminal.print_json(json!({ "text": printed }))?;
        } else {
            terminal.print(printed)?;
        }
        if plan.recurring.is_none() {
            terminal.eprint("the plan has no [recurring]: each run covers all objects of its manifest, new or not");
        }
        if self.form == ScheduleFormat::Github && cron.min_interval_minutes() < 5 {
            terminal.eprint("GitHub runs a workflow at most every 5 minutes, and skips runs that are due in between");
        }
        terminal.inform(format_args!("next: {}", next_step(self.form, &job.slug)));
        Ok(ExitStatus::Success)
    }
}

/// Returns what to do with the printed text.
fn next_step(form: ScheduleFormat, slug: &str) -> String {
    match form {
        ScheduleFormat::Github => {
            format!("save it as .github/workflows/batchplan-{slug}.yml, and follow its first lines")
        }
        ScheduleFormat::Systemd => format!(
            "save both units where their first lines say, then: systemctl --user daemon-reload && systemctl --user enable \
             --now batchplan-{slug}.timer"
        ),
        ScheduleFormat::Crontab => "run `crontab -e`, and add this line".to_owned(),
    }
}

/// Returns the path of a plan relative to the repository that a workflow checks out.
fn checkout_path(plan: &Path, folder: &Path) -> Result<PathBuf, CommandError> {
    let below = if plan.is_absolute() { plan.strip_prefix(folder).ok() } else { Some(plan) };
    let leaves = |path: &&Path| path.components().any(|part| part == std::path::Component::ParentDir);
    below.filter(|path| !leaves(path)).map(Path::to_owned).ok_or_else(|| {
        CommandError::new(ExitStatus::Invalid, format!("{} is not in the current folder", plan.display()))
            .help("a workflow sees only what it checks out: run this command at the top of the repository")
    })
}

/// Returns the value of `--state` for the schedule. A local path becomes absolute if the schedule runs on this machine.
fn state_argument(state: &str, local: bool) -> Result<String, CommandError> {
    if StateUrl::is_state_url(state) {
        let url = StateUrl::parse(state).map_err(|refused| CommandError::from(refused).prefix("invalid --state"))?;
        return check_one_line(&url.to_string());
    }
    if !local {
        return check_one_line(state);
    }
    path_on_one_line(&std::path::absolute(state)?)
}

/// Returns a path as text that stays on one line.
fn path_on_one_line(path: &Path) -> Result<String, CommandError> {
    let text = path.to_str().ok_or_else(|| {
        CommandError::new(ExitStatus::Invalid, format!("{} is not UTF-8", path.display()))
            .help("rename the file or its folder")
    })?;
    check_one_line(text)
}

fn check_one_line(text: &str) -> Result<String, CommandError> {
    // A backslash at the end would join this line with the next one.
    if text.chars().any(affects_terminal) || text.ends_with('\\') {
        let what = format!("`{}` contains characters that a schedule cannot hold", text.escape_debug());
        return Err(CommandError::new(ExitStatus::Invalid, what)
            .help("use a name without control characters and without a backslash at its end"));
    }
    Ok(text.to_owned())
}

/// Returns a name in letters, digits and dashes. If that loses something, eight hex digits distinguish it from other
/// names that lose the same.
fn slug(name: &str, identity: &str) -> String {
    let to_slug = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let plain: String = name.chars().map(to_slug).collect();
    let plain = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    if plain == name && plain.len() <= 48 {
        return plain;
    }
    let digest = hex(&Sha256::digest(identity));
    let short: String = plain.chars().take(40).collect();
    let short = short.trim_end_matches('-');
    if short.is_empty() { format!("plan-{}", &digest[..8]) } else { format!("{short}-{}", &digest[..8]) }
}

/// Returns a GitHub workflow as YAML.
fn workflow(job: &ScheduledCommand<'_>, cron: &CronExpression, provider: StoreProvider) -> String {
    let credentials = ProviderRules::of(provider).workflow;
    // A workflow's name must not contain expressions.
    let name = quote_yaml(&job.name.replace("${{", "$ {{"));
    let (slug, plan) = (&job.slug, quote_yaml(&job.plan));
    let state = match &job.state {
        Some(state) => Some(quote_yaml(state)),
        None if job.plan_has_state => None,
        None => Some("${{ vars.BATCHPLAN_STATE }}".to_owned()),
    };
    let mut out = workflow_instructions(job, credentials);
    let _ = write!(
        out,
        "name: {name}\n\
         \n\
         on:\n\
         \x20 schedule:\n\
         \x20   # {when}, UTC\n\
         \x20   - cron: {expression}\n\
         \x20 workflow_dispatch: {{}}\n\
         \n\
         permissions:\n\
         \x20 contents: read\n",
        when = describe_times(cron),
        expression = Json::from(cron.normalized()),
    );
    if credentials == WorkflowCredentials::AwsRole {
        out.push_str("  id-token: write # for the role\n");
    }
    let _ = write!(
        out,
        "\n\
         # One run at a time. GitHub keeps only the newest waiting run, which resumes an unfinished job.\n\
         concurrency:\n\
         \x20 group: batchplan-{slug}\n\
         \x20 cancel-in-progress: false\n\
         \n\
         jobs:\n\
         \x20 apply:\n\
         \x20   runs-on: ubuntu-latest\n\
         \x20   environment: batchplan\n\
         \x20   steps:\n\
         \x20     - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2\n\
         \x20       with:\n\
         \x20         persist-credentials: false\n"
    );
    push_credential_steps(credentials, &mut out);
    let _ = write!(
        out,
        "        with:\n\
         \x20         command: apply\n\
         \x20         plan: {plan}\n\
         \x20         args: --auto-approve --lock-timeout 1h"
    );
    if let Some(state) = state {
        let _ = write!(out, "\n          state: {state}");
    }
    out
}

/// Appends the steps that get credentials, and the start of the step that uses them.
fn push_credential_steps(credentials: WorkflowCredentials, out: &mut String) {
    if credentials == WorkflowCredentials::AwsRole {
        out.push_str(
            "      - uses: aws-actions/configure-aws-credentials@8df5847569e6427dd6c4fb1cf565c83acfa8afa7 # v6.0.0\n\
             \x20       with:\n\
             \x20         role-to-assume: ${{ vars.AWS_ROLE }}\n\
             \x20         aws-region: ${{ vars.AWS_REGION }}\n\
             \x20         role-duration-seconds: 21600 # as long as a job may run; the role must allow sessions of that length\n",
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(out, "      - uses: OWNER/batchplan@v{version}");
    if let WorkflowCredentials::Secrets(secrets) = credentials {
        out.push_str("        env:\n");
        for secret in secrets {
            let _ = writeln!(out, "          {secret}: ${{{{ secrets.{secret} }}}}");
        }
    }
}

/// Returns the comments at the start of a workflow, which say what to set up.
fn workflow_instructions(job: &ScheduledCommand<'_>, credentials: WorkflowCredentials) -> String {
    let mut out = format!(
        "# .github/workflows/batchplan-{}.yml\n\
         #\n\
         # To use this workflow, save it there and replace OWNER below with the owner of the batchplan repository.\n\
         # In the repository's settings, create the environment `batchplan` for the default branch only, without reviewers.\n",
        job.slug
    );
    if job.state.is_none() && !job.plan_has_state {
        out.push_str(
            "# Also create the variable BATCHPLAN_STATE (where jobs are kept between runs: s3://BUCKET/PREFIX).\n",
        );
    }
    match credentials {
        WorkflowCredentials::AwsRole => {
            let note = "# Also create the variables AWS_REGION and AWS_ROLE (a role that trusts this environment).\n";
            out.push_str(note);
        }
        WorkflowCredentials::Secrets([key, secret]) => {
            let _ = writeln!(out, "# In this environment, create the secrets {key} and {secret}.");
        }
        WorkflowCredentials::NotNeeded => {}
    }
    out
}

/// Quotes a text as a YAML string in which GitHub evaluates no expression.
fn quote_yaml(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.replace("${{", "${{ '${{' }}").chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() && c != '\u{feff}' => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

/// Returns a systemd service and its timer, each after a comment with its file name.
fn systemd_units(
    job: &ScheduledCommand<'_>,
    cron: &CronExpression,
    text: &str,
    program: &Path,
    folder: &Path,
) -> String {
    let name = &job.slug;
    let command = [program.display().to_string()].into_iter().chain(job.arguments()).map(|word| quote_argument(&word));
    let command = command.collect::<Vec<_>>().join(" ");
    let mut out = format!(
        "# ~/.config/systemd/user/batchplan-{name}.service\n\
         [Unit]\n\
         Description=Apply the batchplan plan {title}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         WorkingDirectory={folder}\n\
         # Credentials, as NAME=value lines in a file that only you can read:\n\
         # EnvironmentFile=%h/.config/batchplan/{name}.env\n\
         ExecStart={command}\n\
         # The next run resumes an interrupted job.\n\
         KillSignal=SIGINT\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=60\n\
         \n\
         # ~/.config/systemd/user/batchplan-{name}.timer\n\
         [Unit]\n\
         Description=Schedule of the batchplan plan {title}\n\
         \n\
         [Timer]\n\
         # {when}, in this machine's time zone (cron: {text})\n",
        title = escape_specifiers(job.name),
        folder = escape_specifiers(&folder.display().to_string()),
        when = describe_times(cron),
    );
    for event in calendar_events(cron) {
        let _ = writeln!(out, "OnCalendar={event}");
    }
    out.push_str("# Catch up on a missed run.\nPersistent=true\n\n[Install]\nWantedBy=timers.target");
    out
}

/// Escapes the specifiers of systemd in a text.
fn escape_specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// Quotes a word of a systemd command line.
fn quote_argument(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' | '$' => out.extend([c, c]),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns a line of a crontab.
fn crontab_line(job: &ScheduledCommand<'_>, cron: &CronExpression, program: &Path, folder: &Path) -> String {
    let arguments: Vec<_> = job.arguments().map(quote).collect();
    let command = format!("cd {} && {} {}", quote_path(folder), quote_path(program), arguments.join(" "));
    // cron treats a percent sign as the end of the line, anywhere in the command.
    format!("{} {}", cron.normalized(), command.replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use yaml_rust2::YamlLoader;

    use super::*;

    #[test]
    fn slugs_are_file_names_and_distinct() {
        assert_eq!(slug("tag-documents-2024", "i"), "tag-documents-2024");
        let lossy = slug("Tag Documents/../é", "i");
        assert!(lossy.starts_with("tag-documents-") && lossy.len() == "tag-documents-".len() + 8, "{lossy}");
        assert_ne!(slug("é", "one"), slug("è", "other"));
        assert!(slug(&"x".repeat(128), "i").len() <= 49);
    }

    #[test]
    fn workflow_plan_must_be_in_the_checkout() {
        let folder = Path::new("/repository");
        let found = |plan: &str| checkout_path(Path::new(plan), folder).ok();
        assert_eq!(found("plans/a.toml"), Some(PathBuf::from("plans/a.toml")));
        assert_eq!(found("/repository/plans/a.toml"), Some(PathBuf::from("plans/a.toml")));
        assert_eq!(found("../a.toml"), None);
        assert_eq!(found("/elsewhere/a.toml"), None);
    }

    #[test]
    fn rejects_text_that_leaves_its_line() {
        assert!(check_one_line("a b\u{e9}").is_ok());
        for text in ["a\nb", "a\u{7f}", "a\\", "a\u{202e}"] {
            assert!(check_one_line(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_one_string_to_yaml(wanted: String) {
            let read = YamlLoader::load_from_str(&format!("a: {}\nb: 1\n", quote_yaml(&wanted))).expect("YAML");
            let expected = wanted.replace("${{", "${{ '${{' }}");
            prop_assert_eq!(read[0]["a"].as_str(), Some(expected.as_str()));
            prop_assert_eq!(read[0]["b"].as_i64(), Some(1));
        }
    }

    #[test]
    fn escapes_workflow_expressions() {
        assert_eq!(quote_yaml("x ${{ secrets.KEY }}"), r#""x ${{ '${{' }} secrets.KEY }}""#);
    }

    #[test]
    fn quotes_arguments_for_systemd() {
        assert_eq!(quote_argument("plans/tag.toml"), "plans/tag.toml");
        assert_eq!(quote_argument("my \"plan\" 100% $HOME \\.toml"), r#""my \"plan\" 100%% $$HOME \\.toml""#);
        assert_eq!(quote_argument(";"), "\";\"");
        assert_eq!(quote_argument(""), "\"\"");
    }

    #[test]
    fn escapes_percent_signs() {
        let text = "0  3 * * 7";
        let cron = cron::parse(text, &mut FileProblems::new("--cron", text)).expect("an expression");
        let job = ScheduledCommand {
            name: "n",
            slug: "n".to_owned(),
            plan: "/p/100% it's.toml".to_owned(),
            state: None,
            plan_has_state: false,
        };
        assert_eq!(
            crontab_line(&job, &cron, Path::new("/usr/bin/batchplan"), Path::new("/my plans")),
            r"0 3 * * 0 cd '/my plans' && /usr/bin/batchplan apply '/p/100\% it'\''s.toml' --auto-approve"
        );
    }
}
