//! Hints on what to do about failed objects and untrusted servers, by error code.

use batchplan_store::error_code::{self, SIGNATURE_HINT, is_about_signature};
use batchplan_store::object::ObjectId;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;

use crate::engine::{
    CONTENT_CHANGED, INCONCLUSIVE, NO_USABLE_ANSWER, READ_DENIED, SERVER_CHECK_FAILED, ServerCheckFailure,
    ServerCheckFailureKind, WRITE_NOT_KEPT, WRITE_NOT_STORED, reason_says,
};
use crate::hint::{Hint, command, hint};
use crate::job::JobId;
use crate::plan::Plan;
use crate::provider::ProviderRules;

/// Hints for the error codes of the server check. `error_code` in the store crate has those for all other codes.
const HINTS: &[(&str, &str)] = &[
    (
        SERVER_CHECK_FAILED,
        "the server applied the request to the object itself: check this object, and recover it from a copy or an \
         older version if needed",
    ),
    (
        WRITE_NOT_KEPT,
        "the server reported success, but a different value reads back; the object's content is unchanged",
    ),
    (
        CONTENT_CHANGED,
        "the objects' contents changed during the request: another process wrote them at the same time, or the server \
         applied the request to the object itself; check each object, and recover it if needed",
    ),
];

/// Returns a hint for objects that failed with this error code, if one is known. `http` is the HTTP status, or 0 if no
/// response arrived; it decides for unknown codes.
#[must_use]
pub fn hint(code: &str, http: u16) -> Option<&'static str> {
    let own = HINTS.iter().find(|(own, _)| *own == code).map(|(_, hint)| *hint);
    own.or_else(|| error_code::hint(code, http))
}

/// Describes why a job pauses when its credentials are rejected, and what to do about it.
pub(super) fn describe_rejected_credentials(fault: &StoreError) -> String {
    let (what, todo) = match fault.code.as_str() {
        "NoCredentials" => {
            let todo = hint("NoCredentials", 0).unwrap_or_default();
            return format!("no usable credentials: {} ({todo})", fault.message);
        }
        code if is_about_signature(code) => ("the signature of the requests", Some(SIGNATURE_HINT)),
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
pub fn untrusted_pause_hint(job: &JobId, after_write: bool, why: &str) -> Hint {
    if after_write && reason_says(why, WRITE_NOT_STORED) {
        return hint!(
            "cancel the job ({}). Once the server supports this, process the remaining objects ({}); or apply the plan \
             with another endpoint",
            command!("cancel", job),
            command!("retry", job)
        );
    }
    if after_write {
        return hint!(
            "cancel the job ({}), and recover overwritten objects from a copy or an older version. Only then, and once \
             the server supports this, process the remaining objects ({}), which include the overwritten ones",
            command!("cancel", job),
            command!("retry", job)
        );
    }
    let resume = hint!("resume the job ({}), or cancel it ({})", command!("resume", job), command!("cancel", job));
    if !reason_says(why, INCONCLUSIVE) {
        return hint!(
            "to use another server, cancel the job ({}), change `endpoint` in [store] and apply the plan again. Once \
             this server supports it, resume the job ({})",
            command!("cancel", job),
            command!("resume", job)
        );
    }
    if reason_says(why, NO_USABLE_ANSWER) {
        return hint!(
            "check that the server responds, and {}. Resuming does not retry objects that have failed: use {} once the \
             job has ended",
            resume,
            command!("retry", job)
        );
    }
    let first = if reason_says(why, READ_DENIED) { "grant the missing permission" } else { "fix the cause" };
    hint!(
        "{}, and {}. If you know that this server supports it, set `skip_server_check = true` in [store] and resume \
         the job",
        first,
        resume
    )
}

/// Returns the hint for an untrusted server if there is no job yet.
#[must_use]
pub(super) fn untrusted_server_hint(refusal: &ServerCheckFailure) -> Hint {
    let way_out = "if you know that this server supports it, set `skip_server_check = true` in [store]";
    match refusal.kind {
        ServerCheckFailureKind::Denied(_) => {
            hint!("grant the missing permission ({} prints all that a plan needs); {}", command!("policy"), way_out)
        }
        ServerCheckFailureKind::NotVerifiable => way_out.into(),
        ServerCheckFailureKind::NoUsableAnswer => "check that the server responds, and try again".into(),
        ServerCheckFailureKind::AppliedToObject
        | ServerCheckFailureKind::WriteNotStored
        | ServerCheckFailureKind::Unsupported => hint!(
            "change `endpoint` in [store] to a server that supports this, and check it: {}",
            command!("check", "PLAN")
        ),
    }
}

#[cfg(test)]
mod tests {
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
}
