//! Tags, ACLs, versions and restores.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::restore_object::builders::RestoreObjectFluentBuilder;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, ObjectCannedAcl, ObjectOwnership, StorageClass, Tag, Transition,
    TransitionStorageClass,
};

use crate::fixture::{BUCKET, client, list_versions, refusal, refused, restore, run, tagging};

#[test]
fn tags_have_the_limits_of_aws() {
    run(|it| async move {
        it.put("k", "").await;
        let put = |tags: &[(&str, &str)]| it.client.put_object_tagging().bucket(BUCKET).key("k").tagging(tagging(tags));
        let names: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        let eleven: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        refused!(put(&eleven), "BadRequest", 400);
        put(&eleven[..10]).send().await.unwrap();
        refused!(put(&[(&"k".repeat(129), "")]), "InvalidTag", 400);
        refused!(put(&[("k", &"v".repeat(257))]), "InvalidTag", 400);
        refused!(put(&[("k", "1"), ("k", "2")]), "InvalidTag", 400);
        refused!(put(&[("aws:k", "1")]), "InvalidTag", 400);
        refused!(put(&[("k{}", "1")]), "InvalidTag", 400);
        refused!(put(&[]).content_md5("AAAAAAAAAAAAAAAAAAAAAA=="), "BadDigest", 400);
        put(&[(&"é".repeat(128), &"ü @".repeat(85))]).send().await.unwrap();
        it.client.delete_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(it.tags("k", None).await, []);
        let on = |bucket: &str, key: &str| {
            it.client.put_object_tagging().bucket(bucket).key(key).tagging(tagging(&[("a", "1")]))
        };
        refused!(on(BUCKET, "none"), "NoSuchKey", 404);
        refused!(on("no-such-bucket", "k"), "NoSuchBucket", 404);
        refused!(on(BUCKET, "k").version_id("none"), "NoSuchVersion", 404);
        refused!(on(BUCKET, "k").version_id(""), "InvalidArgument", 400);
    });
}

#[test]
fn versions_have_their_own_tags_and_acls() {
    run(|it| async move {
        assert_eq!(it.put("k", "null").await, None);
        it.version(BucketVersioningStatus::Enabled).await;
        let one = it.put("k", "one").await.unwrap();
        let two = it.put("k", "two").await.unwrap();
        let put = it.client.put_object_tagging().bucket(BUCKET).key("k").version_id(&one);
        let put = put.tagging(tagging(&[("v", "1")])).send().await.unwrap();
        assert_eq!(put.version_id(), Some(one.as_str()));
        assert_eq!(it.tags("k", Some(&one)).await.len(), 1);
        assert_eq!(it.tags("k", Some(&two)).await, []);
        assert_eq!(it.tags("k", Some("null")).await, []);
        let put = it.client.put_object_acl().bucket(BUCKET).key("k").version_id(&one).acl(ObjectCannedAcl::PublicRead);
        put.send().await.unwrap();
        let grants = async |version: &str| {
            let get = it.client.get_object_acl().bucket(BUCKET).key("k").version_id(version);
            get.send().await.unwrap().grants.unwrap().len()
        };
        assert_eq!((grants(&one).await, grants(&two).await), (2, 1));
        let get = it.client.get_object().bucket(BUCKET).key("k").version_id(&one).send().await.unwrap();
        assert_eq!(get.version_id(), Some(one.as_str()));
        assert_eq!(get.body.collect().await.unwrap().into_bytes(), "one");

        let deleted = it.client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(deleted.delete_marker(), Some(true));
        let marker = deleted.version_id.unwrap();
        refused!(it.client.get_object().bucket(BUCKET).key("k"), "NoSuchKey", 404);
        assert_eq!(refusal(it.client.head_object().bucket(BUCKET).key("k").send().await).1, 404);
        refused!(it.client.get_object().bucket(BUCKET).key("k").version_id(&marker), "MethodNotAllowed", 405);
        let put = || it.client.put_object_tagging().bucket(BUCKET).key("k").tagging(tagging(&[]));
        refused!(put(), "MethodNotAllowed", 405);
        refused!(put().version_id(&marker), "MethodNotAllowed", 405);
        let put = || it.client.put_object_acl().bucket(BUCKET).key("k").acl(ObjectCannedAcl::Private);
        refused!(put(), "MethodNotAllowed", 405);
        refused!(put().version_id(&marker), "MethodNotAllowed", 405);
        refused!(it.client.get_object_acl().bucket(BUCKET).key("k").version_id(&marker), "MethodNotAllowed", 405);

        let all = it.client.list_object_versions().bucket(BUCKET).send().await.unwrap();
        let ids: Vec<&str> = all.versions().iter().filter_map(|version| version.version_id()).collect();
        assert_eq!(ids, [two.as_str(), one.as_str(), "null"]);
        assert_eq!(all.delete_markers()[0].is_latest(), Some(true));
        assert_eq!(list_versions(&it.client, 1).await.len(), 3);
        it.client.delete_object().bucket(BUCKET).key("k").version_id(&marker).send().await.unwrap();
        assert!(it.client.get_object().bucket(BUCKET).key("k").send().await.is_ok());
        it.version(BucketVersioningStatus::Suspended).await;
        assert_eq!(it.put("k", "null again").await, None);
        let head = it.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(head.version_id(), Some("null"));
        assert_eq!(list_versions(&it.client, 1000).await.len(), 3);
    });
}

