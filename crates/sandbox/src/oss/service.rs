//! Routing of requests to operations, and completion of their responses.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::body::{OssRequestBody, OssResponseBody, receive_document};
use super::error::{OssError, set_header};
use super::request::{OssRequest, request_host};
use super::signature::{self, ALGORITHM, RequestSigner};
use super::{bucket, lifecycle, list, multipart, object, subresources};
use crate::store::Sandbox;

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
    let answered = route_request(sandbox, &parts, body).await;
    finish_response(&parts, answered)
}

/// Returns the response to a request that exceeds the rate limit.
pub(crate) fn throttled_response(parts: &Parts) -> Response<OssResponseBody> {
    let message = "Please reduce your request rate.";
    let fault = OssError::new(StatusCode::SERVICE_UNAVAILABLE, "TotalQpsLimitExceeded", "0004-00000302", message);
    finish_response(parts, Err(fault))
}

fn finish_response(parts: &Parts, answered: Result<Response<OssResponseBody>, OssError>) -> Response<OssResponseBody> {
    let id = format!("{:08X}{:016X}", fastrand::u32(..), fastrand::u64(..));
    let has_body = parts.method != Method::HEAD;
    let mut response = answered.unwrap_or_else(|fault| fault.into_response(&id, request_host(parts), has_body));
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
    let request = OssRequest::parse(parts)?;
    let options = sandbox.options();
    let signer = signature::verify(&request, &options.access_key, &options.secret_key, (options.clock)())?;
    let RequestSigner::Owner { region } = signer else { return handle_anonymous(sandbox, &request) };
    match (&request.bucket, &request.key) {
        (None, _) => handle_service_request(sandbox, &request, &region),
        (Some(_), None) => handle_bucket_request(sandbox, &request, &region, body).await,
        (Some(_), Some(_)) => handle_object_request(sandbox, &request, body).await,
    }
}

/// Requests without a signature can only read objects whose ACL allows it.
fn handle_anonymous(sandbox: &Sandbox, request: &OssRequest) -> Result<Response<OssResponseBody>, OssError> {
    let denied = || OssError::access_denied("You have no right to access this object because of bucket acl.");
    let reads = matches!(request.method, Method::GET | Method::HEAD) && request.allow_params(&["versionId"]).is_ok();
    let target = request.target().ok().filter(|_| reads).ok_or_else(denied)?;
    let seen = sandbox.find_object(target).map_err(|_| denied())?;
    if !seen.effective_acl().allows_anonymous_read() {
        return Err(denied());
    }
    object::read(sandbox, request)
}

fn handle_service_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
) -> Result<Response<OssResponseBody>, OssError> {
    if request.method != Method::GET {
        return Err(method_not_allowed());
    }
    request.allow_params(&["prefix", "marker", "max-keys"])?;
    bucket::list(sandbox, request, region)
}

async fn handle_bucket_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    region: &str,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    let about = |names: &[&str], name: &str| request.allow_params(names).map(|()| request.has_param(name));
    let method = &request.method;
    if request.has_param("acl") {
        about(&["acl"], "acl")?;
        return match *method {
            Method::GET => bucket::get_acl(sandbox, request),
            Method::PUT => bucket::put_acl(sandbox, request),
            _ => Err(method_not_allowed()),
        };
    }
    if request.has_param("versioning") {
        about(&["versioning"], "versioning")?;
        return match *method {
            Method::GET => bucket::get_versioning(sandbox, request),
            Method::PUT => bucket::put_versioning(sandbox, request, &receive_document(&request.headers, body).await?),
            _ => Err(method_not_allowed()),
        };
    }
    if request.has_param("lifecycle") {
        about(&["lifecycle"], "lifecycle")?;
        return match *method {
            Method::GET => lifecycle::get_lifecycle(sandbox, request),
            Method::PUT => lifecycle::put_lifecycle(sandbox, request, &receive_document(&request.headers, body).await?),
            Method::DELETE => lifecycle::delete_lifecycle(sandbox, request),
            _ => Err(method_not_allowed()),
        };
    }
    match *method {
        Method::PUT => {
            request.allow_params(&[])?;
            bucket::create(sandbox, request, &receive_document(&request.headers, body).await?)
        }
        Method::DELETE => {
            request.allow_params(&[])?;
            bucket::delete(sandbox, request)
        }
        Method::POST if request.has_param("delete") => {
            request.allow_params(&["delete", "encoding-type"])?;
            object::delete_multiple(sandbox, request, &receive_document(&request.headers, body).await?)
        }
        Method::GET if about(&BUCKET_GET_PARAMS, "bucketInfo")? => bucket::info(sandbox, request, region),
        Method::GET if request.has_param("location") => bucket::location(sandbox, request, region),
        Method::GET if request.has_param("versions") => list::list_object_versions(sandbox, request),
        Method::GET if request.param("list-type") == Some("2") => list::list_objects_v2(sandbox, request),
        Method::GET => list::list_objects(sandbox, request),
        _ => Err(method_not_allowed()),
    }
}

/// The parameters of a GET request to a bucket.
const BUCKET_GET_PARAMS: [&str; 15] = [
    "bucketInfo",
    "location",
    "versions",
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "encoding-type",
    "start-after",
    "continuation-token",
    "fetch-owner",
    "key-marker",
    "version-id-marker",
    "response-content-type",
];

async fn handle_object_request(
    sandbox: &Sandbox,
    request: &OssRequest,
    body: impl OssRequestBody,
) -> Result<Response<OssResponseBody>, OssError> {
    request.allow_params(&[
        "acl",
        "encoding-type",
        "partNumber",
        "restore",
        "tagging",
        "uploadId",
        "uploads",
        "versionId",
    ])?;
    let subresources = ["acl", "restore", "tagging", "uploadId", "uploads"];
    let mut named = subresources.into_iter().filter(|name| request.has_param(name));
    let subresource = named.next();
    if named.next().is_some() {
        return Err(OssError::invalid_argument("A request must have only one sub-resource."));
    }
    let headers: &HeaderMap = &request.headers;
    match (&request.method, subresource) {
        (&Method::GET, Some("acl")) => subresources::get_acl(sandbox, request),
        (&Method::PUT, Some("acl")) => subresources::put_acl(sandbox, request),
        (&Method::GET, Some("tagging")) => subresources::get_tagging(sandbox, request),
        (&Method::PUT, Some("tagging")) => {
            subresources::put_tagging(sandbox, request, &receive_document(headers, body).await?)
        }
        (&Method::DELETE, Some("tagging")) => subresources::delete_tagging(sandbox, request),
        (&Method::POST, Some("restore")) => {
            subresources::restore(sandbox, request, &receive_document(headers, body).await?)
        }
        (&Method::POST, Some("uploads")) => multipart::initiate(sandbox, request),
        (&Method::PUT, Some("uploadId")) => multipart::put_part(sandbox, request, body).await,
        (&Method::POST, Some("uploadId")) => {
            multipart::complete(sandbox, request, &receive_document(headers, body).await?)
        }
        (&Method::DELETE, Some("uploadId")) => multipart::abort(sandbox, request),
        (&Method::PUT, None) => object::put(sandbox, request, body).await,
        (&Method::GET | &Method::HEAD, None) => object::read(sandbox, request),
        (&Method::DELETE, None) => object::delete(sandbox, request),
        _ => Err(method_not_allowed()),
    }
}

fn method_not_allowed() -> OssError {
    let message = "The specified method is not allowed against this resource.";
    OssError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "0016-00000502", message)
}
