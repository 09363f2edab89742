//! One letter to one receiver, again where that may help.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::Instant;

use super::letter::Letter;
use super::receiver::Receiver;
use crate::backoff::{Backoff, RetryPolicy};
use crate::timeouts::scaled;
use crate::web::{Client, Message, SendError};

/// How long a letter may take in all, and one attempt.
const IN_ALL: Duration = Duration::from_mins(1);
const ATTEMPT: Duration = Duration::from_secs(10);

/// When it is sent again.
const RETRIES: RetryPolicy =
    RetryPolicy { base: Duration::from_millis(500), cap: Duration::from_secs(15), attempts: 5 };

const EVENT: HeaderName = HeaderName::from_static("x-batchplan-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-batchplan-delivery");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-batchplan-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-batchplan-signature");

/// What became of one attempt that was none.
enum Refused {
    /// It may go better later, though not before so long.
    ForNow(String, Option<Duration>),
    /// It will not.
    ForGood(String),
}

/// Sends a letter until it is taken, refused for good, or no attempt is left.
///
/// # Errors
/// Why it was not taken: a sentence that names the receiver's host and no more of it.
pub(super) async fn carry(client: &Client, receiver: &Receiver, letter: &Letter) -> Result<(), String> {
    let deadline = Instant::now() + scaled(IN_ALL);
    let mut backoff = Backoff::new(RETRIES);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (why, not_before) = match attempt(client, receiver, letter, left.min(scaled(ATTEMPT))).await {
            Ok(()) => return Ok(()),
            Err(Refused::ForGood(why)) => return Err(why),
            Err(Refused::ForNow(why, not_before)) => (why, not_before),
        };
        let Some(wait) = backoff.after_failure() else {
            return Err(format!("{why}; tried {} times", backoff.failures()));
        };
        let again = Instant::now() + wait.max(not_before.unwrap_or_default().min(IN_ALL));
        if again >= deadline {
            return Err(format!("{why}; tried {} times", backoff.failures()));
        }
        tokio::time::sleep_until(again).await;
    }
}

async fn attempt(client: &Client, receiver: &Receiver, letter: &Letter, time: Duration) -> Result<(), Refused> {
    let now = Timestamp::now().as_second();
    let headers = headers(receiver, letter, now).map_err(|error| Refused::ForGood(error.to_string()))?;
    let (url, body, allow_http) = (&receiver.url, letter.body.clone(), receiver.allow_http);
    let message = Message { method: Method::POST, url, headers: &headers, body, allow_http };
    match client.tell(message, time).await {
        Ok(head) => judge(receiver, head.status, &head.headers),
        Err(error @ (SendError::NotEncrypted(_) | SendError::NoCertificates(_))) => {
            Err(Refused::ForGood(error.to_string()))
        }
        Err(error) => Err(Refused::ForNow(error.to_string(), None)),
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
        408 | 429 | 500..=599 => Err(Refused::ForNow(answered, retry_after(headers, Timestamp::now()))),
        _ => Err(Refused::ForGood(answered)),
    }
}

/// How long a server wants to be left alone: seconds, or until a date.
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
