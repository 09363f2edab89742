use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use batchplan_store::Store;
use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::TaskId;
use globset::Glob;
use proptest::prelude::*;
use sha2::Digest;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::manifest::pins::FileStamp;
use crate::manifest::testing::{MemoryStore, csv_fields, csv_source, etag, freeze_until, gzip, keys, objects, refusal};
use crate::manifest::{
    Filter, FreezeLimits, FreezeProgress, FrozenManifest, KeyGlobs, Manifest, ManifestSource, ManifestWarning, freeze,
};

const WITH_VERSION: [CsvField; 3] = [CsvField::Bucket, CsvField::Key, CsvField::VersionId];

fn frozen_from(text: &[u8]) -> Result<(FrozenManifest, Vec<ObjectId>), ManifestError> {
    objects(MemoryStore::with(&[("m.csv", text)]), csv_source("m.csv"), Filter::default())
}

fn refused(text: &[u8]) -> String {
    refusal(MemoryStore::with(&[("m.csv", text)]), csv_source("m.csv"), Filter::default()).to_string()
}

#[test]
fn keys_are_decoded_once_whatever_is_in_them() {
    let long = "k".repeat(1024);
    let odd = ["a+b", "a%2Fb", "a b", "?x#y", "//", "../x", "é", "\n", long.as_str(), "a\"b,c", "%", "k"];
    let mut text = String::new();
    for key in odd {
        let key = ObjectKey::from(key);
        text.extend(["my-bucket,", &key.encoded(), "\n"]);
        text.extend(["\"my-bucket\",\"", &key.encoded_keeping_slashes(), "\"\n"]);
    }
    let (frozen, objects) = frozen_from(text.as_bytes()).unwrap();
    let found: Vec<&str> = objects.iter().step_by(2).map(|object| object.key.as_str().unwrap()).collect();
    assert_eq!(found, odd);
    assert!(objects.chunks(2).all(|pair| pair[0] == pair[1] && pair[0].version.is_none()));
    assert_eq!((frozen.rows(), frozen.rows_read(), frozen.warnings()), (24, 24, &[][..]));
}

#[test]
fn bytes_that_are_not_utf8_can_be_escaped_and_raw_text_is_itself() {
    let (_, objects) = frozen_from("b,%ff%00/é".as_bytes()).unwrap();
    assert_eq!(objects[0].key.as_bytes(), b"\xff\0/\xc3\xa9");
}

#[test]
fn versions_are_never_decoded() {
    let text = b"b,a,3/L4kqtJ+Y%2F\nb,a,null\nb,a,\nc,a,null\n";
    let store = MemoryStore::with(&[("m.csv", text)]);
    let (_, objects) = objects(store, csv_fields("m.csv", &WITH_VERSION), Filter::default()).unwrap();
    let versions: Vec<_> = objects.iter().map(|it| it.version.as_ref().map(VersionId::as_str)).collect();
    assert_eq!(versions, [Some("3/L4kqtJ+Y%2F"), Some("null"), None, Some("null")]);
    assert_eq!(objects[3].bucket.as_str(), "c");
}

#[test]
fn columns_come_in_the_order_of_the_fields() {
    let fields = [CsvField::Ignore, CsvField::Key, CsvField::Bucket];
    let store = MemoryStore::with(&[("m.csv", b"x,k,b\n")]);
    let (_, objects) = objects(store, csv_fields("m.csv", &fields), Filter::default()).unwrap();
    assert_eq!((objects[0].bucket.as_str(), objects[0].key.as_bytes()), ("b", &b"k"[..]));
}

#[test]
fn a_raw_plus_is_itself_and_warns_once() {
    let text = b"b,a%2Bb\nb,a+b\nb,c+d+e\n";
    let (frozen, found) = frozen_from(text).unwrap();
    assert_eq!(keys(&found), ["a+b", "a+b", "c+d+e"]);
    let [ManifestWarning { message, .. }] = frozen.warnings() else { panic!("one warning") };
    assert!(message.contains("a raw `+` in 2 keys is read as a plus (first in row 2)"), "{message}");

    let ManifestSource::Csv { location: place, fields, .. } = csv_source("m.csv") else { unreachable!() };
    let source = ManifestSource::Csv { location: place, fields, plus_is_space: true };
    let (frozen, found) = objects(MemoryStore::with(&[("m.csv", text)]), source, Filter::default()).unwrap();
    assert_eq!(keys(&found), ["a+b", "a b", "c d e"]);
    assert_eq!(frozen.warnings(), []);
}

