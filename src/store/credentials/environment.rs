//! OSS's variables: those that its official SDKs read.
//! <https://github.com/aliyun/alibabacloud-oss-python-sdk-v2#configuring-credentials>

use std::ffi::OsString;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;

const KEY: &str = "OSS_ACCESS_KEY_ID";
const SECRET: &str = "OSS_ACCESS_KEY_SECRET";
const TOKEN: &str = "OSS_SESSION_TOKEN";

/// Why the variables give no credentials. Says their names, never what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum EnvironmentError {
    /// None is set that must be.
    #[error("{KEY} and {SECRET} are not set")]
    Unset,
    /// One half is missing.
    #[error("{missing} is not set, although {given} is")]
    Half { missing: &'static str, given: &'static str },
    /// A copy that took a line break or a blank along.
    #[error("{0} begins or ends with white space: set it to the bare value")]
    Surrounded(&'static str),
    /// What no header can carry.
    #[error("{0} holds white space, a control character or one outside ASCII, and credentials have none of these")]
    Unusable(&'static str),
}

/// The credentials in OSS's variables. They do not change while the program runs.
///
/// # Errors
/// When a variable is missing, or holds what cannot be a credential.
pub(in crate::store) fn from_oss_environment() -> Result<SharedCredentialsProvider, CredentialsError> {
    let credentials = read(|name| std::env::var_os(name)).map_err(|error| match error {
        EnvironmentError::Unset | EnvironmentError::Half { .. } => CredentialsError::not_loaded(error),
        EnvironmentError::Surrounded(_) | EnvironmentError::Unusable(_) => {
            CredentialsError::invalid_configuration(error)
        }
    })?;
    Ok(SharedCredentialsProvider::new(credentials))
}

fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Credentials, EnvironmentError> {
    let of = |name| usable(name, variable(name).unwrap_or_default());
    match (of(KEY)?, of(SECRET)?) {
        (Some(key), Some(secret)) => Ok(Credentials::new(key, secret, of(TOKEN)?, None, "environment")),
        (Some(_), None) => Err(EnvironmentError::Half { missing: SECRET, given: KEY }),
        (None, Some(_)) => Err(EnvironmentError::Half { missing: KEY, given: SECRET }),
        (None, None) => Err(EnvironmentError::Unset),
    }
}

/// A variable's value; an empty one is none, as OSS's SDKs have it.
fn usable(name: &'static str, value: OsString) -> Result<Option<String>, EnvironmentError> {
    let value = value.into_string().map_err(|_| EnvironmentError::Unusable(name))?;
    if value.trim() != value {
        return Err(EnvironmentError::Surrounded(name));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(EnvironmentError::Unusable(name));
    }
    Ok(Some(value).filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Credentials, EnvironmentError> {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        read(found)
    }

    fn said(variables: &[(&str, &str)]) -> String {
        of(variables).expect_err("refused").to_string()
    }

    #[test]
    fn a_pair_is_taken_with_its_token_or_without() {
        let pair = of(&[(KEY, "id"), (SECRET, "s"), (TOKEN, "")]).expect("credentials");
        assert_eq!((pair.access_key_id(), pair.secret_access_key(), pair.session_token()), ("id", "s", None));
        let all = of(&[(KEY, "id"), (SECRET, "s"), (TOKEN, "t/+=")]).expect("credentials");
        assert_eq!(all.session_token(), Some("t/+="));
    }

    #[test]
    fn the_variable_that_is_missing_is_named() {
        assert_eq!(said(&[]), "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET are not set");
        assert_eq!(said(&[(TOKEN, "t")]), said(&[]));
        assert_eq!(said(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]), said(&[]));
        assert_eq!(said(&[(KEY, "id")]), "OSS_ACCESS_KEY_SECRET is not set, although OSS_ACCESS_KEY_ID is");
        assert_eq!(
            said(&[(KEY, ""), (SECRET, "s")]),
            "OSS_ACCESS_KEY_ID is not set, although OSS_ACCESS_KEY_SECRET is"
        );
    }

    #[test]
    fn what_is_no_credential_is_refused_and_not_shown() {
        for (value, why) in [
            ("hushhush\n", "begins or ends with white space"),
            (" hushhush", "begins or ends with white space"),
            ("hush hush", "holds white space"),
            ("hush\u{1b}hush", "holds white space, a control character"),
            ("hushhüsh", "holds white space"),
        ] {
            for name in [KEY, SECRET, TOKEN] {
                let mut variables = vec![(KEY, "id"), (SECRET, "s"), (TOKEN, "t")];
                variables.retain(|(known, _)| *known != name);
                variables.push((name, value));
                let said = said(&variables);
                assert!(said.starts_with(name) && said.contains(why) && !said.contains("hush"), "{said}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStringExt as _;

        let read = read(|_| Some(OsString::from_vec(vec![b'a', 0xff])));
        assert_eq!(read.err(), Some(EnvironmentError::Unusable(KEY)));
    }
}
