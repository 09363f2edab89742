use aws_credential_types::provider::error::CredentialsError;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use aws_credential_types::provider::future;

use super::*;

impl RenewalState {
    /// Makes the current credentials due for renewal.
    fn make_due(&mut self) {
        self.current.as_mut().expect("held").renew_at = Some(SystemTime::UNIX_EPOCH);
    }

    /// Makes the current credentials expire now.
    fn expire(&mut self) {
        self.make_due();
        self.current.as_mut().expect("held").expiry = Some(SystemTime::UNIX_EPOCH);
    }
}

/// What the provider does when it is queried.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// Returns the keys `key0`, `key1` ..., valid for this many seconds. Negative means already expired.
    New(Option<i64>),
    /// Returns the last key again, unchanged.
    Again,
    /// Returns the last key again, now valid for this many seconds.
    Extended(i64),
    Fails,
    Hangs,
}

/// A provider that does what the test says, and counts the queries.
#[derive(Clone, Debug)]
struct Source {
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    given: Arc<Mutex<Option<Credentials>>>,
    keys: Arc<AtomicU32>,
}

impl Source {
    fn saying(says: Says) -> (Self, CredentialCache) {
        let says = Arc::new(Mutex::new(says));
        let source = Self { says, asked: Arc::default(), given: Arc::default(), keys: Arc::default() };
        (source.clone(), CredentialCache::new(SharedCredentialsProvider::new(source)))
    }

    fn says(&self, says: Says) {
        *self.says.lock() = says;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn give(&self, says: Says) -> Result<Credentials, CredentialsError> {
        let at = |seconds: i64| {
            let now = SystemTime::now();
            let apart = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - apart } else { now + apart }
        };
        let mut given = self.given.lock();
        let fresh = match (says, given.as_ref()) {
            (Says::New(lives), _) => {
                let key = format!("key{}", self.keys.fetch_add(1, Ordering::Relaxed));
                Credentials::new(key, "secret", Some("token".to_owned()), lives.map(at), "test")
            }
            (Says::Again, Some(last)) => last.clone(),
            (Says::Extended(lives), Some(last)) => {
                let token = last.session_token().map(str::to_owned);
                Credentials::new(last.access_key_id(), last.secret_access_key(), token, Some(at(lives)), "test")
            }
            _ => return Err(CredentialsError::provider_error("the source answers 500")),
        };
        Ok(given.insert(fresh).clone())
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let says = *self.says.lock();
        future::ProvideCredentials::new(async move {
            if says == Says::Hangs {
                std::future::pending::<()>().await;
            }
            self.give(says)
        })
    }
}

async fn key(identities: &CredentialCache) -> String {
    identities.current().await.expect("credentials").access_key().to_owned()
}

/// Lets the running attempt finish, unless it hangs.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_do_not_expire_are_asked_for_once() {
    let (source, identities) = Source::saying(Says::New(None));
    for _ in 0..100 {
        assert_eq!(key(&identities).await, "key0");
    }
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn keeps_using_credentials_during_renewal() {
    let (source, identities) = Source::saying(Says::New(Some(3600)));
    assert_eq!(key(&identities).await, "key0");
    source.says(Says::Hangs);
    identities.0.lock().make_due();
    let before = Instant::now();
    for _ in 0..100 {
        assert_eq!(key(&identities).await, "key0");
        assert!(identities.current_if_valid().is_some());
        settle().await;
    }
    assert_eq!((before.elapsed(), source.asked()), (Duration::ZERO, 2), "nobody waits, and one asks");
    // The attempt times out, and the next one returns new credentials.
    source.says(Says::New(Some(3600)));
    tokio::time::sleep(ATTEMPT_TIMEOUT + Duration::from_secs(2)).await;
    assert_eq!(key(&identities).await, "key0");
    settle().await;
    assert_eq!((key(&identities).await.as_str(), source.asked()), ("key1", 3));
}

