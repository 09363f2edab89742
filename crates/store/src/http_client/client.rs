//! The HTTP client of one store: builds, signs and sends a request, and reads its response.
//!
//! Every request is sent once, to the plan's own host, and redirects are not followed. If the server rejects the time
//! of a signature, the clock is corrected for the next attempt; if it rejects expired credentials, they are renewed.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use http::header::{CONTENT_LENGTH, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};
use jiff::SignedDuration;

use super::connection::{ConnectionPool, ConnectionSendError, MAX_CONNECTIONS_TRIED, RequestBody, ResponseBody};
use super::credential_cache::CredentialCache;
use super::dialect::StoreDialect;
use super::payload::{DocumentCache, RequestPayload};
use super::response::{RejectedResponse, ResponseLimit, SigningContext, StoreResponse, StreamedResponse};
use super::sign::{
    AwsV4Signer, HeaderPair, OssV4Signer, SignatureScheme, SigningClock, TOLERATED_SKEW, UnsignedRequest,
};
use crate::endpoint::StoreEndpoint;
use crate::error_code::{FaultClass, is_about_signature, is_renewable};
use crate::fault::{StoreError, truncate};
use crate::object::{BucketName, ObjectKey};
use crate::timeouts::{self, DisplaySeconds, MIN_BYTES_PER_SECOND, TimeLimitError, scaled};
use crate::web::{WebConnector, root_cause};

/// The `User-Agent` of all requests.
const USER_AGENT_VALUE: HeaderValue = HeaderValue::from_static(concat!("batchplan/", env!("CARGO_PKG_VERSION")));

/// The maximum number of buckets for which routes are cached. A job uses one or a few.
const MAX_ROUTES: usize = 256;

/// The time limits for the head of a response, for a complete small response, and for a complete response of several
/// megabytes, which may arrive slowly as long as it makes progress.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);
const PAGE_TIMEOUT: Duration = Duration::from_secs(150);

/// The clock difference that servers reject: slightly less than the 15 minutes of AWS and OSS.
const REJECTED_SKEW: SignedDuration = SignedDuration::from_mins(14);

/// The HTTP client of one store.
pub(crate) struct StoreHttpClient {
    endpoint: StoreEndpoint,
    pub(super) dialect: StoreDialect,
    signer: Box<dyn SignatureScheme>,
    /// The region to sign for.
    region: String,
    credentials: CredentialCache,
    clock: Arc<SigningClock>,
    connector: WebConnector,
    route_cache: Mutex<RouteCache>,
    pub(super) document_cache: DocumentCache,
}

#[derive(Default)]
struct RouteCache {
    /// The most recently used route. The requests of a job usually go to one bucket.
    last: Option<(BucketName, Arc<BucketRoute>)>,
    by_bucket: HashMap<BucketName, Arc<BucketRoute>>,
    by_authority: HashMap<String, Arc<ConnectionPool>>,
}

/// The host and base path for the requests to one bucket.
struct BucketRoute {
    pool: Arc<ConnectionPool>,
    authority: HeaderValue,
    /// The part before the key, in the path and in the signed resource.
    path: String,
    resource: String,
}

/// A request to the store.
pub(crate) struct StoreRequest<'a> {
    /// The HTTP method, in upper case.
    pub(crate) method: &'static str,
    pub(crate) bucket: &'a BucketName,
    /// The key, or `None` for a request for the bucket.
    pub(crate) key: Option<&'a ObjectKey>,
    /// The query: encoded, sorted by name, without `=` if a value is empty.
    pub(crate) query: &'a str,
    /// Headers in addition to those that every request has.
    pub(crate) headers: Vec<HeaderPair>,
    pub(crate) payload: RequestPayload,
}

impl StoreRequest<'_> {
    /// Returns the method and the URL of the request, without secrets.
    fn request_line(&self, endpoint: &StoreEndpoint) -> String {
        let none = ObjectKey::from("");
        endpoint.request_line(self.method, self.bucket, self.key.unwrap_or(&none), self.query)
    }
}

