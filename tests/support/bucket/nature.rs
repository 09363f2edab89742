//! Servers that do not know what they are asked, modelled on ones that were seen: what they do with a request about
//! an object's tags, ACL or restore.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;

use super::Object;
use super::answer::{Answer, empty, etag, refuse, xml};
use super::asked::{Asked, Kind};

/// What kind of server it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Nature {
    /// It does what S3 does.
    #[default]
    Proper,
    /// It ignores sub-resources, as `rclone serve s3` does: each request is about the object itself.
    IgnoresSubresources,
    /// As lakeFS: the tags of any key are an empty set, and a document of tags becomes the object.
    StoresTagsAsObject,
    /// It ignores sub-resources, and says nothing of the object but that ranges of it may be read.
    IgnoresQuietly,
    /// As that, and not even that: only a write shows what it does.
    IgnoresSilently,
    /// As that, and nobody may ask HEAD.
    IgnoresBlindly,
    /// Every other HEAD has a weak `ETag` and no length, as behind a proxy that compresses.
    WeakHeads,
    /// Somebody writes this object anew before each of so many HEADs, each time as long as before.
    Rewritten(&'static str, u32),
    /// It ignores them in requests that write alone.
    IgnoresInWrites,
    /// It answers every request with `Accept-Ranges`, as `MinIO` does.
    RangesEverywhere,
    /// It says that it does not know sub-resources, with this status.
    Refuses(u16),
    /// It says so of those that write, with this status.
    RefusesWrites(u16),
    /// Nobody may read tags and ACLs.
    DeniesReads,
    /// Nobody may ask HEAD.
    DeniesHead,
    /// Objects without tags have no tag set, neither to read nor to delete.
    NoTagSet,
    /// Tags and ACLs are taken, and not kept.
    KeepsNothing,
    /// What was written is read back only at the third look.
    KeepsLater,
    /// A restore is accepted, and nothing comes of it.
    RestoresNothing,
    /// A restore is taken for new content.
    RestoresAsObject,
    /// The error of HTML forms, as `rclone serve s3` has it.
    RestoresAsForm,
}

/// What such a server makes of a request; `None` where it does what S3 does.
pub(super) fn carry_out(
    nature: Nature,
    objects: &mut BTreeMap<Vec<u8>, Object>,
    asked: &Asked,
    looks: &mut u32,
) -> Option<Answer> {
    use Kind::{DeleteTags, GetAcl, GetTags, Head, PutAcl, PutTags, Restore};
    let reads = matches!(asked.kind, GetTags | GetAcl);
    let writes = matches!(asked.kind, PutTags | DeleteTags | PutAcl);
    if !(reads || writes || matches!(asked.kind, Restore | Head)) {
        return None;
    }
    match nature {
        Nature::IgnoresSubresources | Nature::RestoresAsForm if asked.kind == Restore => {
            Some(refuse(400, "MalformedPOSTRequest", "The body of your POST request is not well-formed."))
        }
        Nature::IgnoresSubresources => ignore(objects, asked, true),
        Nature::IgnoresQuietly => {
            let mut answer = ignore(objects, asked, false)?;
            if reads && answer.status() == 200 {
                answer.headers_mut().insert("accept-ranges", HeaderValue::from_static("bytes"));
            }
            Some(answer)
        }
        Nature::DeniesHead | Nature::IgnoresBlindly if asked.kind == Head => Some(empty(403)),
        Nature::IgnoresSilently | Nature::IgnoresBlindly => ignore(objects, asked, false),
        Nature::WeakHeads if asked.kind == Head => {
            let object = objects.get(&asked.key).filter(|object| !object.gone && object.class.is_empty())?;
            let strong = etag(&object.body);
            *looks += 1;
            let weak = format!("W/{}", strong.to_str().expect("ASCII"));
            let mut answer = empty(200);
            let etag = HeaderValue::from_str(&weak).expect("a header");
            (*looks).is_multiple_of(2).then(|| answer.headers_mut().insert("etag", etag)).map(|_| answer)
        }
        Nature::Rewritten(key, times) if asked.kind == Head && asked.key == key.as_bytes() && *looks < times => {
            *looks += 1;
            objects.get_mut(&asked.key)?.body = format!("content {looks:09}").into();
            None
        }
        Nature::IgnoresInWrites if writes => ignore(objects, asked, true),
        Nature::StoresTagsAsObject => match asked.kind {
            GetTags => Some(xml("<Tagging><TagSet></TagSet></Tagging>")),
            PutTags | DeleteTags => ignore(objects, asked, true),
            GetAcl | PutAcl => Some(refuse(501, "NotImplemented", "no ACLs")),
            _ => None,
        },
        Nature::Refuses(status) if reads || writes || asked.kind == Restore => {
            let code = if status == 405 { "MethodNotAllowed" } else { "NotImplemented" };
            Some(refuse(status, code, "not here"))
        }
        Nature::RefusesWrites(status) if writes => Some(refuse(status, "NotImplemented", "not here")),
        Nature::DeniesReads if reads => Some(refuse(403, "AccessDenied", "Access Denied")),
        Nature::NoTagSet if matches!(asked.kind, GetTags | DeleteTags) => {
            let object = objects.get(&asked.key).filter(|object| !object.gone)?;
            object.tags.is_empty().then(|| refuse(404, "NoSuchTagSet", "The TagSet does not exist"))
        }
        Nature::KeepsNothing if writes => objects.contains_key(&asked.key).then(|| empty(200)),
        Nature::KeepsLater if reads => {
            *looks += 1;
            let none = match asked.kind {
                GetTags => "<Tagging><TagSet/></Tagging>",
                _ => return None,
            };
            (objects.contains_key(&asked.key) && *looks < 4).then(|| xml(none))
        }
        Nature::RestoresNothing if asked.kind == Restore => Some(empty(202)),
        Nature::RestoresAsObject if asked.kind == Restore => {
            objects.get_mut(&asked.key)?.body = asked.body.clone();
            Some(empty(202))
        }
        _ => None,
    }
}

/// Takes a request about a sub-resource for one about the object.
fn ignore(objects: &mut BTreeMap<Vec<u8>, Object>, asked: &Asked, tells: bool) -> Option<Answer> {
    let told = |mut answer: Answer, body: &Bytes| {
        if tells {
            answer.headers_mut().insert("etag", etag(body));
        }
        answer
    };
    match asked.kind {
        Kind::GetTags | Kind::GetAcl => {
            let Some(object) = objects.get(&asked.key) else {
                return Some(refuse(404, "NoSuchKey", "The specified key does not exist."));
            };
            let mut answer = told(Response::new(Full::new(object.body.clone())), &object.body);
            if tells {
                let headers = answer.headers_mut();
                headers.insert("last-modified", HeaderValue::from_static("Fri, 21 Dec 2012 00:00:00 GMT"));
                headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
            }
            Some(answer)
        }
        Kind::PutTags | Kind::PutAcl => {
            objects.entry(asked.key.clone()).or_default().body = asked.body.clone();
            Some(told(empty(200), &asked.body))
        }
        Kind::DeleteTags => {
            objects.remove(&asked.key);
            Some(empty(204))
        }
        _ => None,
    }
}
