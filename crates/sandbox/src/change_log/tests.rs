//! Every change survives encoding and decoding, malformed bytes are rejected, and damage of a log is never guessed
//! away.

use super::*;

/// Returns one change of every kind, with all optional fields present.
fn one_of_each() -> Vec<StateChange> {
    let target = VersionRef { bucket: "b".into(), key: "k/é\n".into(), id: Some("v1".into()) };
    let tags: SharedTags = [("a".into(), "1".into())].into_iter().collect();
    let other = OwnerId::of_further_key("other");
    let everyone = Grantee::Group(GranteeGroup::AllUsers);
    let grants = StoredAcl::Grants(Box::new([
        AclGrant::new(everyone, AclPermission::ReadAcp),
        AclGrant::new(Grantee::Owner(other), AclPermission::FullControl),
    ]));
    let restore =
        StoredRestore { ready: UnixMillis(-5), expiry: UnixMillis(i64::MAX), days: 7, tier: RetrievalTier::Bulk };
    let headers = Some(Box::new(StoredHeaders(vec![("content-type".into(), "text/csv".into())])));
    let object = StoredObject {
        size: u64::MAX,
        etag: ETag { md5: *b"0123456789abcdef", parts: 10_000 },
        class: ObjectStorageClass::DeepArchive,
        access: SharedAccess::new(other, grants.clone()),
        tags: tags.clone(),
        body: ObjectBlob::Inline((*b"abc").into()),
        restore: Some(Box::new(restore)),
        headers: headers.clone(),
        details: None,
    };
    let part =
        UploadedPart { size: 300, md5: [1; 16], modified: UnixMillis(3), body: ObjectBlob::File(77), digest: None };
    let upload = PendingUpload {
        bucket: "b".into(),
        key: "k".into(),
        initiated: UnixMillis(4),
        initiator: OwnerId::ANONYMOUS,
        class: ObjectStorageClass::Glacier,
        access: SharedAccess::new(other, StoredAcl::Canned(CannedAcl::AuthenticatedRead)),
        tags: tags.clone(),
        headers,
        checksum: None,
        parts: [(1, part.clone()), (10_000, part.clone())].into(),
    };
    let version = StoredVersion { id: Some("v1".into()), modified: UnixMillis(2), object: Some(object) };
    let details = ContentDetails {
        checksum: Some(ObjectChecksum {
            algorithm: ChecksumAlgorithm::Crc32c,
            checksum_type: ChecksumType::Composite,
            digest: [1, 2, 3, 4].into(),
        }),
        parts: vec![
            ObjectPart { number: 1, size: 5, digest: Some([5; 4].into()) },
            ObjectPart { number: 10_000, size: u64::MAX, digest: None },
        ],
    };
    let rule = LifecycleRule {
        id: "r".into(),
        enabled: true,
        prefix: "logs/".into(),
        tags: tags.clone(),
        expiration_days: Some(30),
        transitions: vec![(7, ObjectStorageClass::StandardIa), (90, ObjectStorageClass::Glacier)],
    };
    vec![
        StateChange::CreateBucket { bucket: "b".into(), created: UnixMillis(1), owner: other },
        StateChange::SetVersioning { bucket: "b".into(), versioning: VersioningStatus::Enabled },
        StateChange::Put { bucket: "b".into(), key: target.key.clone(), version },
        StateChange::Put {
            bucket: "b".into(),
            key: "k".into(),
            version: StoredVersion { id: None, modified: UnixMillis(9), object: None },
        },
        StateChange::SetTags { target: target.clone(), tags },
        StateChange::SetAcl { target: target.clone(), acl: StoredAcl::Canned(CannedAcl::PublicReadWrite) },
        StateChange::SetRestore { target: target.clone(), restore },
        StateChange::Remove { target: target.clone() },
        StateChange::CreateUpload { id: "u".into(), upload },
        StateChange::PutPart { id: "u".into(), number: 2, part },
        StateChange::SetUploadChecksum {
            id: "u".into(),
            checksum: UploadChecksum { algorithm: ChecksumAlgorithm::Sha256, checksum_type: ChecksumType::Composite },
        },
        StateChange::SetPartDigest { id: "u".into(), number: 2, digest: [9; 32].into() },
        StateChange::DropUpload { id: "u".into() },
        StateChange::SetBucketAcl { bucket: "b".into(), acl: grants },
        StateChange::SetOwnership { bucket: "b".into(), ownership: ObjectOwnership::Enforced },
        StateChange::SetLifecycle { bucket: "b".into(), rules: vec![rule, LifecycleRule::default()] },
        StateChange::SetDetails { target, details },
        StateChange::SetLocation { bucket: "b".into(), location: "eu-west-1".into() },
        StateChange::DeleteBucket { bucket: "b".into() },
    ]
}

