//! What users of other clients reported of their servers, each with the real binary at work on a model of the server.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::gateway::{APPLY, Gateway, Reply, Request};

const PUT: &str = "[operation.put_object_tagging]\ntags = { t = \"1\" }\n";
const RESTORE: &str = "[operation.restore_object]\ndays = 3\n";
const ALL: &str = "[manifest.prefix]\nbucket = \"bkt\"\n";
const CSV: &str = "[manifest.csv]\npath = \"list.csv\"\n";
const S3: &str = "provider = \"s3\"\nregion = \"us-east-1\"\naddressing = \"path\"\n";
const PLAN: [&str; 2] = ["plan", "plan.toml"];
const CHECK: [&str; 2] = ["check", "plan.toml"];

/// A listing of these keys, as they are written, with what each has besides, and what the listing has at its end.
fn listing(keys: &[&str], fields: &str, end: &str) -> Reply {
    let entries: Vec<_> = keys.iter().map(|key| format!("<Contents><Key>{key}</Key>{fields}</Contents>")).collect();
    Reply::new(200, format!("<ListBucketResult>{}{end}</ListBucketResult>", entries.concat()))
}

/// The ACL of an object, `public-read` or `private`.
fn grants(is_public: bool) -> Reply {
    let grant = |grantee: &str, permission: &str| {
        format!("<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>")
    };
    let mut grants = grant("<ID>me</ID>", "FULL_CONTROL");
    if is_public {
        grants += &grant("<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", "READ");
    }
    let list = format!("<AccessControlList>{grants}</AccessControlList>");
    Reply::new(200, format!("<AccessControlPolicy><Owner><ID>me</ID></Owner>{list}</AccessControlPolicy>"))
}

fn listing_of_versions(versions: &str) -> Reply {
    let body = format!("<ListVersionsResult>{versions}<IsTruncated>false</IsTruncated></ListVersionsResult>");
    Reply::new(200, body)
}

/// Cloudflare R2 (<https://github.com/jeessy2/backup-x/issues/127>,
/// <https://github.com/iterate-ch/cyberduck/issues/16377>): no object fails for what the plan has wrong.
#[test]
fn a_region_that_the_server_does_not_have_pauses_the_job() {
    let message = "The region name 'eu-central-1' is not valid. Must be one of: wnam, enam, weur, eeur, apac, oc, auto";
    let server = Gateway::start(&["a", "b"], move |_| Some(Reply::refusal(400, "InvalidRegionName", message)));
    server.write("list.csv", "bkt,a\nbkt,b\nbkt,c\nbkt,d\nbkt,e\n");
    let store = S3.replace("us-east-1", "eu-central-1");
    for (manifest, codes) in [(ALL, [1, 1, 6]), (CSV, [5, 1, 6])] {
        server.plan(&store, &format!("{manifest}{PUT}"));
        for (args, code) in [&APPLY[..], &PLAN, &CHECK].into_iter().zip(codes) {
            let ran = server.run(args).ended(code);
            let ran = ran.says(message).says("requests are signed for the region eu-central-1");
            let hint = "the region in [store] or the environment is not the bucket's";
            assert!(args == CHECK || ran.stderr.contains(hint), "{}\n{}", ran.stdout, ran.stderr);
        }
    }
    let jobs = server.run(&["list", "--json"]).ended(0).json();
    let jobs = jobs["jobs"].as_array().expect("jobs");
    assert!(!jobs.is_empty() && jobs.iter().all(|job| job["failed"] == 0), "{jobs:?}");
}

/// Ceph's tenants (<https://github.com/s3tools/s3cmd/issues/1080>, <https://github.com/getsentry/sentry/issues/30468>).
#[test]
fn the_bucket_of_a_tenant_is_encoded_in_the_path() {
    for manifest in ["[manifest.prefix]\nbucket = \"tenant:bkt\"\n", CSV] {
        let server = Gateway::start(&["a", "b"], |request| {
            let is_encoded = request.path.starts_with("/tenant%3Abkt/");
            (!is_encoded).then(|| Reply::refusal(403, "SignatureDoesNotMatch", "no"))
        });
        server.write("list.csv", "tenant:bkt,a\ntenant:bkt,b\n");
        server.plan(S3, &format!("{manifest}{PUT}"));
        let _ = server.run(&["validate", "plan.toml"]).ended(0);
        assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 2);
        assert_eq!(server.tagged("t"), ["a", "b"]);
    }
    let server = Gateway::start(&[], |_| None);
    server.plan(&S3.replace("s3\"", "aws\""), &format!("[manifest.prefix]\nbucket = \"tenant:bkt\"\n{PUT}"));
    let _ = server.run(&["validate", "plan.toml"]).ended(2).says("is a URL, an ARN or a path");
}

