//! Keys, contents, listings, uploads, signatures.

use std::collections::BTreeSet;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration, Delete, ObjectCannedAcl, ObjectIdentifier,
    StorageClass,
};
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY};

use crate::fixture::{BUCKET, client, list_v2, list_versions, refusal, refused, run, tagging};

/// Keys that something on the way might change. (The SDK cannot send one of white space only.)
const ODD_KEYS: [&str; 26] = [
    "a+b",
    "a%2Fb",
    "a%20b",
    "a b",
    "?x#y",
    "/",
    "//",
    "x//y/",
    "../x",
    "./.",
    "é",
    "日本",
    "\u{10ffff}",
    "a\nb",
    "a\rb",
    "a\tb",
    "\u{1}",
    "\u{7f}",
    " lead",
    "trail ",
    "\"q\",'z'",
    "a&<>b;c=d",
    "~*!()",
    "%",
    "%zz",
    "\\",
];

#[test]
fn odd_keys_come_and_go_unchanged() {
    run(|it| async move {
        let long = "k".repeat(1024);
        let mut keys: BTreeSet<&str> = ODD_KEYS.into_iter().collect();
        keys.insert(&long);
        for key in &keys {
            it.client.put_object().bucket(BUCKET).key(*key).body(key.as_bytes().to_vec().into()).send().await.unwrap();
        }
        for key in &keys {
            let got = it.client.get_object().bucket(BUCKET).key(*key).send().await.unwrap();
            assert_eq!(got.body.collect().await.unwrap().into_bytes(), key.as_bytes(), "{key:?}");
            it.client.head_object().bucket(BUCKET).key(*key).send().await.unwrap();
            let put = it.client.put_object_tagging().bucket(BUCKET).key(*key).tagging(tagging(&[("a", "1")]));
            put.send().await.unwrap();
            assert_eq!(it.tags(key, None).await, [("a".to_owned(), "1".to_owned())], "{key:?}");
        }
        let expected: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(list_v2(&it.client, 4).await, expected);
        assert_eq!(list_versions(&it.client, 4).await, expected);
        let longer = "k".repeat(1025);
        refused!(it.client.put_object().bucket(BUCKET).key(longer), "KeyTooLongError", 400);
        for key in &keys {
            it.client.delete_object().bucket(BUCKET).key(*key).send().await.unwrap();
        }
        it.client.delete_bucket().bucket(BUCKET).send().await.unwrap();
    });
}

#[test]
fn listings_roll_up_and_go_on() {
    run(|it| async move {
        for key in ["a/1", "a/2", "b", "c/x/1", "c/y", "d"] {
            it.put(key, "").await;
        }
        let list = || it.client.list_objects_v2().bucket(BUCKET).delimiter("/");
        let page = list().max_keys(2).send().await.unwrap();
        assert_eq!((page.key_count, page.is_truncated), (Some(2), Some(true)));
        assert_eq!(page.common_prefixes()[0].prefix(), Some("a/"));
        let page = list().set_continuation_token(page.next_continuation_token).send().await.unwrap();
        assert_eq!((page.common_prefixes()[0].prefix(), page.contents()[0].key()), (Some("c/"), Some("d")));
        assert_eq!(page.is_truncated, Some(false));
        let page = list().prefix("c/").send().await.unwrap();
        assert_eq!((page.common_prefixes()[0].prefix(), page.contents()[0].key()), (Some("c/x/"), Some("c/y")));
        let page = it.client.list_objects_v2().bucket(BUCKET).start_after("b").send().await.unwrap();
        assert_eq!(page.contents()[0].key(), Some("c/x/1"));
        let page = it.client.list_objects().bucket(BUCKET).delimiter("/").max_keys(1).send().await.unwrap();
        assert_eq!((page.next_marker(), page.is_truncated), (Some("a/"), Some(true)));
        let page = it.client.list_objects().bucket(BUCKET).delimiter("/").marker("a/").send().await.unwrap();
        assert_eq!(page.contents()[0].key(), Some("b"));
        refused!(it.client.list_objects_v2().bucket(BUCKET).continuation_token("!"), "InvalidArgument", 400);
        refused!(it.client.list_objects_v2().bucket(BUCKET).max_keys(-1), "InvalidArgument", 400);
        refused!(it.client.list_objects_v2().bucket("no-such-bucket"), "NoSuchBucket", 404);
    });
}

