//! The HTTP client that sends all requests of the S3 and OSS stores.
//!
//! A request for one object is tiny, so the client itself is most of its cost. This client does only what is
//! necessary: it signs with a key that is cached for the day, uses kept-alive connections, and reads small responses
//! into small buffers.
//!
//! | file | contents |
//! |---|---|
//! | `lane`, `host` | connections |
//! | `sign`, `identity`, `clock` | signatures, credentials, and the time of a signature |
//! | `dialect`, `payload` | the header names and documents of S3 and OSS, and request payloads |
//! | `outgoing` | request bodies, sent in small pieces |
//! | `whole` | reads and writes of whole objects |
//! | `answer`, `error_document`, `reader` | responses: read with limits, classified once |
//! | `calls` | requests for one object |
//! | `listing` | the pages of a listing |
//! | `setting` | bucket settings |
//! | `keep` | conditional writes, and deletes |
//! | `errand` | requests to a host that is not a store |
//!
//! Every request is sent once, to the plan's own host, and redirects are not followed. If the server rejects the time
//! of a signature, the clock is corrected for the next attempt; if it rejects expired credentials, they are renewed.

mod answer;
mod calls;
mod clock;
mod dialect;
mod errand;
mod error_document;
mod host;
mod identity;
mod keep;
mod lane;
mod listing;
mod outgoing;
mod payload;
mod reader;
mod setting;
mod sign;
mod whole;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Uri};

use super::site::Site;
use crate::object::{Bucket, Key};
use crate::task::{Fault, FaultClass};
use crate::timeouts::{self, LEAST_RATE, Seconds, TimedOut, scaled};
use crate::web::{Connector, innermost};
use answer::Answer;
use calls::Documents;
use host::Host;
use lane::{Arriving, Lost};
use outgoing::Outgoing;

use answer::Signed;
pub(super) use answer::{Limit, Whole};
pub(super) use calls::query;
pub use clock::{Clock, Stamp};
pub(super) use dialect::Dialect;
pub(super) use errand::Errand;
pub(super) use identity::without_secrets;
pub use identity::{Identities, Identity, NoCredentials};
pub(super) use payload::Payload;
pub use sign::{AwsV4, Header, OssV4, Sign, Unsigned};

/// The `User-Agent` of all requests.
const INTRODUCTION: HeaderValue = HeaderValue::from_static(concat!("batchplan/", env!("CARGO_PKG_VERSION")));

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The maximum number of buckets for which routes are cached. A job uses one or a few.
const MAX_ROUTES: usize = 256;

/// The maximum number of connections that one request tries if each kept-alive connection turns out to be closed.
const MAX_LANES: u32 = 8;

/// The time limits for the head of a response, for a complete small response, and for a complete response of several
/// megabytes, which may arrive slowly as long as it makes progress.
const PATIENCE: Duration = Duration::from_mins(1);
const PATIENCE_IN_ALL: Duration = Duration::from_mins(2);
const PATIENCE_WITH_PAGES: Duration = Duration::from_secs(150);

/// The HTTP client of one store.
pub(super) struct Wire {
    site: Site,
    dialect: Dialect,
    signer: Box<dyn Sign>,
    /// The region to sign for.
    region: String,
    identities: Identities,
    clock: Arc<Clock>,
    connector: Connector,
    routes: Mutex<Routes>,
    documents: Documents,
}

#[derive(Default)]
struct Routes {
    /// The most recently used route. The requests of a job usually go to one bucket.
    last: Option<(Bucket, Arc<Route>)>,
    by_bucket: HashMap<Bucket, Arc<Route>>,
    by_authority: HashMap<String, Arc<Host>>,
}

/// The host and base path for the requests to one bucket.
struct Route {
    host: Arc<Host>,
    authority: HeaderValue,
    /// The part before the key, in the path and in the signed resource.
    path: String,
    resource: String,
}

/// A request to the store.
pub(super) struct Ask<'a> {
    /// The HTTP method, in upper case.
    pub(super) method: &'static str,
    pub(super) bucket: &'a Bucket,
    /// The key, or `None` for a request for the bucket.
    pub(super) key: Option<&'a Key>,
    /// The query: encoded, sorted by name, without `=` if a value is empty.
    pub(super) query: &'a str,
    /// Headers in addition to those that every request has.
    pub(super) headers: Vec<Header>,
    pub(super) payload: Payload,
}

impl Ask<'_> {
    /// Returns the method and the URL of the request, without secrets.
    fn in_words(&self, site: &Site) -> String {
        let none = Key::from("");
        site.request(self.method, self.bucket, self.key.unwrap_or(&none), self.query)
    }
}

impl Wire {
    /// Creates a client for the store at this endpoint, with the dialect's signature scheme.
    ///
    /// # Errors
    /// Returns an error if the system has no CA certificates to verify servers with.
    pub(super) fn new(
        site: Site,
        dialect: Dialect,
        region: &str,
        credentials: SharedCredentialsProvider,
        clock: Arc<Clock>,
    ) -> io::Result<Self> {
        let signer: Box<dyn Sign> = match dialect {
            Dialect::S3 => Box::new(AwsV4::new(region)),
            Dialect::Oss => Box::new(OssV4::new(region)),
        };
        Ok(Self {
            connector: Connector::new(site.https())?,
            site,
            dialect,
            signer,
            region: region.to_owned(),
            identities: Identities::new(credentials),
            clock,
            routes: Mutex::default(),
            documents: Documents::default(),
        })
    }

