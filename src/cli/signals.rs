//! The first signal asks, the second insists.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::terminal::Terminal;

/// Cancels `stop` at the first SIGINT or SIGTERM, and ends the process at the second.
///
/// # Errors
/// When the process cannot listen for signals.
pub(super) fn listen(terminal: Terminal, stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
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
