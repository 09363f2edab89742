//! From the SDK's errors to ours: classified once, into what the caller must do.

use std::error::Error as StdError;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use jiff::fmt::rfc2822;

use crate::store::fault::{Refusal, shortened};
use crate::store::wire::{Refused, Signed};
use crate::task::{Fault, FaultClass};

/// Turns a failed request, which was signed so, into a refusal. `endpoint` names the request.
pub(super) fn refused<E>(error: SdkError<E, HttpResponse>, endpoint: String, signed: &Signed) -> Refused
where
    E: ProvideErrorMetadata + RequestId + StdError + Send + Sync + 'static,
{
    let SdkError::ServiceError(service) = error else {
        return Refused { fault: unanswered(error, endpoint), date: None, has_code: false };
    };
    let response = service.raw();
    let header = |name: &str| response.headers().get(name).unwrap_or_default();
    let error = service.err();
    let (status, code) = (response.status().as_u16(), error.meta().code().map(|code| signed.told(code)));
    if status < 300 && code.is_none() {
        // It is no refusal that the SDK could not make an answer of.
        return Refused { fault: unreadable(status, endpoint), date: None, has_code: false };
    }
    let message = error.meta().message().map(|message| signed.told(message));
    let refusal = Refusal {
        status,
        code: code.as_deref(),
        message: message.as_deref(),
        request_id: &signed.told(error.request_id().unwrap_or_else(|| header("x-amz-request-id"))),
        ec: "",
        retry_after: Some(header("retry-after")),
    };
    let date = rfc2822::parse(header("date")).ok().map(|date| date.timestamp());
    Refused { fault: refusal.fault(endpoint), date, has_code: code.is_some() }
}

/// The fault of a request that no server refused.
fn unanswered<E>(error: SdkError<E, HttpResponse>, endpoint: String) -> Fault
where
    E: StdError + Send + Sync + 'static,
{
    match error {
        SdkError::ResponseError(answer) => unreadable(answer.raw().status().as_u16(), endpoint),
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

/// The fault of an answer that could not be read. A success may be one: look before doing it again.
fn unreadable(status: u16, endpoint: String) -> Fault {
    let message = Some("the answer could not be read");
    let mut fault = Refusal { status, message, ..Refusal::default() }.fault(endpoint);
    if status < 300 {
        fault.class = FaultClass::Ambiguous;
        "UnreadableAnswer".clone_into(&mut fault.code);
    }
    fault
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the SDK gives where a request fails before it is answered.
    fn unsent(error: SdkError<std::convert::Infallible, HttpResponse>) -> Fault {
        match error {
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) => {}
            other => panic!("{other:?}"),
        }
        unanswered(
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
}
