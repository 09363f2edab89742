//! The state URL of a plan, such as `s3://bucket/prefix?endpoint=https://...`: it says where in a bucket jobs are kept.
//! It holds no credentials, and unencrypted HTTP to another machine must be allowed by it.

use std::fmt;

use batchplan_store::object::{BucketName, MAX_KEY_BYTES, ObjectKey};
use batchplan_store::{
    AddressingStyle, AwsEndpointSettings, EndpointUrl, EndpointUrlError, StoreConfig, StoreProvider, UnsupportedBucket,
};

use crate::plan::bucket_name::{lax_problem, length_problem};
use crate::provider::PolicyLanguage;
use crate::toml_reader::quote_for_message;

/// The maximum length of the prefix, in bytes. It leaves 256 bytes for the names below it.
const MAX_PREFIX: usize = MAX_KEY_BYTES - 256;

/// The maximum length of a parameter's value, in bytes.
const MAX_VALUE: usize = 2048;

/// Returns what is wrong with the prefix of a state URL, without slashes at its end.
fn prefix_problem(prefix: &str) -> Option<String> {
    if prefix.len() > MAX_PREFIX {
        return Some(format!("is too long: {} bytes (maximum {MAX_PREFIX})", prefix.len()));
    }
    if let Some(c) = prefix.chars().find(|c| matches!(c, '#' | '\\')) {
        return Some(format!("contains {c}"));
    }
    if prefix.chars().any(char::is_control) {
        return Some("contains a control character".to_owned());
    }
    prefix.split('/').find_map(|part| match part {
        "" if prefix.is_empty() => None,
        "" if prefix.starts_with('/') => Some("begins with a slash".to_owned()),
        "" => Some("contains two slashes in a row".to_owned()),
        "." | ".." => Some(format!("contains the segment `{part}`")),
        _ => None,
    })
}

/// The maximum length of the bucket's name: old buckets of us-east-1 have up to 255 characters.
const MAX_BUCKET_CHARS: usize = 255;

/// The place in a bucket where jobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateUrl {
    scheme: StateScheme,
    /// The bucket that holds the jobs.
    pub bucket: BucketName,
    /// The prefix of all keys, without a trailing slash.
    pub prefix: ObjectKey,
    endpoint: Option<String>,
    region: Option<String>,
    addressing: Option<AddressingStyle>,
    role_arn: Option<String>,
    allow_http: bool,
    /// Whether a lock prevents concurrent use. True unless `lock=false` says that another mechanism prevents it.
    pub locked: bool,
}

/// The scheme of the URL, which selects the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateScheme {
    S3,
    Oss,
}

impl StateScheme {
    fn named(name: &str) -> Option<Self> {
        [Self::S3, Self::Oss].into_iter().find(|scheme| scheme.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Oss => "oss",
        }
    }
}

/// Why a text is not a valid state URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateUrlError {
    /// What is wrong, as in `its scheme is ...`.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

fn error<T>(what: impl Into<String>, help: impl Into<String>) -> Result<T, StateUrlError> {
    Err(StateUrlError { message: what.into(), help: help.into() })
}

/// Help text: the form of a state URL.
const FORM_HELP: &str =
    "write s3://BUCKET/PREFIX or oss://BUCKET/PREFIX, with ?region=... and &endpoint=https://... if needed";

