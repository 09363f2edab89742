//! The clients themselves, at the limits that hold outside of tests: time passes by itself where nothing else is to
//! be done.

use std::io::Write as _;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::FaultClass;
use batchplan_store::{AddressingStyle, HttpStore, ObjectContent, Store, StoreConfig, StoreProvider};
use bytes::Bytes;
use md5::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

fn stores(endpoint: &str) -> [(&'static str, Box<dyn Store>); 2] {
    let keys = || SharedCredentialsProvider::new(Credentials::new("AKID", "hushhush", None, None, "tests"));
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(endpoint.to_owned()),
        region: None,
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    let s3 = HttpStore::s3(&config, "us-east-1", keys()).expect("a store");
    let oss = HttpStore::oss(endpoint, AddressingStyle::Path, "cn-hangzhou", keys()).expect("a store");
    [("s3", Box::new(s3)), ("oss", Box::new(oss))]
}

/// A server that has each connection handled so, after the head of its first request.
async fn serving<F>(handle: impl Fn(TcpStream, String) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            tokio::spawn(handle(stream, String::from_utf8_lossy(&head).into_owned()));
        }
    });
    host
}

/// Until the client leaves.
async fn wait(mut stream: TcpStream) {
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

fn object() -> (BucketName, ObjectKey) {
    (BucketName::new("bkt"), ObjectKey::from("big"))
}

fn md5_of(content: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(content))
}

