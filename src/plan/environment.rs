//! What a job and a saved plan record of the environment that their plan was read in: the endpoints of AWS that it
//! selected. Neither is continued in an environment that selects others.
//!
//! The endpoint of S3 is part of the store's identity, because it decides which buckets are meant. The rest is recorded
//! beside it.

use batchplan_store::ConfiguredEndpoint;
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
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a restored plan names as the setting that selected an endpoint. Which one it was is not recorded.
const SETTING: &str = "the environment";

impl Plan {
    /// Returns what the environment selects beside the endpoint of S3, as far as it has an effect on this plan: the
    /// endpoint of STS, and the FIPS and dual-stack endpoints of AWS. `None` if it selects nothing.
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
        };
        let json = (recorded != RecordedEndpoints::default()).then(|| serde_json::to_string(&recorded));
        // A URL and two flags can always be written as JSON.
        json?.ok()
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
        let recorded: RecordedEndpoints = serde_json::from_str(endpoints.unwrap_or_default()).unwrap_or_default();
        settings.sts = recorded.sts.map(named);
        settings.fips = recorded.fips.then(|| SETTING.to_owned());
        settings.dual_stack = recorded.dual_stack.then(|| SETTING.to_owned());
    }
}

/// Describes the endpoints that the environment of a plan selects.
#[must_use]
pub(crate) fn describe_environment_endpoints(plan: &Plan) -> String {
    let named = plan.store.effective_endpoint().unwrap_or("AWS's default").to_owned();
    let recorded = plan.environment_endpoints().unwrap_or_default();
    let recorded: RecordedEndpoints = serde_json::from_str(&recorded).unwrap_or_default();
    let mut parts = vec![named];
    parts.extend(recorded.sts.map(|sts| format!("STS {sts}")));
    parts.extend(recorded.fips.then(|| "FIPS".to_owned()));
    parts.extend(recorded.dual_stack.then(|| "dual-stack".to_owned()));
    parts.join(", ")
}
