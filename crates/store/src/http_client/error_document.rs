//! Error responses: the error document and the headers.

use http::HeaderMap;
use jiff::fmt::rfc2822;

use super::dialect::StoreDialect;
use super::response::{RejectedResponse, SigningContext, is_signing_code, object_headers};
use crate::fault::ErrorResponse;
use crate::task::StoreError;
use crate::xml;

/// The elements of an error document that are used.
#[derive(Default)]
pub(super) struct ErrorDocument {
    code: String,
    message: String,
    request_id: String,
    ec: String,
    endpoint: String,
    region: String,
    server_time: String,
}

impl ErrorDocument {
    /// Reads as much as possible from a body that may be truncated or not a document at all.
    pub(super) fn parse(body: &[u8], signed: &SigningContext) -> Self {
        let mut document = Self::default();
        // Everything before a parse error is kept.
        let _ = xml::read(body, |path, text| {
            let to = match path {
                "Error/Code" => &mut document.code,
                "Error/Message" => &mut document.message,
                "Error/RequestId" => &mut document.request_id,
                "Error/EC" => &mut document.ec,
                "Error/Endpoint" => &mut document.endpoint,
                "Error/Region" => &mut document.region,
                "Error/ServerTime" => &mut document.server_time,
                _ => return,
            };
            // The first value is kept, so that a value repeated in one document is scanned for secrets only once.
            if to.is_empty() {
                *to = signed.redact(text);
            }
        });
        document
    }

    /// Builds the rejection from the document, the status and the headers.
    pub(super) fn into_rejection(
        mut self,
        status: u16,
        headers: &HeaderMap,
        dialect: StoreDialect,
        signed: &SigningContext,
        in_words: String,
    ) -> RejectedResponse {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        for (said, header) in [
            (&mut self.request_id, dialect.headers().request_id),
            (&mut self.ec, "x-oss-ec"),
            (&mut self.region, "x-amz-bucket-region"),
        ] {
            if said.is_empty() {
                *said = signed.redact(text(header));
            }
        }
        if (300..400).contains(&status) && self.endpoint.is_empty() {
            self.endpoint = signed.redact(text("location"));
        }
        let message = self.message_with_location(status);
        let refusal = ErrorResponse {
            status,
            code: Some(&self.code),
            message: Some(&message),
            request_id: &self.request_id,
            ec: &self.ec,
            retry_after: headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()),
        };
        let date = rfc2822::parse(text("date")).ok().map(|date| date.timestamp());
        // A response that rejects the time contains the server's time, even without a `Date` header.
        let date = date.or_else(|| self.server_time.trim().parse().ok());
        let fault = StoreError { headers: object_headers(headers), ..refusal.into_error(in_words) };
        RejectedResponse { error: fault, server_time: date, has_code: !self.code.is_empty() }
    }

    /// Returns the message, with the location of the bucket if the server reports that it is elsewhere.
    fn message_with_location(&self, status: u16) -> String {
        if is_signing_code(&self.code) && !self.region.is_empty() {
            let said = format!("{} (the server expects the region {})", self.message, self.region);
            return said.trim_start().to_owned();
        }
        let elsewhere = (300..400).contains(&status) || !self.endpoint.is_empty();
        if !elsewhere {
            return self.message.clone();
        }
        let mut message = match self.message.trim_end_matches('.') {
            "" => "the bucket is at another endpoint".to_owned(),
            said => said.to_owned(),
        };
        for (what, place) in [("endpoint", &self.endpoint), ("region", &self.region)] {
            if !place.is_empty() {
                message = format!("{message}; {what} {place}");
            }
        }
        format!("{message}; nothing was sent there: set `endpoint` and `region` in [store]")
    }
}

