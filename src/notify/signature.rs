//! Signatures of messages. They let an endpoint verify who sent a message, and that it is recent.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use batchplan_store::hex::hex;

/// A key that signs messages.
#[derive(Clone)]
pub(super) struct WebhookSigner(Hmac<Sha256>);

impl WebhookSigner {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")))
    }

    /// Signs a body that is sent at this time, in seconds since 1970. Returns `v1=` and the HMAC-SHA256 in hexadecimal
    /// of the timestamp, a dot, and the body.
    pub(super) fn sign(&self, timestamp: i64, body: &[u8]) -> String {
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
