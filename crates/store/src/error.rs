//! The error of a request ([`StoreError`]): what the caller must do after it ([`FaultClass`]), how an error response is
//! classified, and the table of the error codes of S3, OSS and the client itself. The table says what a code means for
//! the credentials, and has a hint for the user.
//!
//! The retries are elsewhere: `src/engine/request_sender.rs` repeats the requests about an object, and reads the object
//! first where an ambiguous error may mean that the request was executed.

use std::fmt;
use std::num::NonZeroU16;

use jiff::Timestamp;

use crate::object_request::{ObjectHeader, ObjectHeaderSet};
use crate::task::UNLISTABLE_KEY;

/// What the caller must do after a failed request. The store that sees the error decides this, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// The server asks for fewer requests: wait, then retry.
    Throttled,
    /// The server or the network had a brief failure and the request was not executed: retry.
    Transient,
    /// The request may have been executed: there was no usable response, or a server or proxy failed while it handled
    /// the request (500, 502, 504, or 503 without an error code). Check the state before repeating a request that is
    /// not repeatable.
    Ambiguous,
    /// The current state of the object does not allow the request (409): check the state once.
    Conflict,
    /// Final for this object: not found, access denied, or an invalid request.
    Rejected,
    /// The credentials are missing, expired or rejected, or the signature is rejected. Every further request fails
    /// until this is corrected.
    Credentials,
}

