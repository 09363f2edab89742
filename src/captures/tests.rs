use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use batchplan_store::object::{AclGrant, AclGrantee, AclPolicy, ObjectAcl, TagSet, VersionId};
use batchplan_store::task::TaskId;
use proptest::prelude::*;

use super::block;
use super::file::{FileNumbers, log_path, read_log, sealed_name};
use super::writer::LogLimits;
use super::*;

const SMALL: LogLimits = LogLimits { captures: 7, bytes: 1 << 20 };

fn state(tags: &[(&str, &str)]) -> Arc<FormerState> {
    let tags = FormerValue::Known(tags.iter().copied().collect());
    Arc::new(FormerState { tags, acl: FormerValue::NotCaptured })
}

fn any_value<T: std::fmt::Debug + Clone>(known: impl Strategy<Value = T>) -> impl Strategy<Value = FormerValue<T>> {
    prop_oneof![
        1 => Just(FormerValue::NotCaptured),
        1 => Just(FormerValue::Unknown),
        4 => known.prop_map(FormerValue::Known),
    ]
}

fn any_policy() -> impl Strategy<Value = Arc<AclPolicy>> {
    let grantee = prop_oneof![
        any::<String>().prop_map(AclGrantee::User),
        any::<String>().prop_map(AclGrantee::Group),
        any::<String>().prop_map(AclGrantee::Email),
    ];
    let grant = (grantee, any::<String>()).prop_map(|(grantee, permission)| AclGrant { grantee, permission });
    let policy = (any::<String>(), prop::collection::vec(grant, 0..3));
    policy.prop_map(|(owner, grants)| Arc::new(AclPolicy { owner, grants }))
}

fn any_state() -> impl Strategy<Value = Arc<FormerState>> {
    let tags = prop::collection::btree_map(any::<String>(), any::<String>(), 0..3).prop_map(TagSet::from_iter);
    let acls = [ObjectAcl::Private, ObjectAcl::PublicRead, ObjectAcl::PublicReadWrite, ObjectAcl::Default];
    let acl = prop_oneof![
        4 => prop::sample::select(acls.to_vec()),
        1 => prop::option::of(any_policy()).prop_map(ObjectAcl::Custom),
    ];
    (any_value(tags), any_value(acl)).prop_map(|(tags, acl)| Arc::new(FormerState { tags, acl }))
}

prop_compose! {
    fn any_capture(rows: u32)(
        part in 0..3_u32,
        row in 0..rows,
        version in prop::option::of("[A-Za-z0-9._]{0,32}"),
        former in any_state(),
    ) -> Capture {
        Capture { row: TaskId { part, row }, version: version.as_deref().map(VersionId::new), former }
    }
}

fn any_groups() -> impl Strategy<Value = Vec<Vec<Capture>>> {
    prop::collection::vec(prop::collection::vec(any_capture(40), 0..6), 0..12)
}

/// What the captures of these groups are: the first one of each row.
fn expected(groups: &[Vec<Capture>]) -> BTreeMap<TaskId, Capture> {
    let mut first = BTreeMap::new();
    for capture in groups.iter().flatten() {
        first.entry(capture.row).or_insert_with(|| capture.clone());
    }
    first
}

fn read(folder: &Path) -> Result<Vec<Capture>, CaptureError> {
    CaptureReader::open(folder)?.iter().collect()
}

fn write(folder: &Path, limits: LogLimits, groups: &[Vec<Capture>]) {
    let mut writer = CaptureWriter::open_with(folder, limits).expect("opens");
    for group in groups {
        writer.append(group).expect("appends");
    }
}

