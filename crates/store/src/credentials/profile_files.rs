//! The configuration files of AWS, and why a profile was not found. The SDK takes a configuration file that it cannot
//! read for an empty one. It reads all files on the thread that asks for credentials, so that no time limit applies.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_config::profile::ProfileSet;

/// Why a profile was not found, with what to change. Contains paths, never what is in the files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// A file is there but cannot be read.
    #[error(
        "cannot read {}: {cause}: make it a readable file, or set AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE to \
         another one", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// A file is a pipe.
    #[error("{} is a pipe, and reading it may never end: write its content to a regular file", _0.display())]
    Pipe(PathBuf),
    /// There is no home folder to look in.
    #[error(
        "cannot find the profile {0:?} of AWS_PROFILE, because HOME is not set: set HOME, or set AWS_CONFIG_FILE to the \
         file with the profile"
    )]
    NoHome(String),
    /// The files do not contain it.
    #[error(
        "the profile {profile:?} of AWS_PROFILE is not in {} or {}: correct AWS_PROFILE, or set AWS_CONFIG_FILE or \
         AWS_SHARED_CREDENTIALS_FILE to the file with the profile", config.display(), credentials.display()
    )]
    Missing {
        /// The name of the profile.
        profile: String,
        /// The configuration file.
        config: PathBuf,
        /// The credentials file.
        credentials: PathBuf,
    },
}

/// Loads all profiles.
///
/// # Errors
/// Returns an error if a file cannot be read or parsed.
pub(super) async fn load_profiles() -> Result<ProfileSet, Box<dyn Error + Send + Sync>> {
    reject_pipes(&|name| std::env::var_os(name))?;
    let (fs, env, files) = Default::default();
    Ok(aws_config::profile::load(&fs, &env, &files, None).await?)
}

/// Rejects pipes in the place of the files that the SDK reads because of these variables.
pub(super) fn reject_pipes(variable: &impl Fn(&str) -> Option<OsString>) -> Result<(), ProfileError> {
    let tokens = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];
    let tokens = tokens.into_iter().filter_map(variable).map(PathBuf::from);
    ProfilePaths::of(variable).into_paths().chain(tokens).try_for_each(|path| reject_pipe(&path))
}

/// Rejects a pipe: opening it waits until a program writes to it.
pub(super) fn reject_pipe(path: &Path) -> Result<(), ProfileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;

        let path = in_home(path, &|name| std::env::var_os(name));
        if fs::metadata(&path).is_ok_and(|found| found.file_type().is_fifo()) {
            return Err(ProfileError::Pipe(path));
        }
    }
    Ok(())
}

/// Returns the path that the SDK reads: a leading `~` stands for the home folder.
fn in_home(path: &Path, variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), home(variable)) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn home(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if cfg!(windows) { std::env::home_dir() } else { variable("HOME").map(PathBuf::from) }
}

/// The profile that is active if no other one is asked for. It need not exist.
const DEFAULT_PROFILE: &str = "default";

/// Checks that the profile that `AWS_PROFILE` names exists, even if the credentials come from elsewhere: it may also name
/// a region, an endpoint and CA certificates.
pub(super) fn check_active_profile(
    profiles: &ProfileSet,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), ProfileError> {
    let name = profiles.selected_profile();
    if name == DEFAULT_PROFILE || profiles.get_profile(name).is_some() {
        return Ok(());
    }
    explain_missing_profile(variable).map_or(Ok(()), Err)
}

/// The files with the profiles. `None` if a file is neither named nor below a home folder.
#[derive(Debug)]
pub(crate) struct ProfilePaths {
    config: Option<PathBuf>,
    credentials: Option<PathBuf>,
}

impl ProfilePaths {
    /// Finds them as the SDK does.
    pub(super) fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let home = home(&variable);
        let file = |name, default| {
            let default = || home.as_ref().map(|home| home.join(".aws").join(default));
            variable(name).map(PathBuf::from).or_else(default)
        };
        Self {
            config: file("AWS_CONFIG_FILE", "config"),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        }
    }

    fn into_paths(self) -> impl Iterator<Item = PathBuf> {
        [self.config, self.credentials].into_iter().flatten()
    }
}

