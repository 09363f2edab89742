//! Checksums: calculated, compared, kept, and returned, of whole objects and of uploads in parts.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::builders::CompletedPartBuilder;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, ObjectAttributes,
};

use crate::fixture::{BUCKET, Fixture, refusal, refused, run};
use crate::uploads::PART_BYTES;

/// A client that sends no checksum of its own accord.
fn plain(it: &Fixture) -> Client {
    let config = it.client.config().to_builder();
    Client::from_conf(config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired).build())
}

#[test]
fn an_object_keeps_the_checksum_it_was_sent_with() {
    run(|it| async move {
        let client = plain(&it);
        let put = || client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"123456789"));
        let head = || client.head_object().bucket(BUCKET).key("k");
        // Without one, AWS calculates CRC64NVME.
        let done = put().send().await.unwrap();
        assert_eq!(done.checksum_crc64_nvme(), Some("rosUhgp5mIg="));
        assert_eq!(done.checksum_type(), Some(&ChecksumType::FullObject));
        assert_eq!(head().send().await.unwrap().checksum_crc64_nvme(), None);
        let told = head().checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!(told.checksum_crc64_nvme(), Some("rosUhgp5mIg="));

        let sum = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
        refused!(put().checksum_sha256("bad"), "InvalidRequest", 400);
        refused!(put().checksum_sha256(sum.replace('F', "G")), "BadDigest", 400);
        refused!(put().checksum_sha256(sum).checksum_crc32("y/Q5Jg=="), "InvalidRequest", 400);
        put().checksum_sha256(sum).send().await.unwrap();
        let got =
            client.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!((got.checksum_sha256(), got.checksum_crc64_nvme()), (Some(sum), None));
        let part = client.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).range("bytes=1-2");
        assert_eq!(part.send().await.unwrap().checksum_sha256(), None, "it is the checksum of other bytes");
        let attributes = client.get_object_attributes().bucket(BUCKET).key("k");
        let told = attributes.object_attributes(ObjectAttributes::Checksum).send().await.unwrap();
        assert_eq!(told.checksum().unwrap().checksum_sha256(), Some(sum));
        assert!(told.object_size().is_none(), "it was not asked for");

        // A copy has the algorithm of its source, or the one that the request asks for.
        let copy = || client.copy_object().bucket(BUCKET).key("copy").copy_source(format!("{BUCKET}/k"));
        let copied = copy().send().await.unwrap().copy_object_result.unwrap();
        assert_eq!(copied.checksum_sha256(), Some(sum));
        let copied = copy().checksum_algorithm(ChecksumAlgorithm::Crc32C).send().await.unwrap();
        assert_eq!(copied.copy_object_result().unwrap().checksum_crc32_c(), Some("4waSgw=="));
    });
}

/// Uploads `123456789` in two parts, of which the first is padded to the smallest size.
struct Upload<'f> {
    client: &'f Client,
    id: String,
    parts: Vec<CompletedPart>,
}

impl<'f> Upload<'f> {
    async fn sha256(client: &'f Client) -> Self {
        let create = client.create_multipart_upload().bucket(BUCKET).key("k");
        let created = create.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
        assert_eq!(created.checksum_algorithm(), Some(&ChecksumAlgorithm::Sha256));
        assert_eq!(created.checksum_type(), Some(&ChecksumType::Composite));
        let mut upload = Self { client, id: created.upload_id.unwrap(), parts: Vec::new() };
        for (number, body) in [(1, vec![0; PART_BYTES]), (2, b"123456789".to_vec())] {
            let put = client.upload_part().bucket(BUCKET).key("k").upload_id(&upload.id).part_number(number);
            let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).body(body.into()).send().await.unwrap();
            let part = CompletedPart::builder().part_number(number).set_e_tag(put.e_tag);
            upload.parts.push(part.set_checksum_sha256(put.checksum_sha256).build());
        }
        upload
    }

    fn complete(
        &self,
        parts: Vec<CompletedPart>,
    ) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder {
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(BUCKET).key("k");
        complete.upload_id(&self.id).multipart_upload(list)
    }
}

