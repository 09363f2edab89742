//! AWS S3.

use super::{EndpointSource, ProviderProfile, RegionSource, ServiceHosts};
use crate::AddressingStyle;
use crate::http_client::StoreDialect;

pub(super) static PROFILE: ProviderProfile = ProviderProfile {
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
