//! The same objects in OSS's dialect, asked by a client of the fewest lines that signs as OSS wants it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aws_sdk_s3::types::{ObjectCannedAcl, ObjectOwnership, StorageClass};
use batchplan_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox, SandboxOptions};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::fixture::{BUCKET, Fixture, OTHER_KEYS, noon, restore, run, run_with_owners, serve};

/// An answer, as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The text between the first of these tags.
    fn element(&self, name: &str) -> &str {
        let begun = self.body.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name}: {}", self.body));
        begun.1.split_once(&format!("</{name}>")).unwrap().0
    }

    fn refusal(&self) -> (u16, &str) {
        assert!(!self.element("RequestId").is_empty() && !self.element("EC").is_empty());
        assert_eq!(self.header("x-oss-request-id"), Some(self.element("RequestId")));
        (self.status, self.element("Code"))
    }
}

/// A request; the target is URL-encoded by whoever writes it.
struct Ask<'a> {
    method: &'a str,
    target: &'a str,
    host: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
    keys: Option<(&'a str, &'a str)>,
    /// Milliseconds since 1970.
    at: i64,
}

fn ask<'a>(method: &'a str, target: &'a str) -> Ask<'a> {
    Ask {
        method,
        target,
        host: "127.0.0.1",
        headers: Vec::new(),
        body: b"",
        keys: Some((ACCESS_KEY, SECRET_KEY)),
        at: noon(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

impl<'a> Ask<'a> {
    fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn body(mut self, body: &'a str) -> Self {
        self.body = body.as_bytes();
        self
    }

    fn authorization(&self, date: &str, (access, secret): (&str, &str)) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.sort_unstable();
        let bucket_of_host = self.host.split_once('.').filter(|_| !self.host.starts_with("127."));
        let resource = bucket_of_host.map_or_else(|| path.to_owned(), |(bucket, _)| format!("/{bucket}{path}"));
        let mut headers: Vec<String> = self.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        headers.push("x-oss-content-sha256:UNSIGNED-PAYLOAD\n".to_owned());
        headers.push(format!("x-oss-date:{date}\n"));
        headers.sort_unstable();
        let canonical =
            format!("{}\n{resource}\n{}\n{}\n\nUNSIGNED-PAYLOAD", self.method, pairs.join("&"), headers.concat());
        let scope = format!("{}/cn-hangzhou/oss/aliyun_v4_request", &date[..8]);
        let digest = hex(&Sha256::digest(canonical));
        let to_sign = format!("OSS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
        let mut key = format!("aliyun_v4{secret}").into_bytes();
        for part in scope.split('/').chain([to_sign.as_str()]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        format!("OSS4-HMAC-SHA256 Credential={access}/{scope},Signature={}", hex(&key))
    }

    fn send(&self, endpoint: &str) -> Answer {
        let date = Timestamp::from_millisecond(self.at).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut head = vec![format!("{} {} HTTP/1.1", self.method, self.target), format!("Host: {}", self.host)];
        head.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        head.push(format!("x-oss-date: {date}"));
        head.push("x-oss-content-sha256: UNSIGNED-PAYLOAD".to_owned());
        head.extend(self.keys.map(|keys| format!("Authorization: {}", self.authorization(&date, keys))));
        head.push(format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len()));
        let head = head.join("\r\n");
        let mut stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(self.body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    /// Sends it from a thread of its own, so that the test's runtime goes on.
    fn to(self, it: &Fixture) -> Answer {
        self.send(&it.server.endpoint())
    }
}

#[test]
fn who_asks_is_checked_for_every_request() {
    run(|it| async move {
        let list = || ask("GET", "/");
        let listed = list().to(&it);
        assert_eq!((listed.status, listed.element("Name")), (200, BUCKET));
        assert!(listed.header("date").is_some() && listed.header("server").is_some());
        let with = |keys| Ask { keys, ..list() }.to(&it);
        assert_eq!(with(Some((ACCESS_KEY, "other"))).refusal(), (403, "SignatureDoesNotMatch"));
        assert_eq!(with(Some(("other", SECRET_KEY))).refusal(), (403, "InvalidAccessKeyId"));
        let denied = with(None);
        assert_eq!(denied.refusal(), (403, "AccessDenied"));
        assert_eq!(denied.element("EC"), "0003-00000001");
        assert_eq!(denied.header("x-oss-ec"), Some("0003-00000001"));
        for minutes in [-16, 16] {
            let skewed = Ask { at: noon() + minutes * 60_000, ..list() }.to(&it);
            assert_eq!(skewed.refusal(), (403, "RequestTimeTooSkewed"));
        }
        let other = ask("DELETE", "/test-bucket/k").header("authorization", "OSS sandbox:c2lnbmF0dXJl");
        assert_eq!(Ask { keys: None, ..other }.to(&it).refusal(), (400, "InvalidArgument"));
    });
}

#[test]
fn one_object_is_seen_in_both_dialects() {
    run(|it| async move {
        let put = ask("PUT", "/test-bucket/a%2Bb%20%C3%A9").header("content-type", "text/csv").body("1,2");
        let put = put.header("x-oss-meta-from", "oss").header("x-oss-storage-class", "IA").to(&it);
        assert_eq!(put.status, 200, "{put:?}");
        let got = it.client.get_object().bucket(BUCKET).key("a+b é").send().await.unwrap();
        assert_eq!(got.storage_class(), Some(&StorageClass::StandardIa));
        assert_eq!(got.content_type(), Some("text/csv"));
        assert_eq!(got.metadata().unwrap()["from"], "oss");
        let s3_tag = got.e_tag().unwrap().to_owned();
        assert_eq!(put.header("etag"), Some(s3_tag.to_uppercase().as_str()));
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), "1,2");
        for (class, name) in [
            (StorageClass::Glacier, "Archive"),
            (StorageClass::DeepArchive, "DeepColdArchive"),
            (StorageClass::OnezoneIa, "IA"),
            (StorageClass::IntelligentTiering, "Standard"),
        ] {
            it.put_class("class", class).await;
            assert_eq!(ask("HEAD", "/test-bucket/class").to(&it).header("x-oss-storage-class"), Some(name));
        }
        ask("PUT", "/test-bucket/cold").header("x-oss-storage-class", "ColdArchive").to(&it);
        let head = it.client.head_object().bucket(BUCKET).key("cold").send().await.unwrap();
        assert_eq!(head.storage_class(), Some(&StorageClass::Glacier));
        let host = "test-bucket.oss-cn-hangzhou.aliyuncs.com";
        let by_host = Ask { host, ..ask("GET", "/a%2Bb%20%C3%A9") }.to(&it);
        assert_eq!((by_host.status, by_host.body.as_str()), (200, "1,2"));
    });
}

#[test]
fn owners_are_apart_and_grants_become_the_nearest_acl() {
    run_with_owners(|it| async move {
        ask("PUT", "/test-bucket/k").header("x-oss-object-acl", "private").body("open").to(&it);
        let other = |method, target| Ask { keys: Some(OTHER_KEYS), ..ask(method, target) };
        for (method, target) in [
            ("GET", "/test-bucket/"),
            ("GET", "/test-bucket/?acl"),
            ("GET", "/test-bucket/?bucketInfo"),
            ("GET", "/test-bucket/?versioning"),
            ("DELETE", "/test-bucket/"),
            ("GET", "/test-bucket/k"),
            ("GET", "/test-bucket/none"),
            ("GET", "/test-bucket/k?acl"),
            ("GET", "/test-bucket/k?tagging"),
            ("PUT", "/test-bucket/k"),
            ("POST", "/test-bucket/k?uploads"),
            ("POST", "/test-bucket/k?restore"),
            ("DELETE", "/test-bucket/k"),
        ] {
            assert_eq!(other(method, target).to(&it).refusal(), (403, "AccessDenied"), "{method} {target}");
        }
        assert_eq!(other("PUT", "/test-bucket/").to(&it).refusal(), (409, "BucketAlreadyExists"));
        let buckets = other("GET", "/").to(&it);
        assert!(!buckets.body.contains("test-bucket"), "{}", buckets.body);
        assert_ne!(buckets.element("ID"), ask("GET", "/").to(&it).element("ID"));

        let id = it.client.list_buckets().send().await.unwrap().owner.unwrap().id.unwrap();
        let everyone = "uri=http://acs.amazonaws.com/groups/global/AllUsers";
        let acl = || it.client.put_object_acl().bucket(BUCKET).key("k").grant_full_control(format!("id={id}"));
        let nearest = || ask("GET", "/test-bucket/k?acl").to(&it).element("Grant").to_owned();
        acl().send().await.unwrap();
        assert_eq!(nearest(), "private");
        acl().grant_read(everyone).send().await.unwrap();
        assert_eq!(nearest(), "public-read");
        assert_eq!(other("GET", "/test-bucket/k").to(&it).body, "open");
        acl().grant_read(everyone).grant_write(everyone).send().await.unwrap();
        assert_eq!(nearest(), "public-read-write");

        ask("PUT", "/test-bucket/?acl").header("x-oss-acl", "public-read-write").to(&it);
        assert_eq!(other("PUT", "/test-bucket/new").body("theirs").to(&it).status, 200);
        // An object belongs to the bucket's owner, not to its writer.
        let listed = other("GET", "/test-bucket/?prefix=new").to(&it);
        assert_eq!(listed.element("ID"), "1000000000000000");
        assert_eq!(Ask { keys: None, ..ask("GET", "/test-bucket/") }.to(&it).status, 200);
        let several = "<Delete><Object><Key>new</Key></Object></Delete>";
        assert_eq!(other("POST", "/test-bucket/?delete").body(several).to(&it).refusal(), (403, "AccessDenied"));
        assert_eq!(ask("POST", "/test-bucket/?delete").body(several).to(&it).status, 200);
    });
}

#[test]
fn a_document_with_one_invalid_object_deletes_none() {
    run(|it| async move {
        it.put("a", "").await;
        let delete = |objects: &str| {
            let document = format!("<Delete>{objects}</Delete>");
            ask("POST", "/test-bucket/?delete").body(&document).to(&it)
        };
        let named = "<Object><Key>a</Key></Object>";
        for invalid in ["<Object/>", "<Object><Key></Key></Object>", "<Object><Key>b</Key><Size>1</Size></Object>"] {
            assert_eq!(delete(&format!("{named}{invalid}")).refusal(), (400, "MalformedXML"));
            assert_eq!(ask("HEAD", "/test-bucket/a").to(&it).status, 200, "{invalid}");
        }
        assert_eq!(delete(named).status, 200);
        assert_eq!(ask("HEAD", "/test-bucket/a").to(&it).status, 404);
    });
}

#[test]
fn an_acl_of_default_is_the_buckets() {
    run(|it| async move {
        ask("PUT", "/test-bucket/k").body("open").to(&it);
        let grants = async || it.client.get_object_acl().bucket(BUCKET).key("k").send().await.unwrap().grants().len();
        assert_eq!(ask("GET", "/test-bucket/k?acl").to(&it).element("Grant"), "default");
        assert_eq!(grants().await, 1);
        let stranger = || Ask { keys: None, ..ask("GET", "/test-bucket/k") }.to(&it);
        assert_eq!(stranger().refusal(), (403, "AccessDenied"));
        assert_eq!(ask("PUT", "/test-bucket/?acl").header("x-oss-acl", "public-read").to(&it).status, 200);
        assert_eq!(ask("GET", "/test-bucket/?acl").to(&it).element("Grant"), "public-read");
        assert_eq!(grants().await, 2);
        assert_eq!(stranger().body, "open");
        let acl = it.client.put_object_acl().bucket(BUCKET).key("k");
        acl.acl(ObjectCannedAcl::AuthenticatedRead).send().await.unwrap();
        assert_eq!(ask("GET", "/test-bucket/k?acl").to(&it).element("Grant"), "private");
        assert_eq!(stranger().refusal(), (403, "AccessDenied"));
        let wrong = ask("PUT", "/test-bucket/?acl").header("x-oss-acl", "default").to(&it);
        assert_eq!(wrong.refusal(), (400, "InvalidArgument"));
    });
}

#[test]
fn a_restore_follows_the_rules_of_whoever_asks() {
    run(|it| async move {
        let restored = |days: u32| format!("<RestoreRequest><Days>{days}</Days></RestoreRequest>");
        it.put_class("k", StorageClass::Glacier).await;
        assert_eq!(ask("GET", "/test-bucket/k").to(&it).refusal(), (403, "InvalidObjectState"));
        let restored_for = |days| ask("POST", "/test-bucket/k?restore").body(&restored(days)).to(&it);
        assert_eq!(restored_for(8).refusal(), (400, "InvalidArgument"));
        let begun = restored_for(2);
        assert_eq!((begun.status, begun.header("x-oss-object-restore-priority")), (202, None));
        assert_eq!(restored_for(2).refusal(), (409, "RestoreAlreadyInProgress"));
        let head = || ask("HEAD", "/test-bucket/k").to(&it);
        assert_eq!(head().header("x-oss-restore"), Some("ongoing-request=\"true\""));
        it.later(Duration::from_mins(1));
        let until = "ongoing-request=\"false\", expiry-date=\"Fri, 06 Mar 2026 12:01:00 GMT\"";
        assert_eq!(head().header("x-oss-restore"), Some(until));
        let again = it.client.restore_object().bucket(BUCKET).key("k").restore_request(restore(1, Some("Bulk")));
        again.send().await.unwrap();
        let until = "ongoing-request=\"false\", expiry-date=\"Fri, 06 Mar 2026 00:00:00 GMT\"";
        assert_eq!(head().header("x-oss-restore"), Some(until), "AWS goes by midnights");
        it.put("plain", "").await;
        let plain = ask("POST", "/test-bucket/plain?restore").body(&restored(1)).to(&it);
        assert_eq!(plain.refusal(), (400, "OperationNotSupported"));
    });
}

#[test]
fn a_lifecycle_is_seen_in_both_dialects() {
    run(|it| async move {
        let get = || ask("GET", "/test-bucket/?lifecycle").to(&it);
        assert_eq!(get().refusal(), (404, "NoSuchLifecycle"));
        let rule = "<Rule><ID>r</ID><Prefix>p/</Prefix><Status>Enabled</Status>\
                    <Tag><Key>k</Key><Value>v</Value></Tag><Expiration><Days>9</Days></Expiration></Rule>";
        let document = format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>");
        let put = |document: &str| ask("PUT", "/test-bucket/?lifecycle").body(document).to(&it);
        assert_eq!(put(&document).status, 200);
        assert!(get().body.ends_with(&document), "{}", get().body);
        let told = it.client.get_bucket_lifecycle_configuration().bucket(BUCKET).send().await.unwrap();
        let and = told.rules()[0].filter().unwrap().and().unwrap();
        assert_eq!((and.prefix(), and.tags()[0].key()), (Some("p/"), "k"));
        assert_eq!(put("<LifecycleConfiguration/>").refusal(), (400, "MalformedXML"));
        let dated =
            document.replace("<Days>9</Days>", "<CreatedBeforeDate>2026-01-01T00:00:00.000Z</CreatedBeforeDate>");
        assert_eq!(put(&dated).refusal(), (501, "NotImplemented"));
        assert_eq!(ask("DELETE", "/test-bucket/?lifecycle").to(&it).status, 204);
        assert_eq!(get().refusal(), (404, "NoSuchLifecycle"));
        // The bucket's owner may own everything; OSS's ACLs hold all the same.
        it.put("k", "").await;
        it.own(ObjectOwnership::BucketOwnerEnforced).await;
        let acl = ask("PUT", "/test-bucket/k?acl").header("x-oss-object-acl", "public-read").to(&it);
        assert_eq!(acl.status, 200);
    });
}

#[test]
fn hostile_requests_are_refused_and_nothing_else_happens() {
    run(|it| async move {
        it.put("k", "").await;
        let tag = |document: &str| {
            let answer = ask("PUT", "/test-bucket/k?tagging").body(document).to(&it);
            (answer.status, answer.element("Code").to_owned())
        };
        let malformed = (400, "MalformedXML".to_owned());
        assert_eq!(tag("<!DOCTYPE t [<!ENTITY b \"b\">]><Tagging><TagSet/></Tagging>"), malformed);
        assert_eq!(tag("<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet>"), malformed);
        assert_eq!(tag("<Other/>"), malformed);
        assert_eq!(tag(""), malformed);
        for (target, code) in [
            ("/test-bucket/%FF", "InvalidObjectName"),
            ("/test-bucket/%2", "InvalidObjectName"),
            ("/test-bucket/k?tagging&versionId=%", "InvalidArgument"),
            ("/test-bucket/k?tagging&versionId=", "InvalidArgument"),
            ("/test-bucket/k?tagging&acl", "InvalidArgument"),
            ("/test-bucket/?max-keys=0", "InvalidArgument"),
            ("/test-bucket/?list-type=2&continuation-token=%2B", "InvalidArgument"),
        ] {
            // What cannot be read is refused before its signature is looked at.
            let answer = ask("GET", target).to(&it);
            assert!(answer.refusal() == (400, code) || answer.refusal().1 == "SignatureDoesNotMatch", "{answer:?}");
        }
        assert_eq!(ask("GET", "/test-bucket/k?torrent").to(&it).refusal(), (501, "NotImplemented"));
        assert_eq!(ask("PATCH", "/test-bucket/k").to(&it).refusal(), (405, "MethodNotAllowed"));
        let copy = ask("PUT", "/test-bucket/l").header("x-oss-copy-source", "/test-bucket/k").to(&it);
        assert_eq!(copy.refusal(), (501, "NotImplemented"));
        assert!(it.client.head_object().bucket(BUCKET).key("l").send().await.is_err());
    });
}

#[test]
fn a_store_that_throttles_says_so_in_each_dialect() {
    let options = SandboxOptions { max_requests_per_second: Some(1.try_into().unwrap()), ..SandboxOptions::default() };
    let server = serve(Sandbox::in_memory(None, options).unwrap());
    let now = Timestamp::now().as_millisecond();
    let list = || Ask { at: now, ..ask("GET", "/") }.send(&server.endpoint());
    let answers: Vec<Answer> = (0..20).map(|_| list()).collect();
    assert_eq!(answers[0].status, 200);
    let refused =
        answers.iter().find(|answer| answer.status == 503).expect("twenty requests take less than twenty seconds");
    assert_eq!(refused.refusal(), (503, "TotalQpsLimitExceeded"));
    assert_eq!(refused.header("retry-after"), None);
    let plain = |_| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answers: Vec<String> = (0..20).map(plain).collect();
    let refused = answers.iter().find(|answer| answer.contains(" 503 ")).expect("so do twenty more");
    assert!(refused.contains("<Code>SlowDown</Code>"), "{refused}");
}
