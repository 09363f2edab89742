//! The HTTP client of one store: builds, signs and sends a request with its payload, and reads its response.
//!
//! Every request is sent once, to the plan's own host, and redirects are not followed. If the server rejects the time
//! of a signature, the clock is corrected for the next attempt; if it rejects expired credentials, they are renewed.
//! The last documents that were sent and received are cached, because most requests of a job have the same.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, InvalidHeaderValue, USER_AGENT};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Uri};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::fs::File;
use tracing::{Level, enabled, info, trace};

use super::connection::{ConnectionPool, ConnectionSendError, PIECE_BYTES, RequestBody, ResponseBody};
use super::credential_cache::{CredentialCache, SigningCredentials};
use super::dialect::{StoreDialect, parse_tags};
use super::response::{FailedResponse, ResponseLimit, StoreResponse, StreamedResponse, log_failure, redacted};
use super::sign::{AwsV4Signer, HeaderPair, OssV4Signer, SignatureScheme, SigningClock, UnsignedRequest};
use crate::error::{FaultClass, StoreError, is_about_signature, is_renewable, truncate};
use crate::hex::hex;
use crate::mutex::Mutex;
use crate::object::{BucketName, ObjectKey, TagSet};
use crate::object_request::{ContentIdentity, ObjectRequest};
use crate::provider::StoreEndpoint;
use crate::timeouts::{self, DisplaySeconds, MIN_BYTES_PER_SECOND, TimeLimitError, micros, scaled};
use crate::web::{ConnectionSettings, ConnectionSetupError, ResponseHeaderLimit};
use crate::xml::XmlReadError;

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
    dialect: StoreDialect,
    signer: Box<dyn SignatureScheme>,
    /// The region to sign for.
    region: String,
    /// Whether every request says that the caller pays for it.
    requester_pays: bool,
    credentials: CredentialCache,
    clock: Arc<SigningClock>,
    connections: Arc<ConnectionSettings>,
    route_cache: Mutex<RouteCache>,
    document_cache: DocumentCache,
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

