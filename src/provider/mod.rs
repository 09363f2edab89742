//! The rules of each provider: what the program knows about a store besides how to connect to it.
//!
//! One provider is one file with one [`ProviderRules`], whose fields `rules` describes; `restore` has the rules of the
//! services for restores. Checks, defaults, policies, estimates, exports, predictions and texts ask the rules, and match on no
//! provider.
//!
//! # Adding a provider
//!
//! A provider with the S3 or OSS API is two files and a line in two registries: its `ProviderProfile` and its variant
//! of `StoreProvider` in the store crate, and its [`ProviderRules`] and the line in [`ProviderRules::of`] here, with
//! the `[store]` section that `batchplan init` writes for it. Neither struct has defaults, so that what is forgotten
//! does not compile. The keys of `[store]` are described in `plan/tables.rs`.
//!
//! Whether objects have an aspect is a question to the provider too ([`ProviderRules::supports`]): they have every
//! aspect, unless its rules say otherwise. What a single server does not support, the check of the server finds.

mod aws;
mod oss;
mod restore;
mod rules;
mod s3;
mod sandbox;

use batchplan_store::StoreProvider;

pub use restore::{RestoreRefusal, RestoreService, RetrievalClass};
pub use rules::{
    AspectSupport, BatchService, BucketNaming, ClassPricing, PolicyLanguage, ProviderRules, RequiredKey,
    RestoreDaysLimit, RoleArnFormat, RoleArnProblem, StoreKey, TagLimits, WorkflowCredentials,
};

impl ProviderRules {
    /// Returns the rules of a provider.
    #[must_use]
    pub fn of(provider: StoreProvider) -> &'static Self {
        match provider {
            StoreProvider::Aws => &aws::RULES,
            StoreProvider::Oss => &oss::RULES,
            StoreProvider::S3 => &s3::RULES,
            StoreProvider::Sandbox => &sandbox::RULES,
        }
    }
}

#[cfg(test)]
mod tests {
    use batchplan_store::{EndpointSource, RegionSource};

    use super::*;

    #[test]
    fn plans_must_have_what_the_client_needs() {
        for provider in StoreProvider::ALL {
            let (profile, rules) = (provider.profile(), ProviderRules::of(provider));
            let is_required = |key| rules.required_keys.iter().any(|required| required.key == key);
            let name = profile.name;
            assert_eq!(is_required(StoreKey::Endpoint), profile.endpoint == EndpointSource::Plan, "{name}");
            assert_eq!(is_required(StoreKey::Region), profile.region == RegionSource::Plan, "{name}");
            assert_eq!(is_required(StoreKey::Data), profile.endpoint == EndpointSource::Program, "{name}");
            assert_eq!((rules.role_arn.problem)(rules.role_arn.example), None, "{name}");
            assert!(rules.template.starts_with(&format!("[store]\nprovider = \"{name}\"")), "{name}");
        }
    }
}
