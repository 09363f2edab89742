//! `[[notify]]`: webhooks and their events.

use super::refuse_pair;
use crate::diagnostics::Problem;
use crate::plan::leaf::Text;
use crate::plan::notify::Several;
use crate::plan::shape::HookTable;
use crate::plan::walk::{At, Field, Walk};
use crate::plan::{Event, Hook, MAX_HOOKS, Target};
use crate::web::{Url, UrlFault};

pub(super) fn check(field: &Field<Several<HookTable>>, walk: &mut Walk) -> Vec<Hook> {
    let Some(hooks) = field.value() else { return Vec::new() };
    if let Some(more) = hooks.0.get(MAX_HOOKS) {
        walk.push(
            Problem::new(format!("{} webhooks are too many", hooks.0.len()))
                .label(more.span.clone(), format!("more than {MAX_HOOKS}"))
                .help("have one receiver pass messages on to the others"),
        );
    }
    hooks.0.iter().filter_map(|at| hook(at, walk)).collect()
}

fn hook(at: &At<HookTable>, walk: &mut Walk) -> Option<Hook> {
    let table = &at.value;
    let allow_http = table.allow_http.value().copied().unwrap_or(false);
    let secret_env = table.secret_env.given().and_then(|at| variable(at, "secret_env", walk));
    let mut on = Vec::new();
    for event in
        table.on.value().map_or(Event::BY_DEFAULT.to_vec(), |list| list.0.iter().map(|at| at.value.0).collect())
    {
        if !on.contains(&event) {
            on.push(event);
        }
    }
    if let Some(list) = table.on.given()
        && on.is_empty()
        && table.failure_rate.is_absent()
        && table.run_time.is_absent()
    {
        walk.push(
            Problem::new("this webhook is never told anything")
                .label(list.span.clone(), "no status")
                .help("name statuses in `on`, or set `failure_rate` or `run_time`"),
        );
    }
    let target = target(at, allow_http, walk)?;
    Some(Hook {
        target,
        secret_env,
        allow_http,
        on,
        failure_rate: table.failure_rate.value().copied(),
        run_time: table.run_time.value().map(|lapse| lapse.0),
    })
}

fn target(at: &At<HookTable>, allow_http: bool, walk: &mut Walk) -> Option<Target> {
    let table = &at.value;
    if let (Some(here), Some(there)) = (table.url.given(), table.url_env.given()) {
        refuse_pair(here, there, "a webhook has one URL", "keep `url_env` where the URL is a secret itself", walk);
        return None;
    }
    if let Some(name) = table.url_env.given() {
        return variable(name, "url_env", walk).map(Target::Variable);
    }
    if table.url.is_absent() && table.url_env.is_absent() {
        let example =
            "add `url = \"https://...\"`, or `url_env` with the name of an environment variable that holds it";
        walk.push(Problem::new("this webhook has no URL").label(at.span.clone(), "where is it?").help(example));
    }
    url(table.url.given()?, allow_http, walk).map(Target::Url)
}

fn url(at: &At<Text<1, 2048>>, allow_http: bool, walk: &mut Walk) -> Option<Url> {
    match Url::parse(&at.value.0) {
        Ok(url) => {
            if !url.is_encrypted() && !url.is_loopback() && !allow_http {
                walk.push(
                    Problem::new("the webhook is not encrypted")
                        .label(at.span.clone(), "http to another machine")
                        .help("use https, or accept that anyone on the way can read along with `allow_http = true`"),
                );
            }
            Some(url)
        }
        Err(UrlFault::Credentials) => {
            walk.hide(at.span.clone());
            walk.push(
                Problem::new("credentials never stand in a plan")
                    .label(at.span.clone(), UrlFault::Credentials.to_string())
                    .help("put the whole URL into an environment variable, name that in `url_env`, and treat what stood here as leaked"),
            );
            None
        }
        Err(fault) => {
            walk.push(
                Problem::new("this is no URL that a message can go to")
                    .label(at.span.clone(), fault.to_string())
                    .help("as in https://hooks.example.com/batchplan, with anything unusual in it percent-encoded"),
            );
            None
        }
    }
}

/// Returns the name of an environment variable. An invalid name may be the secret itself, and is not shown.
fn variable(at: &At<Text<1, 128>>, key: &str, walk: &mut Walk) -> Option<String> {
    let name = &at.value.0;
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if legal && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(name.clone());
    }
    walk.hide(at.span.clone());
    walk.push(
        Problem::new(format!("`{key}` must be the name of an environment variable"))
            .label(at.span.clone(), "not a name")
            .help(format!(
                "letters, digits and _, as in {key} = \"BATCHPLAN_HOOK\"; what it holds is set where batchplan runs"
            )),
    );
    None
}
