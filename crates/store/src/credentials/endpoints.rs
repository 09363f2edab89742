//! What the environment says about the endpoints of AWS, by the rules of AWS's own tools: which endpoint of S3 and STS
//! to use instead of AWS's own, and which of AWS's own to use, and in which region.
//!
//! The first of these names the endpoint: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `endpoint_url` in the profile's
//! `services` section, and `endpoint_url` in the profile. `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` turns all of them off.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>,
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html>
//!
//! A setting that cannot be obeyed is an error. If it were ignored, the work would be done in another place than its
//! author means.

use std::ffi::OsString;

use aws_config::imds::region::ImdsRegionProvider;
use aws_config::profile::ProfileSet;
use aws_config::provider_config::ProviderConfig;
use aws_runtime::env_config::property::PropertiesKey;

use super::http::http_client;
use super::profile_chain::MAX_PROFILE_CHAIN;
use super::profile_files::load_profiles;
use super::sources::{AWS_REGIONS, aws_connection_settings};
use super::validation::check_region;
use crate::endpoint::{EndpointUrl, EndpointUrlError};
use crate::provider::{AwsEndpointSettings, ConfiguredEndpoint, ConfiguredRegion, StoreConfig};
use crate::web::root_cause;

/// Why a setting of the environment for AWS's endpoints cannot be obeyed. The messages do not contain its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointSettingError {
    /// The text is not an endpoint.
    #[error("{setting} {}", problem.label())]
    NotAnEndpoint {
        /// The name of the setting.
        setting: String,
        /// What is wrong with its value.
        problem: EndpointUrlError,
    },
    /// The endpoint is one of another machine without TLS, which the plan does not allow.
    #[error("{setting} uses unencrypted http to another machine")]
    NotEncrypted {
        /// The name of the setting.
        setting: String,
    },
    /// The text is no Boolean.
    #[error("{setting} must be true or false")]
    NotABoolean {
        /// The name of the setting.
        setting: String,
    },
    /// A named endpoint has no FIPS or dual-stack variant. AWS's SDKs refuse this too.
    #[error("{variant} cannot be combined with {endpoint}: a custom endpoint has no FIPS or dual-stack variant")]
    Combined {
        /// The setting that asks for the variant.
        variant: String,
        /// The setting that names the endpoint.
        endpoint: String,
    },
    /// The profile names a section that does not exist, or is empty.
    #[error(
        "the AWS profile {profile:?} has `services = {section}`, but there is no section [services {section}] with settings"
    )]
    NoServices {
        /// The name of the profile.
        profile: String,
        /// The name of the section.
        section: String,
    },
    /// The files with the profiles cannot be read, and may name an endpoint.
    #[error("cannot read the AWS profiles: {0}")]
    Profiles(String),
}

impl EndpointSettingError {
    /// Returns what the user can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::NotAnEndpoint { .. } => {
                "set it to a URL such as https://s3.example.org, or unset it; to ignore it for S3 and for the plan's \
                 role, set AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"
            }
            Self::NotEncrypted { .. } => {
                "use https, or set `allow_http = true` in [store] to send requests unencrypted"
            }
            Self::NotABoolean { .. } => "set it to true or false, or unset it",
            Self::Combined { .. } => "unset one of them",
            Self::NoServices { .. } => {
                "add the section to the AWS configuration file, or correct or remove `services`; to ignore it, set \
                 AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"
            }
            Self::Profiles(_) => {
                "correct the file, or set AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE to another one"
            }
        }
    }
}

/// Reads what the environment says about the endpoints of AWS, for this store.
///
/// # Errors
/// Returns an error that names a setting that cannot be obeyed.
pub async fn read_aws_endpoint_settings(config: &StoreConfig) -> Result<AwsEndpointSettings, EndpointSettingError> {
    let profiles = load_profiles().await.map_err(|error| EndpointSettingError::Profiles(root_cause(&*error)))?;
    let environment = AwsEnvironment { variable: &|name| std::env::var_os(name), profiles: &profiles };
    let mut found = StoreConfig { aws_endpoints: environment.endpoints(config)?, ..config.clone() };
    if found.has_region_of_environment() {
        found.aws_endpoints.region = match environment.region() {
            None => region_of_machine().await,
            named => named,
        };
    }
    // A region that is not valid is reported when credentials are loaded.
    Ok(AwsEndpointSettings {
        region: found.aws_endpoints.region.filter(|region| check_region(&region.setting, &region.name).is_ok()),
        ..found.aws_endpoints
    })
}

/// Returns the region that the metadata service of EC2 names, if there is one.
async fn region_of_machine() -> Option<ConfiguredRegion> {
    let http = http_client(&aws_connection_settings().await);
    let machine = ImdsRegionProvider::builder().configure(&ProviderConfig::default().with_http_client(http)).build();
    let name = machine.region().await.map(|region| region.to_string()).filter(|name| !name.is_empty())?;
    Some(ConfiguredRegion { name, setting: "the EC2 metadata service".to_owned() })
}

/// The variables and the profiles that settings are read from.
struct AwsEnvironment<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    profiles: &'a ProfileSet,
}

/// A setting's text and its name for messages.
type FoundSetting = (String, String);

