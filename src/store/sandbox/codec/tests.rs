//! Every change survives encoding and decoding, and malformed bytes are rejected.

use super::*;

/// Returns one change of every kind, with all optional fields present.
pub(in crate::store::sandbox) fn one_of_each() -> Vec<Change> {
    let place = Place { bucket: "b".into(), key: "k/é\n".into(), id: Some("v1".into()) };
    let tags: TagsRef = [("a".into(), "1".into())].into_iter().collect();
    let restore = Restore { ready: Millis(-5), expiry: Millis(i64::MAX), days: 7, tier: Tier::Bulk };
    let headers = Some(Box::new(Headers(vec![("content-type".into(), "text/csv".into())])));
    let object = Object {
        size: u64::MAX,
        etag: ETag { md5: *b"0123456789abcdef", parts: 10_000 },
        class: Class::DeepArchive,
        acl: Acl::PublicRead,
        tags: tags.clone(),
        body: Body::Inline((*b"abc").into()),
        restore: Some(Box::new(restore)),
        headers: headers.clone(),
    };
    let part = Part { size: 300, md5: [1; 16], modified: Millis(3), body: Body::File(77) };
    let upload = Upload {
        bucket: "b".into(),
        key: "k".into(),
        initiated: Millis(4),
        class: Class::Glacier,
        acl: Acl::AuthenticatedRead,
        tags: tags.clone(),
        headers,
        parts: [(1, part.clone()), (10_000, part.clone())].into(),
    };
    let version = Version { id: Some("v1".into()), modified: Millis(2), object: Some(object) };
    let rule = LifecycleRule {
        id: "r".into(),
        enabled: true,
        prefix: "logs/".into(),
        tags: tags.clone(),
        expires: Some(30),
        moves: vec![(7, Class::StandardIa), (90, Class::Glacier)],
    };
    vec![
        Change::CreateBucket { bucket: "b".into(), created: Millis(1) },
        Change::SetVersioning { bucket: "b".into(), versioning: Versioning::Enabled },
        Change::Put { bucket: "b".into(), key: place.key.clone(), version },
        Change::Put {
            bucket: "b".into(),
            key: "k".into(),
            version: Version { id: None, modified: Millis(9), object: None },
        },
        Change::SetTags { place: place.clone(), tags },
        Change::SetAcl { place: place.clone(), acl: Acl::PublicReadWrite },
        Change::SetRestore { place: place.clone(), restore },
        Change::Remove { place },
        Change::CreateUpload { id: "u".into(), upload },
        Change::PutPart { id: "u".into(), number: 2, part },
        Change::DropUpload { id: "u".into() },
        Change::SetBucketAcl { bucket: "b".into(), acl: Acl::Default },
        Change::SetOwnership { bucket: "b".into(), ownership: Ownership::Enforced },
        Change::SetLifecycle { bucket: "b".into(), rules: vec![rule, LifecycleRule::default()] },
        Change::DeleteBucket { bucket: "b".into() },
    ]
}

#[test]
fn every_change_comes_back_as_it_was() {
    for change in one_of_each() {
        let mut bytes = Vec::new();
        encode(&change, &mut bytes);
        assert_eq!(decode(&bytes), Ok(change));
    }
}

/// Logs of earlier releases must stay readable, so never edit these bytes.
#[test]
fn what_was_written_before_is_read_as_it_was_meant() {
    let written: [(&str, Change); 3] = [
        ("010162 0100000000000000", Change::CreateBucket { bucket: "b".into(), created: Millis(1) }),
        ("06 0162 016b 00 03", {
            let place = Place { bucket: "b".into(), key: "k".into(), id: None };
            Change::SetAcl { place, acl: Acl::AuthenticatedRead }
        }),
        (
            "04 0162 016b 01027631 0200000000000000 01 03 07070707070707070707070707070707 00 06 01 \
             01 0161 0131 01 03616263 01 0500000000000000 0900000000000000 07 02 00",
            {
                let restore = Restore { ready: Millis(5), expiry: Millis(9), days: 7, tier: Tier::Expedited };
                let object = Object {
                    size: 3,
                    etag: ETag { md5: [7; 16], parts: 0 },
                    class: Class::DeepArchive,
                    acl: Acl::PublicRead,
                    tags: [("a".into(), "1".into())].into_iter().collect(),
                    body: Body::Inline((*b"abc").into()),
                    restore: Some(Box::new(restore)),
                    headers: None,
                };
                let version = Version { id: Some("v1".into()), modified: Millis(2), object: Some(object) };
                Change::Put { bucket: "b".into(), key: "k".into(), version }
            },
        ),
    ];
    for (digits, change) in written {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        assert_eq!(decode(&bytes), Ok(change));
    }
}

#[test]
fn no_cut_and_no_flipped_bit_can_panic() {
    for change in one_of_each() {
        let mut bytes = Vec::new();
        encode(&change, &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(Malformed), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&flipped);
        }
    }
}
