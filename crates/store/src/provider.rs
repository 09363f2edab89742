//! The providers, what the client needs to know about each, the configuration of a store at one of them, and its
//! endpoint: the host of each bucket, and the path of each key.
//!
//! One provider is one [`ProviderProfile`] and one variant of [`StoreProvider`]. Everything else asks the profile, and
//! matches on no provider. Credentials are not part of a configuration.

use std::path::PathBuf;

use crate::enum_with_all;
use crate::http_client::StoreDialect;
use crate::object::{BucketName, ObjectKey};
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

/// The hosts of a service: a host in one of the domains, one of whose labels is the name of the service.
#[derive(Debug)]
struct ServiceHosts {
    domains: &'static [&'static str],
    /// The names, each also with a suffix such as `-fips`.
    services: &'static [&'static str],
    /// Labels of hosts in these domains that belong to customers.
    customer_labels: &'static [&'static str],
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
    own_hosts: Some(ServiceHosts {
        // In all AWS partitions. <https://docs.aws.amazon.com/general/latest/gr/s3.html>
        domains: &[
            "amazonaws.com",
            "amazonaws.com.cn",
            "amazonaws.eu",
            "api.aws",
            "api.amazonwebservices.com.cn",
            "c2s.ic.gov",
            "sc2s.sgov.gov",
            "csp.hci.ic.gov",
            "cloud.adc-e.uk",
        ],
        services: &["s3", "s3express"],
        customer_labels: &["elb"],
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
    own_hosts: Some(ServiceHosts {
        // <https://www.alibabacloud.com/help/en/oss/user-guide/regions-and-endpoints>
        domains: &["aliyuncs.com"],
        services: &["oss"],
        customer_labels: &[],
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
    /// Returns whether a host is the service's own.
    fn contains(&self, host: &str) -> bool {
        let is_named = |label: &str, name: &str| {
            label.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let labels = self.domains.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        labels.is_some_and(|labels| {
            labels.split('.').any(|label| self.services.iter().any(|name| is_named(label, name)))
                && !labels.split('.').any(|label| self.customer_labels.contains(&label))
        })
    }
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
}

impl StoreConfig {
    /// Returns whether the store is operated by AWS or Alibaba Cloud, or is the sandbox. Such a store behaves as its
    /// documentation says.
    #[must_use]
    pub fn is_first_party(&self) -> bool {
        match (self.provider.profile().endpoint, &self.endpoint) {
            (EndpointSource::Program, _) | (EndpointSource::Region, None) => true,
            (_, Some(endpoint)) => is_first_party(endpoint),
            (EndpointSource::Plan, None) => false,
        }
    }
}

/// Returns whether an endpoint belongs to AWS S3 or Alibaba Cloud OSS. Other hosts in these domains are machines and
/// load balancers of customers.
fn is_first_party(endpoint: &str) -> bool {
    let endpoint = endpoint.to_ascii_lowercase();
    let Some(host) = endpoint.strip_prefix("https://") else { return false };
    let host = host.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.');
    StoreProvider::ALL.iter().filter_map(|provider| provider.profile().own_hosts.as_ref()).any(|own| own.contains(host))
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

    /// Returns AWS's endpoint for a region.
    /// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
    pub(crate) fn for_aws_region(region: &str, addressing: AddressingStyle) -> Self {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self::new(&format!("https://s3.{region}.{suffix}"), addressing)
    }

    /// Returns the URL of the endpoint.
    #[cfg(test)]
    fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.host)
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
            BucketLocation { authority: self.host.clone(), path: format!("/{bucket}/") }
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
            "https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com",
            "https://oss-cn-hangzhou.aliyuncs.com",
            "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "https://s3.oss-cn-hangzhou.aliyuncs.com",
            "https://cn-hangzhou.oss.aliyuncs.com",
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
            "https://aliyuncs.com",
            "http://127.0.0.1:9000",
            "",
        ] {
            assert!(!is_first_party(other), "{other}");
        }
    }

    #[test]
    fn a_store_without_an_endpoint_is_the_services_own() {
        let config = |provider, endpoint: Option<&str>| StoreConfig {
            provider,
            endpoint: endpoint.map(str::to_owned),
            region: None,
            addressing: AddressingStyle::Virtual,
            role_arn: None,
            data: None,
            fill: None,
        };
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
        let plain = StoreEndpoint::new("http://localhost:1", AddressingStyle::Virtual);
        assert_eq!(plain.bucket_location(&BucketName::new("a.b")).authority, "a.b.localhost:1");
    }

    #[test]
    fn aws_has_a_site_of_its_own_in_china() {
        assert_eq!(
            StoreEndpoint::for_aws_region("eu-west-1", AddressingStyle::Virtual).url(),
            "https://s3.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            StoreEndpoint::for_aws_region("cn-north-1", AddressingStyle::Virtual).url(),
            "https://s3.cn-north-1.amazonaws.com.cn"
        );
    }
}