/// Floci (<https://github.com/floci-io/floci/issues/334>), `NooBaa` (<https://github.com/noobaa/noobaa-core/issues/8314>):
/// a job on no version at all is no success if there are objects.
#[test]
fn a_listing_of_versions_without_the_objects_is_refused() {
    let versions = |request: &Request| (request.what() == "GET versions").then(|| listing_of_versions(""));
    let server = Gateway::start(&["a", "b"], versions);
    server.plan(S3, &format!("{ALL}versions = \"all\"\n{PUT}"));
    for (args, code) in [(&APPLY[..], 4), (&PLAN, 1), (&CHECK, 1)] {
        let ran = server.run(args).ended(code).says("it has no version of any object, but a exists");
        assert!(args == CHECK || ran.stderr.contains("leave out `versions = \"all\"`"), "{}", ran.stderr);
    }
    let empty = Gateway::start(&[], versions);
    empty.plan(S3, &format!("{ALL}versions = \"all\"\n{PUT}"));
    assert_eq!(empty.run(&APPLY).ended(0).json()["succeeded"], 0);
    // Who may list versions need not be allowed to list objects.
    let denied = Gateway::start(&["a", "b"], move |request| {
        let refusal = || (request.what() == "GET list").then(|| Reply::refusal(403, "AccessDenied", "no"));
        versions(request).or_else(refusal)
    });
    denied.plan(S3, &format!("{ALL}versions = \"all\"\n{PUT}"));
    assert_eq!(denied.run(&APPLY).ended(0).json()["succeeded"], 0);
}

/// Versity S3 Gateway (<https://github.com/versity/versitygw/issues/893>).
#[test]
fn a_version_that_is_listed_twice_is_not_worked_on_twice() {
    let version = "<Version><Key>a</Key><VersionId>null</VersionId><IsLatest>false</IsLatest><Size>1</Size></Version>";
    let server = Gateway::start(&["a", "b"], move |request| {
        (request.what() == "GET versions").then(|| listing_of_versions(&version.repeat(2)))
    });
    server.plan(S3, &format!("{ALL}versions = \"all\"\n{PUT}"));
    for (args, code) in [(&APPLY[..], 4), (&PLAN, 1)] {
        let _ = server.run(args).ended(code).says("it lists version null of a twice");
    }
    assert_eq!(server.count("PUT tagging"), 0);
}

/// `RunPod` (<https://github.com/runpod/runpod-python/issues/505>), Wasabi (<https://github.com/aws/aws-cli/issues/3917>).
#[test]
fn a_token_that_comes_twice_ends_the_listing() {
    let server = Gateway::start(&["a", "b"], |request| {
        let end = "<IsTruncated>true</IsTruncated><NextContinuationToken>YQ==</NextContinuationToken>";
        (request.what() == "GET list").then(|| listing(&["a"], "", end))
    });
    server.plan(S3, &format!("{ALL}{PUT}"));
    for (args, code) in [(&APPLY[..], 4), (&PLAN, 1)] {
        let _ = server.run(args).ended(code).says("the listing of bkt/ is inconsistent: it went backwards: a after a");
    }
    assert_eq!(server.count("PUT tagging"), 0);
}

/// A server with one object in an archive, whose HEAD has this header.
fn archive(restore: &str, after_request: Option<&'static str>) -> Gateway {
    let (before, requested) = (restore.to_owned(), AtomicUsize::new(0));
    let server = Gateway::start(&["a"], move |request| match request.what().as_str() {
        "GET list" => Some(listing(&["a"], "<StorageClass>GLACIER</StorageClass>", "")),
        "POST restore" => {
            requested.store(1, Ordering::Relaxed);
            Some(Reply::new(202, ""))
        }
        "HEAD object" => {
            let later = after_request.filter(|_| requested.load(Ordering::Relaxed) == 1);
            let reply = Reply::new(200, "x").with("ETag: \"e\"").with("X-Amz-Storage-Class: GLACIER");
            Some(reply.with(&format!("X-Amz-Restore: {}", later.unwrap_or(&before))))
        }
        _ => None,
    });
    server.plan(S3, &format!("{ALL}{RESTORE}"));
    server
}

/// Versity S3 Gateway (<https://github.com/versity/versitygw/issues/1137>,
/// <https://github.com/versity/versitygw/issues/2030>): what it shows without a restore proves none.
#[test]
fn a_restore_header_that_says_nothing_is_no_restore() {
    for nothing in ["", "ongoing-request=\"false\""] {
        let server = archive(nothing, Some("ongoing-request=\"true\""));
        assert_eq!(server.predicted(), ["a change"]);
        assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 1, "{nothing}");
        let server = archive(nothing, None);
        assert_eq!(server.predicted(), ["a change"]);
        let _ = server.run(&APPLY).ended(6).says("HEAD shows no restore");
    }
}

