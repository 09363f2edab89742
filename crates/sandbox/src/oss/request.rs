//! Requests: method, bucket, key, parameters, and headers; their bodies; and the XML documents in them.
//!
//! The source of the detailed error codes (`0016-00000401`) is at [`OssError`].

use std::borrow::Cow;
use std::error::Error;
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

use super::response::OssError;
use crate::access::{CannedAcl, OwnerId};
use crate::blobs::WrittenBlob;
use crate::model::Md5Digest;
use crate::state::{RequestedObject, SandboxRequestError};
use crate::store::Sandbox;
use crate::tags::{SharedTags, TagList, check_for_oss};

/// The maximum length of a key, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/object-naming-conventions>
const MAX_KEY_BYTES: usize = 1023;

/// The maximum size of a request's body: 5 GB. <https://www.alibabacloud.com/help/en/oss/developer-reference/putobject>
const MAX_BODY_BYTES: u64 = 5 << 30;

/// The maximum length of a document, in bytes. A list of ten thousand parts fits.
const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// The maximum depth of a document, so that none can nest without limit. Documents that OSS accepts are half as deep.
const MAX_DEPTH: usize = 8;

/// The maximum number of elements in a document. An upload with ten thousand parts has three for each part.
const MAX_ELEMENTS: usize = 40_000;

/// The characters that OSS encodes in a name: all but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The characters that OSS encodes in a path.
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// A parsed request.
#[derive(Debug)]
pub(crate) struct OssRequest {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// `None` for a request to the service.
    pub(crate) bucket: Option<String>,
    /// `None` for a request to the service or a bucket.
    pub(crate) key: Option<String>,
    /// Names and values, in the order of the request.
    pub(crate) query: Vec<(String, String)>,
    /// Who signed the request, once its signature is verified.
    pub(crate) requester: OwnerId,
}

impl OssRequest {
    /// Parses the head of a request.
    pub(crate) fn parse(parts: &Parts) -> Result<Self, OssError> {
        let host = request_host(parts);
        let path = url_decode(parts.uri.path()).ok_or_else(invalid_name)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = match bucket_in_host(host) {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(OssError::bad_request(
                "InvalidObjectName",
                "0016-00000401",
                "The Length of Object name must be less than 1024",
            ));
        }
        let non_empty = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let query = parts.uri.query().map(parse_query).transpose()?.unwrap_or_default();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let (bucket, key, requester) = (non_empty(bucket), non_empty(key), OwnerId::ANONYMOUS);
        Ok(Self { method, headers, bucket, key, query, requester })
    }

    /// Returns the value of a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether a parameter is present, with or without a value.
    pub(crate) fn has_param(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// Returns the value of a parameter, unless it is empty.
    pub(crate) fn non_empty_param(&self, name: &str) -> Option<&str> {
        self.param(name).filter(|value| !value.is_empty())
    }

    /// Returns whether names in the response must be URL-encoded.
    pub(crate) fn wants_url_encoding(&self) -> bool {
        self.param("encoding-type") == Some("url")
    }

    /// Returns a name as the response must contain it.
    pub(crate) fn encode_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.wants_url_encoding() { url_encode(name).into() } else { name.into() }
    }

    /// Rejects parameters with other names. Names that start with `x-oss-` are accepted: they belong to signatures or
    /// tracing.
    pub(crate) fn allow_params(&self, names: &[&str]) -> Result<(), OssError> {
        let is_allowed = |name: &str| names.contains(&name) || name.starts_with("x-oss-");
        match self.query.iter().find(|(name, _)| !is_allowed(name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(OssError::not_implemented(format!("The sandbox does not support the parameter {name} here")))
            }
        }
    }

    /// Returns the value of a header, if it consists of visible ASCII characters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the resource that is signed, regardless of the addressing style: `/`, `/bucket/`, or `/bucket/key`,
    /// URL-encoded.
    pub(crate) fn canonical_path(&self) -> String {
        let Some(bucket) = &self.bucket else { return "/".to_owned() };
        let path = format!("/{bucket}/{}", self.key.as_deref().unwrap_or_default());
        percent_encode(path.as_bytes(), ENCODED_PATH).to_string()
    }

    /// Returns the bucket of the request, or an error if it has none.
    pub(crate) fn bucket(&self) -> Result<&str, OssError> {
        self.bucket.as_deref().ok_or_else(OssError::invalid_bucket_name)
    }

