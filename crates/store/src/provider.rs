//! The providers, what the client needs to know about each, the configuration of a store at one of them, and its
//! endpoint: the host of each bucket, and the path of each key.
//!
//! One provider is one [`ProviderProfile`] and one variant of [`StoreProvider`]. Everything else asks the profile, and
//! matches on no provider. Credentials are not part of a configuration.

use std::fmt;
use std::path::PathBuf;

use crate::enum_with_all;
use crate::http_client::StoreDialect;
use crate::object::{BucketName, ObjectKey};
use crate::partition::{EndpointVariant, PARTITIONS, Partition};
use crate::unsupported_bucket::UnsupportedBucket;
use crate::web::{ConnectionSettings, ConnectionSetupError};

enum_with_all! {
    /// The API that a store speaks, and the rules that apply to it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum StoreProvider {
        /// AWS S3.
        Aws,
        /// Alibaba Cloud OSS, with its native API.
        Oss,
        /// Any other server with an S3-compatible API.
        S3,
        /// The object store built into this program.
        Sandbox,
    }
}

/// What the client knows about a provider.
#[derive(Debug)]
pub struct ProviderProfile {
    /// The name in plan files.
    pub name: &'static str,
    /// The scheme of URLs such as `s3://bucket/key`, which the service's own tools use.
    pub url_scheme: &'static str,
    /// Where the bucket name is placed in URLs by default.
    pub addressing: AddressingStyle,
    /// Where the endpoint comes from.
    pub endpoint: EndpointSource,
    /// Where the region comes from if the plan names none.
    pub region: RegionSource,
    /// The API, the signatures and the credentials that the store uses.
    pub(crate) dialect: StoreDialect,
    /// Whether the store's own endpoint also answers `AssumeRole`. If not, the provider has a separate endpoint for it.
    pub(crate) assumes_roles_at_endpoint: bool,
    /// Returns what a name in the place of a bucket is, if the service has such things and the client cannot work on them.
    pub(crate) unsupported_bucket: fn(&str) -> Option<UnsupportedBucket>,
    /// Whether a bucket can be named with its tenant, as in `tenant:bucket`.
    pub(crate) has_tenants: bool,
    /// The hosts that the operator of the service runs itself, if there is one.
    own_hosts: Option<ServiceHosts>,
}

/// Where the endpoint of a store comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointSource {
    /// The plan must name it.
    Plan,
    /// It is derived from the region, unless the plan names one.
    Region,
    /// The program serves the store itself.
    Program,
}

/// Where the region comes from if the plan names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionSource {
    /// The plan must name it.
    Plan,
    /// The environment.
    Environment,
    /// It is this one.
    Default(&'static str),
}

/// The hosts of a service: `service[.dualstack][.region].domain`, or `service.region.private.domain` below the name of a
/// private endpoint. Buckets and endpoints precede the service. A label of the service in another place can be the
/// choice of a customer.
#[derive(Debug)]
struct ServiceHosts {
    domains: ServiceDomains,
    /// The names, each also with a suffix such as `-fips`.
    services: &'static [&'static str],
    /// Whether the region can follow the service as a label of its own.
    has_region_label: bool,
    /// The label of endpoints in the private network of a customer.
    private_label: &'static str,
}

