//! Hints on what to do about failed objects and untrusted servers, by error code.

use batchplan_store::object::ObjectId;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

use crate::engine::{
    CONTENT_CHANGED, INCONCLUSIVE, NO_USABLE_ANSWER, READ_DENIED, SERVER_CHECK_FAILED, ServerCheckFailure,
    ServerCheckFailureKind, WRITE_NOT_KEPT, WRITE_NOT_STORED,
};
use crate::job::JobId;
use crate::plan::Plan;
use crate::plan::policy::{PolicyLanguage, RequestPermission};

/// Hints for the error codes that jobs commonly meet.
const HINTS: &[(&[&str], &str)] = &[
    (
        &["AccessDenied", "AllAccessDisabled", "AccountProblem"],
        "the credentials may not do this to these objects: let their role or policy allow it, and look at the bucket's own \
         policy and at who owns the objects",
    ),
    (
        &["NoSuchKey", "NotFound", "NoSuchVersion"],
        "the objects are not there, or not any more: check keys, version ids and URL-encoding in the manifest, or freeze a \
         newer listing",
    ),
    (
        &["NoSuchBucket"],
        "there is no such bucket here: check its name in the manifest, and the endpoint and region in [store]",
    ),
    (
        &["InvalidArgument", "InvalidRequest", "BadRequest", "MalformedXML", "InvalidTag", "MalformedACLError"],
        "the server does not accept what the plan asks for: check tags, ACL, days and tier against what this store and the \
         objects' storage class allow",
    ),
    (
        &["InvalidObjectState", "ObjectNotAppendable", "OperationNotSupported", "MethodNotAllowed"],
        "the objects are in a state or of a storage class that this cannot be done to: narrow the manifest with \
         storage_class, or bring them back from the archive first",
    ),
    (
        &["TooManyTags", "BadTagSet"],
        "an object has at most ten tags: delete some in the same plan (delete_object_tagging with keys), or replace them \
         all (put_object_tagging)",
    ),
    (&["RestoreAlreadyInProgress"], "somebody else's restore of these objects is under way: retry once it is through"),
    (
        &["ObjectAlreadyInActiveTierError", "ObjectRestoreNotNeeded"],
        "the objects can be read as they are: nothing needs to be restored",
    ),
    (
        &["GlacierExpeditedRetrievalNotAvailable"],
        "the service has no room for expedited restores now: retry later, or take the tier Standard or Bulk",
    ),
    (
        &[
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "TooManyRequests",
            "ServiceUnavailable",
            "QpsLimitExceeded",
        ],
        "the service asked for less, ten times over: lower requests_per_second or concurrency in [limits], then retry",
    ),
    (
        &["RequestTimeout", "ConnectionError", "ClientError", "UnreadableAnswer"],
        "no usable answer came, ten times over: check the network and the server, lower concurrency, then retry; what was \
         asked for may have been done",
    ),
    (
        &["UnexpectedDocument"],
        "the server answered with something else than was asked for: check that the endpoint is the store's own, and that it \
         supports the operation",
    ),
    (
        &[SERVER_CHECK_FAILED],
        "the server took the request for one about the object itself: look at this object, and bring it back from a copy or an \
         older version if need be",
    ),
    (
        &[WRITE_NOT_KEPT],
        "the server said that it did what it was asked, and what reads back differs; the object's content is as it was",
    ),
    (
        &[CONTENT_CHANGED],
        "the objects' contents changed while they were written: something else wrote them at the same moment, or the server \
         took the request for one about the object itself; look at each, and bring it back if need be",
    ),
    (&["InternalError"], "the server failed, ten times over: retry later; what was asked for may have been done"),
    (
        &[
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidToken",
            "TokenRefreshRequired",
            "SecurityTokenExpired",
            "InvalidSecurityToken",
            "NoCredentials",
        ],
        "the credentials have expired or are not to be had: renew them, then go on with the job",
    ),
    (
        &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidSecurity",
            "NotSignedUp",
            "UnrecognizedClientException",
        ],
        "the server does not know the credentials: check the access key, its secret and the region in [store]",
    ),
    (&["RequestTimeTooSkewed"], "this machine's clock is too far from the server's: set it right"),
    (
        &["AccessControlListNotSupported"],
        "the bucket takes no ACLs: turn them on in its ownership controls, or use a bucket policy instead",
    ),
    (&["NotImplemented"], "this server does not know the operation: another one may be needed for it"),
    (&["OperationAborted", "Conflict"], "something else was changing the objects at the same moment: retry"),
    (&["RequestNotSent"], "the request could not be built: the message says what of the object is in the way"),
    (&["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"], SIGNATURE_HINT),
    (
        &["UnexpectedRedirect", "PermanentRedirect", "TemporaryRedirect"],
        "the bucket is elsewhere: check the endpoint and the region in [store]",
    ),
];

