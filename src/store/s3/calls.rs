//! The requests about one object.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::get_object_acl::GetObjectAclOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    GlacierJobParameters, ObjectCannedAcl, Permission, RestoreRequest as SdkRestore, Tag, Tagging, Tier as SdkTier,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::fmt::rfc2822;
use md5::{Digest, Md5};

use super::S3Store;
use super::fault::fault;
use crate::call::{Call, Learned, Reply};
use crate::object::{Acl, ObjectId, Restoration, RestoreRequest, StorageClass, TagSet, Tier};
use crate::store::Store as _;
use crate::task::{Fault, FaultClass};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// Sends one request and pairs its output with the HTTP status, which the SDK's outputs do not carry.
macro_rules! send {
    ($request:expr, $endpoint:expr) => {{
        let status = SeenStatus::default();
        let output = $request.customize().interceptor(status.clone()).send().await.map_err(|e| fault(e, $endpoint))?;
        (status.get(), output)
    }};
}

impl S3Store {
    pub(super) async fn send_call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        let endpoint = self.request_url(object, call);
        let (bucket, key) = (object.bucket.as_str(), self.blank.disguise(&object.key));
        let version = object.version.as_ref().map(|version| version.as_str().to_owned());
        let s3 = &self.client;
        let (status, learned) = match call {
            Call::GetTags => {
                let request = s3.get_object_tagging().bucket(bucket).key(key).set_version_id(version);
                let (status, output) = send!(request, endpoint);
                let tags = output.tag_set().iter().map(|tag| (tag.key(), tag.value()));
                (status, Learned::Tags(tags.collect()))
            }
            Call::PutTags(tags) => {
                let tagging = tagging(tags).map_err(|why| not_sent(&why, endpoint.clone()))?;
                let request = s3.put_object_tagging().bucket(bucket).key(key).set_version_id(version).tagging(tagging);
                (send!(request, endpoint).0, Learned::Nothing)
            }
            Call::DeleteTags => {
                let request = s3.delete_object_tagging().bucket(bucket).key(key).set_version_id(version);
                (send!(request, endpoint).0, Learned::Nothing)
            }
            Call::GetAcl => {
                let request = s3.get_object_acl().bucket(bucket).key(key).set_version_id(version);
                let (status, output) = send!(request, endpoint);
                (status, Learned::Acl(canned(&output)))
            }
            Call::PutAcl(acl) => {
                let acl = ObjectCannedAcl::from(acl.as_str());
                let request = s3.put_object_acl().bucket(bucket).key(key).set_version_id(version).acl(acl);
                (send!(request, endpoint).0, Learned::Nothing)
            }
            Call::Restore(wanted) => {
                let restore = restore(*wanted).map_err(|why| not_sent(&why, endpoint.clone()))?;
                let request =
                    s3.restore_object().bucket(bucket).key(key).set_version_id(version).restore_request(restore);
                (send!(request, endpoint).0, Learned::Nothing)
            }
            Call::Head => {
                let request = s3.head_object().bucket(bucket).key(key).set_version_id(version);
                let (status, output) = send!(request, endpoint);
                (status, head(&output))
            }
        };
        Ok(Reply { status, learned })
    }
}

fn tagging(tags: &TagSet) -> Result<Tagging, String> {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    let tags = tags.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Tagging::builder().set_tag_set(Some(tags)).build().map_err(|error| error.to_string())
}

fn restore(wanted: RestoreRequest) -> Result<SdkRestore, String> {
    let days =
        i32::try_from(wanted.days).map_err(|_| format!("{} days are more than S3 can be asked for", wanted.days))?;
    let tier = wanted.tier.map(|tier| match tier {
        Tier::Standard => SdkTier::Standard,
        Tier::Bulk => SdkTier::Bulk,
        Tier::Expedited => SdkTier::Expedited,
    });
    let parameters = match tier {
        Some(tier) => Some(GlacierJobParameters::builder().tier(tier).build().map_err(|error| error.to_string())?),
        None => None,
    };
    Ok(SdkRestore::builder().days(days).set_glacier_job_parameters(parameters).build())
}