impl FaultClass {
    /// Returns whether the same request may succeed later. The caller must take into account that an ambiguous
    /// request may already have been executed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Throttled | Self::Transient | Self::Ambiguous => true,
            Self::Conflict | Self::Rejected | Self::Credentials => false,
        }
    }
}

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
    /// The method and the URL without its secrets: `PUT http://host/bucket/key?tagging`. OSS reports call it the
    /// request endpoint.
    pub request_line: String,
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

    /// Returns whether there is no connection for a reason that a retry within minutes does not remove: a certificate,
    /// a rule of the proxy, or a host that does not exist. The class is still [`FaultClass::Transient`], because a job in progress should outlast a
    /// change that is being made to them.
    #[must_use]
    pub fn needs_correction(&self) -> bool {
        [INVALID_CERTIFICATE, PROXY_REFUSED, UNKNOWN_HOST].contains(&self.code.as_str())
    }

    /// Returns whether the server says that the bucket is elsewhere, so that no request for any of its objects succeeds.
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        self.status.is_some_and(is_redirect)
    }

    /// Returns whether the server does not support the request, whatever the object.
    ///
    /// Such servers answer with 501, with 405, or with any other status and a code that says so: `StorageGRID` writes
    /// `XNotImplemented`, for example.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self.status {
            // A delete marker has neither tags nor an ACL, which says nothing of the server.
            Some(405) => !self.headers.contains(ObjectHeader::DeleteMarker),
            Some(501) => true,
            Some(_) => UNSUPPORTED_CODES.contains(&self.code.as_str()),
            None => false,
        }
    }

    /// Creates the error of a request that got no response or was never sent.
    #[must_use]
    pub fn without_response(class: FaultClass, code: &str, message: &str, request_line: String) -> Self {
        Self {
            class,
            status: None,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            ec: String::new(),
            request_line,
            at: Timestamp::now(),
            retry_after: None,
            headers: ObjectHeaderSet::default(),
        }
    }

    /// Creates the error of a response that is a success by its status, but cannot be used. The code and the message
    /// are the client's own.
    pub(crate) fn unusable_response(
        class: FaultClass,
        status: u16,
        code: &str,
        message: &str,
        request_line: String,
    ) -> Self {
        Self { status: Some(status), ..Self::without_response(class, code, message, request_line) }
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

/// The client's codes for connections that fail again until a certificate, a setting or a rule is changed.
pub(crate) const INVALID_CERTIFICATE: &str = "InvalidCertificate";
pub(crate) const PROXY_REFUSED: &str = "ProxyRefused";
pub(crate) const UNKNOWN_HOST: &str = "UnknownHost";

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
    pub(crate) fn into_error(self, request_line: String) -> StoreError {
        let class = self.class();
        let Self { status, code, message, request_id, ec, retry_after } = self;
        let code = code.filter(|code| !code.is_empty()).unwrap_or_else(|| code_for_status(status));
        let message = message.filter(|message| !message.is_empty()).unwrap_or("the server gave no message");
        StoreError {
            class,
            status: Some(status),
            code: truncate(code),
            message: truncate(message),
            request_id: truncate(request_id),
            ec: truncate(ec),
            request_line,
            at: Timestamp::now(),
            retry_after: retry_after.and_then(parse_retry_after),
            headers: ObjectHeaderSet::default(),
        }
    }

    /// Returns what the caller must do.
    pub(crate) fn class(&self) -> FaultClass {
        match (self.status, self.code.filter(|code| !code.is_empty())) {
            // A store rejects a request with a code. A 503 without one comes from a proxy, which may have forwarded the
            // request.
            (503, None) => FaultClass::Ambiguous,
            _ if self.is_signing_error() => FaultClass::Credentials,
            (status, code) => classify(status, code.unwrap_or_else(|| code_for_status(status))),
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

/// What is known about error codes with the same meaning.
struct ErrorCodeGroup {
    codes: &'static [&'static str],
    /// `None` if the HTTP status decides.
    class: Option<FaultClass>,
    /// `None` if the credentials are not the reason.
    credentials: Option<CredentialsProblem>,
    /// Whether the same request fails again until the plan, the server or the object itself is another one.
    is_final: bool,
    hint: &'static str,
}

/// What is wrong with the credentials of a request, or with its signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CredentialsProblem {
    /// There are no credentials to sign with. The client's own code.
    Missing,
    /// The credentials have expired. Renewed ones may be accepted.
    Expired,
    /// The credentials are invalid or were revoked. Renewed ones may be accepted.
    Invalid,
    /// The server rejects the account, its keys or the time of the request. Renewed credentials do not help.
    Refused,
    /// The region, the service or the method of the signature is wrong. `InvalidArgument` and `InvalidRequest` mean
    /// this only in an error of the class [`FaultClass::Credentials`]. Otherwise they mean that the document is wrong.
    Signature,
}

const fn by_status(codes: &'static [&'static str], hint: &'static str) -> ErrorCodeGroup {
    ErrorCodeGroup { codes, class: None, credentials: None, is_final: false, hint }
}

/// Like [`by_status`], for codes with which the same request fails again.
const fn final_by_status(codes: &'static [&'static str], hint: &'static str) -> ErrorCodeGroup {
    ErrorCodeGroup { is_final: true, ..by_status(codes, hint) }
}

const fn of_class(class: FaultClass, codes: &'static [&'static str], hint: &'static str) -> ErrorCodeGroup {
    ErrorCodeGroup { class: Some(class), ..by_status(codes, hint) }
}

/// Codes that concern the credentials, not the object: every further request fails as well.
const fn about_credentials(
    problem: CredentialsProblem,
    codes: &'static [&'static str],
    hint: &'static str,
) -> ErrorCodeGroup {
    ErrorCodeGroup { credentials: Some(problem), ..of_class(FaultClass::Credentials, codes, hint) }
}

const REJECTED_HINT: &str = "the server rejected the request: check that this store and the objects' storage class \
                             allow these tags, ACL, days and tier";

// The number of attempts is that of `RetryPolicy::default`, as a test checks.
const THROTTLED_HINT: &str = "the service throttled all 10 attempts: lower requests_per_second or concurrency in \
                              [limits], then retry";

const NO_RESPONSE_HINT: &str = "none of 10 attempts got a usable response: check the network and the server, lower \
                                concurrency, then retry; the request may have taken effect";