#[tokio::test(start_paused = true)]
async fn queries_a_failing_provider_less_and_less() {
    for says in [Says::Fails, Says::Again] {
        let (source, identities) = Source::saying(Says::New(Some(3600)));
        assert_eq!(key(&identities).await, "key0");
        source.says(says);
        identities.0.lock().make_due();
        // Five minutes at 1,000 requests per second would be 300,000.
        for _ in 0..3000 {
            assert_eq!(key(&identities).await, "key0");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let asked = source.asked() - 1;
        assert!((10..=16).contains(&asked), "{says:?}: 1, 2, 4, 8, 16 and then 30 s apart: {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_expired_credentials_after_one_attempt() {
    for (says, most, why) in [
        (Says::Fails, Duration::ZERO, "the source answers 500"),
        (Says::Hangs, WAIT_TIMEOUT, "the credentials provider did not respond within 27 s"),
    ] {
        let (source, identities) = Source::saying(Says::New(Some(3600)));
        assert_eq!(key(&identities).await, "key0");
        source.says(says);
        identities.0.lock().expire();
        assert!(identities.current_if_valid().is_none());
        let before = Instant::now();
        let waiting = (0..100).map(|_| identities.current());
        for answer in futures_util::future::join_all(waiting).await {
            let said = answer.expect_err("none").to_string();
            assert!(said.contains(why), "{said}");
        }
        assert!(before.elapsed() <= most, "{:?}", before.elapsed());
        // Later requests fail immediately, without a query to the source.
        if says == Says::Fails {
            let said = identities.current().await.expect_err("none").to_string();
            assert!(said.starts_with("the credentials expired at "), "{said}");
        }
        assert_eq!(source.asked(), 2);
        // When the source works again, this is detected.
        source.says(Says::New(None));
        tokio::time::sleep(ATTEMPT_TIMEOUT + Duration::from_secs(2)).await;
        assert_eq!(key(&identities).await, "key1");
    }
}

#[tokio::test(start_paused = true)]
async fn tries_credentials_that_their_provider_calls_expired() {
    // As if this machine's clock were ahead. Requests must not each start an attempt.
    let (source, identities) = Source::saying(Says::New(Some(-7200)));
    for _ in 0..100 {
        assert_eq!(key(&identities).await, "key0");
        settle().await;
    }
    assert_eq!(source.asked(), 1);
    // The same credentials again, after they expired.
    let (source, identities) = Source::saying(Says::New(Some(3600)));
    assert_eq!(key(&identities).await, "key0");
    source.says(Says::Extended(-1));
    identities.0.lock().expire();
    let first = identities.current().await.expect("credentials");
    for _ in 0..100 {
        settle().await;
        assert!(Arc::ptr_eq(&first, &identities.current().await.expect("credentials")), "the day's key is kept");
    }
    assert_eq!(source.asked(), 2);
    // And then rejected.
    assert!(!identities.renew(&first, "ExpiredToken").await);
    assert_eq!(source.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn renews_rejected_credentials_once_for_all_requests() {
    let (source, identities) = Source::saying(Says::New(None));
    let refused = identities.current().await.expect("credentials");
    let renewed = futures_util::future::join_all((0..100).map(|_| identities.renew(&refused, "ExpiredToken"))).await;
    assert!(renewed.into_iter().all(|renewed| renewed));
    assert_eq!((key(&identities).await.as_str(), source.asked()), ("key1", 2));
    assert!(identities.renew(&refused, "ExpiredToken").await, "an answer that was long under way");
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn identical_credentials_are_not_new() {
    for says in [Says::Again, Says::Extended(600), Says::Fails] {
        let (source, identities) = Source::saying(Says::New(Some(3600)));
        let refused = identities.current().await.expect("credentials");
        source.says(says);
        let renewed =
            futures_util::future::join_all((0..100).map(|_| identities.renew(&refused, "ExpiredToken"))).await;
        assert!(!renewed.into_iter().any(|renewed| renewed), "{says:?}");
        // They are not used to sign again either.
        assert!(identities.current_if_valid().is_none());
        let said = identities.current().await.expect_err("none").to_string();
        assert!(
            said.starts_with("the service rejected the credentials (ExpiredToken), and no others are available: "),
            "{said}"
        );
        assert_eq!(source.asked(), 2, "{says:?}");
        // A response to a request signed with old credentials says nothing about newer ones.
        source.says(Says::New(Some(3600)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(identities.renew(&refused, "ExpiredToken").await);
        assert_eq!(key(&identities).await, "key1");
    }
}

#[tokio::test(start_paused = true)]
async fn treats_equal_credentials_as_the_same() {
    let (source, identities) = Source::saying(Says::New(None));
    let current = identities.current().await.expect("credentials");
    let copy = SigningCredentials::new(current.inner.clone());
    source.says(Says::Again);
    assert!(!identities.renew(&copy, "InvalidToken").await);
    assert!(identities.is_unusable(&current) && identities.is_unusable(&copy));
}

#[tokio::test(start_paused = true)]
async fn extended_credentials_outlive_their_first_expiry() {
    let (source, identities) = Source::saying(Says::New(Some(-1)));
    let current = identities.current().await.expect("credentials");
    assert!(identities.is_unusable(&current));
    source.says(Says::Extended(3600));
    tokio::time::sleep(Duration::from_mins(1)).await;
    identities.0.lock().make_due();
    let _ = identities.current().await;
    settle().await;
    assert_eq!(source.asked(), 2);
    assert!(!identities.is_unusable(&current));
}

#[tokio::test]
async fn a_cancelled_attempt_allows_the_next() {
    let (source, identities) = Source::saying(Says::Hangs);
    let cut = identities.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let waiting = tokio::time::timeout(Duration::from_millis(1), cut.current()).await;
            assert!(waiting.is_err());
        });
    })
    .join()
    .expect("no panic");
    source.says(Says::New(None));
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(key(&identities).await, "key0");
}

#[test]
fn nothing_secret_is_printed() {
    let identity =
        SigningCredentials::new(Credentials::new("key", "hushhush", Some("tokentoken".to_owned()), None, "test"));
    let shown = format!("{identity:?} {:?}", identity.token());
    assert!(!shown.contains("hush") && !shown.contains("tokentoken"), "{shown}");
}

#[test]
fn accepts_absurd_expirations() {
    for seconds in [0, 1, u64::MAX / 4] {
        let expiry = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let mut renewal = RenewalState::default();
        let fresh = Credentials::new("key", "secret", None, expiry, "test");
        renewal.finish_attempt(Ok(fresh), SystemTime::now(), Instant::now());
        assert!(matches!(renewal.decide(SystemTime::now(), Instant::now()), CredentialDecision::Use(_)), "{seconds}");
    }
    let past = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 40);
    let mut renewal = RenewalState::default();
    let fresh = Credentials::new("key", "secret", None, Some(past), "test");
    renewal.finish_attempt(Ok(fresh), SystemTime::now(), Instant::now());
    assert!(matches!(renewal.decide(SystemTime::now(), Instant::now()), CredentialDecision::Use(_)));
}
