//! Errors as JSON: what a program reads on standard output if a command fails.

use clap::error::{ContextKind, ContextValue};
use serde_json::{Value as Json, json};

use super::descriptions::render_hint;
use super::error_code::ErrorCode;
use super::exit::CommandError;

/// Returns an error as JSON. `flag` is the ` --state` flag that the commands in the help need, or empty.
pub(super) fn error_json(error: &CommandError, flag: &str) -> Json {
    let help = error.help.as_ref().map(|help| render_hint(help, error.state_flag.as_deref().unwrap_or(flag)));
    let mut json = json!({
        "code": error.code.as_str(),
        "message": error.message,
        "help": help,
        "place": error.details().map(|details| &details.place),
    });
    if let Some(problems) = error.details().and_then(|details| details.problems.as_ref()) {
        json["problems"] = problems.clone();
    }
    json
}

/// Returns the result of a command that failed: its result, as far as there is one, and the error.
pub(super) fn failure_json(error: &CommandError, flag: &str) -> Json {
    let mut result = error.details().and_then(|details| details.result.clone()).unwrap_or_else(|| json!({}));
    result["error"] = error_json(error, flag);
    result
}

/// Returns the result of a command line that is not valid.
pub(super) fn usage_error_json(error: &clap::Error) -> Json {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message).trim();
    let tips: Vec<_> = text.lines().filter_map(|line| line.trim_start().strip_prefix("tip: ")).collect();
    let usage = error.get(ContextKind::Usage).map(|usage| match usage {
        ContextValue::StyledStr(usage) => usage.to_string(),
        other => other.to_string(),
    });
    let help = if tips.is_empty() { usage } else { Some(tips.join("; ")) };
    json!({ "error": {
        "code": ErrorCode::InvalidUsage.as_str(),
        "message": message,
        "help": help.as_deref().map(str::trim),
        "place": null,
    } })
}