    /// Returns the endpoint of the store.
    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// Sends a request and reads the whole response, up to a limit. The caller bounds the time.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success. This includes a success whose body is an
    /// error document or exceeds the limit.
    pub(super) async fn carry_out(&self, ask: Ask<'_>, limit: Limit) -> Result<Whole, Fault> {
        let in_words = || ask.in_words(&self.site);
        let signed = self.identity(&in_words).await?;
        let answer = self.send(&ask, &signed).await?;
        match answer.whole(self.dialect, limit, &signed, &in_words).await {
            Ok(whole) => Ok(whole),
            Err(refused) => Err(Box::pin(self.judged(refused, &signed)).await),
        }
    }

    /// Like [`Self::carry_out`], for callers that do not bound the time. The head of the response may take one
    /// minute, and the whole response two minutes, or two and a half for a page, plus the time that a slow connection
    /// needs for the body of the request.
    ///
    /// # Errors
    /// Returns the same errors, and an error if the time limit is exceeded.
    pub(super) async fn patiently(&self, ask: Ask<'_>, limit: Limit) -> Result<Whole, Fault> {
        let patience = match limit {
            Limit::Small => PATIENCE_IN_ALL,
            Limit::Page => PATIENCE_WITH_PAGES,
        };
        let (in_words, host, size) = (ask.in_words(&self.site), self.host_of(&ask), ask.payload.len());
        let sending = Box::pin(async {
            let words = || in_words.clone();
            let signed = self.identity(&words).await?;
            let sending = self.send(&ask, &signed);
            let answer = if ask.payload.is_watched() {
                sending.await?
            } else {
                let waiting_for = || format!("no answer to {in_words}");
                let sent = timeouts::within(scaled(PATIENCE), &host, waiting_for, sending).await;
                sent.unwrap_or_else(|late| Err(too_late(late, &host, words())))?
            };
            let answer = Answer { body: answer.body.of_request(words()), ..answer };
            match answer.whole(self.dialect, limit, &signed, &words).await {
                Ok(whole) => Ok(whole),
                Err(refused) => Err(Box::pin(self.judged(refused, &signed)).await),
            }
        });
        let allowed = scaled(patience + Duration::from_secs(size / LEAST_RATE));
        let answer = tokio::time::timeout(allowed, sending).await;
        answer.unwrap_or_else(|_| Err(too_late(TimedOut(allowed), &host, in_words.clone())))
    }

    /// Sends a request whose response is streamed. The head of the response may take one minute.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success.
    pub(super) async fn open(&self, ask: Ask<'_>) -> Result<(http::response::Parts, Arriving), Fault> {
        let (in_words, host) = (ask.in_words(&self.site), self.host_of(&ask));
        let opening = Box::pin(async {
            let signed = self.identity(&|| in_words.clone()).await?;
            let answer = self.send(&ask, &signed).await?;
            match answer.opened(self.dialect, &signed, &|| in_words.clone()).await {
                Ok((head, body)) => Ok((head, body.of_request(in_words.clone()))),
                Err(refused) => Err(Box::pin(self.judged(refused, &signed)).await),
            }
        });
        let opened = timeouts::within(scaled(PATIENCE), &host, || format!("no answer to {in_words}"), opening).await;
        opened.unwrap_or_else(|late| Err(too_late(late, &host, in_words.clone())))
    }

    /// Returns the host that a request is sent to, with its port.
    fn host_of(&self, ask: &Ask<'_>) -> String {
        self.site.place(ask.bucket).authority
    }

    /// Returns the credentials and the time to sign a request with.
    ///
    /// # Errors
    /// Returns an error if there are no credentials.
    pub(super) async fn identity(&self, in_words: &impl Fn() -> String) -> Result<Signed, Fault> {
        if let Some(identity) = self.identities.in_force() {
            return Ok(Signed { identity, at: self.clock.now() });
        }
        let identity = Box::pin(self.identities.current())
            .await
            .map_err(|why| Fault::unanswered(FaultClass::Credentials, "NoCredentials", &why.to_string(), in_words()))?;
        Ok(Signed { identity, at: self.clock.now() })
    }

