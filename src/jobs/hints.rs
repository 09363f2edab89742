//! Hints on what to do about failed objects and untrusted servers, by error code.

use batchplan_store::object::ObjectId;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

use crate::engine::{
    CONTENT_CHANGED, INCONCLUSIVE, NO_USABLE_ANSWER, READ_DENIED, SERVER_CHECK_FAILED, ServerCheckFailure,
    ServerCheckFailureKind, WRITE_NOT_KEPT, WRITE_NOT_STORED, reason_says,
};
use crate::job::JobId;
use crate::plan::Plan;
use crate::provider::ProviderRules;

/// Hints for the error codes that jobs commonly meet.
const HINTS: &[(&[&str], &str)] = &[
    (
        &["AccessDenied", "AllAccessDisabled", "AccountProblem"],
        "the credentials are not allowed to do this: check their role or policy, the bucket policy, and who owns the \
         objects",
    ),
    (
        &["NoSuchKey", "NotFound", "NoSuchVersion"],
        "the objects do not exist, or no longer exist: check keys, version ids and URL encoding in the manifest, or \
         use a newer listing",
    ),
    (
        &["NoSuchBucket"],
        "the bucket does not exist here: check its name in the manifest, and the endpoint and region in [store]",
    ),
    (
        &["InvalidArgument", "InvalidRequest", "BadRequest", "MalformedXML", "InvalidTag", "MalformedACLError"],
        "the server rejected the request: check that this store and the objects' storage class allow these tags, ACL, \
         days and tier",
    ),
    (
        &["InvalidObjectState", "ObjectNotAppendable", "OperationNotSupported", "MethodNotAllowed"],
        "the objects' state or storage class does not allow this: filter the manifest by storage_class, or restore \
         them from the archive first",
    ),
    (
        &["TooManyTags", "BadTagSet"],
        "an object can have at most 10 tags: delete some in the same plan (delete_object_tagging with keys), or \
         replace them all (put_object_tagging)",
    ),
    (
        &["RestoreAlreadyInProgress"],
        "a restore of these objects is already in progress, perhaps from an earlier job: retry when it is done",
    ),
    (
        &["ObjectAlreadyInActiveTierError", "ObjectRestoreNotNeeded"],
        "the objects are already readable: no restore is needed",
    ),
    (
        &["GlacierExpeditedRetrievalNotAvailable"],
        "the service has no capacity for expedited restores now: retry later, or use the tier Standard or Bulk",
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
        "the service throttled all 10 attempts: lower requests_per_second or concurrency in [limits], then retry",
    ),
    (
        &["RequestTimeout", "ConnectionError", "ClientError", "UnreadableAnswer"],
        "none of 10 attempts got a usable response: check the network and the server, lower concurrency, then retry; \
         the request may have taken effect",
    ),
    (
        &["UnexpectedDocument"],
        "the server sent an unexpected response: check that the endpoint is the store's own, and that it supports the \
         operation",
    ),
    (
        &[SERVER_CHECK_FAILED],
        "the server applied the request to the object itself: check this object, and recover it from a copy or an \
         older version if needed",
    ),
    (
        &[WRITE_NOT_KEPT],
        "the server reported success, but a different value reads back; the object's content is unchanged",
    ),
    (
        &[CONTENT_CHANGED],
        "the objects' contents changed during the request: another process wrote them at the same time, or the server \
         applied the request to the object itself; check each object, and recover it if needed",
    ),
    (&["InternalError"], "the server failed in all 10 attempts: retry later; the request may have taken effect"),
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
        "the credentials have expired or cannot be obtained: renew them, then resume the job",
    ),
    (
        &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidSecurity",
            "NotSignedUp",
            "UnrecognizedClientException",
        ],
        "the server does not accept the credentials: check the access key, its secret and the region in [store]",
    ),
    (&["RequestTimeTooSkewed"], "this machine's clock differs too much from the server's: correct it"),
    (
        &["AccessControlListNotSupported"],
        "the bucket has ACLs disabled: enable them in its ownership controls, or use a bucket policy instead",
    ),
    (&["NotImplemented"], "this server does not support the operation: use another server"),
    (&["OperationAborted", "Conflict"], "another request was changing the objects at the same time: retry"),
    (&["RequestNotSent"], "the request could not be built: the message says what is wrong with the object"),
    (&["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"], SIGNATURE_HINT),
    (
        &["UnexpectedRedirect", "PermanentRedirect", "TemporaryRedirect"],
        "the bucket is at another endpoint: check the endpoint and the region in [store]",
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

/// The hint for a rejected signature. Services also report this with general codes such as `InvalidArgument`.
const SIGNATURE_HINT: &str = "the region in [store] or the environment is not the bucket's, or the credentials are for \
                              another service: check both";

/// Describes why a job pauses when its credentials are rejected, and what to do about it.
pub(super) fn describe_rejected_credentials(fault: &StoreError) -> String {
    let (what, todo) = match fault.code.as_str() {
        "NoCredentials" => {
            let todo = hint("NoCredentials", 0).unwrap_or_default();
            return format!("no usable credentials: {} ({todo})", fault.message);
        }
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "InvalidArgument" | "InvalidRequest" => {
            ("the signature of the requests", Some(SIGNATURE_HINT))
        }
        code => ("the credentials", hint(code, fault.status.unwrap_or_default())),
    };
    let todo = todo.map(|todo| format!(" ({todo})"));
    format!("the service rejected {what}: {fault}{}", todo.unwrap_or_default())
}

/// Returns a number with its noun, in the plural unless the number is 1.
pub(super) fn format_count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
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
        "no further requests were started"
    } else {
        "nothing was changed"
    };
    let others = if refusal.others_written {
        ". Earlier writes succeeded and may have changed the contents of other objects: if the server was replaced \
         meanwhile, compare the objects in the report with a copy or an older version, too"
    } else {
        ""
    };
    format!("{refusal}{missing}. Seen with {object}; {end}{others}")
}

