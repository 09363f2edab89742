use super::*;
use batchplan_store::object::{ObjectAcl, RestoreRequest, TagSet};
use batchplan_store::task::FaultClass;

#[test]
fn classifies_a_rejected_first_write_by_status_and_code() {
    let fault = |status, code: &str| StoreError {
        status: Some(status),
        ..StoreError::without_response(FaultClass::Rejected, code, "no", String::new())
    };
    let restore = ObjectRequest::Restore(RestoreRequest { days: Some(1), tier: None });
    let cases = [
        (501, "NotImplemented", RequestSupport::Unsupported),
        (405, "MethodNotAllowed", RequestSupport::Unsupported),
        (400, "MalformedPOSTRequest", RequestSupport::Unsupported),
        (400, "BadRequest", RequestSupport::Unsupported),
        (403, "InvalidObjectState", RequestSupport::Supported),
        (409, "RestoreAlreadyInProgress", RequestSupport::Supported),
        (503, "GlacierExpeditedRetrievalNotAvailable", RequestSupport::Supported),
        (403, "ObjectAlreadyInActiveTierError", RequestSupport::Supported),
        (400, "OperationNotSupported", RequestSupport::Supported),
        (400, "InvalidArgument", RequestSupport::Unclear),
        (404, "NoSuchKey", RequestSupport::Unclear),
        (403, "AccessDenied", RequestSupport::Unclear),
    ];
    for (status, code, says) in cases {
        assert_eq!(request_support(&restore, &fault(status, code)), says, "{status} {code}");
    }
    let tags = ObjectRequest::PutTags(TagSet::default());
    assert_eq!(request_support(&tags, &fault(400, "InvalidTag")), RequestSupport::Unclear);
    assert_eq!(request_support(&tags, &fault(501, "NotImplemented")), RequestSupport::Unsupported);
}

#[test]
fn compares_tags_as_a_set() {
    let tags = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<TagSet>();
    let sent = ObjectRequest::PutTags(tags(&[("a", "1"), ("b", "2")]));
    assert_eq!(describe_difference(&sent, &ResponseData::Tags(tags(&[("b", "2"), ("a", "1")]))), None);
    for (found, difference) in [
        (&[("a", "1")][..], "a read does not return the tag `b` as sent"),
        (&[("a", "1"), ("b", "secret")], "a read does not return the tag `b` as sent"),
        (&[("a", "1"), ("b", "2"), ("secret", "")], "a read also returns 1 tag"),
        (&[], "a read returns no tags"),
    ] {
        assert_eq!(describe_difference(&sent, &ResponseData::Tags(tags(found))).as_deref(), Some(difference));
    }
    let left = describe_difference(&ObjectRequest::DeleteTags, &ResponseData::Tags(tags(&[("a", "secret")])));
    assert_eq!(left.as_deref(), Some("a read returns 1 tag"));
    assert_eq!(describe_difference(&ObjectRequest::DeleteTags, &ResponseData::Tags(tags(&[]))), None);
    assert!(
        describe_difference(&ObjectRequest::PutAcl(ObjectAcl::PublicRead), &ResponseData::Acl(ObjectAcl::Private))
            .is_some()
    );
    assert_eq!(
        describe_difference(&ObjectRequest::PutAcl(ObjectAcl::PublicRead), &ResponseData::Acl(ObjectAcl::PublicRead)),
        None
    );
}

#[test]
fn samples_are_dense_at_first_and_one_in_a_thousand_then() {
    let samples: Vec<_> = (1..=4000).filter(|write| is_sample(*write)).collect();
    assert_eq!(samples, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2000, 3000, 4000]);
}
