//! The first signal asks, the second insists.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::terminal::Terminal;

/// What a process is sent that writes beyond its file-size limit. Whoever listens for it is given an error instead of
/// being killed, and a report that cannot be written is something that a job survives.
const SIGXFSZ: i32 = 25;

/// Has a file that may not grow be an error of whoever writes it, the journal included, and not the end of the process.
///
/// # Errors
/// When the process cannot listen for signals.
pub(super) fn outlive_full_files() -> std::io::Result<()> {
    // Whoever has listened once goes on doing so, also when the runtime that it takes is gone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// When a signal first asked this process to end.
static STOPPED: OnceLock<Instant> = OnceLock::new();

/// Whether a signal has asked this process to end.
pub(super) fn stopped() -> bool {
    STOPPED.get().is_some()
}

/// How long ago that was, if it was.
pub(super) fn stopped_for() -> Option<Duration> {
    STOPPED.get().map(Instant::elapsed)
}

/// Ends with the next signal; never, where the process cannot listen for signals.
pub(super) async fn next() {
    match Signals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// SIGINT, SIGTERM and SIGHUP, whichever comes next.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
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

/// Cancels `stop` at the first SIGINT, SIGTERM or SIGHUP, and ends the process at the second.
///
/// # Errors
/// When the process cannot listen for signals.
pub(super) fn listen(terminal: Terminal, stop: CancellationToken) -> std::io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        let _ = STOPPED.set(Instant::now());
        stop.cancel();
        if terminal.drawn() {
            // Off the line that the terminal has written ^C on.
            terminal.say("");
        }
        terminal.say("stopping: what is in flight is finished; once more to leave at once");
        signals.next().await;
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok(())
}
