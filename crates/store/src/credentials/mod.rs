//! Finds the credentials. No other module reads secrets, and secrets are never stored.
//!
//! `aws` and `s3` use AWS's environment variables, profiles and roles, through the provider chain of the AWS SDK.
//! `oss` uses only OSS's environment variables. The caller's credentials can then be used to assume the plan's role:
//! [`assume_aws_role`] and [`assume_oss_role`].
//!
//! | file | contents |
//! |---|---|
//! | `sources` | the caller's own credentials: environment variables, profiles, a profile's `credential_process` |
//! | `role` | assuming roles: with AWS STS, the STS of an S3-compatible server, or Alibaba Cloud's STS |
//! | `endpoints` | the endpoints of AWS that environment variables and profiles name |
//! | `http` | the HTTP client for metadata services and AWS STS: limits and validates responses |
//! | `validation` | which texts can be credentials or a region |

mod endpoints;
mod http;
mod role;
mod sources;
mod validation;

pub use endpoints::{EndpointSettingError, read_aws_endpoint_settings};
pub(crate) use http::http_client;
pub(crate) use role::{assume_aws_role, assume_oss_role};
pub(crate) use sources::{aws_connection_settings, from_aws_chain, from_keys, from_oss_environment};
