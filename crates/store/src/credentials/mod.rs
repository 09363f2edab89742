//! Finds the credentials. No other module reads secrets, and secrets are never stored.
//!
//! `aws` and `s3` use AWS's environment variables, profiles and roles, through the provider chain of the AWS SDK.
//! `oss` uses only OSS's environment variables. The caller's credentials can then be used to assume the plan's role:
//! [`assume_aws_role`] and [`assume_oss_role`].
//!
//! | file | contents |
//! |---|---|
//! | `sources` | the caller's own credentials: environment variables, profiles |
//! | `profile_chain`, `profile_files` | which profile the credentials come from, and why it was not found |
//! | `process`, `process_tree` | a profile's `credential_process`: running it, and killing it if it hangs |
//! | `setting_error` | which setting is the reason that there are none |
//! | `session` | the sessions of `aws sso login` and `aws login` |
//! | `role` | assuming roles: with AWS STS, the STS of an S3-compatible server, or Alibaba Cloud's STS |
//! | `endpoints` | the endpoints of AWS that environment variables and profiles name |
//! | `http` | the HTTP client for metadata services, AWS STS and SSO: limits and validates responses |
//! | `validation` | which texts can be credentials or a region |

mod endpoints;
mod http;
mod process;
mod process_tree;
mod profile_chain;
mod profile_files;
mod role;
mod session;
mod setting_error;
mod sources;
mod validation;

pub use endpoints::{EndpointSettingError, read_aws_endpoint_settings};
pub(crate) use http::http_client;
pub(crate) use profile_files::ProfileError;
pub(crate) use role::{assume_aws_role, assume_oss_role};
pub(crate) use session::SessionError;
pub(crate) use setting_error::CredentialSettingError;
pub(crate) use sources::{aws_connection_settings, check_aws_profile, from_aws_chain, from_keys, from_oss_environment};
