//! Servers that send us elsewhere: nothing is ever sent there.

use batchplan_store::Store;
use batchplan_store::object::ObjectKey;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::FaultClass;

use crate::server::{Act, Server, answer, ask, object, oss, s3, stores};

#[tokio::test]
async fn no_redirect_is_followed() {
    let decoy = Server::playing([]).await;
    for status in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"] {
        let headers = format!("Location: {}/bkt/k?tagging\r\nx-amz-bucket-region: eu-west-1\r\n", decoy.endpoint());
        let away = Act::Send(answer(status, &headers, ""));
        let server = Server::playing([away.clone(), away]).await;
        for (name, store) in stores(&server.endpoint()) {
            let fault = ask(&store, &ObjectRequest::GetTags).await.expect_err("a fault");
            assert_eq!(fault.class, FaultClass::Rejected, "{name} {status}");
            for part in [decoy.endpoint().as_str(), "eu-west-1", "nothing was sent there", "[store]"] {
                assert!(fault.message.contains(part), "{name} {status}: {}", fault.message);
            }
        }
    }
    assert_eq!(decoy.connections(), 0);
}

#[tokio::test]
async fn listings_and_whole_objects_are_no_exception() {
    let decoy = Server::playing([]).await;
    let headers = format!("Location: {}/\r\n", decoy.endpoint());
    let server = Server::playing(std::iter::repeat_n(Act::Send(answer("307 Away", &headers, "")), 20)).await;
    let (s3, oss) = (s3(&server.endpoint()), oss(&server.endpoint()));
    let stores: [&dyn Store; 2] = [&s3, &oss];
    let id = object();
    let md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
    for store in stores {
        let content = batchplan_store::ObjectContent::Bytes(bytes::Bytes::new());
        assert!(store.write(&id.bucket, &id.key, content, md5).await.is_err());
        assert!(store.read(&id.bucket, &ObjectKey::from("m"), None).await.is_err());
        let request = batchplan_store::ListRequest {
            bucket: id.bucket.clone(),
            prefix: ObjectKey::from(""),
            all_versions: false,
            group_by_directory: false,
            from: None,
        };
        assert!(store.list(&request).await.is_err());
    }
    assert_eq!(decoy.connections(), 0);
}