#[test]
fn acls_are_canned_and_grant_what_they_say() {
    run(|it| async move {
        it.put("k", "public?").await;
        let stranger = client(&it.server, None);
        for (acl, grants, public) in [
            (ObjectCannedAcl::PublicRead, vec!["AllUsers READ"], true),
            (ObjectCannedAcl::PublicReadWrite, vec!["AllUsers READ", "AllUsers WRITE"], true),
            (ObjectCannedAcl::AuthenticatedRead, vec!["AuthenticatedUsers READ"], false),
            (ObjectCannedAcl::Private, vec![], false),
        ] {
            it.client.put_object_acl().bucket(BUCKET).key("k").acl(acl.clone()).send().await.unwrap();
            let got = it.client.get_object_acl().bucket(BUCKET).key("k").send().await.unwrap();
            let told: Vec<String> = got.grants()[1..]
                .iter()
                .map(|grant| {
                    let group = grant.grantee().unwrap().uri().unwrap().rsplit('/').next().unwrap();
                    format!("{group} {}", grant.permission().unwrap().as_str())
                })
                .collect();
            assert_eq!(told, grants, "{acl:?}");
            assert_eq!(stranger.get_object().bucket(BUCKET).key("k").send().await.is_ok(), public, "{acl:?}");
        }
        let put = it.client.put_object_acl().bucket(BUCKET).key("k").acl(ObjectCannedAcl::from("open"));
        refused!(put, "InvalidArgument", 400);
        refused!(it.client.put_object_acl().bucket(BUCKET).key("k"), "MissingSecurityHeader", 400);
        refused!(it.client.get_object_acl().bucket(BUCKET).key("none"), "NoSuchKey", 404);
        refused!(stranger.get_object().bucket(BUCKET).key("k"), "AccessDenied", 403);
        refused!(stranger.get_object().bucket(BUCKET).key("none"), "AccessDenied", 403);
        refused!(stranger.put_object().bucket(BUCKET).key("k"), "AccessDenied", 403);
        refused!(stranger.list_objects_v2().bucket(BUCKET), "AccessDenied", 403);
    });
}

#[test]
fn an_archived_object_is_restored_as_aws_does_it() {
    run(|it| async move {
        it.put_class("cold", StorageClass::Glacier).await;
        let get = || it.client.get_object().bucket(BUCKET).key("cold");
        let ask =
            |days, tier| it.client.restore_object().bucket(BUCKET).key("cold").restore_request(restore(days, tier));
        let told = async || it.client.head_object().bucket(BUCKET).key("cold").send().await.unwrap().restore;
        refused!(get(), "InvalidObjectState", 403);
        assert_eq!(told().await, None);
        assert_eq!(status(ask(2, Some("Standard"))).await, 202);
        assert_eq!(told().await.as_deref(), Some("ongoing-request=\"true\""));
        refused!(ask(2, Some("Standard")), "RestoreAlreadyInProgress", 409);
        refused!(get(), "InvalidObjectState", 403);
        it.later(Duration::from_hours(5));
        let until = "ongoing-request=\"false\", expiry-date=\"Sat, 07 Mar 2026 00:00:00 GMT\"";
        assert_eq!(told().await.as_deref(), Some(until));
        assert!(get().send().await.is_ok());
        assert_eq!(status(ask(10, None)).await, 200);
        let until = "ongoing-request=\"false\", expiry-date=\"Sun, 15 Mar 2026 00:00:00 GMT\"";
        assert_eq!(told().await.as_deref(), Some(until));
        it.later(Duration::from_hours(11 * 24));
        assert_eq!(told().await, None);
        refused!(get(), "InvalidObjectState", 403);
        assert_eq!(status(ask(1, Some("Bulk"))).await, 202);
        it.later(Duration::from_hours(12));
        assert!(get().send().await.is_ok());
    });
}

/// The status of a restore: the SDK keeps it to itself.
async fn status(request: RestoreObjectFluentBuilder) -> u16 {
    let seen = Arc::new(Mutex::new(0));
    let inside = Arc::clone(&seen);
    request.customize().interceptor(Spy(inside)).send().await.unwrap();
    *seen.lock().unwrap()
}

#[derive(Debug)]
struct Spy(Arc<Mutex<u16>>);

impl Intercept for Spy {
    fn name(&self) -> &'static str {
        "Spy"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.0.lock().unwrap() = context.response().status().as_u16();
        Ok(())
    }
}

