//! The bucket that crashes are tested against, asked through the product's own client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use batchplan_store::object::{BucketName, ObjectAcl, ObjectId, ObjectKey, RestoreRequest, RestoreState, TagSet};
use batchplan_store::object_request::{ObjectRequest, ObjectResponse, ResponseData};
use batchplan_store::task::{FaultClass, StoreError};
use batchplan_store::{AddressingStyle, HttpStore, ListRequest, ObjectContent, Store as _, StoreConfig, StoreProvider};
use tokio::io::AsyncReadExt as _;

use crate::bucket::{BucketServer, Count, Faults, Kind, Moment, Object};

/// Keys that break whoever decodes, normalises or quotes once too often.
const ODD_KEYS: &[&str] =
    &["a+b", "a%2Fb", "a b", "?x#y", "//", "/lead", "../x", "é", "日本", "\t", "q\"c,", "&<>", "%"];

/// A server with the bucket `b`, pages of four keys, and a client for it.
fn served(faults: Faults, seed: u64) -> (BucketServer, HttpStore) {
    let server = BucketServer::start(&["b"], 4, faults, seed);
    let config = StoreConfig {
        provider: StoreProvider::S3,
        endpoint: Some(server.endpoint()),
        region: None,
        addressing: AddressingStyle::Path,
        role_arn: None,
        data: None,
        fill: None,
        allow_http: false,
        requester_pays: false,
        aws_endpoints: batchplan_store::AwsEndpointSettings::default(),
    };
    let provider = SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "tests"));
    let store = HttpStore::s3(&config, "us-east-1", provider).expect("a store");
    (server, store)
}

fn id(key: &str) -> ObjectId {
    ObjectId { bucket: BucketName::new("b"), key: ObjectKey::from(key), version: None }
}

fn put_tags(pairs: &[(&str, &str)]) -> ObjectRequest {
    ObjectRequest::PutTags(pairs.iter().copied().collect::<TagSet>())
}

async fn learned(store: &HttpStore, key: &str, call: ObjectRequest) -> ResponseData {
    store.send_request(&id(key), &call).await.unwrap_or_else(|fault| panic!("{key:?}: {fault}")).data
}

async fn refused(store: &HttpStore, key: &str, call: ObjectRequest) -> (Option<u16>, String) {
    let fault = store.send_request(&id(key), &call).await.expect_err("a refusal");
    (fault.status, fault.code)
}

#[tokio::test]
async fn odd_keys_come_through_and_are_listed_over_pages() {
    let (server, store) = served(Faults::default(), 0);
    for key in ODD_KEYS {
        server.put("b", *key, Object::default());
        let tags = [("of", "this & <that>"), ("é", "")];
        assert_eq!(learned(&store, key, put_tags(&tags)).await, ResponseData::Empty);
        assert_eq!(learned(&store, key, ObjectRequest::GetTags).await, ResponseData::Tags(tags.into_iter().collect()));
        assert_eq!(server.state("b", key).expect("an object").tags["of"], "this & <that>", "{key:?}");
    }
    let mut request = ListRequest {
        bucket: BucketName::new("b"),
        prefix: ObjectKey::from(""),
        all_versions: false,
        group_by_directory: false,
        from: None,
    };
    let mut listed = Vec::new();
    loop {
        let page = store.list(&request).await.expect("a page");
        assert!(page.entries.len() <= 4);
        listed.extend(page.entries.into_iter().map(|entry| entry.key));
        let Some(next) = page.next else { break };
        request.from = Some(next);
    }
    let mut keys: Vec<_> = ODD_KEYS.iter().map(|key| ObjectKey::from(*key)).collect();
    keys.sort();
    assert_eq!(listed, keys);
    assert_eq!(server.count(Kind::List), Count { arrived: 4, served: 4 });
    let narrow = ListRequest { prefix: ObjectKey::from("a"), from: None, ..request };
    assert_eq!(store.list(&narrow).await.expect("a page").entries.len(), 3);
}