    async fn send(&self, ask: &Ask<'_>, signed: &Signed) -> Result<Answer, Fault> {
        let unanswered = |class, code: &str, why: &str| {
            Fault::unanswered(class, code, &super::fault::shortened(why), ask.in_words(&self.site))
        };
        let not_sent = |why: &str| unanswered(FaultClass::Rejected, "RequestNotSent", why);
        let route = self.route(ask.bucket).map_err(|error| not_sent(&error.to_string()))?;
        let body = ask
            .payload
            .body()
            .await
            .map_err(|error| unanswered(FaultClass::Rejected, "FileNotReadable", &error.to_string()))?;
        let mut request = self.signed(ask, &route, signed, body).map_err(|error| not_sent(&error.to_string()))?;
        for _ in 0..MAX_LANES {
            let connected = route.host.lane().await;
            let mut lane =
                connected.map_err(|why| unanswered(FaultClass::Transient, "ConnectionError", &why.to_string()))?;
            let announce = |so_far: Duration, sent: u64| {
                let (total, request) = (ask.payload.len(), ask.in_words(&self.site));
                let what = || {
                    if sent < total {
                        return format!("it has taken {sent} of {total} bytes of {request}");
                    }
                    format!("no answer to {request}")
                };
                timeouts::announce(route.host.authority(), so_far, scaled(PATIENCE), what);
            };
            match lane.send(request, &announce).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Arriving::new(lane, body, Arc::clone(&route.host));
                    return Ok(Answer { head, body, reads: matches!(ask.method, "GET" | "HEAD") });
                }
                Err(Lost::Unsent(again)) => request = *again,
                Err(Lost::Sent(error)) => {
                    return Err(unanswered(FaultClass::Ambiguous, "ConnectionError", &innermost(&error)));
                }
                Err(Lost::Unanswered(time)) => {
                    return Err(too_late(TimedOut(time), route.host.authority(), ask.in_words(&self.site)));
                }
                Err(Lost::Stalled(stalled)) => {
                    let why = format!("{} has taken {stalled}", route.host.authority());
                    return Err(unanswered(FaultClass::Ambiguous, "RequestTimeout", &why));
                }
            }
        }
        Err(unanswered(FaultClass::Transient, "ConnectionError", "the server closes every connection"))
    }

    fn signed(
        &self,
        ask: &Ask<'_>,
        route: &Route,
        signed: &Signed,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, http::Error> {
        let mut target = String::with_capacity(route.path.len() + 64);
        target.push_str(&route.path);
        if let Some(key) = ask.key {
            target.extend(key.encoded_pieces_keeping_slashes());
        }
        let path_end = target.len();
        let resource = match self.dialect {
            Dialect::Oss => format!("{}{}", route.resource, &target[route.path.len()..]),
            Dialect::S3 => String::new(),
        };
        if !ask.query.is_empty() {
            target.push('?');
            target.push_str(ask.query);
        }
        let mut headers = Vec::with_capacity(ask.headers.len() + 8);
        headers.extend(ask.headers.iter().cloned());
        if let Some(md5) = &ask.payload.md5 {
            headers.push((CONTENT_MD5, md5.clone()));
        }
        if ask.payload.is_xml {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/xml")));
        }
        let unsigned = Unsigned {
            method: ask.method,
            host: &route.authority,
            path: &target[..path_end],
            resource: &resource,
            query: ask.query,
            body_sha256: &ask.payload.sha256,
        };
        self.signer.sign(&unsigned, &signed.identity, &self.clock.stamp(signed.at), &mut headers);

        let mut request = Request::new(body);
        *request.method_mut() = ask.method.try_into()?;
        *request.uri_mut() = Uri::from(PathAndQuery::from_maybe_shared(bytes::Bytes::from(target))?);
        let map = request.headers_mut();
        map.reserve(headers.len() + 2);
        for (name, value) in headers {
            map.insert(name, value);
        }
        map.insert(USER_AGENT, INTRODUCTION);
        if matches!(ask.method, "PUT" | "POST") && ask.payload.len() == 0 {
            // hyper sends no `Content-Length` for an empty body, and Ceph's radosgw requires it.
            map.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }

    fn route(&self, bucket: &Bucket) -> Result<Arc<Route>, http::Error> {
        // A route is built completely before it is inserted, so the data behind a poisoned lock is consistent.
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, route)) = routes.last.as_ref().filter(|(last, _)| last == bucket) {
            return Ok(Arc::clone(route));
        }
        if let Some(route) = routes.by_bucket.get(bucket).cloned() {
            routes.last = Some((bucket.clone(), Arc::clone(&route)));
            return Ok(route);
        }
        if routes.by_bucket.len() >= MAX_ROUTES {
            *routes = Routes::default();
        }
        let place = self.site.place(bucket);
        let host = if let Some(host) = routes.by_authority.get(&place.authority) {
            Arc::clone(host)
        } else {
            let scheme = if self.site.https() { "https" } else { "http" };
            let url = Uri::builder().scheme(scheme).authority(place.authority.as_str()).path_and_query("/").build()?;
            Arc::new(Host::new(self.connector.clone(), url))
        };
        routes.by_authority.insert(place.authority.clone(), Arc::clone(&host));
        let resource = format!("/{bucket}/");
        let authority = HeaderValue::from_str(&place.authority)?;
        let route = Arc::new(Route { host, authority, path: place.path, resource });
        routes.by_bucket.insert(bucket.clone(), Arc::clone(&route));
        Ok(route)
    }
}

fn too_late(late: TimedOut, host: &str, in_words: String) -> Fault {
    let why = format!("no answer from {host} within {}", Seconds(late.0));
    Fault::unanswered(FaultClass::Ambiguous, "RequestTimeout", &why, in_words)
}
