//! Texts: plans, price books, saved plans, and the services' requests.

use std::path::Path;

use batchplan::diagnostics::FileProblems;
use batchplan::estimate::PriceBook;
use batchplan::jobs::{SavedCounts, SavedPlan};
use batchplan::journal::ManifestFingerprint;
use batchplan::plan::interchange::{self, ExportOptions, ImportOptions};
use batchplan::plan::policy;
use batchplan::plan::{self, Plan};
use batchplan::provider::{BatchService, PolicyLanguage};
use batchplan_store::printable::affects_terminal;
use batchplan_store::{StoreConfig, StoreProvider};
use jiff::Timestamp;

use super::files;

pub(super) fn plans() -> Vec<Vec<u8>> {
    let mut corpus = files("plans", ".toml");
    corpus.extend(files("tests/fixtures/valid", ".toml"));
    corpus.extend(files("tests/fixtures/invalid", ".toml"));
    corpus
}

/// What every plan that was taken must bear.
fn use_plan(plan: &Plan) {
    assert_eq!(plan.hash().len(), 64);
    let _ = (plan.identity(), plan.store_identity(), plan.canonical().to_string());
    for language in [PolicyLanguage::Iam, PolicyLanguage::Ram] {
        let _ = policy::permission_policy(plan, language, &[]);
    }
    for service in [BatchService::Oss, BatchService::Aws] {
        let beside = ExportOptions { fresh_token: "token".to_owned(), ..ExportOptions::default() };
        let _ = interchange::export(plan, service, &beside);
    }
    let _ = PriceBook::built_in().select(&plan.store, None);
}

/// What is said of mistakes drives no terminal, and says where they are.
fn check_problems(problems: &FileProblems) {
    for problem in problems.iter() {
        assert!(!problem.title().chars().any(affects_terminal), "{:?}", problem.title());
        for (span, text) in problem.label_spans() {
            let (line, column) = problems.position(span.start);
            assert!(line > 0 && column > 0, "{text}: {line}:{column}");
        }
    }
}

pub(super) fn plan(input: &[u8]) {
    let (plan, problems) = plan::read_bytes("fuzz.toml", input, Path::new("/nowhere"), Timestamp::UNIX_EPOCH);
    assert_eq!(plan.is_none(), problems.has_errors());
    check_problems(&problems);
    if let Some(plan) = plan {
        use_plan(&plan);
    }
}

pub(super) fn price_books() -> Vec<Vec<u8>> {
    let mut corpus = files("src/estimate", "prices.toml");
    corpus.push(
        b"dated = 2026-01-31\n[book.ours]\nprovider = \"s3\"\nregions = [\"*\"]\ncurrency = \"EUR\"\n\
          refused = { billed = false }\n[[book.ours.price]]\nof = [\"put_tags\", \"list\"]\namount = \"0.005\"\n\
          per = 1000\nsource = \"contract\"\n[[book.ours.limit]]\nper_second = 2000\nwithin = \"account\"\n"
            .to_vec(),
    );
    corpus
}

pub(super) fn prices(input: &[u8]) {
    match PriceBook::from_bytes("fuzz.toml", input) {
        Ok(book) => {
            let names: Vec<_> = book.entries().map(|entry| entry.name.clone()).collect();
            for name in names {
                let _ = book.get(&name);
            }
            let book = PriceBook::built_in().with_fallback(book);
            for provider in StoreProvider::ALL {
                let _ = book.select(&StoreConfig::new(provider, None), None);
            }
        }
        Err(problems) => check_problems(&problems),
    }
}

pub(super) fn saved_plans() -> Vec<Vec<u8>> {
    let mut corpus = files("tests/checkpoints/kept", "saved.bpl");
    corpus.extend(files("plans", "quickstart.toml"));
    corpus
}

/// A file as it is, and a plan that was saved with this text.
pub(super) fn saved_plan(input: &[u8]) {
    let path = Path::new("fuzz.bpl");
    if let Ok(saved) = SavedPlan::parse(path, input) {
        let _ = saved.plan(path, None);
    }
    let text = String::from_utf8_lossy(input).into_owned();
    let pledge = ManifestFingerprint {
        as_of: Timestamp::UNIX_EPOCH,
        objects: 1,
        pin: text.chars().take(64).collect(),
        key: text.chars().take(32).collect(),
        digest: String::new(),
    };
    let counts = SavedCounts { exact: true, change: 1, unchanged: 0, fail: 0, unknown: 0 };
    let saved = SavedPlan {
        plan_file: "/x.toml".into(),
        hash: String::new(),
        store: None,
        endpoints: None,
        plan: text,
        fingerprint: pledge,
        counts,
    };
    let _ = saved.plan(path, None);
}

pub(super) fn requests() -> Vec<Vec<u8>> {
    let mut corpus = files("tests/fixtures/interchange", ".xml");
    corpus.extend(files("tests/fixtures/interchange", ".json"));
    corpus.extend(files("plans/requests", ".xml"));
    corpus
}

/// What is taken becomes a plan that is valid.
pub(super) fn import(input: &[u8]) {
    let given = ImportOptions {
        name: Some("fuzz".to_owned()),
        endpoint: Some("https://oss-cn-hangzhou.aliyuncs.com".to_owned()),
        region: Some("cn-hangzhou".to_owned()),
    };
    let (text, problems) = interchange::import("fuzz", input, &given, Timestamp::UNIX_EPOCH);
    assert_eq!(text.is_none(), problems.has_errors());
    check_problems(&problems);
    let Some(text) = text else { return };
    let (plan, problems) = plan::read("fuzz.toml", &text, Path::new("/nowhere"), Timestamp::UNIX_EPOCH);
    use_plan(&plan.unwrap_or_else(|| panic!("{problems:?}\n{text}")));
}
