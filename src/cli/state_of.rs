//! `batchplan state`: inspects, copies, moves and unlocks a state that is kept in a bucket.

use std::future::Future;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::prompt::{self, Answer};
use super::state::State;
use super::terminal::{Terminal, cell};
use super::{Error, Exit, plan_file};
use crate::remote::{self, Held, Opening, Overview, RemoteError};

/// Look at jobs that are kept in a bucket, copy them, or take the lock from whoever is gone.
///
/// Jobs are kept in a bucket where a plan has [state], or a command `--state s3://BUCKET/PREFIX` (or `oss://`): then
/// whichever machine comes next goes on with them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  batchplan state show --state s3://my-bucket/batchplan
  batchplan state pull copy --plan plan.toml      and then batchplan list --state copy
  batchplan state push .batchplan --state s3://my-bucket/batchplan    move jobs of this machine there
  batchplan state unlock --plan plan.toml

Exit codes: 0 done, 1 the tool failed, 2 there is no such state, 6 refused: it is held, or has moved on,
7 not confirmed.")]
pub(super) struct StateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what is there, and who holds it
    Show(Show),
    /// Copy all of it to a folder of this machine; nobody is kept from it meanwhile
    Pull(Pull),
    /// Put the jobs of a folder there; refused where the state has moved on since the folder was pulled
    Push(Push),
    /// Take the lock from whoever has it, and is gone for good
    Unlock(Unlock),
}

