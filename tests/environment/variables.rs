//! The documentation's tables of environment variables name exactly those that have an effect.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::table::pages;

/// The beginnings of the variables that the documentation lists one by one.
const LISTED: [&str; 4] = ["AWS_", "OSS_", "BATCHPLAN_", "SSL_"];

/// Words of the pages that look like variables.
const OTHER_WORDS: [&str; 1] = ["CONNECT"];

/// Variables that only AWS's SDK reads, or nobody. The documentation says which clients obey them.
const OF_THE_SDK: [&str; 29] = [
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SIGNIN",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
    "AWS_ENDPOINT_URL_STS",
    "AWS_EXECUTION_ENV",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_LOGIN_CACHE_DIRECTORY",
    "AWS_MAX_ATTEMPTS",
    "AWS_PROFILE",
    "AWS_RETRY_MODE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SDK_UA_APP_ID",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HOME",
    "TMPDIR",
];

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') && !text.ends_with('_')
}

/// The texts between these characters.
fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    // A name has no escapes and no marks, so it stands between two neighbouring marks.
    text.split(mark).filter(|part| !part.is_empty() && is_name(part))
}

/// The variables that a file of the program reads: those with the beginnings above, and those that are read by name.
fn read_by(text: &str, found: &mut BTreeSet<String>) {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let listed =
        quoted(code, '"').filter(|name| LISTED.iter().any(|start| name.starts_with(start)) || name.ends_with("_PROXY"));
    found.extend(listed.map(str::to_owned));
    for call in ["env::var(\"", "env::var_os(\"", "env = \"", "variable(\"", "is_set(\""] {
        let names = code.split(call).skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(names.filter(|name| is_name(name)).map(str::to_owned));
    }
}

fn read_folder(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() {
            read_folder(&entry, found);
        } else if entry.extension().is_some_and(|kind| kind == "rs") && !name.ends_with("tests.rs") {
            read_by(&fs::read_to_string(&entry).expect("text"), found);
        }
    }
}

#[test]
fn every_variable_that_is_read_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut read = BTreeSet::new();
    for folder in ["src", "crates/store/src", "crates/sandbox/src", "crates/columnar/src"] {
        read_folder(&root.join(folder), &mut read);
    }
    // The action and its workflows.
    let action = fs::read_to_string(root.join("action.yml")).expect("the action");
    let words = action.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    read.extend(words.filter(|word| word.starts_with("BATCHPLAN_") && is_name(word)).map(str::to_owned));
    assert!(read.contains("OSS_SESSION_TOKEN") && read.contains("AWS_REGION") && read.contains("CI"), "{read:?}");

    let pages = pages();
    let groups: Vec<_> = pages.split('`').filter_map(|name| name.strip_suffix('*')).collect();
    let named: BTreeSet<_> = quoted(&pages, '`').map(str::to_owned).collect();
    let in_group = |name: &str| groups.iter().any(|start| name.starts_with(start));
    let is_documented = |name: &&String| named.contains(*name) || in_group(name);
    let missing: Vec<_> = read.iter().filter(|name| !is_documented(name)).collect();
    assert!(missing.is_empty(), "the pages on environment variables do not name {missing:?}");
    let is_known =
        |name: &str| read.contains(name) || in_group(name) || OF_THE_SDK.contains(&name) || OTHER_WORDS.contains(&name);
    let unknown: Vec<_> = named.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "nothing reads {unknown:?}, which the documentation names");
    let forgotten: Vec<_> = OF_THE_SDK.iter().filter(|name| !named.contains(**name)).collect();
    assert!(forgotten.is_empty(), "the documentation does not name {forgotten:?}");
}
