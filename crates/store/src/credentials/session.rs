//! Profiles with a session of `aws sso login` (AWS IAM Identity Center) or of `aws login`. The AWS CLI caches the tokens
//! of a session below the home folder.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html>
//! <https://docs.aws.amazon.com/sdkref/latest/guide/access-login.html>
//!
//! The SDK reads the cached token, renews it, and exchanges it for credentials. Its errors do not say how to sign in
//! again, and it panics for some responses and if the clock is set back. Both are handled here.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http::Uri;
use percent_encoding::percent_decode;
use serde_json::Value as Json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::profile_chain::{ProfileChain, SSO_PROPERTIES};
use super::profile_files::reject_pipe;
use crate::error::truncate;
use crate::hex::hex;
use crate::mutex::Mutex;
use crate::printable::affects_terminal;
use crate::redact::redact;
use crate::web::{is_loopback, proxy_secrets};

/// How the caller signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// `aws sso login`, or its older form without an `sso_session`.
    Sso,
    /// `aws login`.
    Login,
}

impl SessionKind {
    /// Returns whether this program was built with support for such sessions.
    fn is_supported(self) -> bool {
        match self {
            Self::Sso => cfg!(feature = "sso"),
            Self::Login => cfg!(feature = "login"),
        }
    }

    /// Returns the cargo feature that supports such sessions.
    fn feature(self) -> &'static str {
        match self {
            Self::Sso => "sso",
            Self::Login => "login",
        }
    }
}

impl fmt::Display for SessionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sso => "AWS SSO session",
            Self::Login => "AWS login session",
        })
    }
}

/// A session, and the profile that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignInSession {
    kind: SessionKind,
    profile: String,
    /// What its cached token is named after: the session, or its start URL or user.
    identifier: String,
}

impl SignInSession {
    /// Returns the session of the profile at the start of this chain. `None` if its credentials come from elsewhere.
    pub(super) fn of(chain: &ProfileChain<'_>) -> Option<Self> {
        let base = chain.base;
        if ["credential_source", "web_identity_token_file"].iter().any(|name| base.get(name).is_some()) {
            return None;
        }
        let kind = if SSO_PROPERTIES.iter().any(|name| base.get(name).is_some()) {
            SessionKind::Sso
        } else {
            base.get("login_session").map(|_| SessionKind::Login)?
        };
        // The SDK reads the same properties, in the same order.
        let identifier = match kind {
            SessionKind::Sso => base.get("sso_session").or_else(|| base.get("sso_start_url")),
            SessionKind::Login => base.get("login_session").map(str::trim),
        };
        Some(Self { kind, profile: base.name().to_owned(), identifier: identifier.unwrap_or_default().to_owned() })
    }

    /// Checks that the cached token can be read without a wait.
    fn check_cache_file(&self) -> Result<(), SessionError> {
        reject_pipe(self.cache_file().as_ref())
            .map_err(|error| SessionError::Failed { session: self.clone(), reason: error.to_string() })
    }

    /// Returns the file of the cached token.
    fn cache_file(&self) -> String {
        match self.kind {
            SessionKind::Sso => {
                format!("~/.aws/sso/cache/{}.json", hex(&Sha1::digest(self.identifier.as_bytes())))
            }
            SessionKind::Login => {
                let folder = std::env::var("AWS_LOGIN_CACHE_DIRECTORY").ok().filter(|folder| !folder.is_empty());
                let folder = folder.as_deref().unwrap_or("~/.aws/login/cache");
                format!("{}/{}.json", folder.escape_debug(), hex(&Sha256::digest(self.identifier.as_bytes())))
            }
        }
    }

    /// Returns the command that signs in again.
    fn command(&self) -> String {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./@:+=,".contains(&byte);
        let is_bare = !self.profile.is_empty() && self.profile.bytes().all(is_word);
        let profile = if is_bare { self.profile.clone() } else { format!("'{}'", self.profile.replace('\'', "'\\''")) };
        match self.kind {
            SessionKind::Sso => format!("aws sso login --profile {profile}"),
            SessionKind::Login => format!("aws login --profile {profile}"),
        }
    }
}

impl fmt::Display for SignInSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of the profile {:?}", self.kind, self.profile)
    }
}

