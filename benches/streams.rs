//! What the streams beside the requests cost: reading a CSV manifest, plain and gzip-compressed, and writing a report.
//!
//! `cargo bench --bench streams` prints processor time for each row, beside what others pay for the same bytes:
//! `DuckDB` with one thread, `gzip -dc`, and the csv crate's writer. Rounds are interleaved, and medians are shown.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BATCHPLAN_BENCH_ROWS` | rows of the manifest and the report | 5,000,000 |
//! | `BATCHPLAN_BENCH_ROUNDS` | rounds | 3 |
//! | `BATCHPLAN_BENCH_PEERS` | a Python with DuckDB, as `benches/peers/install.sh` makes it; without it DuckDB is left out | |

#[path = "client/process.rs"]
mod process;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use batchplan::job::JobId;
use batchplan::manifest::{CsvField, count_rows};
use batchplan::report::{ROTATE_AT, ReportWriter};
use batchplan::report_format::{OperationNaming, ReportFormat, ReportScope, ReportSpec};
use batchplan_store::object::{BucketName, ObjectId, ObjectKey};
use batchplan_store::task::TaskOutcome;
use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        // What is measured is run alone, in a process of its own.
        ["manifest", path, rows] => read(Path::new(path), rows.parse()?),
        ["report", folder, rows] => report(Path::new(folder), rows.parse()?),
        ["csv", folder, rows] => csv_writer(Path::new(folder), rows.parse()?),
        _ => contest(),
    }
}

fn contest() -> Result<(), Box<dyn Error>> {
    let number = |name: &str, other: u64| std::env::var(name).map_or(Ok(other), |value| value.parse());
    let (rows, rounds) = (number("BATCHPLAN_BENCH_ROWS", 5_000_000)?, number("BATCHPLAN_BENCH_ROUNDS", 3)?);
    let folder = tempfile::tempdir()?;
    let (plain, gz) = manifests(folder.path(), rows)?;
    let this = |what: &str, path: &Path| -> io::Result<Command> {
        let mut command = process::pinned(1, std::env::current_exe()?);
        command.arg(what).arg(path).arg(rows.to_string());
        Ok(command)
    };
    let mut ratios: [Vec<[f64; 2]>; 3] = Default::default();
    let mut peak = 0.0_f64;
    let mut ours = |what: &str, path: &Path| -> io::Result<f64> {
        let took = process::run(this(what, path)?)?;
        peak = peak.max(took.peak);
        Ok(took.cpu)
    };
    for _ in 0..rounds {
        if let Some(python) = std::env::var_os("BATCHPLAN_BENCH_PEERS") {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/duckdb_count.py");
            let duckdb = |file: &str| -> io::Result<f64> {
                let mut command = process::pinned(1, &python);
                command.arg(&script).arg(file);
                Ok(process::run(command)?.cpu)
            };
            let counted = duckdb(&plain.display().to_string())? - duckdb("")?;
            ratios[0].push([ours("manifest", &plain)?, counted]);
        }
        let mut gzip = process::pinned(1, "gzip");
        gzip.arg("-dc").arg(&gz);
        ratios[1].push([ours("manifest", &gz)?, process::run(gzip)?.cpu]);
        ratios[2].push([ours("report", folder.path())?, process::run(this("csv", folder.path())?)?.cpu]);
    }
    print(rows, &ratios)?;
    writeln!(io::stdout(), "memory at the most: {peak:.1} MiB")?;
    Ok(())
}

/// Prints the median of each, and of their ratios.
fn print(rows: u64, ratios: &[Vec<[f64; 2]>; 3]) -> Result<(), Box<dyn Error>> {
    let names = [
        ("CSV manifest, decoded, beside DuckDB", 2.0),
        ("gz manifest, decoded, beside gzip -dc", 0.8),
        ("report with MD5, beside a csv writer", 2.2),
    ];
    let mut out = io::stdout().lock();
    let rows = f64::from(u32::try_from(rows)?);
    for ((name, at_most), figures) in names.iter().zip(ratios) {
        if figures.is_empty() {
            writeln!(out, "{name:<40} left out")?;
            continue;
        }
        let of = |side: usize| median(figures.iter().map(|both| both[side] / rows * 1e6));
        let ratio = median(figures.iter().map(|[ours, theirs]| ours / theirs));
        let holds = if ratio <= *at_most { "holds" } else { "DOES NOT HOLD" };
        let (ours, theirs) = (of(0), of(1));
        writeln!(out, "{name:<40} {ours:.3} us / {theirs:.3} us = {ratio:.2}   at most {at_most}   {holds}")?;
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn name(n: u64) -> String {
    format!(
        "documents/2024/{:02}/{:02}/customer-{:09}/correspondence/incoming/scan-{n:012}-page-{:03}.pdf",
        n % 12 + 1,
        n % 28 + 1,
        n % 977,
        n % 7
    )
}

/// The same rows, plain and compressed.
fn manifests(folder: &Path, rows: u64) -> io::Result<(PathBuf, PathBuf)> {
    let (plain, gz) = (folder.join("manifest.csv"), folder.join("manifest.csv.gz"));
    let mut plain_file = BufWriter::new(File::create(&plain)?);
    let mut gz_file = GzEncoder::new(BufWriter::new(File::create(&gz)?), Compression::default());
    for n in 0..rows {
        let row = format!("bucket,{}\n", ObjectKey::from(name(n).as_str()).encoded());
        plain_file.write_all(row.as_bytes())?;
        gz_file.write_all(row.as_bytes())?;
    }
    plain_file.flush()?;
    gz_file.finish()?.flush()?;
    Ok((plain, gz))
}

fn read(path: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let counted = count_rows(path, &[CsvField::Bucket, CsvField::Key], false)?;
    assert_eq!(counted, rows);
    Ok(())
}

/// Made before they are written, so that only the writing counts; the same ones come again and again.
fn objects(rows: u64) -> Vec<ObjectId> {
    let object =
        |n| ObjectId { bucket: BucketName::new("bucket"), key: ObjectKey::from(name(n).as_str()), version: None };
    (0..rows.min(10_000)).map(object).collect()
}

fn report(folder: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(folder)?;
    let spec = ReportSpec { location: None, scope: ReportScope::AllTasks, format: ReportFormat::Oss, keep_local: true };
    let naming = OperationNaming::for_operations(1);
    let mut writer = ReportWriter::create(&folder.path().join("report"), &spec, &JobId::random(), naming, ROTATE_AT)?;
    let outcome = TaskOutcome::Succeeded { status: 200 };
    for object in objects(rows).iter().cycle().take(usize::try_from(rows)?) {
        writer.record(object, &outcome)?;
    }
    writer.finish()?;
    Ok(())
}

/// The csv crate, writing the same rows into one file.
fn csv_writer(folder: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let file = tempfile::tempfile_in(folder)?;
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
    for object in objects(rows).iter().cycle().take(usize::try_from(rows)?) {
        writer.write_record([object.bucket.as_str(), &object.key.encoded(), "", "200", ""])?;
    }
    writer.flush()?;
    Ok(())
}
