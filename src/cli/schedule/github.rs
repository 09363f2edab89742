//! A GitHub workflow.

use std::fmt::Write as _;

use batchplan_store::StoreProvider;
use serde_json::Value as Json;

use super::cron::CronExpression;
use super::{ScheduledCommand, describe_times};
use crate::provider::{ProviderRules, WorkflowCredentials};

/// Returns the workflow as YAML.
pub(super) fn workflow(job: &ScheduledCommand<'_>, cron: &CronExpression, provider: StoreProvider) -> String {
    let credentials = ProviderRules::of(provider).workflow;
    // A workflow's name must not contain expressions.
    let name = quote_yaml(&job.name.replace("${{", "$ {{"));
    let (slug, plan) = (&job.slug, quote_yaml(&job.plan));
    let state = match &job.state {
        Some(state) => Some(quote_yaml(state)),
        None if job.plan_has_state => None,
        None => Some("${{ vars.BATCHPLAN_STATE }}".to_owned()),
    };
    let mut out = format!(
        "# .github/workflows/batchplan-{slug}.yml\n\
         #\n\
         # To use this workflow, save it there and replace OWNER below with the owner of the batchplan repository.\n\
         # In the repository's settings, create the environment `batchplan` for the default branch only, without reviewers.\n"
    );
    if job.state.is_none() && !job.plan_has_state {
        out.push_str(
            "# Also create the variable BATCHPLAN_STATE (where jobs are kept between runs: s3://BUCKET/PREFIX).\n",
        );
    }
    match credentials {
        WorkflowCredentials::AwsRole => {
            let note = "# Also create the variables AWS_REGION and AWS_ROLE (a role that trusts this environment).\n";
            out.push_str(note);
        }
        WorkflowCredentials::Secrets([key, secret]) => {
            let _ = writeln!(out, "# In this environment, create the secrets {key} and {secret}.");
        }
        WorkflowCredentials::NotNeeded => {}
    }
    let _ = write!(
        out,
        "name: {name}\n\
         \n\
         on:\n\
         \x20 schedule:\n\
         \x20   # {when}, UTC\n\
         \x20   - cron: {expression}\n\
         \x20 workflow_dispatch: {{}}\n\
         \n\
         permissions:\n\
         \x20 contents: read\n",
        when = describe_times(cron),
        expression = Json::from(cron.normalized()),
    );
    if credentials == WorkflowCredentials::AwsRole {
        out.push_str("  id-token: write # for the role\n");
    }
    let _ = write!(
        out,
        "\n\
         # One run at a time. GitHub keeps only the newest waiting run, which resumes an unfinished job.\n\
         concurrency:\n\
         \x20 group: batchplan-{slug}\n\
         \x20 cancel-in-progress: false\n\
         \n\
         jobs:\n\
         \x20 apply:\n\
         \x20   runs-on: ubuntu-latest\n\
         \x20   environment: batchplan\n\
         \x20   steps:\n\
         \x20     - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2\n\
         \x20       with:\n\
         \x20         persist-credentials: false\n"
    );
    if credentials == WorkflowCredentials::AwsRole {
        out.push_str(
            "      - uses: aws-actions/configure-aws-credentials@8df5847569e6427dd6c4fb1cf565c83acfa8afa7 # v6.0.0\n\
             \x20       with:\n\
             \x20         role-to-assume: ${{ vars.AWS_ROLE }}\n\
             \x20         aws-region: ${{ vars.AWS_REGION }}\n\
             \x20         role-duration-seconds: 21600 # as long as a job may run; the role must allow sessions of that length\n",
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(out, "      - uses: OWNER/batchplan@v{version}");
    if let WorkflowCredentials::Secrets(secrets) = credentials {
        out.push_str("        env:\n");
        for secret in secrets {
            let _ = writeln!(out, "          {secret}: ${{{{ secrets.{secret} }}}}");
        }
    }
    let _ = write!(
        out,
        "        with:\n\
         \x20         command: apply\n\
         \x20         plan: {plan}\n\
         \x20         args: --auto-approve --lock-timeout 1h"
    );
    if let Some(state) = state {
        let _ = write!(out, "\n          state: {state}");
    }
    out
}

/// Quotes a text as a YAML string in which GitHub evaluates no expression.
fn quote_yaml(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.replace("${{", "${{ '${{' }}").chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() && c != '\u{feff}' => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use yaml_rust2::YamlLoader;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_one_string_to_yaml(wanted: String) {
            let read = YamlLoader::load_from_str(&format!("a: {}\nb: 1\n", quote_yaml(&wanted))).expect("YAML");
            let kept = wanted.replace("${{", "${{ '${{' }}");
            prop_assert_eq!(read[0]["a"].as_str(), Some(kept.as_str()));
            prop_assert_eq!(read[0]["b"].as_i64(), Some(1));
        }
    }

    #[test]
    fn escapes_workflow_expressions() {
        assert_eq!(quote_yaml("x ${{ secrets.KEY }}"), r#""x ${{ '${{' }} secrets.KEY }}""#);
    }
}