/// `RustFS` (<https://github.com/rustfs/rustfs/pull/7115>, <https://github.com/rustfs/rustfs/issues/8055>).
#[test]
fn the_end_of_a_restore_may_be_a_date_of_rfc_3339() {
    for date in ["2999-10-02T00:00:00Z", "Wed, 02 Oct 2999 00:00:00 GMT"] {
        let server = archive(&format!("ongoing-request=\"false\", expiry-date=\"{date}\""), None);
        let ran = server.run(&["plan", "plan.toml", "--all", "--json"]).ended(0);
        let _ = ran.says("\"restored_copy\":{\"until\":\"2999-10-02T00:00:00Z\"}");
        assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 1);
    }
}

/// rclone (<https://github.com/rclone/rclone/issues/7836>): such a key cannot be told from one that has a `%`.
#[test]
fn keys_that_are_encoded_without_a_word_about_it_are_taken_as_written() {
    let server = Gateway::start(&["\u{c6}ther Realm/1.mp3", "b"], |request| {
        (request.what() == "GET list").then(|| listing(&["%C3%86ther+Realm/1.mp3", "b"], "", ""))
    });
    server.plan(S3, &format!("{ALL}{PUT}[limits]\nfailure_threshold = 1\n"));
    assert_eq!(server.predicted(), ["%C3%86ther+Realm/1.mp3 NoSuchKey", "b change"]);
    assert_eq!(server.run(&APPLY).ended(3).json()["failed"], 1);
    assert_eq!(server.tagged("t"), ["b"]);
    let _ = server.run(&PLAN).ended(0).says("check keys, version IDs and URL encoding in the manifest");
}

/// Hitachi HCP (<https://github.com/archiecobbs/s3backer/issues/48>), reverse proxies
/// (<https://github.com/larrabee/s3sync/issues/82>), Google Cloud Storage
/// (<https://github.com/benbjohnson/litestream/issues/1386>).
#[test]
fn responses_are_not_to_be_compressed() {
    for obeys in [true, false] {
        let server = Gateway::start(&["a", "b"], move |request| {
            if request.header("authorization").contains("accept-encoding") {
                return Some(Reply::refusal(403, "SignatureDoesNotMatch", "a proxy changed Accept-Encoding"));
            }
            if request.method != "GET" || (obeys && request.header("accept-encoding") == "identity") {
                return None;
            }
            let gzip = vec![0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            Some(Reply::new(200, gzip).with("Content-Encoding: gzip"))
        });
        server.write("list.csv", "bkt,a\nbkt,b\n");
        server.plan(S3, &format!("{ALL}{PUT}"));
        if obeys {
            assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 2);
            continue;
        }
        let why = "the server or a proxy compressed it, which was not requested";
        let _ = server.run(&APPLY).ended(4).says(why);
        server.plan(S3, &format!("{CSV}{PUT}"));
        let _ = server.run(&APPLY).ended(6).says(why);
        assert_eq!(server.count("PUT tagging"), 0);
    }
}

/// Scaleway, Oracle and others (<https://github.com/apache/opendal/pull/6589>,
/// <https://github.com/s3tools/s3cmd/issues/1096>), AWS (<https://github.com/aws/aws-sdk-java/issues/1101>).
#[test]
fn throttling_and_idle_connections_are_no_failures() {
    for (status, code) in [(429, "TooManyRequests"), (429, "Other"), (503, "SlowDownRead"), (400, "RequestTimeout")] {
        let count = AtomicUsize::new(0);
        let server = Gateway::start(&["a", "b"], move |request| {
            // AWS closes a connection that waits for a body.
            let may_be_refused = status != 400 || request.method == "PUT";
            let is_refused = may_be_refused && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(4);
            is_refused.then(|| Reply::refusal(status, code, "later"))
        });
        server.plan(S3, &format!("{ALL}{PUT}"));
        assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 2, "{status} {code}");
        assert_eq!(server.tagged("t"), ["a", "b"]);
    }
}