/// Why a session provided no credentials. The messages contain no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// There is no valid token. Only signing in again helps.
    #[error("{session} has expired or was never started ({reason}): run `{}`", session.command())]
    SignedOut {
        /// The session.
        session: SignInSession,
        /// What the SDK says.
        reason: String,
    },
    /// The cached token is not whole, because another program is writing it or was interrupted.
    #[error(
        "{session} provided no credentials: the file {} is incomplete or damaged: if no other program is writing it, run \
         `{}`", session.cache_file(), session.command()
    )]
    Damaged {
        /// The session.
        session: SignInSession,
    },
    /// Another reason: the network, a missing permission, or a file.
    #[error("{session} provided no credentials: {reason}")]
    Failed {
        /// The session.
        session: SignInSession,
        /// What the SDK says.
        reason: String,
    },
    /// This program was built without support for such sessions.
    #[error(
        "the profile {:?} uses an {}, which this build of batchplan does not support: install a release, or build with \
         the cargo feature `{}`", .0.profile, .0.kind, .0.kind.feature()
    )]
    NotBuiltIn(SignInSession),
}

/// Provides the credentials of a session, with errors that say what to do.
#[derive(Debug)]
pub(super) struct SessionProvider {
    session: SignInSession,
    source: SharedCredentialsProvider,
}

impl SessionProvider {
    /// Wraps the SDK's provider for the profile with this session.
    pub(super) fn wrap(session: SignInSession, source: SharedCredentialsProvider) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Self { session, source })
    }
}

impl ProvideCredentials for SessionProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.session.check_cache_file().map_err(CredentialsError::provider_error)?;
            let mut provided = self.source.provide_credentials().await;
            if provided.as_ref().is_err_and(is_incomplete_token) {
                tokio::time::sleep(REWRITE_WAIT).await;
                provided = self.source.provide_credentials().await;
            }
            provided.map_err(|error| {
                let session = self.session.clone();
                CredentialsError::provider_error(if session.kind.is_supported() {
                    explain(session, &error)
                } else {
                    SessionError::NotBuiltIn(session)
                })
            })
        })
    }
}

/// The wait before a cached token that is incomplete is read again. The AWS CLI and the SDK write it in place, so that a
/// reader may see a part of it, or an empty file.
const REWRITE_WAIT: Duration = Duration::from_millis(500);

/// What the SDK says of a cached token that ends too early.
const INCOMPLETE: [&str; 2] = ["invalid JSON in cached ", "expected a JSON document "];

/// What the SDK says if there is no valid token.
const SIGNED_OUT: [&str; 8] = [
    "failed to read `",
    "missing field `",
    "invalid value for the `",
    "has expired",
    "token is expired",
    "reauthenticate",
    "invalid secret key",
    "UnauthorizedException",
];

/// What the SDK says if the home folder is unknown.
const NO_HOME: &str = "couldn't resolve a home directory";

/// Returns whether the SDK could not parse the cached token.
fn is_incomplete_token(error: &CredentialsError) -> bool {
    messages(error).iter().any(|text| INCOMPLETE.iter().any(|known| text.contains(known)))
}

/// Returns the messages of an error and of its causes.
fn messages(error: &CredentialsError) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        #[expect(deprecated, reason = "some errors of the SDK return their source only here")]
        let cause = error.cause();
        next = cause;
    }
    texts
}

/// Converts an error of the SDK.
fn explain(session: SignInSession, error: &CredentialsError) -> SessionError {
    if is_incomplete_token(error) {
        return SessionError::Damaged { session };
    }
    let texts = messages(error);
    let last = texts.last().cloned().unwrap_or_default();
    // An error of the system does not name the file, the error before it does.
    let before = texts.iter().rev().nth(1).filter(|before| last.contains("(os error ") && before.contains('`'));
    let reason = before.map_or_else(|| last.clone(), |before| format!("{before}: {last}"));
    let reason: String = reason.chars().map(|c| if affects_terminal(c) { ' ' } else { c }).collect();
    if last == NO_HOME {
        let reason = "HOME is not set, so its cached token cannot be found: set HOME to your home folder".to_owned();
        return SessionError::Failed { session, reason };
    }
    let reason = truncate(&reason);
    if texts.iter().any(|text| SIGNED_OUT.iter().any(|known| text.contains(known))) {
        SessionError::SignedOut { session, reason }
    } else {
        SessionError::Failed { session, reason }
    }
}