    /// Returns the object of the request, or an error if it has none.
    pub(crate) fn target(&self) -> Result<RequestedObject<'_>, OssError> {
        let key = self.key.as_deref().ok_or_else(invalid_name)?;
        if self.param("versionId") == Some("") {
            return Err(OssError::invalid_argument("The version id must not be empty."));
        }
        Ok(RequestedObject { bucket: self.bucket()?, key, version: self.param("versionId") })
    }
}

fn invalid_name() -> OssError {
    OssError::bad_request("InvalidObjectName", "0016-00000402", "The specified object is not valid.")
}

/// Returns the host of a request, with its port.
pub(crate) fn request_host(parts: &Parts) -> &str {
    let named = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default()
}

/// Returns the bucket in the first label of a host. IP addresses, single labels, and OSS's own endpoints contain no
/// bucket.
fn bucket_in_host(host: &str) -> Option<&str> {
    let name = host.split(':').next()?;
    if name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok() {
        return None;
    }
    let (label, rest) = name.split_once('.')?;
    (!label.is_empty() && !rest.is_empty() && rest != "aliyuncs.com").then_some(label)
}

/// Decodes `%XX`. Returns `None` if a `%` is not followed by two hexadecimal digits, or the result is not UTF-8.
fn url_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !(is_digit(at + 1) && is_digit(at + 2))) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, OssError> {
    let decode = |text: &str| {
        url_decode(&text.replace('+', "%20"))
            .ok_or_else(|| OssError::invalid_argument("The query is not URL-encoded UTF-8."))
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// URL-encodes a name.
pub(crate) fn url_encode(name: &str) -> String {
    percent_encode(name.as_bytes(), ENCODED).to_string()
}

/// Parses an ACL of OSS. For a bucket, the caller rejects `default`.
pub(crate) fn parse_acl(name: &str) -> Result<CannedAcl, OssError> {
    let known = CannedAcl::parse(name).filter(|acl| *acl != CannedAcl::AuthenticatedRead);
    known.ok_or_else(OssError::unknown_acl)
}

/// Parses `Tag` elements, and checks the tags against OSS's rules.
pub(crate) fn parse_tags<'e>(elements: impl Iterator<Item = &'e RequestElement>) -> Result<SharedTags, OssError> {
    let pairs = elements.map(|tag| {
        tag.check_children(&["Key", "Value"])?;
        let key = tag.child_text("Key")?.ok_or_else(OssError::malformed_xml)?;
        let value = tag.child_text("Value")?.unwrap_or_default();
        Ok((key.into(), value.into()))
    });
    Ok(check_for_oss(pairs.collect::<Result<TagList, OssError>>()?)?)
}

/// The body of a request.
pub(crate) trait OssRequestBody: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin {}

impl<B: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin> OssRequestBody for B {}

/// Receives the content of an object. Also returns its CRC-64, which OSS returns to the client.
pub(crate) async fn receive_object(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    mut body: impl OssRequestBody,
) -> Result<(WrittenBlob, u64), OssError> {
    let expected_md5 = content_md5(headers)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        OssError::bad_request(
            "EntityTooLarge",
            "0017-00000002",
            "Your proposed upload exceeds the maximum allowed size.",
        )
    };
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let mut crc = Digest::new(CrcAlgorithm::Crc64Xz);
    let mut writer = sandbox.blob_writer();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| OssError::incomplete_body(&error))?.into_data() else { continue };
        crc.update(&chunk);
        writer.write(&chunk).map_err(SandboxRequestError::Storage)?;
        if writer.size() > MAX_BODY_BYTES {
            return Err(too_large());
        }
    }
    let blob = writer.finish();
    if expected_md5.is_some_and(|expected| expected != blob.md5) {
        sandbox.discard_blob(&blob.body);
        return Err(md5_mismatch());
    }
    Ok((blob, crc.finalize()))
}

/// Receives a document.
pub(crate) async fn receive_document(headers: &HeaderMap, body: impl OssRequestBody) -> Result<Bytes, OssError> {
    let expected_md5 = content_md5(headers)?;
    let collected = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await;
    let document = collected.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            OssError::bad_request("MaxMessageLengthExceeded", "0017-00000001", "Your request was too big.")
        } else {
            OssError::incomplete_body(&error)
        }
    })?;
    let document = document.to_bytes();
    if expected_md5.is_some_and(|expected| expected != Md5Digest::from(Md5::digest(&document))) {
        return Err(md5_mismatch());
    }
    Ok(document)
}

