//! Clocks that are wrong, and credentials that are over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use batchplan_store::Store;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::FaultClass;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

use crate::server::{Act, Server, TAGS, answer, ask, ok, s3_as, stores};

fn an_hour_ahead() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(1)
}

/// A refusal of the clock, with the server's own time.
fn skewed(status: &str, body: &str) -> Act {
    let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&an_hour_ahead()).expect("a date");
    Act::Send(answer(status, &format!("Date: {date}\r\n"), body))
}

const REFUSAL: &str = "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>";

/// The time that a request was signed at.
fn signed_at(request: &str) -> Timestamp {
    let line = request.lines().find_map(|line| line.strip_prefix("x-amz-date: ").or(line.strip_prefix("x-oss-date: ")));
    let line = line.expect("a date").trim();
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", line).expect("a stamp");
    civil.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp()
}

#[tokio::test]
async fn a_clock_that_the_server_calls_wrong_is_put_right_for_the_next_attempt() {
    for n in 0..2 {
        let server = Server::playing([skewed("403 Forbidden", REFUSAL), ok(TAGS)]).await;
        let (name, store) = &stores(&server.endpoint())[n];
        let fault = ask(store, &ObjectRequest::GetTags).await.expect_err("a fault");
        assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Transient, "RequestTimeTooSkewed"), "{name}");
        assert!(ask(store, &ObjectRequest::GetTags).await.is_ok(), "{name}");
        let [first, second] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
        let apart = |at: Timestamp, from: Timestamp| at.duration_since(from).abs();
        assert!(apart(signed_at(first), Timestamp::now()) < SignedDuration::from_mins(2), "{name}");
        assert!(apart(signed_at(second), an_hour_ahead()) < SignedDuration::from_mins(2), "{name}");
    }
}

#[tokio::test]
async fn a_server_without_a_date_says_its_time_in_the_document() {
    for n in 0..2 {
        let time = format!("{:.3}", an_hour_ahead());
        let refusal = REFUSAL.replace("<Message>", &format!("<ServerTime>{time}</ServerTime><Message>"));
        let refused = Act::Send(answer("403 Forbidden", "", &refusal));
        let server = Server::playing([refused, ok(TAGS)]).await;
        let (name, store) = &stores(&server.endpoint())[n];
        let fault = ask(store, &ObjectRequest::GetTags).await.expect_err("a fault");
        assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Transient, "RequestTimeTooSkewed"), "{name}");
        assert!(ask(store, &ObjectRequest::GetTags).await.is_ok(), "{name}");
        let second = signed_at(&server.requests()[1]);
        assert!(second.duration_since(an_hour_ahead()).abs() < SignedDuration::from_mins(2), "{name}");
    }
}

#[tokio::test]
async fn an_answer_to_head_with_spent_credentials_is_a_matter_of_credentials() {
    let bare = || Act::Send(answer("400 Bad Request", "", ""));
    let expired = answer("400 Bad Request", "", "<Error><Code>ExpiredToken</Code></Error>");
    let server = Server::playing([bare(), Act::Send(expired)]).await;
    let keys = SharedCredentialsProvider::new(Keys { given: AtomicU32::new(0), last: 0 });
    let store: Arc<dyn Store> = Arc::new(s3_as(&server.endpoint(), keys));
    let fault = ask(&store, &ObjectRequest::Head).await.expect_err("a fault");
    assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Rejected, "BadRequest"), "it may be the object's");
    let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
    assert_eq!(fault.class, FaultClass::Credentials);
    // They are not signed with again.
    let fault = ask(&store, &ObjectRequest::Head).await.expect_err("a fault");
    assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Credentials, "NoCredentials"));
    assert_eq!(server.requests().len(), 2);
    // Others that have expired by this machine's clock.
    let server = Server::playing([bare()]).await;
    let until = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
    let expired = Credentials::new("key", "hushhush", Some("token".to_owned()), Some(until), "tests");
    let store: Arc<dyn Store> = Arc::new(s3_as(&server.endpoint(), SharedCredentialsProvider::new(expired)));
    let fault = ask(&store, &ObjectRequest::Head).await.expect_err("a fault");
    assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Credentials, "BadRequest"));
}

