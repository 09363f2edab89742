//! Reads an inventory: first its description, then each data file. CSV files are read as they stream.

use std::io::BufRead;

use md5::Md5;

use super::columns::Columns;
use super::document::{DataFile, Document, Found, MAX_DOCUMENT_BYTES, Written};
use super::fields::Reading;
use super::{latest, tables};
use crate::manifest::csv::explain;
use crate::manifest::draft::Mark;
use crate::manifest::error::{BadRows, ManifestError, place};
use crate::manifest::frozen::Pin;
use crate::manifest::input::{self, Raw, Rest, Tally};
use crate::manifest::patient::{Patient, bare};
use crate::manifest::records::{LineEnds, Next, Records};
use crate::manifest::sink::Sink;
use crate::manifest::spec::{Dialect, InventoryObject};
use crate::object::{Bucket, Key};
use crate::store::Opened;

/// Reads the data files of an inventory into the sink, one after another. Resumes after the files that an earlier
/// attempt has read, if there was one.
pub(in crate::manifest) async fn read(
    bucket: &Bucket,
    object: &InventoryObject,
    dialect: Dialect,
    patient: &Patient,
    sink: Sink,
) -> Result<(Sink, Pin), ManifestError> {
    let (found, done, mut sink) = begin(bucket, object, patient, sink).await?;
    let name = place(bucket, &found.key);
    let document = Document::parse(&found.text, &name)?;
    document.expect_bucket(bucket, &name)?;
    sink.refuse_too_large(&name, document.compressed())?;
    let pin = Pin::Inventory {
        bucket: bucket.clone(),
        key: found.key.clone(),
        etag: found.etag.clone(),
        created: document.created,
    };
    let mark = |files, plus| Mark::Inventory { key: found.key.clone(), etag: found.etag.clone(), files, plus };
    match document.written {
        Written::Csv => {
            let mut columns = Columns::new(&document, dialect, sink.filter(), sink.surveys(), &name)?;
            columns.plus = done.plus;
            for (number, file) in document.files.into_iter().enumerate().skip(done.files) {
                (sink, columns) = read_file(bucket, file, columns, patient, sink).await?;
                sink = keep(sink, mark(number + 1, columns.plus.clone())).await?;
            }
            columns.warn(&mut sink, &name);
        }
        Written::Columnar(form) => {
            let mut files = document.files;
            if sink.glances() {
                // Any object will do, and the smallest file gives one soonest.
                files.sort_by_key(|file| file.size);
            }
            for (number, file) in files.into_iter().enumerate().skip(done.files) {
                sink = tables::read_file(bucket, file, form, patient, sink).await?;
                sink = keep(sink, mark(number + 1, None)).await?;
            }
        }
    }
    Ok((sink, pin))
}

/// Saves a checkpoint after a data file, if enough rows were read.
async fn keep(mut sink: Sink, mark: Mark) -> Result<Sink, ManifestError> {
    input::blocking(move || {
        if sink.step() {
            sink.keep(mark)?;
        }
        Ok(sink)
    })
    .await
}

/// How far an earlier attempt got.
#[derive(Default)]
struct Done {
    files: usize,
    plus: Option<(String, u64)>,
}

/// Finds the inventory to read. This is the one that an earlier attempt started with, if it has not changed. With
/// `latest`, a newer inventory that has appeared since is ignored: the job's inventory is decided when its
/// preparation starts.
async fn begin(
    bucket: &Bucket,
    object: &InventoryObject,
    patient: &Patient,
    mut sink: Sink,
) -> Result<(Found, Done, Sink), ManifestError> {
    if let Some(Mark::Inventory { key, etag, files, plus }) = sink.take_mark() {
        if let Some(found) = again(bucket, &key, &etag, patient).await? {
            return Ok((found, Done { files, plus }, sink));
        }
        sink = input::blocking(move || sink.start_over().map(|()| sink)).await?;
    }
    let found = match object {
        InventoryObject::Exact { key, etag } => exact(bucket, key, etag.as_deref(), patient).await?,
        InventoryObject::Latest { prefix } => {
            let (found, warnings) = latest::find(bucket, prefix, patient).await?;
            sink.take_warnings(warnings);
            found
        }
        InventoryObject::Changed(changes) => exact(bucket, &changes.key, Some(&changes.etag), patient).await?,
        InventoryObject::Once { key, etag } => {
            exact(bucket, key, Some(etag.as_str()).filter(|etag| !etag.is_empty()), patient).await?
        }
    };
    Ok((found, Done::default(), sink))
}