/// Returns a hint for objects that failed with this error code, if one is known. `http` is the HTTP status, or 0 if no
/// response arrived; it decides for unknown codes.
#[must_use]
pub fn hint(code: &str, http: u16) -> Option<&'static str> {
    let of = |code: &str| HINTS.iter().find(|(codes, _)| codes.contains(&code)).map(|(_, advice)| *advice);
    of(code).or_else(|| match http {
        401 | 403 => of("AccessDenied"),
        404 => of("NotFound"),
        400 => of("BadRequest"),
        429 | 503 => of("SlowDown"),
        500..=599 => of("InternalError"),
        _ => None,
    })
}

/// Returns whether the credentials have expired or are no longer available. Work that used them can be resumed with
/// others.
pub(super) fn credentials_expired(fault: &StoreError) -> bool {
    let codes =
        ["NoCredentials", "ExpiredToken", "ExpiredTokenException", "SecurityTokenExpired", "TokenRefreshRequired"];
    codes.contains(&fault.code.as_str())
}

/// The hint for a rejected signature. Services also report this with general codes such as `InvalidArgument`.
const SIGNATURE_HINT: &str = "the region in [store], or that of the environment, is not the bucket's, or the credentials are for \
                       another service: check both";

/// Describes why a job pauses when its credentials are rejected, and what to do about it.
pub(super) fn describe_rejected_credentials(fault: &StoreError) -> String {
    let (what, todo) = match fault.code.as_str() {
        "NoCredentials" => {
            let todo = hint("NoCredentials", 0).unwrap_or_default();
            return format!("there are no usable credentials: {} ({todo})", fault.message);
        }
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "InvalidArgument" | "InvalidRequest" => {
            ("the signature of its requests", Some(SIGNATURE_HINT))
        }
        code => ("the credentials", hint(code, fault.status.unwrap_or_default())),
    };
    let todo = todo.map(|todo| format!(" ({todo})"));
    format!("the service refuses {what}: {fault}{}", todo.unwrap_or_default())
}

/// Describes why a job pauses, or a command is refused, when the server is not trusted.
#[must_use]
pub fn describe_untrusted_server(plan: &Plan, refusal: &ServerCheckFailure) -> String {
    let missing = match &refusal.kind {
        ServerCheckFailureKind::Denied(call) => {
            format!("; {} is missing", required_action(plan, call, &refusal.object))
        }
        _ => String::new(),
    };
    let object = &refusal.object;
    let unclear =
        matches!(refusal.kind, ServerCheckFailureKind::NotVerifiable | ServerCheckFailureKind::NoUsableAnswer);
    let end = if refusal.after_write || refusal.others_written || unclear {
        "no further request was started"
    } else {
        "nothing was changed"
    };
    let others = if refusal.others_written {
        ". Writes before it succeeded, and may have changed the contents of other objects: compare those of the report, too, \
         with a copy or an older version, if the server was replaced meanwhile"
    } else {
        ""
    };
    format!("{refusal}{missing}. It was seen with {object}; {end}{others}")
}