/// Why requests to a bucket cannot be sent.
#[derive(Debug, thiserror::Error)]
enum RouteError {
    #[error(transparent)]
    Setup(#[from] ConnectionSetupError),
    #[error(transparent)]
    Header(#[from] InvalidHeaderValue),
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

/// The credentials and the time that a request is signed with.
struct SigningContext {
    credentials: Arc<SigningCredentials>,
    signed_at: Timestamp,
}

impl StoreRequest<'_> {
    /// Returns the method and the URL of the request, without secrets.
    fn request_line(&self, endpoint: &StoreEndpoint) -> String {
        let none = ObjectKey::from("");
        endpoint.request_line(self.method, self.bucket, self.key.unwrap_or(&none), self.query)
    }

    /// Returns how many headers the response may have: an object's own metadata comes only with the object itself.
    fn header_limit(&self) -> ResponseHeaderLimit {
        let is_object = self.key.is_some() && (self.query.is_empty() || self.query.starts_with("versionId="));
        match self.method {
            "HEAD" => ResponseHeaderLimit::WithMetadata,
            "GET" if is_object => ResponseHeaderLimit::WithMetadata,
            _ => ResponseHeaderLimit::Standard,
        }
    }
}

impl StoreHttpClient {
    /// Creates a client for the store at this endpoint, with the dialect's signature scheme.
    ///
    /// # Errors
    /// Returns an error if no connection can be opened, because of a proxy variable or the CA certificates.
    pub(crate) fn new(
        endpoint: StoreEndpoint,
        dialect: StoreDialect,
        region: &str,
        credentials: SharedCredentialsProvider,
        connections: Arc<ConnectionSettings>,
    ) -> Result<Self, ConnectionSetupError> {
        endpoint.check_connections(&connections)?;
        let signer: Box<dyn SignatureScheme> = match dialect {
            StoreDialect::S3 => Box::new(AwsV4Signer::new(region)),
            StoreDialect::Oss => Box::new(OssV4Signer::new(region)),
        };
        Ok(Self {
            connections,
            endpoint,
            dialect,
            signer,
            region: region.to_owned(),
            requester_pays: false,
            credentials: CredentialCache::new(credentials),
            clock: Arc::default(),
            route_cache: Mutex::default(),
            document_cache: DocumentCache::default(),
        })
    }

    /// Says in every request that the caller pays for it, instead of the owner of the bucket.
    pub(crate) fn with_requester_pays(self) -> Self {
        Self { requester_pays: true, ..self }
    }

    /// Returns the API that the store speaks.
    pub(crate) fn dialect(&self) -> StoreDialect {
        self.dialect
    }

    /// Returns the endpoint of the store.
    pub(crate) fn endpoint(&self) -> &StoreEndpoint {
        &self.endpoint
    }

    /// Returns the payload of a request. Reuses the last one if the request is the same.
    pub(super) fn request_payload(
        &self,
        call: &ObjectRequest,
        make: impl FnOnce() -> RequestPayload,
    ) -> RequestPayload {
        let mut last = self.document_cache.last_sent.lock();
        match &*last {
            Some((cached, payload)) if cached == call => payload.clone(),
            _ => {
                let payload = make();
                *last = Some((call.clone(), payload.clone()));
                payload
            }
        }
    }

    /// Parses the tags of a response. Reuses the last result if the document is the same.
    pub(super) fn cached_tags(&self, document: &Bytes) -> Result<Option<TagSet>, XmlReadError> {
        let mut last = self.document_cache.last_received.lock();
        match &*last {
            Some((cached, tags)) if cached == document => Ok(Some(tags.clone())),
            _ => {
                let tags = parse_tags(document)?;
                *last = tags.clone().map(|tags| (document.clone(), tags));
                Ok(tags)
            }
        }
    }

    /// Sends a request about an object and reads the whole response, up to a limit. The caller bounds the time, by
    /// [`timeouts::OBJECT_REQUEST_TIMEOUT`].
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
        // A wait for credentials has its own reports.
        let signed = self.signing_context(&request_line).await?;
        let sending = async {
            let response = self.send(&store_request, &signed).await?;
            match response.read_whole(self.dialect, limit, &signed.credentials, &request_line).await {
                Ok(response) => Ok(response),
                Err(failure) => Err(Box::pin(self.handle_failure(failure, &signed)).await),
            }
        };
        let time_limit = scaled(timeouts::OBJECT_REQUEST_TIMEOUT);
        let report = |so_far| {
            let waiting_for = || format!("no response to {}", request_line());
            timeouts::report_wait(&self.authority_for(&store_request), so_far, time_limit, waiting_for);
        };
        timeouts::with_reports(time_limit, report, sending).await
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
        let time_limit = match limit {
            ResponseLimit::Small => RESPONSE_TIMEOUT,
            ResponseLimit::Page => PAGE_TIMEOUT,
        };
        let (request_line, host, size) = (
            store_request.request_line(&self.endpoint),
            self.authority_for(&store_request),
            store_request.payload.len(),
        );
        let sending = Box::pin(async {
            let line = || request_line.clone();
            let signed = self.signing_context(&line).await?;
            let sending = self.send(&store_request, &signed);
            let response = if store_request.payload.is_streamed() {
                sending.await?
            } else {
                let waiting_for = || format!("no response to {request_line}");
                let sent = timeouts::with_time_limit(scaled(HEAD_TIMEOUT), &host, waiting_for, sending).await;
                sent.unwrap_or_else(|exceeded| Err(timeout_error(exceeded, &host, line())))?
            };
            match response.with_request_line(line()).read_whole(self.dialect, limit, &signed.credentials, &line).await {
                Ok(response) => Ok(response),
                Err(failure) => Err(Box::pin(self.handle_failure(failure, &signed)).await),
            }
        });
        let allowed = scaled(time_limit + Duration::from_secs(size / MIN_BYTES_PER_SECOND));
        let response = tokio::time::timeout(allowed, sending).await;
        response.unwrap_or_else(|_| Err(timeout_error(TimeLimitError(allowed), &host, request_line.clone())))
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
        // A wait for credentials has its own limit and its own reports.
        let signed = self.signing_context(&|| request_line.clone()).await?;
        let opening = Box::pin(async {
            let response = self.send(&store_request, &signed).await?;
            match response.into_stream(self.dialect, &signed.credentials, &|| request_line.clone()).await {
                Ok((head, body)) => Ok((head, body.with_request_line(request_line.clone()))),
                Err(failure) => Err(Box::pin(self.handle_failure(failure, &signed)).await),
            }
        });
        let opened = timeouts::with_time_limit(
            scaled(HEAD_TIMEOUT),
            &host,
            || format!("no response to {request_line}"),
            opening,
        )
        .await;
        opened.unwrap_or_else(|exceeded| Err(timeout_error(exceeded, &host, request_line.clone())))
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
        let failure = |class, code: &str, why: &str| {
            StoreError::without_response(class, code, &truncate(why), store_request.request_line(&self.endpoint))
        };
        let not_sent = |why: &str| failure(FaultClass::Rejected, "RequestNotSent", why);
        let route = self.route_to(store_request.bucket).map_err(|error| not_sent(&error.to_string()))?;
        let body = store_request
            .payload
            .body()
            .await
            .map_err(|error| failure(FaultClass::Rejected, "FileNotReadable", &error.to_string()))?;
        let request =
            self.build_request(store_request, &route, signed, body).map_err(|error| not_sent(&error.to_string()))?;
        let host = route.authority.to_str().unwrap_or_default();
        let started = enabled!(Level::TRACE).then(Instant::now);
        let announce = |so_far: Duration, sent: u64| {
            let (total, request) = (store_request.payload.len(), store_request.request_line(&self.endpoint));
            // The query would fill several lines, and is the same each time.
            let request = request.split('?').next().unwrap_or_default();
            let what = || {
                if sent < total {
                    return format!("sent {sent} of {total} bytes of {request}");
                }
                format!("no response to {request}")
            };
            timeouts::report_wait(host, so_far, scaled(HEAD_TIMEOUT), what);
        };
        let sent =
            route.pool.send(request, store_request.header_limit(), &announce).await.map_err(|error| match error {
                // Every further request would fail as well.
                ConnectionSendError::NotConnected(error) if error.needs_proxy_password() => {
                    failure(FaultClass::Credentials, "ProxyAuthenticationRequired", &error.to_string())
                }
                ConnectionSendError::NotConnected(error) => {
                    failure(FaultClass::Transient, error.code(), &error.to_string())
                }
                ConnectionSendError::NotSent(_) => {
                    let why = format!("{}: the server closes every connection", route.pool.origin());
                    failure(FaultClass::Transient, "ConnectionError", &why)
                }
                ConnectionSendError::Interrupted(why) => {
                    failure(FaultClass::Ambiguous, "ConnectionError", &format!("{}: {why}", route.pool.origin()))
                }
                ConnectionSendError::NoResponse(time) => {
                    timeout_error(TimeLimitError(time), host, store_request.request_line(&self.endpoint))
                }
                ConnectionSendError::UploadStalled(stalled) => {
                    failure(FaultClass::Ambiguous, "RequestTimeout", &format!("{host} accepted {stalled}"))
                }
            });
        let (head, body) = sent.inspect_err(log_failure)?;
        if let Some(started) = started {
            self.log_response(store_request, host, &head, (signed, started.elapsed()));
        }
        Ok(StreamedResponse::new(head, body, matches!(store_request.method, "GET" | "HEAD")))
    }

    /// Logs the head of a response, which took this long. Of the headers, only the length and the server's ID of the
    /// request are logged: others may repeat what was signed.
    fn log_response(
        &self,
        request: &StoreRequest<'_>,
        host: &str,
        head: &Parts,
        (signed, took): (&SigningContext, Duration),
    ) {
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        trace!(
            method = request.method,
            host,
            bucket = %request.bucket,
            key = request.key.map(tracing::field::display),
            sent_bytes = request.payload.len(),
            status = head.status.as_u16(),
            request_id = header(self.dialect.request_id_header()).map(|id| redacted(id, &signed.credentials)),
            bytes = header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok()),
            us = micros(took),
            "response"
        );
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
        if self.requester_pays {
            headers.push((self.dialect.request_payer_header(), HeaderValue::from_static("requester")));
        }
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
        *request.uri_mut() = Uri::from(PathAndQuery::from_maybe_shared(Bytes::from(target))?);
        let map = request.headers_mut();
        map.reserve(headers.len() + 2);
        for (name, value) in headers {
            map.insert(name, value);
        }
        map.insert(USER_AGENT, USER_AGENT_VALUE);
        // Without it, any encoding is acceptable (RFC 9110, 12.5.3), and Hitachi HCP compresses what it sends. It is not
        // signed, because Google's front end changes it on the way.
        map.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if matches!(store_request.method, "PUT" | "POST") && store_request.payload.len() == 0 {
            // hyper sends no `Content-Length` for an empty body, and Ceph's radosgw requires it.
            map.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }

    /// Returns the error of a failed response. Corrects the clock or renews the credentials first, if they were the
    /// reason.
    ///
    /// If several requests in flight were signed with the same wrong time or the same credentials, the first one
    /// corrects it, and all of them can be retried.
    async fn handle_failure(&self, failure: FailedResponse, signed: &SigningContext) -> StoreError {
        let FailedResponse { error: mut fault, server_time, has_code } = failure;
        if let Some(server_time) = server_time {
            let skew = server_time.duration_since(signed.signed_at).abs();
            // A response to HEAD has no error code, so only the server's clock shows the reason.
            let skewed = fault.code == "RequestTimeTooSkewed"
                || (fault.status == Some(403) && !has_code && skew > REJECTED_SKEW);
            if skewed && self.clock.sync_after_rejection(server_time, signed.signed_at) {
                info!(seconds = skew.as_secs(), "signatures use the server's clock, because this machine's is wrong");
                fault.class = FaultClass::Transient;
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
        log_failure(&fault);
        fault
    }

    fn route_to(&self, bucket: &BucketName) -> Result<Arc<BucketRoute>, RouteError> {
        let mut routes = self.route_cache.lock();
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
        let location = self.endpoint.bucket_location(bucket);
        let host = if let Some(host) = routes.by_authority.get(&location.authority) {
            Arc::clone(host)
        } else {
            let connector = self.connections.connector_to(self.endpoint.is_https(), &location.authority)?;
            Arc::new(ConnectionPool::new(connector))
        };
        routes.by_authority.insert(location.authority.clone(), Arc::clone(&host));
        let resource = format!("/{bucket}/");
        let authority = HeaderValue::from_str(&location.authority)?;
        let route = Arc::new(BucketRoute { pool: host, authority, path: location.path, resource });
        routes.by_bucket.insert(bucket.clone(), Arc::clone(&route));
        Ok(route)
    }
}

fn timeout_error(exceeded: TimeLimitError, host: &str, request_line: String) -> StoreError {
    let why = format!("no response from {host} within {}", DisplaySeconds(exceeded.0));
    StoreError::without_response(FaultClass::Ambiguous, "RequestTimeout", &why, request_line)
}

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The SHA-256 of an empty body.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The number of bytes of a file that are hashed at once.
const HASH_BUFFER_BYTES: usize = 64 << 10;

/// A request payload. Cheap to clone, so that a payload that is the same for every object is built once.
#[derive(Clone, Debug)]
pub(crate) struct RequestPayload {
    content: PayloadSource,
    /// The SHA-256 in hexadecimal. Empty if the dialect does not sign the body.
    sha256: HeaderValue,
    md5: Option<HeaderValue>,
    is_xml: bool,
}

#[derive(Clone, Debug)]
enum PayloadSource {
    Bytes(Bytes),
    /// The path of a file and its size in bytes. Streamed.
    File(PathBuf, u64),
}

impl RequestPayload {
    /// Creates an empty payload.
    pub(crate) fn empty() -> Self {
        let sha256 = HeaderValue::from_static(EMPTY_SHA256);
        Self { content: PayloadSource::Bytes(Bytes::new()), sha256, md5: None, is_xml: false }
    }

    /// Returns the `ETag` and size that HEAD would report for an object with this content. Empty if the content is
    /// not in memory.
    pub(super) fn content_identity(&self) -> ContentIdentity {
        match &self.content {
            PayloadSource::Bytes(content) => ContentIdentity {
                etag: Some(format!("\"{}\"", hex(&Md5::digest(content))).into()),
                size: Some(content.len() as u64),
            },
            PayloadSource::File(..) => ContentIdentity::default(),
        }
    }

    /// Creates a payload from an XML document.
    pub(crate) fn from_xml(document: String, dialect: StoreDialect) -> Self {
        let content = Bytes::from(document);
        let md5 = STANDARD.encode(Md5::digest(&content));
        Self { is_xml: true, ..Self::from_bytes(content, &md5, dialect) }
    }

    /// Creates a payload from an object's content in memory. `md5` is in base64.
    pub(crate) fn from_bytes(content: Bytes, md5: &str, dialect: StoreDialect) -> Self {
        let sha256 = match dialect {
            StoreDialect::S3 => hex(&Sha256::digest(&content)),
            StoreDialect::Oss => String::new(),
        };
        Self::new(PayloadSource::Bytes(content), &sha256, md5)
    }

    /// Creates a payload from a file. `md5` is in base64. The file is read once for the signed digest and once while
    /// it is sent. If it changes in between, the server rejects it.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be read.
    pub(crate) async fn from_file(path: &Path, md5: &str) -> io::Result<Self> {
        let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let hashed_path = path.to_owned();
        let hashing = tokio::task::spawn_blocking(move || {
            let (mut digest, mut bytes) = (Sha256::new(), 0);
            let mut file = BufReader::with_capacity(HASH_BUFFER_BYTES, fs::File::open(hashed_path)?);
            loop {
                let piece = file.fill_buf()?;
                if piece.is_empty() {
                    return Ok((bytes, hex(&digest.finalize())));
                }
                digest.update(piece);
                let length = piece.len();
                bytes += length as u64;
                file.consume(length);
            }
        });
        let (bytes, sha256) = hashing.await.map_err(io::Error::other)?.map_err(with_path)?;
        Ok(Self::new(PayloadSource::File(path.to_owned(), bytes), &sha256, md5))
    }

    fn new(content: PayloadSource, sha256: &str, md5: &str) -> Self {
        let sha256 = HeaderValue::from_str(sha256).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { content, sha256, md5: HeaderValue::from_str(md5).ok(), is_xml: false }
    }

    /// Returns the SHA-256 in hexadecimal, or an empty value if the dialect does not sign the body.
    fn sha256(&self) -> &HeaderValue {
        &self.sha256
    }

    /// Appends the headers that describe the payload.
    fn push_headers(&self, headers: &mut Vec<HeaderPair>) {
        if let Some(md5) = &self.md5 {
            headers.push((CONTENT_MD5, md5.clone()));
        }
        if self.is_xml {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/xml")));
        }
    }

    /// Returns the size in bytes.
    fn len(&self) -> u64 {
        match &self.content {
            PayloadSource::Bytes(bytes) => bytes.len() as u64,
            PayloadSource::File(_, bytes) => *bytes,
        }
    }

    /// Returns whether the payload is sent in several pieces, so that the upload itself is watched for stalls.
    fn is_streamed(&self) -> bool {
        match &self.content {
            PayloadSource::Bytes(bytes) => bytes.len() > PIECE_BYTES,
            PayloadSource::File(..) => true,
        }
    }

    /// Returns the body for one request.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be opened.
    async fn body(&self) -> io::Result<RequestBody> {
        match &self.content {
            PayloadSource::Bytes(bytes) => Ok(RequestBody::from(bytes.clone())),
            PayloadSource::File(path, bytes) => match File::open(path).await {
                Ok(file) => Ok(RequestBody::from_file(file, *bytes)),
                Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            },
        }
    }
}

/// Caches the last request document that was sent, and the last tags that were received. Most jobs send the same
/// document for every object, and most objects of a job have the same tags or none.
#[derive(Default)]
struct DocumentCache {
    last_sent: Mutex<Option<(ObjectRequest, RequestPayload)>>,
    last_received: Mutex<Option<(Bytes, TagSet)>>,
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;
    use crate::provider::AddressingStyle;

    #[test]
    fn sends_digests() {
        assert_eq!(hex(&Sha256::digest(b"")), EMPTY_SHA256);
        let payload =
            RequestPayload::from_bytes(Bytes::from_static(b"hello"), "XUFAKrxLKna5cZ2REBfFkg==", StoreDialect::S3);
        assert_eq!(payload.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        let document = RequestPayload::from_xml("hello".to_owned(), StoreDialect::Oss);
        assert_eq!(document.md5.as_ref().expect("one"), "XUFAKrxLKna5cZ2REBfFkg==");
        assert!(document.sha256.is_empty());
    }

    #[tokio::test]
    async fn every_request_says_who_pays_if_the_plan_does() {
        for (dialect, name) in [(StoreDialect::S3, "x-amz-request-payer"), (StoreDialect::Oss, "x-oss-request-payer")] {
            let endpoint = StoreEndpoint::new("http://127.0.0.1:9", AddressingStyle::Path);
            let keys = SharedCredentialsProvider::new(Credentials::new("AKID", "secret", None, None, "test"));
            let client = StoreHttpClient::new(endpoint, dialect, "here", keys, ConnectionSettings::of_process())
                .expect("a client");
            let headers = async |client: &StoreHttpClient, method| {
                let (bucket, payload) = (BucketName::new("b"), RequestPayload::empty());
                let request =
                    StoreRequest { method, bucket: &bucket, key: None, query: "", headers: Vec::new(), payload };
                let route = client.route_to(&bucket).expect("a route");
                let signed = client.signing_context(&String::new).await.expect("credentials");
                let body = request.payload.body().await.expect("a body");
                client.build_request(&request, &route, &signed, body).expect("a request").headers().clone()
            };
            assert!(!headers(&client, "GET").await.contains_key(name));
            let client = client.with_requester_pays();
            for method in ["GET", "PUT", "DELETE"] {
                let headers = headers(&client, method).await;
                assert_eq!(headers[name], "requester");
                let authorization = headers["authorization"].to_str().expect("text");
                // OSS signs every header whose name starts with `x-oss-`, and lists none of them.
                assert!(dialect == StoreDialect::Oss || authorization.contains(name), "{authorization}");
            }
        }
    }
}