const CONFLICT_HINT: &str = "another request was changing the objects at the same time: retry";

const REFUSED_HINT: &str = "the server does not accept this account: check that the access key is for this service, and \
                            that the account may use it";

/// The hint for a rejected signature. Services also report this with general codes such as `InvalidArgument`.
pub const SIGNATURE_HINT: &str = "the region in [store] or the environment is not the bucket's, or the credentials \
                                  are for another service: check both";

/// No code is in two groups. A code that is in none, such as `PreconditionFailed`, is classified by the HTTP status and
/// has the hint of the status, if there is one.
const ERROR_CODES: &[ErrorCodeGroup] = &[
    by_status(
        &["AccessDenied", "AllAccessDisabled", "AccountProblem"],
        "the credentials are not allowed to do this: check their role or policy, the bucket policy, and who owns the \
         objects",
    ),
    by_status(
        &["NoSuchKey", "NotFound", "NoSuchVersion"],
        "the objects do not exist, or no longer exist: check keys, version IDs and URL encoding in the manifest, or \
         use a newer listing",
    ),
    by_status(
        &["NoSuchBucket"],
        "the bucket does not exist here: check its name in the manifest, and the endpoint and region in [store]",
    ),
    // The client's own code.
    final_by_status(
        &[UNLISTABLE_KEY],
        "requests cannot name these objects: rename or delete them with the server's tools, or list them in a CSV \
         manifest or an inventory",
    ),
    final_by_status(
        &["InvalidURI"],
        "the server accepts no request with these keys, such as keys that are not UTF-8: rename or delete the objects \
         with the server's tools",
    ),
    final_by_status(&["BadRequest", "MalformedXML", "InvalidTag", "MalformedACLError"], REJECTED_HINT),
    // These refer to the signature if OSS's detailed code or the message says so: see `is_signing_error`.
    ErrorCodeGroup {
        credentials: Some(CredentialsProblem::Signature),
        ..final_by_status(&["InvalidArgument", "InvalidRequest"], REJECTED_HINT)
    },
    // S3 and OSS send these for a restore of an object that is not archived.
    final_by_status(
        &["InvalidObjectState", "OperationNotSupported"],
        "the objects' storage class needs no restore: set `storage_class` in [manifest.filter] to the archive classes",
    ),
    final_by_status(
        &["ObjectNotAppendable"],
        "the objects' type does not allow this: leave them out with [manifest.filter]",
    ),
    final_by_status(
        &["TooManyTags", "BadTagSet"],
        "an object can have at most 10 tags: delete some in the same plan (delete_object_tagging with keys), or \
         replace them all (put_object_tagging)",
    ),
    by_status(
        &["RestoreAlreadyInProgress"],
        "a restore of these objects is already in progress, perhaps from an earlier job: retry when it is done",
    ),
    final_by_status(
        &["ObjectAlreadyInActiveTierError", "ObjectRestoreNotNeeded"],
        "the objects are already readable: no restore is needed",
    ),
    // Expedited capacity stays short for hours, not seconds. The object fails, and a retry of the report picks it up.
    of_class(
        FaultClass::Rejected,
        &["GlacierExpeditedRetrievalNotAvailable"],
        "the service has no capacity for expedited restores now: retry later, or use the tier Standard or Bulk",
    ),
    of_class(
        FaultClass::Throttled,
        &["SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"],
        THROTTLED_HINT,
    ),
    // OSS's codes, by the limit that was exceeded.
    of_class(
        FaultClass::Throttled,
        &[
            "TotalQpsLimitExceeded",
            "MetaOperationQpsLimitExceeded",
            "ActiveRequestLimitExceeded",
            "CpuLimitExceeded",
            "DownloadTrafficRateLimitExceeded",
            "UploadTrafficRateLimitExceeded",
        ],
        THROTTLED_HINT,
    ),
    by_status(&["ServiceUnavailable", "QpsLimitExceeded"], THROTTLED_HINT),
    // The class is that of the server's error. The client has an error with this code, too, and sets its class itself.
    of_class(FaultClass::Transient, &["RequestTimeout"], NO_RESPONSE_HINT),
    // The client's own codes. It sets the class when it creates the error.
    by_status(&["ConnectionError", "UnreadableAnswer"], NO_RESPONSE_HINT),
    // The client's own codes. It sets the class when it creates the error.
    by_status(
        &[INVALID_CERTIFICATE],
        "the certificate of the server or the proxy is not accepted: renew it, or set AWS_CA_BUNDLE to a file with its \
         issuer's certificate",
    ),
    by_status(
        &[PROXY_REFUSED],
        "the proxy refuses connections to this host: have it allow the host, or correct HTTPS_PROXY and NO_PROXY",
    ),
    by_status(
        &[UNKNOWN_HOST],
        "the host does not exist: check `region` and `endpoint` in [store] or the environment, and the name of the bucket",
    ),
    by_status(
        &["UnexpectedDocument"],
        "the server sent an unexpected response: check that `endpoint` in [store] is the store's URL, and that the \
         store supports the operation",
    ),
    by_status(
        &["InvalidListing"],
        "the server's listing is not valid: check that `endpoint` in [store] is the store's URL; if it is, use an \
         inventory or a CSV manifest instead of a prefix",
    ),
    // A server that starts its response before it executes the request sends this code with the status 200.
    of_class(
        FaultClass::Ambiguous,
        &["InternalError"],
        "the server failed in all 10 attempts: retry later; the request may have taken effect",
    ),
    // The client's own code. It sets the class when it creates the error.
    ErrorCodeGroup {
        credentials: Some(CredentialsProblem::Missing),
        ..by_status(&["NoCredentials"], "there are no valid credentials: renew them, then resume the job")
    },
    about_credentials(
        CredentialsProblem::Expired,
        &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "SecurityTokenExpired"],
        "the credentials have expired: renew them, then resume the job",
    ),
    about_credentials(
        CredentialsProblem::Invalid,
        &["InvalidToken", "InvalidSecurityToken"],
        "the session token is not valid: set the token that was issued with this access key, or unset it for a \
         permanent key, then resume the job",
    ),
    about_credentials(
        CredentialsProblem::Invalid,
        &["InvalidAccessKeyId"],
        "the server does not know this access key: check the access key ID, whether it was deleted, and whether \
         `endpoint` and `region` in [store] are of the service that issued it, then resume the job",
    ),
    about_credentials(
        CredentialsProblem::Refused,
        &["SignatureDoesNotMatch"],
        "the secret key does not match the access key: copy both again, without spaces or line breaks, and check that \
         no proxy changes the requests, then resume the job",
    ),
    about_credentials(
        CredentialsProblem::Refused,
        &["InvalidSecurity", "NotSignedUp", "UnrecognizedClientException"],
        REFUSED_HINT,
    ),
    // The client's own code.
    about_credentials(
        CredentialsProblem::Refused,
        &["ProxyAuthenticationRequired"],
        "the proxy rejected the user name and password in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY: correct them, \
         then resume the job",
    ),
    about_credentials(
        CredentialsProblem::Refused,
        &["RequestTimeTooSkewed"],
        "this machine's clock differs too much from the server's, by more than 15 minutes on AWS and OSS: synchronize it, \
         then resume the job",
    ),
    about_credentials(
        CredentialsProblem::Signature,
        // The last one is Cloudflare R2's: <https://github.com/iterate-ch/cyberduck/issues/16377>.
        &["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidRegionName"],
        SIGNATURE_HINT,
    ),
    final_by_status(
        &["AccessControlListNotSupported"],
        "the bucket has ACLs disabled: enable them in its ownership controls, or use a bucket policy instead",
    ),
    final_by_status(
        &["MethodNotAllowed"],
        "the objects are delete markers, or the server does not support the operation: leave delete markers out of the \
         manifest, or use another server",
    ),
    final_by_status(
        &["NotImplemented", "XNotImplemented", "UnsupportedOperation", "NotSupported"],
        "this server does not support the operation: use another server",
    ),
    by_status(
        &["NotModified"],
        "a cache answered instead of the store: set `endpoint` in [store] to the server itself",
    ),
    of_class(FaultClass::Transient, &["OperationAborted"], CONFLICT_HINT),
    by_status(&["Conflict"], CONFLICT_HINT),
    by_status(&["RequestNotSent"], "the request could not be created: see the message"),
    by_status(
        &["UnexpectedRedirect", "PermanentRedirect", "TemporaryRedirect"],
        "the bucket is in another region or at another endpoint: set `endpoint` and `region` in [store] to those of the \
         bucket",
    ),
];

