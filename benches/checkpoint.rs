//! What checkpoints cost, compared with reading a manifest: the csv crate parsing the same rows.
//!
//! `cargo bench --bench checkpoint` prints processor time for ten million objects, of which one in a hundred fails,
//! with a checkpoint for every 12,000 of them: about one a second at the speed of one client. `BATCHPLAN_BENCH_ROWS`
//! sets another number. Processor time is the kernel's count for this process (Linux), so that waiting for the disk is
//! not in it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use batchplan::frontier::RowFrontier;
use batchplan::job::{JobId, Progress};
use batchplan::journal::{Checkpoint, FailureTally, JobCreation, JobSource, Journal, JournalError, NewJob};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskId};
use jiff::Timestamp;

/// Objects between two checkpoints.
const BETWEEN: u64 = 12_000;

/// Rows of a manifest part.
const PART_ROWS: u64 = 4 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows = std::env::var("BATCHPLAN_BENCH_ROWS").map_or(Ok(10_000_000), |rows| rows.parse())?;
    let parsing = parse(rows)?;
    let checkpointing = checkpoint(rows)?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    let ratio = checkpointing.as_secs_f64() / parsing.as_secs_f64();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{rows} objects: csv crate {:.3} us each, checkpoints {:.3} us each",
        each(parsing),
        each(checkpointing)
    )?;
    writeln!(out, "checkpoints / csv crate: {ratio:.2}")?;
    Ok(())
}

/// Processor time of the csv crate for so many rows of a manifest.
fn parse(rows: u64) -> Result<Duration, Box<dyn std::error::Error>> {
    let block = 100_000.min(rows);
    let mut text = String::new();
    for n in 0..block {
        writeln!(text, "bucket,documents%2F2024%2F{:02}%2Fcustomer-{:09}%2Fscan-{n:012}.pdf", n % 12 + 1, n % 977)?;
    }
    let before = processor_time()?;
    let mut bytes = 0;
    for _ in 0..rows / block {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record)? {
            bytes += record.len();
        }
    }
    assert!(bytes > 0);
    Ok(processor_time()?.saturating_sub(before))
}

/// Processor time of settling so many objects and recording that.
fn checkpoint(rows: u64) -> Result<Duration, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(folder.path())?;
    let job = job(&journal)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = processor_time()?;
    let (mut frontier, mut tally, mut progress) =
        (RowFrontier::default(), FailureTally::default(), Progress { total: rows, ..Progress::default() });
    let failure = failure();
    for n in 0..rows {
        frontier.mark_settled(TaskId { part: u32::try_from(n / PART_ROWS)?, row: u32::try_from(n % PART_ROWS)? });
        if n % 100 == 0 {
            tally.add(&object(n), &failure);
            progress.failed += 1;
        } else {
            progress.succeeded += 1;
        }
        if n % BETWEEN == BETWEEN - 1 {
            let checkpoint = Checkpoint {
                progress,
                in_doubt: 0,
                maybe_started: 0,
                active_time: Duration::from_secs(n / BETWEEN),
                next_row: None,
                parts: frontier.take_changes(),
                files: Vec::new(),
                failures: tally.take_changes(),
            };
            runtime.block_on(journal.record_checkpoint(job, checkpoint))?;
        }
    }
    Ok(processor_time()?.saturating_sub(before))
}

fn job(journal: &Journal) -> Result<i64, JournalError> {
    let new = NewJob {
        id: JobId::random(),
        identity: "bench".to_owned(),
        token: None,
        name: "bench".to_owned(),
        store_identity: String::new(),
        environment_endpoints: None,
        description: None,
        source: JobSource::Plan,
        plan_file: PathBuf::from("/plan.toml"),
        plan_hash: String::new(),
        plan_text: Vec::new(),
        confirmed: true,
        priority: 0,
        manifest_fingerprint: None,
        recurrence: None,
        keep: None,
    };
    let (JobCreation::Created(job) | JobCreation::Existing(job)) = journal.create(new, false, Timestamp::now())?;
    Ok(job.number)
}

fn object(n: u64) -> ObjectId {
    ObjectId {
        bucket: BucketName::new("bucket"),
        key: ObjectKey::from(format!("documents/{n}").as_str()),
        version: None,
    }
}

fn failure() -> TaskFailure {
    let message = "The specified key does not exist.";
    let fault = StoreError::without_response(FaultClass::Rejected, "NoSuchKey", message, String::new());
    TaskFailure { operation: "put_object_tagging".to_owned(), error: fault }
}

/// What all threads of this process have used so far.
fn processor_time() -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