proptest! {
    #[test]
    fn the_first_capture_of_each_row_is_read_in_order(groups in any_groups(), reopened in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("captures");
        if reopened {
            for group in &groups {
                write(&path, SMALL, std::slice::from_ref(group));
            }
        } else {
            write(&path, SMALL, &groups);
        }
        let model = expected(&groups);
        prop_assert_eq!(read(&path).expect("reads"), model.values().cloned().collect::<Vec<_>>());
        let reader = CaptureReader::open(&path).expect("opens");
        prop_assert_eq!(reader.is_empty(), model.is_empty());
        let mut lookup = reader.into_lookup();
        for part in 0..3 {
            for row in 0..41 {
                let task = TaskId { part, row };
                prop_assert_eq!(lookup.get(task).expect("finds"), model.get(&task).cloned());
            }
        }
    }

    #[test]
    fn a_log_that_a_crash_cut_off_has_the_groups_before(groups in any_groups(), cut: prop::sample::Index, more in any_groups()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let mut writer = CaptureWriter::open(path).expect("opens");
        let log = log_path(path, 0);
        let mut ends = Vec::new();
        for group in &groups {
            writer.append(group).expect("appends");
            ends.push(fs::metadata(&log).expect("a log").len());
        }
        drop(writer);
        let whole = fs::read(&log).expect("a log");
        let length = cut.index(whole.len() + 1);
        fs::write(&log, &whole[..length]).expect("writes");
        let kept = ends.iter().filter(|end| **end <= length as u64).count();
        let mut kept = groups[..kept].to_vec();
        prop_assert_eq!(read(path).expect("reads"), expected(&kept).into_values().collect::<Vec<_>>());
        write(path, SMALL, &more);
        kept.extend(more);
        prop_assert_eq!(read(path).expect("reads"), expected(&kept).into_values().collect::<Vec<_>>());
    }

    #[test]
    fn no_changed_byte_makes_another_capture(
        groups in prop::collection::vec(prop::collection::vec(any_capture(40), 1..6), 1..8),
        sealed in any::<bool>(),
        at: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        write(path, LogLimits { captures: if sealed { 1 } else { 1000 }, bytes: 1 << 20 }, &groups);
        let file = if sealed { path.join(sealed_name(0)) } else { log_path(path, 0) };
        let mut bytes = fs::read(&file).expect("a file");
        let index = at.index(bytes.len());
        bytes[index] ^= 1 << bit;
        fs::write(&file, bytes).expect("writes");
        match read(path) {
            Err(CaptureError::Damaged { .. } | CaptureError::NewerFormat { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
            // The changed group looks like one that was cut off.
            Ok(captures) => {
                prop_assert!(!sealed);
                let kept = expected(&groups[..groups.len() - 1]);
                prop_assert_eq!(captures, kept.into_values().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn junk_is_no_panic(bytes: Vec<u8>, count in 0..100_usize) {
        let _ = block::decode(&bytes, count);
        let folder = tempfile::tempdir().expect("a folder");
        let log = log_path(folder.path(), 0);
        fs::write(&log, &bytes).expect("writes");
        let _ = read_log(&log, 0);
    }

    #[test]
    fn a_state_is_read_as_it_was_written(state in any_state()) {
        let json = state.to_json().expect("JSON");
        prop_assert_eq!(FormerState::from_json(&json), Ok((*state).clone()));
    }
}

fn capture(row: u32, former: &Arc<FormerState>) -> Capture {
    Capture { row: TaskId { part: 0, row }, version: None, former: Arc::clone(former) }
}

#[test]
fn a_crash_while_a_log_is_sealed_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let (old, new) = (state(&[("a", "1")]), state(&[("a", "2")]));
    let limits = LogLimits { captures: 2, bytes: 1 << 20 };
    write(path, LogLimits { captures: 3, ..limits }, &[vec![capture(1, &old), capture(0, &old)]]);
    let log = fs::read(log_path(path, 0)).expect("a log");
    // Before the sealed file has its name.
    fs::write(path.join(format!("{}.draft", sealed_name(0))), b"half").expect("writes");
    assert_eq!(read(path).expect("reads"), [capture(0, &old), capture(1, &old)]);
    write(path, limits, &[vec![capture(0, &new), capture(7, &new)]]);
    // Before the log is removed.
    fs::write(log_path(path, 0), log).expect("writes");
    let all = [capture(0, &old), capture(1, &old), capture(7, &new)];
    assert_eq!(read(path).expect("reads"), all);
    write(path, limits, &[]);
    let numbers = FileNumbers::list(path).expect("lists");
    assert_eq!((numbers.sealed, numbers.logs, numbers.replaced), (vec![0, 1], vec![2], vec![]));
    assert_eq!(read(path).expect("reads"), all);
}

#[test]
fn damage_before_the_last_group_is_not_taken_for_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let old = state(&[("a", "1")]);
    write(path, SMALL, &[vec![capture(0, &old)], vec![capture(1, &old)]]);
    let log = log_path(path, 0);
    let mut bytes = fs::read(&log).expect("a log");
    bytes[30] ^= 1;
    fs::write(&log, bytes).expect("writes");
    let error = CaptureWriter::open(path).expect_err("damaged").to_string();
    assert!(error.ends_with("a block's header fails its checksum"), "{error}");
}

#[test]
fn a_sealed_file_that_is_cut_off_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let old = state(&[("a", "1")]);
    write(path, LogLimits { captures: 1, bytes: 1 << 20 }, &[vec![capture(0, &old)]]);
    let file = path.join(sealed_name(0));
    let whole = fs::read(&file).expect("a file");
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).expect("writes");
        assert!(matches!(read(path), Err(CaptureError::Damaged { .. })), "{length} bytes");
    }
}

#[test]
fn what_no_store_returns_is_not_appended() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = CaptureWriter::open(folder.path()).expect("opens");
    let long = Capture { version: Some(VersionId::new(&"v".repeat(1025))), ..capture(0, &state(&[])) };
    let error = writer.append(&[long]).expect_err("refused").to_string();
    assert!(error.ends_with("a version ID is longer than 1024 bytes"), "{error}");
    let huge = state(&[("a", &"x".repeat(600_000))]);
    let error = writer.append(&[capture(0, &huge)]).expect_err("refused").to_string();
    assert!(error.ends_with("a state is longer than 524288 bytes"), "{error}");
    assert!(read(folder.path()).expect("reads").is_empty());
}

/// `benches/captures.rs` measures ten million.
#[test]
fn captures_with_a_hundred_states_take_less_than_four_bytes_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let states: Vec<_> =
        (0..100).map(|number| state(&[("Team", &format!("team-{number}")), ("Tier", "gold")])).collect();
    let mut writer = CaptureWriter::open(folder.path()).expect("opens");
    let total = 300_000_u32;
    let mut order = fastrand::Rng::with_seed(7);
    for group in (0..total).collect::<Vec<_>>().chunks(1000) {
        let mut group = group.to_vec();
        order.shuffle(&mut group);
        let group: Vec<_> = group.iter().map(|row| capture(*row, &states[order.usize(..100)])).collect();
        writer.append(&group).expect("appends");
    }
    let files = fs::read_dir(folder.path()).expect("lists");
    let bytes: u64 = files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).sum();
    assert!(bytes < u64::from(total) * 4, "{bytes} bytes");
    let reader = CaptureReader::open(folder.path()).expect("opens");
    assert_eq!(reader.iter().map(|capture| capture.expect("reads").row.row).max(), Some(total - 1));
    assert_eq!(reader.iter().count(), total as usize);
}
