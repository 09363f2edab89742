//! From a server's answers to faults: classified once, into what the caller must do.

use std::num::NonZeroU16;

use jiff::Timestamp;

use crate::call::ObjectHeaders;
use crate::task::{Fault, FaultClass};

/// Longest server message that is kept: an error body is not trusted to be short.
pub(super) const MAX_MESSAGE: usize = 1024;

/// What a server said when it refused a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusal<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// Its error code.
    pub(super) code: Option<&'a str>,
    /// Its message.
    pub(super) message: Option<&'a str>,
    /// Its id of the request.
    pub(super) request_id: &'a str,
    /// OSS's finer error code.
    pub(super) ec: &'a str,
    /// Its `Retry-After` header.
    pub(super) retry_after: Option<&'a str>,
}

impl Refusal<'_> {
    /// A fault in the server's words, or in words made from its status where it sent none. `endpoint` names the request.
    pub(super) fn fault(self, endpoint: String) -> Fault {
        let Self { status, code, message, request_id, ec, retry_after } = self;
        let sent = code.filter(|code| !code.is_empty());
        let code = sent.unwrap_or_else(|| name_of(status));
        // The store itself refuses with a code. A bare 503 is a proxy's, which may have passed the request on.
        let class = match (status, sent) {
            (503, None) => FaultClass::Ambiguous,
            _ if self.is_about_signing() => FaultClass::Credentials,
            _ => classify(status, code),
        };
        let message = message.filter(|message| !message.is_empty()).unwrap_or("the server gave no message");
        Fault {
            class,
            status: Some(status),
            code: shortened(code),
            message: shortened(message),
            request_id: shortened(request_id),
            ec: shortened(ec),
            endpoint,
            at: Timestamp::now(),
            retry_after: retry_after.and_then(seconds),
            headers: ObjectHeaders::default(),
        }
    }
}

impl Refusal<'_> {
    /// Whether a refusal with a code that says many things is about how the request was signed: the next one is refused
    /// as well, whatever it is about.
    fn is_about_signing(&self) -> bool {
        let message = self.message.unwrap_or_default().to_ascii_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        match (self.status, self.code) {
            (400, Some("InvalidArgument")) => {
                // OSS's finer codes that begin so are all about the signature.
                self.ec.starts_with("0002-")
                    || says(&["authorization header is invalid", "unsupported authorization type"])
            }
            (400, Some("InvalidRequest")) => {
                says(&["authorization mechanism", "aws4-hmac-sha256", "signature version"])
            }
            _ => false,
        }
    }
}

/// Seconds of a `Retry-After`. The form with a date is taken for none: clocks differ, and stores do not send it.
fn seconds(header: &str) -> Option<NonZeroU16> {
    let seconds: u64 = header.trim().parse().ok()?;
    NonZeroU16::new(u16::try_from(seconds).unwrap_or(u16::MAX))
}

/// What a caller must do about an answer.
pub(super) fn classify(status: u16, code: &str) -> FaultClass {
    match code {
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests"
        // What OSS calls it, by what there was too much of.
        | "TotalQpsLimitExceeded"
        | "MetaOperationQpsLimitExceeded"
        | "ActiveRequestLimitExceeded"
        | "CpuLimitExceeded"
        | "DownloadTrafficRateLimitExceeded"
        | "UploadTrafficRateLimitExceeded" => return FaultClass::Throttled,
        "RequestTimeout" | "OperationAborted" => return FaultClass::Transient,
        // Also behind a 200, which some requests get before they are carried out.
        "InternalError" => return FaultClass::Ambiguous,
        // Whose request it is, not what it is about: the next one is refused as well.
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "InvalidSecurity"
        | "SignatureDoesNotMatch"
        | "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "NotSignedUp"
        | "SecurityTokenExpired"
        | "InvalidSecurityToken"
        | "UnrecognizedClientException" => return FaultClass::Credentials,
        // Expedited capacity is short for hours, not seconds: the object fails, and a retry of the report takes it up.
        "GlacierExpeditedRetrievalNotAvailable" => return FaultClass::Rejected,
        _ => {}
    }
    match status {
        401 => FaultClass::Credentials,
        408 => FaultClass::Transient,
        429 | 503 => FaultClass::Throttled,
        // The server failed on the way, perhaps after it had done the work.
        500 | 502 | 504 => FaultClass::Ambiguous,
        409 => FaultClass::Conflict,
        _ => FaultClass::Rejected,
    }
}

/// A code for an answer without a body, such as any to HEAD.
pub(super) fn name_of(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        401 | 403 => "AccessDenied",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 => "RequestTimeout",
        409 => "Conflict",
        412 => "PreconditionFailed",
        429 => "TooManyRequests",
        501 => "NotImplemented",
        503 => "ServiceUnavailable",
        500..=599 => "InternalError",
        300..=399 => "UnexpectedRedirect",
        _ => "UnexpectedStatus",
    }
}

