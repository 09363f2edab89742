//! Multipart uploads: their parts in any order, parts that are copies, reading an object by its parts, and lists.

use aws_sdk_s3::operation::upload_part_copy::builders::UploadPartCopyFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, MetadataDirective, ObjectAttributes,
};

use crate::fixture::{BUCKET, Fixture, refusal, refused, run};

/// The smallest size of a part that is not the last one.
pub(crate) const PART_BYTES: usize = 5 << 20;

impl Fixture {
    pub(crate) async fn begin(&self, key: &str) -> String {
        self.client.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap().upload_id.unwrap()
    }

    pub(crate) async fn part(&self, key: &str, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
        let put = self.client.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(number);
        let put = put.body(ByteStream::from(body)).send().await.unwrap();
        CompletedPart::builder().part_number(number).set_e_tag(put.e_tag).build()
    }

    pub(crate) async fn complete(&self, key: &str, id: &str, parts: Vec<CompletedPart>) -> String {
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id);
        complete.multipart_upload(upload).send().await.unwrap().e_tag.unwrap()
    }
}

#[test]
fn a_part_that_is_sent_again_replaces_the_first_one() {
    run(|it| async move {
        let id = it.begin("k").await;
        let tail = it.part("k", &id, 7, b"tail".to_vec()).await;
        let stale = it.part("k", &id, 3, vec![1; PART_BYTES]).await;
        let fresh = it.part("k", &id, 3, vec![2; PART_BYTES]).await;
        let complete = |parts: Vec<CompletedPart>| {
            let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
            it.client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).multipart_upload(upload)
        };
        refused!(complete(vec![stale, tail.clone()]), "InvalidPart", 400);
        refused!(complete(vec![fresh.clone(), fresh.clone()]), "InvalidPartOrder", 400);
        complete(vec![fresh, tail]).send().await.unwrap();
        let got = it.client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        let body = got.body.collect().await.unwrap().into_bytes();
        assert_eq!((body.len(), body[0], &body[PART_BYTES..]), (PART_BYTES + 4, 2, &b"tail"[..]));

        let id = it.begin("k").await;
        let parts = [it.part("k", &id, 1, b"small".to_vec()).await, it.part("k", &id, 2, b"tail".to_vec()).await];
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
        let complete = it.client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id);
        refused!(complete.multipart_upload(upload), "EntityTooSmall", 400);
    });
}

#[test]
fn an_object_is_read_by_its_parts() {
    run(|it| async move {
        let id = it.begin("k").await;
        let parts = vec![it.part("k", &id, 1, vec![1; PART_BYTES]).await, it.part("k", &id, 2, vec![2; 10]).await];
        it.complete("k", &id, parts).await;
        let get = |number| it.client.get_object().bucket(BUCKET).key("k").part_number(number);
        let second = get(2).send().await.unwrap();
        let range = format!("bytes {PART_BYTES}-{}/{}", PART_BYTES + 9, PART_BYTES + 10);
        assert_eq!((second.parts_count(), second.content_range()), (Some(2), Some(range.as_str())));
        assert_eq!(second.body.collect().await.unwrap().into_bytes(), vec![2; 10]);
        let head = it.client.head_object().bucket(BUCKET).key("k").part_number(1).send().await.unwrap();
        assert_eq!((head.parts_count(), head.content_length()), (Some(2), Some(5 << 20)));
        refused!(get(3), "InvalidPartNumber", 416);
        refused!(get(0), "InvalidArgument", 400);
        refused!(get(1).range("bytes=0-1"), "InvalidRequest", 400);
        it.put("whole", "body").await;
        let whole = it.client.get_object().bucket(BUCKET).key("whole").part_number(1).send().await.unwrap();
        assert_eq!((whole.parts_count(), whole.content_length()), (None, Some(4)));
        refused!(it.client.get_object().bucket(BUCKET).key("whole").part_number(2), "InvalidPartNumber", 416);
        let all = [ObjectAttributes::Etag, ObjectAttributes::ObjectParts, ObjectAttributes::ObjectSize];
        let attributes =
            it.client.get_object_attributes().bucket(BUCKET).key("k").set_object_attributes(Some(all.into()));
        let page = attributes.clone().max_parts(1).send().await.unwrap();
        assert_eq!(page.object_size(), Some((5 << 20) + 10));
        assert!(page.e_tag().unwrap().ends_with("-2"), "without quotation marks");
        let parts = page.object_parts().unwrap();
        assert_eq!((parts.total_parts_count(), parts.is_truncated()), (Some(2), Some(true)));
        let rest = attributes.part_number_marker(parts.next_part_number_marker().unwrap()).send().await.unwrap();
        let parts = rest.object_parts.unwrap().parts.unwrap();
        assert_eq!((parts.len(), parts[0].part_number(), parts[0].size()), (1, Some(2), Some(10)));
    });
}