/// The domains of a service.
#[derive(Debug)]
enum ServiceDomains {
    /// Those of all partitions of AWS.
    Aws,
    One(&'static str),
}

/// AWS S3.
static AWS: ProviderProfile = ProviderProfile {
    name: "aws",
    url_scheme: "s3",
    addressing: AddressingStyle::Virtual,
    endpoint: EndpointSource::Region,
    region: RegionSource::Environment,
    dialect: StoreDialect::S3,
    assumes_roles_at_endpoint: false,
    unsupported_bucket: UnsupportedBucket::of_aws,
    has_tenants: false,
    own_hosts: Some(ServiceHosts {
        domains: ServiceDomains::Aws,
        services: &["s3", "s3express"],
        has_region_label: true,
        private_label: "vpce",
    }),
};

/// Alibaba Cloud OSS.
static OSS: ProviderProfile = ProviderProfile {
    name: "oss",
    url_scheme: "oss",
    addressing: AddressingStyle::Virtual,
    endpoint: EndpointSource::Plan,
    region: RegionSource::Plan,
    dialect: StoreDialect::Oss,
    assumes_roles_at_endpoint: false,
    unsupported_bucket: |_| None,
    has_tenants: false,
    own_hosts: Some(ServiceHosts {
        // <https://www.alibabacloud.com/help/en/oss/user-guide/regions-and-endpoints>
        domains: ServiceDomains::One("aliyuncs.com"),
        services: &["oss"],
        has_region_label: false,
        private_label: "privatelink",
    }),
};

/// Other servers with an S3-compatible API.
static S3: ProviderProfile = ProviderProfile {
    name: "s3",
    url_scheme: "s3",
    addressing: AddressingStyle::Path,
    endpoint: EndpointSource::Plan,
    region: RegionSource::Default("us-east-1"),
    dialect: StoreDialect::S3,
    assumes_roles_at_endpoint: true,
    unsupported_bucket: |_| None,
    has_tenants: true,
    own_hosts: None,
};

/// The object store built into the program.
static SANDBOX: ProviderProfile = ProviderProfile {
    name: "sandbox",
    url_scheme: "s3",
    addressing: AddressingStyle::Path,
    endpoint: EndpointSource::Program,
    region: RegionSource::Default("us-east-1"),
    dialect: StoreDialect::S3,
    assumes_roles_at_endpoint: false,
    unsupported_bucket: |_| None,
    has_tenants: false,
    own_hosts: None,
};

impl StoreProvider {
    /// The name of each provider in plan files.
    pub const NAMES: &'static [(&'static str, Self)] = &{
        let mut names = [("", Self::ALL[0]); Self::ALL.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = (Self::ALL[index].profile().name, Self::ALL[index]);
            index += 1;
        }
        names
    };

    /// Returns what the client knows about the provider.
    #[must_use]
    pub const fn profile(self) -> &'static ProviderProfile {
        match self {
            Self::Aws => &AWS,
            Self::Oss => &OSS,
            Self::S3 => &S3,
            Self::Sandbox => &SANDBOX,
        }
    }

    /// Returns the name in plan files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.profile().name
    }

    /// Returns whether the program serves the store itself.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self.profile().endpoint == EndpointSource::Program
    }
}

impl RegionSource {
    /// Returns the region that the provider has by default.
    #[must_use]
    pub fn default_region(self) -> Option<&'static str> {
        match self {
            Self::Default(region) => Some(region),
            Self::Plan | Self::Environment => None,
        }
    }
}

impl ServiceHosts {
    /// Returns the position of the service's label in a host, if the host is the service's own.
    fn service_start(&self, host: &str) -> Option<usize> {
        let below = |domain: &&str| host.strip_suffix(domain)?.strip_suffix('.');
        let names = match &self.domains {
            ServiceDomains::Aws => PARTITIONS.iter().flat_map(Partition::domains).find_map(|domain| below(&domain)),
            ServiceDomains::One(domain) => below(domain),
        }?;
        let split = |names: &'_ str| names.rfind('.').map_or(0, |dot| dot + 1);
        let without =
            |names: &'_ str, last: &str| names.strip_suffix(last).and_then(|rest| rest.strip_suffix('.')).map(str::len);
        let mut end = names.len();
        let private = without(names, self.private_label);
        if let Some(length) = private {
            end = names[..length].rfind('.')?;
        } else if self.has_region_label && is_region_label(&names[split(names)..]) {
            end = names.rfind('.')?;
        }
        let end = without(&names[..end], "dualstack").unwrap_or(end);
        let start = split(&names[..end]);
        let is_named = |name: &&str| {
            names[start..end].strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let is_complete = private.is_none() || start > 0;
        (is_complete && self.services.iter().any(is_named)).then_some(start)
    }
}

/// Returns whether a label is the name of a region of AWS, such as `us-gov-west-1`.
fn is_region_label(label: &str) -> bool {
    let mut parts = label.rsplit('-');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    parts.next().is_some_and(is_number) && parts.clone().count() >= 2 && parts.all(is_word)
}

/// The validated `[store]` section of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The API to use.
    pub provider: StoreProvider,
    /// The URL of the endpoint. `None` derives it from the region, for provider `aws`.
    pub endpoint: Option<String>,
    /// The region to sign for. `None` uses the region of the environment, if the provider has one.
    pub region: Option<String>,
    /// Where the bucket name is placed in URLs.
    pub addressing: AddressingStyle,
    /// The ARN of the role to assume. `None` uses the caller's own credentials.
    pub role_arn: Option<String>,
    /// The folder that holds the state of the sandbox. Only for provider `sandbox`.
    pub data: Option<PathBuf>,
    /// The CSV file with the initial contents of the sandbox. Only for provider `sandbox`.
    pub fill: Option<PathBuf>,
    /// Whether an endpoint that the environment names may be one of another machine without TLS. An endpoint of the plan
    /// was checked with the plan.
    pub allow_http: bool,
    /// Whether the caller pays for the requests and the data transfer, instead of the owner of the bucket.
    pub requester_pays: bool,
    /// What the environment says about the endpoints of AWS. It has an effect only if the provider derives its endpoint
    /// from the region.
    pub aws_endpoints: AwsEndpointSettings,
}