/// The codes with which servers say that they do not support a request.
const UNSUPPORTED_CODES: &[&str] =
    &["NotImplemented", "XNotImplemented", "UnsupportedOperation", "NotSupported", "MethodNotAllowed"];

fn find(code: &str) -> Option<&'static ErrorCodeGroup> {
    ERROR_CODES.iter().find(|group| group.codes.contains(&code))
}

fn credentials_problem(code: &str) -> Option<CredentialsProblem> {
    find(code)?.credentials
}

/// Returns what a caller must do after this error response.
fn classify(status: u16, code: &str) -> FaultClass {
    if let Some(class) = find(code).and_then(|group| group.class) {
        return class;
    }
    match status {
        // A proxy that does not say how to authenticate refuses every other request as well.
        401 | 407 => FaultClass::Credentials,
        408 => FaultClass::Transient,
        429 | 503 => FaultClass::Throttled,
        // The server failed while it processed the request, perhaps after the change was made.
        500 | 502 | 504 => FaultClass::Ambiguous,
        409 => FaultClass::Conflict,
        _ => FaultClass::Rejected,
    }
}

/// Returns whether a status says that the answer is elsewhere. 304 does not: it says that nothing has changed.
pub(crate) fn is_redirect(status: u16) -> bool {
    (300..400).contains(&status) && status != 304
}

