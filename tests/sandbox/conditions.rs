//! Conditional reads and writes, presigned URLs, lists of buckets, and settings that a bucket does not have.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, Delete, ObjectCannedAcl,
    ObjectIdentifier, VersioningConfiguration,
};
use batchplan_sandbox::ACCOUNT_ID;

use crate::fixture::{BUCKET, Fixture, client, exchange, refusal, refused, run};

#[test]
fn writes_have_conditions() {
    run(|it| async move {
        let put =
            |body: &'static [u8]| it.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(body));
        refused!(put(b"1").if_match("\"other\""), "NoSuchKey", 404);
        let etag = put(b"1").if_none_match("*").send().await.unwrap().e_tag.unwrap();
        refused!(put(b"2").if_none_match("*"), "PreconditionFailed", 412);
        refused!(put(b"2").if_match("\"other\""), "PreconditionFailed", 412);
        // AWS implements only these two.
        refused!(put(b"2").if_none_match(&etag), "NotImplemented", 501);
        refused!(put(b"2").if_match("*"), "NotImplemented", 501);
        put(b"2").if_match(&etag).send().await.unwrap();
        refused!(put(b"3").if_match(&etag), "PreconditionFailed", 412);

        let complete = async |none_match: Option<&str>, if_match: Option<&str>| {
            let id = it.begin("k").await;
            let part = it.part("k", &id, 1, b"part".to_vec()).await;
            let list = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(part).build();
            let complete = it.client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id);
            let complete = complete.multipart_upload(list).set_if_none_match(none_match.map(Into::into));
            complete.set_if_match(if_match.map(Into::into)).send().await
        };
        assert_eq!(refusal(complete(Some("*"), None).await), ("PreconditionFailed".into(), 412));
        assert_eq!(refusal(complete(None, Some(&etag)).await), ("PreconditionFailed".into(), 412));
        it.client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(refusal(complete(None, Some(&etag)).await), ("NoSuchKey".into(), 404));
        complete(Some("*"), None).await.unwrap();
    });
}

#[test]
fn deletions_have_conditions() {
    run(|it| async move {
        let delete = || it.client.delete_object().bucket(BUCKET).key("k");
        refused!(delete().if_match("\"other\""), "NoSuchKey", 404);
        refused!(delete().if_match("*"), "NoSuchKey", 404);
        it.put("k", "1").await;
        let etag = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap().e_tag.unwrap();
        refused!(delete().if_match("\"other\""), "PreconditionFailed", 412);
        refused!(delete().if_match_size(1), "NotImplemented", 501);
        delete().if_match(&etag).send().await.unwrap();
        refused!(it.client.get_object().bucket(BUCKET).key("k"), "NoSuchKey", 404);
        it.put("k", "2").await;
        delete().if_match("*").send().await.unwrap();

        // In a list, each object has its own condition.
        for (key, text) in [("a", "1"), ("b", "2")] {
            it.put(key, text).await;
        }
        let object = |key: &str| ObjectIdentifier::builder().key(key).e_tag(&etag).build().unwrap();
        let list = Delete::builder().objects(object("a")).objects(object("b")).objects(object("c")).build().unwrap();
        let answer = it.client.delete_objects().bucket(BUCKET).delete(list).send().await.unwrap();
        assert_eq!(answer.deleted().iter().map(|it| it.key().unwrap()).collect::<Vec<_>>(), ["a"]);
        let errors: Vec<_> = answer.errors().iter().map(|it| (it.key().unwrap(), it.code().unwrap())).collect();
        assert_eq!(errors, [("b", "PreconditionFailed"), ("c", "NoSuchKey")]);
    });
}

#[test]
fn a_deletion_of_a_version_is_compared_with_the_current_one() {
    run(|it| async move {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let versioning = it.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(enabled);
        versioning.send().await.unwrap();
        let put = |body: &'static [u8]| {
            it.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(body)).send()
        };
        let (old, new) = (put(b"1").await.unwrap(), put(b"2").await.unwrap());
        let delete = || it.client.delete_object().bucket(BUCKET).key("k").version_id(old.version_id().unwrap());
        refused!(delete().if_match(old.e_tag().unwrap()), "PreconditionFailed", 412);
        delete().if_match(new.e_tag().unwrap()).send().await.unwrap();
        // A delete marker is no object to compare with.
        it.client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
        refused!(it.client.delete_object().bucket(BUCKET).key("k").if_match("*"), "NoSuchKey", 404);
    });
}

