//! Carrying requests out: what S3 does and answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use batchplan_store::hex::hex;
use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use md5::{Digest as _, Md5};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use quick_xml::escape::{escape, unescape};

use super::asked::{Asked, Kind};
use super::nature;
use super::{Object, Shared};

pub(super) type Answer = Response<Full<Bytes>>;

impl Shared {
    /// Does what is asked, and says what came of it.
    pub(super) fn carry_out(&mut self, asked: &Asked) -> Answer {
        if asked.header("content-md5").is_some_and(|md5| md5 != BASE64.encode(Md5::digest(&asked.body))) {
            return refuse(400, "BadDigest", "The Content-MD5 you specified did not match what we received.");
        }
        let (page, conditional) = (self.page, self.conditional);
        let Some(objects) = self.buckets.get_mut(&asked.bucket) else {
            return refuse(404, "NoSuchBucket", "The specified bucket does not exist");
        };
        if let Some((left, nature)) = self.turns.as_mut().filter(|_| asked.kind.works() && asked.kind.writes()) {
            if *left == 0 {
                self.nature = *nature;
            } else {
                *left -= 1;
            }
        }
        let odd = nature::carry_out(self.nature, objects, asked, &mut self.looks);
        if let Some(odd) = odd {
            return odd;
        }
        match asked.kind {
            Kind::List => return list(objects, asked, page),
            Kind::Other => return refuse(501, "NotImplemented", "This server does not do that."),
            Kind::PutObject if conditional && asked.header("if-none-match").is_some() => {
                if objects.contains_key(&asked.key) {
                    return refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
                }
                return upload(objects, asked);
            }
            Kind::PutObject => return upload(objects, asked),
            Kind::DeleteObject if conditional => {
                objects.remove(&asked.key);
                return empty(204);
            }
            _ => {}
        }
        match objects.get_mut(&asked.key).filter(|object| !object.gone) {
            Some(object) => object.carry_out(asked),
            None => refuse(404, "NoSuchKey", "The specified key does not exist."),
        }
    }
}

impl Object {
    fn carry_out(&mut self, asked: &Asked) -> Answer {
        match asked.kind {
            Kind::GetTags => xml(&tagging(&self.tags)),
            Kind::PutTags => match tags(&asked.body) {
                Some(tags) => {
                    self.tags = tags;
                    empty(200)
                }
                None => refuse(400, "MalformedXML", "The XML you provided was not well-formed"),
            },
            Kind::DeleteTags => {
                self.tags.clear();
                empty(204)
            }
            Kind::GetAcl => xml(&grants(&self.acl)),
            Kind::PutAcl => match asked.header("x-amz-acl") {
                Some(acl) => {
                    acl.clone_into(&mut self.acl);
                    empty(200)
                }
                None => refuse(501, "NotImplemented", "This server knows canned ACLs alone."),
            },
            Kind::Restore => self.restore(asked),
            Kind::Head => self.looked_at(),
            Kind::GetObject => self.read(asked),
            Kind::List | Kind::PutObject | Kind::DeleteObject | Kind::Other => {
                refuse(501, "NotImplemented", "No request about an object.")
            }
        }
    }

    fn restore(&mut self, asked: &Asked) -> Answer {
        if self.restoring.is_some() {
            return refuse(409, "RestoreAlreadyInProgress", "Object restore is already in progress");
        }
        let days = between(&String::from_utf8_lossy(&asked.body), "Days").and_then(|days| days.parse().ok());
        match days {
            // <https://github.com/s3tools/s3cmd/issues/1377>
            Some(_) if self.class == "INTELLIGENT_TIERING" => refuse(
                400,
                "InvalidArgument",
                "INTELLIGENT_TIERING objects are not subject to restore expiry. Do not specify Days when restoring this \
                 object",
            ),
            None if self.class == "INTELLIGENT_TIERING" && self.archive_status.is_empty() => {
                refuse(403, "ObjectAlreadyInActiveTierError", "Restore action is not allowed against this storage tier")
            }
            None if self.class != "INTELLIGENT_TIERING" => {
                refuse(400, "MalformedXML", "The XML you provided was not well-formed")
            }
            days => {
                self.restoring = Some(days.unwrap_or(0));
                empty(202)
            }
        }
    }