#[test]
fn content_is_checked_and_read_in_part() {
    run(|it| async move {
        let put = || it.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"hello world"));
        refused!(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA=="), "BadDigest", 400);
        refused!(put().content_md5("AAAA"), "InvalidDigest", 400);
        refused!(put().checksum_crc32("AAAAAA=="), "BadDigest", 400);
        let etag = put().content_md5("XrY7u+Ae7tCTyyK7j1rNww==").send().await.unwrap().e_tag.unwrap();
        assert_eq!(etag, "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"");
        refused!(put().if_none_match("*"), "PreconditionFailed", 412);
        let get = || it.client.get_object().bucket(BUCKET).key("k");
        let part = get().range("bytes=6-8").send().await.unwrap();
        assert_eq!(part.content_range(), Some("bytes 6-8/11"));
        assert_eq!(part.body.collect().await.unwrap().into_bytes(), "wor");
        refused!(get().range("bytes=11-"), "InvalidRange", 416);
        assert!(get().if_match(&etag).send().await.is_ok());
        refused!(get().if_match("\"other\""), "PreconditionFailed", 412);
        assert_eq!(refusal(get().if_none_match(&etag).send().await).1, 304);
        refused!(it.client.get_object().bucket(BUCKET).key("none"), "NoSuchKey", 404);
        refused!(it.client.get_object().bucket("no-such-bucket").key("k"), "NoSuchBucket", 404);
        let elsewhere = CreateBucketConfiguration::builder().location_constraint("eu-west-1".into()).build();
        let create = it.client.create_bucket().bucket(BUCKET).create_bucket_configuration(elsewhere);
        refused!(create, "BucketAlreadyOwnedByYou", 409);
        refused!(it.client.delete_bucket().bucket(BUCKET), "BucketNotEmpty", 409);
    });
}

#[test]
fn what_comes_along_with_an_object_stays_with_it() {
    run(|it| async move {
        let put = it.client.put_object().bucket(BUCKET).key("k").content_type("text/csv").metadata("who", "me");
        put.tagging("a=1&b=x%20y").acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        let head = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(head.content_type(), Some("text/csv"));
        assert_eq!(head.metadata().unwrap()["who"], "me");
        assert_eq!(head.storage_class(), None);
        let get = it.client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(get.tag_count, Some(2));
        let copy = it.client.copy_object().bucket(BUCKET).key("copy").copy_source(format!("{BUCKET}/k"));
        copy.send().await.unwrap();
        assert_eq!(it.tags("copy", None).await[1], ("b".to_owned(), "x y".to_owned()));
        let put = |tags: &str| it.client.put_object().bucket(BUCKET).key("k").tagging(tags.to_owned());
        refused!(put("a=1&a=2"), "InvalidArgument", 400);
        refused!(put("a%7B=1"), "InvalidTag", 400);
    });
}

