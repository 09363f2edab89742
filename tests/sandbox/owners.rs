//! Several owners: whose the buckets and objects are, and what ACLs allow others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    AccessControlPolicy, BucketCannedAcl, BucketVersioningStatus, Delete, Grant, Grantee, ObjectAttributes,
    ObjectCannedAcl, ObjectIdentifier, ObjectOwnership, Owner, OwnershipControls, OwnershipControlsRule, Permission,
    Type,
};
use batchplan_sandbox::{ACCESS_KEY, ACCOUNT_ID, SECRET_KEY, Sandbox, SandboxOptions};

use crate::fixture::{
    BUCKET, Fixture, OTHER_KEYS, client, list_v2, refusal, refused, run_with_owners, serve, two_owners,
};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// Returns the client of the second owner.
fn other(it: &Fixture) -> Client {
    client(&it.server, Some(OTHER_KEYS))
}

async fn owner_of(client: &Client) -> Owner {
    client.list_buckets().send().await.unwrap().owner.unwrap()
}

async fn id_of(client: &Client) -> String {
    owner_of(client).await.id.unwrap()
}

fn to_owner(id: &str, permission: Permission) -> Grant {
    let grantee = Grantee::builder().r#type(Type::CanonicalUser).id(id).build().unwrap();
    Grant::builder().grantee(grantee).permission(permission).build()
}

fn to_group(uri: &str, permission: Permission) -> Grant {
    let grantee = Grantee::builder().r#type(Type::Group).uri(uri).build().unwrap();
    Grant::builder().grantee(grantee).permission(permission).build()
}

fn policy(owner: &str, grants: &[Grant]) -> AccessControlPolicy {
    let owner = Owner::builder().id(owner).build();
    AccessControlPolicy::builder().owner(owner).set_grants(Some(grants.to_vec())).build()
}

/// Describes grants: to whom, by the display name or the last part of the URI, and what.
fn described(grants: &[Grant]) -> Vec<String> {
    let each = grants.iter().map(|grant| {
        let grantee = grant.grantee().unwrap();
        let whom = grantee.display_name().or(grantee.uri()).unwrap().rsplit('/').next().unwrap();
        format!("{whom} {}", grant.permission().unwrap().as_str())
    });
    each.collect()
}

async fn bucket_acl(client: &Client) -> Vec<String> {
    described(client.get_bucket_acl().bucket(BUCKET).send().await.unwrap().grants())
}

async fn object_acl(client: &Client, key: &str) -> Vec<String> {
    described(client.get_object_acl().bucket(BUCKET).key(key).send().await.unwrap().grants())
}

async fn open_bucket(it: &Fixture, acl: BucketCannedAcl) {
    it.client.put_bucket_acl().bucket(BUCKET).acl(acl).send().await.unwrap();
}

async fn put(client: &Client, key: &str) {
    client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"content")).send().await.unwrap();
}

#[test]
fn a_bucket_belongs_to_who_created_it() {
    run_with_owners(|it| async move {
        let other = other(&it);
        assert_eq!(owner_of(&it.client).await.display_name(), Some(ACCESS_KEY));
        let owner = owner_of(&other).await;
        assert_eq!((owner.display_name(), owner.id().unwrap().len()), (Some("other"), 64));
        assert_eq!(other.list_buckets().send().await.unwrap().buckets(), []);
        assert_eq!(it.client.list_buckets().send().await.unwrap().buckets().len(), 1);
        refused!(other.create_bucket().bucket(BUCKET), "BucketAlreadyExists", 409);
        for refused in [
            refusal(other.list_objects_v2().bucket(BUCKET).send().await),
            refusal(other.list_object_versions().bucket(BUCKET).send().await),
            refusal(other.put_object().bucket(BUCKET).key("k").send().await),
            refusal(other.get_bucket_versioning().bucket(BUCKET).send().await),
            refusal(other.get_bucket_acl().bucket(BUCKET).send().await),
            refusal(other.put_bucket_acl().bucket(BUCKET).acl(BucketCannedAcl::PublicRead).send().await),
            refusal(other.delete_bucket().bucket(BUCKET).send().await),
        ] {
            assert_eq!(refused, ("AccessDenied".to_owned(), 403));
        }
        assert_eq!(refusal(other.head_bucket().bucket(BUCKET).send().await).1, 403);
        refused!(client(&it.server, None).create_bucket().bucket("new-bucket"), "AccessDenied", 403);
        refused!(other.delete_bucket().bucket("no-such-bucket"), "NoSuchBucket", 404);
    });
}

