//! Interprets the answers to a first write.

use batchplan_store::object::ObjectId;
use batchplan_store::object_request::{ObjectRequest, ResponseData};
use batchplan_store::task::StoreError;

use super::read_check::is_unknown_to_server;
use crate::operation::ObjectAspect;

/// What an error answer to the first write shows about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestSupport {
    /// The server does not know the request.
    Unsupported,
    /// The server knows the request.
    Supported,
    /// Nothing: the request was rejected for its content, or did not arrive.
    Unclear,
}

/// Errors that the services document for restores only.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html>
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
const RESTORE_ERROR_CODES: [&str; 6] = [
    "RestoreAlreadyInProgress",
    "GlacierExpeditedRetrievalNotAvailable",
    "ObjectAlreadyInActiveTierError",
    "InvalidObjectState",
    "ObjectRestoreNotNeeded",
    "OperationNotSupported",
];

/// Errors with which a server that knows restores rejects an invalid request.
const INVALID_REQUEST_CODES: [&str; 4] = ["InvalidArgument", "InvalidRequest", "MalformedXML", "InvalidTier"];

pub(super) fn request_support(call: &ObjectRequest, fault: &StoreError) -> RequestSupport {
    let unknown = is_unknown_to_server(fault) || fault.status == Some(405);
    match call {
        _ if unknown => RequestSupport::Unsupported,
        ObjectRequest::Restore(_) if RESTORE_ERROR_CODES.contains(&fault.code.as_str()) => RequestSupport::Supported,
        ObjectRequest::Restore(_)
            if fault.status == Some(400) && !INVALID_REQUEST_CODES.contains(&fault.code.as_str()) =>
        {
            RequestSupport::Unsupported
        }
        _ => RequestSupport::Unclear,
    }
}

/// Describes how the value read back differs from what was sent; `None` if they are equal.
pub(super) fn describe_difference(sent: &ObjectRequest, found: &ResponseData) -> Option<String> {
    match ObjectAspect::of(sent) {
        Some(aspect) => aspect.rules().difference(sent, found),
        None => Some("it cannot be read".to_owned()),
    }
}

/// Gives the fault of an object that HEAD does not find the error code of other requests, since an answer to HEAD has
/// no error document.
pub(super) fn with_missing_code(fault: StoreError, object: &ObjectId) -> StoreError {
    if fault.status != Some(404) || fault.code.starts_with("NoSuch") {
        return fault;
    }
    let code = if object.version.is_some() { "NoSuchVersion" } else { "NoSuchKey" };
    StoreError { code: code.to_owned(), message: "the object does not exist".to_owned(), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchplan_store::object::{ObjectAcl, RestoreRequest, TagSet};
    use batchplan_store::task::FaultClass;

    #[test]
    fn classifies_a_rejected_first_write_by_status_and_code() {
        let fault = |status, code: &str| StoreError {
            status: Some(status),
            ..StoreError::without_response(FaultClass::Rejected, code, "no", String::new())
        };
        let restore = ObjectRequest::Restore(RestoreRequest { days: 1, tier: None });
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
            describe_difference(
                &ObjectRequest::PutAcl(ObjectAcl::PublicRead),
                &ResponseData::Acl(ObjectAcl::PublicRead)
            ),
            None
        );
    }
}
