//! From the SDK's errors to ours: classified once, into what the caller must do.

use std::error::Error as StdError;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use jiff::Timestamp;

use crate::task::{Fault, FaultClass};

/// Longest server message that is kept: an error body is not trusted to be short.
const MAX_MESSAGE: usize = 1024;

/// Turns a failed request into a fault. `endpoint` names the request.
pub(super) fn fault<E>(error: SdkError<E, HttpResponse>, endpoint: String) -> Fault
where
    E: ProvideErrorMetadata + RequestId + StdError + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let response = service.raw();
            let status = response.status().as_u16();
            let header_id = response.headers().get("x-amz-request-id").unwrap_or_default();
            let error = service.err();
            answered(
                status,
                error.meta().code(),
                error.meta().message(),
                error.request_id().unwrap_or(header_id),
                endpoint,
            )
        }
        SdkError::ResponseError(unreadable) => {
            let status = unreadable.raw().status().as_u16();
            let mut fault = answered(status, None, Some("the answer could not be read"), "", endpoint);
            if status < 300 {
                // A success that cannot be read may be one: look before doing it again.
                fault.class = FaultClass::Ambiguous;
                "UnreadableAnswer".clone_into(&mut fault.code);
            }
            fault
        }
        SdkError::TimeoutError(_) => {
            Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", "no answer came in time", endpoint)
        }
        SdkError::DispatchFailure(failure) => {
            let timed_out = failure.is_timeout();
            let source = SdkError::<E, HttpResponse>::DispatchFailure(failure).into_source();
            let (connecting, detail) = match &source {
                Ok(error) => (never_connected(error.as_ref()), innermost(error.as_ref())),
                Err(error) => (false, error.to_string()),
            };
            let code = if timed_out { "RequestTimeout" } else { "ConnectionError" };
            if let Ok(error) = &source
                && lacks_credentials(error.as_ref())
            {
                return Fault::unanswered(FaultClass::Credentials, "NoCredentials", &shortened(&detail), endpoint);
            }
            let class = if connecting { FaultClass::Transient } else { FaultClass::Ambiguous };
            Fault::unanswered(class, code, &shortened(&detail), endpoint)
        }
        SdkError::ConstructionFailure(failure) => {
            let source = SdkError::<E, HttpResponse>::ConstructionFailure(failure).into_source();
            let (class, code, detail) = match &source {
                Ok(error) if lacks_credentials(error.as_ref()) => {
                    (FaultClass::Credentials, "NoCredentials", innermost(error.as_ref()))
                }
                Ok(error) => (FaultClass::Rejected, "RequestNotSent", innermost(error.as_ref())),
                Err(error) => (FaultClass::Rejected, "RequestNotSent", error.to_string()),
            };
            Fault::unanswered(class, code, &shortened(&detail), endpoint)
        }
        other => Fault::unanswered(FaultClass::Ambiguous, "ClientError", &shortened(&innermost(&other)), endpoint),
    }
}

/// A fault in the server's words, or in words made from its status where it sent none.
fn answered(status: u16, code: Option<&str>, message: Option<&str>, request_id: &str, endpoint: String) -> Fault {
    let sent = code.filter(|code| !code.is_empty());
    let code = sent.unwrap_or_else(|| name_of(status));
    // The store itself refuses with a code. A bare 503 is a proxy's, which may have passed the request on.
    let class = if status == 503 && sent.is_none() { FaultClass::Ambiguous } else { classify(status, code) };
    let message = message.filter(|message| !message.is_empty()).unwrap_or("the server gave no message");
    Fault {
        class,
        status: Some(status),
        code: shortened(code),
        message: shortened(message),
        request_id: shortened(request_id),
        ec: String::new(),
        endpoint,
        at: Timestamp::now(),
        retry_after: None,
    }
}

/// What a caller must do about an answer.
fn classify(status: u16, code: &str) -> FaultClass {
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
        // Whose request it is, not what it is about: the next one is refused as well.
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "InvalidSecurity"
        | "SignatureDoesNotMatch"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "NotSignedUp"
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
fn name_of(status: u16) -> &'static str {
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

/// Whether there was nothing to sign the request with: a profile, a token or a role that brings no credentials any more.
fn lacks_credentials(error: &(dyn StdError + 'static)) -> bool {
    let is_that = <dyn StdError + 'static>::is::<aws_credential_types::provider::error::CredentialsError>;
    sources(error).any(is_that)
}

/// Whether the connection was never made, so that the server cannot have seen the request.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    sources(error)
        .filter_map(|error| error.downcast_ref::<hyper_util::client::legacy::Error>())
        .any(hyper_util::client::legacy::Error::is_connect)
}

/// The last source says most: "connection refused" rather than "dispatch failure".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    sources(error).last().map_or_else(String::new, ToString::to_string)
}

fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (503, "TotalQpsLimitExceeded", FaultClass::Throttled),
            (403, "MetaOperationQpsLimitExceeded", FaultClass::Throttled),
            (429, "", FaultClass::Throttled),
            (503, "GlacierExpeditedRetrievalNotAvailable", FaultClass::Rejected),
            (500, "InternalError", FaultClass::Ambiguous),
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
            (401, ""),
            (401, "Unauthorized"),
        ];
        for (status, code) in whose_it_is {
            let fault = answered(status, Some(code), None, "", String::new());
            assert_eq!(fault.class, FaultClass::Credentials, "{status} {code}");
            assert!(!fault.class.may_pass(), "no attempt fares better");
        }
        // A policy may forbid one object and allow the next.
        for (status, code) in
            [(403, "AccessDenied"), (403, ""), (403, "AllAccessDisabled"), (403, "KMS.DisabledException")]
        {
            let fault = answered(status, Some(code), None, "", String::new());
            assert_eq!(fault.class, FaultClass::Rejected, "{status} {code}");
        }
    }

    /// What the SDK gives where a request fails before it is answered.
    fn unsent(error: SdkError<std::convert::Infallible, HttpResponse>) -> Fault {
        match error {
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) => {}
            other => panic!("{other:?}"),
        }
        fault(
            error.map_service_error(|never| -> aws_sdk_s3::operation::head_object::HeadObjectError { match never {} }),
            "HEAD x".to_owned(),
        )
    }

    /// As an error may be met below another one.
    #[derive(Debug, thiserror::Error)]
    #[error("the request cannot be signed")]
    struct CannotSign(#[source] aws_credential_types::provider::error::CredentialsError);

    #[test]
    fn a_provider_without_credentials_is_a_matter_of_credentials() {
        use aws_credential_types::provider::error::CredentialsError;
        use aws_smithy_runtime_api::client::result::ConnectorError;

        let expired = || CredentialsError::provider_error("the SSO session has expired");
        let wrapped = || CannotSign(expired());
        let connector = |error: Box<dyn StdError + Send + Sync>| ConnectorError::other(error, None);
        for error in [
            SdkError::construction_failure(expired()),
            SdkError::construction_failure(wrapped()),
            SdkError::dispatch_failure(connector(expired().into())),
            SdkError::dispatch_failure(connector(wrapped().into())),
        ] {
            let fault = unsent(error);
            assert_eq!((fault.class, fault.status), (FaultClass::Credentials, None), "{fault:?}");
            assert_eq!((fault.code.as_str(), fault.message.as_str()), ("NoCredentials", "the SSO session has expired"));
            assert_eq!(fault.endpoint, "HEAD x");
        }
    }

    #[test]
    fn other_requests_that_never_left_are_no_matter_of_credentials() {
        use aws_smithy_runtime_api::client::result::ConnectorError;

        let odd = unsent(SdkError::construction_failure("a header that cannot be sent"));
        assert_eq!((odd.class, odd.code.as_str()), (FaultClass::Rejected, "RequestNotSent"));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let reset = unsent(SdkError::dispatch_failure(ConnectorError::io(reset.into())));
        assert_eq!((reset.class, reset.code.as_str()), (FaultClass::Ambiguous, "ConnectionError"));
    }

    #[test]
    fn a_503_without_a_code_may_have_been_carried_out() {
        let class = |code| answered(503, code, None, "", String::new()).class;
        assert_eq!(class(Some("SlowDown")), FaultClass::Throttled);
        assert_eq!(class(Some("ServiceUnavailable")), FaultClass::Throttled);
        assert_eq!(class(None), FaultClass::Ambiguous);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "é".repeat(2000);
        let fault = answered(400, Some("X"), Some(&long), "", String::new());
        assert_eq!(fault.message.len(), MAX_MESSAGE);
    }

    #[test]
    fn an_empty_answer_is_named_by_its_status() {
        let fault = answered(403, None, None, "", String::new());
        assert_eq!((fault.status, fault.code.as_str()), (Some(403), "AccessDenied"));
    }
}
