//! Uploads of whole objects, in parts if they are large. Reports are published this way.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::OssStore;
use crate::backoff::{Backoff, RetryPolicy};
use crate::object::{Bucket, Key};
use crate::store::Content;
use crate::store::wire::{Ask, Dialect, Limit, Payload, Whole};
use crate::store::xml;
use crate::task::{Fault, FaultClass};

/// The part size in bytes. Larger objects are uploaded in parts. OSS allows 10,000 parts, which makes 80 GB.
const PART: usize = 8 << 20;

/// The maximum number of attempts for one part.
const ATTEMPTS: u32 = 5;

/// The object that is written.
#[derive(Clone, Copy)]
struct Place<'a> {
    bucket: &'a Bucket,
    key: &'a Key,
}

impl OssStore {
    pub(super) async fn put(&self, bucket: &Bucket, key: &Key, content: Content, md5: &str) -> Result<(), Fault> {
        let place = Place { bucket, key };
        let mut source = match content {
            Content::Bytes(bytes) => Source::Bytes(bytes),
            Content::File(path) => self.file(place, &path).await?,
        };
        let first = self.next(place, &mut source).await?;
        if first.len() < PART {
            return self.put_whole(place, first, md5).await;
        }
        let upload = self.begin(place).await?;
        let sent = self.put_in_parts(place, &upload, first, source, md5).await;
        if sent.is_err() {
            // Otherwise the uploaded parts would incur storage costs until they are removed.
            let ask = request("DELETE", place, format!("uploadId={upload}"), Payload::none());
            let _ = self.send(&ask).await;
        }
        sent
    }

    async fn put_whole(&self, place: Place<'_>, content: Bytes, md5: &str) -> Result<(), Fault> {
        let ask = request("PUT", place, String::new(), Payload::content(content, md5, Dialect::Oss));
        self.send(&ask).await.map(drop)
    }

    /// Starts a multipart upload. Returns the upload ID, URL-encoded for a query.
    async fn begin(&self, place: Place<'_>) -> Result<String, Fault> {
        let ask = request("POST", place, "uploads".to_owned(), Payload::none());
        let whole = self.send_patiently(&ask).await?;
        let mut id = String::new();
        let read = xml::read(&whole.body, |path, text| {
            if path == "InitiateMultipartUploadResult/UploadId" {
                text.clone_into(&mut id);
            }
        });
        match read {
            Ok(()) if !id.is_empty() => Ok(Key::from(id.as_str()).encoded()),
            Ok(()) => Err(whole.unreadable("it names no upload", self.in_words(&ask))),
            Err(why) => Err(whole.unreadable(&why.to_string(), self.in_words(&ask))),
        }
    }

    async fn put_in_parts(
        &self,
        place: Place<'_>,
        upload: &str,
        first: Bytes,
        mut source: Source,
        md5: &str,
    ) -> Result<(), Fault> {
        let mut whole = Md5::new();
        let mut list = String::from("<CompleteMultipartUpload>");
        let (mut part, mut number) = (first, 1);
        while !part.is_empty() {
            whole.update(&part);
            let digest = STANDARD.encode(Md5::digest(&part));
            let query = format!("partNumber={number}&uploadId={upload}");
            let ask = request("PUT", place, query, Payload::content(part, &digest, Dialect::Oss));
            let answer = self.send_patiently(&ask).await?;
            let Some(etag) = answer.headers.get(http::header::ETAG).and_then(|etag| etag.to_str().ok()) else {
                return Err(answer.unreadable("it has no ETag", self.in_words(&ask)));
            };
            let etag = quick_xml::escape::escape(etag);
            list = format!("{list}<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
            part = self.next(place, &mut source).await?;
            number += 1;
        }
        list.push_str("</CompleteMultipartUpload>");
        let ask = request("POST", place, format!("uploadId={upload}"), Payload::xml(list, Dialect::Oss));
        if STANDARD.encode(whole.finalize()) != md5 {
            let why = "what was read to be sent is not what was meant: its MD5 is another one";
            return Err(Fault::unanswered(FaultClass::Rejected, "BadDigest", why, self.in_words(&ask)));
        }
        self.send(&ask).await.map(drop)
    }

    async fn send(&self, request: &Request<'_>) -> Result<Whole, Fault> {
        let Request { method, place: Place { bucket, key }, query, payload } = request;
        let (method, payload) = (*method, payload.clone());
        let ask = Ask { method, bucket, key: Some(key), query, headers: Vec::new(), payload };
        self.wire.patiently(ask, Limit::Small).await
    }

    /// Sends a request with retries, so that one failed part does not fail the whole upload. Only for requests that
    /// can be repeated.
    async fn send_patiently(&self, request: &Request<'_>) -> Result<Whole, Fault> {
        let mut backoff = Backoff::new(RetryPolicy { attempts: ATTEMPTS, ..RetryPolicy::default() });
        loop {
            let fault = match self.send(request).await {
                Ok(whole) => return Ok(whole),
                Err(fault) => fault,
            };
            match backoff.after_failure().filter(|_| fault.class.may_pass()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(fault),
            }
        }
    }

    fn in_words(&self, request: &Request<'_>) -> String {
        self.wire.site().request(request.method, request.place.bucket, request.place.key, &request.query)
    }

    async fn file(&self, place: Place<'_>, path: &Path) -> Result<Source, Fault> {
        let opened = File::open(path).await;
        opened.map(Source::File).map_err(|error| self.not_readable(place, &format!("{}: {error}", path.display())))
    }

    async fn next(&self, place: Place<'_>, source: &mut Source) -> Result<Bytes, Fault> {
        source.next().await.map_err(|error| self.not_readable(place, &error.to_string()))
    }

    fn not_readable(&self, place: Place<'_>, why: &str) -> Fault {
        let in_words = self.wire.site().request("PUT", place.bucket, place.key, "");
        Fault::unanswered(FaultClass::Rejected, "FileNotReadable", why, in_words)
    }
}

/// A request for the object that is written.
struct Request<'a> {
    method: &'static str,
    place: Place<'a>,
    query: String,
    payload: Payload,
}

fn request<'a>(method: &'static str, place: Place<'a>, query: String, payload: Payload) -> Request<'a> {
    Request { method, place, query, payload }
}

/// The content, read one part at a time.
enum Source {
    Bytes(Bytes),
    File(File),
}

impl Source {
    /// Reads the next part. An empty part marks the end.
    async fn next(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(rest) => {
                let next = rest.len().min(PART);
                Ok(rest.split_to(next))
            }
            Self::File(file) => {
                let mut part = Vec::new();
                file.take(PART as u64).read_to_end(&mut part).await?;
                Ok(part.into())
            }
        }
    }
}