impl StateUrl {
    /// Returns whether a text is meant as a state URL, valid or not, rather than as a folder.
    #[must_use]
    pub fn is_state_url(text: &str) -> bool {
        let Some((scheme, rest)) = text.split_once(':') else { return false };
        // `s3:bucket/prefix` is a mistake, not a folder.
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_scheme && rest.starts_with("//")) || StateScheme::named(&scheme.to_ascii_lowercase()).is_some()
    }

    /// Parses a state URL.
    ///
    /// # Errors
    /// Returns an error if the text is not a valid state URL.
    pub fn parse(text: &str) -> Result<Self, StateUrlError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let has_name = text.split_once(':').is_some_and(|(name, _)| StateScheme::named(name).is_some());
            return error(if has_name { "its scheme is not followed by ://" } else { "it has no scheme" }, FORM_HELP);
        };
        let Some(scheme) = StateScheme::named(scheme) else {
            let lower = scheme.to_ascii_lowercase();
            if StateScheme::named(&lower).is_some() {
                return error("its scheme has upper-case letters", format!("write {lower}://"));
            }
            // Anything else before the :// may be a password.
            let is_shown = lower.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let is = if is_shown { format!("is `{}`, not", quote_for_message(scheme)) } else { "is not".to_owned() };
            return error(format!("its scheme {is} s3 or oss"), FORM_HELP);
        };
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        if location.contains('@') {
            return error(
                "it contains a user name or password",
                "set credentials in the environment, and treat these as leaked",
            );
        }
        let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
        if let Some(problem) = lax_problem(bucket).or_else(|| length_problem(bucket, MAX_BUCKET_CHARS)) {
            // What follows a colon may be a password.
            let is_shown = !bucket.is_empty() && !bucket.contains(':');
            let shown = if is_shown { format!(" `{}`", quote_for_message(bucket)) } else { String::new() };
            return error(format!("its bucket name{shown} {problem}"), FORM_HELP);
        }
        let unsupported = if scheme == StateScheme::S3 { UnsupportedBucket::of_aws(bucket) } else { None };
        if let Some(UnsupportedBucket { label, help, .. }) = unsupported {
            return error(format!("it names {label}, which is not supported"), help);
        }
        let prefix = prefix.trim_end_matches('/');
        if let Some(problem) = prefix_problem(prefix) {
            return error(format!("its prefix {problem}"), FORM_HELP);
        }
        let mut url = Self {
            scheme,
            bucket: BucketName::new(bucket),
            prefix: ObjectKey::from(prefix),
            endpoint: None,
            region: None,
            addressing: None,
            role_arn: None,
            allow_http: false,
            locked: true,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.set(name, value)?;
        }
        url.check_endpoint()?;
        Ok(url)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), StateUrlError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+=@,".contains(c);
        let problem = match value.chars().find(|c| !plain(*c)) {
            _ if value.is_empty() => "has no value".to_owned(),
            _ if value.len() > MAX_VALUE => format!("has more than {MAX_VALUE} bytes"),
            Some(c) => format!("contains `{}`", quote_for_message(&c.to_string())),
            None => String::new(),
        };
        if !problem.is_empty() {
            return error(format!("its parameter `{}` {problem}", quote_for_message(name)), FORM_HELP);
        }
        match (name, value) {
            ("endpoint", _) => self.endpoint = Some(value.to_owned()),
            ("region", _) if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) => {
                self.region = Some(value.to_owned());
            }
            ("addressing", "path") => self.addressing = Some(AddressingStyle::Path),
            ("addressing", "virtual") => self.addressing = Some(AddressingStyle::Virtual),
            ("role_arn", _) => self.role_arn = Some(value.to_owned()),
            ("allow_http", "true" | "false") => self.allow_http = value == "true",
            ("lock", "true" | "false") => self.locked = value == "true",
            ("region" | "addressing" | "allow_http" | "lock", _) => {
                return error(
                    format!("`{name}` cannot be `{}`", quote_for_message(value)),
                    "region is a name, addressing is path or virtual, allow_http and lock are true or false",
                );
            }
            _ => {
                return error(
                    format!("unknown parameter `{}`", quote_for_message(name)),
                    "valid parameters: endpoint, region, addressing, role_arn, allow_http, lock",
                );
            }
        }
        Ok(())
    }

    fn check_endpoint(&mut self) -> Result<(), StateUrlError> {
        let Some(text) = &self.endpoint else { return Ok(()) };
        match EndpointUrl::parse(text) {
            Err(EndpointUrlError::Credentials) => error(
                "its endpoint contains a user name or password",
                "set credentials in the environment, and treat these as leaked",
            ),
            Err(EndpointUrlError::NoScheme) => {
                error("its endpoint has no scheme", format!("write `https://{}`", quote_for_message(text)))
            }
            Err(EndpointUrlError::Malformed { label, help }) => error(format!("its endpoint {label}"), help),
            Ok(endpoint) if endpoint.is_exposed() && !self.allow_http => error(
                "its endpoint is not encrypted",
                "use https, or add &allow_http=true to send requests unencrypted",
            ),
            Ok(endpoint) => {
                self.endpoint = Some(endpoint.url().to_owned());
                Ok(())
            }
        }
    }

    /// Returns whether policies of this language apply to the bucket.
    #[must_use]
    pub fn is_covered_by(&self, language: PolicyLanguage) -> bool {
        (self.scheme == StateScheme::Oss) == (language == PolicyLanguage::Ram)
    }

    /// Returns the region that requests to the bucket are signed for, if it is known. `store` is the plan's store.
    pub(super) fn signing_region(&self, store: &StoreConfig) -> Option<String> {
        self.clone().completed_from(Some(store)).store_config().ok()?.region
    }

    /// Completes the URL: settings that it omits are taken from the plan's store, if that is of the same kind and the
    /// URL names no endpoint.
    #[must_use]
    pub fn completed_from(mut self, store: Option<&StoreConfig>) -> Self {
        let alike = |store: &&StoreConfig| {
            !store.provider.is_built_in() && store.provider.profile().url_scheme == self.scheme.as_str()
        };
        let Some(store) = store.filter(alike).filter(|_| self.endpoint.is_none()) else { return self };
        let plain = store.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        self.allow_http |= plain || (store.allow_http && store.endpoint.is_none());
        self.endpoint.clone_from(&store.endpoint);
        self.region = self.region.or_else(|| store.region.clone());
        self.addressing = self.addressing.or(Some(store.addressing));
        self.role_arn = self.role_arn.or_else(|| store.role_arn.clone());
        self
    }

    /// Returns the configuration of the store that holds the bucket.
    ///
    /// # Errors
    /// Returns an error if an `oss://` URL has no region.
    pub fn store_config(&self) -> Result<StoreConfig, StateUrlError> {
        let provider = match (self.scheme, &self.endpoint) {
            (StateScheme::S3, None) => StoreProvider::Aws,
            (StateScheme::S3, Some(_)) => StoreProvider::S3,
            (StateScheme::Oss, _) => StoreProvider::Oss,
        };
        let region = self.region.clone().or_else(|| provider.profile().region.default_region().map(str::to_owned));
        let endpoint = match (self.scheme, &self.endpoint, &region) {
            (StateScheme::Oss, _, None) => {
                return error("it has no region", "add your region, such as ?region=cn-hangzhou");
            }
            (StateScheme::Oss, None, Some(region)) => Some(format!("https://oss-{region}.aliyuncs.com")),
            (_, endpoint, _) => endpoint.clone(),
        };
        let by_ip = endpoint
            .as_deref()
            .and_then(|endpoint| EndpointUrl::parse(endpoint).ok())
            .is_some_and(|endpoint| endpoint.has_ip_address());
        let default = if by_ip { AddressingStyle::Path } else { provider.profile().addressing };
        Ok(StoreConfig {
            provider,
            endpoint,
            region,
            addressing: self.addressing.unwrap_or(default),
            role_arn: self.role_arn.clone(),
            data: None,
            fill: None,
            allow_http: self.allow_http,
            requester_pays: false,
            aws_endpoints: AwsEndpointSettings::default(),
        })
    }
}

