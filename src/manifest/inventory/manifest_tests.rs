use super::*;

const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

fn document(destination: &str, files: &str) -> String {
    format!(
        r#"{{"sourceBucket":"s","destinationBucket":"{destination}","version":"2016-11-30",
            "creationTimestamp":"1514944800000","fileFormat":"CSV","fileSchema":"Bucket, Key,Size","files":[{files}]}}"#
    )
}

fn parse(text: &str) -> Result<InventoryManifest, String> {
    InventoryManifest::parse(text.as_bytes(), "b/manifest.json").map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    parse(text).map(|_| ()).unwrap_err()
}

#[test]
fn both_dialects_are_read() {
    let aws =
        parse(&document("arn:aws:s3:::d", &format!(r#"{{"key":"../k","size":3,"MD5checksum":"{MD5}"}}"#))).unwrap();
    assert_eq!(aws.schema, ["Bucket", "Key", "Size"]);
    assert_eq!(aws.dialect(), Some(InventoryDialect::Aws));
    assert_eq!((aws.files[0].key.as_bytes(), aws.files[0].size), (&b"../k"[..], Some(3)));
    assert_eq!(aws.created, Some("2018-01-03T02:00:00Z".parse().unwrap()));
    assert!(aws.check_bucket(&BucketName::new("d"), "m").is_ok());
    assert!(
        aws.check_bucket(&BucketName::new("e"), "m").unwrap_err().to_string().contains("in the bucket d, not in e")
    );
    let oss = parse(&document("acs:oss:::d", &format!(r#"{{"Name":"k","Size":"3","MD5":"{MD5}","x":{{}}}}"#))).unwrap();
    assert_eq!(oss.dialect(), Some(InventoryDialect::Oss));
    assert_eq!(oss.files[0].size, Some(3));
    let bare = parse(&document("d", "")).unwrap();
    assert_eq!(bare.dialect(), None);
    assert!(bare.check_bucket(&BucketName::new("d"), "m").is_ok());
}

#[test]
fn a_time_is_read_in_either_unit() {
    assert_eq!(parse_creation_time("1514944800"), parse_creation_time("1514944800000"));
    assert_eq!(parse_creation_time("yesterday"), None);
}

#[test]
fn a_data_file_is_listed_once() {
    let file = |key: &str| format!(r#"{{"key":"{key}","MD5checksum":"{MD5}"}}"#);
    assert_eq!(parse(&document("d", &format!("{},{}", file("a"), file("b")))).unwrap().files.len(), 2);
    let twice = format!("{},{},{}", file("a"), file("b"), file("a"));
    assert!(refused(&document("d", &twice)).contains("lists the data file a twice"));
}

#[test]
fn other_formats_say_so() {
    let as_format = |format: &str| document("d", "").replace("\"CSV\"", &format!("\"{format}\""));
    assert!(refused(&as_format("Avro")).contains("Avro, but only CSV, Parquet and ORC"));
    assert_eq!(parse(&as_format("Parquet")).unwrap().format, InventoryFormat::Columnar(ColumnarFormat::Parquet));
    assert_eq!(parse(&as_format("ORC")).unwrap().format, InventoryFormat::Columnar(ColumnarFormat::Orc));
    assert_eq!(parse(&as_format("csv")).unwrap().format, InventoryFormat::Csv);
}

#[test]
fn hostile_documents_are_refused() {
    let file = |members: &str| refused(&document("d", members));
    assert!(file(&format!(r#"{{"key":"k","size":-1,"MD5checksum":"{MD5}"}}"#)).contains("not a number of bytes"));
    assert!(file(&format!(r#"{{"key":"k","size":1e300,"MD5checksum":"{MD5}"}}"#)).contains("an integer"));
    assert!(file(&format!(r#"{{"key":"k","Key":"l","MD5checksum":"{MD5}"}}"#)).contains("duplicate"));
    assert!(file(r#"{"key":"k","size":1}"#).contains("has no MD5"));
    assert!(file(r#"{"key":"k","MD5checksum":"&lol;"}"#).contains("32 hexadecimal"));
    assert!(file(&format!(r#"{{"size":1,"MD5checksum":"{MD5}"}}"#)).contains("no key"));
    assert!(file("7").contains("a data file"));
    assert!(refused(&document("d", "").replace("\"version\"", "\"sourceBucket\"")).contains("duplicate"));
    for text in ["", "{}", "[]", "null", "<!DOCTYPE x [<!ENTITY lol \"lol\">]>", "{\"files\":"] {
        assert!(refused(text).contains("not an inventory manifest"), "{text}");
    }
    assert!(refused(&"[".repeat(100_000)).contains("not an inventory manifest"));
}

#[test]
fn recognizes_dated_folders() {
    assert!(is_dated(b"2026-01-31T00-00Z/"));
    for name in ["data/", "hive/", "2026-01-31T00-00Z", "2026-01-31T00-00Zx", "2026-01-31T00:00Z/", "é"] {
        assert!(!is_dated(name.as_bytes()), "{name}");
    }
}
