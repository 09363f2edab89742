//! One attempt to deliver a message, and the classification of the endpoint's response.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::letter::Letter;
use super::receiver::Receiver;
use crate::web::{Client, Message, SendError};

/// How long to send nothing to an endpoint that answers 429 without a `Retry-After` header.
const PAUSE: Duration = Duration::from_secs(1);

/// The maximum pause that an endpoint can request.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

const EVENT: HeaderName = HeaderName::from_static("x-batchplan-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-batchplan-delivery");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-batchplan-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-batchplan-signature");

/// Why a message was not accepted, as a sentence. Of the endpoint's URL it names only the origin.
#[derive(Debug)]
pub(super) enum Refused {
    /// The message can be sent again later.
    ForNow {
        why: String,
        /// How long the endpoint asks to receive no messages at all.
        pause: Option<Duration>,
    },
    /// The message must not be sent again.
    ForGood(String),
}

/// Sends a message once, within this time.
///
/// # Errors
/// Returns an error if the message is not accepted.
pub(super) async fn attempt(
    client: &Client,
    receiver: &Receiver,
    letter: &Letter,
    time: Duration,
) -> Result<(), Refused> {
    let now = Timestamp::now().as_second();
    let headers = headers(receiver, letter, now).map_err(|error| Refused::ForGood(error.to_string()))?;
    let (url, body, allow_http) = (&receiver.url, letter.body.clone(), receiver.allow_http);
    let message = Message { method: Method::POST, url, headers: &headers, body, allow_http };
    match client.tell(message, time).await {
        Ok(head) => judge(receiver, head.status, &head.headers),
        Err(error @ (SendError::NotEncrypted(_) | SendError::NoCertificates(_))) => {
            Err(Refused::ForGood(error.to_string()))
        }
        Err(error) => Err(Refused::ForNow { why: error.to_string(), pause: None }),
    }
}

fn headers(
    receiver: &Receiver,
    letter: &Letter,
    now: i64,
) -> Result<Vec<(HeaderName, HeaderValue)>, http::header::InvalidHeaderValue> {
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (EVENT, HeaderValue::from_static(letter.event.as_str())),
        (DELIVERY, HeaderValue::from_str(&letter.id)?),
        (TIMESTAMP, HeaderValue::from(now)),
    ];
    if let Some(seal) = &receiver.seal {
        headers.push((SIGNATURE, HeaderValue::from_str(&seal.sign(now, &letter.body))?));
    }
    Ok(headers)
}

fn judge(receiver: &Receiver, status: StatusCode, headers: &HeaderMap) -> Result<(), Refused> {
    let answered = format!("{receiver} answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(Refused::ForGood(format!("{answered}, and no redirect is followed"))),
        code @ (408 | 429 | 500..=599) => {
            let asked = retry_after(headers, Timestamp::now()).map(|pause| pause.min(LONGEST_PAUSE));
            Err(Refused::ForNow { why: answered, pause: asked.or((code == 429).then_some(PAUSE)) })
        }
        _ => Err(Refused::ForGood(answered)),
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
    fn a_wait_is_asked_for_in_seconds_or_until_a_date() {
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