impl AwsEnvironment<'_> {
    fn endpoints(&self, config: &StoreConfig) -> Result<AwsEndpointSettings, EndpointSettingError> {
        let ignored = self.switch("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")?.is_some();
        let named = |service| if ignored { Ok(None) } else { self.endpoint_of(service) };
        let endpoint = |service| named(service)?.map(|found| parse_endpoint(found, config.allow_http)).transpose();
        // What has no effect need not be valid.
        let unused = |service| parse_endpoint(named(service).ok()??, true).ok();
        let (s3, sts) = match (&config.endpoint, &config.role_arn) {
            (Some(_), None) => (unused("s3"), None),
            (Some(_), Some(_)) => (unused("s3"), endpoint("sts")?),
            (None, None) => (endpoint("s3")?, None),
            (None, Some(_)) => (endpoint("s3")?, endpoint("sts")?),
        };
        let fips = self.switch("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?;
        let dual_stack = self.switch("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?;
        let obeyed = s3.as_ref().filter(|_| config.endpoint.is_none()).or(sts.as_ref());
        if let (Some(variant), Some(endpoint)) = (fips.as_ref().or(dual_stack.as_ref()), obeyed) {
            let (variant, endpoint) = (variant.clone(), endpoint.setting.clone());
            return Err(EndpointSettingError::Combined { variant, endpoint });
        }
        Ok(AwsEndpointSettings { s3, sts, fips, dual_stack, region: None })
    }

    /// Returns the region that a variable names, or the active profile, or a profile that it takes its credentials from.
    fn region(&self) -> Option<ConfiguredRegion> {
        let variable = AWS_REGIONS.into_iter().find_map(|name| Some((self.text(name)?, name.to_owned())));
        let (name, setting) = variable.or_else(|| self.region_of_profiles())?;
        Some(ConfiguredRegion { name, setting })
    }

    fn region_of_profiles(&self) -> Option<FoundSetting> {
        let mut selected = self.profiles.selected_profile();
        for _ in 0..MAX_PROFILE_CHAIN {
            let profile = self.profiles.get_profile(selected)?;
            if let Some(region) = profile.get("region").filter(|text| !text.trim().is_empty()) {
                return Some((region.to_owned(), format!("region of the AWS profile {selected:?}")));
            }
            selected = profile.get("source_profile")?;
        }
        None
    }

    /// Returns the endpoint that is named for a service, with the setting that names it.
    fn endpoint_of(&self, service: &str) -> Result<Option<FoundSetting>, EndpointSettingError> {
        let variables = [format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase()), "AWS_ENDPOINT_URL".to_owned()];
        let variable = variables.into_iter().find_map(|name| Some((self.text(&name)?, name)));
        if variable.is_some() {
            return Ok(variable);
        }
        Ok(self.endpoint_of_services(service)?.or_else(|| self.property("endpoint_url")))
    }

    /// Returns the endpoint of a service in the section that the profile's `services` names.
    fn endpoint_of_services(&self, service: &str) -> Result<Option<FoundSetting>, EndpointSettingError> {
        let Some((section, _)) = self.property("services") else { return Ok(None) };
        if !self.has_services(&section) {
            let profile = self.profiles.selected_profile().to_owned();
            return Err(EndpointSettingError::NoServices { profile, section });
        }
        let key = PropertiesKey::builder()
            .section_key("services")
            .section_name(&section)
            .property_name(service)
            .sub_property_name("endpoint_url")
            .build();
        let text = key.ok().and_then(|key| self.profiles.other_sections().get(&key));
        let named = text.filter(|text| !text.trim().is_empty());
        let setting = || format!("endpoint_url of {service} in the AWS profile section [services {section}]");
        Ok(named.map(|text| (text.clone(), setting())))
    }

    /// Returns whether there is such a section with a setting, perhaps of another service. The SDK's type can only look up
    /// settings whose names are known, and shows all of them in its debug format.
    fn has_services(&self, section: &str) -> bool {
        let sections = format!("{:?}", self.profiles.other_sections());
        sections.contains(&format!("section_key: \"services\", section_name: {section:?}"))
    }

    /// Returns the setting that turns something on, if one does.
    fn switch(&self, variable: &str, property: &str) -> Result<Option<String>, EndpointSettingError> {
        let variable = self.text(variable).map(|text| (text, variable.to_owned()));
        let Some((text, setting)) = variable.or_else(|| self.property(property)) else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Some(setting)),
            "false" => Ok(None),
            _ => Err(EndpointSettingError::NotABoolean { setting }),
        }
    }

    /// Returns a property of the active profile.
    fn property(&self, name: &str) -> Option<FoundSetting> {
        let text = self.profiles.get(name).filter(|text| !text.trim().is_empty())?;
        Some((text.to_owned(), format!("{name} of the AWS profile {:?}", self.profiles.selected_profile())))
    }

    /// Returns a variable. A blank one counts as not set.
    fn text(&self, name: &str) -> Option<String> {
        let text = (self.variable)(name)?.to_string_lossy().into_owned();
        Some(text).filter(|text| !text.trim().is_empty())
    }
}

fn parse_endpoint((text, setting): FoundSetting, allow_http: bool) -> Result<ConfiguredEndpoint, EndpointSettingError> {
    match EndpointUrl::parse(text.trim()) {
        Err(problem) => Err(EndpointSettingError::NotAnEndpoint { setting, problem }),
        Ok(endpoint) if endpoint.is_exposed() && !allow_http => Err(EndpointSettingError::NotEncrypted { setting }),
        // Host names are case-insensitive.
        Ok(endpoint) => Ok(ConfiguredEndpoint { url: endpoint.url().to_ascii_lowercase(), setting }),
    }
}

#[cfg(test)]
mod tests;
