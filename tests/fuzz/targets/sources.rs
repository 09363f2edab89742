//! Manifests: CSV, inventories with each of their files, reports.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use batchplan::manifest::{FreezeLimits, FrozenManifest, SampleOptions, freeze_and_sample};
use batchplan::plan;
use batchplan_store::Store;
use batchplan_store::task::TaskId;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::shelf::{Shelf, etag};
use super::{choice, files, scratch};
use crate::inventory::{Format, Layout, Row, write};

const STORE: &str = "name = \"fuzz\"\n[store]\nprovider = \"aws\"\nregion = \"us-east-1\"\n\
                     [operation.delete_object_tagging]\n";

/// Freezes what a plan's `[manifest]` says, and reads it back to its last row.
fn freeze(manifest: &str, folder: &Path, objects: BTreeMap<String, Vec<u8>>) {
    let (plan, problems) = plan::read("fuzz.toml", &format!("{STORE}{manifest}"), folder, Timestamp::UNIX_EPOCH);
    let plan = plan.unwrap_or_else(|| panic!("{problems:?}"));
    let store: Arc<dyn Store> = Arc::new(Shelf(objects));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (home, stop) = (folder.join("job"), CancellationToken::new());
    fs::create_dir(&home).expect("a folder");
    let wish = SampleOptions { size: 10, seed: 0, digest: Some([7; 16]), all_metadata: true };
    let bounds = FreezeLimits { max_disk: Some(64 << 20), max_objects: None, concurrency: None };
    let surveyed = runtime.block_on(freeze_and_sample(&plan.manifest, &store, &home, (bounds, wish), &|_| {}, &stop));
    match surveyed {
        Ok((frozen, _)) => read_back(&frozen, &home),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What was frozen is what is read, now and after it was opened again.
fn read_back(frozen: &FrozenManifest, home: &Path) {
    let opened = FrozenManifest::open(home).expect("it can be opened").expect("it is there");
    for frozen in [frozen, &opened] {
        let rows =
            frozen.tasks(TaskId { part: 0, row: 0 }, 100).map(|batch| batch.expect("it can be read").len() as u64);
        assert_eq!(rows.sum::<u64>(), frozen.rows());
    }
}

pub(super) fn csvs() -> Vec<Vec<u8>> {
    let mut corpus = files("plans", "from-local-csv.csv");
    corpus.push(b"bkt,a%2Fb,\nbkt,\"quoted,%20key\",v1\r\nbkt,d%C3%A9j%C3%A0,null\n".to_vec());
    corpus.push(b"bkt,\"two\nlines\"\nbkt,a+b\n".to_vec());
    corpus
}

pub(super) fn csv(input: &[u8]) {
    let (form, input) = choice(input, 4);
    let folder = scratch();
    fs::write(folder.path().join("list.csv"), input).expect("written");
    let fields = ["[\"Bucket\", \"Key\"]", "[\"Bucket\", \"Key\", \"VersionId\"]", "[\"Ignore\", \"Bucket\", \"Key\"]"];
    let rest = match form {
        3 => "plus_is_space = true\n".to_owned(),
        form => format!("fields = {}\n", fields[form]),
    };
    freeze(&format!("[manifest.csv]\npath = \"list.csv\"\n{rest}"), folder.path(), BTreeMap::new());
}

const PREFIX: &str = "inv/src/daily/";
const DATE: &str = "2026-01-31T00-00Z";

/// An inventory, and the keys of its `manifest.json` and of its data file.
fn inventory(format: Format) -> (BTreeMap<String, Vec<u8>>, String, String) {
    let layout =
        Layout { format, source: "src", destination: "dest", prefix: PREFIX, date: DATE, versions: true, files: 1 };
    let row = |number: u32| Row {
        bucket: "src".to_owned(),
        key: format!("documents/{number:04} é.pdf").into_bytes(),
        version_id: number.is_multiple_of(3).then(|| format!("v{number}")),
        is_latest: true,
        size: Some(u64::from(number) << 20),
        last_modified: Some(1_767_225_600_000 + i64::from(number)),
        etag: Some(format!("{number:032x}")),
        storage_class: Some(if number.is_multiple_of(2) { "STANDARD" } else { "GLACIER" }.to_owned()),
        ..Row::default()
    };
    let written = write(layout, (0..40).map(row));
    let data = written.objects[0].0.clone();
    (written.objects.into_iter().collect(), written.manifest, data)
}

fn freeze_inventory(objects: BTreeMap<String, Vec<u8>>, manifest: &str) {
    let folder = scratch();
    freeze(&format!("[manifest.inventory]\nbucket = \"dest\"\nobject = \"{manifest}\"\n"), folder.path(), objects);
}

/// Puts a data file into an inventory in place of the one that it has, with a length and an MD5 that fit.
fn with_data(format: Format, input: &[u8]) {
    let (mut objects, manifest, data) = inventory(format);
    let before = objects.insert(data, input.to_vec()).expect("there was one");
    let json = String::from_utf8(objects[&manifest].clone()).expect("UTF-8");
    let entry = |content: &[u8]| format!("\"size\":{},\"MD5checksum\":\"{}\"", content.len(), etag(content));
    assert!(json.contains(&entry(&before)));
    objects.insert(manifest.clone(), json.replace(&entry(&before), &entry(input)).into_bytes());
    freeze_inventory(objects, &manifest);
}

pub(super) fn manifests() -> Vec<Vec<u8>> {
    let of = |format| {
        let (objects, manifest, _) = inventory(format);
        objects[&manifest].clone()
    };
    let mut corpus: Vec<_> = Format::ALL.into_iter().map(of).collect();
    corpus.extend(files("plans/quickstart", "manifest.json"));
    corpus
}

pub(super) fn inventory_manifest(input: &[u8]) {
    let mut all = BTreeMap::new();
    let mut place = String::new();
    for format in Format::ALL {
        let (objects, manifest, _) = inventory(format);
        all.extend(objects);
        place = manifest;
    }
    all.insert(place.clone(), input.to_vec());
    freeze_inventory(all, &place);
}

fn data_of(format: Format) -> Vec<u8> {
    let (objects, _, data) = inventory(format);
    objects[&data].clone()
}

pub(super) fn csv_data() -> Vec<Vec<u8>> {
    let mut corpus = vec![vec![0], vec![1]];
    for (number, format) in [Format::AwsCsv, Format::OssCsv].into_iter().enumerate() {
        let mut text = Vec::new();
        let data = data_of(format);
        std::io::copy(&mut flate2::read::GzDecoder::new(&data[..]), &mut text).expect("inflated");
        for content in [data, text] {
            let choice = u8::try_from(number * 2 + usize::from(content[0] != 0x1f)).expect("it fits");
            corpus.push([vec![choice], content].concat());
        }
    }
    corpus
}

/// A compressed file as it is, or rows that are compressed here.
pub(super) fn inventory_csv(input: &[u8]) {
    let (form, input) = choice(input, 4);
    let format = if form < 2 { Format::AwsCsv } else { Format::OssCsv };
    if form % 2 == 0 {
        return with_data(format, input);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, input).expect("deflated");
    with_data(format, &encoder.finish().expect("deflated"));
}

pub(super) fn parquet_data() -> Vec<Vec<u8>> {
    let mut corpus = files("crates/columnar/fixtures", ".parquet");
    corpus.push(data_of(Format::Parquet));
    corpus
}

pub(super) fn inventory_parquet(input: &[u8]) {
    with_data(Format::Parquet, input);
}

pub(super) fn orc_data() -> Vec<Vec<u8>> {
    let mut corpus = files("crates/columnar/fixtures", ".orc");
    corpus.push(data_of(Format::Orc));
    corpus
}

pub(super) fn inventory_orc(input: &[u8]) {
    with_data(Format::Orc, input);
}

pub(super) fn reports() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for manifest in files("tests/checkpoints/kept/0.1.0/report-finished", "report/manifest.json") {
        corpus.push([vec![0], manifest].concat());
    }
    corpus.extend([
        b"\x01\"bkt\",\"a%2Fb\",\"\",\"failed\",\"403\",\"AccessDenied\",\"R1\",\"Access Denied\"\n".to_vec(),
        b"\x02bkt,a%2Fb,,failed,404,NoSuchKey,\"HostId, R1: gone\"\nbkt,c,v1,succeeded,200,,\"Successful\"\n".to_vec(),
    ]);
    corpus.extend(files("tests/checkpoints/kept", "report-0.csv").into_iter().map(|rows| [vec![1], rows].concat()));
    corpus
}

/// A list of a report's files, or one of the files.
pub(super) fn report(input: &[u8]) {
    let (form, input) = choice(input, 3);
    let folder = scratch();
    let name = if form == 0 { "manifest.json" } else { "report-0.csv" };
    fs::write(folder.path().join(name), input).expect("written");
    if form == 0 {
        fs::write(folder.path().join("report-0.csv"), "bkt,a,,failed,403,AccessDenied,R1,m\n").expect("written");
    }
    freeze(&format!("[manifest.report]\npath = \"{name}\"\n"), folder.path(), BTreeMap::new());
}