/// As much of a text as is kept.
pub(super) fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>, message: Option<&str>) -> Fault {
        Refusal { status, code, message, ..Refusal::default() }.fault(String::new())
    }

    #[test]
    fn answers_are_classified_by_what_to_do() {
        let cases = [
            (403, "AccessDenied", FaultClass::Rejected),
            (404, "NoSuchKey", FaultClass::Rejected),
            (400, "InvalidArgument", FaultClass::Rejected),
            (409, "RestoreAlreadyInProgress", FaultClass::Conflict),
            (409, "OperationAborted", FaultClass::Transient),
            (400, "RequestTimeout", FaultClass::Transient),
            (408, "", FaultClass::Transient),
            (503, "SlowDown", FaultClass::Throttled),
            (503, "ServiceUnavailable", FaultClass::Throttled),
            (429, "", FaultClass::Throttled),
            (503, "GlacierExpeditedRetrievalNotAvailable", FaultClass::Rejected),
            (500, "InternalError", FaultClass::Ambiguous),
            (200, "InternalError", FaultClass::Ambiguous),
            (200, "SlowDown", FaultClass::Throttled),
            (503, "TotalQpsLimitExceeded", FaultClass::Throttled),
            (403, "MetaOperationQpsLimitExceeded", FaultClass::Throttled),
            (502, "", FaultClass::Ambiguous),
            (501, "NotImplemented", FaultClass::Rejected),
        ];
        for (status, code, class) in cases {
            assert_eq!(classify(status, code), class, "{status} {code}");
        }
    }

    #[test]
    fn refused_credentials_are_told_from_refused_objects() {
        let whose_it_is = [
            (400, "ExpiredToken"),
            (403, "ExpiredTokenException"),
            (403, "InvalidAccessKeyId"),
            (400, "InvalidToken"),
            (403, "InvalidSecurity"),
            (403, "SignatureDoesNotMatch"),
            (400, "TokenRefreshRequired"),
            (403, "RequestTimeTooSkewed"),
            (403, "NotSignedUp"),
            (403, "UnrecognizedClientException"),
            (403, "SecurityTokenExpired"),
            (403, "InvalidSecurityToken"),
            (400, "AuthorizationHeaderMalformed"),
            (400, "AuthorizationQueryParametersError"),
            (401, ""),
            (401, "Unauthorized"),
        ];
        for (status, code) in whose_it_is {
            let fault = refused(status, Some(code), None);
            assert_eq!(fault.class, FaultClass::Credentials, "{status} {code}");
            assert!(!fault.class.may_pass(), "no attempt fares better");
        }
        // A policy may forbid one object and allow the next.
        for (status, code) in
            [(403, "AccessDenied"), (403, ""), (403, "AllAccessDisabled"), (403, "KMS.DisabledException")]
        {
            let fault = refused(status, Some(code), None);
            assert_eq!(fault.class, FaultClass::Rejected, "{status} {code}");
        }
    }

    #[test]
    fn a_refused_signature_is_told_from_a_refused_document() {
        let class = |code, message, ec| {
            let refusal = Refusal { status: 400, code: Some(code), message: Some(message), ec, ..Refusal::default() };
            refusal.fault(String::new()).class
        };
        for (code, message, ec) in [
            ("InvalidArgument", "Invalid signing region in Authorization header.", "0002-00000208"),
            ("InvalidArgument", "Unsupported Authorization Type", ""),
            (
                "InvalidRequest",
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
                "",
            ),
        ] {
            assert_eq!(class(code, message, ec), FaultClass::Credentials, "{message}");
        }
        for (code, message, ec) in [
            ("InvalidArgument", "The tag is invalid.", "0034-00000001"),
            ("InvalidArgument", "", ""),
            ("InvalidRequest", "The encryption method specified is not supported", ""),
            ("InvalidTag", "authorization mechanism", "0002-1"),
        ] {
            assert_eq!(class(code, message, ec), FaultClass::Rejected, "{message}");
        }
    }

    #[test]
    fn a_503_without_a_code_may_have_been_carried_out() {
        let class = |code| refused(503, code, None).class;
        assert_eq!(class(Some("SlowDown")), FaultClass::Throttled);
        assert_eq!(class(Some("ServiceUnavailable")), FaultClass::Throttled);
        assert_eq!(class(None), FaultClass::Ambiguous);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "é".repeat(2000);
        let fault = refused(400, Some("X"), Some(&long));
        assert_eq!(fault.message.len(), MAX_MESSAGE);
    }

    #[test]
    fn an_empty_answer_is_named_by_its_status() {
        let fault = refused(403, None, None);
        assert_eq!((fault.status, fault.code.as_str()), (Some(403), "AccessDenied"));
    }

    #[test]
    fn a_server_may_say_how_long_it_wants_to_be_left_alone() {
        let after =
            |header| Refusal { retry_after: Some(header), ..Refusal::default() }.fault(String::new()).retry_after;
        assert_eq!(after(" 7 ").map(NonZeroU16::get), Some(7));
        assert_eq!(after("999999999").map(NonZeroU16::get), Some(u16::MAX));
        for none in ["0", "-1", "soon", "Fri, 21 Dec 2012 00:00:00 GMT", ""] {
            assert_eq!(after(none), None, "{none}");
        }
    }
}