#[test]
fn creating_a_bucket_again_resets_its_acl_only_in_the_first_region() {
    run_with_owners(|it| async move {
        open_bucket(&it, BucketCannedAcl::PublicRead).await;
        it.put("k", "kept").await;
        let elsewhere = it.client.config().to_builder().region(Region::new("eu-west-1")).build();
        let again = Client::from_conf(elsewhere).create_bucket().bucket(BUCKET);
        refused!(again, "BucketAlreadyOwnedByYou", 409);
        assert_eq!(bucket_acl(&it.client).await, ["sandbox FULL_CONTROL", "AllUsers READ"]);
        it.client.create_bucket().bucket(BUCKET).send().await.unwrap();
        assert_eq!(bucket_acl(&it.client).await, ["sandbox FULL_CONTROL"]);
        let with_acl = it.client.create_bucket().bucket(BUCKET).acl(BucketCannedAcl::AuthenticatedRead);
        with_acl.send().await.unwrap();
        assert_eq!(bucket_acl(&it.client).await, ["sandbox FULL_CONTROL", "AuthenticatedUsers READ"]);
        assert_eq!(list_v2(&other(&it), 10).await, ["k"]);
    });
}

#[test]
fn a_canned_acl_of_a_bucket_opens_the_bucket_but_not_its_objects() {
    run_with_owners(|it| async move {
        it.put("k", "private").await;
        let (other, stranger) = (other(&it), client(&it.server, None));
        for (acl, other_lists, stranger_lists, writes) in [
            (BucketCannedAcl::Private, false, false, false),
            (BucketCannedAcl::AuthenticatedRead, true, false, false),
            (BucketCannedAcl::PublicRead, true, true, false),
            (BucketCannedAcl::PublicReadWrite, true, true, true),
        ] {
            open_bucket(&it, acl.clone()).await;
            let lists = async |client: &Client| client.list_objects().bucket(BUCKET).send().await.is_ok();
            assert_eq!(lists(&other).await, other_lists, "{acl:?}");
            assert_eq!(lists(&stranger).await, stranger_lists, "{acl:?}");
            assert_eq!(other.head_bucket().bucket(BUCKET).send().await.is_ok(), other_lists, "{acl:?}");
            refused!(other.get_object().bucket(BUCKET).key("k"), "AccessDenied", 403);
            refused!(other.get_object_tagging().bucket(BUCKET).key("k"), "AccessDenied", 403);
            refused!(other.delete_object().bucket(BUCKET).key("k"), "AccessDenied", 403);
            let missing = other.get_object().bucket(BUCKET).key("none").send().await;
            let expected = if other_lists { ("NoSuchKey", 404) } else { ("AccessDenied", 403) };
            assert_eq!(refusal(missing), (expected.0.to_owned(), expected.1), "{acl:?}");
            for client in [&other, &stranger] {
                let written = client.put_object().bucket(BUCKET).key("new").send().await;
                assert_eq!(written.is_ok(), writes, "{acl:?}");
            }
        }
    });
}

