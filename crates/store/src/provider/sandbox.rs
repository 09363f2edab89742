//! The object store built into the program.

use super::{EndpointSource, ProviderProfile, RegionSource};
use crate::AddressingStyle;
use crate::http_client::StoreDialect;

pub(super) static PROFILE: ProviderProfile = ProviderProfile {
    name: "sandbox",
    url_scheme: "s3",
    addressing: AddressingStyle::Path,
    endpoint: EndpointSource::Program,
    region: RegionSource::Default("us-east-1"),
    dialect: StoreDialect::S3,
    assumes_roles_at_endpoint: false,
    own_hosts: None,
};
