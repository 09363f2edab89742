use std::sync::atomic::{AtomicU32, Ordering};

use aws_credential_types::provider::future;

use super::*;

/// Gives the keys `key0`, `key1` ..., each for so long; none beyond the last.
#[derive(Debug)]
struct Series {
    asked: Arc<AtomicU32>,
    last: u32,
    lives: Option<Duration>,
}

impl ProvideCredentials for Series {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let n = self.asked.fetch_add(1, Ordering::Relaxed);
        if n > self.last {
            return future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no more")));
        }
        let expiry = self.lives.map(|lives| SystemTime::now() + lives);
        future::ProvideCredentials::ready(Ok(Credentials::new(format!("key{n}"), "s", None, expiry, "test")))
    }
}

fn series(last: u32, lives: Option<Duration>) -> (Identities, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let provider = Series { asked: Arc::clone(&asked), last, lives };
    (Identities::new(SharedCredentialsProvider::new(provider)), asked)
}

async fn key(identities: &Identities) -> String {
    identities.current().await.expect("credentials").access_key().to_owned()
}

#[tokio::test]
async fn credentials_that_do_not_expire_are_asked_for_once() {
    let (identities, asked) = series(9, None);
    assert_eq!((key(&identities).await, key(&identities).await), ("key0".to_owned(), "key0".to_owned()));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn expired_ones_are_renewed_and_an_hour_is_not_expired() {
    let (identities, _) = series(9, Some(Duration::ZERO));
    assert_eq!((key(&identities).await, key(&identities).await), ("key0".to_owned(), "key1".to_owned()));
    let (identities, _) = series(9, Some(Duration::from_hours(1)));
    assert_eq!((key(&identities).await, key(&identities).await), ("key0".to_owned(), "key0".to_owned()));
}

#[tokio::test]
async fn without_a_provider_that_answers_they_serve_until_they_expire() {
    let (identities, asked) = series(0, Some(Duration::from_hours(1)));
    assert_eq!(key(&identities).await, "key0");
    identities.lock().as_mut().expect("held").renew_at = Some(SystemTime::UNIX_EPOCH);
    assert_eq!((key(&identities).await, key(&identities).await), ("key0".to_owned(), "key0".to_owned()));
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the provider is left alone for a while");
    let (identities, _) = series(0, Some(Duration::ZERO));
    assert_eq!(key(&identities).await, "key0");
    assert!(identities.current().await.is_err());
}

#[tokio::test]
async fn refused_ones_are_renewed_once_for_all_who_were_refused() {
    let (identities, asked) = series(1, None);
    let refused = identities.current().await.expect("credentials");
    assert!(identities.renew(&refused).await);
    assert!(identities.renew(&refused).await);
    assert_eq!((key(&identities).await.as_str(), asked.load(Ordering::Relaxed)), ("key1", 2));
    let refused = identities.current().await.expect("credentials");
    assert!(!identities.renew(&refused).await, "there are no others");
}

#[tokio::test]
async fn the_same_credentials_again_are_no_others() {
    let fixed = Credentials::new("key", "secret", Some("token".to_owned()), None, "test");
    let identities = Identities::new(SharedCredentialsProvider::new(fixed));
    let refused = identities.current().await.expect("credentials");
    assert!(!identities.renew(&refused).await);
}

#[test]
fn nothing_secret_is_printed() {
    let identity = Identity::new(Credentials::new("key", "hushhush", Some("tokentoken".to_owned()), None, "test"));
    let shown = format!("{identity:?} {:?}", identity.token());
    assert!(!shown.contains("hush") && !shown.contains("tokentoken"), "{shown}");
}