#[test]
fn a_deletion_during_a_conditional_write_is_a_conflict() {
    run(|it| async move {
        it.put("k", "before").await;
        let etag = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap().e_tag.unwrap();
        let presigning = PresigningConfig::expires_in(Duration::from_mins(5)).unwrap();
        let put = it.client.put_object().bucket(BUCKET).key("k").if_match(&etag).presigned(presigning).await.unwrap();
        let target = put.uri().strip_prefix(&it.server.endpoint()).unwrap();
        let mut stream = BufReader::new(TcpStream::connect(it.server.address()).unwrap());
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head = format!("PUT {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\n", it.server.address());
        for (name, value) in put.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("Expect: 100-continue\r\nConnection: close\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        // The server asks for the body once the condition was met.
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 100 "), "{line}");
        it.client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
        stream.get_mut().write_all(b"body").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.contains("HTTP/1.1 409 ") && answer.contains("<Code>ConditionalRequestConflict</Code>"),
            "{answer}"
        );
        refused!(it.client.get_object().bucket(BUCKET).key("k"), "NoSuchKey", 404);
    });
}

#[test]
fn an_unchanged_object_is_described_without_its_content() {
    run(|it| async move {
        it.put("k", "body").await;
        let head = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
        let get = it.client.get_object().bucket(BUCKET).key("k").if_none_match(head.e_tag().unwrap());
        let presigning = PresigningConfig::expires_in(Duration::from_mins(5)).unwrap();
        let get = get.presigned(presigning).await.unwrap();
        let target = get.uri().strip_prefix(&it.server.endpoint()).unwrap();
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", it.server.address());
        for (name, value) in get.headers() {
            request.extend([name, ": ", value, "\r\n"]);
        }
        let answer = exchange(&it.server.endpoint(), &format!("{request}\r\n")).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains(&format!("etag: {}\r\n", head.e_tag().unwrap())), "{answer}");
        assert!(answer.contains("last-modified: wed, 04 mar 2026 12:00:00 gmt\r\n"), "{answer}");
    });
}

