//! Asks the user a question on the terminal.

use std::io::{self, Write as _};
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The user's answer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptAnswer {
    /// The word `yes`, and nothing else.
    Yes,
    /// Anything else, including the end of the input.
    No,
    /// No answer, because `stop` was cancelled.
    Stopped,
}

/// Asks a question, and waits for a line of input or for `stop`.
///
/// # Errors
/// Returns an error if the terminal cannot be read or written.
pub(super) async fn ask(question: &str, stop: &CancellationToken) -> io::Result<PromptAnswer> {
    let mut err = io::stderr();
    write!(err, "\n{question} Only \"yes\" is accepted: ")?;
    err.flush()?;
    let (tell, told) = oneshot::channel();
    // Unlike the runtime's own threads, this thread is not waited for: it may never receive a line.
    thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        let mut line = String::new();
        // The receiver may already be dropped.
        let _ = tell.send(io::stdin().read_line(&mut line).map(|_| line));
    })?;
    let line = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(PromptAnswer::Stopped),
        line = told => line.map_err(io::Error::other)??,
    };
    if !line.ends_with('\n') {
        writeln!(err)?;
    }
    Ok(if line.trim() == "yes" { PromptAnswer::Yes } else { PromptAnswer::No })
}
