//! A webhook endpoint: its URL, the events that it receives, and the key that signs its messages. The values come from
//! the plan and the environment.

use std::fmt;
use std::time::Duration;

use batchplan_store::hex::hex;
use batchplan_store::web::{HttpUrl, HttpUrlError};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::plan::{ExactShare, WebhookConfig, WebhookEvent, WebhookTarget};

/// A webhook: its URL, and the events to send to it.
#[derive(Clone)]
pub struct WebhookEndpoint {
    pub(super) url: HttpUrl,
    signer: Option<WebhookSigner>,
    pub(super) allow_http: bool,
    pub(super) events: Vec<WebhookEvent>,
    pub(super) failure_rate: Option<ExactShare>,
    pub(super) run_time: Option<Duration>,
}

/// Why a webhook cannot be used. No message shows the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// An environment variable that the plan names is not set.
    #[error("environment variable {variable} is not set (`{key}` in [[notify]])")]
    MissingVariable {
        /// The key in the plan that names the variable.
        key: &'static str,
        /// The name of the variable.
        variable: String,
    },
    /// The value of the variable is not a valid URL.
    #[error("{variable} is not a valid webhook URL: it {fault}")]
    InvalidUrl {
        /// The name of the variable.
        variable: String,
        /// What is wrong with the URL.
        fault: HttpUrlError,
    },
    /// The value of the variable cannot be a secret, for example because it ends with a line break.
    #[error(
        "{variable} is not a valid webhook secret: it starts or ends with white space, or contains a control or \
         non-ASCII character"
    )]
    InvalidSecret {
        /// The name of the variable.
        variable: String,
    },
    /// The URL is not encrypted, so that others can read the messages.
    #[error("{variable} is a webhook URL that is not encrypted, and not on this machine")]
    NotEncrypted {
        /// The name of the variable.
        variable: String,
    },
}

impl WebhookError {
    /// Returns a hint that says how to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::MissingVariable { variable, .. } => {
                format!("set {variable} where batchplan runs, or remove its [[notify]] from the plan")
            }
            Self::InvalidSecret { .. } => "set it to the bare value, without a line break".to_owned(),
            Self::InvalidUrl { .. } => "for example: https://hooks.example.com/batchplan".to_owned(),
            Self::NotEncrypted { .. } => "use https, or set `allow_http = true` in its [[notify]]".to_owned(),
        }
    }
}

impl WebhookEndpoint {
    /// Creates the receiver of a plan's webhook. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// Returns an error if an environment variable is missing, or its value cannot be used.
    pub fn new(hook: &WebhookConfig, variable: impl Fn(&str) -> Option<String>) -> Result<Self, WebhookError> {
        let value = |key, name: &String| {
            let set = variable(name).filter(|value| !value.trim().is_empty());
            set.ok_or_else(|| WebhookError::MissingVariable { key, variable: name.clone() })
        };
        let url = match &hook.target {
            WebhookTarget::Url(url) => url.clone(),
            WebhookTarget::Variable(name) => {
                let variable = || name.clone();
                let url = HttpUrl::parse(value("url_env", name)?.trim())
                    .map_err(|fault| WebhookError::InvalidUrl { variable: variable(), fault })?;
                if !url.is_encrypted() && !url.is_loopback() && !hook.allow_http {
                    return Err(WebhookError::NotEncrypted { variable: variable() });
                }
                url
            }
        };
        let secret = |name: &String| {
            let secret = value("secret_env", name)?;
            // The usual mistake is a CI secret that was pasted with its line break.
            let bare = secret.trim() == secret && secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if bare { Ok(secret) } else { Err(WebhookError::InvalidSecret { variable: name.clone() }) }
        };
        let secret = hook.secret_env.as_ref().map(secret).transpose()?;
        Ok(Self {
            url,
            signer: secret.map(|secret| WebhookSigner::new(secret.as_bytes())),
            allow_http: hook.allow_http,
            events: hook.events.clone(),
            failure_rate: hook.failure_rate,
            run_time: hook.run_time,
        })
    }

    /// An endpoint without a secret, for tests.
    #[cfg(test)]
    pub(super) fn unsigned(url: HttpUrl, events: Vec<WebhookEvent>) -> Self {
        Self { url, signer: None, allow_http: false, events, failure_rate: None, run_time: None }
    }