/// What the environment says about the endpoints of AWS: environment variables and the active profile.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsEndpointSettings {
    /// The endpoint of S3, if one is named. An endpoint of the plan comes first.
    pub s3: Option<ConfiguredEndpoint>,
    /// The endpoint of STS, if one is named. Roles of the plan are assumed there.
    pub sts: Option<ConfiguredEndpoint>,
    /// The setting that asks for FIPS endpoints, if one does: `AWS_USE_FIPS_ENDPOINT`.
    pub fips: Option<String>,
    /// The setting that asks for dual-stack endpoints, if one does.
    pub dual_stack: Option<String>,
    /// The region, if it decides which of AWS's own endpoints are used and the plan names none.
    pub region: Option<ConfiguredRegion>,
}

/// A region that the environment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredRegion {
    /// The name, such as `eu-west-1`.
    pub name: String,
    /// What names it, such as `AWS_REGION`.
    pub setting: String,
}

/// An endpoint that the environment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredEndpoint {
    /// The URL, in lower case, without a trailing slash.
    pub url: String,
    /// The setting that names it, such as `AWS_ENDPOINT_URL_S3` or `endpoint_url of the profile work`.
    pub setting: String,
}

impl AwsEndpointSettings {
    /// Returns which of AWS's own endpoints to use.
    #[must_use]
    pub fn variant(&self) -> EndpointVariant {
        EndpointVariant { fips: self.fips.is_some(), dual_stack: self.dual_stack.is_some() }
    }
}

/// Which endpoint of a service the environment selects.
#[derive(Debug)]
pub(crate) enum EndpointChoice {
    /// The one that a setting names.
    Named(ConfiguredEndpoint),
    /// AWS's own.
    Own {
        /// The setting that asks for the FIPS endpoint, if one does.
        fips: Option<String>,
        /// The setting that asks for the dual-stack endpoint, if one does.
        dual_stack: Option<String>,
        /// The region, if the environment decides it. `None` if it is not known.
        region: Option<ConfiguredRegion>,
    },
}

impl EndpointChoice {
    /// Returns whether both are the same endpoint, as far as the regions are known. It does not matter which settings
    /// select it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named(a), Self::Named(b)) => a.url == b.url,
            (Self::Own { fips: fips_a, dual_stack: dual_a, region: a }, Self::Own { fips, dual_stack, region: b }) => {
                let names = a.as_ref().zip(b.as_ref());
                fips_a.is_some() == fips.is_some()
                    && dual_a.is_some() == dual_stack.is_some()
                    && names.is_none_or(|(a, b)| a.name == b.name)
            }
            (Self::Named(_), Self::Own { .. }) | (Self::Own { .. }, Self::Named(_)) => false,
        }
    }
}

impl fmt::Display for EndpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fips, dual_stack, region) = match self {
            Self::Named(ConfiguredEndpoint { url, setting }) => return write!(f, "{url} (from {setting})"),
            Self::Own { fips, dual_stack, region } => (fips, dual_stack, region),
        };
        match (fips, dual_stack) {
            (None, None) => f.write_str("AWS's default"),
            (Some(setting), None) => write!(f, "AWS's FIPS endpoint (from {setting})"),
            (None, Some(setting)) => write!(f, "AWS's dual-stack endpoint (from {setting})"),
            (Some(fips), Some(dual_stack)) => {
                write!(f, "AWS's dual-stack FIPS endpoint (from {fips} and {dual_stack})")
            }
        }?;
        match region {
            Some(ConfiguredRegion { name, setting }) => write!(f, " in {name} (from {setting})"),
            None => Ok(()),
        }
    }
}

impl StoreConfig {
    /// Returns the configuration of a plan that names only the provider and, if it must, the endpoint.
    #[must_use]
    pub fn new(provider: StoreProvider, endpoint: Option<&str>) -> Self {
        Self {
            provider,
            endpoint: endpoint.map(str::to_owned),
            region: None,
            addressing: provider.profile().addressing,
            role_arn: None,
            data: None,
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: AwsEndpointSettings::default(),
        }
    }