#[test]
fn every_change_comes_back_as_it_was() {
    for change in one_of_each() {
        let mut bytes = Vec::new();
        encode_change(&change, &mut bytes);
        assert_eq!(decode_change(&bytes), Ok(change));
    }
}

/// Logs of earlier releases must stay readable, so never edit these bytes.
#[test]
fn reads_records_of_earlier_formats() {
    let written: [(&str, StateChange); 5] = [
        ("010162 0100000000000000", {
            StateChange::CreateBucket { bucket: "b".into(), created: UnixMillis(1), owner: OwnerId::FIRST }
        }),
        ("06 0162 016b 00 03", {
            let target = VersionRef { bucket: "b".into(), key: "k".into(), id: None };
            StateChange::SetAcl { target, acl: StoredAcl::Canned(CannedAcl::AuthenticatedRead) }
        }),
        (
            "04 0162 016b 01027631 0200000000000000 01 03 07070707070707070707070707070707 00 06 01 \
             01 0161 0131 01 03616263 01 0500000000000000 0900000000000000 07 02 00",
            {
                let restore = StoredRestore {
                    ready: UnixMillis(5),
                    expiry: UnixMillis(9),
                    days: 7,
                    tier: RetrievalTier::Expedited,
                };
                let object = StoredObject {
                    size: 3,
                    etag: ETag::of_content([7; 16]),
                    class: ObjectStorageClass::DeepArchive,
                    access: SharedAccess::new(OwnerId::FIRST, StoredAcl::Canned(CannedAcl::PublicRead)),
                    tags: [("a".into(), "1".into())].into_iter().collect(),
                    body: ObjectBlob::Inline((*b"abc").into()),
                    restore: Some(Box::new(restore)),
                    headers: None,
                    details: None,
                };
                let version = StoredVersion { id: Some("v1".into()), modified: UnixMillis(2), object: Some(object) };
                StateChange::Put { bucket: "b".into(), key: "k".into(), version }
            },
        ),
        ("14 0162 016b 00 01 00 01 04 01020304 02 01 05 04 09090909 02 8002 00", {
            let target = VersionRef { bucket: "b".into(), key: "k".into(), id: None };
            let checksum = ObjectChecksum {
                algorithm: ChecksumAlgorithm::Crc32,
                checksum_type: ChecksumType::Composite,
                digest: [1, 2, 3, 4].into(),
            };
            let parts = vec![
                ObjectPart { number: 1, size: 5, digest: Some([9; 4].into()) },
                ObjectPart { number: 2, size: 256, digest: None },
            ];
            StateChange::SetDetails { target, details: ContentDetails { checksum: Some(checksum), parts } }
        }),
        ("16 0175 02 03 070707", { StateChange::SetPartDigest { id: "u".into(), number: 2, digest: [7; 3].into() } }),
    ];
    for (digits, change) in written {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        let mut again = Vec::new();
        encode_change(&change, &mut again);
        assert_eq!(again, bytes, "what one owner does is still readable by earlier releases");
        assert_eq!(decode_change(&bytes), Ok(change));
    }
}

#[test]
fn only_what_has_an_owner_can_be_owned() {
    let decoded = |change: &StateChange| {
        let mut bytes = vec![OWNED];
        bytes.extend_from_slice(OwnerId::ANONYMOUS.as_bytes());
        encode_change(change, &mut bytes);
        decode_change(&bytes)
    };
    assert_eq!(decoded(&StateChange::DeleteBucket { bucket: "b".into() }), Err(ChangeDecodeError));
    let owner = OwnerId::ANONYMOUS;
    let created = StateChange::CreateBucket { bucket: "b".into(), created: UnixMillis(1), owner: OwnerId::FIRST };
    let expected = StateChange::CreateBucket { bucket: "b".into(), created: UnixMillis(1), owner };
    assert_eq!(decoded(&created), Ok(expected));
}