#[test]
fn rejects_files_that_are_not_manifests() {
    assert!(refused(b"Bucket,Key\nb,k\n").contains("row 1 looks like a header"));
    assert!(refused(b"\"bucket\",\" KEY \"\nb,k\n").contains("row 1 looks like a header"));
    assert!(refused(b"Key,Bucket\nb,k\n").contains("row 1 looks like a header"));
    assert!(refused(b"bucket_name,Object Key\nb,k\n").contains("row 1 looks like a header"));
    assert!(refused(b"bucket,object\nb,k\n").contains("row 1 looks like a header"));
    assert!(refused(b"Bucket;Key\r\nb;k\r\n").contains("row 1 looks like a header"));
    assert!(refused(b"b,k\r\nb,l\n").contains("row 2: the line ends with LF, but row 1 with CR LF"));
    assert!(refused(b"\xff\xfeb\0,\0k\0").contains("the file is UTF-16"));
    assert!(refused(b"").contains("m/m.csv contains no objects"));
    assert!(refused(b"b,k\nb,\xff\n").contains("row 2: not UTF-8 (byte 3"));
    assert!(refused(b"b,k\nb,\"l\n").contains("row 2 (line 2): a quote is not closed"));
    assert!(refused(b"<!DOCTYPE x [<!ENTITY a \"&a;\">]>\n").contains("row 1"));
    let gigantic = vec![b'x'; 3 << 20];
    assert!(refused(&gigantic).contains("row 1 (line 1) is longer than 1048576 bytes"));
}

#[test]
fn all_bad_rows_come_in_one_error() {
    let long = "k".repeat(1025);
    let text = format!(
        "b,fine\nb\nb,k,x\n,k\nb,\nb,%zz\nb,x%\nb,{long}\nb,.\nevil.example/,k\n\n\"b\",\"x\ny\"\nb,%4\n# comment,k\n"
    );
    let error = refusal(MemoryStore::with(&[("m.csv", text.as_bytes())]), csv_source("m.csv"), Filter::default());
    let ManifestError::BadRows { total, first, .. } = &error else { panic!("{error}") };
    let found: Vec<(u64, u64, &str)> = first.iter().map(|bad| (bad.row, bad.line, bad.why.as_str())).collect();
    let expected = [
        (2, 2, "expected 2 fields, found 1"),
        (3, 3, "expected 2 fields, found 3"),
        (4, 4, "the bucket is empty"),
        (5, 5, "the key is empty"),
        (6, 6, "`%zz` is not a valid escape"),
        (7, 7, "`%` is not a valid escape"),
        (8, 8, "the key has 1025 bytes"),
        (9, 9, "the store does not support the key .: a URL cannot say it"),
        (10, 10, "`evil.example/` is a URL, an ARN or a path: write only the bucket's name"),
        (11, 11, "empty row"),
        (13, 14, "`%4` is not a valid escape"),
        (14, 15, "`# comment` is not a valid bucket name"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.0 == expected.0 && found.1 == expected.1 && found.2.starts_with(expected.2), "{found:?}");
    }
    assert_eq!(*total, 12);
    assert!(error.to_string().contains("row 13 (line 14): `%4`"), "{error}");
}

#[test]
fn what_is_no_bucket_of_the_store_is_named_by_row() {
    let error = refused(
        b"b,k\nlogs--use1-az5--x-s3,k\narn:aws:s3:us-east-1:123456789012:accesspoint/ap,k\ns3://b,k\nap-1a2b-s3alias,k\n",
    );
    for line in [
        "row 2: the bucket `logs--use1-az5--x-s3`: directory buckets (S3 Express One Zone) are not supported; use a \
         general purpose bucket: objects in directory buckets have no tags, ACLs, versions or archive classes",
        "row 3: the bucket `arn:aws:s3:us-east-1:123456789012:accesspoint/ap`: the alias of the access point is \
         required, not its ARN; use the alias, which ends in -s3alias; `aws s3control get-access-point` shows it",
        "row 4: `s3://b` is a URL, an ARN or a path: write only the bucket's name",
    ] {
        assert!(error.lines().any(|found| found.trim() == line), "{error}");
    }
    assert!(!error.contains("row 1:") && !error.contains("row 5:"), "{error}");
}

#[test]
fn a_list_of_keys_alone_is_answered_with_how_to_add_the_bucket() {
    let help = |text: &[u8]| {
        refusal(MemoryStore::with(&[("m.csv", text)]), csv_source("m.csv"), Filter::default()).help().expect("help")
    };
    assert_eq!(
        help(b"documents/a.pdf\ndocuments/b.pdf\n"),
        "each row needs a bucket and a key: sed 's/^/my-bucket,/' keys.txt > objects.csv"
    );
    assert!(help(b"documents/a.pdf\nb,\n").starts_with("nothing was changed; fix these rows"));
}