#[tokio::test]
async fn every_call_does_what_s3_does() {
    let (server, store) = served(Faults::default(), 0);
    server.put("b", "k", Object { class: "DEEP_ARCHIVE".to_owned(), ..Object::default() });
    for acl in [ObjectAcl::PublicRead, ObjectAcl::PublicReadWrite, ObjectAcl::Private] {
        learned(&store, "k", ObjectRequest::PutAcl(acl.clone())).await;
        assert_eq!(learned(&store, "k", ObjectRequest::GetAcl).await, ResponseData::Acl(acl));
    }
    assert_eq!(server.state("b", "k").expect("an object").acl, "private");
    learned(&store, "k", put_tags(&[("a", "1")])).await;
    assert_eq!(
        store.send_request(&id("k"), &ObjectRequest::DeleteTags).await.map(|reply| reply.status).ok(),
        Some(204)
    );
    assert_eq!(learned(&store, "k", ObjectRequest::GetTags).await, ResponseData::Tags(TagSet::default()));
    let restore = ObjectRequest::Restore(RestoreRequest { days: Some(3), tier: None });
    let ObjectResponse { status, .. } = store.send_request(&id("k"), &restore).await.expect("restored");
    assert_eq!((status, server.state("b", "k").expect("an object").restoring), (202, Some(3)));
    assert_eq!(refused(&store, "k", restore).await, (Some(409), "RestoreAlreadyInProgress".to_owned()));
    let ResponseData::Head { class, restoration, .. } = learned(&store, "k", ObjectRequest::Head).await else {
        panic!("no head")
    };
    assert_eq!((class.as_str(), restoration), ("DEEP_ARCHIVE", RestoreState::InProgress));
    server.put("b", "gone", Object { gone: true, ..Object::default() });
    for missing in ["gone", "never there"] {
        assert_eq!(refused(&store, missing, ObjectRequest::GetTags).await, (Some(404), "NoSuchKey".to_owned()));
    }
    let nowhere = ObjectId { bucket: BucketName::new("other"), ..id("k") };
    assert_eq!(
        store.send_request(&nowhere, &ObjectRequest::Head).await.map_err(|fault| fault.status).err(),
        Some(Some(404))
    );
    let versioned = ObjectId { version: Some(batchplan_store::object::VersionId::new("v")), ..id("k") };
    assert_eq!(
        store.send_request(&versioned, &ObjectRequest::GetTags).await.map_err(|fault| fault.status).err(),
        Some(Some(501))
    );
    assert_eq!((server.count(Kind::PutAcl).served, server.count(Kind::Other).arrived), (3, 1));
    assert_eq!(server.requests(), 16);
}

#[tokio::test]
async fn contents_are_checked_on_their_way_in_and_pinned_on_their_way_out() {
    let (server, store) = served(Faults::default(), 0);
    let (bucket, key) = (BucketName::new("b"), ObjectKey::from("reports/1.csv"));
    let hello = || ObjectContent::Bytes(bytes::Bytes::from_static(b"hello"));
    let wrong = store.write(&bucket, &key, hello(), "AAAAAAAAAAAAAAAAAAAAAA==").await.expect_err("a refusal");
    assert_eq!(wrong.code, "BadDigest");
    assert!(server.uploads("b").is_empty());
    store.write(&bucket, &key, hello(), "XUFAKrxLKna5cZ2REBfFkg==").await.expect("written");
    server.put("b", "made by the test", Object::default());
    let uploads: Vec<_> = server.uploads("b").into_iter().collect();
    assert_eq!(uploads, [("reports/1.csv".to_owned(), bytes::Bytes::from_static(b"hello"))]);
    let mut opened = store.read(&bucket, &key, Some("5d41402abc4b2a76b9719d911017c592")).await.expect("opened");
    let mut text = String::new();
    opened.body.read_to_string(&mut text).await.expect("read");
    assert_eq!((text.as_str(), opened.size, opened.etag.as_str()), ("hello", 5, "5d41402abc4b2a76b9719d911017c592"));
    let changed = store.read(&bucket, &key, Some("00000000000000000000000000000000")).await;
    assert_eq!(changed.map(|_| ()).map_err(|fault| fault.status), Err(Some(412)));
}

