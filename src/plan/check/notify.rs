//! `[[notify]]`: webhooks and their events.

use batchplan_store::web::{HttpUrl, HttpUrlError};

use super::report_conflict;
use crate::diagnostics::FileProblem;
use crate::plan::notify::TableArray;
use crate::plan::parser::{ParsedField, PlanParser, SpannedValue};
use crate::plan::tables::WebhookTable;
use crate::plan::value_types::TextValue;
use crate::plan::{MAX_WEBHOOKS, WebhookConfig, WebhookEvent, WebhookTarget};

pub(super) fn check(field: &ParsedField<TableArray<WebhookTable>>, walk: &mut PlanParser) -> Vec<WebhookConfig> {
    let Some(hooks) = field.value() else { return Vec::new() };
    if let Some(more) = hooks.0.get(MAX_WEBHOOKS) {
        walk.push(
            FileProblem::new(format!("too many webhooks: {}", hooks.0.len()))
                .label(more.span.clone(), format!("more than {MAX_WEBHOOKS}"))
                .help("use one receiver that forwards messages to the others"),
        );
    }
    hooks.0.iter().filter_map(|at| webhook(at, walk)).collect()
}

fn webhook(at: &SpannedValue<WebhookTable>, walk: &mut PlanParser) -> Option<WebhookConfig> {
    let table = &at.value;
    let allow_http = table.allow_http.value().copied().unwrap_or(false);
    let secret_env = table.secret_env.present().and_then(|at| variable_name(at, "secret_env", walk));
    let mut on = Vec::new();
    for event in
        table.on.value().map_or(WebhookEvent::DEFAULTS.to_vec(), |list| list.0.iter().map(|at| at.value.0).collect())
    {
        if !on.contains(&event) {
            on.push(event);
        }
    }
    if let Some(list) = table.on.present()
        && on.is_empty()
        && table.failure_rate.is_absent()
        && table.run_time.is_absent()
    {
        walk.push(
            FileProblem::new("this webhook is never notified")
                .label(list.span.clone(), "no statuses")
                .help("add statuses to `on`, or set `failure_rate` or `run_time`"),
        );
    }
    let target = target(at, allow_http, walk)?;
    Some(WebhookConfig {
        target,
        secret_env,
        allow_http,
        events: on,
        failure_rate: table.failure_rate.value().copied(),
        run_time: table.run_time.value().map(|lapse| lapse.0),
    })
}

fn target(at: &SpannedValue<WebhookTable>, allow_http: bool, walk: &mut PlanParser) -> Option<WebhookTarget> {
    let table = &at.value;
    if let (Some(here), Some(there)) = (table.url.present(), table.url_env.present()) {
        report_conflict(
            here,
            there,
            "`url` and `url_env` cannot be combined",
            "keep `url_env` if the URL is a secret",
            walk,
        );
        return None;
    }
    if let Some(name) = table.url_env.present() {
        return variable_name(name, "url_env", walk).map(WebhookTarget::Variable);
    }
    if table.url.is_absent() && table.url_env.is_absent() {
        let example =
            "add `url = \"https://...\"`, or `url_env` with the name of an environment variable that holds it";
        walk.push(
            FileProblem::new("this webhook has no URL")
                .label(at.span.clone(), "`url` or `url_env` is missing")
                .help(example),
        );
    }
    url(table.url.present()?, allow_http, walk).map(WebhookTarget::Url)
}

fn url(at: &SpannedValue<TextValue<1, 2048>>, allow_http: bool, walk: &mut PlanParser) -> Option<HttpUrl> {
    match HttpUrl::parse(&at.value.0) {
        Ok(url) => {
            if !url.is_encrypted() && !url.is_loopback() && !allow_http {
                walk.push(
                    FileProblem::new("the webhook URL is not encrypted")
                        .label(at.span.clone(), "plain http to another machine")
                        .help("use https, or set `allow_http = true` to send messages unencrypted"),
                );
            }
            Some(url)
        }
        Err(HttpUrlError::Credentials) => {
            walk.hide(at.span.clone());
            walk.push(
                FileProblem::new("credentials are not allowed in a plan")
                    .label(at.span.clone(), HttpUrlError::Credentials.to_string())
                    .help(
                        "move the URL to an environment variable, set `url_env`, and treat the credentials as leaked",
                    ),
            );
            None
        }
        Err(fault) => {
            walk.push(
                FileProblem::new("invalid webhook URL")
                    .label(at.span.clone(), fault.to_string())
                    .help("for example https://hooks.example.com/batchplan; percent-encode special characters"),
            );
            None
        }
    }
}

/// Returns the name of an environment variable. An invalid name may be the secret itself, and is not shown.
fn variable_name(at: &SpannedValue<TextValue<1, 128>>, key: &str, walk: &mut PlanParser) -> Option<String> {
    let name = &at.value.0;
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if legal && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(name.clone());
    }
    walk.hide(at.span.clone());
    walk.push(
        FileProblem::new(format!("`{key}` must be the name of an environment variable"))
            .label(at.span.clone(), "not a name")
            .help(format!(
                "use letters, digits and _, as in {key} = \"BATCHPLAN_HOOK\"; set the variable where batchplan runs"
            )),
    );
    None
}