#[test]
fn what_is_said_of_long_fields_is_short() {
    let long = "x".repeat(200_000);
    let mut rows = "b,k\n".to_owned();
    for bucket in
        [format!("arn:aws:s3:us-east-1:1:accesspoint/{long}"), format!("s3://{long}"), format!("\"b;{long}\"")]
    {
        rows.extend([&bucket, ",k\n"]);
    }
    let error = refused(rows.as_bytes());
    assert!(error.contains("row 2: the bucket name has 200035 bytes (maximum 255)"), "{}", error.len());
    assert!(error.contains("row 4: ") && error.len() < 2000, "{}", error.len());
}

#[test]
fn a_row_with_another_separator_than_the_file_names_both() {
    let error = refused(b"b,k\nb;l\nb\tl\nb;l,m\n");
    let seems = "expected 2 fields, found 1: the row seems to be separated by";
    for line in [
        format!("row 2: {seems} semicolons, but the file by commas"),
        format!("row 3: {seems} tabs, but the file by commas"),
        "row 4: `b;l` is not a valid bucket name: the row seems to be separated by semicolons".to_owned(),
    ] {
        assert!(error.lines().any(|found| found.trim() == line), "{error}");
    }
    let error = refused(b"b;k\nb,l\n");
    assert!(error.contains(&format!("{seems} commas, but the file by semicolons")), "{error}");
    assert!(refused(b"b|k\n").contains(&format!("{seems} vertical bars (|)")));
    assert!(refused(b"b, \"k\"\n").contains("a space before a quoted field"));
    let fields = [CsvField::Key, CsvField::Bucket];
    let store = MemoryStore::with(&[("m.csv", b"k, b\nl,b\n")]);
    let error = refusal(store, csv_fields("m.csv", &fields), Filter::default()).to_string();
    assert!(error.contains("row 2: missing space after a separator, unlike in row 1"), "{error}");
    let store = MemoryStore::with(&[("m.csv", b"b, k, v\n")]);
    let error = refusal(store, csv_fields("m.csv", &WITH_VERSION), Filter::default()).to_string();
    assert!(error.contains("row 1: the version ID begins with a space"), "{error}");
}

#[test]
fn a_space_before_a_key_belongs_to_it_and_warns_once() {
    let (frozen, found) = frozen_from(b"b,k\nb, l\nb, m\nb,%20n\n").unwrap();
    assert_eq!(keys(&found), ["k", " l", " m", " n"]);
    let [ManifestWarning { message, .. }] = frozen.warnings() else { panic!("one warning") };
    assert!(message.contains("the space at the start of 2 keys is read as part of the key (first in row 2)"));
}

#[test]
fn only_the_first_bad_rows_are_shown_and_all_are_counted() {
    let error = refused(&b"b,%\n".repeat(1000));
    assert!(error.starts_with("m/m.csv has 1,000 bad rows\n  row 1: "), "{error}");
    assert!(error.ends_with("\n  and 980 more") && error.lines().count() == 22, "{error}");
}

#[test]
fn an_etag_pins_the_file_in_any_case_of_its_letters() {
    let text = b"b,k\n";
    let pinned = |etag: &str| {
        let place = FileLocation::Object {
            bucket: BucketName::new("m"),
            key: ObjectKey::from("m.csv"),
            etag: Some(etag.to_owned()),
        };
        ManifestSource::Csv { location: place, fields: vec![CsvField::Bucket, CsvField::Key], plus_is_space: false }
    };
    let right = etag(text).to_ascii_uppercase();
    for strict_etag in [false, true] {
        for wanted in [right.clone(), format!("\"{right}\"")] {
            let store = MemoryStore { strict_etag, ..MemoryStore::with(&[("m.csv", text)]) };
            let (frozen, _) = objects(store, pinned(&wanted), Filter::default()).unwrap();
            assert!(matches!(frozen.pin(), SourcePin::Object { etag: found, .. } if *found == etag(text)));
        }
    }
    for blind in [false, true] {
        let store = MemoryStore { ignores_if_match: blind, ..MemoryStore::with(&[("m.csv", text)]) };
        let error = refusal(store, pinned("abc"), Filter::default()).to_string();
        assert!(error.contains("the plan expects ETag abc, but it is now "), "{error}");
        assert!(error.contains(&etag(text)), "{error}");
    }
}

