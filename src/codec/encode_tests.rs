//! Compares rows with the shape of the documented examples, and with the csv crate as reader and as writer.

use batchplan_store::object::{BucketName, ObjectKey, VersionId};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn object(key: &[u8], version: Option<&str>) -> ObjectId {
    ObjectId { bucket: BucketName::new("media"), key: ObjectKey::new(key), version: version.map(VersionId::new) }
}

fn denied() -> TaskFailure {
    TaskFailure {
        operation: "put_object_tagging".to_owned(),
        error: StoreError {
            class: FaultClass::Rejected,
            status: Some(403),
            code: "AccessDenied".to_owned(),
            message: "The bucket's policy says \"no\".".to_owned(),
            request_id: "69A1B2C3D4".to_owned(),
            ec: "0003-00000001".to_owned(),
            endpoint: "PUT http://media.example.com/film/1.mp4?tagging".to_owned(),
            at: "2026-03-04T05:06:07.9Z".parse::<Timestamp>().unwrap(),
            retry_after: None,
            headers: batchplan_store::object_request::ObjectHeaderSet::default(),
        },
    }
}

fn row(format: ReportFormat, naming: OperationNaming, object: &ObjectId, outcome: &TaskOutcome) -> String {
    let mut bytes = Vec::new();
    ReportRowEncoder::new(format, naming).encode(object, outcome, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_oss_success_leaves_the_error_empty() {
    let outcome = TaskOutcome::Succeeded { status: 200 };
    let plain = row(ReportFormat::Oss, OperationNaming::Named, &object(b"film/a b+c.mp4", None), &outcome);
    assert_eq!(plain, "media,film%2Fa%20b%2Bc.mp4,,200,\n");
    let versioned = row(ReportFormat::Oss, OperationNaming::Implied, &object(b"1", Some("3/L4k+q")), &outcome);
    assert_eq!(versioned, "media,1,3/L4k+q,200,\n");
}

#[test]
fn an_oss_failure_carries_the_servers_words() {
    let text =
        row(ReportFormat::Oss, OperationNaming::Implied, &object(b"film/1.mp4", None), &TaskOutcome::Failed(denied()));
    let expected = concat!(
        r#"media,film%2F1.mp4,,403,"Error returned by Service. {""EC"":""0003-00000001"","#,
        r#"""Error Code"":""AccessDenied"",""Http Status Code"":403,"#,
        r#"""Message"":""The bucket's policy says \""no\""."","#,
        r#"""Request Endpoint"":""PUT http://media.example.com/film/1.mp4?tagging"","#,
        r#"""Request Id"":""69A1B2C3D4"",""Timestamp"":""2026-03-04T05:06:07Z""}""#,
        "\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_plan_with_several_operations_names_the_one_that_failed() {
    let oss = row(ReportFormat::Oss, OperationNaming::Named, &object(b"1", None), &TaskOutcome::Failed(denied()));
    assert!(oss.ends_with(",\"\"Operation\"\":\"\"put_object_tagging\"\"}\"\n"), "{oss}");
    let aws = row(ReportFormat::Aws, OperationNaming::Named, &object(b"1", None), &TaskOutcome::Failed(denied()));
    assert!(aws.ends_with(" (Operation: put_object_tagging; Request ID: 69A1B2C3D4)\"\n"), "{aws}");
    assert_eq!(OperationNaming::for_operations(1), OperationNaming::Implied);
    assert_eq!(OperationNaming::for_operations(2), OperationNaming::Named);
}

#[test]
fn without_an_answer_there_is_no_status() {
    let mut failure = denied();
    failure.error.status = None;
    failure.error.class = FaultClass::Ambiguous;
    let lost =
        row(ReportFormat::Oss, OperationNaming::Implied, &object(b"1", None), &TaskOutcome::Failed(failure.clone()));
    assert!(lost.starts_with("media,1,,,\"No answer from the service. {"), "{lost}");
    assert!(lost.contains("\"\"Http Status Code\"\":null,"), "{lost}");

    failure.error.class = FaultClass::Rejected;
    failure.error.request_id.clear();
    let refused =
        row(ReportFormat::Oss, OperationNaming::Implied, &object(b"1", None), &TaskOutcome::Failed(failure.clone()));
    assert!(refused.starts_with("media,1,,,\"Refused without an answer from the service. {"), "{refused}");

    failure.error.message = "too many tags".to_owned();
    let aws = row(ReportFormat::Aws, OperationNaming::Implied, &object(b"1", None), &TaskOutcome::Failed(failure));
    assert_eq!(aws, "media,1,,failed,,AccessDenied,too many tags\n");
}

#[test]
fn aws_rows_have_the_status_before_the_code() {
    let succeeded = TaskOutcome::Succeeded { status: 200 };
    let fine = row(ReportFormat::Aws, OperationNaming::Implied, &object(b"film/a b.mp4", Some("v1")), &succeeded);
    assert_eq!(fine, "media,film/a%20b.mp4,v1,succeeded,200,,Successful\n");
    let mut failure = denied();
    failure.error.message = "Access Denied".to_owned();
    let failed =
        row(ReportFormat::Aws, OperationNaming::Implied, &object(b"film/1.mp4", None), &TaskOutcome::Failed(failure));
    assert_eq!(failed, "media,film/1.mp4,,failed,403,AccessDenied,Access Denied (Request ID: 69A1B2C3D4)\n");
}

#[test]
fn a_message_cannot_break_a_row_in_two() {
    let mut failure = denied();
    failure.error.message = "one\r\ntwo\u{1b}[31m\u{0}".to_owned();
    for format in [ReportFormat::Oss, ReportFormat::Aws] {
        let text =
            row(format, OperationNaming::Named, &object(b"a\nb,\"c", None), &TaskOutcome::Failed(failure.clone()));
        assert_eq!(text.matches(['\n', '\r', '\u{1b}', '\0']).count(), 1, "{text:?}");
    }
}

/// Returns the columns of the only record in `text`.
fn columns(text: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), 1, "{text:?}");
    records[0].iter().map(str::to_owned).collect()
}

fn written_by_csv(columns: &[String]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns).unwrap();
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

prop_compose! {
    fn any_object()(
        bucket in "\\PC{0,12}",
        key in proptest::collection::vec(any::<u8>(), 1..40),
        version in proptest::option::of("[ -~]{1,20}"),
    ) -> ObjectId {
        ObjectId { bucket: BucketName::new(&bucket), key: ObjectKey::new(key), version: version.as_deref().map(VersionId::new) }
    }
}

prop_compose! {
    fn any_failure()(
        status in proptest::option::of(100_u16..=599),
        texts in proptest::array::uniform6(any::<String>()),
        second in -2_000_000_000_i64..4_000_000_000,
    ) -> TaskOutcome {
        let [operation, code, message, request_id, ec, endpoint] = texts;
        let at = Timestamp::from_second(second).unwrap();
        let class = FaultClass::Ambiguous;
        TaskOutcome::Failed(TaskFailure {
            operation,
            error: StoreError { class, status, code, message, request_id, ec, endpoint, at, retry_after: None, headers: batchplan_store::object_request::ObjectHeaderSet::default() },
        })
    }
}

fn any_outcome() -> impl Strategy<Value = TaskOutcome> {
    prop_oneof![(100_u16..=599).prop_map(|status| TaskOutcome::Succeeded { status }), any_failure()]
}

proptest! {
    #[test]
    fn an_oss_row_is_read_back_into_its_columns(object in any_object(), outcome in any_outcome()) {
        let text = row(ReportFormat::Oss, OperationNaming::Named, &object, &outcome);
        let read = columns(&text);
        prop_assert_eq!(read.len(), 5);
        prop_assert_eq!(&read[0], object.bucket.as_str());
        prop_assert_eq!(ObjectKey::decode(read[1].as_bytes()), object.key);
        prop_assert_eq!(&read[2], object.version.as_ref().map_or("", VersionId::as_str));
        match &outcome {
            TaskOutcome::Succeeded { status } => {
                prop_assert_eq!(&read[3], &status.to_string());
                prop_assert_eq!(&read[4], "");
            }
            TaskOutcome::Failed(TaskFailure { operation, error }) => {
                prop_assert_eq!(&read[3], &error.status.map_or(String::new(), |status| status.to_string()));
                let json: Value = serde_json::from_str(&read[4][read[4].find('{').unwrap()..]).unwrap();
                prop_assert_eq!(&json["EC"], &error.ec);
                prop_assert_eq!(&json["Error Code"], &error.code);
                prop_assert_eq!(&json["Http Status Code"], &Value::from(error.status));
                prop_assert_eq!(&json["Message"], &error.message);
                prop_assert_eq!(&json["Request Endpoint"], &error.endpoint);
                prop_assert_eq!(&json["Request Id"], &error.request_id);
                prop_assert_eq!(json["Timestamp"].as_str().unwrap().parse::<Timestamp>().unwrap(), error.at);
                prop_assert_eq!(&json["Operation"], operation);
            }
        }
        prop_assert_eq!(written_by_csv(&read), text);
    }

    #[test]
    fn an_aws_row_is_read_back_into_its_columns(object in any_object(), outcome in any_outcome()) {
        let text = row(ReportFormat::Aws, OperationNaming::Implied, &object, &outcome);
        let read = columns(&text);
        prop_assert_eq!(read.len(), 7);
        prop_assert_eq!(ObjectKey::decode(read[1].as_bytes()), object.key);
        match &outcome {
            TaskOutcome::Succeeded { status } => {
                prop_assert_eq!(&read[3..], ["succeeded", &status.to_string(), "", "Successful"]);
            }
            TaskOutcome::Failed(TaskFailure { error, .. }) => {
                let status = error.status.map_or(String::new(), |status| status.to_string());
                let code: String = error.code.chars().map(|c| if affects_terminal(c) { ' ' } else { c }).collect();
                prop_assert_eq!(&read[3..6], ["failed", &status, &code]);
            }
        }
        prop_assert_eq!(written_by_csv(&read), text);
    }
}
