use std::sync::atomic::Ordering::Relaxed;

use super::super::profile_chain::tests::profiles;
use super::*;

const FILE: &str = "[profile dev]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n\
                    [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n\
                    [profile old]\nsso_start_url = https://x.awsapps.com/start\n\
                    [profile console]\nlogin_session = arn:aws:iam::1:user/me\n\
                    [profile both]\nlogin_session = arn\nsso_session = s\n\
                    [profile role]\nrole_arn = arn:r\nsource_profile = dev\n\
                    [profile keys]\naws_access_key_id = A\naws_secret_access_key = B\n\
                    [profile web]\nrole_arn = arn:w\nweb_identity_token_file = t\nsso_session = s\n\
                    [profile process]\ncredential_process = keys\n";

async fn session(selected: &str) -> Option<SignInSession> {
    let profiles = profiles(FILE, selected).await;
    ProfileChain::resolve(&profiles).as_ref().and_then(SignInSession::of)
}

#[tokio::test]
async fn the_session_of_the_profile_is_found_with_the_command_that_starts_it() {
    for (profile, command) in [
        ("dev", "aws sso login --profile dev"),
        ("old", "aws sso login --profile old"),
        ("console", "aws login --profile console"),
        ("both", "aws sso login --profile both"),
        ("role", "aws sso login --profile dev"),
    ] {
        assert_eq!(session(profile).await.map(|session| session.command()).as_deref(), Some(command));
    }
    let odd = sso_session("it's; x");
    assert_eq!(odd.command(), r"aws sso login --profile 'it'\''s; x'");
    for other in ["keys", "web", "process", "absent"] {
        assert_eq!(session(other).await, None, "{other}");
    }
}

/// An error with a source, as the SDK nests them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Nested(&'static str, #[source] Option<Box<dyn Error + Send + Sync>>);