/// Returns an error code for a response without a body, such as every response to HEAD.
fn code_for_status(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        401 | 403 => "AccessDenied",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        407 => "ProxyAuthenticationRequired",
        408 => "RequestTimeout",
        409 => "Conflict",
        412 => "PreconditionFailed",
        429 => "TooManyRequests",
        501 => "NotImplemented",
        503 => "ServiceUnavailable",
        500..=599 => "InternalError",
        304 => "NotModified",
        300..=399 => "UnexpectedRedirect",
        _ => "UnexpectedStatus",
    }
}

/// Returns all error codes that have a hint, in groups with the same one, and their hints.
pub fn codes_with_hints() -> impl Iterator<Item = (&'static [&'static str], &'static str)> {
    ERROR_CODES.iter().map(|group| (group.codes, group.hint))
}

/// Returns a hint for requests that failed with this error code, if one is known. The HTTP status, if there was a
/// response, decides for unknown codes.
#[must_use]
pub fn hint(code: &str, status: Option<u16>) -> Option<&'static str> {
    let known = find(code).or_else(|| {
        find(match status? {
            401 | 403 => "AccessDenied",
            404 => "NotFound",
            400 => "BadRequest",
            405 => "MethodNotAllowed",
            501 => "NotImplemented",
            429 | 503 => "SlowDown",
            500..=599 => "InternalError",
            _ => return None,
        })
    });
    known.map(|group| group.hint)
}

/// Returns the hint of an error code for a command that has no job to resume, or that names the command itself.
#[must_use]
pub fn hint_without_job(code: &str, status: Option<u16>) -> Option<String> {
    hint(code, status).map(|hint| hint.strip_suffix(RESUME).unwrap_or(hint).to_owned())
}