#[test]
fn grants_are_kept_exactly_as_they_were_given() {
    run_with_owners(|it| async move {
        it.put("k", "").await;
        let (owner, id) = (id_of(&it.client).await, id_of(&other(&it)).await);
        let grants = [
            to_group(LOG_DELIVERY, Permission::Write),
            to_owner(&id, Permission::WriteAcp),
            to_owner(&owner, Permission::FullControl),
            to_owner(&id, Permission::Read),
            to_owner(&id, Permission::Read),
        ];
        let expected = ["LogDelivery WRITE", "other WRITE_ACP", "sandbox FULL_CONTROL", "other READ", "other READ"];
        let acl = policy(&owner, &grants);
        let put = it.client.put_bucket_acl().bucket(BUCKET).access_control_policy(acl.clone());
        put.send().await.unwrap();
        assert_eq!(bucket_acl(&it.client).await, expected);
        let put = it.client.put_object_acl().bucket(BUCKET).key("k").access_control_policy(acl);
        put.send().await.unwrap();
        assert_eq!(object_acl(&it.client, "k").await, expected);
        // What was read can be written back.
        let read = it.client.get_object_acl().bucket(BUCKET).key("k").send().await.unwrap();
        let again = AccessControlPolicy::builder().set_owner(read.owner).set_grants(read.grants).build();
        let put = it.client.put_object_acl().bucket(BUCKET).key("k").access_control_policy(again);
        put.send().await.unwrap();
        assert_eq!(object_acl(&it.client, "k").await, expected);
        // An empty ACL grants nothing, and the owner can still replace it.
        let put = it.client.put_bucket_acl().bucket(BUCKET).access_control_policy(policy(&owner, &[]));
        put.send().await.unwrap();
        assert_eq!(bucket_acl(&it.client).await, [""; 0]);
        open_bucket(&it, BucketCannedAcl::from("log-delivery-write")).await;
        assert_eq!(bucket_acl(&it.client).await, ["sandbox FULL_CONTROL", "LogDelivery WRITE", "LogDelivery READ_ACP"]);
    });
}

#[test]
fn a_grant_in_a_header_allows_what_it_names() {
    run_with_owners(|it| async move {
        let other = other(&it);
        let (owner, id) = (id_of(&it.client).await, id_of(&other).await);
        let by_id = format!("id=\"{id}\"");
        let create = || it.client.put_object().bucket(BUCKET).key("k");
        create().grant_read(format!("{by_id}, uri=\"{ALL_USERS}\"")).send().await.unwrap();
        assert_eq!(object_acl(&it.client, "k").await, ["other READ", "AllUsers READ"]);
        assert!(client(&it.server, None).get_object().bucket(BUCKET).key("k").send().await.is_ok());
        create().grant_read_acp(&by_id).grant_full_control(format!("id={owner}")).send().await.unwrap();
        assert_eq!(object_acl(&other, "k").await, ["sandbox FULL_CONTROL", "other READ_ACP"]);
        refused!(other.get_object().bucket(BUCKET).key("k"), "AccessDenied", 403);
        let acl = |acl| other.put_object_acl().bucket(BUCKET).key("k").acl(acl);
        refused!(acl(ObjectCannedAcl::PublicRead), "AccessDenied", 403);
        let grant = it.client.put_object_acl().bucket(BUCKET).key("k").grant_write_acp(&by_id);
        grant.send().await.unwrap();
        acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        // The new ACL is that of the object's owner, not of who set it.
        assert_eq!(object_acl(&it.client, "k").await, ["sandbox FULL_CONTROL", "AllUsers READ"]);

        let grant = || it.client.put_bucket_acl().bucket(BUCKET);
        grant().grant_write(&by_id).send().await.unwrap();
        put(&other, "theirs").await;
        refused!(other.list_objects_v2().bucket(BUCKET), "AccessDenied", 403);
        grant().grant_full_control(&by_id).send().await.unwrap();
        assert_eq!(list_v2(&other, 10).await, ["k", "theirs"]);
        assert_eq!(bucket_acl(&other).await, ["other FULL_CONTROL"]);
        refused!(other.delete_bucket().bucket(BUCKET), "AccessDenied", 403);
    });
}

