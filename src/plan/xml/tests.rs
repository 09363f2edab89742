use batchplan_store::object::{BucketName, ObjectAcl, RestoreRequest, RestoreTier};
use jiff::Timestamp;
use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;
use crate::manifest::{CsvField, ListedVersions, OnUnlistable};
use crate::report_format::{ReportFormat, ReportLocation};

fn written(write: impl FnOnce(&mut XmlDocument) -> io::Result<()>) -> String {
    let mut document = Writer::new(Vec::new());
    write(&mut document).expect("memory takes it");
    String::from_utf8(document.into_inner()).expect("XML is UTF-8")
}

fn operation(operations: &[Operation]) -> String {
    written(|to| write_operation(operations, to))
}

fn manifest(source: &ManifestSource, pin: Option<&SourcePin>) -> String {
    written(|to| write_manifest(source, pin, to))
}

fn bucket() -> BucketName {
    BucketName::new("my-bucket")
}

/// Returns the elements of a document, each as path and text, as `quick_xml` reads them without our configuration.
fn read_back(document: &str) -> Vec<(String, String)> {
    let mut reader = Reader::from_str(document);
    let (mut path, mut found) = (Vec::new(), Vec::new());
    let mut held = String::new();
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => {
                path.push(element.name().as_ref().to_vec());
                held.clear();
            }
            Event::Text(text) => held.push_str(&text.xml10_content().expect("legal text")),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().expect("a legal reference") {
                Some(c) => held.push(c),
                None => held.push_str(
                    quick_xml::escape::resolve_predefined_entity(&reference.decode().expect("UTF-8")).expect("known"),
                ),
            },
            Event::End(_) => {
                let names = path.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>();
                found.push((names.join("/"), std::mem::take(&mut held)));
                path.pop();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(path.is_empty(), "every element is closed");
    found
}

#[test]
fn each_operation_is_written_as_the_service_shows_it() {
    let tags: TagSet = [("Team", "DataOps"), ("Environment", "Production")].into_iter().collect();
    let set = "<TagSet><Tag><Key>Environment</Key><Value>Production</Value></Tag>\
               <Tag><Key>Team</Key><Value>DataOps</Value></Tag></TagSet>";
    for (operations, inner) in [
        (vec![Operation::PutTagging(tags.clone())], format!("<PutObjectTagging>{set}</PutObjectTagging>")),
        (vec![Operation::AddTagging(tags)], format!("<AddObjectTagging>{set}</AddObjectTagging>")),
        (vec![Operation::DeleteTagging(None)], "<DeleteObjectTagging/>".to_owned()),
        (
            vec![Operation::DeleteTagging(Some(vec!["b".into(), "a".into()]))],
            "<DeleteObjectTagging><Key>b</Key><Key>a</Key></DeleteObjectTagging>".to_owned(),
        ),
        (
            vec![
                Operation::PutAcl(ObjectAcl::PublicRead),
                Operation::Restore(RestoreRequest { days: Some(7), tier: Some(RestoreTier::Standard) }),
            ],
            "<PutObjectAcl><ObjectAcl>public-read</ObjectAcl></PutObjectAcl>\
             <RestoreObject><Days>7</Days><Tier>Standard</Tier></RestoreObject>"
                .to_owned(),
        ),
        (
            vec![Operation::Restore(RestoreRequest { days: Some(1), tier: None })],
            "<RestoreObject><Days>1</Days></RestoreObject>".to_owned(),
        ),
    ] {
        assert_eq!(operation(&operations), format!("<Operation>{inner}</Operation>"));
    }
}

#[test]
fn writes_published_and_unpublished_reports() {
    let place = ReportLocation { bucket: bucket(), prefix: ObjectKey::from("batch-reports/") };
    let (scope, format) = (ReportScope::AllTasks, ReportFormat::Oss);
    let report = ReportSpec { location: Some(place), scope, format, keep_local: true };
    assert_eq!(
        written(|to| write_report(&report, to)),
        "<Report><Enabled>true</Enabled><Bucket>my-bucket</Bucket><Prefix>batch-reports/</Prefix>\
         <ReportScope>AllTasks</ReportScope></Report>"
    );
    let report = ReportSpec { location: None, scope: ReportScope::FailedTasksOnly, format, keep_local: true };
    assert_eq!(
        written(|to| write_report(&report, to)),
        "<Report><Enabled>false</Enabled><ReportScope>FailedTasksOnly</ReportScope></Report>"
    );
}

#[test]
fn a_prefix_is_a_generator() {
    let source = ManifestSource::Prefix {
        on_unlistable: OnUnlistable::Fail,
        bucket: bucket(),
        prefix: ObjectKey::from("documents/2024/"),
        versions: ListedVersions::All,
    };
    assert_eq!(
        manifest(&source, Some(&SourcePin::Listing)),
        "<KeyPrefixManifestGenerator><SourceBucket>my-bucket</SourceBucket><Prefix>documents/2024/</Prefix>\
         </KeyPrefixManifestGenerator>"
    );
}

#[test]
fn a_csv_manifest_has_its_columns_and_the_etag_that_is_known() {
    let spec = "<Spec><Format>OSS_BatchOperations_CSV_20250611</Format><Fields>Bucket,Key,VersionId</Fields></Spec>";
    let fields = vec![CsvField::Bucket, CsvField::Key, CsvField::VersionId];
    let csv = |place| ManifestSource::Csv { location: place, fields: fields.clone(), plus_is_space: false };
    let object = |etag: Option<&str>| {
        csv(FileLocation::Object {
            bucket: bucket(),
            key: ObjectKey::from("manifest.csv"),
            etag: etag.map(str::to_owned),
        })
    };
    let expected = |etag: &str| {
        format!(
            "<Manifest><Location>{etag}<Bucket>my-bucket</Bucket><Object>manifest.csv</Object></Location>{spec}\
             </Manifest>"
        )
    };
    assert_eq!(manifest(&object(None), None), expected(""));
    assert_eq!(manifest(&object(Some("1466ca")), None), expected("<ETag>1466ca</ETag>"));
    let (key, sha256) = (ObjectKey::from("manifest.csv"), String::new());
    let pin = SourcePin::Object { bucket: bucket(), key, etag: "1466CA".into(), sha256 };
    assert_eq!(manifest(&object(None), Some(&pin)), expected("<ETag>1466CA</ETag>"));
    let pin = SourcePin::File { path: "folder/list.csv".into(), sha256: String::new(), stamp: None };
    assert_eq!(
        manifest(&csv(FileLocation::Local("folder/list.csv".into())), Some(&pin)),
        format!("<Manifest><Location><Object>folder/list.csv</Object></Location>{spec}</Manifest>")
    );
}

#[test]
fn writes_the_selected_inventory() {
    let inventory = |object, dialect| ManifestSource::Inventory { bucket: bucket(), selector: object, dialect };
    let expected = |location: &str, format: &str| {
        format!("<Manifest><Location>{location}</Location><Spec><Format>{format}</Format></Spec></Manifest>")
    };
    let exact = InventorySelector::Exact { key: ObjectKey::from("d/manifest.json"), etag: Some("495B".into()) };
    assert_eq!(
        manifest(&inventory(exact, InventoryDialect::Oss), None),
        expected(
            "<ETag>495B</ETag><Bucket>my-bucket</Bucket><Object>d/manifest.json</Object>",
            "OSS_InventoryReport_CSV_20250611"
        )
    );
    let latest = inventory(InventorySelector::Latest { prefix: ObjectKey::from("daily/") }, InventoryDialect::Aws);
    let format = "S3InventoryReport_CSV_20161130";
    assert_eq!(manifest(&latest, None), expected("<Bucket>my-bucket</Bucket><Latest>daily/</Latest>", format));
    let (key, created) = (ObjectKey::from("daily/7/manifest.json"), Some(Timestamp::UNIX_EPOCH));
    let pin = SourcePin::Inventory { bucket: bucket(), key, etag: "77".into(), created };
    assert_eq!(
        manifest(&latest, Some(&pin)),
        expected("<ETag>77</ETag><Bucket>my-bucket</Bucket><Object>daily/7/manifest.json</Object>", format)
    );
}

#[test]
fn an_indented_document_keeps_its_texts() {
    let mut document = Writer::new_with_indent(Vec::new(), b' ', 2);
    write_operation(&[Operation::PutAcl(ObjectAcl::Private), Operation::DeleteTagging(None)], &mut document)
        .expect("written");
    assert_eq!(
        String::from_utf8(document.into_inner()).expect("UTF-8"),
        "<Operation>\n  <PutObjectAcl>\n    <ObjectAcl>private</ObjectAcl>\n  </PutObjectAcl>\n  \
         <DeleteObjectTagging/>\n</Operation>"
    );
}

#[test]
fn replaces_characters_that_xml_cannot_represent() {
    let odd = "a<b>&amp;]]>\"'\t\n\r\u{85}é\u{1f600}";
    let tags: TagSet = [(odd, "\u{0}\u{1b}\u{fffe}x\u{ffff}")].into_iter().collect();
    let document = operation(&[Operation::PutTagging(tags)]);
    assert!(document.contains("<Key>a&lt;b&gt;&amp;amp;]]&gt;\"'\t\n&#13;\u{85}é\u{1f600}</Key>"), "{document}");
    let found = read_back(&document);
    let at = |name: &str| found.iter().find(|(path, _)| path.ends_with(name)).expect(name).1.clone();
    assert_eq!(at("Tag/Key"), odd);
    assert_eq!(at("Tag/Value"), "\u{fffd}\u{fffd}\u{fffd}x\u{fffd}");
    let prefix = ObjectKey::new(&b"\xff\0/"[..]);
    let source = ManifestSource::Prefix {
        bucket: bucket(),
        prefix,
        versions: ListedVersions::Current,
        on_unlistable: OnUnlistable::Fail,
    };
    assert!(manifest(&source, None).contains("<Prefix>\u{fffd}\u{fffd}/</Prefix>"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_back(text in any::<String>()) {
        let carried: String = text.chars().map(|c| if is_xml_char(c) { c } else { '\u{fffd}' }).collect();
        let document = written(|to| write_text("Key", &text, to));
        prop_assert_eq!(read_back(&document), vec![("Key".to_owned(), carried)]);
    }
}