#[test]
fn a_local_file_is_pinned_by_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.csv");
    fs::write(&path, b"b,k\nb,l").unwrap();
    let (frozen, found) = objects(MemoryStore::default(), local(&path), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["k", "l"]);
    let sha256 = batchplan_store::hex::hex(&Sha256::digest(b"b,k\nb,l"));
    let seen =
        Some(FileStamp { size: 7, modified: fs::metadata(&path).unwrap().modified().unwrap().try_into().unwrap() });
    assert_eq!(frozen.pin(), &SourcePin::File { path: path.clone(), sha256, stamp: seen });

    for missing in [folder.path().join("none.csv"), folder.path().to_owned()] {
        let error = refusal(MemoryStore::default(), local(&missing), Filter::default()).to_string();
        assert!(error.starts_with(&format!("cannot read {}: ", missing.display())), "{error}");
    }
}

#[test]
fn a_file_of_nothing_but_bad_rows_is_not_read_to_its_end() {
    let packed = gzip(&b"\n".repeat(1_000_000));
    let store = MemoryStore::with(&[("m.csv.gz", &packed)]);
    let error = refusal(store, csv_source("m.csv.gz"), Filter::default()).to_string();
    assert!(error.starts_with("m/m.csv.gz has 100,000 bad rows\n"), "{error}");
    assert!(error.ends_with("and more; the rest was not read"), "{error}");
}

fn local(path: &Path) -> ManifestSource {
    let place = FileLocation::Local(path.to_owned());
    ManifestSource::Csv { location: place, fields: vec![CsvField::Bucket, CsvField::Key], plus_is_space: false }
}

#[test]
fn gzip_is_known_by_its_name() {
    let text = b"b,k\nb,l\n";
    let whole = [gzip(text), gzip(b"b,m\n")].concat();
    let read = |content: &[u8]| {
        let store = MemoryStore::with(&[("m.csv.gz", content)]);
        objects(store, csv_source("m.csv.gz"), Filter::default()).map(|(_, objects)| keys(&objects))
    };
    assert_eq!(read(&whole).unwrap(), ["k", "l", "m"]);
    let garbage = [&whole[..], b"garbage"].concat();
    for damaged in [&whole[..whole.len() - 1], &whole[..30], &garbage, b"b,k\n", b""] {
        let error = read(damaged).unwrap_err().to_string();
        assert!(error.contains("its gzip data is damaged or truncated near row"), "{error}");
    }
    assert!(refused(&whole).contains("the file is gzip-compressed"));
}

#[test]
fn a_body_that_breaks_off_is_not_taken_for_a_short_file() {
    for (name, content) in [("m.csv", b"b,k\nb,l\n".to_vec()), ("m.csv.gz", gzip(b"b,k\nb,l\n"))] {
        let store = MemoryStore { missing_bytes: 4, ..MemoryStore::with(&[(name, &content)]) };
        let error = refusal(store, csv_source(name), Filter::default()).to_string();
        let size = content.len();
        assert!(error.ends_with(&format!("it ended after {} of {size} bytes", size - 4)), "{error}");
    }
}

#[test]
fn a_file_that_is_refused_is_not_read_to_its_end() {
    let store = MemoryStore { missing_bytes: 4, ..MemoryStore::with(&[("m.csv", b"Bucket,Key\nb,k\nb,l\n")]) };
    assert!(refusal(store, csv_source("m.csv"), Filter::default()).to_string().contains("header"));
}

#[test]
fn rejects_filters_that_need_more_than_keys() {
    let filter = Filter { include: KeyGlobs::new([Glob::new("*.pdf").unwrap()]).ok(), ..Filter::default() };
    let store = || MemoryStore::with(&[("m.csv", b"b,a.pdf\nb,b.txt\n")]);
    let (frozen, found) = objects(store(), csv_source("m.csv"), filter.clone()).unwrap();
    assert_eq!((keys(&found), frozen.rows_read()), (vec!["a.pdf".to_owned()], 2));

    let nothing = MemoryStore::with(&[("m.csv", b"b,b.txt\n")]);
    let (frozen, _) = objects(nothing, csv_source("m.csv"), filter).unwrap();
    assert_eq!((frozen.rows(), frozen.parts().len()), (0, 0));

    let store = Arc::new(store());
    let filter = Filter { larger_than: Some(1), ..Filter::default() };
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let error = freeze_until(folder.path(), &store, csv_source("m.csv"), filter, &stop).unwrap_err();
    assert!(error.to_string().contains("`larger_than` needs the object's size"), "{error}");
    assert!(error.help().unwrap().contains("[manifest.inventory]"));
    assert!(store.requests.lock().unwrap().is_empty(), "nothing was read");
}