#[tokio::test]
async fn all_that_were_signed_at_the_wrong_time_are_worth_another_attempt() {
    for n in 0..2 {
        for (call, body) in [(ObjectRequest::GetTags, REFUSAL), (ObjectRequest::Head, "")] {
            let server = Server::playing(std::iter::repeat_n(skewed("403 Forbidden", body), 3)).await;
            let (name, store) = &stores(&server.endpoint())[n];
            // Each is signed as soon as it is polled, and none is answered before the last of them was.
            let (one, two, three) = tokio::join!(ask(store, &call), ask(store, &call), ask(store, &call));
            for refused in [one, two, three] {
                assert_eq!(refused.expect_err("a fault").class, FaultClass::Transient, "{name} {call:?}");
            }
            let apart = |request: &String| signed_at(request).duration_since(Timestamp::now()).abs();
            assert!(server.requests().iter().all(|request| apart(request) < SignedDuration::from_mins(2)), "{name}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_never_content_with_the_time_is_a_matter_of_credentials() {
    for n in 0..2 {
        let server = Server::playing(std::iter::repeat_n(skewed("403 Forbidden", REFUSAL), 2)).await;
        let (name, store) = &stores(&server.endpoint())[n];
        let first = ask(store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
        let second = ask(store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
        assert_eq!((first.class, second.class), (FaultClass::Transient, FaultClass::Credentials), "{name}");
    }
}

#[tokio::test]
async fn an_answer_to_head_tells_of_the_clock_by_its_date_alone() {
    for n in 0..2 {
        let server = Server::playing([skewed("403 Forbidden", ""), ok("")]).await;
        let (name, store) = &stores(&server.endpoint())[n];
        let fault = ask(store, &ObjectRequest::Head).await.expect_err("a fault");
        assert_eq!((fault.class, fault.status), (FaultClass::Transient, Some(403)), "{name}");
        assert!(ask(store, &ObjectRequest::Head).await.is_ok(), "{name}");
    }
}

/// Gives `key0`, `key1` ..., up to a last one that it gives for ever.
#[derive(Debug)]
struct Keys {
    given: AtomicU32,
    last: u32,
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let n = self.given.fetch_add(1, Ordering::Relaxed).min(self.last);
        let credentials = Credentials::new(format!("key{n}"), "hushhush", Some(format!("token{n}")), None, "tests");
        future::ProvideCredentials::ready(Ok::<_, CredentialsError>(credentials))
    }
}

#[tokio::test]
async fn a_token_that_expires_in_mid_run_is_renewed_and_the_next_attempt_signed_with_it() {
    for code in ["ExpiredToken", "InvalidAccessKeyId", "SecurityTokenExpired"] {
        let expired = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let refusal = Act::Send(answer("403 Forbidden", "", &expired));
        let server = Server::playing([ok(TAGS), refusal.clone(), ok(TAGS), refusal]).await;
        let keys = SharedCredentialsProvider::new(Keys { given: AtomicU32::new(0), last: 1 });
        let store: Arc<dyn Store> = Arc::new(s3_as(&server.endpoint(), keys));
        assert!(ask(&store, &ObjectRequest::GetTags).await.is_ok());
        let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
        assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Transient, code));
        assert!(ask(&store, &ObjectRequest::GetTags).await.is_ok());
        let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
        assert_eq!(fault.class, FaultClass::Credentials, "there are no others");
        let requests = server.requests();
        let signed_by = |n: usize, key: &str, token: &str| requests[n].contains(key) && requests[n].contains(token);
        assert!(signed_by(0, "Credential=key0/", "token0") && signed_by(1, "Credential=key0/", "token0"));
        assert!(signed_by(2, "Credential=key1/", "token1") && signed_by(3, "Credential=key1/", "token1"));
        assert!(!requests.concat().contains("hushhush"));
    }
}