#[test]
fn restores_that_aws_refuses_are_refused() {
    run(|it| async move {
        let ask = |key: &str, days, tier| {
            it.client.restore_object().bucket(BUCKET).key(key).restore_request(restore(days, tier))
        };
        let ask_without_days = |key: &str| {
            let request = aws_sdk_s3::types::RestoreRequest::builder().build();
            it.client.restore_object().bucket(BUCKET).key(key).restore_request(request)
        };
        for class in ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"] {
            it.put_class(class, StorageClass::from(class)).await;
            refused!(ask(class, 1, None), "InvalidObjectState", 403);
            refused!(ask_without_days(class), "InvalidObjectState", 403);
            assert!(it.client.get_object().bucket(BUCKET).key(class).send().await.is_ok(), "{class}");
        }
        it.put_class("smart", StorageClass::IntelligentTiering).await;
        refused!(ask("smart", 1, None), "InvalidArgument", 400);
        refused!(ask_without_days("smart"), "ObjectAlreadyInActiveTierError", 403);
        it.put_class("deep", StorageClass::DeepArchive).await;
        let head = it.client.head_object().bucket(BUCKET).key("deep").send().await.unwrap();
        assert_eq!(head.storage_class(), Some(&StorageClass::DeepArchive));
        refused!(ask("deep", 1, Some("Expedited")), "InvalidArgument", 400);
        refused!(ask("deep", 1, Some("Turbo")), "MalformedXML", 400);
        refused!(ask("deep", 0, Some("Bulk")), "InvalidArgument", 400);
        refused!(ask_without_days("deep"), "MalformedXML", 400);
        refused!(ask("none", 1, None), "NoSuchKey", 404);
        let put = it.client.put_object().bucket(BUCKET).key("k").storage_class(StorageClass::from("COLD"));
        refused!(put, "InvalidStorageClass", 400);
        assert_eq!(status(ask("deep", 1, Some("Bulk"))).await, 202);
    });
}

#[test]
fn lifecycles_and_ownership_are_kept_and_told() {
    run(|it| async move {
        let get = || it.client.get_bucket_lifecycle_configuration().bucket(BUCKET);
        refused!(get(), "NoSuchLifecycleConfiguration", 404);
        let filter = |prefix: &str| LifecycleRuleFilter::builder().prefix(prefix).build();
        let rule = |id: &str, filter: LifecycleRuleFilter| {
            let rule = LifecycleRule::builder().id(id).status(ExpirationStatus::Enabled).filter(filter);
            let cold = Transition::builder().days(0).storage_class(TransitionStorageClass::Glacier).build();
            let rule = rule.transitions(cold).expiration(LifecycleExpiration::builder().days(9).build());
            rule.build().unwrap()
        };
        let tag = Tag::builder().key("k").value("v").build().unwrap();
        let by_tag = LifecycleRuleFilter::builder().tag(tag.clone()).build();
        let both = LifecycleRuleAndOperator::builder().prefix("p/").tags(tag).build();
        let both = LifecycleRuleFilter::builder().and(both).build();
        let rules = vec![rule("a", by_tag), rule("b", both), rule("c", filter("logs/"))];
        let put = |rules: Vec<LifecycleRule>| {
            let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().unwrap();
            it.client.put_bucket_lifecycle_configuration().bucket(BUCKET).lifecycle_configuration(configuration)
        };
        put(rules.clone()).send().await.unwrap();
        assert_eq!(get().send().await.unwrap().rules(), rules);
        refused!(put(vec![rules[0].clone(), rules[0].clone()]), "InvalidArgument", 400);
        let sized = LifecycleRuleFilter::builder().object_size_greater_than(1).build();
        refused!(put(vec![rule("sized", sized)]), "NotImplemented", 501);
        refused!(put(rules).bucket("no-such-bucket"), "NoSuchBucket", 404);
        it.client.delete_bucket_lifecycle().bucket(BUCKET).send().await.unwrap();
        refused!(get(), "NoSuchLifecycleConfiguration", 404);

        let get = || it.client.get_bucket_ownership_controls().bucket(BUCKET);
        refused!(get(), "OwnershipControlsNotFoundError", 404);
        it.put("k", "mine").await;
        let acl = |acl: ObjectCannedAcl| it.client.put_object_acl().bucket(BUCKET).key("k").acl(acl);
        acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        it.own(ObjectOwnership::BucketOwnerEnforced).await;
        let told = get().send().await.unwrap().ownership_controls.unwrap();
        assert_eq!(told.rules()[0].object_ownership(), &ObjectOwnership::BucketOwnerEnforced);
        refused!(acl(ObjectCannedAcl::Private), "AccessControlListNotSupported", 400);
        let put = |acl| it.client.put_object().bucket(BUCKET).key("new").acl(acl);
        refused!(put(ObjectCannedAcl::PublicRead), "AccessControlListNotSupported", 400);
        put(ObjectCannedAcl::BucketOwnerFullControl).send().await.unwrap();
        // The ACL that it had no longer holds, and holds again once it may.
        let stranger = client(&it.server, None);
        refused!(stranger.get_object().bucket(BUCKET).key("k"), "AccessDenied", 403);
        it.own(ObjectOwnership::BucketOwnerPreferred).await;
        assert!(stranger.get_object().bucket(BUCKET).key("k").send().await.is_ok());
        acl(ObjectCannedAcl::Private).send().await.unwrap();
        it.client.delete_bucket_ownership_controls().bucket(BUCKET).send().await.unwrap();
        refused!(get(), "OwnershipControlsNotFoundError", 404);
    });
}
