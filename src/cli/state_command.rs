//! `batchplan state`: inspects, copies, moves and unlocks a state that is kept in a bucket.

use std::future::Future;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::exit::{CliCommand, CommandError, ExitStatus};
use super::plan_input;
use super::shown_command::quote_path;
use super::state_location::StateLocationArgs;
use super::terminal::{PromptAnswer, Terminal, ask, escape_line};
use crate::hint::{command, hint};
use crate::remote::{self, LockStatus, RemoteError, RemoteStateConfig, StateOverview};

/// Show, copy or unlock a state: jobs that are kept in a bucket.
///
/// Jobs are kept in a bucket if a plan has [state], or if you pass `--state s3://BUCKET/PREFIX` (or `oss://`). Any
/// machine can then resume them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  batchplan state show --state s3://my-bucket/batchplan
  batchplan state pull copy --plan plan.toml   then batchplan list --state copy
  batchplan state push .batchplan --state s3://my-bucket/batchplan
  batchplan state unlock --plan plan.toml

Exit codes: 0 done, 1 the tool failed, 2 no such state, 6 refused: the state is
locked or has changed, 7 not confirmed.")]
pub(super) struct StateArgs {
    #[command(subcommand)]
    what: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Show what is in the state, and who holds its lock
    Show(StateShowArgs),
    /// Copy the state to a local folder, without taking its lock
    Pull(StatePullArgs),
    /// Copy the jobs of a folder to the state; refused if the state has changed since the folder was pulled
    Push(StatePushArgs),
    /// Take the lock from a holder that no longer runs
    Unlock(StateUnlockArgs),
}

/// Which state.
#[derive(Debug, Args)]
struct BucketStateArgs {
    /// Use the [state] of this plan
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    state: StateLocationArgs,
}

#[derive(Debug, Args)]
struct StateShowArgs {
    #[command(flatten)]
    which: BucketStateArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatePullArgs {
    /// The folder to copy the state to [default: this machine's local copy]
    folder: Option<PathBuf>,
    /// Overwrite the folder, even if it has jobs that the state does not have
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    which: BucketStateArgs,
}

#[derive(Debug, Args)]
struct StatePushArgs {
    /// The folder to copy to the state [default: this machine's local copy]
    folder: Option<PathBuf>,
    /// Replace the state, whatever it contains
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    which: BucketStateArgs,
}

#[derive(Debug, Args)]
struct StateUnlockArgs {
    /// Skip the confirmation prompt
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    which: BucketStateArgs,
}

impl BucketStateArgs {
    fn remote_options(&self, terminal: Terminal) -> Result<RemoteStateConfig, CommandError> {
        let file = self.plan.as_deref().map(|path| plan_input::require(path, terminal)).transpose()?;
        let url = self.state.url(file.as_ref().map(|file| &file.plan))?.ok_or_else(|| {
            CommandError::new(ExitStatus::Invalid, "no state in a bucket was given")
                .help("use --state s3://BUCKET/PREFIX (or oss://), or --plan with a plan that has [state]")
        })?;
        self.state.remote_options(&url, terminal)
    }
}

impl CliCommand for StateArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        match &self.what {
            StateCommand::Show(command) => show(command, terminal),
            StateCommand::Pull(command) => pull(command, terminal),
            StateCommand::Push(command) => push(command, terminal),
            StateCommand::Unlock(command) => unlock(command, terminal),
        }
    }
}

fn block_on<T>(doing: impl Future<Output = Result<T, RemoteError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(doing);
    runtime.shutdown_background();
    Ok(done?)
}

fn show(args: &StateShowArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let opening = args.which.remote_options(terminal)?;
    let overview = block_on(remote::overview(&opening))?;
    if overview.pushed.is_none() && overview.lock.is_none() {
        return Err(RemoteError::NoState.into());
    }
    if args.json {
        terminal.print(format_args!("{:#}", to_json(&opening, &overview)))?;
    } else {
        terminal.print(format_overview(&opening, &overview))?;
    }
    Ok(ExitStatus::Success)
}

