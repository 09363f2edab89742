//! `[store]`: the requirements of each provider.

use batchplan_store::{
    AddressingStyle, AwsEndpointSettings, EndpointUrl, EndpointUrlError, Partition, StoreConfig, StoreProvider,
};

use super::context::{PlanCheckContext, report_not_allowed};
use crate::diagnostics::FileProblem;
use crate::plan::tables::StoreTable;
use crate::provider::{ProviderRules, StoreKey};
use crate::toml_reader::{DocumentReader, ParsedField, SpannedValue, quote_for_message};

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
    let role_arn = role_arn(&table.role_arn, provider.value, region.as_deref(), reader);
    let data = table.data.value().map(|path| context.folder.join(path));
    let fill = table.fill.present().filter(|_| provider.value.is_built_in());
    let fill = fill.map(|at| context.resolve_file(at, reader));
    Some(StoreConfig {
        provider: provider.value,
        endpoint: endpoint.map(|endpoint| endpoint.url().to_owned()),
        region,
        addressing,
        role_arn,
        data,
        fill,
        allow_http: table.allow_http.value().copied().unwrap_or(false),
        requester_pays: requester_pays(&table.requester_pays, provider.value, reader),
        aws_endpoints: AwsEndpointSettings::default(),
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
        Err(error @ EndpointUrlError::Credentials) => {
            reader.hide(at.span.clone());
            reader.push(
                FileProblem::new("credentials are not allowed in a plan")
                    .label(at.span.clone(), error.label())
                    .help("write only the host, and treat the credentials as leaked"),
            );
            None
        }
        Err(error) => {
            let help = match error {
                EndpointUrlError::Malformed { help, .. } => help.to_owned(),
                _ => format!("write `https://{}`", quote_for_message(&at.value)),
            };
            reader.push(FileProblem::new("invalid endpoint").label(at.span.clone(), error.label()).help(help));
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
            problem = problem.label(chosen.span.clone(), "puts the bucket name into the host name");
        }
        reader.push(problem);
    }
    addressing
}

/// Returns whether the requester pays. The sandbox costs nothing.
fn requester_pays(field: &ParsedField<bool>, provider: StoreProvider, reader: &mut DocumentReader) -> bool {
    if provider.is_built_in() {
        report_not_allowed(field, "the sandbox costs nothing", "remove it", reader);
        return false;
    }
    field.value().copied().unwrap_or(false)
}

/// Checks `role_arn`. A role that is not valid for the provider is reported and left out.
fn role_arn(
    field: &ParsedField<String>,
    provider: StoreProvider,
    region: Option<&str>,
    reader: &mut DocumentReader,
) -> Option<String> {
    if provider.is_built_in() {
        let help = "remove it: the sandbox's keys are public and have all permissions";
        report_not_allowed(field, "the sandbox has no roles", help, reader);
        return None;
    }
    let at = field.present()?;
    let arn = &at.value;
    let format = &ProviderRules::of(provider).role_arn;
    let Some(label) = (format.problem)(arn) else {
        check_partition(at, provider, region, reader);
        return Some(arn.clone());
    };
    reader.push(
        FileProblem::new(format!("invalid role ARN for {}", provider.as_str()))
            .label(at.span.clone(), label)
            .help(format!("for example: `role_arn = \"{}\"`", format.example)),
    );
    None
}

/// Reports a role of AWS in another partition than the region. No partition knows the roles of another.
fn check_partition(
    at: &SpannedValue<String>,
    provider: StoreProvider,
    region: Option<&str>,
    reader: &mut DocumentReader,
) {
    let named = at.value.strip_prefix("arn:").and_then(|rest| rest.split_once(':'));
    let named = named.and_then(|(partition, _)| Partition::with_id(partition));
    let (Some(named), Some(region)) = (named, region) else { return };
    let partition = Partition::of_region(region);
    if named != partition && ProviderRules::of(provider).role_arn.has_partitions {
        reader.push(
            FileProblem::new("the role and the region are in different AWS partitions")
                .label(at.span.clone(), format!("in the partition {}", named.id))
                .help(format!("{region} is in the partition {id}: use a role `arn:{id}:iam::...`", id = partition.id)),
        );
    }
}