#[test]
fn an_acl_that_aws_refuses_is_refused() {
    run_with_owners(|it| async move {
        it.put("k", "").await;
        let (owner, id) = (id_of(&it.client).await, id_of(&other(&it)).await);
        let put = |grant: Grant| {
            let acl = policy(&owner, &[grant]);
            it.client.put_bucket_acl().bucket(BUCKET).access_control_policy(acl)
        };
        refused!(put(to_owner("_foo", Permission::Read)), "InvalidArgument", 400);
        refused!(put(to_owner(&"ab".repeat(32), Permission::Read)), "InvalidArgument", 400);
        refused!(put(to_group("http://acs.amazonaws.com/groups/s3/None", Permission::Read)), "InvalidArgument", 400);
        refused!(put(to_owner(&id, Permission::from("LIST"))), "MalformedACLError", 400);
        let email = Grantee::builder().r#type(Type::AmazonCustomerByEmail).email_address("a@example.com");
        let email = Grant::builder().grantee(email.build().unwrap()).permission(Permission::Read).build();
        refused!(put(email), "MethodNotAllowed", 405);
        let whole = |acl| it.client.put_object_acl().bucket(BUCKET).key("k").access_control_policy(acl);
        refused!(whole(policy(&id, &[])), "AccessDenied", 403);
        refused!(whole(policy("_foo", &[])), "InvalidArgument", 400);
        refused!(whole(AccessControlPolicy::builder().build()), "MalformedACLError", 400);
        let many = vec![to_owner(&id, Permission::Read); 101];
        refused!(whole(policy(&owner, &many)), "MalformedACLError", 400);
        assert!(whole(policy(&owner, &many[1..])).send().await.is_ok());
        let acl = || it.client.put_object_acl().bucket(BUCKET).key("k");
        for header in ["", "id", "name=a", "id=a", "uri=a", "id=,", "é"] {
            refused!(acl().grant_read(header), "InvalidArgument", 400);
        }
        refused!(acl().grant_read("emailAddress=a@example.com"), "MethodNotAllowed", 405);
        let both = acl().acl(ObjectCannedAcl::Private).grant_read(format!("id={id}"));
        refused!(both, "InvalidRequest", 400);
        let both = whole(policy(&owner, &[])).grant_read(format!("id={id}"));
        refused!(both, "UnexpectedContent", 400);
        refused!(it.client.put_bucket_acl().bucket(BUCKET), "MissingSecurityHeader", 400);
        let canned = |acl| it.client.put_bucket_acl().bucket(BUCKET).acl(BucketCannedAcl::from(acl));
        refused!(canned("default"), "InvalidArgument", 400);
        canned("bucket-owner-read").send().await.unwrap();
        assert_eq!(bucket_acl(&it.client).await, ["sandbox FULL_CONTROL"]);
    });
}

