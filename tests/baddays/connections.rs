//! Connections that break, and those that should not be used again.

use batchplan_store::object::{ObjectAcl, TagSet};
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::task::FaultClass;

use crate::server::{Act, Server, TAGS, answer, ask, ok, stores};

const BOTH: std::ops::Range<usize> = 0..2;

#[tokio::test]
async fn an_answer_that_never_comes_whole_may_have_been_one() {
    let whole = String::from_utf8(answer("200 OK", "", TAGS)).expect("text");
    for bytes in [
        "",
        "garbage that is no HTTP\r\n\r\n",
        &whole[..30],
        &whole[..whole.len() - 10],
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno number\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\n",
    ] {
        for n in BOTH {
            let server = Server::playing([Act::SendAndClose(bytes.as_bytes().to_vec())]).await;
            let (name, store) = &stores(&server.endpoint())[n];
            let fault = ask(store, &ObjectRequest::GetTags).await.expect_err("a fault");
            assert_eq!(fault.class, FaultClass::Ambiguous, "{name} {bytes:?}: {fault:?}");
            assert_eq!(server.requests().len(), 1, "{name} {bytes:?}: sent once");
        }
    }
}

#[tokio::test]
async fn heads_beyond_all_measure_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-many: 1\r\n".repeat(2000));
    for bytes in [long, many] {
        for n in BOTH {
            let server = Server::playing([Act::SendAndFallSilent(bytes.clone().into_bytes())]).await;
            let (name, store) = &stores(&server.endpoint())[n];
            let fault = ask(store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
            assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Ambiguous, "ConnectionError"), "{name}");
        }
    }
}

#[tokio::test]
async fn an_object_with_hundreds_of_headers_is_read() {
    let metadata = (0..900).map(|n| format!("x-amz-meta-{n}: {n}\r\n")).collect::<Vec<_>>().concat();
    for n in BOTH {
        // The second request needs another connection than the first, and the third takes that of the second.
        let acts = [answer("200 OK", "", TAGS), answer("200 OK", &metadata, ""), answer("200 OK", &metadata, TAGS)];
        let server = Server::playing(acts.map(Act::Send)).await;
        let (name, store) = &stores(&server.endpoint())[n];
        for request in [ObjectRequest::GetTags, ObjectRequest::Head, ObjectRequest::GetTags] {
            assert!(ask(store, &request).await.is_ok(), "{name}: {request:?}");
        }
    }
}

#[tokio::test]
async fn more_headers_than_a_request_can_have_are_named() {
    for (request, most) in [(ObjectRequest::GetTags, 100), (ObjectRequest::Head, 1000)] {
        for n in BOTH {
            let headers = "x-many: 1\r\n".repeat(most + 1);
            let server = Server::playing([Act::Send(answer("200 OK", &headers, ""))]).await;
            let (name, store) = &stores(&server.endpoint())[n];
            let fault = ask(store, &request).await.expect_err("a fault");
            let named = format!("the response has more than {most} headers, or more than 64 KiB of them");
            assert!(fault.message.ends_with(&named), "{name}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn nobody_listens() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    for (name, store) in stores(&gone) {
        let fault = ask(&store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
        assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Transient, "ConnectionError"), "{name}");
        assert_eq!(fault.message, format!("{gone}: connection refused"), "{name}");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_a_connection_that_was_never_made() {
    for (name, store) in stores("http://store.invalid:9") {
        let fault = ask(&store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
        // A machine without a resolver does not know that the name has no address.
        let codes = ["UnknownHost", "ConnectionError"];
        assert!(fault.class == FaultClass::Transient && codes.contains(&fault.code.as_str()), "{name}: {fault:?}");
        assert!(fault.request_line.contains("store.invalid"), "{name}: {fault:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_not_used_again() {
    let whole = answer("200 OK", "", TAGS);
    for act in [Act::SendAndClose(whole.clone()), Act::SendAndShut(whole)] {
        for n in BOTH {
            let server = Server::playing([act.clone(), ok(TAGS)]).await;
            let (name, store) = &stores(&server.endpoint())[n];
            assert!(ask(store, &ObjectRequest::GetTags).await.is_ok(), "{name}");
            // Not before the server has closed it: both are on one thread, and this lets the other run.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert!(ask(store, &ObjectRequest::GetTags).await.is_ok(), "{name}");
            assert_eq!((server.connections(), server.requests().len()), (2, 2), "{name}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_kept_where_nothing_speaks_against_it() {
    for n in BOTH {
        let server = Server::playing(std::iter::repeat_n(ok(TAGS), 5)).await;
        let (name, store) = &stores(&server.endpoint())[n];
        for _ in 0..5 {
            assert!(ask(store, &ObjectRequest::GetTags).await.is_ok(), "{name}");
        }
        assert_eq!(server.connections(), 1, "{name}");
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_never_taken_for_the_next_one() {
    let mut two = answer("200 OK", "", TAGS);
    two.extend(answer("200 OK", "", &TAGS.replace("<Key>a", "<Key>z")));
    for n in BOTH {
        let server = Server::playing([Act::Send(two.clone()), ok(TAGS)]).await;
        let (name, store) = &stores(&server.endpoint())[n];
        let sent: TagSet = [("a", "b")].into_iter().collect();
        for _ in 0..2 {
            let reply = ask(store, &ObjectRequest::GetTags).await;
            assert_eq!(reply.map(|reply| reply.data), Ok(ResponseData::Tags(sent.clone())), "{name}");
        }
        assert_eq!(server.connections(), 2, "{name}");
    }
}

#[tokio::test]
async fn what_comes_before_a_request_is_no_answer_to_it() {
    for n in BOTH {
        let server = Server::speaking_first(answer("200 OK", "", TAGS)).await;
        let (name, store) = &stores(&server.endpoint())[n];
        for call in [ObjectRequest::GetTags, ObjectRequest::PutAcl(ObjectAcl::Private)] {
            let fault = ask(store, &call).await.expect_err("a fault");
            assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Transient, "ConnectionError"), "{name}");
            let said = "the server closes the connection, or sends data before a request";
            assert_eq!(fault.message, format!("{}: {said}", server.endpoint()), "{name}");
        }
        assert_eq!((server.connections(), server.requests().len()), (2, 0), "{name}: nothing was sent");
    }
}

#[tokio::test]
async fn other_ways_to_answer_are_fine() {
    let old = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{TAGS}", TAGS.len());
    let until_closed = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{TAGS}");
    let (first, rest) = TAGS.split_at(20);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        first.len(),
        rest.len()
    );
    let patient =
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{TAGS}", TAGS.len());
    for bytes in [old, until_closed, chunked, patient] {
        for n in BOTH {
            let server = Server::playing([Act::SendAndClose(bytes.clone().into_bytes()), ok(TAGS)]).await;
            let (name, store) = &stores(&server.endpoint())[n];
            let reply = ask(store, &ObjectRequest::GetTags).await;
            let sent: TagSet = [("a", "b")].into_iter().collect();
            assert_eq!(reply.map(|reply| reply.data), Ok(ResponseData::Tags(sent)), "{name} {bytes:?}");
        }
    }
}

/// Servers may insist on a length, where there may be a body and is none.
#[tokio::test]
async fn an_empty_body_has_a_length() {
    for n in BOTH {
        let server = Server::playing([]).await;
        let (name, store) = &stores(&server.endpoint())[n];
        assert!(ask(store, &ObjectRequest::PutAcl(ObjectAcl::Private)).await.is_ok(), "{name}");
        let [request] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
        assert!(request.to_lowercase().contains("\r\ncontent-length: 0\r\n"), "{name}: {request}");
    }
}