/// Returns the MD5 in a request's headers.
fn content_md5(headers: &HeaderMap) -> Result<Option<Md5Digest>, OssError> {
    let Some(header) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(header).ok().and_then(|digest| digest.try_into().ok());
    let invalid =
        || OssError::bad_request("InvalidDigest", "0017-00000503", "The Content-MD5 you specified is not valid.");
    digest.map(Some).ok_or_else(invalid)
}

fn md5_mismatch() -> OssError {
    OssError::bad_request(
        "InvalidDigest",
        "0017-00000504",
        "The Content-MD5 you specified did not match what we received.",
    )
}

/// One element of a parsed document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestElement {
    pub(crate) name: String,
    /// The text of the element, without the text of its children.
    text: String,
    pub(crate) children: Vec<RequestElement>,
}

impl RequestElement {
    /// Parses a document whose root element has this name.
    pub(crate) fn parse(document: &[u8], root: &str) -> Result<Self, OssError> {
        parse_document(document).filter(|element| element.name == root).ok_or_else(OssError::malformed_xml)
    }

    /// Returns the only child with this name. More than one is an error.
    pub(crate) fn child(&self, name: &str) -> Result<Option<&Self>, OssError> {
        let mut matching = self.children.iter().filter(|child| child.name == name);
        let child = matching.next();
        if matching.next().is_some() { Err(OssError::malformed_xml()) } else { Ok(child) }
    }

    /// Returns the children with this name.
    pub(crate) fn children_named(&self, name: &'static str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Returns the text of the only child with this name.
    pub(crate) fn child_text(&self, name: &str) -> Result<Option<&str>, OssError> {
        Ok(self.child(name)?.map(|child| child.text.as_str()))
    }

    /// Rejects children with other names.
    pub(crate) fn check_children(&self, names: &[&str]) -> Result<(), OssError> {
        let known = self.children.iter().all(|child| names.contains(&child.name.as_str()));
        if known { Ok(()) } else { Err(OssError::malformed_xml()) }
    }
}

/// Parses a document. Returns `None` if it is not well-formed, is too large, or has a document type declaration: OSS
/// accepts none, and its entities could expand without limit.
fn parse_document(bytes: &[u8]) -> Option<RequestElement> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader::from_str(text);
    // The elements that are not closed yet. The first one is the document itself: the parent of the root.
    let mut open: Vec<RequestElement> = vec![RequestElement::default()];
    let mut elements = 0;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                elements += 1;
                if open.len() > MAX_DEPTH || elements > MAX_ELEMENTS {
                    return None;
                }
                open.push(named_element(start.local_name().as_ref())?);
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return None;
                }
                open.last_mut()?.children.push(named_element(start.local_name().as_ref())?);
            }
            Event::End(_) => {
                let closed = open.pop()?;
                open.last_mut()?.children.push(closed);
            }
            Event::Text(text) => open.last_mut()?.text.push_str(&text.xml10_content().ok()?),
            Event::CData(text) => open.last_mut()?.text.push_str(&text.xml10_content().ok()?),
            Event::GeneralRef(reference) => resolve_reference(&reference, &mut open.last_mut()?.text)?,
            Event::DocType(_) => return None,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let document = open.pop()?;
    let has_open_elements = !open.is_empty();
    let has_text = !document.text.trim_matches(['\u{feff}', ' ', '\n', '\r', '\t']).is_empty();
    if has_open_elements || has_text {
        return None;
    }
    let [root] = <[RequestElement; 1]>::try_from(document.children).ok()?;
    Some(root)
}

fn named_element(name: &[u8]) -> Option<RequestElement> {
    Some(RequestElement { name: std::str::from_utf8(name).ok()?.to_owned(), ..RequestElement::default() })
}