/// Returns whether a body is an error document, by its root element.
pub(super) fn is_error_document(body: &[u8]) -> bool {
    let mut rest = body.trim_ascii_start();
    if rest.starts_with(b"<?xml") {
        let end = rest.windows(2).position(|window| window == b"?>").map_or(rest.len(), |start| start + 2);
        rest = rest[end..].trim_ascii_start();
    }
    let root = rest.strip_prefix(b"<Error").and_then(<[u8]>::first);
    root.is_some_and(|next| *next == b'>' || next.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_credential_types::Credentials;
    use jiff::Timestamp;

    use super::*;
    use crate::http_client::SigningCredentials;
    use crate::task::FaultClass;

    fn refused(status: u16, headers: &[(&'static str, &str)], document: &str) -> StoreError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let read = ErrorDocument::parse(document.as_bytes(), &signed());
        read.into_rejection(status, &map, StoreDialect::Oss, &signed(), "GET x".to_owned()).error
    }

    fn signed() -> SigningContext {
        let token = Some("T".repeat(2000));
        let credentials = Credentials::new("key", "hush", token, None, "test");
        SigningContext { credentials: Arc::new(SigningCredentials::new(credentials)), signed_at: Timestamp::now() }
    }

    #[test]
    fn secrets_are_hidden_wherever_a_server_repeats_them_and_before_anything_is_cut() {
        let token = "T".repeat(2000);
        let document = format!(
            "<Error><Code>hush</Code><Message>{}{token}</Message><RequestId>{token}</RequestId><EC>hush!</EC></Error>",
            "m".repeat(1000)
        );
        let fault = refused(403, &[], &document);
        assert_eq!(fault.message, format!("{}[hidden]", "m".repeat(1000)));
        assert_eq!(
            (fault.code.as_str(), fault.request_id.as_str(), fault.ec.as_str()),
            ("[hidden]", "[hidden]", "[hidden]!")
        );
        let (encoded, referred) = ("%54".repeat(1000), "&amp;#x54;".repeat(1000));
        let document = format!("<Error><Code>X</Code><Message>{encoded} {referred}</Message></Error>");
        assert_eq!(refused(403, &[], &document).message, "[hidden]");
        let header = refused(403, &[("x-oss-request-id", &token), ("x-oss-ec", "hush")], "");
        assert_eq!((header.request_id.as_str(), header.ec.as_str()), ("[hidden]", "[hidden]"));
    }

    #[test]
    fn an_error_is_told_from_an_answer_by_its_root() {
        for error in ["<Error><Code/></Error>", " <?xml version=\"1.0\"?>\n<Error xmlns=\"x\">", "<Error\n>"] {
            assert!(is_error_document(error.as_bytes()), "{error}");
        }
        for answer in ["", "<Errors/>", "<Tagging><Error>x</Error></Tagging>", "<?xml", "Error", "<Error"] {
            assert!(!is_error_document(answer.as_bytes()), "{answer}");
        }
    }

    #[test]
    fn the_servers_own_words_are_kept() {
        let document = "<Error><Code>AccessDenied</Code><Message>No right.</Message><RequestId>R1</RequestId>\
                        <HostId>h</HostId><EC>0003-00000001</EC></Error>";
        let fault = refused(403, &[("x-oss-request-id", "R2")], document);
        assert_eq!((fault.code.as_str(), fault.message.as_str()), ("AccessDenied", "No right."));
        assert_eq!((fault.request_id.as_str(), fault.ec.as_str()), ("R1", "0003-00000001"));
        let bare = refused(403, &[("x-oss-request-id", "R2"), ("x-oss-ec", "0003-1"), ("retry-after", "3")], "");
        assert_eq!((bare.code.as_str(), bare.request_id.as_str(), bare.ec.as_str()), ("AccessDenied", "R2", "0003-1"));
        assert_eq!(bare.retry_after.map(std::num::NonZeroU16::get), Some(3));
    }

    #[test]
    fn a_cut_or_hostile_document_gives_what_came_before_the_fault() {
        let cut = refused(400, &[], "<Error><Code>InvalidArgument</Code><Mess");
        assert_eq!((cut.code.as_str(), cut.message.as_str()), ("InvalidArgument", "the server gave no message"));
        let bomb = refused(400, &[], "<!DOCTYPE x [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>");
        assert_eq!(bomb.code, "BadRequest");
    }

    #[test]
    fn a_region_that_is_wrong_is_no_fault_of_the_object_and_the_right_one_is_told() {
        let document = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region is wrong.</Message>\
                        <Region>eu-west-1</Region></Error>";
        let fault = refused(400, &[], document);
        assert_eq!(fault.class, FaultClass::Credentials);
        assert_eq!(fault.message, "The region is wrong. (the server expects the region eu-west-1)");
    }

    #[test]
    fn the_servers_time_is_in_the_header_or_in_the_document() {
        let date = |headers: &[(&'static str, &str)], time: &str| {
            let document = format!("<Error><Code>RequestTimeTooSkewed</Code><ServerTime>{time}</ServerTime></Error>");
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().expect("a value"));
            }
            let read = ErrorDocument::parse(document.as_bytes(), &signed());
            let date = read.into_rejection(403, &map, StoreDialect::Oss, &signed(), String::new()).server_time;
            date.map(|date| date.to_string())
        };
        let header = ("date", "Fri, 21 Dec 2012 00:00:00 GMT");
        assert_eq!(date(&[header], "2024-01-01T00:00:00.000Z").as_deref(), Some("2012-12-21T00:00:00Z"));
        assert_eq!(date(&[], "2024-01-01T00:00:00.000Z").as_deref(), Some("2024-01-01T00:00:00Z"));
        for none in ["", "soon", "9999999-01-01T00:00:00Z", "-1"] {
            assert_eq!(date(&[], none), None, "{none}");
        }
    }

    #[test]
    fn a_redirect_says_where_the_bucket_is_and_that_nothing_went_there() {
        let document = "<Error><Code>PermanentRedirect</Code><Message>Use the endpoint.</Message>\
                        <Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>";
        let fault = refused(301, &[("x-amz-bucket-region", "eu-west-1")], document);
        assert_eq!(fault.class, FaultClass::Rejected);
        assert_eq!(
            fault.message,
            "Use the endpoint; endpoint b.s3.eu-west-1.amazonaws.com; region eu-west-1; nothing was sent there: set \
             `endpoint` and `region` in [store]"
        );
        let bare = refused(302, &[("location", "http://evil.example/")], "");
        assert!(bare.message.contains("endpoint http://evil.example/; nothing was sent there"), "{}", bare.message);
    }
}
