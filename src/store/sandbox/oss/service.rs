//! Routing of requests to operations, and completion of their responses.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::content::{Content, Incoming, document};
use super::error::{Fault, set};
use super::request::{Request, host_of};
use super::sign::{self, ALGORITHM, Signer};
use super::{aspects, bucket, list, multipart, object, settings};
use crate::store::sandbox::vault::Sandbox;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-oss-request-id");

/// Returns whether this is an OSS request.
pub(in crate::store::sandbox) fn is_oss(parts: &Parts) -> bool {
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
pub(in crate::store::sandbox) async fn answer(
    sandbox: &Sandbox,
    parts: Parts,
    body: impl Incoming,
) -> Response<Content> {
    let answered = operate(sandbox, &parts, body).await;
    finished(&parts, answered)
}

/// Returns the response to a request that exceeds the rate limit.
pub(in crate::store::sandbox) fn throttled(parts: &Parts) -> Response<Content> {
    let message = "Please reduce your request rate.";
    let fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, "TotalQpsLimitExceeded", "0004-00000302", message);
    finished(parts, Err(fault))
}

fn finished(parts: &Parts, answered: Result<Response<Content>, Fault>) -> Response<Content> {
    let id = format!("{:08X}{:016X}", fastrand::u32(..), fastrand::u64(..));
    let has_body = parts.method != Method::HEAD;
    let mut response = answered.unwrap_or_else(|fault| fault.into_response(&id, host_of(parts), has_body));
    let headers = response.headers_mut();
    set(headers, REQUEST_ID, &id);
    headers.insert(header::SERVER, HeaderValue::from_static("AliyunOSS"));
    response
}

async fn operate(sandbox: &Sandbox, parts: &Parts, body: impl Incoming) -> Result<Response<Content>, Fault> {
    let request = Request::of(parts)?;
    let options = sandbox.options();
    let signer = sign::verify(&request, &options.access_key, &options.secret_key, (options.clock)())?;
    let Signer::Owner { region } = signer else { return anonymous(sandbox, &request) };
    match (&request.bucket, &request.key) {
        (None, _) => service(sandbox, &request, &region),
        (Some(_), None) => on_bucket(sandbox, &request, &region, body).await,
        (Some(_), Some(_)) => on_object(sandbox, &request, body).await,
    }
}

/// Requests without a signature can only read objects whose ACL allows it.
fn anonymous(sandbox: &Sandbox, request: &Request) -> Result<Response<Content>, Fault> {
    let denied = || Fault::access_denied("You have no right to access this object because of bucket acl.");
    let reads = matches!(request.method, Method::GET | Method::HEAD) && request.only(&["versionId"]).is_ok();
    let target = request.target().ok().filter(|_| reads).ok_or_else(denied)?;
    let seen = sandbox.look(target).map_err(|_| denied())?;
    if !seen.acl().anonymous_read() {
        return Err(denied());
    }
    object::read(sandbox, request)
}

fn service(sandbox: &Sandbox, request: &Request, region: &str) -> Result<Response<Content>, Fault> {
    if request.method != Method::GET {
        return Err(method_not_allowed());
    }
    request.only(&["prefix", "marker", "max-keys"])?;
    bucket::list(sandbox, request, region)
}

async fn on_bucket(
    sandbox: &Sandbox,
    request: &Request,
    region: &str,
    body: impl Incoming,
) -> Result<Response<Content>, Fault> {
    let about = |names: &[&str], name: &str| request.only(names).map(|()| request.has(name));
    let method = &request.method;
    if request.has("acl") {
        about(&["acl"], "acl")?;
        return match *method {
            Method::GET => bucket::get_acl(sandbox, request),
            Method::PUT => bucket::put_acl(sandbox, request),
            _ => Err(method_not_allowed()),
        };
    }
    if request.has("versioning") {
        about(&["versioning"], "versioning")?;
        return match *method {
            Method::GET => bucket::get_versioning(sandbox, request),
            Method::PUT => bucket::put_versioning(sandbox, request, &document(&request.headers, body).await?),
            _ => Err(method_not_allowed()),
        };
    }
    if request.has("lifecycle") {
        about(&["lifecycle"], "lifecycle")?;
        return match *method {
            Method::GET => settings::get_lifecycle(sandbox, request),
            Method::PUT => settings::put_lifecycle(sandbox, request, &document(&request.headers, body).await?),
            Method::DELETE => settings::delete_lifecycle(sandbox, request),
            _ => Err(method_not_allowed()),
        };
    }
    match *method {
        Method::PUT => {
            request.only(&[])?;
            bucket::create(sandbox, request, &document(&request.headers, body).await?)
        }
        Method::DELETE => {
            request.only(&[])?;
            bucket::delete(sandbox, request)
        }
        Method::POST if request.has("delete") => {
            request.only(&["delete", "encoding-type"])?;
            object::delete_several(sandbox, request, &document(&request.headers, body).await?)
        }
        Method::GET if about(&BUCKET_LISTINGS, "bucketInfo")? => bucket::info(sandbox, request, region),
        Method::GET if request.has("location") => bucket::location(sandbox, request, region),
        Method::GET if request.has("versions") => list::versions(sandbox, request),
        Method::GET if request.param("list-type") == Some("2") => list::second(sandbox, request),
        Method::GET => list::first(sandbox, request),
        _ => Err(method_not_allowed()),
    }
}

/// The parameters of a GET request to a bucket.
const BUCKET_LISTINGS: [&str; 15] = [
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

async fn on_object(sandbox: &Sandbox, request: &Request, body: impl Incoming) -> Result<Response<Content>, Fault> {
    request.only(&["acl", "encoding-type", "partNumber", "restore", "tagging", "uploadId", "uploads", "versionId"])?;
    let subresources = ["acl", "restore", "tagging", "uploadId", "uploads"];
    let mut named = subresources.into_iter().filter(|name| request.has(name));
    let subresource = named.next();
    if named.next().is_some() {
        return Err(Fault::invalid_argument("A request is about one sub-resource."));
    }
    let headers: &HeaderMap = &request.headers;
    match (&request.method, subresource) {
        (&Method::GET, Some("acl")) => aspects::get_acl(sandbox, request),
        (&Method::PUT, Some("acl")) => aspects::put_acl(sandbox, request),
        (&Method::GET, Some("tagging")) => aspects::get_tagging(sandbox, request),
        (&Method::PUT, Some("tagging")) => aspects::put_tagging(sandbox, request, &document(headers, body).await?),
        (&Method::DELETE, Some("tagging")) => aspects::delete_tagging(sandbox, request),
        (&Method::POST, Some("restore")) => aspects::restore(sandbox, request, &document(headers, body).await?),
        (&Method::POST, Some("uploads")) => multipart::begin(sandbox, request),
        (&Method::PUT, Some("uploadId")) => multipart::put_part(sandbox, request, body).await,
        (&Method::POST, Some("uploadId")) => multipart::complete(sandbox, request, &document(headers, body).await?),
        (&Method::DELETE, Some("uploadId")) => multipart::abort(sandbox, request),
        (&Method::PUT, None) => object::put(sandbox, request, body).await,
        (&Method::GET | &Method::HEAD, None) => object::read(sandbox, request),
        (&Method::DELETE, None) => object::delete(sandbox, request),
        _ => Err(method_not_allowed()),
    }
}

fn method_not_allowed() -> Fault {
    let message = "The specified method is not allowed against this resource.";
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "0016-00000502", message)
}
