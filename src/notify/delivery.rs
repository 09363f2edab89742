//! One attempt to deliver a message, and the classification of the endpoint's response.

use std::time::Duration;

use batchplan_store::web::{WebClient, WebRequest, WebRequestError};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::endpoint::WebhookEndpoint;
use super::message::WebhookMessage;

/// How long to send nothing to an endpoint that answers 429 without a `Retry-After` header.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// The maximum pause that an endpoint can request.
const MAX_PAUSE: Duration = Duration::from_hours(24);

const EVENT: HeaderName = HeaderName::from_static("x-batchplan-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-batchplan-delivery");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-batchplan-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-batchplan-signature");

/// Why a message was not accepted, as a sentence. Of the endpoint's URL it names only the origin.
#[derive(Debug)]
pub(super) enum DeliveryError {
    /// The message can be sent again later.
    Retryable {
        reason: String,
        /// How long the endpoint asks to receive no messages at all.
        pause: Option<Duration>,
    },
    /// The message must not be sent again.
    Permanent(String),
}

/// Sends a message once, within this time.
///
/// # Errors
/// Returns an error if the message is not accepted.
pub(super) async fn send_once(
    client: &WebClient,
    receiver: &WebhookEndpoint,
    letter: &WebhookMessage,
    time: Duration,
) -> Result<(), DeliveryError> {
    let now = Timestamp::now().as_second();
    let headers = headers(receiver, letter, now).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
    let (url, body, allow_http) = (&receiver.url, letter.body.clone(), receiver.allow_http);
    let message = WebRequest { method: Method::POST, url, headers: &headers, body, allow_http };
    match client.send_for_head(message, time).await {
        Ok(head) => classify_response(receiver, head.status, &head.headers),
        Err(error @ (WebRequestError::NotEncrypted(_) | WebRequestError::NoCertificates(_))) => {
            Err(DeliveryError::Permanent(error.to_string()))
        }
        Err(error) => Err(DeliveryError::Retryable { reason: error.to_string(), pause: None }),
    }
}

fn headers(
    receiver: &WebhookEndpoint,
    letter: &WebhookMessage,
    now: i64,
) -> Result<Vec<(HeaderName, HeaderValue)>, http::header::InvalidHeaderValue> {
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (EVENT, HeaderValue::from_static(letter.event.as_str())),
        (DELIVERY, HeaderValue::from_str(&letter.id)?),
        (TIMESTAMP, HeaderValue::from(now)),
    ];
    if let Some(seal) = &receiver.signer {
        headers.push((SIGNATURE, HeaderValue::from_str(&seal.sign(now, &letter.body))?));
    }
    Ok(headers)
}

fn classify_response(receiver: &WebhookEndpoint, status: StatusCode, headers: &HeaderMap) -> Result<(), DeliveryError> {
    let answered = format!("{receiver} answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(DeliveryError::Permanent(format!("{answered}; redirects are not followed"))),
        code @ (408 | 429 | 500..=599) => {
            let asked = retry_after(headers, Timestamp::now()).map(|pause| pause.min(MAX_PAUSE));
            Err(DeliveryError::Retryable { reason: answered, pause: asked.or((code == 429).then_some(DEFAULT_PAUSE)) })
        }
        _ => Err(DeliveryError::Permanent(answered)),
    }
}

/// Reads `Retry-After`, which is a number of seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Duration::try_from(then.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_retry_after_as_seconds_or_date() {
        let asked = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, "2024-01-01T00:00:00Z".parse().expect("a time"))
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Mon, 01 Jan 2024 00:00:09 GMT"), Some(Duration::from_secs(9)));
        for text in ["Sun, 31 Dec 2023 00:00:00 GMT", "soon", "-1", ""] {
            assert_eq!(asked(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
