//! Holds every dependency to deny.toml: licences, sources, and crates that stay out.
//!
//! `cargo deny` does this for all targets, and reads the advisories besides. This needs nothing but cargo, and finds a
//! new dependency's licence before it is pushed.

use std::collections::BTreeSet;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct DenyFile {
    licenses: AllowedLicenses,
    bans: BannedCrates,
    sources: AllowedSources,
}

#[derive(Deserialize)]
struct AllowedLicenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct BannedCrates {
    deny: Vec<BannedCrate>,
}

#[derive(Deserialize)]
struct BannedCrate {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AllowedSources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<CargoPackage>,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Every package that a build on this machine takes, the tests' own included.
fn packages() -> Vec<CargoPackage> {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    // Packages of other targets may not have been downloaded.
    let printed = cargo(&["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", host]);
    let metadata: CargoMetadata = serde_json::from_str(&printed).expect("cargo prints JSON");
    assert!(metadata.packages.len() > 100, "only {} packages", metadata.packages.len());
    metadata.packages
}

fn cargo(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("cargo prints UTF-8")
}

fn deny_file() -> DenyFile {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).expect("deny.toml");
    toml::from_str(&text).expect("deny.toml is TOML")
}

#[test]
fn every_license_is_allowed() {
    let allowed: Vec<spdx::Licensee> = deny_file()
        .licenses
        .allow
        .iter()
        .map(|name| spdx::Licensee::parse(name).unwrap_or_else(|e| panic!("deny.toml: {name}: {e}")))
        .collect();
    let mut refused = Vec::new();
    for package in packages() {
        let license = package.license.unwrap_or_default();
        // Older manifests have a slash for OR, which is not SPDX.
        let fits = spdx::Expression::parse_mode(&license, spdx::ParseMode::LAX)
            .is_ok_and(|expression| expression.evaluate(|asked| allowed.iter().any(|one| one.satisfies(asked))));
        if !fits {
            refused.push(format!("{} {}: {license:?}", package.name, package.version));
        }
    }
    assert!(refused.is_empty(), "licences that deny.toml does not allow:\n{}", refused.join("\n"));
}

#[test]
fn every_package_comes_from_here_or_an_allowed_registry() {
    let allowed: BTreeSet<String> =
        deny_file().sources.allow_registry.iter().map(|url| format!("registry+{url}")).collect();
    let refused: Vec<String> = packages()
        .into_iter()
        .filter(|package| package.source.as_ref().is_some_and(|source| !allowed.contains(source)))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.source))
        .collect();
    assert!(refused.is_empty(), "sources that deny.toml does not allow:\n{}", refused.join("\n"));
}

#[test]
fn no_banned_crate_is_locked() {
    // The lock file has the packages of every target.
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("Cargo.lock");
    let locked: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    assert!(locked.contains("\"tokio\""), "Cargo.lock has another form");
    for banned in deny_file().bans.deny {
        assert!(!locked.contains(format!("{:?}", banned.name).as_str()), "{}: {}", banned.name, banned.reason);
    }
}