#[test]
fn an_object_belongs_to_its_writer() {
    run_with_owners(|it| async move {
        open_bucket(&it, BucketCannedAcl::PublicReadWrite).await;
        let other = other(&it);
        it.put("mine", "").await;
        put(&other, "theirs").await;
        put(&client(&it.server, None), "nobodys").await;
        let listed = it.client.list_objects().bucket(BUCKET).send().await.unwrap();
        let name = |object: &aws_sdk_s3::types::Object| {
            let owner = object.owner().unwrap();
            owner.display_name().or(owner.id()).unwrap().to_owned()
        };
        let owners: Vec<String> = listed.contents().iter().map(name).collect();
        // The ID that AWS shows for requests without a signature.
        assert_eq!(owners, ["sandbox", "65a011a29cdf8ec533ec3d1ccaae921c", "other"]);
        let versions = it.client.list_object_versions().bucket(BUCKET).send().await.unwrap();
        assert_eq!(versions.versions()[2].owner().unwrap().display_name(), Some("other"));

        refused!(it.client.get_object().bucket(BUCKET).key("theirs"), "AccessDenied", 403);
        refused!(it.client.get_object_acl().bucket(BUCKET).key("theirs"), "AccessDenied", 403);
        assert!(it.client.get_object_tagging().bucket(BUCKET).key("theirs").send().await.is_ok());
        let acl = |acl| other.put_object_acl().bucket(BUCKET).key("theirs").acl(acl).send();
        acl(ObjectCannedAcl::BucketOwnerRead).await.unwrap();
        assert_eq!(object_acl(&other, "theirs").await, ["other FULL_CONTROL", "sandbox READ"]);
        assert!(it.client.get_object().bucket(BUCKET).key("theirs").send().await.is_ok());
        refused!(it.client.get_object_acl().bucket(BUCKET).key("theirs"), "AccessDenied", 403);
        acl(ObjectCannedAcl::BucketOwnerFullControl).await.unwrap();
        assert_eq!(object_acl(&it.client, "theirs").await, ["other FULL_CONTROL", "sandbox FULL_CONTROL"]);
        it.client.put_object_acl().bucket(BUCKET).key("theirs").acl(ObjectCannedAcl::Private).send().await.unwrap();
        assert_eq!(object_acl(&other, "theirs").await, ["other FULL_CONTROL"]);

        let keys = ["mine", "theirs"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
        let delete = Delete::builder().set_objects(Some(keys.into())).build().unwrap();
        let deleted = other.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
        assert_eq!(deleted.deleted()[0].key(), Some("theirs"));
        assert_eq!((deleted.errors()[0].key(), deleted.errors()[0].code()), (Some("mine"), Some("AccessDenied")));
        it.client.delete_object().bucket(BUCKET).key("nobodys").send().await.unwrap();
        assert_eq!(list_v2(&it.client, 10).await, ["mine"]);
    });
}

async fn set_ownership(it: &Fixture, ownership: ObjectOwnership) -> Result<(), (String, u16)> {
    let rule = OwnershipControlsRule::builder().object_ownership(ownership).build().unwrap();
    let controls = OwnershipControls::builder().rules(rule).build().unwrap();
    let put = it.client.put_bucket_ownership_controls().bucket(BUCKET).ownership_controls(controls).send().await;
    if put.is_ok() { Ok(()) } else { Err(refusal(put)) }
}

#[test]
fn object_ownership_decides_whose_an_object_is() {
    run_with_owners(|it| async move {
        open_bucket(&it, BucketCannedAcl::PublicReadWrite).await;
        let other = other(&it);
        let (owner, id) = (id_of(&it.client).await, id_of(&other).await);
        let write = async |key: &str, acl: Option<ObjectCannedAcl>| {
            other.put_object().bucket(BUCKET).key(key).set_acl(acl).send().await.unwrap();
            let all = it.client.list_objects().bucket(BUCKET).prefix(key).send().await.unwrap();
            all.contents()[0].owner().unwrap().id().unwrap().to_owned()
        };
        let full_control = || Some(ObjectCannedAcl::BucketOwnerFullControl);
        set_ownership(&it, ObjectOwnership::ObjectWriter).await.unwrap();
        assert_eq!(write("writer", full_control()).await, id);
        set_ownership(&it, ObjectOwnership::BucketOwnerPreferred).await.unwrap();
        assert_eq!(write("preferred", full_control()).await, owner);
        assert_eq!(write("preferred-private", None).await, id);
        refused!(other.get_object().bucket(BUCKET).key("preferred"), "AccessDenied", 403);
        let started = other.create_multipart_upload().bucket(BUCKET).key("parts").set_acl(full_control());
        let upload = started.send().await.unwrap().upload_id.unwrap();
        let parts = other.list_parts().bucket(BUCKET).key("parts").upload_id(&upload).send().await.unwrap();
        assert_eq!(parts.initiator().unwrap().id(), Some(id.as_str()));
        assert_eq!(parts.owner().unwrap().id(), Some(owner.as_str()));

        let enforced = || set_ownership(&it, ObjectOwnership::BucketOwnerEnforced);
        let refused = ("InvalidBucketAclWithObjectOwnership".to_owned(), 400);
        assert_eq!(enforced().await, Err(refused));
        open_bucket(&it, BucketCannedAcl::Private).await;
        enforced().await.unwrap();
        refused!(
            it.client.put_bucket_acl().bucket(BUCKET).acl(BucketCannedAcl::Private),
            "AccessControlListNotSupported",
            400
        );
        assert_eq!(object_acl(&it.client, "preferred-private").await, ["sandbox FULL_CONTROL"]);
        refused!(other.get_object().bucket(BUCKET).key("preferred-private"), "AccessDenied", 403);
        let create = it.client.create_bucket().bucket("enforced").acl(BucketCannedAcl::PublicRead);
        let create = create.object_ownership(ObjectOwnership::BucketOwnerEnforced);
        refused!(create, "InvalidBucketAclWithObjectOwnership", 400);
    });
}

#[test]
fn an_upload_is_its_initiators() {
    run_with_owners(|it| async move {
        open_bucket(&it, BucketCannedAcl::PublicReadWrite).await;
        let other = other(&it);
        let started = it.client.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap();
        let id = started.upload_id.unwrap();
        let part = other.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(1);
        refused!(part, "AccessDenied", 403);
        refused!(other.list_parts().bucket(BUCKET).key("k").upload_id(&id), "AccessDenied", 403);
        refused!(other.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&id), "AccessDenied", 403);
        let theirs = other.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap();
        let id = theirs.upload_id.unwrap();
        it.client.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(id).send().await.unwrap();
    });
}