fn format_overview(opening: &RemoteStateConfig, StateOverview { pushed, lock }: &StateOverview) -> String {
    let mut rows = vec![("state", opening.location.clone())];
    match pushed {
        None => rows.push(("pushed", "never".to_owned())),
        Some(pushed) => {
            let at = pushed.pushed_at.strftime("%Y-%m-%dT%H:%M:%SZ");
            rows.push(("pushed", format!("{at} by {}", pushed.pushed_by)));
            rows.push(("generation", format!("{}, push {}", pushed.generation, pushed.push)));
            let bytes: u64 = pushed.jobs.values().sum();
            rows.push(("jobs", format!("{}, {bytes} bytes in their files", pushed.jobs.len())));
        }
    }
    rows.push((
        "lock",
        match lock {
            None => "never held".to_owned(),
            Some(LockStatus::Readable { holder, released: true, .. }) => format!("free; last held by {}", holder.name),
            Some(LockStatus::Readable { holder, .. }) => format!("held by {holder}"),
            Some(LockStatus::Unreadable { name, what, .. }) => format!("{name} cannot be read: {what}"),
        },
    ));
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:<12}{}", escape_line(value))).collect();
    lines.join("\n")
}

fn to_json(opening: &RemoteStateConfig, StateOverview { pushed, lock }: &StateOverview) -> serde_json::Value {
    json!({
        "state": opening.location,
        "pushed": pushed.as_ref().map(|pushed| json!({
            "at": pushed.pushed_at.to_string(),
            "by": pushed.pushed_by,
            "generation": pushed.generation,
            "push": pushed.push,
            "jobs": pushed.jobs.iter().map(|(job, bytes)| json!({ "job_id": job.as_str(), "bytes": bytes })).collect::<Vec<_>>(),
        })),
        "lock": lock.as_ref().map(|held| match held {
            LockStatus::Readable { generation, holder, released } => json!({
                "generation": generation,
                "holder": holder.name,
                "since": holder.since.to_string(),
                "renewed": holder.renewed.to_string(),
                "released": released,
            }),
            LockStatus::Unreadable { name, what, .. } => json!({ "unreadable": name, "error": what }),
        }),
    })
}

fn pull(args: &StatePullArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let opening = with_folder(args.which.remote_options(terminal)?, args.folder.as_ref());
    block_on(remote::pull_to_folder(&opening, args.force))?;
    let folder = opening.folder.display();
    terminal.eprint(format_args!("pulled to {folder}"));
    terminal.eprint(format_args!("next: batchplan list --state {}", quote_path(&opening.folder)));
    Ok(ExitStatus::Success)
}

fn push(args: &StatePushArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let opening = with_folder(args.which.remote_options(terminal)?, args.folder.as_ref());
    if !opening.folder.join(crate::journal::JOURNAL_NAME).exists() {
        return Err(CommandError::new(ExitStatus::Invalid, format!("{} has no jobs", opening.folder.display()))
            .help("name the folder that has journal.db, such as .batchplan"));
    }
    let new = block_on(remote::push_folder(&opening, args.force))?;
    terminal.eprint(if new { "pushed" } else { "nothing to push" });
    Ok(ExitStatus::Success)
}

fn with_folder(opening: RemoteStateConfig, folder: Option<&PathBuf>) -> RemoteStateConfig {
    match folder {
        Some(folder) => RemoteStateConfig { folder: folder.clone(), ..opening },
        None => opening,
    }
}

fn unlock(args: &StateUnlockArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let opening = args.which.remote_options(terminal)?;
    // Only the lock that was shown and confirmed is taken.
    let shown = match block_on(remote::overview(&opening))?.lock.ok_or(RemoteError::NoState)? {
        LockStatus::Readable { released: true, .. } => {
            terminal.eprint("the lock is free");
            return Ok(ExitStatus::Success);
        }
        LockStatus::Readable { holder, generation, .. } => {
            terminal.eprint(format_args!("held by {}", escape_line(&holder.to_string())));
            generation
        }
        LockStatus::Unreadable { name, what, generation } => {
            terminal.eprint(format_args!("{} cannot be read: {}", escape_line(&name), escape_line(&what)));
            generation
        }
    };
    terminal.eprint(
        "warning: if the holder still runs, it stops at its next lock renewal; until then, two processes may change the same \
         objects, and what it did since its last push is done again",
    );
    if !args.auto_approve {
        if !terminal.is_interactive() {
            return Err(CommandError::new(
                ExitStatus::Refused,
                "unlocking needs confirmation, but there is no terminal to ask on",
            )
            .help(hint!(
                "if you are sure that the holder no longer runs: {}",
                command!("state unlock", "--auto-approve")
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Never cancelled: a signal ends the process, and nothing was changed.
        if runtime.block_on(ask("Take the lock?", &CancellationToken::new()))? != PromptAnswer::Yes {
            terminal.eprint("nothing was changed");
            return Ok(ExitStatus::Cancelled);
        }
    }
    let generation = block_on(remote::unlock(&opening, shown))?;
    terminal.eprint(format_args!("unlocked: the next generation is {}", generation + 1));
    Ok(ExitStatus::Success)
}
