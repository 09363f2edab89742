//! Uploads by forms, as browsers send them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};
use batchplan_store::hex::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use crate::fixture::{BUCKET, Fixture, exchange, run};

const FILE: (&str, &str) = ("C:\\docs\\report.txt", "the content of ${filename}");

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Posts a form with these fields, whose signed policy has these conditions besides those of the signature.
/// Returns the whole answer.
fn post(it: &Fixture, fields: &[(&str, &str)], conditions: &str, expires: Option<&str>) -> String {
    let now = Timestamp::now();
    let (day, time) = (now.strftime("%Y%m%d").to_string(), now.strftime("%Y%m%dT%H%M%SZ").to_string());
    let credential = format!("{ACCESS_KEY}/{day}/us-east-1/s3/aws4_request");
    let later = (now + SignedDuration::from_hours(1)).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
    let policy = format!(
        "{{\"expiration\": \"{}\", \"conditions\": [{conditions}{{\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"}}, \
         {{\"x-amz-credential\": \"{credential}\"}}, {{\"x-amz-date\": \"{time}\"}}]}}",
        expires.unwrap_or(&later)
    );
    let policy = STANDARD.encode(policy);
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [day.as_str(), "us-east-1", "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &policy));
    let signed = [
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", &credential),
        ("x-amz-date", &time),
        ("policy", &policy),
        ("x-amz-signature", &signature),
    ];
    let mut form = String::new();
    for (name, value) in fields.iter().chain(&signed) {
        write!(form, "--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").unwrap();
    }
    let (name, content) = FILE;
    write!(
        form,
        "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--edge--\r\n"
    )
    .unwrap();
    let head = format!(
        "POST /{BUCKET} HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=edge\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        it.server.address(),
        form.len()
    );
    exchange(&it.server.endpoint(), &(head + &form))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
}

#[test]
fn a_form_names_its_object_after_the_file_and_has_its_headers() {
    run(|it| async move {
        let fields = [
            ("key", "in/${filename}"),
            ("Content-Type", "text/plain"),
            ("x-amz-meta-Origin", "from ${filename}"),
            ("Cache-Control", "no-cache"),
            ("success_action_redirect", "http://localhost/done?a=1"),
        ];
        let conditions = "[\"starts-with\", \"$key\", \"in/report\"], [\"starts-with\", \"$Content-Type\", \"text/\"], \
                          [\"starts-with\", \"$x-amz-meta-origin\", \"from report\"], {\"cache-control\": \"no-cache\"}, \
                          [\"starts-with\", \"$success_action_redirect\", \"\"], ";
        let answer = post(&it, &fields, conditions, None);
        assert_eq!(status(&answer), 303, "{answer}");
        let object = it.client.get_object().bucket(BUCKET).key("in/report.txt").send().await.unwrap();
        assert_eq!((object.content_type(), object.cache_control()), (Some("text/plain"), Some("no-cache")));
        assert_eq!(object.metadata().unwrap()["origin"], "from report.txt");
        let etag = object.e_tag().unwrap().replace('"', "%22");
        let location =
            format!("location: http://localhost/done?a=1&bucket={BUCKET}&key=in%2Freport.txt&etag={etag}\r\n");
        assert!(answer.contains(&location), "{answer}\n{location}");
        let content = object.body.collect().await.unwrap().into_bytes();
        assert_eq!(content, FILE.1.as_bytes(), "the file itself has no variables");

        // Without a type in the form, the object does not get that of the form.
        assert_eq!(status(&post(&it, &[("key", "plain")], "{\"key\": \"plain\"}, ", None)), 204);
        let plain = it.client.head_object().bucket(BUCKET).key("plain").send().await.unwrap();
        assert!(plain.content_type().is_none_or(|kind| !kind.contains("form-data")), "{plain:?}");
    });
}

#[test]
fn a_policy_that_is_not_met_denies_access() {
    run(|it| async move {
        for (fields, conditions) in [
            (&[("key", "a")][..], "{\"key\": \"b\"}, "),
            (&[("key", "a")], "[\"starts-with\", \"$key\", \"in/\"], "),
            (&[("key", "a")], "{\"key\": \"a\"}, {\"bucket\": \"other-bucket\"}, "),
            (&[("key", "a"), ("bucket", "other-bucket")], "{\"key\": \"a\"}, {\"bucket\": \"other-bucket\"}, "),
            (&[("key", "a")], "{\"key\": \"a\"}, {\"x-amz-meta-a\": \"1\"}, "),
            (&[("key", "a"), ("x-amz-meta-a", "1")], "{\"key\": \"a\"}, "),
        ] {
            let answer = post(&it, fields, conditions, None);
            assert_eq!(status(&answer), 403, "{conditions}: {answer}");
            assert!(answer.contains("<Code>AccessDenied</Code>"), "{conditions}: {answer}");
        }
        let answer = post(&it, &[("key", "a")], "{\"key\": \"a\"}, ", Some("2999-01-31 12:00:00+00:00"));
        assert_eq!(status(&answer), 400, "{answer}");
        assert!(answer.contains("<Code>InvalidPolicyDocument</Code>"), "{answer}");
        let unsigned = "--edge\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\n\
                        --edge\r\nContent-Disposition: form-data; name=\"policy\"\r\n\r\ne30=\r\n\
                        --edge\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n1\r\n--edge--\r\n";
        let head = format!(
            "POST /{BUCKET} HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=edge\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            unsigned.len()
        );
        let answer = exchange(&it.server.endpoint(), &(head + unsigned));
        assert!(answer.contains("<Code>InvalidArgument</Code>"), "{answer}");
        let long = "a".repeat(30 << 10);
        let answer = post(&it, &[("key", "a"), ("x-ignore-it", &long)], "{\"key\": \"a\"}, ", None);
        assert!(answer.contains("<Code>MaxPostPreDataLengthExceededError</Code>"), "{answer}");
        assert!(it.client.head_object().bucket(BUCKET).key("a").send().await.is_err());
    });
}