/// Formats the URL as it was written; omitted settings stay omitted.
impl fmt::Display for StateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.bucket)?;
        if !self.prefix.as_bytes().is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let addressing = self.addressing.map(|addressing| match addressing {
            AddressingStyle::Path => "path",
            AddressingStyle::Virtual => "virtual",
        });
        let parameters = [
            ("region", self.region.as_deref()),
            ("endpoint", self.endpoint.as_deref()),
            ("addressing", addressing),
            ("role_arn", self.role_arn.as_deref()),
            ("allow_http", self.allow_http.then_some("true")),
            ("lock", (!self.locked).then_some("false")),
        ];
        let parameters = parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        for (index, (name, value)) in parameters.enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_displays_alike() {
        for text in [
            "s3://bkt",
            "s3://bkt/a/b c",
            "s3://bkt/p?region=eu-west-1",
            "s3://bkt/p?endpoint=http://127.0.0.1:9000&addressing=path&lock=false",
            "oss://bkt/p?region=cn-hangzhou&role_arn=acs:ram::1:role/x",
            "s3://bkt/p?endpoint=http://minio:9000&allow_http=true",
        ] {
            assert_eq!(StateUrl::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(StateUrl::parse("s3://bkt/p//").expect("one").to_string(), "s3://bkt/p");
    }

    #[test]
    fn every_other_state_url_is_refused_with_its_reason() {
        let long = format!("s3://{}", "b".repeat(256));
        let deep = format!("s3://bkt/{}", "p".repeat(MAX_PREFIX + 1));
        for (text, reason) in [
            ("bkt/p", "it has no scheme"),
            ("s3:bkt/p", "its scheme is not followed by ://"),
            ("s3:/bkt/p", "its scheme is not followed by ://"),
            ("gs://bkt/p", "its scheme is `gs`, not s3 or oss"),
            ("S3://bkt", "its scheme has upper-case letters"),
            ("s3://", "its bucket name is missing"),
            ("s3:///p", "its bucket name is missing"),
            ("s3://b/p", "its bucket name `b` is too short: 1 character (minimum 3)"),
            (long.as_str(), "is too long: 256 characters (maximum 255)"),
            ("s3://b%20t/p", "its bucket name `b%20t` contains `%`"),
            ("s3://arn:aws:s3:::bkt/p", "is a URL, an ARN or a path; use only the name"),
            ("s3://k:s@bkt/p", "it contains a user name or password"),
            (deep.as_str(), "its prefix is too long: 769 bytes (maximum 768)"),
            ("s3://bkt/a//b", "its prefix contains two slashes in a row"),
            ("s3://bkt//a", "its prefix begins with a slash"),
            ("s3://bkt/../a", "its prefix contains the segment `..`"),
            ("s3://bkt/a#b", "its prefix contains #"),
            ("s3://bkt/a\nb", "its prefix contains a control character"),
            ("s3://bkt/p?endpoint=ftp://x", "its endpoint uses neither https nor http"),
            ("s3://bkt/p?endpoint=http://other:9000", "its endpoint is not encrypted"),
            ("s3://bkt/p?endpoint=https://k:s@host", "its endpoint contains a user name or password"),
            ("s3://bkt/p?region=", "its parameter `region` has no value"),
            ("s3://bkt/p?region=a b", "its parameter `region` contains ` `"),
            ("s3://bkt/p?region=a/b", "`region` cannot be `a/b`"),
            ("s3://bkt/p?lock=maybe", "`lock` cannot be `maybe`"),
            ("s3://bkt/p?secret=x", "unknown parameter `secret`"),
        ] {
            let refused = StateUrl::parse(text).expect_err(text);
            assert!(refused.message.contains(reason) && !refused.help.is_empty(), "{text}: {}", refused.message);
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for text in ["s3:user:hush@x://b", "s3://user:hush@b", "s3://AKIDEXAMPLE:hush/b", "s3://user:hush?x@b"] {
            let refused = StateUrl::parse(text).expect_err(text);
            assert!(!format!("{refused:?}").contains("hush"), "{text}: {refused:?}");
        }
    }

    #[test]
    fn is_completed_from_a_plan_of_the_same_kind() {
        let store = StoreConfig {
            provider: StoreProvider::S3,
            endpoint: Some("http://10.0.0.7:9000".to_owned()),
            region: Some("here".to_owned()),
            addressing: AddressingStyle::Path,
            role_arn: None,
            data: None,
            fill: None,
            allow_http: false,
            requester_pays: false,
            aws_endpoints: AwsEndpointSettings::default(),
        };
        let beside = |text: &str| StateUrl::parse(text).expect(text).completed_from(Some(&store));
        let url = beside("s3://bkt/p");
        assert_eq!(url.store_config().expect("a store"), StoreConfig { allow_http: true, ..store.clone() });
        // A completed URL can be parsed again.
        assert_eq!(StateUrl::parse(&url.to_string()), Ok(url));
        assert_eq!(
            beside("s3://bkt?endpoint=https://s3.example.org").store_config().expect("one").region.as_deref(),
            Some("us-east-1")
        );
        assert!(beside("oss://bkt").store_config().is_err());
        let oss = StateUrl::parse("oss://bkt?region=cn-hangzhou").expect("one").store_config().expect("a store");
        assert_eq!(oss.endpoint.as_deref(), Some("https://oss-cn-hangzhou.aliyuncs.com"));
        assert_eq!(
            StateUrl::parse("s3://bkt").expect("one").store_config().expect("a store").provider,
            StoreProvider::Aws
        );
    }

    #[test]
    fn distinguishes_folders_from_urls() {
        for text in ["s3://bkt", "gs://bkt", "file://x", "s3:bkt", "OSS:/bkt"] {
            assert!(StateUrl::is_state_url(text), "{text}");
        }
        for text in [".batchplan", "/tmp/a://b", "a/b", "c:\\x"] {
            assert!(!StateUrl::is_state_url(text), "{text}");
        }
    }
}
