//! The signing key of a day.

use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::super::identity::Identity;

type HmacSha256 = Hmac<Sha256>;

/// Derives signing keys, and caches the last one. A key is valid for one day, one region and one secret.
#[derive(Debug)]
pub(super) struct DayKeys {
    /// The prefix of the secret.
    prefix: &'static str,
    /// The parts of the scope after the date.
    scope: [String; 3],
    kept: Mutex<Option<DayKey>>,
}

#[derive(Debug)]
struct DayKey {
    identity: Arc<Identity>,
    date: String,
    /// An HMAC state with the key applied and no data yet.
    state: HmacSha256,
}

impl DayKeys {
    /// Creates the keys of a scheme with the scope `date/region/service/terminator`.
    pub(super) fn new(prefix: &'static str, region: &str, service: &str, terminator: &str) -> Self {
        let scope = [region, service, terminator].map(str::to_owned);
        Self { prefix, scope, kept: Mutex::new(None) }
    }

    /// Returns the parts of the scope after the date.
    pub(super) fn scope(&self) -> &[String; 3] {
        &self.scope
    }

    /// Returns the HMAC of a text with the key of the day.
    pub(super) fn sign(&self, identity: &Arc<Identity>, date: &str, text: &[u8]) -> [u8; 32] {
        let mut state = self.state(identity, date);
        state.update(text);
        state.finalize().into_bytes().into()
    }

    fn state(&self, identity: &Arc<Identity>, date: &str) -> HmacSha256 {
        // The cached value is complete at every moment, so a poisoned lock is safe to use.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(key) if key.date == date && Arc::ptr_eq(&key.identity, identity) => key.state.clone(),
            _ => {
                let state = self.derive(identity.secret(), date);
                *kept = Some(DayKey { identity: Arc::clone(identity), date: date.to_owned(), state: state.clone() });
                state
            }
        }
    }

    fn derive(&self, secret: &str, date: &str) -> HmacSha256 {
        let first = keyed(format!("{}{secret}", self.prefix).as_bytes());
        let mut key = first.chain_update(date).finalize().into_bytes();
        for part in &self.scope {
            key = keyed(&key).chain_update(part).finalize().into_bytes();
        }
        keyed(&key)
    }
}

/// HMAC accepts keys of any length.
fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}
