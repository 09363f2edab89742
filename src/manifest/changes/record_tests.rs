use proptest::prelude::*;

use super::*;

fn facts<'a>(etag: Option<&'a str>, class: Option<&'a str>, numbers: (Option<u64>, Option<i64>)) -> RowMetadata<'a> {
    let modified = numbers.1.map(|second| Timestamp::new(second, 5).unwrap());
    RowMetadata {
        size: numbers.0,
        modified,
        class,
        etag,
        acl: numbers.0.and_then(|size| ACLS.get((size % 7) as usize)).cloned(),
        origin: None,
    }
}

proptest! {
    #[test]
    fn rows_round_trip(
        key in proptest::collection::vec(any::<u8>(), 1..9),
        version in proptest::option::of("[a\0\u{1}é]{0,4}"),
        etag in proptest::option::of("[0-9a-f]{32}|[0-9A-F]{32}|[0-9a-zA-Z-]{0,40}"),
        class in proptest::option::of("[A-Z]{1,9}"),
        numbers in (any::<Option<u64>>(), proptest::option::of(-1_000_000_000_i64..4_000_000_000)),
    ) {
        let version = version.as_deref();
        let facts = facts(etag.as_deref(), class.as_deref(), numbers);
        let row = ManifestRow { bucket: "b", key: &key, version, metadata: facts.clone() };
        let mut record = Vec::new();
        encode(&row, ComparisonSide::Current, &mut record);
        let (name, rest) = split_name(&record).unwrap();
        let (name, told) = (name.to_vec(), decode_record(rest).unwrap());
        let object = decode_object(&name);
        let back = told.row(&object);
        prop_assert_eq!((back.bucket, back.key, back.version), ("b", key.as_slice(), version));
        prop_assert_eq!(back.metadata.etag, facts.etag);
        prop_assert_eq!(back.metadata.size, facts.size);
        prop_assert_eq!(back.metadata.modified, facts.modified);
        prop_assert_eq!(back.metadata.class, facts.class);
        prop_assert_eq!(back.metadata.acl, facts.acl);
        encode(&row, ComparisonSide::Unfinished, &mut record);
        prop_assert_eq!(split_name(&record).unwrap(), (name.as_slice(), &[ComparisonSide::Unfinished as u8][..]));
    }

    #[test]
    fn different_names_encode_differently(
        names in proptest::collection::vec(("[a\0\u{1}]{1,3}", proptest::option::of("[a\0\u{1}]{0,3}")), 2..6),
    ) {
        let mut records: Vec<_> = names.iter().flat_map(|(key, version)| {
            SIDES.map(|side| {
                let facts = facts(Some("\u{1}"), Some("\0"), (None, None));
                let mut record = Vec::new();
                encode(&ManifestRow { bucket: "b", key: key.as_bytes(), version: version.as_deref(), metadata: facts }, side, &mut record);
                record
            })
        }).collect();
        records.sort();
        records.dedup();
        let mut seen: Vec<_> = records.iter().map(|record| split_name(record).unwrap().0.to_vec()).collect();
        seen.dedup();
        let distinct: std::collections::BTreeSet<_> = names.into_iter().collect();
        prop_assert_eq!(seen.len(), distinct.len(), "records of one name stand together");
    }

    #[test]
    fn junk_is_no_record_and_no_panic(junk: Vec<u8>) {
        if let Some((_, rest)) = split_name(&junk) {
            let _ = decode_record(rest);
        }
    }
}

#[test]
fn etags_that_are_too_long_are_still_told_apart() {
    let long = |end: char| format!("{}{end}", "x".repeat(70_000));
    let state = |etag: &str| {
        let mut record = Vec::new();
        encode(
            &ManifestRow { bucket: "b", key: b"k", version: None, metadata: facts(Some(etag), None, (None, None)) },
            ComparisonSide::Current,
            &mut record,
        );
        assert!(record.len() < 200);
        decode_record(split_name(&record).unwrap().1).unwrap().state
    };
    assert_eq!(state(&long('a')), state(&long('a')));
    assert_ne!(state(&long('a')), state(&long('b')));
}
