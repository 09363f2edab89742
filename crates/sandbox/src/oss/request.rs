//! Parsing requests: method, bucket, key, parameters, and headers.

use std::net::Ipv4Addr;

use http::request::Parts;
use http::{HeaderMap, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::error::OssError;
use crate::state::RequestedObject;

/// The maximum length of a key, in bytes.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/object-naming-conventions>
const MAX_KEY: usize = 1023;
/// The characters that OSS encodes in a name: all but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The characters that OSS encodes in a path.
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// URL-encodes a name.
pub(super) fn url_encode(name: &str) -> String {
    percent_encode(name.as_bytes(), ENCODED).to_string()
}

/// A parsed request.
#[derive(Debug)]
pub(super) struct OssRequest {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// `None` for a request to the service.
    pub(super) bucket: Option<String>,
    /// `None` for a request to the service or a bucket.
    pub(super) key: Option<String>,
    /// Names and values, in the order of the request.
    pub(super) query: Vec<(String, String)>,
}

impl OssRequest {
    /// Parses the head of a request.
    pub(super) fn parse(parts: &Parts) -> Result<Self, OssError> {
        let host = request_host(parts);
        let path = url_decode(parts.uri.path()).ok_or_else(invalid_name)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = match bucket_in_host(host) {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        if key.len() > MAX_KEY {
            return Err(OssError::bad_request(
                "InvalidObjectName",
                "0016-00000401",
                "The Length of Object name must be less than 1024",
            ));
        }
        let some = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let query = parts.uri.query().map(parse_query).transpose()?.unwrap_or_default();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        Ok(Self { method, headers, bucket: some(bucket), key: some(key), query })
    }

    /// Returns the value of a parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether a parameter is present, with or without a value.
    pub(super) fn has_param(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// Returns the value of a parameter, unless it is empty.
    pub(super) fn non_empty_param(&self, name: &str) -> Option<&str> {
        self.param(name).filter(|value| !value.is_empty())
    }

    /// Rejects parameters with other names. Names that start with `x-oss-` are accepted: they belong to signatures or
    /// tracing.
    pub(super) fn allow_params(&self, names: &[&str]) -> Result<(), OssError> {
        let known = |name: &str| names.contains(&name) || name.starts_with("x-oss-");
        match self.query.iter().find(|(name, _)| !known(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("The sandbox does not support the parameter {name} here");
                Err(OssError { message: message.into(), ..OssError::not_implemented("") })
            }
        }
    }

    /// Returns the value of a header, if it consists of visible ASCII characters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the resource that is signed, regardless of the addressing style: `/`, `/bucket/`, or `/bucket/key`,
    /// URL-encoded.
    pub(super) fn canonical_path(&self) -> String {
        let Some(bucket) = &self.bucket else { return "/".to_owned() };
        let path = format!("/{bucket}/{}", self.key.as_deref().unwrap_or_default());
        percent_encode(path.as_bytes(), ENCODED_PATH).to_string()
    }

    /// Returns the bucket of the request, which is an error if there is none.
    pub(super) fn bucket(&self) -> Result<&str, OssError> {
        self.bucket.as_deref().ok_or_else(|| OssError::bad_request("InvalidBucketName", "0015-00000001", BAD_BUCKET))
    }

    /// Returns the object of the request, which is an error if there is none.
    pub(super) fn target(&self) -> Result<RequestedObject<'_>, OssError> {
        let key = self.key.as_deref().ok_or_else(invalid_name)?;
        if self.param("versionId") == Some("") {
            return Err(OssError::invalid_argument("The version id must not be empty."));
        }
        Ok(RequestedObject { bucket: self.bucket()?, key, version: self.param("versionId") })
    }
}

pub(super) const BAD_BUCKET: &str = "The specified bucket is not valid.";

fn invalid_name() -> OssError {
    OssError::bad_request("InvalidObjectName", "0016-00000402", "The specified object is not valid.")
}

/// Returns the host of a request, with its port.
pub(super) fn request_host(parts: &Parts) -> &str {
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
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !(digit(at + 1) && digit(at + 2))) {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::oss) fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> OssRequest {
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
}
