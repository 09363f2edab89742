//! Signal handling: the first signal asks the process to stop, and the second ends it at once.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::exit::ExitStatus;
use super::terminal::Terminal;
use crate::jobs::StopTimeouts;

/// The signal for a write beyond the file size limit. A process that listens for it gets an I/O error instead of being
/// killed, and a job survives a report that cannot be written.
const SIGXFSZ: i32 = 25;

/// Turns a write beyond the file size limit into an I/O error, also in the journal, instead of the end of the process.
///
/// # Errors
/// Returns an error if the process cannot listen for signals.
pub(super) fn survive_file_size_signal() -> std::io::Result<()> {
    // Once installed, the handler stays, even after this runtime is dropped.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// When a signal first asked this process to stop.
static STOP_REQUESTED_AT: OnceLock<Instant> = OnceLock::new();

/// Returns the time since the first signal, if there was one.
pub(super) fn time_since_stop() -> Option<Duration> {
    STOP_REQUESTED_AT.get().map(Instant::elapsed)
}

/// Waits for the next signal. Never returns if the process cannot listen for signals.
pub(super) async fn next_signal() {
    match TerminationSignals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// Listens for SIGINT, SIGTERM and SIGHUP.
struct TerminationSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl TerminationSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Cancels `stop` at the first SIGINT, SIGTERM or SIGHUP, and ends the process at the second. `drain` is how long
/// requests in flight may take after that, if the command runs jobs.
///
/// # Errors
/// Returns an error if the process cannot listen for signals.
pub(super) fn listen(terminal: Terminal, stop: CancellationToken, drain: Option<Duration>) -> std::io::Result<()> {
    let mut signals = TerminationSignals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        let _ = STOP_REQUESTED_AT.set(Instant::now());
        info!("stop requested by a signal");
        stop.cancel();
        if terminal.stderr_is_terminal() {
            // Leave the line on which the terminal has printed ^C.
            terminal.eprint("");
        }
        let what = drain.map_or_else(
            || "Stopping.".to_owned(),
            |limit| format!("Pausing: finishing requests in flight (up to {} s).", limit.as_secs()),
        );
        terminal.eprint(format_args!("{what} Press Ctrl-C again to quit now."));
        signals.next().await;
        std::process::exit(ExitStatus::Interrupted as i32);
    });
    Ok(())
}

/// Returns the time limits of a stop, which are shorter in CI.
pub(super) fn stop_timeouts() -> StopTimeouts {
    if std::env::var_os("CI").is_some() { StopTimeouts::CI } else { StopTimeouts::INTERACTIVE }
}
