//! Answers that are not what they should be.

use batchplan_store::object::{ObjectAcl, RestoreRequest, TagSet};
use batchplan_store::object_request::{ObjectHeader, ObjectRequest, ResponseData};
use batchplan_store::task::FaultClass;
use batchplan_store::{BucketSetting, BucketSettingValue, BucketVersioning, ListRequest};
use proptest::prelude::*;

use crate::server::{Act, Server, TAGS, answer, ask, object, ok, stores};

const BOMB: &str = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>";

fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId></Error>")
}

fn every_call() -> Vec<ObjectRequest> {
    let tags: TagSet = [("a", "b")].into_iter().collect();
    let restore = RestoreRequest { days: Some(1), tier: None };
    vec![
        ObjectRequest::GetTags,
        ObjectRequest::PutTags(tags),
        ObjectRequest::DeleteTags,
        ObjectRequest::GetAcl,
        ObjectRequest::PutAcl(ObjectAcl::Private),
        ObjectRequest::Restore(restore),
    ]
}

#[tokio::test]
async fn a_success_whose_body_is_an_error_is_that_error() {
    let cases = [
        ("InternalError", FaultClass::Ambiguous),
        ("SlowDown", FaultClass::Throttled),
        ("AccessDenied", FaultClass::Rejected),
        ("NobodyKnows", FaultClass::Rejected),
    ];
    for call in every_call() {
        for (code, class) in cases {
            let server = Server::playing([ok(&error(code)), ok(&error(code))]).await;
            for (name, store) in stores(&server.endpoint()) {
                let fault = ask(&store, &call).await.expect_err("a fault");
                let found = (fault.class, fault.code.as_str(), fault.status, fault.request_id.as_str());
                assert_eq!(found, (class, code, Some(200), "R"), "{name} {call:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_document_that_came_whole_and_is_another_is_not_asked_for_again() {
    let huge = format!("<Tagging><TagSet>{}", "<Tag/>".repeat(2_000_000));
    let expanded = format!("{BOMB}<Tagging><TagSet><Tag><Key>&b;</Key><Value/></Tag></TagSet></Tagging>");
    for (body, why) in [
        (&TAGS[..40], "not a complete XML document"),
        ("", "not a complete XML document"),
        ("no XML at all", "not a complete XML document"),
        ("<Other/>", "not the requested document"),
        (expanded.as_str(), "document type"),
        ("<Tagging>&lol;</Tagging>", "entity"),
        (huge.as_str(), "longer than allowed"),
    ] {
        let server = Server::playing([ok(body), ok(body)]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
            assert_eq!(
                (fault.class, fault.code.as_str()),
                (FaultClass::Rejected, "UnexpectedDocument"),
                "{name} {why}"
            );
            assert!(fault.message.contains(why), "{name}: {}", fault.message);
        }
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_off_on_the_way_is_worth_another_attempt() {
    let whole = answer("200 OK", "", TAGS);
    let cut = Act::SendAndClose(whole[..whole.len() - 20].to_vec());
    // Nothing says where it ends.
    let endless = Act::SendAndClose(format!("HTTP/1.1 200 OK\r\n\r\n{}", &TAGS[..40]).into_bytes());
    for act in [cut, endless] {
        let server = Server::playing([act.clone(), act]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
            assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Ambiguous, "UnreadableAnswer"), "{name}");
        }
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_too_long_may_have_been_carried_out() {
    let body = "x".repeat(100 << 10);
    let server = Server::playing([ok(&body), ok(&body)]).await;
    for (name, store) in stores(&server.endpoint()) {
        let fault = ask(&store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
        assert_eq!(fault.class, FaultClass::Ambiguous, "{name}");
    }
}

#[tokio::test]
async fn no_tag_set_is_an_empty_one() {
    for (status, code, found) in [("404 Not Found", "NoSuchTagSet", true), ("404 Not Found", "NoSuchKey", false)] {
        let refusal = Act::Send(answer(status, "", &error(code)));
        let server = Server::playing([refusal.clone(), refusal]).await;
        for (name, store) in stores(&server.endpoint()) {
            let answer = ask(&store, &ObjectRequest::GetTags).await;
            let empty = answer
                .as_ref()
                .is_ok_and(|reply| reply.no_tag_set && reply.data == ResponseData::Tags(TagSet::default()));
            assert_eq!(empty, found, "{name} {code}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn there_is_nothing_to_delete_where_there_is_no_tag_set() {
    let refusal = Act::Send(answer("404 Not Found", "", &error("NoSuchTagSet")));
    let server = Server::playing([refusal.clone(), refusal]).await;
    for (name, store) in stores(&server.endpoint()) {
        let reply = ask(&store, &ObjectRequest::DeleteTags).await.expect(name);
        assert_eq!((reply.status, reply.data), (204, ResponseData::Empty), "{name}");
    }
}

#[tokio::test]
async fn a_web_page_is_no_answer_of_a_store() {
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in to Café WLAN</title></head><body>hushhush</body></html>";
    let said = "the response is a web page with the title \"Sign in to Café WLAN\"";
    for call in every_call() {
        let writes = call.is_write();
        let server = Server::playing([ok(page), ok(page)]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = ask(&store, &call).await.expect_err("no answer");
            let expected = if writes {
                (FaultClass::Ambiguous, "UnreadableAnswer")
            } else {
                (FaultClass::Rejected, "UnexpectedDocument")
            };
            assert_eq!((fault.class, fault.code.as_str()), expected, "{name} {call:?}");
            assert!(fault.message.contains(said) && !fault.message.contains("hush"), "{name}: {}", fault.message);
        }
        let refusal = Act::Send(answer("403 Forbidden", "", page));
        let server = Server::playing([refusal.clone(), refusal]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = ask(&store, &call).await.expect_err("a refusal");
            assert_eq!((fault.status, fault.code.as_str()), (Some(403), "AccessDenied"), "{name} {call:?}");
            assert!(fault.message.starts_with(said), "{name}: {}", fault.message);
        }
    }
}

#[tokio::test]
async fn delete_markers_and_caches_are_named() {
    for (status, headers, code, words) in [
        ("405 Not Allowed", "x-amz-delete-marker: true\r\n", "MethodNotAllowed", "this version is a delete marker"),
        ("405 Not Allowed", "x-oss-delete-marker: true\r\n", "MethodNotAllowed", "this version is a delete marker"),
        ("404 Not Found", "x-amz-delete-marker: true\r\n", "NotFound", "the current version is a delete marker"),
        ("304 Not Modified", "ETag: \"e\"\r\n", "NotModified", "a cache may have answered"),
    ] {
        for call in [ObjectRequest::Head, ObjectRequest::GetTags] {
            // Neither HEAD nor 304 has a body.
            let bare = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n").into_bytes();
            let server = Server::playing([Act::Send(bare.clone()), Act::Send(bare)]).await;
            for (name, store) in stores(&server.endpoint()) {
                let fault = ask(&store, &call).await.expect_err("a refusal");
                assert_eq!((fault.code.as_str(), fault.class), (code, FaultClass::Rejected), "{name} {status}");
                assert!(fault.message.contains(words), "{name} {status}: {}", fault.message);
            }
        }
    }
}

#[tokio::test]
async fn the_versioning_of_a_bucket_has_other_roots_elsewhere() {
    for (body, state) in [
        ("<GetBucketVersioningResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>", BucketVersioning::Never),
        (
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<GetBucketVersioningResponse><Status>Enabled</Status>\
             </GetBucketVersioningResponse>",
            BucketVersioning::Enabled,
        ),
        ("<Status>Suspended</Status>", BucketVersioning::Suspended),
    ] {
        let server = Server::playing([ok(body), ok(body)]).await;
        for (name, store) in stores(&server.endpoint()) {
            let read = store.bucket_setting(&object().bucket, BucketSetting::Versioning).await.expect(name);
            assert_eq!(read, BucketSettingValue::Versioning(state), "{name}: {body}");
        }
    }
}

#[tokio::test]
async fn the_headers_of_an_object_are_noticed() {
    let headers = "ETag: \"e\"\r\nLast-Modified: Fri, 21 Dec 2012 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n";
    let server = Server::playing([Act::Send(answer("200 OK", headers, TAGS)), ok(TAGS)]).await;
    let [(_, store), _] = stores(&server.endpoint());
    for there in [true, false] {
        let reply = ask(&store, &ObjectRequest::GetTags).await.expect("tags");
        for header in [ObjectHeader::ETag, ObjectHeader::LastModified, ObjectHeader::AcceptRanges] {
            assert_eq!(reply.headers.contains(header), there, "{header:?}");
        }
        assert!(!reply.headers.contains(ObjectHeader::DeleteMarker));
    }
    let head = answer("200 OK", "ETag: \"e\"\r\n", "").iter().map(|byte| *byte as char).collect::<String>();
    let server =
        Server::playing([Act::Send(head.replace("Content-Length: 0", "Content-Length: 7").into_bytes())]).await;
    let [(_, store), _] = stores(&server.endpoint());
    let reply = ask(&store, &ObjectRequest::Head).await.expect("a head");
    let ResponseData::Head { content, .. } = reply.data else { panic!("{reply:?}") };
    assert_eq!((content.etag.as_deref(), content.size), (Some("\"e\""), Some(7)));
}

#[tokio::test]
async fn refusals_that_are_no_documents_are_named_by_their_status() {
    let bomb = format!("{BOMB}<Error><Code>&b;</Code></Error>");
    for (status, body, code, class) in [
        ("403 Forbidden", "", "AccessDenied", FaultClass::Rejected),
        ("400 Bad", bomb.as_str(), "BadRequest", FaultClass::Rejected),
        ("502 Bad Gateway", "<html><body>nginx</body></html>", "InternalError", FaultClass::Ambiguous),
        ("503 Busy", "<html>", "ServiceUnavailable", FaultClass::Ambiguous),
        ("404 Not Found", "\u{feff}\u{fffd}", "NotFound", FaultClass::Rejected),
        ("429 Too Many", "", "TooManyRequests", FaultClass::Throttled),
        ("418 Teapot", "", "UnexpectedStatus", FaultClass::Rejected),
    ] {
        let refusal = Act::Send(answer(status, "Retry-After: 7\r\n", body));
        let server = Server::playing([refusal.clone(), refusal]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = ask(&store, &ObjectRequest::DeleteTags).await.expect_err("a fault");
            assert_eq!((fault.code.as_str(), fault.class), (code, class), "{name} {status}");
            assert_eq!(fault.retry_after.map(u16::from), Some(7));
        }
    }
}

#[tokio::test]
async fn ten_megabytes_of_refusal_are_read_in_part_and_the_connection_given_up() {
    let code = "<Error><Code>AccessDenied</Code><Message>no</Message>";
    let body = format!("{code}{}</Error>", "<Padding>x</Padding>".repeat(500_000));
    let refusal = Act::Send(answer("403 Forbidden", "", &body));
    for n in 0..2 {
        let server = Server::playing([refusal.clone(), ok(TAGS)]).await;
        let (name, store) = &stores(&server.endpoint())[n];
        let fault = ask(store, &ObjectRequest::GetTags).await.expect_err("a fault");
        assert_eq!((fault.code.as_str(), fault.message.as_str()), ("AccessDenied", "no"), "{name}");
        assert!(ask(store, &ObjectRequest::GetTags).await.is_ok());
        assert_eq!(server.connections(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_listing_that_cannot_be_read_is_no_end() {
    let request = |bucket| ListRequest {
        bucket,
        prefix: batchplan_store::object::ObjectKey::from(""),
        all_versions: false,
        group_by_directory: false,
        from: None,
    };
    let entry = "<Contents><Key>k</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>";
    let whole = format!("<ListBucketResult>{}</ListBucketResult>", entry.repeat(1000));
    let bomb = format!("{BOMB}<ListBucketResult><Contents><Key>&b;</Key></Contents></ListBucketResult>");
    let endless = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    for body in [&whole[..whole.len() / 2], bomb.as_str(), endless, ""] {
        let server = Server::playing([ok(body), ok(body)]).await;
        for (name, store) in stores(&server.endpoint()) {
            let listed = store.list(&request(object().bucket)).await;
            let fault = listed.map(|page| page.entries.len()).expect_err("a fault");
            let clear = ["cannot read the response", "is not valid"].iter().any(|why| fault.message.contains(why));
            assert!(clear, "{name}: {fault:?}");
        }
    }
    // A complete document, and one that is not XML.
    for body in ["<html><head><title>Sign in</title></head><body></body></html>", "<!DOCTYPE html><html><p>Welcome"] {
        let server = Server::playing([ok(body), ok(body)]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = store.list(&request(object().bucket)).await.map(|_| ()).expect_err("a fault");
            assert_eq!((fault.code.as_str(), fault.class), ("UnexpectedDocument", FaultClass::Rejected), "{name}");
            assert!(fault.message.contains("the response is a web page"), "{name}: {}", fault.message);
            assert!(batchplan_store::error::is_web_page(&fault), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is sent, cut and garbled: never a panic, never other tags than those that were sent.
    #[test]
    fn no_answer_is_taken_for_another(cut in 0_usize..200, garbled in prop::option::of((0_usize..200, any::<u8>()))) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut bytes = answer("200 OK", "x-amz-request-id: 1\r\n", TAGS);
            let whole = cut >= bytes.len();
            bytes.truncate(cut.max(1));
            let mut intact = whole;
            if let Some((place, byte)) = garbled && let Some(there) = bytes.get_mut(place) {
                intact &= *there == byte;
                *there = byte;
            }
            let server = Server::playing([Act::SendAndClose(bytes.clone()), Act::SendAndClose(bytes)]).await;
            for (_, store) in stores(&server.endpoint()) {
                match ask(&store, &ObjectRequest::GetTags).await {
                    Ok(reply) if intact => {
                        let sent: TagSet = [("a", "b")].into_iter().collect();
                        assert_eq!(reply.data, ResponseData::Tags(sent));
                    }
                    // A garbled name or value that is well-formed is what the server said.
                    Ok(reply) => assert!(matches!(reply.data, ResponseData::Tags(_))),
                    Err(fault) => assert!(!intact, "{fault:?}"),
                }
            }
        });
    }
}

#[tokio::test]
async fn tags_that_lack_what_they_need_are_no_answer() {
    for tags in [
        "<Tag><Value>b</Value></Tag>",
        "<Tag><Key></Key><Value>b</Value></Tag>",
        "<Tag><Key>a</Key><Value>b</Value></Tag><Tag><Key>a</Key><Value>c</Value></Tag>",
    ] {
        let body = format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
        for (name, store) in stores(&Server::playing([ok(&body), ok(&body)]).await.endpoint()) {
            let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
            assert_eq!((fault.code.as_str(), fault.status), ("UnexpectedDocument", Some(200)), "{name} {tags}");
        }
    }
}

#[tokio::test]
async fn secrets_are_hidden_however_a_server_writes_them() {
    let echo =
        "<Error><Code>SignatureDoesNotMatch</Code><Message>you sent hush%68ush and hush&amp;#104;ush</Message></Error>";
    for (name, store) in stores(&Server::playing([ok(echo), ok(echo)]).await.endpoint()) {
        let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
        assert_eq!(fault.message, "you sent [hidden] and [hidden]", "{name}");
    }
}

#[tokio::test]
async fn secrets_are_hidden_in_what_head_says_of_an_object() {
    let head = || Act::Send(answer("200 OK", "ETag: \"x hushhush\"\r\n", ""));
    for (name, store) in stores(&Server::playing([head(), head()]).await.endpoint()) {
        let reply = ask(&store, &ObjectRequest::Head).await.expect("an answer");
        let ResponseData::Head { content, .. } = reply.data else { panic!("no head") };
        assert_eq!(content.etag.as_deref(), Some("\"x [hidden]\""), "{name}");
    }
}