fn resolve_reference(reference: &BytesRef<'_>, into: &mut String) -> Option<()> {
    match reference.resolve_char_ref().ok()? {
        Some(character) => into.push(character),
        None => into.push_str(resolve_predefined_entity(&reference.decode().ok()?)?),
    }
    Some(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::response::ResponseDocument;
    use super::*;

    pub(crate) fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> OssRequest {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        OssRequest::parse(&request.body(()).unwrap().into_parts().0).unwrap()
    }

    fn place(host: &str, path: &str) -> (Option<String>, Option<String>) {
        let request = request(Method::GET, path, &[("host", host)]);
        (request.bucket, request.key)
    }

    fn some(bucket: &str, key: &str) -> (Option<String>, Option<String>) {
        (Some(bucket.to_owned()), Some(key.to_owned()))
    }

    #[test]
    fn buckets_are_found_in_the_path_and_in_the_host() {
        for host in ["127.0.0.1:80", "[::1]:80", "localhost", "oss-cn-hangzhou.aliyuncs.com", ""] {
            assert_eq!(place(host, "/b/k/l"), some("b", "k/l"), "{host}");
            assert_eq!(place(host, "/"), (None, None), "{host}");
            assert_eq!(place(host, "/b"), (Some("b".to_owned()), None), "{host}");
            assert_eq!(place(host, "/b/"), (Some("b".to_owned()), None), "{host}");
        }
        for host in ["b.localhost:80", "b.oss-cn-hangzhou.aliyuncs.com"] {
            assert_eq!(place(host, "/k/l"), some("b", "k/l"), "{host}");
            assert_eq!(place(host, "//"), some("b", "/"), "{host}");
            assert_eq!(place(host, "/"), (Some("b".to_owned()), None), "{host}");
        }
    }

    #[test]
    fn keys_arrive_exactly_and_are_signed_as_they_are() {
        let keyed = |path: &str| {
            let request = request(Method::GET, path, &[]);
            (request.key.clone().unwrap(), request.canonical_path())
        };
        assert_eq!(keyed("/b/a+b%20c%2Fd%25"), ("a+b c/d%".to_owned(), "/b/a%2Bb%20c/d%25".to_owned()));
        assert_eq!(keyed("/b//%C3%A9%0A"), ("/é\n".to_owned(), "/b//%C3%A9%0A".to_owned()));
        let refused = |uri: String| {
            let parts = http::Request::builder().uri(uri).body(()).unwrap().into_parts().0;
            OssRequest::parse(&parts).unwrap_err().code
        };
        assert_eq!(refused("/b/%FF".to_owned()), "InvalidObjectName");
        assert_eq!(refused("/b/%2".to_owned()), "InvalidObjectName");
        assert_eq!(refused(format!("/b/{}", "k".repeat(1024))), "InvalidObjectName");
        assert_eq!(refused("/b/k?a=%zz".to_owned()), "InvalidArgument");
        assert_eq!(keyed(&format!("/b/{}", "k".repeat(1023))).0.len(), 1023);
    }

    #[test]
    fn parameters_are_decoded_and_unknown_ones_are_not_overlooked() {
        let request = request(Method::GET, "/b/k?acl&prefix=a+b%2Bc&x-oss-date=1&empty=", &[]);
        assert!(request.has_param("acl") && !request.has_param("tagging"));
        assert_eq!(request.param("prefix"), Some("a b+c"));
        assert_eq!(request.non_empty_param("empty"), None);
        assert!(request.allow_params(&["acl", "prefix", "empty"]).is_ok());
        assert_eq!(request.allow_params(&["acl", "prefix"]).unwrap_err().status, 501);
    }

    #[test]
    fn documents_are_read_with_their_references() {
        let tag = parse_document(
            b"<?xml version='1.0'?>\n<Tag a='b'><Key>a&amp;&#x62;&lt;<![CDATA[<c>]]></Key><Value/></Tag>\n",
        );
        let tag = tag.unwrap();
        assert_eq!(tag.child_text("Key").unwrap(), Some("a&b<<c>"));
        assert_eq!(tag.child_text("Value").unwrap(), Some(""));
        assert_eq!(tag.child_text("Other").unwrap(), None);
        assert!(tag.check_children(&["Key", "Value"]).is_ok() && tag.check_children(&["Key"]).is_err());
        assert!(parse_document(b"<a><b/><b/></a>").unwrap().child("b").is_err());
    }

    #[test]
    fn rejects_malformed_documents_and_entity_bombs() {
        let deep = format!("{}{}", "<a>".repeat(20), "</a>".repeat(20));
        let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        for document in ["", "text", "<a>", "<a></b>", "<a/><b/>", "<a/>text", "<a>&unknown;</a>", &deep, &wide, bomb] {
            assert_eq!(parse_document(document.as_bytes()), None, "{document:.60}");
        }
        assert_eq!(parse_document(b"<a>\xff</a>"), None);
    }

    #[test]
    fn reads_back_what_was_written() {
        let text = "a<b>&\"c'\r\n\t\u{1}é";
        let document = ResponseDocument::new("A", |to| to.write_text("B", text)).into_text();
        assert_eq!(parse_document(document.as_bytes()).unwrap().child_text("B").unwrap(), Some(text));
    }
}