impl fmt::Display for ProfilePaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = [&self.config, &self.credentials].into_iter().flatten().collect();
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&paths.join(" or "))
    }
}

/// Explains why the active profile was not found. `None` if no profile was asked for and no file is unreadable.
pub(super) fn explain_missing_profile(variable: impl Fn(&str) -> Option<OsString>) -> Option<ProfileError> {
    let profile = variable("AWS_PROFILE").map(|name| name.to_string_lossy().into_owned());
    let profile = profile.filter(|name| !name.trim().is_empty());
    let ProfilePaths { config, credentials } = ProfilePaths::of(variable);
    for path in [&config, &credentials].into_iter().flatten() {
        if let Err(cause) = check_readable(path) {
            return Some(ProfileError::Unreadable { path: path.clone(), cause });
        }
    }
    let profile = profile?;
    Some(match (config, credentials) {
        (Some(config), Some(credentials)) => ProfileError::Missing { profile, config, credentials },
        _ => ProfileError::NoHome(profile),
    })
}

/// Checks that a file can be read, if it is there.
fn check_readable(path: &Path) -> io::Result<()> {
    let is_missing = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    match fs::metadata(path) {
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // Opening another kind of file could wait.
        Ok(found) if found.is_file() => fs::File::open(path).map(drop),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Option<String> {
        let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        explain_missing_profile(of).map(|error| error.to_string())
    }

    #[test]
    fn a_profile_is_named_with_the_files_that_should_contain_it() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().to_str().expect("UTF-8");
        assert_eq!(said(&[("HOME", home)]), None);
        assert_eq!(said(&[("HOME", home), ("AWS_PROFILE", " ")]), None);
        let missing = said(&[("HOME", home), ("AWS_PROFILE", "dev"), ("AWS_CONFIG_FILE", "/else/where")]);
        let expected =
            format!("the profile \"dev\" of AWS_PROFILE is not in /else/where or {home}/.aws/credentials: correct");
        assert!(missing.as_deref().is_some_and(|said| said.starts_with(&expected)), "{missing:?}");
        let no_home = said(&[("AWS_PROFILE", "dev")]);
        assert!(no_home.as_deref().is_some_and(|said| said.contains("HOME is not set")), "{no_home:?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let config = home.path().join(".aws/config");
        fs::create_dir_all(&config).expect("a folder");
        let said = said(&[("HOME", home.path().to_str().expect("UTF-8"))]).expect("an error");
        assert!(said.starts_with(&format!("cannot read {}: ", config.display())), "{said}");
        assert!(said.contains("make it a readable file"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_named_and_a_device_is_not() {
        let home = tempfile::tempdir().expect("a folder");
        let pipe = home.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let checked = |name: &str, value: &Path| {
            reject_pipes(&|asked: &str| (asked == name).then(|| value.into())).map_err(|error| error.to_string())
        };
        let named = format!("{} is a pipe, and reading it may never end: write its content to a", pipe.display());
        for name in [
            "AWS_CONFIG_FILE",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ] {
            assert!(checked(name, &pipe).expect_err(name).starts_with(&named));
            assert_eq!(checked(name, Path::new("/dev/null")), Ok(()));
        }
        fs::create_dir(home.path().join(".aws")).expect("a folder");
        fs::rename(&pipe, home.path().join(".aws/credentials")).expect("renamed");
        assert!(checked("HOME", home.path()).expect_err("a pipe").contains("/.aws/credentials is a pipe"));
        let of_home = |name: &str| (name == "HOME").then(|| "/h".into());
        assert_eq!(in_home(Path::new("~/a/b"), &of_home), Path::new("/h/a/b"));
        assert_eq!(in_home(Path::new("/a/~"), &of_home), Path::new("/a/~"));
    }
}