    /// Returns the signature of a body that is sent at this time, in seconds since 1970, if the endpoint has a secret.
    pub(super) fn sign(&self, timestamp: i64, body: &[u8]) -> Option<String> {
        self.signer.as_ref().map(|signer| signer.sign(timestamp, body))
    }
}

/// Shows the origin of the URL, without the parts that may be secret.
impl fmt::Display for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEndpoint").field("url", &self.url).field("on", &self.events).finish_non_exhaustive()
    }
}

/// A key that signs messages.
#[derive(Clone)]
struct WebhookSigner(Hmac<Sha256>);

impl WebhookSigner {
    fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")))
    }

    /// Signs a body that is sent at this time, in seconds since 1970. Returns `v1=` and the HMAC-SHA256 in hexadecimal
    /// of the timestamp, a dot, and the body.
    fn sign(&self, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1={}", hex(&mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSigner(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(target: WebhookTarget, secret_env: Option<&str>, allow_http: bool) -> WebhookConfig {
        let secret_env = secret_env.map(str::to_owned);
        WebhookConfig {
            target,
            secret_env,
            allow_http,
            events: vec![WebhookEvent::Failed],
            failure_rate: None,
            run_time: None,
        }
    }

    fn environment(name: &str) -> Option<String> {
        match name {
            "URL" => Some("https://hooks.example.com/T0/s3cret\n".to_owned()),
            "PLAIN" => Some("http://hooks.example.com/s3cret".to_owned()),
            "BAD" | "KEY" => Some("s3cret".to_owned()),
            "BLANK" => Some(" ".to_owned()),
            "BROKEN" => Some("s3cret\n".to_owned()),
            "CONTROL" => Some("s3cret\u{1b}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn environment_values_are_required_and_never_shown() {
        let variable = |name: &str| WebhookTarget::Variable(name.to_owned());
        let receiver = WebhookEndpoint::new(&hook(variable("URL"), Some("KEY"), false), environment).expect("ready");
        assert_eq!(receiver.url.full_url(), "https://hooks.example.com/T0/s3cret");
        assert!(receiver.signer.is_some());
        assert!(!format!("{receiver} {receiver:?} {:?}", receiver.signer).contains("s3cret"));
        assert!(WebhookEndpoint::new(&hook(variable("PLAIN"), None, true), environment).is_ok());
        for name in ["BROKEN", "CONTROL"] {
            let said =
                WebhookEndpoint::new(&hook(variable("URL"), Some(name), false), environment).expect_err("refused");
            assert_eq!(said, WebhookError::InvalidSecret { variable: name.to_owned() });
            assert!(said.to_string().starts_with(name) && !said.to_string().contains("s3cret"), "{said}");
        }
        for (target, secret, said) in [
            ("NONE", None, "environment variable NONE is not set (`url_env` in [[notify]])"),
            ("BLANK", None, "environment variable BLANK is not set (`url_env` in [[notify]])"),
            ("URL", Some("BLANK"), "environment variable BLANK is not set (`secret_env` in [[notify]])"),
            ("BAD", None, "BAD is not a valid webhook URL: it does not begin with https:// or http://"),
            ("PLAIN", None, "PLAIN is a webhook URL that is not encrypted, and not on this machine"),
        ] {
            let error = WebhookEndpoint::new(&hook(variable(target), secret, false), environment).expect_err(target);
            assert_eq!(error.to_string(), said);
            assert!(!format!("{error:?} {}", error.help()).contains("s3cret"));
        }
    }

    #[test]
    fn time_and_body_are_signed_together() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret
        let expected = "v1=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940";
        assert_eq!(WebhookSigner::new(b"s3cret").sign(1_700_000_000, b"{\"a\":1}"), expected);
        assert_ne!(WebhookSigner::new(b"s3cret").sign(1_700_000_001, b"{\"a\":1}"), expected);
        assert_ne!(WebhookSigner::new(b"s3cret").sign(1_700_000_000, b"{\"a\":2}"), expected);
        assert_ne!(WebhookSigner::new(b"other").sign(1_700_000_000, b"{\"a\":1}"), expected);
    }
}