#[test]
fn a_copy_needs_to_read_its_source_and_belongs_to_who_made_it() {
    run_with_owners(|it| async move {
        it.put("k", "secret").await;
        let other = other(&it);
        other.create_bucket().bucket("other-bucket").send().await.unwrap();
        let copy = || other.copy_object().bucket("other-bucket").key("copy").copy_source(format!("{BUCKET}/k"));
        refused!(copy(), "AccessDenied", 403);
        refused!(copy().copy_source(format!("{BUCKET}/none")), "AccessDenied", 403);
        it.client.put_object_acl().bucket(BUCKET).key("k").acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        refused!(copy().expected_source_bucket_owner("1"), "InvalidBucketOwnerAWSAccountID", 400);
        refused!(copy().expected_source_bucket_owner(id_of(&other).await), "AccessDenied", 403);
        copy().expected_source_bucket_owner(ACCOUNT_ID).send().await.unwrap();
        copy().expected_source_bucket_owner(id_of(&it.client).await).send().await.unwrap();
        let read = other.get_object_acl().bucket("other-bucket").key("copy").send().await.unwrap();
        assert_eq!(described(read.grants()), ["other FULL_CONTROL"]);
        let listed = it.client.list_objects_v2().bucket(BUCKET).expected_bucket_owner("123456789012");
        refused!(listed, "AccessDenied", 403);
    });
}

