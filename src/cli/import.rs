//! `batchplan import`: converts a cloud service's own job request to a plan.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::export::{write_error, write_new};
use super::terminal::escape_controls;
use super::{CommandError, ExitStatus, Terminal, problems, shell};
use crate::plan::interchange::{self, ImportOptions, MAX_REQUEST_BYTES};

/// Make a plan of a job request of the cloud's own batch service.
///
/// Reads the XML of a `CreateJobRequest` of OSS Batch Operations, or the JSON input of `aws s3control create-job`. What a plan
/// cannot say is refused, with its line. Nothing is sent anywhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan import job.xml --name tag-documents --region cn-hangzhou \\
      --endpoint https://oss-cn-hangzhou.aliyuncs.com > plan.toml
  batchplan import job.json --name tag-documents --out plan.toml

A request in XML says neither where its buckets are nor what the work is called, so that it needs
all three flags. One in JSON needs --name; without the others its plan takes the region from the
environment, like any plan for aws.

Exit code: 0 when there is a plan, which is valid then, 2 otherwise.")]
pub(super) struct ImportArgs {
    /// The request; - is standard input
    file: PathBuf,
    /// What the plan is called; with the store it names the work
    #[arg(long)]
    name: Option<String>,
    /// The endpoint of the store
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The region of the store
    #[arg(long)]
    region: Option<String>,
    /// Write the plan into this file, which must be new
    #[arg(long, value_name = "PLAN")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &ImportArgs, terminal: Terminal) -> Result<ExitStatus, CommandError> {
    let name = escape_controls(&args.file.display().to_string());
    let bytes = read_request(&args.file)
        .map_err(|error| CommandError::new(ExitStatus::Invalid, format!("cannot read {name}: {error}")))?;
    let given = ImportOptions { name: args.name.clone(), endpoint: args.endpoint.clone(), region: args.region.clone() };
    let (plan, found) = interchange::import(&name, &bytes, &given, Timestamp::now());
    problems::show(&found, terminal);
    let Some(plan) = plan else {
        return Err(CommandError::new(ExitStatus::Invalid, format!("{name} cannot become a plan"))
            .help("each reason is shown above; nothing was written"));
    };
    let word = if let Some(path) = &args.out {
        write_new(path, &plan).map_err(|error| write_error(path, &error))?;
        terminal.eprint(format_args!("wrote {}", path.display()));
        shell::quote_path(path)
    } else {
        terminal.print(plan.trim_end())?;
        "PLAN".to_owned()
    };
    terminal.eprint(format_args!("next: batchplan apply {word}     # shows what it will do, and asks"));
    Ok(ExitStatus::Success)
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
