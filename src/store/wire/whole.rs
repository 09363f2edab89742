//! Reads and writes whole objects: manifests are read, and reports and job state are written.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, `API_PutObject.html`;
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/getobject>

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, RANGE};

use super::{Ask, Dialect, Limit, Payload, Wire};
use crate::object::{Bucket, Key};
use crate::store::{Content, Opened};
use crate::task::{Fault, FaultClass};

impl Wire {
    /// Opens an object for reading, optionally only if it still has the given `ETag`.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success.
    pub(in crate::store) async fn read(
        &self,
        bucket: &Bucket,
        key: &Key,
        if_match: Option<&str>,
    ) -> Result<Opened, Fault> {
        let (head, body) = self.open(get(bucket, key, if_match.and_then(condition).into_iter().collect())).await?;
        Ok(Opened {
            etag: text(&head.headers, ETAG).trim_matches('"').to_owned(),
            size: text(&head.headers, CONTENT_LENGTH).parse().unwrap_or(0),
            body: Box::new(body.into_read()),
        })
    }

    /// Resumes reading an object at byte `from`, if it still has this `ETag`.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not the requested part of that object.
    pub(in crate::store) async fn read_on(
        &self,
        bucket: &Bucket,
        key: &Key,
        etag: &str,
        from: u64,
    ) -> Result<Opened, Fault> {
        let mut headers: Vec<_> = condition(etag).into_iter().collect();
        headers.extend(HeaderValue::from_str(&format!("bytes={from}-")).ok().map(|range| (RANGE, range)));
        let (head, body) = self.open(get(bucket, key, headers)).await?;
        let found = text(&head.headers, ETAG).trim_matches('"');
        let starts = text(&head.headers, CONTENT_RANGE).starts_with(&format!("bytes {from}-"));
        if head.status.as_u16() != 206 || !starts || found != etag {
            let why = "the server sent something else than the rest of the object that was asked for";
            let in_words = self.site.request("GET", bucket, key, "");
            return Err(Fault::unanswered(FaultClass::Rejected, "UnreadableAnswer", why, in_words));
        }
        let size = text(&head.headers, CONTENT_LENGTH).parse().unwrap_or(0);
        Ok(Opened { etag: etag.to_owned(), size, body: Box::new(body.into_read()) })
    }

    /// Writes an object with one request, whatever its size.
    ///
    /// # Errors
    /// Returns a classified error for every response that is not a success.
    pub(in crate::store) async fn write(
        &self,
        bucket: &Bucket,
        key: &Key,
        content: Content,
        md5: &str,
    ) -> Result<(), Fault> {
        let payload = match content {
            Content::Bytes(bytes) => Payload::content(bytes, md5, Dialect::S3),
            Content::File(path) => Payload::file(&path, md5).await.map_err(|error| {
                let in_words = self.site.request("PUT", bucket, key, "");
                Fault::unanswered(FaultClass::Rejected, "FileNotReadable", &error.to_string(), in_words)
            })?,
        };
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
        let ask = Ask { method: "PUT", bucket, key: Some(key), query: "", headers, payload };
        self.patiently(ask, Limit::Small).await.map(drop)
    }
}

fn get<'a>(bucket: &'a Bucket, key: &'a Key, headers: Vec<(HeaderName, HeaderValue)>) -> Ask<'a> {
    Ask { method: "GET", bucket, key: Some(key), query: "", headers, payload: Payload::none() }
}

fn condition(etag: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_str(&format!("\"{etag}\"")).ok().map(|etag| (IF_MATCH, etag))
}

fn text(headers: &http::HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