/// Fetches the `manifest.json` that an earlier attempt read. Returns `None` if it was deleted or has changed.
async fn again(bucket: &Bucket, key: &Key, etag: &str, patient: &Patient) -> Result<Option<Found>, ManifestError> {
    if etag.is_empty() {
        return Ok(None);
    }
    match exact(bucket, key, Some(etag), patient).await {
        Ok(found) => Ok(Some(found)),
        Err(ManifestError::Changed { .. }) => Ok(None),
        Err(ManifestError::Store { fault, .. }) if fault.status == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn exact(bucket: &Bucket, key: &Key, etag: Option<&str>, patient: &Patient) -> Result<Found, ManifestError> {
    let opened = patient.open_pinned(bucket, key, etag).await?;
    let etag = bare(&opened.etag).to_owned();
    let text = input::read_small(opened, MAX_DOCUMENT_BYTES, &place(bucket, key), patient.stop()).await?;
    Ok(Found { key: key.clone(), etag, text })
}

async fn read_file(
    bucket: &Bucket,
    file: DataFile,
    columns: Columns,
    patient: &Patient,
    sink: Sink,
) -> Result<(Sink, Columns), ManifestError> {
    let name = place(bucket, &file.key);
    let opened = open(bucket, &file, patient).await?;
    input::stream(opened, patient.stop(), move |raw| read_checked(raw, &file, &name, columns, sink)).await
}

/// Opens a data file. Returns an error if it does not exist.
pub(super) async fn open(bucket: &Bucket, file: &DataFile, patient: &Patient) -> Result<Opened, ManifestError> {
    patient.open_existing(bucket, &file.key).await.map_err(|error| match error {
        ManifestError::Store { fault, .. } if fault.status == Some(404) => {
            let help = "the inventory is not complete, or its files were deleted: use another one";
            let what = "manifest.json names this data file, and it is not there";
            ManifestError::malformed(&place(bucket, &file.key), what, help)
        }
        other => other,
    })
}

/// Compares the size and MD5 of a data file with `manifest.json`.
pub(super) fn compare(file: &DataFile, tally: &Tally, name: &str) -> Result<(), ManifestError> {
    let help = "the file was written over or cut off: use another inventory";
    if let Some(size) = file.size.filter(|size| *size != tally.bytes) {
        let what = format!("it has {} bytes, and manifest.json says {size}", tally.bytes);
        return Err(ManifestError::malformed(name, what, help));
    }
    if !file.md5.eq_ignore_ascii_case(&tally.digest) {
        let what = format!("its MD5 is {}, and manifest.json says {}", tally.digest, file.md5);
        return Err(ManifestError::malformed(name, what, help));
    }
    Ok(())
}

/// Reads one data file, and compares its size and MD5 with `manifest.json`.
fn read_checked(
    raw: Raw,
    file: &DataFile,
    name: &str,
    mut columns: Columns,
    mut sink: Sink,
) -> Result<(Sink, Columns), ManifestError> {
    let gzip = input::is_gzip_key(&file.key);
    let rest = sink.rest();
    let (rows, tally) = input::digested::<Md5, _>(raw, gzip, name, rest, |text| {
        read_rows(Records::new(text, LineEnds::Either), gzip, name, &mut columns, &mut sink)
    })?;
    // A file that was not read to its end has no digest to compare.
    if rest == Rest::Leave && rows.is_err() {
        return rows.map(|()| (sink, columns));
    }
    compare(file, &tally, name)?;
    // Errors in rows come last: if the file is not the listed one, that explains them.
    rows?;
    Ok((sink, columns))
}

fn read_rows<R: BufRead>(
    mut records: Records<R>,
    gzip: bool,
    name: &str,
    columns: &mut Columns,
    sink: &mut Sink,
) -> Result<(), ManifestError> {
    let mut bad = BadRows::new();
    loop {
        let row = records.row() + 1;
        let taken = match records.next().map_err(|broken| explain(broken, gzip, name, row))? {
            Next::End => break,
            Next::Bad(why) => Err(why),
            Next::Record(record) if row == 1 && columns.is_header(&record) => Ok(()),
            Next::Record(record) => {
                let read = columns.read(&record, || format!("row {row} of {name}"));
                match take_in(read, sink) {
                    Ok(taken) => taken,
                    Err(error) => return Err(bad.before(error, name)),
                }
            }
        };
        if let Err(why) = taken {
            bad.push(row, records.line(), why);
            if bad.are_hopeless() {
                break;
            }
        }
    }
    bad.verdict(name)
}

/// Adds a row to the sink, or skips it. The inner error says why the row is invalid.
pub(super) fn take_in(read: Result<Reading<'_>, String>, sink: &mut Sink) -> Result<Result<(), String>, ManifestError> {
    match read {
        Ok(Reading::Object(row)) => sink.push(&row),
        Ok(Reading::Passed) => sink.pass_over().map(Ok),
        Err(why) => Ok(Err(why)),
    }
}