#[test]
fn no_cut_and_no_flipped_bit_can_panic() {
    for change in one_of_each() {
        let mut bytes = Vec::new();
        encode_change(&change, &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(decode_change(&bytes[..end]), Err(ChangeDecodeError), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_change(&flipped);
        }
    }
}

fn written(changes: &[StateChange]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.log");
    let mut log = ChangeLog::replace(&path, &SandboxState::default()).unwrap();
    for change in changes {
        log.append(std::slice::from_ref(change)).unwrap();
    }
    (dir, path)
}

/// Returns changes that leave something behind: a bucket with an object.
fn some() -> Vec<StateChange> {
    one_of_each().into_iter().take(7).collect()
}

fn state_of(path: &Path) -> Vec<StateChange> {
    ChangeLog::open(path).unwrap_or_else(|error| panic!("{error:?}")).state.changes().collect()
}

#[test]
fn keeps_appended_changes_after_reopening() {
    let (_dir, path) = written(&some());
    let replayed = ChangeLog::open(&path).unwrap();
    assert_eq!(replayed.log.records, 7);
    let mut log = replayed.log;
    log.append(&one_of_each()[8..9]).unwrap();
    drop(log);
    let state = ChangeLog::open(&path).unwrap().state;
    assert_eq!(state.uploads.len(), 1);
    assert_eq!(state.buckets["b"].keys.len(), 2);
}

#[test]
fn a_torn_last_record_is_cut_off_wherever_it_tore() {
    let (_dir, path) = written(&some());
    let whole = fs::read(&path).unwrap();
    let (_shorter_dir, shorter) = written(&some()[..6]);
    let keep = fs::read(&shorter).unwrap().len();
    let expected = state_of(&shorter);
    for length in keep..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(state_of(&path), expected, "torn at {length}");
        assert_eq!(fs::metadata(&path).unwrap().len(), keep as u64);
    }
    let mut last_byte_lost = whole.clone();
    *last_byte_lost.last_mut().unwrap() ^= 1;
    fs::write(&path, &last_byte_lost).unwrap();
    assert_eq!(state_of(&path), expected);
}

#[test]
fn damage_before_the_end_is_an_error_and_never_a_guess() {
    let (_dir, path) = written(&some());
    let whole = fs::read(&path).unwrap();
    let (_shorter_dir, shorter) = written(&some()[..6]);
    let last = fs::read(&shorter).unwrap().len();
    for at in 0..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(ChangeLog::open(&path), Err(ChangeLogError::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn a_replaced_log_holds_the_state_and_nothing_else() {
    let (_dir, path) = written(&some());
    let before = ChangeLog::open(&path).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    ChangeLog::replace(&path, &before.state).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < length);
    assert_eq!(state_of(&path), before.state.changes().collect::<Vec<_>>());
}

#[cfg(unix)]
#[test]
fn links_are_neither_opened_nor_written_through() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().expect("a folder");
    let [victim, link] = ["victim", "link"].map(|name| folder.path().join(name));
    fs::write(&victim, "precious").expect("written");
    symlink(&victim, &link).expect("linked");
    for options in [OpenOptions::new().read(true), OpenOptions::new().create(true).write(true)] {
        let refused = open_regular(&link, options).expect_err("a link").to_string();
        assert!(refused.starts_with("it is a symbolic link"), "{refused}");
    }
    drop(create_replacing(&link).expect("created"));
    assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    assert!(!fs::symlink_metadata(&link).expect("it is there").is_symlink());
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_opened_and_a_pipe_does_not_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let refused = open_regular(&pipe, OpenOptions::new().read(true)).expect_err("a pipe").to_string();
    assert_eq!(refused, "it is not a regular file; remove it");
    assert!(open_regular(folder.path(), OpenOptions::new().read(true)).is_err());
}