/// The predefined ACL that stands for these grants.
fn canned(output: &GetObjectAclOutput) -> Acl {
    let owner = output.owner().and_then(|owner| owner.id());
    let (mut read, mut write, mut other) = (false, false, false);
    for grant in output.grants() {
        let grantee = grant.grantee();
        let everyone = grantee.and_then(|g| g.uri()) == Some(ALL_USERS);
        let is_owner = grantee.and_then(|g| g.id()).is_some_and(|id| Some(id) == owner);
        match grant.permission() {
            Some(Permission::FullControl) if is_owner => {}
            Some(Permission::Read) if everyone => read = true,
            Some(Permission::Write) if everyone => write = true,
            _ => other = true,
        }
    }
    match (read, write, other) {
        (false, false, false) => Acl::Private,
        (true, false, false) => Acl::PublicRead,
        (true, true, false) => Acl::PublicReadWrite,
        _ => Acl::Custom,
    }
}

fn head(output: &HeadObjectOutput) -> Learned {
    // S3 leaves the class out where it is STANDARD.
    let class = StorageClass::new(output.storage_class().map_or("STANDARD", |class| class.as_str()));
    Learned::Head { class, restoration: output.restore().map_or(Restoration::Absent, restoration) }
}

/// Reads `x-amz-restore`: `ongoing-request="true"`, or `ongoing-request="false", expiry-date="<RFC 1123 date>"`.
fn restoration(header: &str) -> Restoration {
    if header.contains(r#"ongoing-request="true""#) {
        return Restoration::InProgress;
    }
    let date = header.split_once(r#"expiry-date=""#).and_then(|(_, rest)| rest.split_once('"')).map(|(date, _)| date);
    match date.and_then(|date| rfc2822::parse(date).ok()) {
        Some(until) => Restoration::Until(until.timestamp()),
        None => Restoration::Absent,
    }
}

fn not_sent(why: &str, endpoint: String) -> Fault {
    Fault::unanswered(FaultClass::Rejected, "RequestNotSent", why, endpoint)
}

/// Sees the HTTP status of one request's answer.
#[derive(Clone, Debug, Default)]
struct SeenStatus(Arc<AtomicU16>);

impl SeenStatus {
    fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for SeenStatus {
    fn name(&self) -> &'static str {
        "SeenStatus"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(context.response().status().as_u16(), Ordering::Relaxed);
        Ok(())
    }
}

/// Adds Content-MD5 to small XML bodies: older S3-compatible servers refuse tagging without it, and do not know the
/// checksum headers that the SDK sends in its place (minio/minio issue 20845).
#[derive(Debug)]
pub(super) struct ContentMd5;

impl Intercept for ContentMd5 {
    fn name(&self) -> &'static str {
        "ContentMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let xml = request.headers().get("content-type") == Some("application/xml");
        let md5 = request
            .body()
            .bytes()
            .filter(|body| xml && !body.is_empty())
            .map(|body| STANDARD.encode(Md5::digest(body)));
        if let Some(md5) = md5
            && request.headers().get("content-md5").is_none()
        {
            request.headers_mut().insert("content-md5", md5);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_restore_header_is_read() {
        assert_eq!(restoration(r#"ongoing-request="true""#), Restoration::InProgress);
        let done = r#"ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT""#;
        assert_eq!(restoration(done), Restoration::Until("2012-12-21T00:00:00Z".parse().expect("a timestamp")));
        assert_eq!(restoration(r#"ongoing-request="false""#), Restoration::Absent);
        assert_eq!(restoration("nonsense"), Restoration::Absent);
    }

    #[test]
    fn more_days_than_the_wire_carries_are_refused_not_wrapped() {
        assert!(restore(RestoreRequest { days: u32::MAX, tier: None }).is_err());
    }
}
