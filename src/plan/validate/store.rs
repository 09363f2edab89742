//! `[store]`: the requirements of each provider.

use batchplan_store::{AddressingStyle, StoreConfig, StoreProvider};

use super::context::{PlanCheckContext, report_not_allowed};
use crate::diagnostics::FileProblem;
use crate::plan::tables::StoreTable;
use crate::plan::url::{EndpointError, EndpointUrl};
use crate::provider::{ProviderRules, StoreKey};
use crate::toml_reader::{DocumentReader, ParsedField, SpannedValue};

/// Checks `[store]`. Without a valid provider, only the form of the endpoint is checked.
pub(super) fn check(
    table: &StoreTable,
    context: &PlanCheckContext<'_>,
    reader: &mut DocumentReader,
) -> Option<StoreConfig> {
    let endpoint = endpoint(table, reader);
    let provider = table.provider.present()?;
    let rules = ProviderRules::of(provider.value);
    check_required_keys(table, provider, rules, reader);
    check_sandbox_keys(table, provider.value, reader);
    let region = region(table, provider.value, reader);
    let addressing = addressing(table, provider.value, endpoint.as_ref(), reader);
    let role_arn = role_arn(&table.role_arn, provider.value, reader);
    let data = table.data.value().map(|path| context.folder.join(path));
    let fill = table.fill.present().filter(|_| provider.value.is_built_in());
    let fill = fill.map(|at| context.resolve_file(at, reader));
    Some(StoreConfig {
        provider: provider.value,
        endpoint: endpoint.map(|endpoint| endpoint.url),
        region,
        addressing,
        role_arn,
        data,
        fill,
    })
}

/// Reports required keys of the provider that are missing.
fn check_required_keys(
    table: &StoreTable,
    provider: &SpannedValue<StoreProvider>,
    rules: &ProviderRules,
    reader: &mut DocumentReader,
) {
    for required in rules.required_keys {
        let is_absent = match required.key {
            StoreKey::Endpoint => table.endpoint.is_absent(),
            StoreKey::Region => table.region.is_absent(),
            StoreKey::Data => table.data.is_absent(),
        };
        if is_absent {
            reader.push(
                FileProblem::new(format!("`{}` is missing in [store]", required.key.as_str()))
                    .label(provider.span.clone(), format!("required for {}", provider.value.as_str()))
                    .help(required.help),
            );
        }
    }
}

fn check_sandbox_keys(table: &StoreTable, provider: StoreProvider, reader: &mut DocumentReader) {
    if provider.is_built_in() {
        let help = "remove it: the sandbox runs inside batchplan";
        report_not_allowed(&table.endpoint, "the sandbox has no endpoint", help, reader);
        return;
    }
    for field in [&table.data, &table.fill] {
        let help = "remove it, or set `provider = \"sandbox\"`";
        report_not_allowed(field, "`data` and `fill` are only for the sandbox", help, reader);
    }
}

fn region(table: &StoreTable, provider: StoreProvider, reader: &mut DocumentReader) -> Option<String> {
    let Some(at) = table.region.present() else {
        return provider.profile().region.default_region().map(str::to_owned);
    };
    let region = &at.value;
    let endpoint_prefix = ProviderRules::of(provider).endpoint_name_prefix;
    if let Some((prefix, bare)) = endpoint_prefix.and_then(|prefix| Some((prefix, region.strip_prefix(prefix)?))) {
        reader.push(
            FileProblem::new("this is an endpoint name, not a region")
                .label(at.span.clone(), format!("starts with `{prefix}`"))
                .help(format!("write `region = \"{bare}\"`")),
        );
    } else if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        reader.push(
            FileProblem::new("invalid region")
                .label(at.span.clone(), "contains an invalid character")
                .help("use letters, digits and hyphens, such as us-east-1 or cn-hangzhou"),
        );
    }
    Some(region.clone())
}

fn endpoint(table: &StoreTable, reader: &mut DocumentReader) -> Option<EndpointUrl> {
    let at = table.endpoint.present()?;
    match EndpointUrl::parse(&at.value) {
        Ok(endpoint) => {
            check_encryption(&endpoint, at, table, reader);
            Some(endpoint)
        }
        Err(EndpointError::Credentials) => {
            reader.hide(at.span.clone());
            reader.push(
                FileProblem::new("credentials are not allowed in a plan")
                    .label(at.span.clone(), "contains a user name or password")
                    .help("write only the host, and treat the credentials as leaked"),
            );
            None
        }
        Err(EndpointError::Malformed { label, help }) => {
            reader.push(FileProblem::new("invalid endpoint").label(at.span.clone(), label).help(help));
            None
        }
    }
}

fn check_encryption<T>(endpoint: &EndpointUrl, at: &SpannedValue<T>, table: &StoreTable, reader: &mut DocumentReader) {
    let allowed = table.allow_http.value().copied().unwrap_or(false);
    if endpoint.is_exposed() && !allowed {
        reader.push(
            FileProblem::new("the endpoint is not encrypted")
                .label(at.span.clone(), "plain http to another machine")
                .help("use https, or set `allow_http = true` to send requests unencrypted"),
        );
    }
}

fn addressing(
    table: &StoreTable,
    provider: StoreProvider,
    endpoint: Option<&EndpointUrl>,
    reader: &mut DocumentReader,
) -> AddressingStyle {
    let by_ip = endpoint.is_some_and(EndpointUrl::has_ip_address);
    let rules = ProviderRules::of(provider);
    // A server that speaks OSS's API at an IP address is not a region of OSS. OSS's SDKs use path addressing there as
    // well.
    let default = if by_ip && rules.path_only_at_ip { AddressingStyle::Path } else { provider.profile().addressing };
    let addressing = table.addressing.value().copied().unwrap_or(default);
    if let (true, AddressingStyle::Path, false, Some(at)) =
        (rules.path_only_at_ip, addressing, by_ip, table.addressing.present())
    {
        reader.push(
            FileProblem::new(format!("{} does not support path addressing", rules.service))
                .label(at.span.clone(), format!("rejected by {}", rules.service))
                .help("remove it: the default is \"virtual\""),
        );
    }
    if let (AddressingStyle::Virtual, true, Some(at)) = (addressing, by_ip, table.endpoint.present()) {
        let mut problem = FileProblem::new("virtual addressing does not work with an IP address")
            .label(at.span.clone(), "an IP address")
            .help("set `addressing = \"path\"`");
        if let Some(chosen) = table.addressing.present() {
            problem = problem.label(chosen.span.clone(), "puts the bucket into the host");
        }
        reader.push(problem);
    }
    addressing
}

/// Checks `role_arn`. A role that is not valid for the provider is reported and left out.
fn role_arn(field: &ParsedField<String>, provider: StoreProvider, reader: &mut DocumentReader) -> Option<String> {
    if provider.is_built_in() {
        let help = "remove it: the sandbox's keys are public and have all permissions";
        report_not_allowed(field, "the sandbox has no roles", help, reader);
        return None;
    }
    let at = field.present()?;
    let arn = &at.value;
    let format = &ProviderRules::of(provider).role_arn;
    let Some(label) = (format.problem)(arn) else { return Some(arn.clone()) };
    reader.push(
        FileProblem::new(format!("invalid role ARN for {}", provider.as_str()))
            .label(at.span.clone(), label)
            .help(format!("for example: `role_arn = \"{}\"`", format.example)),
    );
    None
}
