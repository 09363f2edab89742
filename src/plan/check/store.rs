//! `[store]`: the requirements of each provider.

use super::endpoint::{Endpoint, Refusal};
use super::{Context, refuse_beside, role};
use crate::diagnostics::Problem;
use crate::plan::defaults;
use crate::plan::leaf::Text;
use crate::plan::shape::StoreTable;
use crate::plan::walk::{At, Walk};
use crate::store::{Addressing, Provider, StoreConfig};

/// Checks `[store]`. Without a valid provider, only the form of the endpoint is checked.
pub(super) fn check(table: &StoreTable, context: &Context<'_>, walk: &mut Walk) -> Option<StoreConfig> {
    let endpoint = endpoint(table, walk);
    let provider = table.provider.given()?;
    needs(table, provider, walk);
    sandbox_only(table, provider.value.0, walk);
    let region = region(table, provider.value.0, walk);
    let addressing = addressing(table, provider.value.0, endpoint.as_ref(), walk);
    let role_arn = role::check(&table.role_arn, provider.value.0, walk);
    let data = table.data.value().map(|path| context.folder.join(&path.0));
    let fill = table.fill.given().filter(|_| provider.value.0 == Provider::Sandbox);
    let fill = fill.map(|at| context.file(at, walk));
    Some(StoreConfig {
        provider: provider.value.0,
        endpoint: endpoint.map(|endpoint| endpoint.url),
        region,
        addressing,
        role_arn,
        data,
        fill,
    })
}

/// Reports required keys of the provider that are missing.
fn needs<T>(table: &StoreTable, provider: &At<T>, walk: &mut Walk) {
    let Some(name) = table.provider.value().map(|provider| provider.0) else { return };
    let mut need = |absent: bool, key: &str, help: &str| {
        if absent {
            walk.push(
                Problem::new(format!("`{key}` is missing in [store]"))
                    .label(provider.span.clone(), format!("{} needs it", name.as_str()))
                    .help(help),
            );
        }
    };
    match name {
        Provider::Aws => {}
        Provider::Oss => {
            let help = "add `endpoint = \"https://oss-cn-hangzhou.aliyuncs.com\"`, with your region";
            need(table.endpoint.is_absent(), "endpoint", help);
            need(table.region.is_absent(), "region", "add `region = \"cn-hangzhou\"`, or yours");
        }
        Provider::S3 => {
            let help = "add `endpoint = \"https://...\"`, the URL of the server";
            need(table.endpoint.is_absent(), "endpoint", help);
        }
        Provider::Sandbox => {
            let help = "add `data = \"...\"`, the folder that holds the sandbox's state";
            need(table.data.is_absent(), "data", help);
        }
    }
}

fn sandbox_only(table: &StoreTable, provider: Provider, walk: &mut Walk) {
    if provider == Provider::Sandbox {
        let help = "remove it: the sandbox runs inside the program";
        refuse_beside(&table.endpoint, "the sandbox has no endpoint", help, walk);
        return;
    }
    for field in [&table.data, &table.fill] {
        let help = "remove it, or set `provider = \"sandbox\"`";
        refuse_beside(field, "only the sandbox keeps its data in files", help, walk);
    }
}

fn region(table: &StoreTable, provider: Provider, walk: &mut Walk) -> Option<String> {
    let Some(at) = table.region.given() else { return defaults::region(provider).map(str::to_owned) };
    let Text(region) = &at.value;
    if let (Provider::Oss, Some(bare)) = (provider, region.strip_prefix("oss-")) {
        walk.push(
            Problem::new("a region is not the endpoint's name")
                .label(at.span.clone(), "begins with `oss-`")
                .help(format!("write `region = \"{bare}\"`")),
        );
    } else if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        walk.push(
            Problem::new("this is no region")
                .label(at.span.clone(), "has a character that regions do not have")
                .help("letters, digits and hyphens, such as us-east-1 or cn-hangzhou"),
        );
    }
    Some(region.clone())
}

fn endpoint(table: &StoreTable, walk: &mut Walk) -> Option<Endpoint> {
    let at = table.endpoint.given()?;
    match Endpoint::parse(&at.value.0) {
        Ok(endpoint) => {
            refuse_plain_text(&endpoint, at, table, walk);
            Some(endpoint)
        }
        Err(Refusal::Credentials) => {
            walk.hide(at.span.clone());
            walk.push(
                Problem::new("credentials never stand in a plan")
                    .label(at.span.clone(), "holds a user name or a password")
                    .help("write the host alone, and treat what stood here as leaked"),
            );
            None
        }
        Err(Refusal::Malformed { label, help }) => {
            walk.push(Problem::new("this is no endpoint").label(at.span.clone(), label).help(help));
            None
        }
    }
}

fn refuse_plain_text<T>(endpoint: &Endpoint, at: &At<T>, table: &StoreTable, walk: &mut Walk) {
    let allowed = table.allow_http.value().copied().unwrap_or(false);
    if !endpoint.https && !endpoint.is_loopback() && !allowed {
        walk.push(
            Problem::new("the endpoint is not encrypted")
                .label(at.span.clone(), "http to another machine")
                .help("use https, or accept that anyone on the way can read along with `allow_http = true`"),
        );
    }
}

fn addressing(table: &StoreTable, provider: Provider, endpoint: Option<&Endpoint>, walk: &mut Walk) -> Addressing {
    let by_ip = endpoint.is_some_and(|endpoint| endpoint.ip().is_some());
    // A server that speaks OSS's API at an IP address is not a region of OSS. OSS's SDKs use path addressing there as
    // well.
    let default = if by_ip && provider == Provider::Oss { Addressing::Path } else { defaults::addressing(provider) };
    let addressing = table.addressing.value().map_or(default, |name| name.0);
    if let (Provider::Oss, Addressing::Path, false, Some(at)) = (provider, addressing, by_ip, table.addressing.given())
    {
        walk.push(
            Problem::new("OSS takes the bucket in the host only")
                .label(at.span.clone(), "refused by OSS")
                .help("remove this; \"virtual\" is the default"),
        );
    }
    if let (Addressing::Virtual, true, Some(at)) = (addressing, by_ip, table.endpoint.given()) {
        let mut problem = Problem::new("an IP address cannot carry the bucket's name")
            .label(at.span.clone(), "an IP address")
            .help("set `addressing = \"path\"`");
        if let Some(chosen) = table.addressing.given() {
            problem = problem.label(chosen.span.clone(), "puts the bucket into the host");
        }
        walk.push(problem);
    }
    addressing
}