#[tokio::test(start_paused = true)]
async fn a_download_that_falls_silent_is_an_error_after_a_minute() {
    let host = serving(|mut stream, _| async move {
        let head = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 1000000\r\n\r\nsome";
        stream.write_all(head.as_bytes()).await.expect("taken");
        wait(stream).await;
    })
    .await;
    for (name, store) in stores(&format!("http://{host}")) {
        let (bucket, key) = object();
        let mut opened = store.read(&bucket, &key, None).await.expect("a head");
        let began = Instant::now();
        let error = opened.body.read_to_end(&mut Vec::new()).await.expect_err("an end");
        let said = error.to_string();
        assert!(said.starts_with(&format!("{host} sent nothing for 60 s")), "{name}: {said}");
        assert!(said.contains(&format!("GET http://{host}/bkt/big")), "{name}: {said}");
        assert_eq!(began.elapsed().as_secs(), 60, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_that_trickles_is_an_error_after_a_minute() {
    let host = serving(|mut stream, _| async move {
        let head = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("taken");
        while stream.write_all(b"some").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    for (name, store) in stores(&format!("http://{host}")) {
        let (bucket, key) = object();
        let mut opened = store.read(&bucket, &key, None).await.expect("a head");
        let began = Instant::now();
        let said = opened.body.read_to_end(&mut Vec::new()).await.expect_err("an end").to_string();
        assert!(said.starts_with(&format!("{host} sent only ")), "{name}: {said}");
        assert!((60..=120).contains(&began.elapsed().as_secs()), "{name}: {:?}", began.elapsed());
    }
}

/// A server that takes nothing of an upload, or a little of it now and then.
#[tokio::test]
async fn an_upload_that_is_not_taken_is_an_error() {
    for drip in [None, Some(())] {
        let host = serving(move |stream, _| async move {
            let mut stream = stream;
            while drip.is_some() && stream.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            tokio::time::sleep(Duration::from_hours(10)).await;
            drop(stream);
        })
        .await;
        let content = vec![7_u8; 12 << 20];
        let md5 = md5_of(&content);
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&content).expect("written");
        let contents = [ObjectContent::Bytes(Bytes::from(content)), ObjectContent::File(file.path().to_owned())];
        let [(_, store), _] = stores(&format!("http://{host}"));
        for content in contents {
            let (bucket, key) = object();
            // What is read from a file is read on another thread, whose time is real: only the wait is not.
            let writing = store.write(&bucket, &key, content, &md5);
            let skipping = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                tokio::time::pause();
                std::future::pending::<()>().await;
            };
            let fault = tokio::select! {
                written = writing => written.expect_err("it is not taken"),
                () = skipping => unreachable!(),
            };
            tokio::time::resume();
            assert_eq!((fault.class, fault.code.as_str()), (FaultClass::Ambiguous, "RequestTimeout"), "{fault}");
            assert!(fault.message.starts_with(&format!("{host} accepted ")), "{fault}");
            assert_eq!(fault.request_line, format!("PUT http://{host}/bkt/big"));
        }
    }
}

/// Large and small, from memory and from a file: what arrives is what was sent, with its digests.
#[tokio::test]
async fn what_is_uploaded_in_pieces_arrives_whole() {
    for size in [0, 1, 64 << 10, (64 << 10) + 1, 1 << 20] {
        let content: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[1]).collect();
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&content).expect("written");
        for from_file in [false, true] {
            let (sender, mut arrived) = tokio::sync::mpsc::channel(1);
            let host = serving(move |mut stream, head| {
                let sender = sender.clone();
                async move {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    let mut body = vec![0; length.expect("a length")];
                    stream.read_exact(&mut body).await.expect("a body");
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("taken");
                    sender.send((head, body)).await.expect("wanted");
                    wait(stream).await;
                }
            })
            .await;
            let [(_, store), _] = stores(&format!("http://{host}"));
            let (bucket, key) = object();
            let sent = if from_file {
                ObjectContent::File(file.path().to_owned())
            } else {
                ObjectContent::Bytes(Bytes::from(content.clone()))
            };
            store.write(&bucket, &key, sent, &md5_of(&content)).await.expect("written");
            let (head, body) = arrived.recv().await.expect("a request");
            assert!(body == content, "{size} {from_file}");
            let digest = batchplan_store::hex::hex(&sha2::Sha256::digest(&content));
            assert!(head.contains(&format!("x-amz-content-sha256: {digest}\r\n")), "{head}");
            assert!(head.contains(&format!("content-md5: {}\r\n", md5_of(&content))), "{head}");
        }
    }
}

/// A refusal that begins and never ends is told by its status, in bounded time.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_falls_silent_is_told_by_its_status() {
    let host = serving(|mut stream, _| async move {
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000\r\n\r\n<Error><Code>AccessDe";
        stream.write_all(head.as_bytes()).await.expect("taken");
        wait(stream).await;
    })
    .await;
    for (name, store) in stores(&format!("http://{host}")) {
        let (bucket, key) = object();
        let began = Instant::now();
        let fault = store.read(&bucket, &key, None).await.map(drop).expect_err("refused");
        assert!(began.elapsed() <= Duration::from_secs(11), "{name}: {:?}", began.elapsed());
        assert_eq!((fault.status, fault.code.as_str()), (Some(403), "AccessDenied"), "{name}: {fault}");
    }
}

/// A body that breaks off is read on from there, and only while it is the same object.
#[tokio::test]
async fn a_read_is_continued_where_it_broke_off() {
    let host = serving(|mut stream, head| async move {
        assert!(head.contains("range: bytes=4-\r\n") && head.contains("if-match: \"e\"\r\n"), "{head}");
        let etag = if head.contains("/changed") { "other" } else { "e" };
        let answer = format!(
            "HTTP/1.1 206 Partial\r\nConnection: close\r\nETag: \"{etag}\"\r\nContent-Range: bytes 4-7/8\r\n\
             Content-Length: 4\r\n\r\nrest"
        );
        stream.write_all(answer.as_bytes()).await.expect("taken");
    })
    .await;
    for (name, store) in stores(&format!("http://{host}")) {
        let (bucket, key) = object();
        let mut rest = store.resume_read(&bucket, &key, "e", 4).await.expect("the rest");
        let mut text = String::new();
        rest.body.read_to_string(&mut text).await.expect("read");
        assert_eq!((text.as_str(), rest.size), ("rest", 4), "{name}");
        let changed =
            store.resume_read(&bucket, &ObjectKey::from("changed"), "e", 4).await.map(drop).expect_err("another one");
        assert_eq!(changed.class, FaultClass::Rejected, "{name}");
    }
}
