//! Completion reports, read as a stranger would: `manifest.json`, and the files that it lists.

use std::collections::BTreeSet;

use batchplan_store::hex::hex;
use batchplan_store::object::ObjectKey;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::Value as Json;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) bucket: String,
    pub(crate) key: ObjectKey,
    pub(crate) succeeded: bool,
    /// The HTTP status, where there is one.
    pub(crate) status: Option<u16>,
}

/// All that a report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// The files that it is made of.
    pub(crate) files: BTreeSet<String>,
}

/// Reads a report whose files are found by the names that its manifest gives them.
///
/// # Errors
/// Whatever is not as it should be: a file that is missing, listed twice or not the one listed, a row that cannot be
/// read or stands in the wrong file.
pub(crate) fn read(manifest: &[u8], file: impl Fn(&str) -> Option<Bytes>) -> Result<Report, String> {
    let manifest: Json = serde_json::from_slice(manifest).map_err(|error| format!("manifest.json: {error}"))?;
    let text = |value: &Json| value.as_str().map(str::to_owned).ok_or("manifest.json lacks a text");
    let columns = match text(&manifest["Format"])?.as_str() {
        "Report_CSV_20250901" => 5,
        "Report_CSV_20180820" => 7,
        other => return Err(format!("manifest.json has the format {other}")),
    };
    let mut report = Report::default();
    for listed in manifest["Results"].as_array().ok_or("manifest.json lists no files")? {
        let name = text(&listed["Key"])?;
        let succeeded = text(&listed["TaskExecutionStatus"])? == "succeeded";
        let content = file(&name).ok_or_else(|| format!("{name} is listed and not there"))?;
        let md5 = hex(&Md5::digest(&content));
        if text(&listed["MD5Checksum"])?.trim_matches('"') != md5 {
            return Err(format!("{name} is not the file that is listed: its MD5 is {md5}"));
        }
        for row in rows(&content, columns).map_err(|why| format!("{name}: {why}"))? {
            if row.succeeded != succeeded {
                return Err(format!("{name}: the row of {} stands in the wrong file", row.key));
            }
            report.rows.push(row);
        }
        if !report.files.insert(name.clone()) {
            return Err(format!("{name} is listed twice"));
        }
    }
    Ok(report)
}

fn rows(content: &[u8], columns: usize) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content);
    reader.records().map(|record| row(&record.map_err(|error| error.to_string())?, columns)).collect()
}

/// OSS: `Bucket,ObjectKey,VersionId,HTTPStatus,Error`. AWS:
/// `Bucket,ObjectKey,VersionId,TaskStatus,HTTPStatusCode,ErrorCode,ResultMessage`.
fn row(record: &csv::StringRecord, columns: usize) -> Result<Row, String> {
    if record.len() != columns {
        return Err(format!("a row has {} columns: {record:?}", record.len()));
    }
    let (succeeded, status) =
        if columns == 5 { (record[4].is_empty(), &record[3]) } else { (&record[3] == "succeeded", &record[4]) };
    let key = ObjectKey::decode(record[1].as_bytes());
    Ok(Row { bucket: record[0].to_owned(), key, succeeded, status: status.parse().ok() })
}