/// Returns whether the same request fails again with this error code until the plan, the server or the object itself is
/// another one, so that a retry is pointless. The HTTP status, if there was a response, decides for unknown codes.
#[must_use]
pub fn is_final(code: &str, status: Option<u16>) -> bool {
    match find(code) {
        Some(group) => group.is_final,
        None => matches!(status, Some(400 | 405 | 501)),
    }
}

/// The end of the hints about what pauses a job.
const RESUME: &str = ", then resume the job";

/// The words before what to write in the plan if a bucket is at another endpoint or in another region.
pub(crate) const NOTHING_SENT: &str = "nothing was sent there: ";

/// Returns whether the server rejected the request because the bucket is at another endpoint or in another region. The
/// message then says where.
#[must_use]
pub fn names_another_location(error: &StoreError) -> bool {
    error.status.is_some() && error.message.contains(NOTHING_SENT)
}

/// The beginning of the message about a response that is a web page.
pub(crate) const WEB_PAGE: &str = "the response is a web page";

/// Returns whether a proxy or a login page answered in place of the store. The message then says so.
#[must_use]
pub fn is_web_page(error: &StoreError) -> bool {
    error.status.is_some() && error.message.contains(WEB_PAGE)
}

/// Returns whether an error code says that the credentials are the problem, and that renewed ones may be accepted.
pub(crate) fn is_renewable(code: &str) -> bool {
    matches!(credentials_problem(code), Some(CredentialsProblem::Expired | CredentialsProblem::Invalid))
}