/// Returns the action that a policy must allow for a request on this object.
pub(super) fn required_action(plan: &Plan, call: &ObjectRequest, object: &ObjectId) -> &'static str {
    RequestPermission::of(call).action(PolicyLanguage::of(plan.store.provider), object.version.is_some())
}

/// Returns the hint for a job that is paused because its server is not trusted. `why` is the pause reason. If a write
/// revealed the problem (`after_write`), another attempt may damage one more object. The hint suggests turning the
/// check off only if the check itself could not be completed.
#[must_use]
pub fn untrusted_pause_hint(job: &JobId, after_write: bool, why: &str) -> String {
    if after_write && why.contains(WRITE_NOT_STORED) {
        return format!(
            "give the job up (batchplan cancel {job}). Once the server supports it, work on what is left (batchplan retry {job}); \
             or apply the plan with another endpoint"
        );
    }
    if after_write {
        return format!(
            "give the job up (batchplan cancel {job}), and bring back what was overwritten from a copy or an older version. Only \
             then, and once the server supports it, work on what is left (batchplan retry {job}): that includes the objects that \
             were overwritten"
        );
    }
    let resume = format!("resume the job (batchplan resume {job}), or give it up (batchplan cancel {job})");
    if !why.contains(INCONCLUSIVE) {
        return format!(
            "to use another server, give the job up (batchplan cancel {job}), change `endpoint` in [store] and apply the plan \
             again. Once this one supports it, resume the job (batchplan resume {job})"
        );
    }
    if why.contains(NO_USABLE_ANSWER) {
        return format!(
            "see that the server answers, and {resume}. Objects that have failed are not worked on again by that: batchplan \
             retry {job}, once it is over"
        );
    }
    let first = if why.contains(READ_DENIED) { "allow what is missing" } else { "see to what it says" };
    format!(
        "{first}, and {resume}. If you know that this server supports it, set `skip_server_check = true` in [store] and resume \
         the job"
    )
}

/// Returns the hint for an untrusted server if there is no job yet.
#[must_use]
pub(super) fn untrusted_server_hint(refusal: &ServerCheckFailure) -> String {
    let way_out = "if you know that this server supports it, set `skip_server_check = true` in [store]";
    match refusal.kind {
        ServerCheckFailureKind::Denied(_) => {
            format!("allow what is missing (batchplan policy prints all that a plan needs); {way_out}")
        }
        ServerCheckFailureKind::NotVerifiable => way_out.to_owned(),
        ServerCheckFailureKind::NoUsableAnswer => "see that the server answers, and try again".to_owned(),
        ServerCheckFailureKind::AppliedToObject
        | ServerCheckFailureKind::WriteNotStored
        | ServerCheckFailureKind::Unsupported => {
            "change `endpoint` in [store] to a server that supports it, and see that it does: batchplan check PLAN"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_of_the_managed_service_and_of_ours_has_advice_of_its_own() {
        let codes = [
            "AccessDenied",
            "NoSuchKey",
            "InvalidArgument",
            "InvalidObjectState",
            "TooManyTags",
            "RestoreAlreadyInProgress",
            "SlowDown",
            "RequestTimeout",
            "ExpiredToken",
        ];
        let found: BTreeSet<_> = codes.iter().map(|code| hint(code, 0).expect("advice")).collect();
        assert_eq!(found.len(), codes.len());
    }

    #[test]
    fn no_code_is_there_twice() {
        let codes: Vec<_> = HINTS.iter().flat_map(|(codes, _)| *codes).collect();
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    }

    #[test]
    fn a_code_that_nobody_knows_is_judged_by_its_status() {
        assert_eq!(hint("Whatever", 403), hint("AccessDenied", 403));
        assert_eq!(hint("Whatever", 502), hint("InternalError", 500));
        assert_eq!(hint("Whatever", 418), None);
        assert_eq!(hint("", 0), None);
    }
}
