//! The configuration of a store: its provider and its endpoint. Credentials are not part of it.

use std::path::PathBuf;

use crate::{EndpointSource, StoreProvider};

/// Where the bucket name is placed in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressingStyle {
    /// In the host: `https://bucket.endpoint/key`.
    Virtual,
    /// In the path: `https://endpoint/bucket/key`.
    Path,
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
}