#[test]
fn many_are_deleted_at_once() {
    run(|it| async move {
        it.put("a b", "").await;
        it.put("c\nd", "").await;
        let objects = ["a b", "c\nd", "none"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
        let delete = Delete::builder().set_objects(Some(objects.into())).build().unwrap();
        let deleted = it.client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
        assert_eq!((deleted.deleted().len(), deleted.errors().len()), (3, 0));
        assert_eq!(list_v2(&it.client, 10).await, [""; 0]);

        it.put("a", "").await;
        let named = |key: &str| ObjectIdentifier::builder().key(key);
        let objects = vec![named("a").build().unwrap(), named("b").version_id("").build().unwrap()];
        let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
        refused!(it.client.delete_objects().bucket(BUCKET).delete(delete), "InvalidArgument", 400);
        assert_eq!(list_v2(&it.client, 10).await, ["a"], "a request that is not valid deletes nothing");
    });
}

#[test]
fn signatures_are_checked() {
    run(|it| async move {
        let wrong = client(&it.server, Some((ACCESS_KEY, "not the secret")));
        refused!(wrong.list_buckets(), "SignatureDoesNotMatch", 403);
        let unknown = client(&it.server, Some(("UNKNOWNKEY", SECRET_KEY)));
        refused!(unknown.list_buckets(), "InvalidAccessKeyId", 403);
        assert_eq!(it.client.list_buckets().send().await.unwrap().buckets()[0].name(), Some(BUCKET));
    });
}

#[test]
fn an_object_is_uploaded_in_parts() {
    run(|it| async move {
        let create = it.client.create_multipart_upload().bucket(BUCKET).key("k").tagging("a=1");
        let id = create.storage_class(StorageClass::StandardIa).send().await.unwrap().upload_id.unwrap();
        let large = vec![7_u8; 5 << 20];
        let mut parts = Vec::new();
        for (number, body) in [(1, large.clone()), (2, b"tail".to_vec())] {
            let put = it.client.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(number);
            let etag = put.body(body.into()).send().await.unwrap().e_tag.unwrap();
            parts.push(CompletedPart::builder().part_number(number).e_tag(etag).build());
        }
        let listed = it.client.list_parts().bucket(BUCKET).key("k").upload_id(&id).send().await.unwrap();
        assert_eq!(listed.parts().len(), 2);
        let complete = |parts: Vec<CompletedPart>| {
            let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
            it.client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).multipart_upload(upload)
        };
        let reversed: Vec<CompletedPart> = parts.iter().rev().cloned().collect();
        refused!(complete(reversed), "InvalidPartOrder", 400);
        refused!(complete(vec![CompletedPart::builder().part_number(3).e_tag("x").build()]), "InvalidPart", 400);
        let done = complete(parts.clone()).send().await.unwrap();
        assert!(done.e_tag().unwrap().ends_with("-2\""));
        // AWS answers a repeated request in the same way again, and another list of parts not.
        let again = complete(parts.clone()).send().await.unwrap();
        assert_eq!((again.e_tag(), again.checksum_crc64_nvme()), (done.e_tag(), done.checksum_crc64_nvme()));
        refused!(complete(parts[..1].to_vec()), "NoSuchUpload", 404);
        let got = it.client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!((got.storage_class(), got.tag_count), (Some(&StorageClass::StandardIa), Some(1)));
        let body = got.body.collect().await.unwrap().into_bytes();
        assert_eq!((body.len(), &body[large.len()..]), (large.len() + 4, &b"tail"[..]));
        let create = it.client.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap();
        let abort =
            || it.client.abort_multipart_upload().bucket(BUCKET).key("k").set_upload_id(create.upload_id.clone());
        abort().send().await.unwrap();
        refused!(abort(), "NoSuchUpload", 404);
    });
}

/// Sends another body than the one that was signed, of the same length.
#[derive(Debug)]
struct Forger;

impl Intercept for Forger {
    fn name(&self) -> &'static str {
        "Forger"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.request_mut().body_mut();
        let mut bytes = body.bytes().ok_or("a body in memory")?.to_vec();
        *bytes.last_mut().ok_or("a body")? ^= 1;
        *body = SdkBody::from(bytes);
        Ok(())
    }
}

#[test]
fn a_body_that_is_not_the_signed_one_is_refused() {
    run(|it| async move {
        it.put("k", "hello world").await;
        let put = it.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"HELLO"));
        refused!(put.customize().interceptor(Forger), "XAmzContentSHA256Mismatch", 400);
        let tag = it.client.put_object_tagging().bucket(BUCKET).key("k").tagging(tagging(&[("a", "1")]));
        refused!(tag.customize().interceptor(Forger), "XAmzContentSHA256Mismatch", 400);
        let upload = it.client.create_multipart_upload().bucket(BUCKET).key("m").send().await.unwrap();
        let part = CompletedPart::builder().part_number(1).e_tag("x").build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = it.client.complete_multipart_upload().bucket(BUCKET).key("m").multipart_upload(parts);
        let complete = complete.set_upload_id(upload.upload_id);
        refused!(complete.customize().interceptor(Forger), "XAmzContentSHA256Mismatch", 400);
        let got = it.client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), "hello world");
    });
}