/// Returns the action that a policy must allow for a request on this object.
fn required_action(plan: &Plan, call: &ObjectRequest, object: &ObjectId) -> &'static str {
    ProviderRules::of(plan.store.provider).policy_language.action_for(call.kind(), object.version.is_some())
}

/// Returns the hint for a job that is paused because its server is not trusted. `why` is the pause reason. If a write
/// revealed the problem (`after_write`), another attempt may damage one more object. The hint suggests turning the
/// check off only if the check itself could not be completed.
#[must_use]
pub fn untrusted_pause_hint(job: &JobId, after_write: bool, why: &str) -> String {
    if after_write && reason_says(why, WRITE_NOT_STORED) {
        return format!(
            "cancel the job (batchplan cancel {job}). Once the server supports this, process the remaining objects \
             (batchplan retry {job}); or apply the plan with another endpoint"
        );
    }
    if after_write {
        return format!(
            "cancel the job (batchplan cancel {job}), and recover overwritten objects from a copy or an older version. \
             Only then, and once the server supports this, process the remaining objects (batchplan retry {job}), \
             which include the overwritten ones"
        );
    }
    let resume = format!("resume the job (batchplan resume {job}), or cancel it (batchplan cancel {job})");
    if !reason_says(why, INCONCLUSIVE) {
        return format!(
            "to use another server, cancel the job (batchplan cancel {job}), change `endpoint` in [store] and apply \
             the plan again. Once this server supports it, resume the job (batchplan resume {job})"
        );
    }
    if reason_says(why, NO_USABLE_ANSWER) {
        return format!(
            "check that the server responds, and {resume}. Resuming does not retry objects that have failed: use \
             batchplan retry {job} once the job has ended"
        );
    }
    let first = if reason_says(why, READ_DENIED) { "grant the missing permission" } else { "fix the cause" };
    format!(
        "{first}, and {resume}. If you know that this server supports it, set `skip_server_check = true` in [store] \
         and resume the job"
    )
}

/// Returns the hint for an untrusted server if there is no job yet.
#[must_use]
pub(super) fn untrusted_server_hint(refusal: &ServerCheckFailure) -> String {
    let way_out = "if you know that this server supports it, set `skip_server_check = true` in [store]";
    match refusal.kind {
        ServerCheckFailureKind::Denied(_) => {
            format!("grant the missing permission (batchplan policy prints all that a plan needs); {way_out}")
        }
        ServerCheckFailureKind::NotVerifiable => way_out.to_owned(),
        ServerCheckFailureKind::NoUsableAnswer => "check that the server responds, and try again".to_owned(),
        ServerCheckFailureKind::AppliedToObject
        | ServerCheckFailureKind::WriteNotStored
        | ServerCheckFailureKind::Unsupported => {
            "change `endpoint` in [store] to a server that supports this, and check it: batchplan check PLAN".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pause_reasons_of_earlier_versions_get_the_same_hints() {
        let id = JobId::random();
        for (earlier, now) in [
            ("the server check could not be made for ?acl, since a read is denied: x", READ_DENIED),
            (
                "the server check could not be made for ?acl, since the server gives no usable answer: x",
                NO_USABLE_ANSWER,
            ),
        ] {
            let now = format!("{INCONCLUSIVE} for ?acl, because {now}: x");
            assert_eq!(untrusted_pause_hint(&id, false, earlier), untrusted_pause_hint(&id, false, &now));
        }
        let (earlier, now) = ("this server does not keep what it is sent", format!("this server {WRITE_NOT_STORED}"));
        assert_eq!(untrusted_pause_hint(&id, true, earlier), untrusted_pause_hint(&id, true, &now));
    }

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
    fn codes_are_unique() {
        let codes: Vec<_> = HINTS.iter().flat_map(|(codes, _)| *codes).collect();
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    }

    #[test]
    fn unknown_codes_get_the_hint_of_their_http_status() {
        assert_eq!(hint("Whatever", 403), hint("AccessDenied", 403));
        assert_eq!(hint("Whatever", 502), hint("InternalError", 500));
        assert_eq!(hint("Whatever", 418), None);
        assert_eq!(hint("", 0), None);
    }
}
