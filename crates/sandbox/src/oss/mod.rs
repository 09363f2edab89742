//! The OSS dialect of Alibaba Cloud, for the same buckets and objects as the S3 dialect. Signatures, routes, and XML
//! are implemented here.
//!
//! A request is treated as an OSS request if it contains something that only OSS has: an `OSS4-HMAC-SHA256` or `OSS`
//! signature, or, without an `Authorization` header, a header or query parameter whose name starts with `x-oss-`. The
//! bucket is in the path, or it is the first label of the host, as in `bucket.localhost` and
//! `bucket.oss-cn-hangzhou.aliyuncs.com`.
//!
//! A value that one dialect does not have is shown as the nearest one:
//!
//! | what | as OSS shows it | as S3 shows it |
//! |---|---|---|
//! | class | `Standard` | `STANDARD`, `INTELLIGENT_TIERING`, `REDUCED_REDUNDANCY` |
//! | class | `IA` | `STANDARD_IA`, `ONEZONE_IA`, `GLACIER_IR` |
//! | class | `Archive` | `GLACIER` |
//! | class | `ColdArchive` | `GLACIER` |
//! | class | `DeepColdArchive` | `DEEP_ARCHIVE` |
//! | ACL `default` | `default` | the bucket's ACL |
//! | ACL `authenticated-read` | `private` | `authenticated-read` |
//! | ACL with grants | the nearest one that grants no more to everyone | the grants |
//! | user metadata | `x-oss-meta-` | `x-amz-meta-` |
//!
//! A storage class in an OSS request is stored as the first S3 class of its row. A restore follows the rules of the
//! request's dialect. An object that an OSS request writes belongs to the bucket's owner. Keys can start with a slash, which OSS rejects, because they may come from S3.
//!
//! | file | contents |
//! |---|---|
//! | `access` | which requests are allowed |
//! | `request`, `signature` | the request, its body, and its signature |
//! | `response` | the response, its body, and errors |
//! | `bucket`, `object`, `upload` | the operations, and which of them answers a request |

mod access;
mod bucket;
mod object;
mod request;
mod response;
mod signature;
mod upload;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use self::request::{OssRequest, OssRequestBody, request_host};
use self::response::{OssError, set_header};
use self::signature::{ALGORITHM, RequestSigner};
use super::store::Sandbox;
use crate::REGION;

pub(crate) use response::OssResponseBody;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-oss-request-id");

/// Returns whether this is an OSS request.
pub(crate) fn is_oss(parts: &Parts) -> bool {
    let authorization = parts.headers.get(header::AUTHORIZATION);
    if let Some(authorization) = authorization {
        return authorization.as_bytes().starts_with(ALGORITHM.as_bytes())
            || authorization.as_bytes().starts_with(b"OSS ");
    }
    let query = parts.uri.query().unwrap_or_default();
    parts.headers.keys().any(|name| name.as_str().starts_with("x-oss-"))
        || query.split('&').any(|pair| pair.starts_with("x-oss-"))
}

/// Answers one request.
pub(crate) async fn handle_request(
    sandbox: &Sandbox,
    parts: Parts,
    body: impl OssRequestBody,
) -> Response<OssResponseBody> {
    let result = route_request(sandbox, &parts, body).await;
    finish_response(&parts, result)
}

/// Returns the response to a request that exceeds the rate limit.
pub(crate) fn throttled_response(parts: &Parts) -> Response<OssResponseBody> {
    let message = "Please reduce your request rate.";
    let error = OssError::new(StatusCode::SERVICE_UNAVAILABLE, "TotalQpsLimitExceeded", "0004-00000302", message);
    finish_response(parts, Err(error))
}

fn finish_response(parts: &Parts, result: Result<Response<OssResponseBody>, OssError>) -> Response<OssResponseBody> {
    let id = format!("{:08X}{:016X}", fastrand::u32(..), fastrand::u64(..));
    let has_body = parts.method != Method::HEAD;
    let mut response = result.unwrap_or_else(|error| error.into_response(&id, request_host(parts), has_body));
    let headers = response.headers_mut();
    set_header(headers, REQUEST_ID, &id);
    headers.insert(header::SERVER, HeaderValue::from_static("AliyunOSS"));
    response
}

async fn route_request(
    sandbox: &Sandbox,
    parts: &Parts,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    let mut request = OssRequest::parse(parts)?;
    let now = (sandbox.options().clock)();
    let region = match signature::verify(&request, sandbox.owner_directory(), now)? {
        RequestSigner::Anonymous => REGION.to_owned(),
        RequestSigner::Owner { id, region } => {
            request.requester = id;
            region
        }
    };
    sandbox.with_state(|state| access::check_access(state, &request))?;
    match (&request.bucket, &request.key) {
        (None, _) => bucket::handle_service_request(sandbox, &request, &region),
        (Some(_), None) => bucket::handle_bucket_request(sandbox, &request, &region, body).await,
        (Some(_), Some(_)) => object::handle_object_request(sandbox, &request, body).await,
    }
}
