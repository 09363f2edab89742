//! The errors of requests: what the caller must do after each ([`FaultClass`]), and how an error response is
//! classified.

use std::fmt;
use std::num::NonZeroU16;

use jiff::Timestamp;

use crate::error_code::{FaultClass, classify, code_for_status};
use crate::object_request::ObjectHeaderSet;

/// A request that failed, with the server's own code and message if it sent any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What the caller must do.
    pub class: FaultClass,
    /// The HTTP status, or `None` if there was no response.
    pub status: Option<u16>,
    /// The server's error code (`AccessDenied`), or a code of this program in the same style (`RequestTimeout`,
    /// `TooManyTags`).
    pub code: String,
    /// A readable explanation, one sentence.
    pub message: String,
    /// The server's ID of the request. Empty if there was no response.
    pub request_id: String,
    /// The detailed error code of OSS (`0003-00000001`). Empty for other stores.
    pub ec: String,
    /// The method and the URL without its secrets, as in OSS reports: `PUT http://host/bucket/key?tagging`.
    pub endpoint: String,
    /// The time at which the request failed.
    pub at: Timestamp,
    /// The number of seconds that the server asks the client to wait (`Retry-After`). Not written to reports.
    pub retry_after: Option<NonZeroU16>,
    /// The object headers in the response. Not written to reports.
    pub headers: ObjectHeaderSet,
}

impl StoreError {
    /// Returns whether the same request may succeed later: see [`FaultClass::is_retryable`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.class.is_retryable()
    }

    /// Creates the error of a request that got no response or was never sent.
    #[must_use]
    pub fn without_response(class: FaultClass, code: &str, message: &str, endpoint: String) -> Self {
        Self {
            class,
            status: None,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            ec: String::new(),
            endpoint,
            at: Timestamp::now(),
            retry_after: None,
            headers: ObjectHeaderSet::default(),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {}: {}", status, self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for StoreError {}

/// The maximum number of bytes kept of a server's message, because an error response can have any size.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024;

/// The parts of an error response that are used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ErrorResponse<'a> {
    pub(crate) status: u16,
    pub(crate) code: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
    /// The server's ID of the request.
    pub(crate) request_id: &'a str,
    /// OSS's detailed error code.
    pub(crate) ec: &'a str,
    /// The value of the `Retry-After` header.
    pub(crate) retry_after: Option<&'a str>,
}

impl ErrorResponse<'_> {
    /// Builds the error, with the server's code and message, or with ones derived from the status if it sent none.
    /// `endpoint` describes the request.
    pub(crate) fn into_error(self, endpoint: String) -> StoreError {
        let Self { status, code, message, request_id, ec, retry_after } = self;
        let sent = code.filter(|code| !code.is_empty());
        let code = sent.unwrap_or_else(|| code_for_status(status));
        // A store rejects a request with a code. A 503 without one comes from a proxy, which may have forwarded the
        // request.
        let class = match (status, sent) {
            (503, None) => FaultClass::Ambiguous,
            _ if self.is_signing_error() => FaultClass::Credentials,
            _ => classify(status, code),
        };
        let message = message.filter(|message| !message.is_empty()).unwrap_or("the server gave no message");
        StoreError {
            class,
            status: Some(status),
            code: truncate(code),
            message: truncate(message),
            request_id: truncate(request_id),
            ec: truncate(ec),
            endpoint,
            at: Timestamp::now(),
            retry_after: retry_after.and_then(parse_retry_after),
            headers: ObjectHeaderSet::default(),
        }
    }

    /// Returns whether an error code with several meanings refers to the signature in this case. Then every further
    /// request fails as well, for any object.
    fn is_signing_error(&self) -> bool {
        let message = self.message.unwrap_or_default().to_ascii_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        match (self.status, self.code) {
            (400, Some("InvalidArgument")) => {
                // All of OSS's detailed codes with this prefix refer to the signature.
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

/// Parses the seconds of a `Retry-After` header. Ignores the date form, because clocks differ and stores do not send
/// it.
fn parse_retry_after(header: &str) -> Option<NonZeroU16> {
    let seconds: u64 = header.trim().parse().ok()?;
    NonZeroU16::new(u16::try_from(seconds).unwrap_or(u16::MAX))
}

/// Truncates a text to [`MAX_MESSAGE_BYTES`] bytes, at a character boundary.
pub(crate) fn truncate(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>, message: Option<&str>) -> StoreError {
        ErrorResponse { status, code, message, ..ErrorResponse::default() }.into_error(String::new())
    }

    #[test]
    fn distinguishes_rejected_credentials_from_rejected_objects() {
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
            assert!(!fault.class.is_retryable(), "no attempt fares better");
        }
        // A policy can deny access to one object and allow it to the next.
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
            let refusal =
                ErrorResponse { status: 400, code: Some(code), message: Some(message), ec, ..ErrorResponse::default() };
            refusal.into_error(String::new()).class
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
        assert_eq!(fault.message.len(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn an_empty_answer_is_named_by_its_status() {
        let fault = refused(403, None, None);
        assert_eq!((fault.status, fault.code.as_str()), (Some(403), "AccessDenied"));
    }

    #[test]
    fn a_server_may_say_how_long_it_wants_to_be_left_alone() {
        let after = |header| {
            ErrorResponse { retry_after: Some(header), ..ErrorResponse::default() }
                .into_error(String::new())
                .retry_after
        };
        assert_eq!(after(" 7 ").map(NonZeroU16::get), Some(7));
        assert_eq!(after("999999999").map(NonZeroU16::get), Some(u16::MAX));
        for none in ["0", "-1", "soon", "Fri, 21 Dec 2012 00:00:00 GMT", ""] {
            assert_eq!(after(none), None, "{none}");
        }
    }
}