    /// Returns whether the store is operated by AWS or Alibaba Cloud, or is the sandbox. Such a store behaves as its
    /// documentation says.
    #[must_use]
    pub fn is_first_party(&self) -> bool {
        match (self.provider.profile().endpoint, self.effective_endpoint()) {
            (EndpointSource::Program, _) | (EndpointSource::Region, None) => true,
            (_, Some(endpoint)) => is_first_party(endpoint),
            (EndpointSource::Plan, None) => false,
        }
    }

    /// Returns the endpoint that the environment names, if requests go there.
    #[must_use]
    pub fn environment_endpoint(&self) -> Option<&ConfiguredEndpoint> {
        let obeyed = self.endpoint.is_none() && self.reads_aws_endpoints();
        self.aws_endpoints.s3.as_ref().filter(|_| obeyed)
    }

    /// Returns the endpoint that the plan names, or else the environment. `None` derives it from the region.
    #[must_use]
    pub fn effective_endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref().or_else(|| self.environment_endpoint().map(|endpoint| endpoint.url.as_str()))
    }

    /// Returns whether settings of the environment for AWS's endpoints have an effect.
    #[must_use]
    pub fn reads_aws_endpoints(&self) -> bool {
        self.provider.profile().endpoint == EndpointSource::Region
    }

    /// Returns whether the environment decides the region of one of AWS's own endpoints, that of S3 or that of STS. At
    /// other endpoints, the region only matters for signing.
    #[must_use]
    pub fn has_region_of_environment(&self) -> bool {
        let own_s3 = self.effective_endpoint().is_none();
        let own_sts = self.role_arn.is_some() && self.aws_endpoints.sts.is_none();
        self.reads_aws_endpoints() && self.region.is_none() && (own_s3 || own_sts)
    }

    /// Returns the endpoints that the environment decides, with the name of each service as messages have it: S3's if
    /// the plan does not name it, and that of STS if the plan has a role.
    pub(crate) fn environment_choices(&self) -> Vec<(&'static str, EndpointChoice)> {
        let settings = &self.aws_endpoints;
        let choice = |named: Option<&ConfiguredEndpoint>| match named {
            Some(endpoint) => EndpointChoice::Named(endpoint.clone()),
            None => EndpointChoice::Own {
                fips: settings.fips.clone(),
                dual_stack: settings.dual_stack.clone(),
                region: settings.region.clone().filter(|_| self.has_region_of_environment()),
            },
        };
        let obeyed = self.reads_aws_endpoints();
        let store = (obeyed && self.endpoint.is_none()).then(|| ("", choice(settings.s3.as_ref())));
        let sts = (obeyed && self.role_arn.is_some()).then(|| (" of STS", choice(settings.sts.as_ref())));
        store.into_iter().chain(sts).collect()
    }

    /// Returns where the bucket name is placed in URLs. An endpoint of the environment is often a test server, so the
    /// bucket is in the path there, as with the AWS CLI.
    pub(crate) fn effective_addressing(&self) -> AddressingStyle {
        if self.environment_endpoint().is_some() { AddressingStyle::Path } else { self.addressing }
    }
}

/// Returns whether an endpoint belongs to AWS S3 or Alibaba Cloud OSS. Other hosts in their domains are machines and
/// load balancers of customers.
pub(crate) fn is_first_party(endpoint: &str) -> bool {
    let endpoint = endpoint.to_ascii_lowercase();
    let Some(host) = endpoint.strip_prefix("https://") else { return false };
    let host = host.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.');
    service_start(host).is_some()
}

/// Returns where the host of the service begins in a host in lower case, behind the name of a bucket, if the host is one
/// of AWS S3 or Alibaba Cloud OSS.
pub(crate) fn service_start(host: &str) -> Option<usize> {
    StoreProvider::ALL.iter().find_map(|provider| provider.profile().own_hosts.as_ref()?.service_start(host))
}

/// The maximum length of a bucket name, and of a label in DNS, in bytes.
const MAX_BUCKET_NAME_BYTES: usize = 63;

/// Where the bucket name is placed in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressingStyle {
    /// In the host: `https://bucket.endpoint/key`.
    Virtual,
    /// In the path: `https://endpoint/bucket/key`.
    Path,
}

/// A store's endpoint and its addressing style.
#[derive(Clone, Debug)]
pub(crate) struct StoreEndpoint {
    https: bool,
    host: String,
    addressing: AddressingStyle,
}

