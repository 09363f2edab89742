//! What a job and a saved plan record of the environment that their plan was read in: the endpoints of AWS that it
//! selected, and the region. Neither is continued in an environment that selects others.
//!
//! The endpoint of S3 is part of the store's identity, because it decides which buckets are meant. The rest is recorded
//! beside it.

use batchplan_store::{ConfiguredEndpoint, ConfiguredRegion};
use serde::{Deserialize, Serialize};

use super::Plan;

/// What an environment selected, beside the endpoint of S3. This is JSON in the journal and in saved plans.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct RecordedEndpoints {
    /// The URL of STS, if it is not AWS's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    sts: Option<String>,
    /// Whether it asked for FIPS endpoints.
    #[serde(skip_serializing_if = "is_false")]
    fips: bool,
    /// Whether it asked for dual-stack endpoints.
    #[serde(skip_serializing_if = "is_false")]
    dual_stack: bool,
    /// The region of AWS's own endpoints, if the plan names none. `None` if it is not known: batchplan did not always
    /// record it.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
}

impl RecordedEndpoints {
    /// Parses what was recorded. What another version wrote, which this one does not understand, counts as nothing.
    fn parse(text: Option<&str>) -> Self {
        serde_json::from_str(text.unwrap_or_default()).unwrap_or_default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a restored plan names as the setting that selected an endpoint. Which one it was is not recorded.
const SETTING: &str = "the environment";

impl Plan {
    /// Returns what the environment selects beside the endpoint of S3, as far as it has an effect on this plan: the
    /// endpoint of STS, the FIPS and dual-stack endpoints of AWS, and the region. `None` if it selects nothing.
    #[must_use]
    pub fn environment_endpoints(&self) -> Option<String> {
        let (store, settings) = (&self.store, &self.store.aws_endpoints);
        let (own_s3, has_role) = (store.effective_endpoint().is_none(), store.role_arn.is_some());
        if !store.reads_aws_endpoints() || !(own_s3 || has_role) {
            return None;
        }
        let recorded = RecordedEndpoints {
            sts: settings.sts.as_ref().filter(|_| has_role).map(|endpoint| endpoint.url.clone()),
            fips: settings.fips.is_some(),
            dual_stack: settings.dual_stack.is_some(),
            region: settings.region.as_ref().filter(|_| store.has_region_of_environment()).map(|it| it.name.clone()),
        };
        let json = (recorded != RecordedEndpoints::default()).then(|| serde_json::to_string(&recorded));
        // Two texts and two flags can always be written as JSON.
        json?.ok()
    }

    /// Returns whether the environment selects the same endpoints beside that of S3 as were recorded with a job. A
    /// region that was not recorded is any region.
    pub(crate) fn is_in_environment_of(&self, recorded: Option<&str>) -> bool {
        let now = self.environment_endpoints();
        let (before, now) = (RecordedEndpoints::parse(recorded), RecordedEndpoints::parse(now.as_deref()));
        let region = before.region.clone().or_else(|| now.region.clone());
        RecordedEndpoints { region, ..before } == now
    }

    /// Adds the endpoints that the environment selected when the plan was saved or its job was created.
    /// `store_identity` and `endpoints` are the plan's of that time ([`Plan::store_identity`],
    /// [`Plan::environment_endpoints`]). The environment must still select them when the store is connected to.
    pub(crate) fn restore_endpoints(&mut self, store_identity: Option<&str>, endpoints: Option<&str>) {
        if !self.store.reads_aws_endpoints() {
            return;
        }
        let words: Vec<String> = serde_json::from_str(store_identity.unwrap_or_default()).unwrap_or_default();
        let named = |url: String| ConfiguredEndpoint { url, setting: SETTING.to_owned() };
        let settings = &mut self.store.aws_endpoints;
        if let [_, location] = &words[..]
            && self.store.endpoint.is_none()
            && location.contains("://")
        {
            settings.s3 = Some(named(location.clone()));
        }
        let recorded = RecordedEndpoints::parse(endpoints);
        settings.sts = recorded.sts.map(named);
        settings.fips = recorded.fips.then(|| SETTING.to_owned());
        settings.dual_stack = recorded.dual_stack.then(|| SETTING.to_owned());
        settings.region = recorded.region.map(|name| ConfiguredRegion { name, setting: SETTING.to_owned() });
    }
}

/// Describes the endpoints that the environment of a plan selects.
#[must_use]
pub(crate) fn describe_environment_endpoints(plan: &Plan) -> String {
    let named = plan.store.effective_endpoint().unwrap_or("AWS's default").to_owned();
    let recorded = RecordedEndpoints::parse(plan.environment_endpoints().as_deref());
    let mut parts = vec![named];
    parts.extend(recorded.sts.map(|sts| format!("STS {sts}")));
    parts.extend(recorded.fips.then(|| "FIPS".to_owned()));
    parts.extend(recorded.dual_stack.then(|| "dual-stack".to_owned()));
    parts.extend(recorded.region.map(|region| format!("region {region}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn plan(store: &str, region: &str) -> Plan {
        let rest = "[manifest.prefix]\nbucket = \"bkt\"\n[operation.delete_object_tagging]\n";
        let text = format!("name = \"t\"\n[store]\nprovider = \"aws\"\n{store}{rest}");
        let (plan, problems) =
            crate::plan::read_bytes("t", text.as_bytes(), Path::new(""), jiff::Timestamp::UNIX_EPOCH);
        assert!(problems.is_empty(), "{store}");
        let mut plan = plan.expect("a plan");
        let (name, setting) = (region.to_owned(), "AWS_REGION".to_owned());
        plan.store.aws_endpoints.region = Some(ConfiguredRegion { name, setting });
        plan
    }

    #[test]
    fn the_region_is_recorded_if_it_decides_the_endpoint() {
        let recorded = plan("", "us-east-1").environment_endpoints();
        assert_eq!(recorded.as_deref(), Some(r#"{"region":"us-east-1"}"#));
        for store in ["region = \"eu-west-1\"\n", "endpoint = \"https://minio.example.org\"\n"] {
            assert_eq!(plan(store, "us-east-1").environment_endpoints(), None, "{store}");
        }
        let mut restored = plan("", "cn-north-1");
        restored.restore_endpoints(None, recorded.as_deref());
        assert_eq!(restored.environment_endpoints(), recorded);
    }

    #[test]
    fn a_region_that_was_not_recorded_is_any_region() {
        let now = plan("", "cn-north-1");
        assert!(now.is_in_environment_of(Some(r#"{"region":"cn-north-1"}"#)) && now.is_in_environment_of(None));
        assert!(!now.is_in_environment_of(Some(r#"{"region":"us-east-1"}"#)));
        assert!(!now.is_in_environment_of(Some(r#"{"fips":true}"#)));
        let mut unknown = now;
        unknown.store.aws_endpoints.region = None;
        assert!(!unknown.is_in_environment_of(Some(r#"{"region":"us-east-1"}"#)));
    }
}