fn explained(texts: &[&'static str]) -> SessionError {
    let nested = texts
        .iter()
        .rev()
        .fold(None, |source: Option<Box<dyn Error + Send + Sync>>, text| Some(Box::new(Nested(text, source))));
    explain(sso_session("dev"), &CredentialsError::provider_error(nested.expect("a text")))
}

fn sso_session(profile: &str) -> SignInSession {
    SignInSession { kind: SessionKind::Sso, profile: profile.to_owned(), identifier: "s".to_owned() }
}

/// A source whose cached token is not whole the first times it is read.
#[derive(Debug)]
struct Rewritten(std::sync::atomic::AtomicUsize);

impl ProvideCredentials for Rewritten {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let left = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        future::ProvideCredentials::ready(match left {
            Ok(_) => Err(CredentialsError::provider_error(Nested("invalid JSON in cached SSO token file", None))),
            Err(_) => Ok(aws_credential_types::Credentials::new("A", "B", None, None, "test")),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_being_written_is_read_once_more() {
    let of = |broken: usize| {
        let source = SharedCredentialsProvider::new(Rewritten(broken.into()));
        SessionProvider::wrap(sso_session("dev"), source)
    };
    assert!(of(1).provide_credentials().await.is_ok());
    let said = crate::web::root_cause(&of(2).provide_credentials().await.expect_err("still not whole"));
    assert_eq!(
        said,
        "the AWS SSO session of the profile \"dev\" provided no credentials: the file \
         ~/.aws/sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json is incomplete or damaged: if no other program is \
         writing it, run `aws sso login --profile dev`"
    );
    let empty = explained(&["failed to load", "expected a JSON document starting with `{`"]);
    assert!(matches!(empty, SessionError::Damaged { .. }), "{empty}");
}

#[test]
fn only_an_invalid_token_asks_to_sign_in() {
    for texts in [
        &["the SSO token has expired and cannot be refreshed"][..],
        &["failed to load", "failed to read `/h/t.json`", "No such file or directory (os error 2)"],
        &["service error", "UnauthorizedException: no \u{1b}[2J session"],
        &["failed to refresh cached Login token: Your session has expired. Please reauthenticate.", "service error"],
    ] {
        let error = explained(texts);
        let said = error.to_string();
        assert!(matches!(error, SessionError::SignedOut { .. }), "{said}");
        assert!(said.ends_with("): run `aws sso login --profile dev`") && !said.contains('\u{1b}'), "{said}");
    }
    for texts in [
        &["dispatch failure", "127.0.0.1:1: Connection refused (os error 111)"][..],
        &["failed to load", "failed to write `/h/t.json`", "Read-only file system (os error 30)"],
        &["service error", "ForbiddenException: No access"],
        &[NO_HOME],
    ] {
        let error = explained(texts);
        assert!(matches!(error, SessionError::Failed { .. }), "{error}");
        assert!(!error.to_string().contains("aws sso login"), "{error}");
    }
    let said = explained(&["failed to load", "failed to write `/h/t.json`", "Read-only (os error 30)"]).to_string();
    assert!(said.ends_with("failed to write `/h/t.json`: Read-only (os error 30)"), "{said}");
}

#[test]
fn an_sdk_without_the_feature_is_named() {
    let session = SignInSession { kind: SessionKind::Login, ..sso_session("dev") };
    let said = SessionError::NotBuiltIn(session).to_string();
    assert!(said.starts_with("the profile \"dev\" uses an AWS login session, which this build of batchplan"), "{said}");
    assert!(said.ends_with("build with the cargo feature `login`"), "{said}");
}

fn request(headers: &[(&'static str, &'static str)], body: &'static str) -> HttpRequest {
    let mut request = HttpRequest::new(aws_smithy_types::body::SdkBody::from(body));
    for (name, value) in headers {
        request.headers_mut().insert(*name, *value);
    }
    request
}

#[test]
fn tokens_of_sessions_are_sent_encrypted_or_to_this_machine() {
    let renewal = "{\"grantType\": \"refresh_token\", \"refreshToken\": \"hushhush\"}";
    let uri = |text: &str| text.parse::<Uri>().expect("a URL");
    for session in [
        request(&[(SSO_TOKEN_HEADER, "hushhush")], ""),
        request(&[], renewal),
        request(&[], "Action=X&WebIdentityToken=hushhush"),
    ] {
        let tokens = RequestTokens::of(&session);
        for allowed in ["https://portal.sso.eu-west-1.amazonaws.com", "http://127.0.0.1:9", "http://[::1]:9"] {
            assert!(tokens.may_be_sent_to(&uri(allowed)), "{allowed}");
        }
        for refused in ["http://portal.example", "http://127.evil.example/", "http://169.254.169.254/"] {
            assert!(!tokens.may_be_sent_to(&uri(refused)), "{refused}");
        }
    }
    // Metadata services have no encryption.
    let tokens = RequestTokens::of(&request(&[("authorization", "hushhush")], ""));
    assert!(!tokens.is_empty() && tokens.may_be_sent_to(&uri("http://169.254.170.2/creds")));
    let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=A/20261130/eu-west-1/sts/aws4_request")];
    assert!(RequestTokens::of(&request(&signed, "Action=AssumeRole&Version=2011-06-15")).is_empty());
}

#[test]
fn a_server_that_repeats_a_token_is_not_quoted_with_it() {
    let secret = "hush/hush+hush=hush-hush_hush";
    for request in [
        request(&[(SSO_TOKEN_HEADER, secret)], ""),
        request(&[], "{\"clientSecret\": \"hush/hush+hush=hush-hush_hush\"}"),
        request(&[], "Action=X&WebIdentityToken=hush%2Fhush%2Bhush%3Dhush-hush_hush"),
    ] {
        for said in [secret, "hush%2Fhush%2Bhush%3Dhush-hush_hush"] {
            let text = format!("{{\"message\": \"no token {said} here\"}}");
            let shown = RequestTokens::of(&request).hide_in(text.as_bytes(), 1 << 10);
            let shown = String::from_utf8(shown).expect("UTF-8");
            assert!(shown.contains("no token [hidden] here") && !shown.contains("hush"), "{shown}");
        }
    }
}

#[test]
fn a_renewed_login_is_complete_or_refused() {
    let with = |keys: &str, rest: &str| format!("{{\"accessToken\": {keys}, \"tokenType\": \"aws_sigv4\"{rest}}}");
    let keys = "{\"accessKeyId\": \"A\", \"secretAccessKey\": \"S\", \"sessionToken\": \"T\"}";
    let rest = ", \"refreshToken\": \"r\", \"expiresIn\": 900";
    assert!(is_complete_response("/v1/token", with(keys, rest).as_bytes()));
    for broken in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        with("null", rest),
        with("{\"accessKeyId\": \"A\", \"secretAccessKey\": \"\", \"sessionToken\": \"T\"}", rest),
        with(keys, ", \"expiresIn\": 900"),
        with(keys, ", \"refreshToken\": \"r\""),
        with(keys, ", \"refreshToken\": \"r\", \"expiresIn\": -1"),
        with(keys, ", \"refreshToken\": \"r\", \"expiresIn\": 99999999999"),
    ] {
        assert!(!is_complete_response("/v1/token", broken.as_bytes()), "{broken}");
        assert!(is_complete_response("/federation/credentials", broken.as_bytes()));
    }
}

#[test]
fn the_clock_never_goes_back() {
    let ahead = SystemTime::now() + std::time::Duration::from_mins(1);
    let clock = ForwardClock(Mutex::new(Some(ahead)));
    assert_eq!((clock.now(), clock.now()), (ahead, ahead));
    assert!(ForwardClock::default().now() < ahead);
}
