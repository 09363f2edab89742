//! Reads Parquet and ORC data files. Their metadata is at the end, so each file is downloaded first, into a file
//! without a name. The system frees its disk space when the file is closed, even if the process was killed.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use md5::Md5;

use super::columnar::{Broken, Form, Table, Value};
use super::document::DataFile;
use super::fields::{Fields, Places, Reading, Spelling};
use super::read::{compare, open, take_in};
use crate::manifest::error::{BadRows, ManifestError, place};
use crate::manifest::input::{self, Raw, Rest};
use crate::manifest::patient::Patient;
use crate::manifest::sink::Sink;
use crate::object::Bucket;

/// The number of bytes copied at once.
const CHUNK: usize = 128 << 10;

/// Downloads one data file and reads its rows into the sink.
pub(super) async fn read_file(
    bucket: &Bucket,
    file: DataFile,
    form: Form,
    patient: &Patient,
    mut sink: Sink,
) -> Result<Sink, ManifestError> {
    let name = place(bucket, &file.key);
    let opened = open(bucket, &file, patient).await?;
    let size = opened.size;
    sink.set_aside(&name, size)?;
    let mut sink = input::stream(opened, patient.stop(), move |raw| {
        let fetched = fetch(raw, &file, &name, sink.home())?;
        read_rows(form, fetched, &name, &mut sink).map_err(|error| sink.beside(error, &name))?;
        Ok(sink)
    })
    .await?;
    sink.set_aside("", 0)?;
    Ok(sink)
}

/// Downloads a data file to disk, and compares its size and MD5 with `manifest.json` before any of it is parsed.
fn fetch(raw: Raw, file: &DataFile, name: &str, home: Option<&Path>) -> Result<File, ManifestError> {
    let folder = home.map_or_else(|| PathBuf::from("a temporary folder"), Path::to_owned);
    let failed = |doing, cause| ManifestError::disk(doing, &folder, cause);
    let made = home.map_or_else(tempfile::tempfile, tempfile::tempfile_in);
    let mut fetched = made.map_err(|cause| failed("create a file in", cause))?;
    let (copied, tally) = input::digested::<Md5, _>(raw, false, name, Rest::Leave, |text| {
        let mut chunk = vec![0; CHUNK];
        loop {
            // `digested` reports the error if the download fails.
            let count = match text.read(&mut chunk) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => count,
            };
            fetched.write_all(&chunk[..count]).map_err(|cause| failed("write to", cause))?;
        }
    })?;
    copied?;
    compare(file, &tally, name)?;
    fetched.rewind().map_err(|cause| failed("read in", cause))?;
    Ok(fetched)
}

fn read_rows(form: Form, file: File, name: &str, sink: &mut Sink) -> Result<(), ManifestError> {
    let what = |broken| explain(broken, form, name, None);
    let mut table = Table::open(form, file).map_err(what)?;
    let mut places = Places::new(table.names(), Spelling::Underlined, sink.filter(), sink.surveys(), (name, "it"))?;
    if places.bucket.is_none() {
        return Err(ManifestError::malformed(name, "it names no Bucket", "use an inventory of objects"));
    }
    places.expect(|column| table.kind(column)).map_err(|(column, _, broken)| match broken {
        Broken::Foreign(why) => {
            let column = table.names().get(column).map(String::as_str).unwrap_or_default();
            let said = format!("its column {} cannot be meant: {why}", column.escape_debug());
            ManifestError::malformed(name, said, "use an inventory as the cloud writes it")
        }
        other => what(other),
    })?;
    table.pick(&places.all()).map_err(what)?;
    let (mut bad, mut row) = (BadRows::new(), 0_u64);
    while table.advance().map_err(|broken| explain(broken, form, name, Some(row + 1)))? {
        row += 1;
        let taken = match take_in(read_row(&table, &places), sink) {
            Ok(taken) => taken,
            Err(error) => return Err(bad.before(error, name)),
        };
        if let Err(why) = taken {
            bad.push(row, row, why);
            if bad.are_hopeless() {
                break;
            }
        }
    }
    bad.verdict(name)
}

fn read_row<'a>(table: &'a Table, places: &Places) -> Result<Reading<'a>, String> {
    let fields = Cells(table);
    if places.passes(&fields)? {
        return Ok(Reading::Passed);
    }
    let key = match table.value(places.key) {
        Value::Text(key) => key,
        _ => b"",
    };
    places.row(&fields, "", key).map(Reading::Object)
}

/// The fields of the current row of a table.
struct Cells<'a>(&'a Table);

impl Cells<'_> {
    fn named(&self, column: usize, what: &str) -> String {
        let name = self.0.names().get(column).map(String::as_str).unwrap_or_default();
        format!("its {} {what}", name.escape_debug())
    }
}

impl<'a> Fields<'a> for Cells<'a> {
    fn text(&self, column: usize) -> Result<&'a str, String> {
        match self.0.value(column) {
            Value::Text(text) => std::str::from_utf8(text).map_err(|_| self.named(column, "is not UTF-8")),
            _ => Ok(""),
        }
    }

    fn truth(&self, column: usize) -> Result<bool, String> {
        Ok(self.0.value(column) == Value::Truth(true))
    }

    fn size(&self, column: usize) -> Result<Option<u64>, String> {
        match self.0.value(column) {
            Value::Number(size) => u64::try_from(size).map(Some).map_err(|_| format!("`{size}` is no size in bytes")),
            _ => Ok(None),
        }
    }

    fn time(&self, column: usize) -> Result<Option<Timestamp>, String> {
        match self.0.value(column) {
            Value::Time(time) => Ok(Some(time)),
            _ => Ok(None),
        }
    }
}

/// Converts an error of a reader. The file is the one that `manifest.json` lists: that was checked before.
fn explain(broken: Broken, form: Form, name: &str, row: Option<u64>) -> ManifestError {
    let form = form.name();
    let near = row.map(|row| format!(" near row {row}")).unwrap_or_default();
    match broken {
        Broken::Damaged(what) => ManifestError::malformed(
            name,
            format!("its {form} data is damaged{near}: {what}"),
            "the file was written so: use another inventory",
        ),
        Broken::Foreign(what) => ManifestError::malformed(
            name,
            format!("its {form} data cannot be read{near}: {what}"),
            "use an inventory as the cloud writes it, or have it written as CSV",
        ),
        Broken::Io(cause) => ManifestError::Read { place: name.to_owned(), cause },
    }
}