/// Which state.
#[derive(Debug, Args)]
struct Which {
    /// The plan whose [state] is meant
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    state: State,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    which: Which,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Pull {
    /// The folder; it becomes what is in the bucket [default: the copy that this machine works on]
    folder: Option<PathBuf>,
    /// Also where there is something in the folder that is lost by it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Push {
    /// The folder [default: the copy that this machine works on]
    folder: Option<PathBuf>,
    /// Put it in the place of what is there, whatever that is
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Unlock {
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    which: Which,
}

impl Which {
    fn opening(&self, terminal: Terminal) -> Result<Opening, Error> {
        let file = self.plan.as_deref().map(|path| plan_file::require(path, terminal)).transpose()?;
        let url = self.state.url(file.as_ref().map(|file| &file.plan))?.ok_or_else(|| {
            Error::new(Exit::Invalid, "no state in a bucket is named")
                .help("give --state s3://BUCKET/PREFIX (or oss://), or --plan with a plan that has [state]")
        })?;
        self.state.opening(&url, terminal)
    }
}

pub(super) fn run(args: &StateArgs, terminal: Terminal) -> Result<Exit, Error> {
    match &args.what {
        What::Show(args) => show(args, terminal),
        What::Pull(args) => pull(args, terminal),
        What::Push(args) => push(args, terminal),
        What::Unlock(args) => unlock(args, terminal),
    }
}

fn waited<T>(doing: impl Future<Output = Result<T, RemoteError>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(doing);
    runtime.shutdown_background();
    Ok(done?)
}

fn show(args: &Show, terminal: Terminal) -> Result<Exit, Error> {
    let opening = args.which.opening(terminal)?;
    let overview = waited(remote::overview(&opening))?;
    if overview.pushed.is_none() && overview.lock.is_none() {
        return Err(RemoteError::Absent.into());
    }
    if args.json {
        terminal.print(format_args!("{:#}", to_json(&opening, &overview)))?;
    } else {
        terminal.print(page(&opening, &overview))?;
    }
    Ok(Exit::Done)
}

fn page(opening: &Opening, Overview { pushed, lock }: &Overview) -> String {
    let mut rows = vec![("state", opening.place.clone())];
    match pushed {
        None => rows.push(("pushed", "never".to_owned())),
        Some(pushed) => {
            let at = pushed.at.strftime("%Y-%m-%dT%H:%M:%SZ");
            rows.push(("pushed", format!("{at} by {}", pushed.by)));
            rows.push(("generation", format!("{}, push {}", pushed.generation, pushed.push)));
            let bytes: u64 = pushed.jobs.values().sum();
            rows.push(("jobs", format!("{}, {bytes} bytes in their files", pushed.jobs.len())));
        }
    }
    rows.push((
        "lock",
        match lock {
            None => "nobody ever held it".to_owned(),
            Some(Held::By { holder, released: true, .. }) => format!("free; last held by {}", holder.who),
            Some(Held::By { holder, .. }) => format!("held by {holder}"),
            Some(Held::Unreadable { name, what, .. }) => format!("{name} cannot be read: {what}"),
        },
    ));
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:<12}{}", cell(value))).collect();
    lines.join("\n")
}

fn to_json(opening: &Opening, Overview { pushed, lock }: &Overview) -> serde_json::Value {
    json!({
        "state": opening.place,
        "pushed": pushed.as_ref().map(|pushed| json!({
            "at": pushed.at.to_string(),
            "by": pushed.by,
            "generation": pushed.generation,
            "push": pushed.push,
            "jobs": pushed.jobs.iter().map(|(job, bytes)| json!({ "job_id": job.as_str(), "bytes": bytes })).collect::<Vec<_>>(),
        })),
        "lock": lock.as_ref().map(|held| match held {
            Held::By { generation, holder, released } => json!({
                "generation": generation,
                "holder": holder.who,
                "since": holder.since.to_string(),
                "renewed": holder.renewed.to_string(),
                "released": released,
            }),
            Held::Unreadable { name, what, .. } => json!({ "unreadable": name, "error": what }),
        }),
    })
}

fn pull(args: &Pull, terminal: Terminal) -> Result<Exit, Error> {
    let opening = in_folder(args.which.opening(terminal)?, args.folder.as_ref());
    waited(remote::take_out(&opening, args.force))?;
    let folder = opening.folder.display();
    terminal.say(format_args!("pulled to {folder}"));
    terminal.say(format_args!("next: batchplan list --state {}", super::shell::path(&opening.folder)));
    Ok(Exit::Done)
}

fn push(args: &Push, terminal: Terminal) -> Result<Exit, Error> {
    let opening = in_folder(args.which.opening(terminal)?, args.folder.as_ref());
    if !opening.folder.join(crate::journal::JOURNAL_NAME).exists() {
        return Err(Error::new(Exit::Invalid, format!("{} keeps no jobs", opening.folder.display()))
            .help("name the folder that has journal.db, such as .batchplan"));
    }
    let new = waited(remote::move_in(&opening, args.force))?;
    terminal.say(if new { "pushed" } else { "nothing is new" });
    Ok(Exit::Done)
}

fn in_folder(opening: Opening, folder: Option<&PathBuf>) -> Opening {
    match folder {
        Some(folder) => Opening { folder: folder.clone(), ..opening },
        None => opening,
    }
}

fn unlock(args: &Unlock, terminal: Terminal) -> Result<Exit, Error> {
    let opening = args.which.opening(terminal)?;
    // Only the lock that was shown and confirmed is taken.
    let shown = match waited(remote::overview(&opening))?.lock.ok_or(RemoteError::Absent)? {
        Held::By { released: true, .. } => {
            terminal.say("nobody holds it");
            return Ok(Exit::Done);
        }
        Held::By { holder, generation, .. } => {
            terminal.say(format_args!("held by {}", cell(&holder.to_string())));
            generation
        }
        Held::Unreadable { name, what, generation } => {
            terminal.say(format_args!("{} cannot be read: {}", cell(&name), cell(&what)));
            generation
        }
    };
    terminal.say(
        "warning: if whoever holds it still works, it stops when it next renews its lock; until then both may work on the \
         same objects, and what it did since its last push is done again",
    );
    if !args.auto_approve {
        if !terminal.interactive() {
            return Err(Error::new(Exit::Refused, "unlocking wants to be confirmed, and there is nobody to ask")
                .help("when it is certainly gone: batchplan state unlock --auto-approve"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Never cancelled: a signal ends the process, and nothing was changed.
        if runtime.block_on(prompt::ask("Take the lock?", &CancellationToken::new()))? != Answer::Yes {
            terminal.say("nothing was changed");
            return Ok(Exit::Cancelled);
        }
    }
    let generation = waited(remote::unlock(&opening, shown))?;
    terminal.say(format_args!("unlocked: what comes next is generation {}", generation + 1));
    Ok(Exit::Done)
}
