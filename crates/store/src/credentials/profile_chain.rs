//! The active profile of AWS's configuration files, and the profiles from which it takes its credentials.
//!
//! The SDK follows these profiles itself. What it finds is determined here by the same rules, for what is not left to
//! it and for messages.

use aws_config::profile::{Profile, ProfileSet};

use super::validation::{CredentialFormatError, check_credential_text, check_region};

/// The credentials in a profile.
const CREDENTIAL_PROPERTIES: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// The properties of a profile that become part of a host.
const REGION_PROPERTIES: [&str; 2] = ["region", "sso_region"];

/// The maximum number of profiles in a chain of `source_profile` settings.
pub(super) const MAX_PROFILE_CHAIN: usize = 16;

/// Checks the active profile and the profiles from which it takes its credentials.
pub(super) fn check_profiles(profiles: &ProfileSet) -> Result<(), CredentialFormatError> {
    let mut next = Some(profiles.selected_profile());
    // The SDK reports cycles of profiles.
    for _ in 0..MAX_PROFILE_CHAIN {
        let Some(profile) = next.and_then(|name| profiles.get_profile(name)) else { break };
        let named = |property: &str| format!("{property} of the profile {:?}", profile.name());
        for property in CREDENTIAL_PROPERTIES {
            profile.get(property).map_or(Ok(()), |text| check_credential_text(&named(property), text))?;
        }
        for property in REGION_PROPERTIES {
            profile.get(property).map_or(Ok(()), |text| check_region(&named(property), text))?;
        }
        let session = profile.get("sso_session").and_then(|name| Some((name, profiles.sso_session(name)?)));
        if let Some((name, region)) = session.and_then(|(name, session)| Some((name, session.get("sso_region")?))) {
            check_region(&format!("sso_region of the sso-session {name:?}"), region)?;
        }
        next = profile.get("source_profile").filter(|source| *source != profile.name());
    }
    Ok(())
}

/// The properties that make a profile one of AWS IAM Identity Center (SSO).
pub(super) const SSO_PROPERTIES: [&str; 5] =
    ["sso_account_id", "sso_region", "sso_role_name", "sso_start_url", "sso_session"];

/// A role that is assumed with the credentials of the base profile or of the previous role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChainedRole {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
}

/// The profile at the start of the active profile's chain, and the roles that are assumed from there.
#[derive(Debug)]
pub(super) struct ProfileChain<'a> {
    /// The profile that has credentials of its own.
    pub(super) base: &'a Profile,
    /// In the order in which they are assumed.
    pub(super) roles: Vec<ChainedRole>,
}

impl<'a> ProfileChain<'a> {
    /// Follows the active profile to the profile with the credentials. `None` if there is none, if the chain is a
    /// cycle, or if it begins with an access key: the SDK handles these.
    pub(super) fn resolve(profiles: &'a ProfileSet) -> Option<Self> {
        let mut base = profiles.get_profile(profiles.selected_profile())?;
        let (mut seen, mut roles) = (Vec::new(), Vec::new());
        loop {
            if seen.contains(&base.name()) {
                return None;
            }
            seen.push(base.name());
            if seen.len() > 1 && base.get("aws_access_key_id").is_some() {
                return None;
            }
            let Some(role) = role_in_profile(base) else { break };
            roles.push(role);
            let source = base.get("source_profile")?;
            if source == base.name() {
                break;
            }
            base = profiles.get_profile(source)?;
        }
        roles.reverse();
        Some(Self { base, roles })
    }
}

/// Returns the role that a profile assumes with the credentials of its `source_profile` or `credential_source`.
pub(super) fn role_in_profile(profile: &Profile) -> Option<ChainedRole> {
    if profile.get("web_identity_token_file").is_some() {
        return None;
    }
    let text = |name| profile.get(name).map(str::to_owned);
    Some(ChainedRole {
        arn: text("role_arn")?,
        session_name: text("role_session_name"),
        external_id: text("external_id"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Reads a configuration file, with this profile selected.
    #[expect(deprecated, reason = "the types' own crate is none of ours")]
    pub(in super::super) async fn profiles(text: &str, selected: &str) -> ProfileSet {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        std::fs::write(&path, text).expect("written");
        // The SDK's types for these are not public, but their default values can be used.
        let mut files = aws_config::profile::profile_file::ProfileFiles::builder();
        files = files.with_file(aws_config::profile::profile_file::ProfileFileKind::Config, path);
        let selected = Some(selected.to_owned().into());
        let (fs, env) = Default::default();
        aws_config::profile::load(&fs, &env, &files.build(), selected).await.expect("profiles")
    }

    #[tokio::test]
    async fn regions_that_cannot_be_part_of_a_host_are_named() {
        let said = async |text: &str| check_profiles(&profiles(text, "p").await).err().map(|error| error.to_string());
        let session = "[profile p]\nsso_session = s\n[sso-session s]\nsso_region = ";
        for (text, name) in [
            ("[profile p]\nregion = a/b", "region of the profile \"p\""),
            ("[profile p]\nsso_region = a.evil.example#", "sso_region of the profile \"p\""),
            (&format!("{session}a/b"), "sso_region of the sso-session \"s\""),
            ("[profile p]\nsource_profile = q\n[profile q]\nregion = a@b", "region of the profile \"q\""),
        ] {
            assert!(said(text).await.is_some_and(|said| said.starts_with(name)), "{text}");
        }
        assert_eq!(said(&format!("{session}eu-west-1")).await, None);
    }
}
