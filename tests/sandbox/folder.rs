//! What outlives the process, and what a sandbox holds at first use.

use std::path::Path;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart};
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxError, SandboxOptions};

use crate::fixture::{BUCKET, client, list_v2, serve};

fn filled(dir: &Path) -> Sandbox {
    let table = dir.join("quick.csv");
    std::fs::write(&table, "bucket,key,size,storage_class\ntest-bucket,a%2Bb,3000000,STANDARD\n").unwrap();
    let files = dir.join("quick.files/test-bucket/lists");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("manifest.csv"), "x".repeat(5000)).unwrap();
    Sandbox::open(&dir.join("data"), Some(&table), SandboxOptions::default()).unwrap()
}

#[test]
fn what_it_holds_outlives_it_and_it_is_filled_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = filled(dir.path());
        assert!(matches!(
            Sandbox::open(&dir.path().join("data"), None, SandboxOptions::default()),
            Err(SandboxError::InUse(_))
        ));
        let server = serve(sandbox);
        let s3 = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        let zeros = s3.get_object().bucket(BUCKET).key("a+b").send().await.unwrap();
        assert_eq!(zeros.body.collect().await.unwrap().into_bytes(), vec![0; 3_000_000]);
        s3.delete_object().bucket(BUCKET).key("a+b").send().await.unwrap();
        s3.put_object().bucket(BUCKET).key("new").body(vec![1; 100_000].into()).send().await.unwrap();
        server.stop();

        let server = serve(filled(dir.path()));
        let s3 = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        assert_eq!(list_v2(&s3, 10).await, ["lists/manifest.csv", "new"]);
        let got = s3.get_object().bucket(BUCKET).key("new").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), vec![1; 100_000]);
        let got = s3.get_object().bucket(BUCKET).key("lists/manifest.csv").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), "x".repeat(5000));
    });
}

#[test]
fn checksums_and_parts_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = || serve(Sandbox::open(dir.path(), None, SandboxOptions::default()).unwrap());
    runtime.block_on(async {
        let server = open();
        let s3 = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        let create = s3.create_multipart_upload().bucket(BUCKET).key("k").checksum_algorithm(ChecksumAlgorithm::Crc32C);
        let id = create.send().await.unwrap().upload_id.unwrap();
        let put = s3.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(1);
        let put = put.checksum_algorithm(ChecksumAlgorithm::Crc32C).body(b"123456789".to_vec().into());
        let put = put.send().await.unwrap();
        server.stop();

        let server = open();
        let s3 = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        let part = CompletedPart::builder().part_number(1).set_e_tag(put.e_tag).checksum_crc32_c("4waSgw==").build();
        let list = CompletedMultipartUpload::builder().parts(part).build();
        let complete = s3.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).multipart_upload(list);
        let done = complete.send().await.unwrap();
        server.stop();

        let server = open();
        let s3 = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        let head = s3.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
        assert_eq!(head.send().await.unwrap().checksum_crc32_c(), done.checksum_crc32_c());
        assert!(done.checksum_crc32_c().unwrap().ends_with("-1"));
        let part = s3.head_object().bucket(BUCKET).key("k").part_number(1).checksum_mode(ChecksumMode::Enabled);
        let part = part.send().await.unwrap();
        assert_eq!((part.parts_count(), part.checksum_crc32_c()), (Some(1), Some("4waSgw==")));
    });
}

#[test]
fn a_bad_fill_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("bad.csv");
    std::fs::write(&table, "bucket,key\ntest-bucket,a\ntest-bucket,a\n").unwrap();
    let data = dir.path().join("data");
    let opened = Sandbox::open(&data, Some(&table), SandboxOptions::default());
    assert!(matches!(opened, Err(SandboxError::Seed { row: 3, .. })));
    std::fs::write(&table, "bucket,key\ntest-bucket,a\n").unwrap();
    assert!(Sandbox::open(&data, Some(&table), SandboxOptions::default()).is_ok());
}