/// Returns the answer to a presigned request to read the object `k`.
async fn presigned(it: &Fixture, presigning: PresigningConfig, change: impl Fn(String) -> String) -> String {
    let get = it.client.get_object().bucket(BUCKET).key("k").presigned(presigning).await.unwrap();
    let target = change(get.uri().strip_prefix(&it.server.endpoint()).unwrap().to_owned());
    let address = it.server.address();
    exchange(&it.server.endpoint(), &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

#[test]
fn presigned_urls_expire() {
    run(|it| async move {
        it.put("k", "body").await;
        let week = || PresigningConfig::expires_in(Duration::from_hours(7 * 24)).unwrap();
        let answer = presigned(&it, week(), |target| target).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("body"), "{answer}");
        for seconds in ["604801", "-7", "soon", ""] {
            let changed = |target: String| target.replace("X-Amz-Expires=604800", &format!("X-Amz-Expires={seconds}"));
            let answer = presigned(&it, week(), changed).await;
            let is_refused = answer.starts_with("HTTP/1.1 400 ")
                && answer.contains("<Code>AuthorizationQueryParametersError</Code>");
            assert!(is_refused, "{answer}");
        }
        let past = SystemTime::now() - Duration::from_mins(1);
        let expired = PresigningConfig::builder().start_time(past).expires_in(Duration::from_secs(1)).build().unwrap();
        let answer = presigned(&it, expired, |target| target).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("<Code>AccessDenied</Code>"), "{answer}");
        let preflight = |headers: &str| {
            let head = format!("OPTIONS /{BUCKET}/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
            exchange(&it.server.endpoint(), &head)
        };
        assert!(preflight("").starts_with("HTTP/1.1 400 "));
        assert!(preflight("Origin: http://example.com\r\n").contains("<Code>AccessForbidden</Code>"));
    });
}

#[test]
fn a_signed_request_chooses_response_headers() {
    run(|it| async move {
        let put = it.client.put_object().bucket(BUCKET).key("k").content_type("text/csv").metadata("who", "ÄMÄ");
        put.send().await.unwrap();
        let get = it.client.get_object().bucket(BUCKET).key("k").response_content_type("foo/bar");
        let got =
            get.response_content_disposition("attachment").response_cache_control("no-cache").send().await.unwrap();
        assert_eq!((got.content_type(), got.content_disposition()), (Some("foo/bar"), Some("attachment")));
        assert_eq!(got.cache_control(), Some("no-cache"));
        // AWS takes bytes for Latin-1.
        assert_eq!(got.metadata().unwrap()["who"], "=?UTF-8?B?w4PChE3Dg8KE?=");
        let head = it.client.head_object().bucket(BUCKET).key("k").range("bytes=0-0");
        assert_eq!(refusal(head.send().await).1, 416);
        let stranger = client(&it.server, None);
        let chosen = || stranger.get_object().bucket(BUCKET).key("k").response_content_type("a/b");
        refused!(chosen(), "AccessDenied", 403);
        it.client.put_object_acl().bucket(BUCKET).key("k").acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        refused!(chosen(), "InvalidRequest", 400);
    });
}

#[test]
fn buckets_are_listed_in_pages_and_have_a_region() {
    run(|it| async move {
        for (name, region) in [("a-bucket", "eu-west-1"), ("b-bucket", "us-east-1"), ("c.bucket", "no region")] {
            let place = CreateBucketConfiguration::builder().location_constraint(region.into()).build();
            let create = it.client.create_bucket().bucket(name).create_bucket_configuration(place);
            match region {
                "eu-west-1" => drop(create.send().await.unwrap()),
                _ => refused!(create, "InvalidLocationConstraint", 400),
            }
        }
        let place = it.client.get_bucket_location().bucket("a-bucket").send().await.unwrap();
        assert_eq!(place.location_constraint().map(BucketLocationConstraint::as_str), Some("eu-west-1"));
        let head = it.client.head_bucket().bucket("a-bucket").send().await.unwrap();
        assert_eq!(head.bucket_region(), Some("eu-west-1"));
        let list = || it.client.list_buckets().max_buckets(1);
        let page = list().send().await.unwrap();
        assert_eq!(page.buckets()[0].name(), Some("a-bucket"));
        let page = list().set_continuation_token(page.continuation_token).send().await.unwrap();
        assert_eq!((page.buckets()[0].name(), page.continuation_token()), (Some(BUCKET), None));
        assert_eq!(list().bucket_region("us-east-1").send().await.unwrap().buckets()[0].name(), Some(BUCKET));
        refused!(it.client.list_buckets().max_buckets(0), "InvalidArgument", 400);
        refused!(it.client.list_buckets().continuation_token("!"), "InvalidArgument", 400);
    });
}

#[test]
fn a_request_names_the_owner_it_expects() {
    run(|it| async move {
        it.put("k", "body").await;
        let get = |owner: &str| it.client.get_object().bucket(BUCKET).key("k").expected_bucket_owner(owner);
        get(ACCOUNT_ID).send().await.unwrap();
        refused!(get("111122223333"), "AccessDenied", 403);
        refused!(get("no-account"), "InvalidBucketOwnerAWSAccountID", 400);
        let copy = it.client.copy_object().bucket(BUCKET).key("l").copy_source(format!("{BUCKET}/k"));
        refused!(copy.expected_source_bucket_owner("111122223333"), "AccessDenied", 403);
        // A bucket that is missing is said to be missing before anything else.
        let stranger = client(&it.server, None);
        refused!(stranger.delete_object().bucket("no-such-bucket").key("k"), "NoSuchBucket", 404);
        refused!(it.client.delete_bucket().bucket("no-such-bucket"), "NoSuchBucket", 404);
    });
}

#[test]
fn settings_that_a_bucket_does_not_have_are_absent() {
    run(|it| async move {
        let s3 = &it.client;
        refused!(s3.get_bucket_policy().bucket(BUCKET), "NoSuchBucketPolicy", 404);
        refused!(s3.get_bucket_policy_status().bucket(BUCKET), "NoSuchBucketPolicy", 404);
        refused!(s3.get_bucket_cors().bucket(BUCKET), "NoSuchCORSConfiguration", 404);
        refused!(s3.get_bucket_tagging().bucket(BUCKET), "NoSuchTagSet", 404);
        refused!(s3.get_bucket_website().bucket(BUCKET), "NoSuchWebsiteConfiguration", 404);
        refused!(s3.get_bucket_replication().bucket(BUCKET), "ReplicationConfigurationNotFoundError", 404);
        refused!(s3.get_public_access_block().bucket(BUCKET), "NoSuchPublicAccessBlockConfiguration", 404);
        refused!(s3.get_object_lock_configuration().bucket(BUCKET), "ObjectLockConfigurationNotFoundError", 404);
        refused!(s3.get_bucket_policy().bucket("no-such-bucket"), "NoSuchBucket", 404);
        it.put("k", "").await;
        refused!(s3.get_object_retention().bucket(BUCKET).key("k"), "InvalidRequest", 400);
        refused!(s3.get_object_legal_hold().bucket(BUCKET).key("k"), "InvalidRequest", 400);
        let locked = s3.create_bucket().bucket("locked-bucket").object_lock_enabled_for_bucket(true);
        refused!(locked, "NotImplemented", 501);
        s3.delete_bucket_policy().bucket(BUCKET).send().await.unwrap();
        s3.delete_bucket_tagging().bucket(BUCKET).send().await.unwrap();
        s3.delete_public_access_block().bucket(BUCKET).send().await.unwrap();
        assert!(s3.get_bucket_logging().bucket(BUCKET).send().await.unwrap().logging_enabled().is_none());
        assert!(s3.get_bucket_request_payment().bucket(BUCKET).send().await.unwrap().payer().is_some());
        refused!(s3.put_bucket_policy().bucket(BUCKET).policy("{}"), "NotImplemented", 501);
    });
}