/// A parameter's name can be encoded, too. The check and the operation must read the same version.
#[test]
fn no_spelling_of_a_version_evades_the_check() {
    run_with_owners(|it| async move {
        it.version(BucketVersioningStatus::Enabled).await;
        let private = it.put("k", "private").await.unwrap();
        let public = it.client.put_object().bucket(BUCKET).key("k").acl(ObjectCannedAcl::PublicRead);
        let public = public.send().await.unwrap().version_id.unwrap();
        let get = |query: String| {
            let mut stream = TcpStream::connect(it.server.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let head = format!("GET /{BUCKET}/k{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
        };
        assert_eq!(get(String::new()), 200);
        for name in ["versionId", "version%49d", "%76ersionId"] {
            assert_eq!(get(format!("?{name}={public}")), 200, "{name}");
            assert_eq!(get(format!("?{name}={private}")), 403, "{name}");
        }
        assert_eq!(get(format!("?versionId={public}&versionId={private}")), 400);
    });
}

#[test]
fn owners_and_grants_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = |count| {
        let keys = two_owners().into_iter().take(count).collect();
        serve(Sandbox::open(dir.path(), None, SandboxOptions { keys, ..SandboxOptions::default() }).unwrap())
    };
    runtime.block_on(async {
        // What was written with one key belongs to the first of two.
        let server = open(1);
        let first = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        first.create_bucket().bucket(BUCKET).send().await.unwrap();
        put(&first, "old").await;
        server.stop();

        let server = open(2);
        let first = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        let other = client(&server, Some(OTHER_KEYS));
        assert_eq!(object_acl(&first, "old").await, ["sandbox FULL_CONTROL"]);
        refused!(other.get_object().bucket(BUCKET).key("old"), "AccessDenied", 403);
        let acl = first.put_bucket_acl().bucket(BUCKET).grant_write(format!("id={}", id_of(&other).await));
        acl.send().await.unwrap();
        let write = other.put_object().bucket(BUCKET).key("new").acl(ObjectCannedAcl::BucketOwnerRead);
        write.send().await.unwrap();
        server.stop();

        let server = open(2);
        let first = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        let other = client(&server, Some(OTHER_KEYS));
        assert_eq!(bucket_acl(&first).await, ["other WRITE"]);
        assert_eq!(object_acl(&other, "new").await, ["other FULL_CONTROL", "sandbox READ"]);
        server.stop();

        // The second owner is not there, but what it owns is.
        let server = open(1);
        let first = client(&server, Some((ACCESS_KEY, SECRET_KEY)));
        assert_eq!(list_v2(&first, 10).await, ["new", "old"]);
        assert!(first.get_object().bucket(BUCKET).key("new").send().await.is_ok());
        refused!(first.get_object_acl().bucket(BUCKET).key("new"), "AccessDenied", 403);
        let grants = first.get_bucket_acl().bucket(BUCKET).send().await.unwrap().grants.unwrap();
        assert_eq!(grants[0].grantee().unwrap().id().unwrap().len(), 64);
        refused!(client(&server, Some(OTHER_KEYS)).list_buckets(), "InvalidAccessKeyId", 403);
    });
}

#[test]
fn every_way_to_an_objects_content_and_to_uploads_is_checked() {
    run_with_owners(|it| async move {
        it.put("k", "secret").await;
        let (other, stranger) = (other(&it), client(&it.server, None));
        for requester in [&other, &stranger] {
            let attributes = requester.get_object_attributes().bucket(BUCKET).key("k");
            refused!(attributes.object_attributes(ObjectAttributes::Etag), "AccessDenied", 403);
            refused!(requester.get_object().bucket(BUCKET).key("k").part_number(1), "AccessDenied", 403);
            assert_eq!(refusal(requester.head_object().bucket(BUCKET).key("k").part_number(1).send().await).1, 403);
            refused!(requester.list_multipart_uploads().bucket(BUCKET), "AccessDenied", 403);
            refused!(requester.get_object_retention().bucket(BUCKET).key("k"), "AccessDenied", 403);
            refused!(requester.get_bucket_policy().bucket(BUCKET), "AccessDenied", 403);
        }
        other.create_bucket().bucket("other-bucket").send().await.unwrap();
        let started = other.create_multipart_upload().bucket("other-bucket").key("l").send().await.unwrap();
        let id = started.upload_id.unwrap();
        let copy = |client: &Client, source: &str| {
            let copy = client.upload_part_copy().bucket("other-bucket").key("l").upload_id(&id).part_number(1);
            copy.copy_source(source)
        };
        refused!(copy(&other, "test-bucket/k"), "AccessDenied", 403);
        refused!(copy(&it.client, "test-bucket/k"), "AccessDenied", 403);
        it.client.put_object_acl().bucket(BUCKET).key("k").acl(ObjectCannedAcl::PublicRead).send().await.unwrap();
        copy(&other, "test-bucket/k").send().await.unwrap();
        let attributes = stranger.get_object_attributes().bucket(BUCKET).key("k");
        attributes.object_attributes(ObjectAttributes::Etag).send().await.unwrap();

        // Who can list the bucket sees the uploads of all.
        open_bucket(&it, BucketCannedAcl::PublicReadWrite).await;
        other.create_multipart_upload().bucket(BUCKET).key("m").send().await.unwrap();
        let listed = stranger.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
        let upload = &listed.uploads()[0];
        assert_eq!(upload.owner().unwrap().display_name(), Some("other"));
        assert_eq!(upload.initiator().unwrap().display_name(), Some("other"));

        // Each owner lists its own buckets, and a bucket keeps its region.
        let names: Vec<String> = {
            let listed = it.client.list_buckets().max_buckets(1).send().await.unwrap();
            assert_eq!(listed.continuation_token(), None);
            listed.buckets().iter().filter_map(|bucket| bucket.name().map(str::to_owned)).collect()
        };
        assert_eq!(names, [BUCKET]);
    });
}
