//! Servers that take their time for ever.

use std::time::Duration;

use batchplan_store::object::ObjectKey;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::FaultClass;
use batchplan_store::{ListRequest, ObjectContent, Store};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::server::{Act, Server, TAGS, answer, ask, object, ok, oss, stores};

/// Whoever gives a request up gives its connection up: the engine does so after half a minute.
#[tokio::test]
async fn a_request_that_is_given_up_takes_its_connection_along() {
    let whole = answer("200 OK", "", TAGS);
    for sent in [0, 10, whole.len() - 5] {
        for n in 0..2 {
            let server = Server::playing([Act::SendAndFallSilent(whole[..sent].to_vec()), ok(TAGS)]).await;
            let (name, store) = &stores(&server.endpoint())[n];
            let id = object();
            let given_up = tokio::select! {
                answered = store.send_request(&id, &ObjectRequest::GetTags) => answered.is_ok(),
                () = async {
                    while server.requests().is_empty() {
                        tokio::task::yield_now().await;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                } => false,
            };
            assert!(!given_up, "{name} {sent}");
            server.has_been_left(1).await;
            assert!(ask(store, &ObjectRequest::GetTags).await.is_ok(), "{name} {sent}");
            assert_eq!(server.connections(), 2, "{name} {sent}");
        }
    }
}

/// Time is a test's own here: it passes when nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn what_nobody_else_bounds_is_bounded_by_the_store() {
    let silent = || Act::SendAndFallSilent(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec());
    let server = Server::playing([silent(), silent(), silent(), silent()]).await;
    let store = oss(&server.endpoint());
    let id = object();
    let request = ListRequest {
        bucket: id.bucket.clone(),
        prefix: ObjectKey::from(""),
        all_versions: false,
        group_by_directory: false,
        from: None,
    };
    let listed = store.list(&request).await.map(|page| page.entries.len());
    assert_eq!(listed.map_err(|fault| (fault.class, fault.code)), late());
    let content = ObjectContent::Bytes(Bytes::from_static(b"x"));
    let written = store.write(&id.bucket, &id.key, content, "ndTkYSaMgDT1yFZOFVxnpg==").await.map(|()| 0);
    assert_eq!(written.map_err(|fault| (fault.class, fault.code)), late());
    let mut opened = store.read(&id.bucket, &id.key, None).await.expect("a head");
    let error = opened.body.read_to_end(&mut Vec::new()).await.expect_err("an end");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("sent nothing for 60 s"), "{error}");
}

fn late() -> Result<usize, (FaultClass, String)> {
    Err((FaultClass::Ambiguous, "RequestTimeout".to_owned()))
}
