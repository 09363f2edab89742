//! Decodes rows from the services' documentation, rows written by batchplan, and invalid rows.

use batchplan_store::object::{BucketName, ObjectId, ObjectKey, VersionId};
use batchplan_store::task::{FaultClass, StoreError, TaskFailure, TaskOutcome};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::codec::{OperationNaming, ReportRowEncoder};

/// A decoded row that owns its text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    object: ObjectId,
    task: TaskStatus,
    status: Option<u16>,
    code: Option<String>,
}

fn decode(format: ReportFormat, columns: &[impl AsRef<str>]) -> Result<Told, String> {
    let mut decoder = ReportRowDecoder { key: b"left over".to_vec() };
    let row = decoder.decode(format, columns.len(), |at| columns[at].as_ref())?;
    Ok(Told {
        object: ObjectId {
            bucket: BucketName::new(row.bucket),
            key: ObjectKey::new(row.key),
            version: row.version.map(VersionId::new),
        },
        task: row.task,
        status: row.status,
        code: row.error_code().map(Cow::into_owned),
    })
}

/// Returns the columns of the only record in `text`.
fn columns(text: &[u8]) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text);
    let record = reader.records().next().unwrap().unwrap();
    record.iter().map(str::to_owned).collect()
}

fn read(format: ReportFormat, text: &str) -> Result<Told, String> {
    decode(format, &columns(text.as_bytes()))
}

#[test]
fn the_references_own_rows_are_read() {
    let row = concat!(
        r#"test-bucket,batchOperation%2F1761896253%2Fobject-0.txt,,403,"Error returned by Service. "#,
        r#"{""EC"":""0003-00000001"",""Error Code"":""AccessDenied"",""Http Status Code"":403,"#,
        r#"""Message"":""You have no right to access this object."",""Request Id"":""690467520D9F2E3232004FFD""}""#,
    );
    let told = read(ReportFormat::Oss, row).unwrap();
    assert_eq!((told.task, told.status, told.code.as_deref()), (TaskStatus::Failed, Some(403), Some("AccessDenied")));
    assert_eq!(told.object.key, ObjectKey::from("batchOperation/1761896253/object-0.txt"));
    let told = read(ReportFormat::Oss, "test-bucket,a+b,v%2B,200,").unwrap();
    assert_eq!((told.task, told.status, told.code), (TaskStatus::Succeeded, Some(200), None));
    assert_eq!(told.object.key, ObjectKey::from("a+b"));
    assert_eq!(told.object.version, Some(VersionId::new("v%2B")));
}

#[test]
fn an_oss_row_has_failed_when_either_column_says_so() {
    let task = |row: &str| read(ReportFormat::Oss, row).unwrap().task;
    assert_eq!(task("b,k,,204,"), TaskStatus::Succeeded);
    for row in ["b,k,,200,Error", "b,k,,304,", "b,k,,503,", "b,k,,,", "b,k,,,No answer from the service. {}"] {
        assert_eq!(task(row), TaskStatus::Failed, "{row}");
    }
}

