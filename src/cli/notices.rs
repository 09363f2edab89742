//! Webhook notifications: what they need from the environment, and how long a command waits for them at its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::terminal::Terminal;
use super::{Error, Exit, github, signals, state};
use crate::job::JobStatus;
use crate::jobs::{JobError, Patience, stored_plan};
use crate::journal::{JobRecord, Journal, PauseCause, Query};
use crate::notify::{Context, NotReady, Notifier, Receiver, Says, Undelivered, Undone};
use crate::plan::{Hook, Plan};

/// Waits that take longer than this are announced.
const SILENCE: Duration = Duration::from_secs(1);

/// The notifier of this process. It is created when the first journal is opened.
static NOTIFIER: OnceLock<Arc<Notifier>> = OnceLock::new();

struct Voice(Terminal);

impl Says for Voice {
    fn hooks(&self, job: &JobRecord) -> Vec<Hook> {
        stored_plan(job).map(|plan| plan.notify).unwrap_or_default()
    }

    fn variable(&self, name: &str) -> Option<String> {
        variable(name)
    }

    fn not_ready(&self, job: &JobRecord, why: &NotReady) {
        let short: String = job.id.as_str().chars().take(8).collect();
        self.0.say(format_args!("warning: nobody is told of job {short}: {why}"));
    }

    fn undelivered(&self, what: &Undelivered) {
        self.0.say(format_args!("warning: {what}"));
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// Subscribes the notifier to a journal, so that the webhooks of jobs are notified of what it records.
pub(super) fn hear(journal: Journal) -> Journal {
    let notifier = NOTIFIER.get_or_init(|| {
        let context = Context { run_url: github::run_url() };
        Arc::new(Notifier::new(Arc::new(Voice(Terminal::of_process())), context))
    });
    journal.heard_by(notifier.clone())
}

/// Checks that the environment has everything that the webhooks of a plan need.
///
/// # Errors
/// Returns an error if something is missing.
pub(super) fn require(plan: &Plan) -> Result<(), Error> {
    for hook in &plan.notify {
        if let Err(why) = ready(hook) {
            return Err(Error::new(Exit::Refused, why.to_string()).help(why.help()));
        }
    }
    Ok(())
}

/// Performs the same check for every job that may be run now.
///
/// # Errors
/// Returns an error if something is missing for one of them, or if the journal cannot be read.
pub(super) fn require_of_all(journal: &Journal) -> Result<(), Error> {
    let statuses = JobStatus::ALL.into_iter().filter(|status| !status.is_over() && *status != JobStatus::Suspended);
    let query = Query { statuses: statuses.collect(), limit: u32::MAX, ..Query::default() };
    for job in journal.list(query)? {
        if job.status == JobStatus::Paused && job.cause.is_some_and(PauseCause::waits_for_a_person) {
            continue;
        }
        // If the job has changed meanwhile or its plan is not accepted, the process that runs it reports that.
        let plan = journal.find(job.id.as_str()).map_err(JobError::from).and_then(|job| stored_plan(&job));
        if let Ok(plan) = plan {
            require(&plan).map_err(|error| Error { message: format!("job {}: {}", job.id, error.message), ..error })?;
        }
    }
    Ok(())
}

/// Checks whether the environment has what a webhook needs. The receiver is displayed as its host.
///
/// # Errors
/// Returns what is missing.
pub(super) fn ready(hook: &Hook) -> Result<Receiver, NotReady> {
    Receiver::new(hook, variable)
}

/// From here on, this process confirms jobs without asking. Suspended is then only reported for jobs that stay so.
pub(super) fn nobody_is_asked() {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.confirms();
    }
}

/// Waits for undelivered messages, up to a time limit. A signal ends the wait.
pub(super) fn settle(terminal: Terminal) {
    let Some(notifier) = NOTIFIER.get() else { return };
    notifier.finish();
    if notifier.left() > 0 {
        // Waiting needs a runtime.
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(wait(notifier, terminal));
        }
    }
    let undone = notifier.close();
    if undone.count > 0 {
        terminal.say(format_args!("warning: {}", in_words(&undone)));
    }
}

fn in_words(Undone { count, last_failure }: &Undone) -> String {
    let messages = if *count == 1 { "a notification was".to_owned() } else { format!("{count} notifications were") };
    match last_failure {
        Some(why) => format!("{messages} not delivered in time; tried last: {why}"),
        None => format!("{messages} not delivered in time"),
    }
}

async fn wait(notifier: &Notifier, terminal: Terminal) {
    let allowed = if signals::stopped() { state::patience().notify } else { Patience::OF_A_PERSON.notify };
    let impatient = async {
        tokio::time::sleep(SILENCE).await;
        terminal.say("telling webhooks; interrupt to leave at once");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = notifier.emptied() => {}
        () = tokio::time::sleep(allowed) => {}
        () = signals::next() => {}
        () = impatient => {}
    }
}