/// Returns whether an error code says that the region, the service or the method of the signature is wrong, so that the
/// configuration must be corrected. Check for the class [`FaultClass::Credentials`] as well: with another class, the
/// code refers to the document.
///
/// This is `false` for `SignatureDoesNotMatch`, which usually means that the secret key is wrong.
#[must_use]
pub fn is_about_signature(code: &str) -> bool {
    credentials_problem(code) == Some(CredentialsProblem::Signature)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backoff::RetryPolicy;

    fn refused(status: u16, code: Option<&str>, message: Option<&str>) -> StoreError {
        ErrorResponse { status, code, message, ..ErrorResponse::default() }.into_error(String::new())
    }

    #[test]
    fn rejected_credentials_are_not_rejected_objects() {
        let about_credentials = [
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
            (400, "InvalidRegionName"),
            (401, ""),
            (401, "Unauthorized"),
        ];
        for (status, code) in about_credentials {
            let fault = refused(status, Some(code), None);
            assert_eq!(fault.class, FaultClass::Credentials, "{status} {code}");
            assert!(!fault.class.is_retryable(), "{status} {code} is not retried");
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
    fn a_rejected_signature_is_not_a_rejected_document() {
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
    fn a_503_without_a_code_is_ambiguous() {
        let class = |code| refused(503, code, None).class;
        assert_eq!(class(Some("SlowDown")), FaultClass::Throttled);
        assert_eq!(class(Some("ServiceUnavailable")), FaultClass::Throttled);
        assert_eq!(class(None), FaultClass::Ambiguous);
    }

    #[test]
    fn a_long_message_is_truncated_between_characters() {
        let long = "é".repeat(2000);
        let fault = refused(400, Some("X"), Some(&long));
        assert_eq!(fault.message.len(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn a_response_without_a_body_gets_the_code_of_its_status() {
        let fault = refused(403, None, None);
        assert_eq!((fault.status, fault.code.as_str()), (Some(403), "AccessDenied"));
        let fault = refused(407, None, None);
        assert_eq!((fault.code.as_str(), fault.class), ("ProxyAuthenticationRequired", FaultClass::Credentials));
    }

    #[test]
    fn the_seconds_of_retry_after_are_parsed() {
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

    #[test]
    fn responses_are_classified_by_status_and_code() {
        let cases = [
            (403, "AccessDenied", FaultClass::Rejected),
            (404, "NoSuchKey", FaultClass::Rejected),
            (400, "InvalidArgument", FaultClass::Rejected),
            (409, "RestoreAlreadyInProgress", FaultClass::Conflict),
            (409, "OperationAborted", FaultClass::Transient),
            (400, "RequestTimeout", FaultClass::Transient),
            (407, "", FaultClass::Credentials),
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
    fn codes_with_different_meanings_have_different_hints() {
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
            "UnexpectedDocument",
            "InvalidListing",
        ];
        let found: BTreeSet<_> = codes.iter().map(|code| hint(code, None).expect("a hint")).collect();
        assert_eq!(found.len(), codes.len());
    }

    #[test]
    fn each_problem_with_credentials_or_the_place_has_its_own_hint() {
        let codes = [
            "NoCredentials",
            "ExpiredToken",
            "InvalidToken",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "RequestTimeTooSkewed",
            "AuthorizationHeaderMalformed",
            "NoSuchBucket",
            "PermanentRedirect",
            "AccessDenied",
        ];
        let found: BTreeSet<_> = codes.iter().map(|code| hint(code, None).expect("a hint")).collect();
        assert_eq!(found.len(), codes.len());
    }

    #[test]
    fn a_retry_is_pointless_where_the_same_request_fails_again() {
        for (code, status) in [
            ("TooManyTags", 400),
            ("InvalidObjectState", 403),
            ("MalformedXML", 400),
            ("NotImplemented", 501),
            ("Whatever", 400),
            (UNLISTABLE_KEY, 0),
        ] {
            assert!(is_final(code, Some(status)), "{code}");
        }
        for (code, status) in [
            ("AccessDenied", 403),
            ("NoSuchKey", 404),
            ("SlowDown", 503),
            ("RestoreAlreadyInProgress", 409),
            ("RequestTimeout", 0),
            ("Whatever", 403),
            ("Whatever", 0),
        ] {
            assert!(!is_final(code, Some(status)), "{code}");
        }
    }

    #[test]
    fn codes_are_unique() {
        let codes: Vec<_> = ERROR_CODES.iter().flat_map(|group| group.codes).collect();
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    }

    #[test]
    fn unknown_codes_get_the_hint_of_their_http_status() {
        assert_eq!(hint("Whatever", Some(403)), hint("AccessDenied", Some(403)));
        assert_eq!(hint("Whatever", Some(502)), hint("InternalError", Some(500)));
        assert_eq!(hint("Whatever", Some(418)), None);
        assert_eq!(hint("", None), None);
    }

    #[test]
    fn credentials_are_renewed_or_reported_by_what_is_wrong_with_them() {
        for code in ["ExpiredToken", "SecurityTokenExpired", "InvalidToken", "InvalidAccessKeyId"] {
            assert!(is_renewable(code), "{code}");
        }
        for code in ["NoCredentials", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed", "AccessDenied", ""] {
            assert!(!is_renewable(code), "{code}");
        }
        assert!(is_about_signature("InvalidArgument") && is_about_signature("AuthorizationHeaderMalformed"));
        assert!(!is_about_signature("SignatureDoesNotMatch"));
    }

    #[test]
    fn a_limit_of_oss_has_the_hint_of_throttling_with_any_status() {
        assert_eq!(hint("MetaOperationQpsLimitExceeded", Some(403)), hint("SlowDown", Some(503)));
    }

    #[test]
    fn hints_name_the_number_of_attempts_that_the_default_policy_allows() {
        let attempts = format!("{} attempts", RetryPolicy::default().max_attempts);
        for code in ["SlowDown", "RequestTimeout", "InternalError"] {
            let hint = hint(code, None).expect("a hint");
            assert!(hint.contains(&attempts), "{hint}");
        }
    }
}