/// The host and base path for the requests to one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketLocation {
    /// Host and port, as in the `Host` header.
    pub(crate) authority: String,
    /// The part of the path before the key: `/` or `/bucket/`.
    pub(crate) path: String,
}

impl StoreEndpoint {
    /// Creates the endpoint for a URL, which consists of scheme and host.
    pub(crate) fn new(endpoint: &str, addressing: AddressingStyle) -> Self {
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        Self { https: scheme != "http", host: host.trim_end_matches('/').to_owned(), addressing }
    }

    /// Returns whether connections use TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Checks that connections to the endpoint can be opened, as far as that is known without a server.
    pub(crate) fn check_connections(&self, connections: &ConnectionSettings) -> Result<(), ConnectionSetupError> {
        connections.connector_to(self.https, &self.host).map(drop)
    }

    /// Returns where requests to a bucket are sent.
    pub(crate) fn bucket_location(&self, bucket: &BucketName) -> BucketLocation {
        if self.addressing == AddressingStyle::Virtual && self.is_valid_in_host(bucket) {
            BucketLocation { authority: format!("{bucket}.{}", self.host), path: "/".to_owned() }
        } else {
            // Ceph's name of a bucket of another tenant has a colon, which is signed and sent as `%3A`.
            let name = ObjectKey::from(bucket.as_str()).encoded();
            BucketLocation { authority: self.host.clone(), path: format!("/{name}/") }
        }
    }

