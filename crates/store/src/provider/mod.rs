//! The providers: what the client needs to know about each.
//!
//! One provider is one file with one [`ProviderProfile`], and one variant of [`StoreProvider`]. Everything else asks
//! the profile, and matches on no provider.

mod aws;
mod oss;
mod s3;
mod sandbox;

use crate::AddressingStyle;
use crate::enum_with_all;
use crate::http_client::StoreDialect;

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
    /// Whether the endpoint of the store also assumes roles. Otherwise the service has another endpoint for that.
    pub(crate) assumes_roles_at_endpoint: bool,
    /// The hosts that the operator of the service runs itself, if there is one.
    pub(crate) own_hosts: Option<ServiceHosts>,
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
pub(crate) struct ServiceHosts {
    pub(crate) domains: &'static [&'static str],
    /// The names, each also with a suffix such as `-fips`.
    pub(crate) services: &'static [&'static str],
    /// Labels of hosts in these domains that belong to customers.
    pub(crate) customer_labels: &'static [&'static str],
}

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
            Self::Aws => &aws::PROFILE,
            Self::Oss => &oss::PROFILE,
            Self::S3 => &s3::PROFILE,
            Self::Sandbox => &sandbox::PROFILE,
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
    pub(crate) fn contains(&self, host: &str) -> bool {
        let is = |label: &str, name: &str| {
            label.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let labels = self.domains.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        labels.is_some_and(|labels| {
            labels.split('.').any(|label| self.services.iter().any(|name| is(label, name)))
                && !labels.split('.').any(|label| self.customer_labels.contains(&label))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        assert_eq!(StoreProvider::NAMES.len(), StoreProvider::ALL.len());
        for (name, provider) in StoreProvider::NAMES {
            assert_eq!(StoreProvider::NAMES.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
            assert_eq!(provider.as_str(), *name);
        }
    }
}
