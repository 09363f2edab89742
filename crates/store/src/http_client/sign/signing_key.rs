//! The signing key of a day.

use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::super::credential_cache::SigningCredentials;

type HmacSha256 = Hmac<Sha256>;

/// Derives signing keys, and caches the last one. A key is valid for one day, one region and one secret.
#[derive(Debug)]
pub(super) struct SigningKeyCache {
    /// The prefix of the secret.
    prefix: &'static str,
    /// The parts of the scope after the date.
    scope: [String; 3],
    cached: Mutex<Option<CachedSigningKey>>,
}

#[derive(Debug)]
struct CachedSigningKey {
    credentials: Arc<SigningCredentials>,
    date: String,
    /// An HMAC state with the key applied and no data yet.
    state: HmacSha256,
}

impl SigningKeyCache {
    /// Creates the keys of a scheme with the scope `date/region/service/terminator`.
    pub(super) fn new(prefix: &'static str, region: &str, service: &str, terminator: &str) -> Self {
        let scope = [region, service, terminator].map(str::to_owned);
        Self { prefix, scope, cached: Mutex::new(None) }
    }

    /// Returns the parts of the scope after the date.
    pub(super) fn scope_parts(&self) -> &[String; 3] {
        &self.scope
    }

    /// Returns the HMAC of a text with the key of the day.
    pub(super) fn sign(&self, identity: &Arc<SigningCredentials>, date: &str, text: &[u8]) -> [u8; 32] {
        let mut state = self.hmac_state(identity, date);
        state.update(text);
        state.finalize().into_bytes().into()
    }

    fn hmac_state(&self, identity: &Arc<SigningCredentials>, date: &str) -> HmacSha256 {
        // The cached value is complete at every moment, so a poisoned lock is safe to use.
        let mut kept = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(key) if key.date == date && Arc::ptr_eq(&key.credentials, identity) => key.state.clone(),
            _ => {
                let state = self.derive_key(identity.secret(), date);
                *kept = Some(CachedSigningKey {
                    credentials: Arc::clone(identity),
                    date: date.to_owned(),
                    state: state.clone(),
                });
                state
            }
        }
    }

    fn derive_key(&self, secret: &str, date: &str) -> HmacSha256 {
        let first = new_hmac(format!("{}{secret}", self.prefix).as_bytes());
        let mut key = first.chain_update(date).finalize().into_bytes();
        for part in &self.scope {
            key = new_hmac(&key).chain_update(part).finalize().into_bytes();
        }
        new_hmac(&key)
    }
}

/// HMAC accepts keys of any length.
fn new_hmac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}