impl StoreHttpClient {
    /// Creates a client for the store at this endpoint, with the dialect's signature scheme.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify servers with.
    pub(crate) fn new(
        endpoint: StoreEndpoint,
        dialect: StoreDialect,
        region: &str,
        credentials: SharedCredentialsProvider,
        clock: Arc<SigningClock>,
    ) -> io::Result<Self> {
        let signer: Box<dyn SignatureScheme> = match dialect {
            StoreDialect::S3 => Box::new(AwsV4Signer::new(region)),
            StoreDialect::Oss => Box::new(OssV4Signer::new(region)),
        };
        Ok(Self {
            connector: WebConnector::new(endpoint.is_https())?,
            endpoint,
            dialect,
            signer,
            region: region.to_owned(),
            credentials: CredentialCache::new(credentials),
            clock,
            route_cache: Mutex::default(),
            document_cache: DocumentCache::default(),
        })
    }

    /// Returns the API that the store speaks.
    pub(crate) fn dialect(&self) -> StoreDialect {
        self.dialect
    }

    /// Returns the endpoint of the store.
    pub(crate) fn endpoint(&self) -> &StoreEndpoint {
        &self.endpoint
    }

    /// Sends a request and reads the whole response, up to a limit. The caller bounds the time.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success. This includes a success whose body is an
    /// error document or exceeds the limit.
    pub(super) async fn execute(
        &self,
        store_request: StoreRequest<'_>,
        limit: ResponseLimit,
    ) -> Result<StoreResponse, StoreError> {
        let request_line = || store_request.request_line(&self.endpoint);
        let signed = self.signing_context(&request_line).await?;
        let answer = self.send(&store_request, &signed).await?;
        match answer.read_whole(self.dialect, limit, &signed, &request_line).await {
            Ok(whole) => Ok(whole),
            Err(rejection) => Err(Box::pin(self.handle_rejection(rejection, &signed)).await),
        }
    }

    /// Like [`Self::execute`], for callers that do not bound the time. The head of the response may take one
    /// minute, and the whole response two minutes, or two and a half for a page, plus the time that a slow connection
    /// needs for the body of the request.
    ///
    /// # Errors
    /// Returns the same errors, and an error if the time limit is exceeded.
    pub(crate) async fn execute_with_timeout(
        &self,
        store_request: StoreRequest<'_>,
        limit: ResponseLimit,
    ) -> Result<StoreResponse, StoreError> {
        let patience = match limit {
            ResponseLimit::Small => RESPONSE_TIMEOUT,
            ResponseLimit::Page => PAGE_TIMEOUT,
        };
        let (request_line, host, size) = (
            store_request.request_line(&self.endpoint),
            self.authority_for(&store_request),
            store_request.payload.len(),
        );
        let sending = Box::pin(async {
            let words = || request_line.clone();
            let signed = self.signing_context(&words).await?;
            let sending = self.send(&store_request, &signed);
            let answer = if store_request.payload.is_streamed() {
                sending.await?
            } else {
                let waiting_for = || format!("no response to {request_line}");
                let sent = timeouts::with_time_limit(scaled(HEAD_TIMEOUT), &host, waiting_for, sending).await;
                sent.unwrap_or_else(|late| Err(timeout_error(late, &host, words())))?
            };
            match answer.with_request_line(words()).read_whole(self.dialect, limit, &signed, &words).await {
                Ok(whole) => Ok(whole),
                Err(rejection) => Err(Box::pin(self.handle_rejection(rejection, &signed)).await),
            }
        });
        let allowed = scaled(patience + Duration::from_secs(size / MIN_BYTES_PER_SECOND));
        let answer = tokio::time::timeout(allowed, sending).await;
        answer.unwrap_or_else(|_| Err(timeout_error(TimeLimitError(allowed), &host, request_line.clone())))
    }

    /// Sends a request whose response is streamed. The head of the response may take one minute.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success.
    pub(super) async fn open_stream(
        &self,
        store_request: StoreRequest<'_>,
    ) -> Result<(http::response::Parts, ResponseBody), StoreError> {
        let (request_line, host) = (store_request.request_line(&self.endpoint), self.authority_for(&store_request));
        let opening = Box::pin(async {
            let signed = self.signing_context(&|| request_line.clone()).await?;
            let answer = self.send(&store_request, &signed).await?;
            match answer.into_stream(self.dialect, &signed, &|| request_line.clone()).await {
                Ok((head, body)) => Ok((head, body.with_request_line(request_line.clone()))),
                Err(rejection) => Err(Box::pin(self.handle_rejection(rejection, &signed)).await),
            }
        });
        let opened = timeouts::with_time_limit(
            scaled(HEAD_TIMEOUT),
            &host,
            || format!("no response to {request_line}"),
            opening,
        )
        .await;
        opened.unwrap_or_else(|late| Err(timeout_error(late, &host, request_line.clone())))
    }