    fn read(&self, asked: &Asked) -> Answer {
        let etag = etag(&self.body);
        if asked.headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
            return refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
        }
        let mut response = self.described(Response::new(Full::new(self.body.clone())));
        response.headers_mut().insert("etag", etag);
        response
    }

    /// The answer to HEAD.
    fn looked_at(&self) -> Answer {
        let mut response = self.described(empty(200));
        response.headers_mut().insert("etag", etag(&self.body));
        response.headers_mut().insert("content-length", HeaderValue::from(self.body.len()));
        response
    }

    /// The headers that tell of the object; S3 leaves the class out where it is STANDARD.
    fn described(&self, mut response: Answer) -> Answer {
        let headers = response.headers_mut();
        if !self.class.is_empty() {
            headers.insert("x-amz-storage-class", HeaderValue::from_str(&self.class).expect("a class"));
        }
        if !self.archive_status.is_empty() {
            let status = HeaderValue::from_str(&self.archive_status).expect("a tier");
            headers.insert("x-amz-archive-status", status);
        }
        if self.restoring.is_some() {
            headers.insert("x-amz-restore", HeaderValue::from_static(r#"ongoing-request="true""#));
        }
        response
    }
}

/// A content's `ETag`, in its quotes.
pub(super) fn etag(body: &[u8]) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", hex(&Md5::digest(body)))).expect("hexadecimal")
}

fn upload(objects: &mut BTreeMap<Vec<u8>, Object>, asked: &Asked) -> Answer {
    let object = Object { body: asked.body.clone(), uploaded: true, ..Object::default() };
    objects.insert(asked.key.clone(), object);
    let mut response = empty(200);
    response.headers_mut().insert("etag", etag(&asked.body));
    response
}

/// `ListObjectsV2`, keys in URL encoding; the continuation token is the last key of the page before, encoded.
fn list(objects: &BTreeMap<Vec<u8>, Object>, asked: &Asked, page: usize) -> Answer {
    if asked.query.contains_key("delimiter") || asked.query.get("encoding-type").map(String::as_str) != Some("url") {
        return refuse(501, "NotImplemented", "This server lists flat and in URL encoding alone.");
    }
    let prefix = asked.query.get("prefix").map_or(&[][..], |prefix| prefix.as_bytes());
    let after =
        asked.query.get("continuation-token").map(|token| percent_encoding::percent_decode_str(token).collect());
    let from = after.map_or(Bound::Included(prefix.to_vec()), Bound::<Vec<u8>>::Excluded);
    let mut found = objects.range((from, Bound::Unbounded)).filter(|(key, _)| key.starts_with(prefix));
    let mut text = String::new();
    let mut last = String::new();
    for (key, object) in found.by_ref().take(page) {
        last = percent_encode(key, NON_ALPHANUMERIC).to_string();
        let class = if object.class.is_empty() { "STANDARD" } else { &object.class };
        let _ = write!(
            text,
            "<Contents><Key>{last}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><Size>{}</Size>\
             <StorageClass>{class}</StorageClass></Contents>",
            object.body.len()
        );
    }
    let more = found.next().is_some();
    let next = if more { format!("<NextContinuationToken>{last}</NextContinuationToken>") } else { String::new() };
    xml(&format!(
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{next}{text}\
         </ListBucketResult>"
    ))
}

/// The tags of a `Tagging` document.
fn tags(document: &[u8]) -> Option<BTreeMap<String, String>> {
    let text = std::str::from_utf8(document).ok()?;
    let plain = |text: &str| Some(unescape(text).ok()?.into_owned());
    let tags = text.split("<Tag>").skip(1);
    tags.map(|tag| Some((plain(between(tag, "Key")?)?, plain(between(tag, "Value").unwrap_or_default())?))).collect()
}

/// What stands between an element's two ends.
fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn tagging(tags: &BTreeMap<String, String>) -> String {
    let tag = |(key, value): (&String, &String)| {
        format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(key.as_str()), escape(value.as_str()))
    };
    format!("<Tagging><TagSet>{}</TagSet></Tagging>", tags.iter().map(tag).collect::<String>())
}

/// The grants that a canned ACL stands for.
fn grants(acl: &str) -> String {
    let grant = |grantee: &str, permission: &str| {
        format!(
            "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" {grantee}</Grantee>\
             <Permission>{permission}</Permission></Grant>"
        )
    };
    let everyone = "xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>";
    let mut grants = grant("xsi:type=\"CanonicalUser\"><ID>owner</ID>", "FULL_CONTROL");
    if acl.starts_with("public-read") {
        grants += &grant(everyone, "READ");
    }
    if acl == "public-read-write" {
        grants += &grant(everyone, "WRITE");
    }
    format!(
        "<AccessControlPolicy><Owner><ID>owner</ID></Owner><AccessControlList>{grants}</AccessControlList>\
         </AccessControlPolicy>"
    )
}

pub(super) fn empty(status: u16) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response
}

pub(super) fn xml(document: &str) -> Answer {
    let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}");
    let mut response = Response::new(Full::from(declared));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
    response
}

/// An error, as S3 words it.
pub(super) fn refuse(status: u16, code: &str, message: &str) -> Answer {
    let mut response = xml(&format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"));
    *response.status_mut() = empty(status).status();
    response
}
