//! `batchplan export`: writes a plan as job requests for a cloud's own batch service.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;
use uuid::Uuid;

use super::descriptions::quote;
use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::plan_input::{self, place_json, problems_json, show_problems};
use super::terminal::Terminal;
use crate::diagnostics::FileProblems;
use crate::paths::{path_to_text, show_path};
use crate::plan::Plan;
use crate::plan::interchange::{self, ExportOptions, ExportedRequests as Exported};
use crate::provider::{BatchService, ProviderRules};

/// Convert a plan to job requests for the cloud's own batch service.
///
/// A request has one operation. A plan with several operations becomes several requests, each with its own token. A
/// plan that the service cannot run exactly as written is refused, with all reasons at once. Nothing is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan export plan.toml --format oss-xml > job.xml
  batchplan export plan.toml --role-arn arn:aws:iam::123456789012:role/Batch > job.json
  batchplan export plan.toml --out requests/   # plan.xml, or plan-1.xml ...

A plan with one operation is printed to standard output, or written to the
folder of --out. Several operations need --out: the services' clients take one
request at a time. The plan's token is kept, with -1, -2 and so on appended for
several requests. A plan without a token gets a new random one each time.

Exit codes: 0 every request was written, 2 the plan is not valid or the service
cannot run it.")]
pub(super) struct ExportArgs {
    /// The plan file
    plan: PathBuf,
    /// The request format [default: that of the plan's provider]
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,
    /// Write the requests to this folder; existing files are not overwritten
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The role that the service uses, if [store] names none
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// AWS: the account of the job [default: the role's account]
    #[arg(long, value_name = "ID")]
    account_id: Option<String>,
    /// The `ETag` of the plan's manifest, if the plan does not name it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// The `CreateJobRequest` of OSS Batch Operations
    OssXml,
    /// The input of `aws s3control create-job`
    AwsJson,
}

impl CliCommand for ExportArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let plan = plan_input::require(&self.plan, terminal)?.plan;
        let service = service(self.format, &plan)?;
        if plan.operations.len() > 1 && self.out.is_none() {
            let message = format!("the plan has {} operations, but a request has only one", plan.operations.len());
            return Err(CommandError::new(ExitStatus::Invalid, message)
                .help("write one request for each operation to a folder with --out DIR"));
        }
        let options = ExportOptions {
            role_arn: self.role_arn.clone(),
            account_id: self.account_id.clone(),
            etag: self.etag.clone(),
            fresh_token: Uuid::new_v4().to_string(),
        };
        let exported = interchange::export(&plan, service, &options).map_err(|found| {
            // Without excerpts, because the problems have no position in the file.
            let mut refused = FileProblems::new(&show_path(&self.plan).to_string(), "");
            for problem in found {
                refused.push(problem);
            }
            show_problems(&refused, terminal);
            CommandError::new(ExitStatus::Invalid, format!("{} cannot be exported", show_path(&self.plan)))
                .code(ErrorCode::NotConvertible)
                .problems(place_json(&refused), problems_json(&refused))
                .help("each reason is shown above; nothing was written")
        })?;
        let files = write(&exported, service, self, terminal)?;
        print_notes(&plan, &exported, terminal);
        print_next_commands(&plan, service, &files, terminal);
        if terminal.is_json() {
            let names: Vec<_> = files.iter().map(|file| path_to_text(file)).collect();
            terminal
                .print_json(json!({ "requests": exported.documents, "files": names, "left_out": exported.omitted }))?;
        }
        Ok(ExitStatus::Success)
    }
}

fn service(format: Option<ExportFormat>, plan: &Plan) -> Result<BatchService, CommandError> {
    match format {
        Some(ExportFormat::OssXml) => Ok(BatchService::Oss),
        Some(ExportFormat::AwsJson) => Ok(BatchService::Aws),
        None => ProviderRules::of(plan.store.provider).batch_service.ok_or_else(|| {
            let message = format!("there is no batch service for the provider `{}`", plan.store.provider.as_str());
            CommandError::new(ExitStatus::Invalid, message)
                .help("export a plan with `provider = \"oss\"` or `provider = \"aws\"`")
        }),
    }
}

/// Writes the requests to standard output, or to new files named after the plan file.
fn write(
    exported: &Exported,
    service: BatchService,
    args: &ExportArgs,
    terminal: Terminal,
) -> Result<Vec<PathBuf>, CommandError> {
    let Some(folder) = &args.out else {
        if !terminal.is_json() {
            exported.documents.iter().try_for_each(|document| terminal.print(document))?;
        }
        return Ok(Vec::new());
    };
    fs::create_dir_all(folder).map_err(|error| write_error(folder, &error))?;
    let stem = args.plan.file_stem().unwrap_or_default().to_string_lossy();
    let several = exported.documents.len() > 1;
    let files = (1..=exported.documents.len()).map(|number| {
        let suffix = if several { format!("-{number}") } else { String::new() };
        folder.join(format!("{stem}{suffix}.{}", service.extension()))
    });
    let files: Vec<_> = files.collect();
    // Check all files first, so that an existing one does not leave only some of them written.
    if let Some(existing) = files.iter().find(|file| file.exists()) {
        return Err(write_error(existing, &io::ErrorKind::AlreadyExists.into()));
    }
    for (file, document) in files.iter().zip(&exported.documents) {
        write_new(file, document)?;
        terminal.eprint(format_args!("wrote {}", show_path(file)));
    }
    Ok(files)
}

/// Writes a new file that ends with a line break.
///
/// # Errors
/// Returns an error if the file exists or cannot be written.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), CommandError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| writeln!(file, "{}", text.trim_end())).map_err(|error| write_error(path, &error))
}

/// Returns the error for a new file that could not be written.
fn write_error(path: &Path, error: &io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return CommandError::new(ExitStatus::Invalid, format!("{} already exists", show_path(path)))
            .code(ErrorCode::FileExists)
            .help("choose another name, or remove the file: nothing was overwritten");
    }
    CommandError::new(ExitStatus::ToolFailed, format!("cannot write {}: {error}", show_path(path)))
}

fn print_notes(plan: &Plan, exported: &Exported, terminal: Terminal) {
    if !exported.omitted.is_empty() {
        terminal.eprint(format_args!("left out, because the service decides it: {}", exported.omitted.join(", ")));
    }
    if plan.job.client_request_token.is_none() {
        terminal.inform("the plan has no client_request_token: each export gets a new random one");
    }
}

/// Prints the commands that send the requests. A request on standard output is expected to be saved to a file first.
fn print_next_commands(plan: &Plan, service: BatchService, files: &[PathBuf], terminal: Terminal) {
    let names: Vec<_> = files.iter().map(|file| show_path(file).to_string()).collect();
    let names = if names.is_empty() { vec![format!("FILE.{}", service.extension())] } else { names };
    for name in names {
        let file = quote(format!("file://{name}"));
        let command = match service {
            BatchService::Oss => {
                let endpoint = plan.store.endpoint.as_deref().unwrap_or_default();
                let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
                let endpoint = quote(host);
                format!(
                    "ossutil api invoke-operation --op-name create-job --method POST --parameters batchJob --body {file} \
                     --endpoint {endpoint}"
                )
            }
            BatchService::Aws => {
                let region = plan.store.region.as_deref().map(|region| format!(" --region {}", quote(region)));
                format!("aws s3control create-job --cli-input-json {file}{}", region.unwrap_or_default())
            }
        };
        terminal.inform(format_args!("next: {command}"));
    }
}