    /// Returns the host that a request is sent to, with its port.
    fn authority_for(&self, store_request: &StoreRequest<'_>) -> String {
        self.endpoint.bucket_location(store_request.bucket).authority
    }

    /// Returns the credentials and the time to sign a request with.
    ///
    /// # Errors
    /// Returns an error if there are no credentials.
    async fn signing_context(&self, request_line: &impl Fn() -> String) -> Result<SigningContext, StoreError> {
        if let Some(identity) = self.credentials.current_if_valid() {
            return Ok(SigningContext { credentials: identity, signed_at: self.clock.now() });
        }
        let identity = Box::pin(self.credentials.current()).await.map_err(|why| {
            StoreError::without_response(FaultClass::Credentials, "NoCredentials", &why.to_string(), request_line())
        })?;
        Ok(SigningContext { credentials: identity, signed_at: self.clock.now() })
    }

    async fn send(
        &self,
        store_request: &StoreRequest<'_>,
        signed: &SigningContext,
    ) -> Result<StreamedResponse, StoreError> {
        let unanswered = |class, code: &str, why: &str| {
            StoreError::without_response(class, code, &truncate(why), store_request.request_line(&self.endpoint))
        };
        let not_sent = |why: &str| unanswered(FaultClass::Rejected, "RequestNotSent", why);
        let route = self.route_to(store_request.bucket).map_err(|error| not_sent(&error.to_string()))?;
        let body = store_request
            .payload
            .body()
            .await
            .map_err(|error| unanswered(FaultClass::Rejected, "FileNotReadable", &error.to_string()))?;
        let mut request =
            self.build_request(store_request, &route, signed, body).map_err(|error| not_sent(&error.to_string()))?;
        for _ in 0..MAX_CONNECTIONS_TRIED {
            let connected = route.pool.acquire().await;
            let connection =
                connected.map_err(|why| unanswered(FaultClass::Transient, "ConnectionError", &why.to_string()))?;
            let announce = |so_far: Duration, sent: u64| {
                let (total, request) = (store_request.payload.len(), store_request.request_line(&self.endpoint));
                let what = || {
                    if sent < total {
                        return format!("sent {sent} of {total} bytes of {request}");
                    }
                    format!("no response to {request}")
                };
                timeouts::report_wait(route.pool.authority(), so_far, scaled(HEAD_TIMEOUT), what);
            };
            match connection.send(request, &announce, &route.pool).await {
                Ok((head, body)) => {
                    return Ok(StreamedResponse::new(head, body, matches!(store_request.method, "GET" | "HEAD")));
                }
                Err(ConnectionSendError::NotSent(again)) => request = *again,
                Err(ConnectionSendError::Interrupted(error)) => {
                    return Err(unanswered(FaultClass::Ambiguous, "ConnectionError", &root_cause(&error)));
                }
                Err(ConnectionSendError::NoResponse(time)) => {
                    return Err(timeout_error(
                        TimeLimitError(time),
                        route.pool.authority(),
                        store_request.request_line(&self.endpoint),
                    ));
                }
                Err(ConnectionSendError::UploadStalled(stalled)) => {
                    let why = format!("{} accepted {stalled}", route.pool.authority());
                    return Err(unanswered(FaultClass::Ambiguous, "RequestTimeout", &why));
                }
            }
        }
        Err(unanswered(FaultClass::Transient, "ConnectionError", "the server closes every connection"))
    }