    /// Returns the method and the URL of a request, such as `PUT https://bucket.host/key?tagging`.
    pub(crate) fn request_line(&self, method: &str, bucket: &BucketName, key: &ObjectKey, query: &str) -> String {
        let BucketLocation { authority, path } = self.bucket_location(bucket);
        let (scheme, key) = (self.scheme(), key.encoded_keeping_slashes());
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{method} {scheme}://{authority}{path}{key}{mark}{query}")
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Returns whether a bucket name can be part of the host name. A name that is not valid in DNS stays in the path,
    /// and with TLS also a name with a dot, which no wildcard certificate covers.
    fn is_valid_in_host(&self, bucket: &BucketName) -> bool {
        let name = bucket.as_str();
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(is_allowed) && !label.starts_with('-') && !label.ends_with('-')
        };
        name.len() <= MAX_BUCKET_NAME_BYTES && name.split('.').all(is_label) && !(self.https && name.contains('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_the_services_own_endpoints() {
        for own in [
            "https://s3.eu-west-1.amazonaws.com",
            "https://S3.dualstack.us-east-1.AMAZONAWS.com:443",
            "https://s3-fips.us-gov-west-1.amazonaws.com",
            "https://s3-accelerate.amazonaws.com",
            "https://s3.amazonaws.com",
            "https://s3.cn-north-1.amazonaws.com.cn",
            "https://s3.eusc-de-east-1.amazonaws.eu",
            "https://s3.us-iso-east-1.c2s.ic.gov",
            "https://s3.us-isob-east-1.sc2s.sgov.gov",
            "https://s3.eu-isoe-west-1.cloud.adc-e.uk",
            "https://s3.us-isof-south-1.csp.hci.ic.gov",
            "https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com",
            "https://oss-cn-hangzhou.aliyuncs.com",
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "https://s3.oss-cn-hangzhou.aliyuncs.com",
            "https://cn-hangzhou.oss.aliyuncs.com",
            "https://bucket.s3.dualstack.us-gov-west-1.amazonaws.com",
            "https://s3-eu-west-1.amazonaws.com",
            "https://s3express-use1-az4.us-east-1.amazonaws.com",
            "https://ep-1a2b.oss.cn-hangzhou.privatelink.aliyuncs.com",
        ] {
            assert!(is_first_party(own), "{own}");
        }
        for other in [
            "http://s3.eu-west-1.amazonaws.com",
            "https://s3.example.org",
            "https://amazonaws.com",
            "https://amazonaws.com.example.org",
            "https://s3.amazonaws.com.example.org",
            "https://s3.notamazonaws.com",
            "https://ec2-1-2-3-4.compute-1.amazonaws.com",
            "https://s3-proxy-123.us-east-1.elb.amazonaws.com",
            "https://abc.execute-api.us-east-1.amazonaws.com",
            "https://nlb-x.cn-hangzhou.nlb.aliyuncs.com",
            "https://s3.evil.us-east-1.amazonaws.com",
            "https://s3-x.us-east-1.es.amazonaws.com",
            "https://s3.compute-1.amazonaws.com",
            "https://s3.us-east-1.vpce.amazonaws.com",
            "https://s3.vpce-svc-1.us-east-1.vpce.amazonaws.com",
            "https://oss-x.cn-hangzhou.log.aliyuncs.com",
            "https://oss-x.cn-hangzhou.aliyuncs.com",
            "https://oss.ep-1.epsrv-2.cn-hangzhou.privatelink.aliyuncs.com",
            "https://vpce.amazonaws.com",
            "https://aliyuncs.com",
            "http://127.0.0.1:9000",
            "",
        ] {
            assert!(!is_first_party(other), "{other}");
        }
    }

    #[test]
    fn a_store_without_an_endpoint_is_the_services_own() {
        let config = StoreConfig::new;
        assert!(config(StoreProvider::Aws, None).is_first_party());
        assert!(config(StoreProvider::Sandbox, None).is_first_party());
        assert!(!config(StoreProvider::Aws, Some("https://minio.example.org")).is_first_party());
        assert!(config(StoreProvider::S3, Some("https://s3.eu-west-1.amazonaws.com")).is_first_party());
    }

    #[test]
    fn names_are_unique() {
        assert_eq!(StoreProvider::NAMES.len(), StoreProvider::ALL.len());
        for (name, provider) in StoreProvider::NAMES {
            assert_eq!(StoreProvider::NAMES.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
            assert_eq!(provider.as_str(), *name);
        }
    }

    #[test]
    fn both_addressings() {
        let (bucket, key) = (BucketName::new("b"), ObjectKey::from("a b/c"));
        let virt = StoreEndpoint::new("https://s3.example.com/", AddressingStyle::Virtual);
        assert_eq!(virt.request_line("PUT", &bucket, &key, "tagging"), "PUT https://b.s3.example.com/a%20b/c?tagging");
        let path = StoreEndpoint::new("http://127.0.0.1:9000", AddressingStyle::Path);
        assert_eq!(path.request_line("GET", &bucket, &key, ""), "GET http://127.0.0.1:9000/b/a%20b/c");
    }

    #[test]
    fn a_bucket_that_cannot_be_a_host_stays_in_the_path() {
        let site = StoreEndpoint::new("https://s3.example.com", AddressingStyle::Virtual);
        for name in ["a.b", "A", "a_b", "-a", ".."] {
            assert_eq!(site.bucket_location(&BucketName::new(name)).authority, "s3.example.com", "{name}");
        }
        for (name, path) in
            [("tenant:b", "/tenant%3Ab/"), ("my_bucket.x-Y", "/my_bucket.x-Y/"), ("a/../b?c", "/a%2F..%2Fb%3Fc/")]
        {
            let location = site.bucket_location(&BucketName::new(name));
            assert_eq!((location.authority.as_str(), location.path.as_str()), ("s3.example.com", path), "{name}");
        }
        let plain = StoreEndpoint::new("http://localhost:1", AddressingStyle::Virtual);
        assert_eq!(plain.bucket_location(&BucketName::new("a.b")).authority, "a.b.localhost:1");
    }

    #[test]
    fn an_endpoint_of_the_environment_is_for_aws_only_and_never_its_own_by_itself() {
        let config = |provider, endpoint: Option<&str>, named: &str| StoreConfig {
            aws_endpoints: AwsEndpointSettings {
                s3: Some(ConfiguredEndpoint { url: named.to_owned(), setting: "AWS_ENDPOINT_URL".to_owned() }),
                ..AwsEndpointSettings::default()
            },
            ..StoreConfig::new(provider, endpoint)
        };
        let local = config(StoreProvider::Aws, None, "http://localhost:4566");
        assert_eq!(local.effective_endpoint(), Some("http://localhost:4566"));
        assert!(!local.is_first_party() && local.effective_addressing() == AddressingStyle::Path);
        assert!(config(StoreProvider::Aws, None, "https://s3.eu-west-1.amazonaws.com").is_first_party());
        let own = config(StoreProvider::Aws, Some("https://s3.eu-west-1.amazonaws.com"), "http://localhost:4566");
        assert_eq!(own.effective_endpoint(), own.endpoint.as_deref());
        assert!(own.is_first_party() && own.effective_addressing() == AddressingStyle::Virtual);
        for provider in [StoreProvider::S3, StoreProvider::Oss, StoreProvider::Sandbox] {
            assert_eq!(config(provider, None, "http://localhost:4566").effective_endpoint(), None);
        }
    }
}