#[test]
fn a_large_file_passes_through_in_order() {
    let mut text = Vec::new();
    for row in 0..40_000 {
        writeln!(text, "b,{row:06}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.csv");
    fs::write(&path, &text).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for source in [csv_source("m.csv"), local(&path)] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with(&[("m.csv", &text)]));
        let manifest = Manifest { source, filter: Filter::default() };
        let last = Mutex::new(FreezeProgress::default());
        let observer = |prepared: FreezeProgress| {
            let mut last = last.lock().unwrap();
            assert!(prepared.rows_read >= last.rows_read && prepared.rows_included <= prepared.rows_read);
            *last = prepared;
        };
        let stop = CancellationToken::new();
        let work = freeze(&manifest, &store, folder.path(), FreezeLimits::default(), &observer, &stop);
        let frozen = runtime.block_on(spawnable(work)).unwrap();
        assert_eq!(last.lock().unwrap().rows_included, 40_000);
        let tasks = frozen.tasks(TaskId { part: 0, row: 0 }, 1000).flat_map(|batch| batch.unwrap());
        assert!(tasks.zip(0..).all(|(task, row)| task.object.key.to_string() == format!("{row:06}")));
    }
}

/// Multi-threaded runtimes may spawn the work: does not compile if the future is not `Send`.
fn spawnable<F: Future + Send>(work: F) -> F {
    work
}

#[test]
fn stopping_ends_even_a_read_that_never_answers() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let store = Arc::new(MemoryStore { mute: true, ..MemoryStore::default() });
    let canceller = stop.clone();
    let thread = std::thread::spawn(move || canceller.cancel());
    let error = freeze_until(folder.path(), &store, csv_source("m.csv"), Filter::default(), &stop).unwrap_err();
    thread.join().unwrap();
    assert!(matches!(error, ManifestError::Stopped), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_names_come_back(names in proptest::collection::vec(("[a-z]{1,9}", proptest::collection::vec(any::<u8>(), 2..30), "[!-~]{0,9}"), 1..30)) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        for (bucket, key, version) in &names {
            writer.write_record([bucket, &ObjectKey::new(key.as_slice()).encoded(), version]).unwrap();
        }
        let text = writer.into_inner().unwrap();
        let store = MemoryStore::with(&[("m.csv", &text)]);
        let (_, found) = objects(store, csv_fields("m.csv", &WITH_VERSION), Filter::default()).unwrap();
        prop_assert_eq!(found.len(), names.len());
        for (object, (bucket, key, version)) in found.iter().zip(&names) {
            prop_assert_eq!(object.bucket.as_str(), bucket);
            prop_assert_eq!(object.key.as_bytes(), key.as_slice());
            prop_assert_eq!(object.version.as_ref().map_or("", VersionId::as_str), version);
        }
    }

    #[test]
    fn keys_arrive_exactly_whatever_the_syntax(
        names in proptest::collection::vec(("[a-z0-9-]{3,9}", "[ ;\t|,\"a-zé\u{feff}]{1,12}"), 1..12),
        (separator, spaced) in prop_oneof![Just((",", false)), Just((";", false)), Just(("\t", false)), Just((",", true)), Just((";", true))],
        (crlf, bom) in any::<(bool, bool)>(),
    ) {
        let mut text = if bom && !spaced { "\u{feff}".to_owned() } else { String::new() };
        for (bucket, key) in &names {
            let quoted = format!("\"{}\"", key.replace('"', "\"\""));
            let key = if key.contains(separator) || key.contains('"') { &quoted } else { key };
            let parts = if spaced { [key, separator, " ", bucket] } else { [bucket, separator, key, ""] };
            text.extend(parts);
            text += if crlf { "\r\n" } else { "\n" };
        }
        // Without the mark, the file begins with a key.
        prop_assume!(!(spaced && text.starts_with('\u{feff}')));
        let fields = if spaced { [CsvField::Key, CsvField::Bucket] } else { [CsvField::Bucket, CsvField::Key] };
        let store = MemoryStore::with(&[("m.csv", text.as_bytes())]);
        let (_, found) = objects(store, csv_fields("m.csv", &fields), Filter::default()).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.bucket.as_str(), it.key.as_str().unwrap())).collect();
        let expected: Vec<_> = names.iter().map(|(bucket, key)| (bucket.as_str(), key.as_str())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn junk_never_panics(text: Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::with(&[("m.csv", &text)]));
        let _ = freeze_until(folder.path(), &store, csv_source("m.csv"), Filter::default(), &CancellationToken::new());
    }
}