/// What a request meets, and whether it was carried out.
async fn met(faults: Faults) -> (StoreError, bool, Count) {
    let (server, store) = served(faults, 1);
    server.put("b", "k", Object::default());
    let fault = store.send_request(&id("k"), &put_tags(&[("a", "1")])).await.expect_err("a fault");
    let carried_out = !server.state("b", "k").expect("an object").tags.is_empty();
    (fault, carried_out, server.count(Kind::PutTags))
}

#[tokio::test]
async fn faults_are_what_they_are_called() {
    let none = Faults { latency: Duration::from_millis(2), ..Faults::default() };
    let spoiled = Count { arrived: 1, served: 0 };
    let (fault, carried_out, count) = met(Faults { throttled: 1.0, ..none }).await;
    assert_eq!((fault.status, fault.class, carried_out), (Some(503), FaultClass::Throttled, false));
    assert_eq!(count, spoiled);
    let (fault, carried_out, count) = met(Faults { broken: 1.0, ..none }).await;
    assert_eq!((fault.status, fault.class, carried_out), (Some(500), FaultClass::Ambiguous, false));
    assert_eq!(count, spoiled);
    for (faults, wanted) in [(Faults { unheard: 1.0, ..none }, false), (Faults { lost: 1.0, ..none }, true)] {
        let (fault, carried_out, count) = met(faults).await;
        assert_eq!((fault.status, fault.class, carried_out), (None, FaultClass::Ambiguous, wanted));
        assert_eq!(count, spoiled);
    }
}

/// Which of some requests went well, each object asked for twice, in this order.
async fn went_well(seed: u64, keys: impl Iterator<Item = u32>) -> Vec<(u32, bool, bool)> {
    let (server, store) = served(Faults { throttled: 0.5, ..Faults::default() }, seed);
    let mut all = Vec::new();
    for n in keys {
        let key = format!("k{n}");
        server.put("b", key.as_str(), Object::default());
        let first = store.send_request(&id(&key), &ObjectRequest::GetTags).await.is_ok();
        let second = store.send_request(&id(&key), &ObjectRequest::GetTags).await.is_ok();
        all.push((n, first, second));
    }
    all.sort_unstable();
    all
}

#[tokio::test]
async fn fate_follows_from_the_seed_whatever_the_order() {
    let there = went_well(7, 0..40).await;
    assert_eq!(went_well(7, (0..40).rev()).await, there);
    assert_ne!(went_well(8, 0..40).await, there);
    assert!(there.iter().any(|(_, first, second)| first != second), "a repeat may fare otherwise");
}

#[tokio::test]
async fn the_test_is_called_at_the_request_of_its_choosing() {
    for (moment, carried_out) in [(Moment::Arrived, false), (Moment::CarriedOut, true)] {
        let (server, store) = served(Faults::default(), 0);
        for key in ["k1", "k2", "k3"] {
            server.put("b", key, Object::default());
        }
        let called = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&called);
        server.call_at(2, Kind::writes, moment, move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        learned(&store, "k1", put_tags(&[("a", "1")])).await;
        learned(&store, "k1", ObjectRequest::GetTags).await;
        assert_eq!(called.load(Ordering::Relaxed), 0);
        let fault = store.send_request(&id("k2"), &put_tags(&[("a", "1")])).await.expect_err("no answer");
        assert_eq!((fault.status, called.load(Ordering::Relaxed)), (None, 1));
        assert_eq!(!server.state("b", "k2").expect("an object").tags.is_empty(), carried_out);
        learned(&store, "k3", put_tags(&[("a", "1")])).await;
        assert_eq!(called.load(Ordering::Relaxed), 1);
        server.call_at(1, Kind::works, moment, || panic!("forgotten"));
        server.call_no_more();
        learned(&store, "k3", ObjectRequest::GetTags).await;
    }
}
