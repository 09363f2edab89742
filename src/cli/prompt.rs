//! A question to the person at the terminal.

use std::io::{self, Write as _};
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What the person said.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `yes`, and nothing else.
    Yes,
    /// Anything else, the end of the input included.
    No,
    /// Nothing: a signal came.
    Stopped,
}

/// Asks, and waits for a line or for `stop`.
///
/// # Errors
/// When the terminal cannot be written or read.
pub(super) async fn ask(question: &str, stop: &CancellationToken) -> io::Result<Answer> {
    let mut err = io::stderr();
    write!(err, "\n{question} Only \"yes\" is accepted: ")?;
    err.flush()?;
    let (tell, told) = oneshot::channel();
    // A thread that nobody waits for, unlike the runtime's own: it may never be given a line.
    thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        let mut line = String::new();
        // Whoever asked may be gone.
        let _ = tell.send(io::stdin().read_line(&mut line).map(|_| line));
    })?;
    let line = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Answer::Stopped),
        line = told => line.map_err(io::Error::other)??,
    };
    if !line.ends_with('\n') {
        writeln!(err)?;
    }
    Ok(if line.trim() == "yes" { Answer::Yes } else { Answer::No })
}
