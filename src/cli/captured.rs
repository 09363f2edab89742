//! `batchplan captured`: prints what the objects of a job were like before the job changed them.

use std::io;

use batchplan_store::object::ObjectId;
use batchplan_store::task::Task;
use serde_json::json;

use super::error_code::ErrorCode;
use super::exit::{CliCommand, CommandError, ExitStatus};
use super::preview::{object_name, object_name_json, object_state_json};
use super::state::JournalAccess;
use super::state_csv::StateCsvWriter;
use super::state_location::StateLocationArgs;
use super::terminal::{Terminal, escape_line};
use crate::captures::Capture;
use crate::engine::{is_former_unknown, known_state};
use crate::journal::JobFolder;
use crate::manifest::{ManifestError, for_each_captured};
use crate::operation::ObjectAspect;

/// Print what the objects of a job were like before the job changed them.
///
/// A job keeps the tags or the ACL of each object before it changes them, unless `capture` is false in [undo]. They are
/// printed in the order in which the job processed the objects.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  batchplan captured ODRi
  batchplan captured ODRi --csv > before.csv

--csv prints the columns bucket, key (URL-encoded), version_id (of the version
that was current, if the bucket has versions), tags (as a query: a=1&b=2), acl
and error (why the former state is not known). `plan --full --csv` writes the
same of objects as they are now.

--json prints a line for each object (bucket, key, version, before, known), and
then an object with job_id and objects (their number).

Exit codes: 0 done, 1 the tool failed, 2 no such job.")]
pub(super) struct CapturedArgs {
    /// The job: its ID, or a unique prefix of it
    job: String,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    state: StateLocationArgs,
}

impl CliCommand for CapturedArgs {
    fn run(&self, terminal: Terminal) -> Result<ExitStatus, CommandError> {
        let (journal, job) = self.state.open_job(&self.job, JournalAccess::Read, terminal)?;
        let folder = JobFolder::of(journal.state_folder(), &job.id);
        if !folder.captures_folder().exists() {
            return Err(CommandError::new(
                ExitStatus::Invalid,
                format!("job {} kept nothing of what the objects were like before", job.id),
            )
            .code(ErrorCode::NotUndoable)
            .help("only a job that changed objects, without `capture = false` in [undo], does"));
        }
        let mut printer = CapturePrinter { terminal, csv: self.csv, text: Vec::new(), objects: 0 };
        if self.csv {
            printer.csv_row(None)?;
        }
        let mut failed = None;
        for_each_captured(folder.path(), &folder.captures_folder(), &mut |task, capture| {
            Ok(match printer.print(task, capture) {
                Ok(()) => !terminal.is_stdout_closed(),
                Err(error) => {
                    failed = Some(error);
                    false
                }
            })
        })
        .map_err(|error: ManifestError| {
            CommandError::new(ExitStatus::ToolFailed, error.to_string())
                .code(ErrorCode::CapturesUnreadable)
                .maybe_help(error.help())
        })?;
        printer.flush()?;
        if terminal.is_json() {
            terminal.print_json(json!({ "job_id": job.id.as_str(), "objects": printer.objects }))?;
        }
        failed.map_or(Ok(ExitStatus::Success), |error| Err(error.into()))
    }
}

/// The number of bytes that are printed at once.
const PRINTED_AT_ONCE: usize = 64 << 10;

/// Prints captures, some at once.
struct CapturePrinter {
    terminal: Terminal,
    csv: bool,
    text: Vec<u8>,
    objects: u64,
}

impl CapturePrinter {
    fn print(&mut self, task: &Task, capture: &Capture) -> io::Result<()> {
        self.objects += 1;
        if self.terminal.is_json() {
            self.json_line(task, capture);
        } else if self.csv {
            self.csv_row(Some((task, capture)))?;
        } else {
            self.lines(task, capture);
        }
        if self.text.len() >= PRINTED_AT_ONCE { self.flush() } else { Ok(()) }
    }

    /// Adds the row of an object, or the names of the columns.
    fn csv_row(&mut self, row: Option<(&Task, &Capture)>) -> io::Result<()> {
        let mut csv = StateCsvWriter::continued(&mut self.text);
        match row {
            None => csv.record_names(),
            Some((task, capture)) => {
                let error = if is_former_unknown(&capture.former) { "FormerStateUnknown" } else { "" };
                csv.record(&captured_object(task, capture), &known_state(&capture.former), error)
            }
        }
    }

    fn json_line(&mut self, task: &Task, capture: &Capture) {
        let mut object = object_name_json(&captured_object(task, capture));
        object["before"] = object_state_json(&known_state(&capture.former));
        object["known"] = json!(!is_former_unknown(&capture.former));
        self.text.extend_from_slice(format!("{object}\n").as_bytes());
    }

    fn lines(&mut self, task: &Task, capture: &Capture) {
        let state = known_state(&capture.former);
        let lines = ObjectAspect::ALL.map(|aspect| aspect.rules().lines(&state)).concat();
        self.text.extend_from_slice(object_name(&captured_object(task, capture)).as_bytes());
        for line in lines {
            self.text.extend_from_slice(format!("\n    {}", escape_line(&line)).as_bytes());
        }
        if is_former_unknown(&capture.former) {
            self.text.extend_from_slice(b"\n    not known");
        }
        self.text.push(b'\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        let printed = self.terminal.print_text(&String::from_utf8_lossy(&self.text));
        self.text.clear();
        printed
    }
}

/// Returns the object, with the version that was current.
fn captured_object(task: &Task, capture: &Capture) -> ObjectId {
    let mut object = task.object.clone();
    object.version = object.version.or_else(|| capture.version.clone());
    object
}