#[test]
fn an_upload_has_a_checksum_of_the_checksums_of_its_parts() {
    run(|it| async move {
        // This client sends the checksum that it is asked for.
        let upload = Upload::sha256(&it.client).await;
        let client = plain(&it);
        let put = || {
            let put = client.upload_part().bucket(BUCKET).key("k").upload_id(&upload.id).part_number(3);
            put.body(ByteStream::from_static(b"x"))
        };
        refused!(put(), "InvalidRequest", 400);
        refused!(put().checksum_crc32("AAAAAA=="), "InvalidRequest", 400);
        let listed = client.list_parts().bucket(BUCKET).key("k").upload_id(&upload.id).send().await.unwrap();
        assert_eq!(listed.parts()[1].checksum_sha256(), upload.parts[1].checksum_sha256());
        let bare: Vec<CompletedPart> = upload
            .parts
            .iter()
            .map(|part| CompletedPart::builder().part_number(part.part_number().unwrap()).e_tag(part.e_tag().unwrap()))
            .map(CompletedPartBuilder::build)
            .collect();
        refused!(upload.complete(bare), "InvalidRequest", 400);
        let mut wrong = upload.parts.clone();
        wrong[0] = CompletedPart::builder()
            .part_number(1)
            .e_tag(wrong[0].e_tag().unwrap())
            .checksum_sha256(upload.parts[1].checksum_sha256().unwrap())
            .build();
        refused!(upload.complete(wrong), "InvalidPart", 400);
        refused!(upload.complete(upload.parts.clone()).mpu_object_size(5), "InvalidRequest", 400);
        let other = upload.parts[0].checksum_sha256().unwrap();
        refused!(upload.complete(upload.parts.clone()).checksum_sha256(other), "BadDigest", 400);

        // SHA-256 of both digests, calculated with another tool.
        let sum = "CfwSQNlfMZO+f/tihNmdkizt6IcT1SUofwEv27lZC3o=-2";
        let done = upload.complete(upload.parts.clone()).checksum_sha256(sum).send().await.unwrap();
        assert_eq!((done.checksum_sha256(), done.checksum_type()), (Some(sum), Some(&ChecksumType::Composite)));
        let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
        let head = head.send().await.unwrap();
        assert_eq!((head.checksum_sha256(), head.checksum_type()), (Some(sum), Some(&ChecksumType::Composite)));
        let part = client.get_object().bucket(BUCKET).key("k").part_number(2).checksum_mode(ChecksumMode::Enabled);
        let part = part.send().await.unwrap();
        assert_eq!(part.checksum_sha256(), Some("FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="));
        let again = upload.complete(upload.parts.clone()).send().await.unwrap();
        assert_eq!((again.e_tag(), again.checksum_sha256()), (done.e_tag(), Some(sum)));
    });
}

#[test]
fn a_crc_is_of_the_whole_object_where_the_client_asks_for_it() {
    run(|it| async move {
        let client = plain(&it);
        let create = || client.create_multipart_upload().bucket(BUCKET).key("k");
        let ask = |algorithm, kind| create().checksum_algorithm(algorithm).checksum_type(kind);
        refused!(ask(ChecksumAlgorithm::Sha256, ChecksumType::FullObject), "InvalidRequest", 400);
        refused!(ask(ChecksumAlgorithm::Crc64Nvme, ChecksumType::Composite), "InvalidRequest", 400);
        refused!(ask("ADLER32".into(), ChecksumType::FullObject), "InvalidRequest", 400);
        refused!(create().checksum_type(ChecksumType::FullObject), "InvalidRequest", 400);

        for algorithm in [None, Some(ChecksumAlgorithm::Crc32)] {
            let kind = algorithm.as_ref().map(|_| ChecksumType::FullObject);
            let client = if algorithm.is_some() { &it.client } else { &client };
            let begun =
                create().set_checksum_algorithm(algorithm.clone()).set_checksum_type(kind).send().await.unwrap();
            let put =
                client.upload_part().bucket(BUCKET).key("k").set_upload_id(begun.upload_id.clone()).part_number(1);
            let put = put.set_checksum_algorithm(algorithm.clone()).body(ByteStream::from_static(b"123456789"));
            let put = put.send().await.unwrap();
            let part = CompletedPart::builder().part_number(1).set_e_tag(put.e_tag).build();
            let list = CompletedMultipartUpload::builder().parts(part).build();
            let complete = client.complete_multipart_upload().bucket(BUCKET).key("k").multipart_upload(list);
            let done = complete.set_upload_id(begun.upload_id).send().await.unwrap();
            let expected = match algorithm {
                None => (None, Some("rosUhgp5mIg=")),
                Some(_) => (Some("y/Q5Jg=="), None),
            };
            assert_eq!((done.checksum_crc32(), done.checksum_crc64_nvme()), expected);
            assert_eq!(done.checksum_type(), Some(&ChecksumType::FullObject));
        }
    });
}
