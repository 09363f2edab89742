//! Checks OSS's own columns, in any number and order.

use batchplan_store::object::StorageClass;

use super::{OSS, exact, refused, store};
use crate::manifest::testing::{keys, objects};
use crate::manifest::{Filter, KeyGlobs};

/// OSS rows have no quotes, `True` and `False`, and the storage class after the size.
const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, StorageClass, LastModifiedDate, ETag, \
                      IsMultipartUploaded, EncryptionStatus, ObjectAcl, TaggingCount, ObjectType, Crc64";

const ROWS: &[u8] = b"\
b,a%2Fb%20c,CAEQ1,True,False,10,Standard,2026-01-01T00:00:00.000Z,5B3C1A2E053D763E1B002CC607C5A0FE,False,False,default,0,Normal,1\n\
b,%E6%96%87+1,CAEQ2,False,False,20,IA,2026-01-02T00:00:00.000Z,5B3C1A2E053D763E1B002CC607C5A0FF,True,False,private,2,Multipart,2\n\
b,gone,CAEQ3,True,True,,,2026-01-03T00:00:00.000Z,,,,,,,\n";

#[test]
fn all_columns_of_oss_are_read_in_its_own_order() {
    let (frozen, found) = objects(store(OSS, SCHEMA, &[ROWS]), exact(), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["a/b c", "文+1"]);
    let versions: Vec<_> = found.iter().map(|object| object.version.as_ref().unwrap().as_str()).collect();
    assert_eq!(versions, ["CAEQ1", "CAEQ2"]);
    assert_eq!((frozen.rows(), frozen.rows_read()), (2, 3));
    assert_eq!(frozen.warnings().len(), 1, "a raw + is taken as itself, and told");
    let filter = Filter {
        larger_than: Some(5),
        modified_after: Some("2025-12-31T00:00:00Z".parse().unwrap()),
        storage_class: Some(vec![StorageClass::new("Standard"), StorageClass::new("Archive")]),
        ..Filter::default()
    };
    let (_, found) = objects(store(OSS, SCHEMA, &[ROWS]), exact(), filter).unwrap();
    assert_eq!(keys(&found), ["a/b c"]);
}

/// Reads the same rows with their columns reversed and rotated by every distance.
#[test]
fn any_order_of_the_columns_is_honoured() {
    let names: Vec<&str> = SCHEMA.split(", ").collect();
    let lines: Vec<Vec<&str>> =
        std::str::from_utf8(ROWS).unwrap().lines().map(|line| line.split(',').collect()).collect();
    let filter = || Filter { smaller_than: Some(15), exclude: KeyGlobs::new([]).ok(), ..Filter::default() };
    for turn in 0..names.len() {
        let turned = |fields: &[&str]| {
            let mut fields = fields.to_vec();
            fields.rotate_left(turn);
            fields.reverse();
            fields.join(",")
        };
        let text: String = lines.iter().map(|line| turned(line) + "\r\n").collect();
        let stored = || store(OSS, &turned(&names), &[text.as_bytes()]);
        assert_eq!(keys(&objects(stored(), exact(), Filter::default()).unwrap().1), ["a/b c", "文+1"], "{turn}");
        assert_eq!(keys(&objects(stored(), exact(), filter()).unwrap().1), ["a/b c"], "{turn}");
    }
}

#[test]
fn ignores_unknown_columns_and_rejects_missing_ones() {
    let (_, found) = objects(store(OSS, "New, Key, Newer", &[b"x,k,\"y,z\"\n"]), exact(), Filter::default()).unwrap();
    assert_eq!((keys(&found), found[0].bucket.as_str()), (vec!["k".to_owned()], "src"));
    assert!(
        refused(store(OSS, "Bucket, Size, StorageClass", &[b"b,1,IA\n"])).contains("its fileSchema has no Key column")
    );
    assert!(refused(store(OSS, "", &[b"b\n"])).contains("its fileSchema has no Key column"));
}

#[test]
fn rejects_incremental_inventories() {
    let schema = "SequenceNumber, RecordType, RecordTimestamp, Bucket, Key";
    let error = refused(store(OSS, schema, &[b"1,Delete,0,b,k\n"]));
    assert!(error.contains("this is an incremental inventory, whose rows are changes"), "{error}");
}