/// The header in which the portal of AWS SSO gets the token.
const SSO_TOKEN_HEADER: &str = "x-amz-sso_bearer_token";

/// The headers with other tokens: of a container's credentials, and of EC2's metadata service.
const TOKEN_HEADERS: [&str; 2] = ["authorization", "x-aws-ec2-metadata-token"];

/// The secrets in the JSON body of a request that renews a token.
const TOKEN_FIELDS: [&str; 2] = ["clientSecret", "refreshToken"];

/// The secret in the form of a request to an STS.
const WEB_IDENTITY_FIELD: &str = "WebIdentityToken=";

/// The tokens that a request contains.
#[derive(Default)]
pub(super) struct RequestTokens {
    /// Whether one of them belongs to a session or a web identity.
    needs_encryption: bool,
    texts: Vec<String>,
}

impl RequestTokens {
    /// Finds the tokens of this request.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let header = |name: &&str| request.headers().get(*name).map(str::to_owned);
        let mut texts: Vec<String> = header(&SSO_TOKEN_HEADER).into_iter().collect();
        let body = request.body().bytes().unwrap_or_default();
        if let Ok(Json::Object(fields)) = serde_json::from_slice(body) {
            let secrets = TOKEN_FIELDS.iter().filter_map(|name| fields.get(*name)?.as_str());
            texts.extend(secrets.map(str::to_owned));
        }
        let form =
            body.split(|byte| *byte == b'&').filter_map(|field| field.strip_prefix(WEB_IDENTITY_FIELD.as_bytes()));
        texts.extend(form.map(|token| percent_decode(token).decode_utf8_lossy().into_owned()));
        let needs_encryption = !texts.is_empty();
        // A signature is not a secret, and errors about it repeat parts of it for a reason.
        texts.extend(TOKEN_HEADERS.iter().filter_map(header).filter(|value| !value.starts_with("AWS4-")));
        Self { needs_encryption, texts }
    }

    /// Returns whether the tokens may be sent there: those of a session or a web identity only encrypted, or to this
    /// machine. A container's token is for a metadata service, which has no TLS.
    pub(super) fn may_be_sent_to(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        !self.needs_encryption || uri.scheme_str() == Some("https") || is_loopback(host)
    }

    /// Returns the text of a server without these tokens and the passwords of proxies, limited to this many bytes.
    pub(super) fn hide_in(&self, text: &[u8], most: usize) -> Vec<u8> {
        let secrets: Vec<_> = self.texts.iter().chain(proxy_secrets()).map(String::as_str).collect();
        redact(&String::from_utf8_lossy(text), &secrets, most).into_bytes()
    }

    /// Returns whether there is nothing to hide.
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && proxy_secrets().is_empty()
    }
}

/// The path at which AWS Sign-In renews the token of `aws login`.
const LOGIN_TOKEN_PATH: &str = "/v1/token";

/// Returns whether the SDK accepts a successful response at this path. For an incomplete response of AWS Sign-In it
/// panics, as for a lifetime that is not a positive number.
pub(super) fn is_complete_response(path: &str, body: &[u8]) -> bool {
    if !path.ends_with(LOGIN_TOKEN_PATH) {
        return true;
    }
    let Ok(response) = serde_json::from_slice::<Json>(body) else { return false };
    let is_text = |value: &Json| value.as_str().is_some_and(|text| !text.is_empty());
    let keys = &response["accessToken"];
    ["accessKeyId", "secretAccessKey", "sessionToken"].iter().all(|name| is_text(&keys[name]))
        && is_text(&response["refreshToken"])
        && response["expiresIn"].as_u64().is_some_and(|seconds| i32::try_from(seconds).is_ok())
}

/// The system's clock, which stands still while it is behind a time that it has already shown. The SDK panics if it is
/// set back between two renewals of a token.
#[derive(Debug, Default)]
pub(super) struct ForwardClock(Mutex<Option<SystemTime>>);

impl TimeSource for ForwardClock {
    fn now(&self) -> SystemTime {
        let mut latest = self.0.lock();
        let now = latest.map_or_else(SystemTime::now, |latest| latest.max(SystemTime::now()));
        *latest = Some(now);
        now
    }
}

#[cfg(test)]
mod tests;
