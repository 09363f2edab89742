//! Requests for one object.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::{Limit, Whole};
use super::dialect::read_tags;
use super::payload::Payload;
use super::{Ask, Wire};
use crate::call::{Call, ContentMark, Learned, Reply};
use crate::object::{ObjectId, TagSet, VersionId};
use crate::store::xml::XmlFault;
use crate::task::Fault;

/// Everything except the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Caches the last request document that was sent, and the last tags that were received. Most jobs send the same
/// document for every object, and most objects of a job have the same tags or none.
#[derive(Default)]
pub(super) struct Documents {
    sent: Mutex<Option<(Call, Payload)>>,
    came: Mutex<Option<(Bytes, TagSet)>>,
}

impl Documents {
    /// Returns the payload of a request. Reuses the last one if the request is the same.
    fn of(&self, call: &Call, make: impl FnOnce() -> Payload) -> Payload {
        let mut last = locked(&self.sent);
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
    fn tags(&self, document: &Bytes) -> Result<Option<TagSet>, XmlFault> {
        let mut last = locked(&self.came);
        match &*last {
            Some((kept, tags)) if kept == document => Ok(Some(tags.clone())),
            _ => {
                let tags = read_tags(document)?;
                *last = tags.clone().map(|tags| (document.clone(), tags));
                Ok(tags)
            }
        }
    }
}

/// The cached value is complete at every moment, so a poisoned lock is safe to use.
fn locked<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// Sends a request for one object.
    pub(in crate::store) async fn call(&self, object: &ObjectId, call: &Call) -> Result<Reply, Fault> {
        let (method, resource) = call.request();
        let query = query(resource, object.version.as_ref());
        let mut headers = Vec::new();
        if let Call::PutAcl(acl) = call {
            headers.push((self.dialect.names().acl.clone(), HeaderValue::from_static(acl.as_str())));
        }
        let payload = self.payload(call);
        let ask = Ask { method, bucket: &object.bucket, key: Some(&object.key), query: &query, headers, payload };
        let whole = match self.carry_out(ask, Limit::Small).await {
            Err(fault) if *call == Call::GetTags && is_no_tag_set(&fault) => {
                let learned = Learned::Tags(TagSet::default());
                return Ok(Reply { headers: fault.headers, no_tag_set: true, ..Reply::new(200, learned) });
            }
            answer => answer?,
        };
        let learned = self
            .learned(call, &whole)
            .map_err(|why| whole.unreadable(&why, self.site.request(method, &object.bucket, &object.key, &query)))?;
        let size = whole.body.len() as u64;
        Ok(Reply { headers: whole.object_headers(), size, ..Reply::new(whole.status, learned) })
    }

    fn payload(&self, call: &Call) -> Payload {
        match call {
            Call::PutTags(tags) => self.documents.of(call, || Payload::xml(self.dialect.tagging(tags), self.dialect)),
            Call::Restore(request) => {
                self.documents.of(call, || Payload::xml(self.dialect.restore(*request), self.dialect))
            }
            Call::PutAcl(_) | Call::GetTags | Call::DeleteTags | Call::GetAcl | Call::Head => Payload::none(),
        }
    }

    /// Returns the `ETag` and size that HEAD would report for an object whose content is the body of this request.
    pub(in crate::store) fn body_mark(&self, call: &Call) -> ContentMark {
        match call {
            Call::PutTags(_) | Call::PutAcl(_) | Call::Restore(_) => self.payload(call).mark(),
            Call::GetTags | Call::DeleteTags | Call::GetAcl | Call::Head => ContentMark::default(),
        }
    }

    fn learned(&self, call: &Call, whole: &Whole) -> Result<Learned, String> {
        match call {
            Call::GetTags => document(self.documents.tags(&whole.body)).map(Learned::Tags),
            Call::GetAcl => document(self.dialect.read_acl(&whole.body)).map(Learned::Acl),
            Call::Head => {
                let (class, restoration) = self.dialect.read_head(&whole.headers);
                Ok(Learned::Head { class, restoration, content: whole.content_mark() })
            }
            Call::PutTags(_) | Call::DeleteTags | Call::PutAcl(_) | Call::Restore(_) => Ok(Learned::Nothing),
        }
    }
}

/// Returns whether the error only means that the object has no tags. Some servers respond this way.
fn is_no_tag_set(fault: &Fault) -> bool {
    fault.status == Some(404) && matches!(fault.code.as_str(), "NoSuchTagSet" | "NoSuchTagSetError")
}

fn document<T>(read: Result<Option<T>, XmlFault>) -> Result<T, String> {
    match read {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err("it is another document than was asked for".to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Returns the query for a subresource, with the version ID if there is one.
pub(in crate::store) fn query(resource: &'static str, version: Option<&VersionId>) -> Cow<'static, str> {
    let Some(version) = version else { return Cow::Borrowed(resource) };
    let joint = if resource.is_empty() { "" } else { "&" };
    // Sorted by name: every subresource comes before `versionId`.
    Cow::Owned(format!("{resource}{joint}versionId={}", utf8_percent_encode(version.as_str(), ENCODED)))
}
