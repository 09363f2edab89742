//! Other servers with an S3-compatible API.

use super::{EndpointSource, ProviderProfile, RegionSource};
use crate::AddressingStyle;
use crate::http_client::StoreDialect;

pub(super) static PROFILE: ProviderProfile = ProviderProfile {
    name: "s3",
    url_scheme: "s3",
    addressing: AddressingStyle::Path,
    endpoint: EndpointSource::Plan,
    region: RegionSource::Default("us-east-1"),
    dialect: StoreDialect::S3,
    assumes_roles_at_endpoint: true,
    own_hosts: None,
};
