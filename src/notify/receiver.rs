//! A webhook endpoint, with the values that its plan takes from the environment.

use std::fmt;
use std::time::Duration;

use super::seal::Seal;
use crate::plan::{Event, Hook, Share, Target};
use crate::web::{Url, UrlFault};

/// A webhook: its URL, and the events to send to it.
#[derive(Clone)]
pub struct Receiver {
    pub(super) url: Url,
    pub(super) seal: Option<Seal>,
    pub(super) allow_http: bool,
    pub(super) on: Vec<Event>,
    pub(super) failure_rate: Option<Share>,
    pub(super) run_time: Option<Duration>,
}

/// Why a webhook cannot be used. No message shows the value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// An environment variable that the plan names is not set.
    #[error("notifications need {variable} in the environment, which is not set (`{key}` in [[notify]])")]
    Unset {
        /// The key in the plan that names the variable.
        key: &'static str,
        /// The name of the variable.
        variable: String,
    },
    /// The value of the variable is not a valid URL.
    #[error("{variable} cannot be used as the URL of notifications: it {fault}")]
    NoUrl {
        /// The name of the variable.
        variable: String,
        /// What is wrong with the URL.
        fault: UrlFault,
    },
    /// The value of the variable cannot be a secret, for example because it ends with a line break.
    #[error(
        "{variable} begins or ends with white space, or holds a control character or one outside ASCII: as the secret of \
         notifications it would sign what no receiver can check"
    )]
    NoSecret {
        /// The name of the variable.
        variable: String,
    },
    /// The URL is not encrypted, so that others can read the messages.
    #[error("{variable} holds the URL of a webhook that is not encrypted, and not on this machine")]
    NotEncrypted {
        /// The name of the variable.
        variable: String,
    },
}

impl NotReady {
    /// Returns a hint that says how to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Unset { variable, .. } => {
                format!("set {variable} where batchplan runs, or take its [[notify]] out of the plan")
            }
            Self::NoSecret { .. } => "set it to the bare value, without the line break of a copy".to_owned(),
            Self::NoUrl { .. } => "as in https://hooks.example.com/batchplan".to_owned(),
            Self::NotEncrypted { .. } => "use https, or set `allow_http = true` in its [[notify]]".to_owned(),
        }
    }
}

impl Receiver {
    /// Creates the receiver of a plan's webhook. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// Returns an error if an environment variable is missing, or its value cannot be used.
    pub fn new(hook: &Hook, variable: impl Fn(&str) -> Option<String>) -> Result<Self, NotReady> {
        let value = |key, name: &String| {
            let set = variable(name).filter(|value| !value.trim().is_empty());
            set.ok_or_else(|| NotReady::Unset { key, variable: name.clone() })
        };
        let url = match &hook.target {
            Target::Url(url) => url.clone(),
            Target::Variable(name) => {
                let variable = || name.clone();
                let url = Url::parse(value("url_env", name)?.trim())
                    .map_err(|fault| NotReady::NoUrl { variable: variable(), fault })?;
                if !url.is_encrypted() && !url.is_loopback() && !hook.allow_http {
                    return Err(NotReady::NotEncrypted { variable: variable() });
                }
                url
            }
        };
        let secret = |name: &String| {
            let secret = value("secret_env", name)?;
            // The usual mistake is a CI secret that was pasted with its line break.
            let bare = secret.trim() == secret && secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if bare { Ok(secret) } else { Err(NotReady::NoSecret { variable: name.clone() }) }
        };
        let secret = hook.secret_env.as_ref().map(secret).transpose()?;
        Ok(Self {
            url,
            seal: secret.map(|secret| Seal::new(secret.as_bytes())),
            allow_http: hook.allow_http,
            on: hook.on.clone(),
            failure_rate: hook.failure_rate,
            run_time: hook.run_time,
        })
    }
}

/// Shows the origin of the URL, without the parts that may be secret.
impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("url", &self.url).field("on", &self.on).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(target: Target, secret_env: Option<&str>, allow_http: bool) -> Hook {
        let secret_env = secret_env.map(str::to_owned);
        Hook { target, secret_env, allow_http, on: vec![Event::Failed], failure_rate: None, run_time: None }
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
    fn what_a_plan_leaves_to_the_environment_must_be_there_and_is_never_shown() {
        let variable = |name: &str| Target::Variable(name.to_owned());
        let receiver = Receiver::new(&hook(variable("URL"), Some("KEY"), false), environment).expect("ready");
        assert_eq!(receiver.url.in_full(), "https://hooks.example.com/T0/s3cret");
        assert!(receiver.seal.is_some());
        assert!(!format!("{receiver} {receiver:?} {:?}", receiver.seal).contains("s3cret"));
        assert!(Receiver::new(&hook(variable("PLAIN"), None, true), environment).is_ok());
        for name in ["BROKEN", "CONTROL"] {
            let said = Receiver::new(&hook(variable("URL"), Some(name), false), environment).expect_err("refused");
            assert_eq!(said, NotReady::NoSecret { variable: name.to_owned() });
            assert!(said.to_string().starts_with(name) && !said.to_string().contains("s3cret"), "{said}");
        }
        for (target, secret, said) in [
            ("NONE", None, "notifications need NONE in the environment, which is not set (`url_env` in [[notify]])"),
            ("BLANK", None, "notifications need BLANK in the environment, which is not set (`url_env` in [[notify]])"),
            (
                "URL",
                Some("BLANK"),
                "notifications need BLANK in the environment, which is not set (`secret_env` in [[notify]])",
            ),
            ("BAD", None, "BAD cannot be used as the URL of notifications: it does not begin with https:// or http://"),
            ("PLAIN", None, "PLAIN holds the URL of a webhook that is not encrypted, and not on this machine"),
        ] {
            let error = Receiver::new(&hook(variable(target), secret, false), environment).expect_err(target);
            assert_eq!(error.to_string(), said);
            assert!(!format!("{error:?} {}", error.help()).contains("s3cret"));
        }
    }
}
