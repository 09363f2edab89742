//! Webhook notifications: what they need from the environment, and how long a command waits for them at its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::exit::CommandError;
use super::terminal::Terminal;
use super::{github, signals};
use crate::job::JobStatus;
use crate::jobs::{JobError, StopTimeouts, stored_plan};
use crate::journal::{JobQuery, JobRecord, Journal, PauseCause};
use crate::notify::{
    AbandonedMessages, DriftSummary, MessageOrigin, Notifier, NotifierHost, UndeliveredMessage, WebhookEndpoint,
    WebhookError,
};
use crate::plan::{Plan, WebhookConfig, WebhookEvent};

/// Waits that take longer than this are announced.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);

/// The notifier of this process. It is created when the first journal is opened.
static NOTIFIER: OnceLock<Arc<Notifier>> = OnceLock::new();

/// What the notifier needs from the command line: stored plans, the environment, and a place for warnings.
struct CommandLineHost {
    terminal: Terminal,
}

impl NotifierHost for CommandLineHost {
    fn hooks(&self, job: &JobRecord) -> Vec<WebhookConfig> {
        stored_plan(job).map(|plan| plan.notify).unwrap_or_default()
    }

    fn env_var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn report_unusable_webhook(&self, job: &JobRecord, why: &WebhookError) {
        self.terminal.eprint(format_args!("warning: no notifications for job {}: {why}", job.id));
    }

    fn report_undelivered(&self, message: &UndeliveredMessage) {
        self.terminal.eprint(format_args!("warning: {message}"));
    }
}

/// Returns the notifier of this process.
fn notifier() -> &'static Arc<Notifier> {
    NOTIFIER.get_or_init(|| {
        let host = CommandLineHost { terminal: Terminal::from_process() };
        Arc::new(Notifier::new(Arc::new(host), MessageOrigin { run_url: github::run_url() }))
    })
}

/// Subscribes the notifier to a journal, so that the webhooks of jobs are notified of what it records.
pub(super) fn subscribe(journal: Journal) -> Journal {
    journal.with_listener(notifier().clone())
}

/// Returns the webhooks of a plan that are to be notified of drift.
///
/// # Errors
/// Returns an error if the environment lacks something that one of them needs.
pub(super) fn drift_endpoints(plan: &Plan) -> Result<Vec<WebhookEndpoint>, CommandError> {
    let hooks = plan.notify.iter().filter(|hook| hook.events.contains(&WebhookEvent::Drift));
    hooks.map(|hook| webhook_endpoint(hook).map_err(CommandError::from)).collect()
}

/// Notifies these webhooks of what a verification found.
pub(super) fn notify_drift(endpoints: Vec<WebhookEndpoint>, found: &DriftSummary) {
    if !endpoints.is_empty() {
        notifier().notify_drift(endpoints, found);
    }
}

/// Checks that the environment has everything that the webhooks of a plan need.
///
/// # Errors
/// Returns an error if something is missing.
pub(super) fn check_webhooks(plan: &Plan) -> Result<(), CommandError> {
    for webhook in &plan.notify {
        webhook_endpoint(webhook)?;
    }
    Ok(())
}

/// Checks, as [`check_webhooks`] does, the webhooks of every job that may be run now.
///
/// # Errors
/// Returns an error if something is missing for one of them, or if the journal cannot be read.
pub(super) fn check_webhooks_of_jobs(journal: &Journal) -> Result<(), CommandError> {
    let statuses = JobStatus::ALL.into_iter().filter(|status| !status.is_over() && *status != JobStatus::Suspended);
    let query = JobQuery { statuses: statuses.collect(), limit: u32::MAX, ..JobQuery::default() };
    for job in journal.list(query)? {
        if job.status == JobStatus::Paused && job.pause_cause.is_some_and(PauseCause::needs_user) {
            continue;
        }
        // If the job has changed meanwhile or its plan is not accepted, the process that runs it reports that.
        let plan = journal.find(job.id.as_str()).map_err(JobError::from).and_then(|job| stored_plan(&job));
        if let Ok(plan) = plan {
            check_webhooks(&plan).map_err(|error| error.prefix(&format!("job {}", job.id)))?;
        }
    }
    Ok(())
}

/// Returns the endpoint of a webhook, with the values that it takes from the environment.
///
/// # Errors
/// Returns what is missing.
pub(super) fn webhook_endpoint(webhook: &WebhookConfig) -> Result<WebhookEndpoint, WebhookError> {
    WebhookEndpoint::new(webhook, |name| std::env::var(name).ok())
}

/// Tells the notifier that this process confirms jobs without asking. It then notifies of Suspended only if a job stays
/// Suspended.
pub(super) fn announce_auto_confirm() {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.enable_auto_confirm();
    }
}

/// Waits for undelivered messages, up to a time limit. A signal ends the wait.
pub(super) fn deliver_pending(terminal: Terminal) {
    let Some(notifier) = NOTIFIER.get() else { return };
    notifier.finish();
    if notifier.pending_count() > 0 {
        // Waiting needs a runtime.
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(wait_for_delivery(notifier, terminal));
        }
    }
    let abandoned = notifier.close();
    if abandoned.count > 0 {
        terminal.eprint(format_args!("warning: {}", describe_undelivered(&abandoned)));
    }
}

fn describe_undelivered(AbandonedMessages { count, last_failure }: &AbandonedMessages) -> String {
    let messages = if *count == 1 { "1 notification was".to_owned() } else { format!("{count} notifications were") };
    match last_failure {
        Some(why) => format!("{messages} not delivered in time; last error: {why}"),
        None => format!("{messages} not delivered in time"),
    }
}

async fn wait_for_delivery(notifier: &Notifier, terminal: Terminal) {
    let time_limit = if signals::time_since_stop().is_some() {
        signals::stop_timeouts().notify
    } else {
        StopTimeouts::INTERACTIVE.notify
    };
    let announce = async {
        tokio::time::sleep(ANNOUNCE_AFTER).await;
        terminal.inform("delivering notifications. Press Ctrl-C to quit now.");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = notifier.wait_until_empty() => {}
        () = tokio::time::sleep(time_limit) => {}
        () = signals::next_signal() => {}
        () = announce => {}
    }
}