/// `SeaweedFS` (<https://github.com/seaweedfs/seaweedfs/issues/10586>): an empty ownership is none, and since its pull
/// request 10591 the one that disables ACLs does not disable them.
#[test]
fn the_ownership_of_a_bucket_need_not_be_in_effect() {
    for (ownership, counted) in [
        ("", "2 objects: 2 to change, 0 unchanged, 0 would fail"),
        ("BucketOwnerEnforced", "2 objects: 0 to change, 0 unchanged, 0 would fail, 2 unknown"),
    ] {
        let written = AtomicUsize::new(0);
        let server = Gateway::start(&["a", "b"], move |request| {
            let rule = format!("<Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule>");
            match request.what().as_str() {
                "GET ownershipControls" => {
                    Some(Reply::new(200, format!("<OwnershipControls>{rule}</OwnershipControls>")))
                }
                "PUT acl" => {
                    written.store(1, Ordering::Relaxed);
                    Some(Reply::new(200, ""))
                }
                "GET acl" if request.key().len() == 1 => Some(grants(written.load(Ordering::Relaxed) == 1)),
                _ => None,
            }
        });
        server.plan(S3, &format!("{ALL}[operation.put_object_acl]\nacl = \"public-read\"\n"));
        let ran = server.run(&PLAN).ended(0).says(counted);
        assert!(!ran.stdout.contains("the ownershipControls of bkt"), "{}", ran.stdout);
        assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 2, "{ownership}");
    }
}

/// `MinIO`'s weak tags (<https://github.com/minio/minio-java/issues/658>).
#[test]
fn a_manifest_may_have_a_weak_etag() {
    let etag = "32cd942789df57d72f5a216988e9e938";
    let server = Gateway::start(&["a"], move |request| {
        let (weak, wanted) = (format!("W/\"{etag}\""), request.header("if-match"));
        match (request.key().as_str(), request.what().as_str()) {
            ("list.csv", "GET object") if !wanted.is_empty() && wanted != weak => {
                Some(Reply::refusal(412, "PreconditionFailed", "no"))
            }
            ("list.csv", "GET object") => Some(Reply::new(200, "bkt,a\n").with(&format!("ETag: {weak}"))),
            _ => None,
        }
    });
    for pin in [String::new(), format!("etag = \"{etag}\"\n")] {
        server.plan(S3, &format!("[manifest.csv]\nbucket = \"bkt\"\nobject = \"list.csv\"\n{pin}{PUT}"));
        assert_eq!(server.run(&[&APPLY[..], &["--new"]].concat()).ended(0).json()["succeeded"], 1, "{pin}");
    }
}

/// Ceph (<https://github.com/ceph/ceph/pull/38448>): tags of a current version stay unless the version is named.
#[test]
fn a_deletion_of_tags_that_deletes_none_stops_the_job() {
    let server = Gateway::start(&["a", "b"], |request| {
        let tags = "<Tagging><TagSet><Tag><Key>old</Key><Value>1</Value></Tag></TagSet></Tagging>";
        match request.what().as_str() {
            "GET tagging" if request.key().len() == 1 => Some(Reply::new(200, tags)),
            "DELETE tagging" if request.parameter("versionId").is_none() => Some(Reply::new(204, "")),
            _ => None,
        }
    });
    server.plan(S3, &format!("{ALL}[operation.delete_object_tagging]\n"));
    let _ = server.run(&APPLY).ended(6).says("returned 204 and the object itself is unchanged, but");
    assert_eq!(server.count("DELETE tagging"), 1);
}

/// What someone on call looks for first: that the server asked for less, and that requests are sent again.
#[test]
fn throttling_is_logged() {
    let count = AtomicUsize::new(0);
    let server = Gateway::start(&["a"], move |request| {
        let is_first = request.what() == "PUT tagging" && count.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then(|| Reply::refusal(503, "SlowDown", "later"))
    });
    server.plan(S3, &format!("{ALL}{PUT}"));
    let ran = server.run(&[&APPLY[..], &["-q", "-v"]].concat()).ended(0);
    for event in [
        "batchplan::engine::throttle: limits reduced reason=\"throttled by the server\" window_before=",
        "batchplan::engine::request_sender: requests are repeated retries=1 last_status=503 last_code=SlowDown\n",
    ] {
        assert_eq!(ran.stderr.matches(event).count(), 1, "{event}: {}", ran.stderr);
    }
}

/// `ExAws` (<https://github.com/ex-aws/ex_aws/issues/159>), s3backer (<https://github.com/archiecobbs/s3backer/issues/214>):
/// after a long wait, the date of the first attempt would be refused.
#[test]
fn each_attempt_is_signed_at_its_own_time() {
    let count = AtomicUsize::new(0);
    let server = Gateway::start(&["a"], move |request| {
        let is_first = request.what() == "PUT tagging" && count.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then(|| Reply::refusal(503, "SlowDown", "later").with("Retry-After: 1"))
    });
    server.plan(S3, &format!("{ALL}{PUT}"));
    assert_eq!(server.run(&APPLY).ended(0).json()["succeeded"], 1);
    let puts: Vec<_> = server.log().into_iter().filter(|request| request.what() == "PUT tagging").collect();
    assert_eq!(puts.len(), 2);
    for header in ["x-amz-date", "authorization"] {
        assert_ne!(puts[0].header(header), puts[1].header(header), "{header}");
    }
}