#[test]
fn an_oss_error_need_not_have_a_code() {
    let code = |error: &str| decode(ReportFormat::Oss, &["b", "k", "", "403", error]).unwrap().code;
    assert_eq!(code(r#"{"Error Code":"A\"B"}"#).as_deref(), Some("A\"B"));
    assert_eq!(code(r#"{"Error Code":"A"} after 3 attempts"#).as_deref(), Some("A"));
    let nested = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let odd = ["broken", "{", r#"{"Error Code":7}"#, r#"{"EC":"x"}"#, r#"{"Error Code":""}"#, nested.as_str()];
    for error in odd {
        assert_eq!(code(error), None, "{error}");
    }
}

#[test]
fn an_aws_row_says_itself_which_column_is_the_status() {
    let rows = [
        ("b,k,v,failed,403,AccessDenied,Access Denied (x)", Some(403), Some("AccessDenied")),
        ("b,k,v,failed,AccessDenied,403,Access Denied (x)", Some(403), Some("AccessDenied")),
        ("b,k,,failed,503,500,m", Some(503), Some("500")),
        ("b,k,,failed,200,PermanentFailure,", Some(200), Some("PermanentFailure")),
        ("b,k,,failed,,SlowDown,", None, Some("SlowDown")),
        ("b,k,,failed,SlowDown,,", None, Some("SlowDown")),
        ("b,k,,failed,,404,", Some(404), None),
        ("b,k,,FAILED,,,", None, None),
    ];
    for (row, status, code) in rows {
        let told = read(ReportFormat::Aws, row).unwrap();
        assert_eq!((told.task, told.status, told.code.as_deref()), (TaskStatus::Failed, status, code), "{row}");
    }
    let told = read(ReportFormat::Aws, "b,photos/a%20b,,succeeded,200,,Successful").unwrap();
    assert_eq!((told.task, told.object.key), (TaskStatus::Succeeded, ObjectKey::from("photos/a b")));
}

#[test]
fn rejects_rows_of_other_files() {
    let refused = |format, row: &str| read(format, row).unwrap_err();
    assert_eq!(refused(ReportFormat::Oss, "b,k,"), "expected 5 columns, found 3");
    assert_eq!(refused(ReportFormat::Aws, "b,k,,200,"), "expected 7 columns, found 5");
    let header = refused(ReportFormat::Oss, "Bucket,Key,VersionId,HTTPStatus,Error");
    assert_eq!(header, "its HTTPStatus is `HTTPStatus`, not a three-digit number");
    for status in ["2000", "+20", "20", "099", "2e2", "\u{0662}0"] {
        assert!(refused(ReportFormat::Oss, &format!("b,k,,{status},")).contains("HTTPStatus"), "{status}");
    }
    assert!(refused(ReportFormat::Oss, "b,a%zz,,200,").contains("`%zz` is not a valid escape"));
    let done = refused(ReportFormat::Aws, &format!("b,k,,\u{1b}{},403,x,y", "x".repeat(99)));
    assert!(done.starts_with("its TaskStatus is `\\u{1b}xxx") && done.contains("x…`"), "{done}");
    assert_eq!(refused(ReportFormat::Aws, "b,k,,failed,a,b,c"), "neither `a` nor `b` is an HTTP status");
}

#[test]
fn column_count_gives_the_format() {
    for format in [ReportFormat::Oss, ReportFormat::Aws] {
        assert_eq!(format_for_column_count(column_count(format)), Some(format));
    }
    assert_eq!(format_for_column_count(2), None);
}

prop_compose! {
    fn any_object()(
        bucket in "[a-z0-9.-]{1,12}",
        key in proptest::collection::vec(any::<u8>(), 1..40),
        version in proptest::option::of("[ -~]{1,20}"),
    ) -> ObjectId {
        ObjectId { bucket: BucketName::new(&bucket), key: ObjectKey::new(key), version: version.as_deref().map(VersionId::new) }
    }
}

prop_compose! {
    fn any_failure()(
        status in proptest::option::of(100_u16..=599),
        code in prop_oneof![Just("AccessDenied".to_owned()), "[a-z]{0,4}", any::<String>()],
        texts in proptest::array::uniform5(any::<String>()),
    ) -> TaskOutcome {
        let [operation, message, request_id, ec, endpoint] = texts;
        let (class, at) = (FaultClass::Ambiguous, Timestamp::UNIX_EPOCH);
        TaskOutcome::Failed(TaskFailure { operation, error: StoreError { class, status, code, message, request_id, ec, endpoint, at, retry_after: None, headers: batchplan_store::object_request::ObjectHeaderSet::default() } })
    }
}

fn any_outcome() -> impl Strategy<Value = TaskOutcome> {
    prop_oneof![(200_u16..300).prop_map(|status| TaskOutcome::Succeeded { status }), any_failure()]
}

fn expected(format: ReportFormat, object: ObjectId, outcome: &TaskOutcome) -> Told {
    let task = TaskStatus::of(outcome);
    match outcome {
        TaskOutcome::Succeeded { status } => Told { object, task, status: Some(*status), code: None },
        TaskOutcome::Failed(TaskFailure { error: fault, .. }) => {
            let plain = |c| if affects_terminal(c) { ' ' } else { c };
            let code = match format {
                ReportFormat::Oss => fault.code.clone(),
                ReportFormat::Aws => fault.code.chars().map(plain).collect(),
            };
            Told { object, task, status: fault.status, code: Some(code).filter(|code| !code.is_empty()) }
        }
    }
}

proptest! {
    #[test]
    fn what_the_encoder_writes_is_read_back(
        aws in any::<bool>(),
        named in any::<bool>(),
        object in any_object(),
        outcome in any_outcome(),
    ) {
        let format = if aws { ReportFormat::Aws } else { ReportFormat::Oss };
        let naming = if named { OperationNaming::Named } else { OperationNaming::Implied };
        let mut text = Vec::new();
        ReportRowEncoder::new(format, naming).encode(&object, &outcome, &mut text).unwrap();
        let expected = expected(format, object, &outcome);
        // In AWS's format, a three-digit error code without a status is read as the status.
        prop_assume!(expected.status.is_some() || expected.code.as_deref().is_none_or(|code| parse_http_status(code).is_none()));
        prop_assert_eq!(decode(format, &columns(&text)), Ok(expected));
    }

    #[test]
    fn any_columns_are_no_panic(aws in any::<bool>(), columns in proptest::collection::vec(any::<String>(), 0..9)) {
        let _ = decode(if aws { ReportFormat::Aws } else { ReportFormat::Oss }, &columns);
    }
}