    fn build_request(
        &self,
        store_request: &StoreRequest<'_>,
        route: &BucketRoute,
        signed: &SigningContext,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, http::Error> {
        let mut target = String::with_capacity(route.path.len() + 64);
        target.push_str(&route.path);
        if let Some(key) = store_request.key {
            target.extend(key.encoded_pieces_keeping_slashes());
        }
        let path_end = target.len();
        let resource = match self.dialect {
            StoreDialect::Oss => format!("{}{}", route.resource, &target[route.path.len()..]),
            StoreDialect::S3 => String::new(),
        };
        if !store_request.query.is_empty() {
            target.push('?');
            target.push_str(store_request.query);
        }
        let mut headers = Vec::with_capacity(store_request.headers.len() + 8);
        headers.extend(store_request.headers.iter().cloned());
        store_request.payload.push_headers(&mut headers);
        let unsigned = UnsignedRequest {
            method: store_request.method,
            host: &route.authority,
            path: &target[..path_end],
            resource: &resource,
            query: store_request.query,
            body_sha256: store_request.payload.sha256(),
        };
        self.signer.sign(&unsigned, &signed.credentials, &self.clock.stamp(signed.signed_at), &mut headers);

        let mut request = Request::new(body);
        *request.method_mut() = store_request.method.try_into()?;
        *request.uri_mut() = Uri::from(PathAndQuery::from_maybe_shared(bytes::Bytes::from(target))?);
        let map = request.headers_mut();
        map.reserve(headers.len() + 2);
        for (name, value) in headers {
            map.insert(name, value);
        }
        map.insert(USER_AGENT, USER_AGENT_VALUE);
        if matches!(store_request.method, "PUT" | "POST") && store_request.payload.len() == 0 {
            // hyper sends no `Content-Length` for an empty body, and Ceph's radosgw requires it.
            map.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }

    /// Returns the error of a rejected request. Corrects the clock or renews the credentials first, if they were the
    /// reason.
    ///
    /// If several requests in flight were signed with the same wrong time or the same credentials, the first one
    /// corrects it, and all of them can be retried.
    async fn handle_rejection(&self, rejection: RejectedResponse, signed: &SigningContext) -> StoreError {
        let RejectedResponse { error: mut fault, server_time: date, has_code } = rejection;
        if let Some(date) = date {
            let off = date.duration_since(signed.signed_at).abs();
            // A response to HEAD has no error code, so only the server's clock shows the reason.
            let skewed =
                fault.code == "RequestTimeTooSkewed" || (fault.status == Some(403) && !has_code && off > REJECTED_SKEW);
            if skewed {
                self.clock.sync_to(date);
                if off > TOLERATED_SKEW {
                    fault.class = FaultClass::Transient;
                }
            }
        }
        if fault.class == FaultClass::Credentials && is_about_signature(&fault.code) {
            let region = &self.region;
            fault.message = truncate(&format!("{}; requests are signed for the region {region}", fault.message));
        }
        // A response to HEAD has no error code here either. The credentials are the reason if they are known to be
        // expired or rejected.
        let codeless = !has_code && matches!(fault.status, Some(400 | 401 | 403));
        if is_renewable(&fault.code) || (codeless && self.credentials.is_unusable(&signed.credentials)) {
            let renewed = self.credentials.renew(&signed.credentials, &fault.code).await;
            fault.class = if renewed { FaultClass::Transient } else { FaultClass::Credentials };
        }
        fault
    }

    fn route_to(&self, bucket: &BucketName) -> Result<Arc<BucketRoute>, http::Error> {
        // A route is built completely before it is inserted, so the data behind a poisoned lock is consistent.
        let mut routes = self.route_cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, route)) = routes.last.as_ref().filter(|(last, _)| last == bucket) {
            return Ok(Arc::clone(route));
        }
        if let Some(route) = routes.by_bucket.get(bucket).cloned() {
            routes.last = Some((bucket.clone(), Arc::clone(&route)));
            return Ok(route);
        }
        if routes.by_bucket.len() >= MAX_ROUTES {
            *routes = RouteCache::default();
        }
        let place = self.endpoint.bucket_location(bucket);
        let host = if let Some(host) = routes.by_authority.get(&place.authority) {
            Arc::clone(host)
        } else {
            let scheme = if self.endpoint.is_https() { "https" } else { "http" };
            let url = Uri::builder().scheme(scheme).authority(place.authority.as_str()).path_and_query("/").build()?;
            Arc::new(ConnectionPool::new(self.connector.clone(), url))
        };
        routes.by_authority.insert(place.authority.clone(), Arc::clone(&host));
        let resource = format!("/{bucket}/");
        let authority = HeaderValue::from_str(&place.authority)?;
        let route = Arc::new(BucketRoute { pool: host, authority, path: place.path, resource });
        routes.by_bucket.insert(bucket.clone(), Arc::clone(&route));
        Ok(route)
    }
}

fn timeout_error(late: TimeLimitError, host: &str, request_line: String) -> StoreError {
    let why = format!("no response from {host} within {}", DisplaySeconds(late.0));
    StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &why, request_line)
}
