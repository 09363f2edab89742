//! The first signal asks, the second insists.

use tokio::signal::unix::{SignalKind, signal};
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

/// Cancels `stop` at the first SIGINT, SIGTERM or SIGHUP, and ends the process at the second.
///
/// # Errors
/// When the process cannot listen for signals.
pub(super) fn listen(terminal: Terminal, stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        next().await;
        stop.cancel();
        if terminal.drawn() {
            // Off the line that the terminal has written ^C on.
            terminal.say("");
        }
        terminal.say("stopping: what is in flight is finished; once more to leave at once");
        next().await;
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok(())
}
