//! Requests for one object.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::dialect::parse_tags;
use super::payload::RequestPayload;
use super::response::{ResponseLimit, StoreResponse};
use super::{StoreHttpClient, StoreRequest};
use crate::object::{ObjectId, TagSet, VersionId};
use crate::object_request::{ContentIdentity, ObjectRequest, ObjectResponse, ResponseData};
use crate::task::StoreError;
use crate::xml::XmlReadError;

/// Everything except the unreserved characters of RFC 3986.
const PERCENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Caches the last request document that was sent, and the last tags that were received. Most jobs send the same
/// document for every object, and most objects of a job have the same tags or none.
#[derive(Default)]
pub(super) struct DocumentCache {
    last_sent: Mutex<Option<(ObjectRequest, RequestPayload)>>,
    last_received: Mutex<Option<(Bytes, TagSet)>>,
}

impl DocumentCache {
    /// Returns the payload of a request. Reuses the last one if the request is the same.
    fn request_payload(&self, call: &ObjectRequest, make: impl FnOnce() -> RequestPayload) -> RequestPayload {
        let mut last = lock_ignoring_poison(&self.last_sent);
        match &*last {
            Some((kept, payload)) if kept == call => payload.clone(),
            _ => {
                let payload = make();
                *last = Some((call.clone(), payload.clone()));
                payload
            }
        }
    }

    /// Parses the tags of a response. Reuses the last result if the document is the same.
    fn cached_tags(&self, document: &Bytes) -> Result<Option<TagSet>, XmlReadError> {
        let mut last = lock_ignoring_poison(&self.last_received);
        match &*last {
            Some((kept, tags)) if kept == document => Ok(Some(tags.clone())),
            _ => {
                let tags = parse_tags(document)?;
                *last = tags.clone().map(|tags| (document.clone(), tags));
                Ok(tags)
            }
        }
    }
}

/// The cached value is complete at every moment, so a poisoned lock is safe to use.
fn lock_ignoring_poison<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StoreHttpClient {
    /// Sends a request for one object.
    pub(crate) async fn send_object_request(
        &self,
        object: &ObjectId,
        call: &ObjectRequest,
    ) -> Result<ObjectResponse, StoreError> {
        let (method, resource) = call.method_and_subresource();
        let query = object_query(resource, object.version.as_ref());
        let mut headers = Vec::new();
        if let ObjectRequest::PutAcl(acl) = call {
            headers.push((self.dialect.headers().acl.clone(), HeaderValue::from_static(acl.as_str())));
        }
        let payload = self.payload_for(call);
        let ask =
            StoreRequest { method, bucket: &object.bucket, key: Some(&object.key), query: &query, headers, payload };
        let whole = match self.execute(ask, ResponseLimit::Small).await {
            Err(fault) if *call == ObjectRequest::GetTags && is_no_tag_set(&fault) => {
                let learned = ResponseData::Tags(TagSet::default());
                return Ok(ObjectResponse {
                    headers: fault.headers,
                    no_tag_set: true,
                    ..ObjectResponse::new(200, learned)
                });
            }
            answer => answer?,
        };
        let learned = self.response_data(call, &whole).map_err(|why| {
            whole.unreadable_error(&why, self.endpoint.request_line(method, &object.bucket, &object.key, &query))
        })?;
        let size = whole.body.len() as u64;
        Ok(ObjectResponse {
            headers: whole.object_headers(),
            body_bytes: size,
            ..ObjectResponse::new(whole.status, learned)
        })
    }

    fn payload_for(&self, call: &ObjectRequest) -> RequestPayload {
        match call {
            ObjectRequest::PutTags(tags) => self
                .document_cache
                .request_payload(call, || RequestPayload::from_xml(self.dialect.tagging_document(tags), self.dialect)),
            ObjectRequest::Restore(request) => self.document_cache.request_payload(call, || {
                RequestPayload::from_xml(self.dialect.restore_document(*request), self.dialect)
            }),
            ObjectRequest::PutAcl(_)
            | ObjectRequest::GetTags
            | ObjectRequest::DeleteTags
            | ObjectRequest::GetAcl
            | ObjectRequest::Head => RequestPayload::empty(),
        }
    }

    /// Returns the `ETag` and size that HEAD would report for an object whose content is the body of this request.
    pub(crate) fn body_identity(&self, call: &ObjectRequest) -> ContentIdentity {
        match call {
            ObjectRequest::PutTags(_) | ObjectRequest::PutAcl(_) | ObjectRequest::Restore(_) => {
                self.payload_for(call).content_identity()
            }
            ObjectRequest::GetTags | ObjectRequest::DeleteTags | ObjectRequest::GetAcl | ObjectRequest::Head => {
                ContentIdentity::default()
            }
        }
    }

    fn response_data(&self, call: &ObjectRequest, whole: &StoreResponse) -> Result<ResponseData, String> {
        match call {
            ObjectRequest::GetTags => {
                expect_document(self.document_cache.cached_tags(&whole.body)).map(ResponseData::Tags)
            }
            ObjectRequest::GetAcl => expect_document(self.dialect.parse_acl(&whole.body)).map(ResponseData::Acl),
            ObjectRequest::Head => {
                let (class, restoration) = self.dialect.parse_head(&whole.headers);
                Ok(ResponseData::Head { class, restoration, content: whole.content_identity() })
            }
            ObjectRequest::PutTags(_)
            | ObjectRequest::DeleteTags
            | ObjectRequest::PutAcl(_)
            | ObjectRequest::Restore(_) => Ok(ResponseData::Empty),
        }
    }
}

/// Returns whether the error only means that the object has no tags. Some servers respond this way.
fn is_no_tag_set(fault: &StoreError) -> bool {
    fault.status == Some(404) && matches!(fault.code.as_str(), "NoSuchTagSet" | "NoSuchTagSetError")
}

fn expect_document<T>(read: Result<Option<T>, XmlReadError>) -> Result<T, String> {
    match read {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err("it is not the requested document".to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Returns the query for a subresource, with the version ID if there is one.
pub(crate) fn object_query(resource: &'static str, version: Option<&VersionId>) -> Cow<'static, str> {
    let Some(version) = version else { return Cow::Borrowed(resource) };
    let joint = if resource.is_empty() { "" } else { "&" };
    // Sorted by name: every subresource comes before `versionId`.
    Cow::Owned(format!("{resource}{joint}versionId={}", utf8_percent_encode(version.as_str(), PERCENT_ENCODED)))
}