#[test]
fn parts_are_copied_from_ranges_of_objects() {
    run(|it| async move {
        it.version(BucketVersioningStatus::Enabled).await;
        let old = it.put("from ?v", "0123456789").await.unwrap();
        it.put("from ?v", "abcdefghij").await;
        let id = it.begin("k").await;
        let source = format!("{BUCKET}/from%20%3Fv");
        let copy = |source: &str| -> UploadPartCopyFluentBuilder {
            let copy = it.client.upload_part_copy().bucket(BUCKET).key("k").upload_id(&id).part_number(1);
            copy.copy_source(source)
        };
        for malformed in ["0-2", "bytes=0", "bytes=0-", "bytes=-1", "bytes=a-b", "bytes=2-1", "bytes=0-1,3-4"] {
            refused!(copy(&source).copy_source_range(malformed), "InvalidArgument", 400);
        }
        refused!(copy(&source).copy_source_range("bytes=5-10"), "InvalidArgument", 400);
        refused!(copy(&source).copy_source_if_match("\"other\""), "PreconditionFailed", 412);
        refused!(copy(&format!("{BUCKET}/none")), "NoSuchKey", 404);
        refused!(copy(&source).part_number(10_001), "InvalidArgument", 400);
        let done = copy(&format!("{source}?versionId={old}")).copy_source_range("bytes=3-5").send().await.unwrap();
        assert_eq!(done.copy_source_version_id(), Some(old.as_str()));
        let part = CompletedPart::builder().part_number(1).set_e_tag(done.copy_part_result.unwrap().e_tag).build();
        it.complete("k", &id, vec![part]).await;
        let got = it.client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), "345");
        refused!(copy(&source), "NoSuchUpload", 404);
    });
}

#[test]
fn uploads_are_listed_in_pages() {
    run(|it| async move {
        let mut begun = Vec::new();
        for key in ["a/1", "a/2", "b", "b", "c d"] {
            begun.push((key.to_owned(), it.begin(key).await));
        }
        begun.sort();
        let (mut listed, mut key_marker, mut id_marker) = (Vec::new(), None, None);
        loop {
            let list = it.client.list_multipart_uploads().bucket(BUCKET).max_uploads(2);
            let page = list.set_key_marker(key_marker).set_upload_id_marker(id_marker).send().await.unwrap();
            assert!(page.uploads().len() <= 2);
            listed.extend(page.uploads().iter().map(|it| (it.key().unwrap().into(), it.upload_id().unwrap().into())));
            if page.is_truncated() != Some(true) {
                break;
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
        assert_eq!(listed, begun);
        let list = || it.client.list_multipart_uploads().bucket(BUCKET);
        let rolled = list().delimiter("/").max_uploads(1).send().await.unwrap();
        assert_eq!((rolled.common_prefixes()[0].prefix(), rolled.uploads().len()), (Some("a/"), 0));
        let rest = list().delimiter("/").set_key_marker(rolled.next_key_marker).send().await.unwrap();
        assert_eq!((rest.uploads().len(), rest.common_prefixes().len()), (3, 0));
        assert_eq!(list().prefix("a/").send().await.unwrap().uploads().len(), 2);
        refused!(list().max_uploads(-1), "InvalidArgument", 400);
        refused!(it.client.list_multipart_uploads().bucket("no-such-bucket"), "NoSuchBucket", 404);
        for (key, id) in begun {
            it.client.abort_multipart_upload().bucket(BUCKET).key(key).upload_id(id).send().await.unwrap();
        }
        assert_eq!(list().send().await.unwrap().uploads().len(), 0);
    });
}

#[test]
fn a_copy_must_change_something() {
    run(|it| async move {
        let put = it.client.put_object().bucket(BUCKET).key("k").metadata("a", "1").content_encoding("deflate, gzip");
        put.body(ByteStream::from_static(b"body")).send().await.unwrap();
        let copy = |key: &str| it.client.copy_object().bucket(BUCKET).key(key).copy_source(format!("{BUCKET}/k"));
        refused!(copy("k"), "InvalidRequest", 400);
        let replace = copy("k").metadata_directive(MetadataDirective::Replace).metadata("empty", "");
        replace.send().await.unwrap();
        let head = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(head.metadata().unwrap().iter().collect::<Vec<_>>(), [(&"empty".to_owned(), &String::new())]);
        assert_eq!(head.content_encoding(), None);
        let etag = head.e_tag.unwrap();
        refused!(copy("l").copy_source_if_none_match(&etag), "PreconditionFailed", 412);
        refused!(copy("l").copy_source_if_match("\"other\""), "PreconditionFailed", 412);
        refused!(copy("l").if_match(&etag), "NoSuchKey", 404);
        copy("l").copy_source_if_match(&etag).if_none_match("*").send().await.unwrap();
        refused!(copy("l").if_none_match("*"), "PreconditionFailed", 412);
        refused!(copy("l").if_match("\"other\""), "PreconditionFailed", 412);
        copy("l").if_match(&etag).send().await.unwrap();
    });
}

#[test]
fn the_coding_of_the_transfer_is_not_stored() {
    run(|it| async move {
        for (sent, stored) in [
            ("gzip", Some("gzip")),
            ("deflate, gzip", Some("deflate, gzip")),
            ("gzip, aws-chunked", Some("gzip")),
            ("aws-chunked", None),
        ] {
            it.client.put_object().bucket(BUCKET).key("k").content_encoding(sent).send().await.unwrap();
            let head = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
            assert_eq!(head.content_encoding(), stored, "{sent}");
        }
    });
}
