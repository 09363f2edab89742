//! `batchplan import`: converts a cloud service's own job request to a plan.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::descriptions::quote_path;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::export::write_new;
use super::plan_input::{place_json, problems_json, show_problems};
use super::terminal::{Terminal, escape_for_terminal};
use crate::paths::{path_to_text, show_path};
use crate::plan::interchange::{self, ImportOptions, MAX_REQUEST_BYTES};

/// Convert a job request of the cloud's own batch service to a plan.
///
/// Reads the XML of a `CreateJobRequest` of OSS Batch Operations, or the JSON input of `aws s3control create-job`. A
/// request that a plan cannot express is refused, with the line of each problem. Nothing is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan import job.xml --name tag-documents --region cn-hangzhou \\
      --endpoint https://oss-cn-hangzhou.aliyuncs.com > plan.toml
  batchplan import job.json --name tag-documents --out plan.toml

An XML request has no name, endpoint or region, so all three flags are required.
A JSON request needs --name; without --region, its plan takes the region from
the environment, like any plan for aws.

Exit codes: 0 a valid plan was written, 2 otherwise.")]
pub(super) struct ImportArgs {
    /// The request to convert, or - for standard input
    file: PathBuf,
    /// The plan's name
    #[arg(long)]
    name: Option<String>,
    /// The endpoint of the store
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The region of the store
    #[arg(long)]
    region: Option<String>,
    /// Write the plan to this file, which must not exist yet
    #[arg(long, value_name = "PLAN")]
    out: Option<PathBuf>,
}

impl CliCommand for ImportArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let name = escape_for_terminal(&show_path(&self.file).to_string());
        let bytes = read_request(&self.file)
            .map_err(|error| CommandError::new(ExitStatus::Invalid, format!("cannot read {name}: {error}")))?;
        let given =
            ImportOptions { name: self.name.clone(), endpoint: self.endpoint.clone(), region: self.region.clone() };
        let (plan, found) = interchange::import(&name, &bytes, &given, Timestamp::now());
        show_problems(&found, terminal);
        let Some(plan) = plan else {
            return Err(CommandError::new(ExitStatus::Invalid, format!("{name} cannot be imported"))
                .code(ErrorCode::NotConvertible)
                .problems(place_json(&found), problems_json(&found))
                .help("each reason is shown above; nothing was written"));
        };
        let word = if let Some(path) = &self.out {
            write_new(path, &plan)?;
            terminal.eprint(format_args!("wrote {}", show_path(path)));
            quote_path(path)
        } else {
            if !terminal.is_json() {
                terminal.print(plan.trim_end())?;
            }
            "PLAN".to_owned()
        };
        terminal.inform(format_args!("next: batchplan apply {word}     # shows what it will do, then asks"));
        if terminal.is_json() {
            let file = self.out.as_deref().map(path_to_text);
            terminal.print_json(json!({ "plan": plan, "file": file, "problems": problems_json(&found) }))?;
        }
        Ok(ExitStatus::Success)
    }
}

/// Reads at most one byte more than a request may have, so that a longer file is detected without reading all of it.
fn read_request(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAX_REQUEST_BYTES as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
