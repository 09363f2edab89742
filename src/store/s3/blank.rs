//! Keys of nothing but white space, which are legal and which the SDK takes for missing ones.
//!
//! Such a key goes through the SDK in disguise and is put in its place in the URL before the request is signed.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use crate::object::Key;

/// Disguises blank keys, and sees through the disguise.
#[derive(Clone, Debug)]
pub(super) struct BlankKeys {
    /// Random, so that no real key looks like a disguise.
    marker: String,
}

impl BlankKeys {
    pub(super) fn new() -> Self {
        Self { marker: uuid::Uuid::new_v4().simple().to_string() }
    }

    /// The key as the SDK takes it.
    pub(super) fn disguise(&self, key: &Key) -> String {
        let text = String::from_utf8_lossy(key.as_bytes());
        if text.trim().is_empty() && !text.is_empty() {
            // White space is escaped throughout, so that every `-` will stand for a `%`.
            return format!("{}{}", self.marker, key.encoded().replace('%', "-"));
        }
        text.into_owned()
    }

    /// The URL with the real key in it, where there is a disguise.
    fn reveal(&self, url: &str) -> Option<String> {
        let (before, rest) = url.split_once(&self.marker)?;
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        Some(format!("{before}{}{}", rest[..end].replace('-', "%"), &rest[end..]))
    }
}

impl Intercept for BlankKeys {
    fn name(&self) -> &'static str {
        "BlankKeys"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if let Some(url) = self.reveal(request.uri()) {
            request.set_uri(url)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_key_comes_out_as_it_went_in() {
        let blank = BlankKeys::new();
        for (key, encoded) in [("\n", "%0A"), (" \t", "%20%09"), ("\u{3000}", "%E3%80%80")] {
            let disguised = blank.disguise(&Key::from(key));
            let url = format!("http://h/b/{disguised}?tagging&x-id=A-B");
            assert_eq!(blank.reveal(&url), Some(format!("http://h/b/{encoded}?tagging&x-id=A-B")));
        }
    }

    #[test]
    fn other_keys_are_left_alone() {
        let blank = BlankKeys::new();
        assert_eq!(blank.disguise(&Key::from("a b-c")), "a b-c");
        assert_eq!(blank.reveal("http://h/b/a-b"), None);
    }
}
