//! Alibaba Cloud OSS.

use super::{EndpointSource, ProviderProfile, RegionSource, ServiceHosts};
use crate::AddressingStyle;
use crate::http_client::StoreDialect;

pub(super) static PROFILE: ProviderProfile = ProviderProfile {
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
