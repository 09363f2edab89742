use batchplan_store::object::StorageClass;
use batchplan_store::task::FaultClass;
use globset::Glob;
use jiff::Timestamp;

use super::*;
use super::{ListingValidator, MAX_EMPTY_PAGES};
use crate::manifest::testing::{MemoryStore, fault, keys, listed, objects, refusal};
use crate::manifest::{Filter, KeyGlobs, ManifestSource, SourcePin};

fn source(prefix: &str, versions: ListedVersions) -> ManifestSource {
    source_with(prefix, versions, OnUnlistable::Fail)
}

fn source_with(prefix: &str, versions: ListedVersions, on_unlistable: OnUnlistable) -> ManifestSource {
    ManifestSource::Prefix { bucket: BucketName::new("b"), prefix: ObjectKey::from(prefix), versions, on_unlistable }
}

fn store() -> MemoryStore {
    let mut store = MemoryStore { page: 2, ..MemoryStore::default() };
    for key in ["a", "p/1", "p/2", "p/3 +%é", "p/4\n", "p/5", "q"] {
        store.put(key, key.as_bytes());
    }
    store
}

fn page(keys: &[&str], next: Option<&str>) -> ListPage {
    let entries = keys.iter().map(|key| listed(key.as_bytes(), 1, None)).collect();
    ListPage { entries, next: next.map(|token| ListPosition::Token(token.to_owned())), ..ListPage::default() }
}

fn pages(pages: Vec<ListPage>) -> MemoryStore {
    MemoryStore { pages: std::sync::Mutex::new(pages.into()), ..MemoryStore::default() }
}

fn refused(bad: Vec<ListPage>) -> String {
    refusal(pages(bad), source("p/", ListedVersions::Current), Filter::default()).to_string()
}

#[test]
fn every_page_is_listed() {
    let (frozen, found) = objects(store(), source("p/", ListedVersions::Current), Filter::default()).unwrap();
    assert_eq!(keys(&found), ["p/1", "p/2", "p/3 +%é", "p/4\\n", "p/5"]);
    assert!(found.iter().all(|object| object.version.is_none() && object.bucket.as_str() == "b"));
    assert_eq!(frozen.pin(), &SourcePin::Listing);
}

#[test]
fn current_listing_drops_version_ids() {
    let named = ListPage { entries: vec![listed(b"p/1", 1, Some("v1"))], ..ListPage::default() };
    let (_, found) = objects(pages(vec![named]), source("p/", ListedVersions::Current), Filter::default()).unwrap();
    assert_eq!(found[0].version, None);
}

#[test]
fn all_versions_keep_their_ids() {
    let store = MemoryStore { versions: vec!["v2".into(), "null".into()], ..store() };
    let (_, found) = objects(store, source("p/", ListedVersions::All), Filter::default()).unwrap();
    assert_eq!(keys(&found).len(), 10);
    let ids: Vec<_> = found.iter().take(2).map(|object| object.version.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["v2", "null"]);
}

#[test]
fn an_empty_listing_is_a_warning_that_names_what_is_near_and_so_is_an_empty_selection() {
    let warnings = |store: MemoryStore, prefix: &str, versions| {
        let (frozen, _) = objects(store, source(prefix, versions), Filter::default()).unwrap();
        assert_eq!((frozen.rows(), frozen.rows_read(), frozen.parts().len()), (0, 0, 0));
        let [warning] = frozen.warnings() else { panic!("{:?}", frozen.warnings()) };
        assert_eq!(warning.message, format!("the listing of b/{prefix} contains no objects: there is nothing to do"));
        warning.help.clone()
    };
    for versions in [ListedVersions::Current, ListedVersions::All] {
        let near = warnings(store(), "/p/", versions);
        assert_eq!(near, "the bucket has keys that begin with `p/`: remove the slash at the start of the prefix");
        assert!(warnings(store(), "P/x/", versions).contains("`p/`: keys are case-sensitive"));
        assert!(warnings(store(), "none/", versions).contains("check the prefix"));
        assert!(warnings(MemoryStore::default(), "", versions).starts_with("the bucket is empty"));
        assert!(warnings(MemoryStore::default(), "none/", versions).starts_with("the bucket is empty"));
    }
    // The suggestion needs a permission that the listing of the prefix does not.
    let asked = store();
    let refusing = MemoryStore { refuses_from: 1, ..asked };
    assert!(warnings(refusing, "/p/", ListedVersions::Current).contains("check the prefix"));
    let filter = Filter { larger_than: Some(1000), ..Filter::default() };
    let (frozen, _) = objects(store(), source("p/", ListedVersions::Current), filter).unwrap();
    assert_eq!((frozen.rows(), frozen.rows_read()), (0, 5));
    let [warning] = frozen.warnings() else { panic!("{:?}", frozen.warnings()) };
    let expected = "none of the 5 objects in the listing of b/p/ match [manifest.filter]: there is nothing to do";
    assert_eq!(warning.message, expected);
    assert!(warning.help.contains("`include`"), "{}", warning.help);
}

#[test]
fn listings_support_all_filters() {
    let filter = Filter {
        larger_than: Some(3),
        modified_before: Some(Timestamp::from_second(1).unwrap()),
        storage_class: Some(vec![StorageClass::new("STANDARD")]),
        ..Filter::default()
    };
    let (_, found) = objects(store(), source("p/", ListedVersions::Current), filter).unwrap();
    assert_eq!(keys(&found), ["p/3 +%é", "p/4\\n"]);
}

#[test]
fn inconsistent_listing_is_an_error() {
    let never = refused(vec![page(&["p/1"], Some("t")), page(&["p/2"], Some("t"))]);
    assert!(never.contains("starts where this one started"), "{never}");
    assert!(refused(vec![page(&["p/2", "p/1"], None)]).contains("p/1 after p/2"));
    assert!(refused(vec![page(&["p/1"], Some("t")), page(&["p/1"], None)]).contains("p/1 after p/1"));
    assert!(refused(vec![page(&["x"], None)]).contains("x does not begin with p/"));
}

#[test]
fn rejects_a_version_listed_twice() {
    let walked = |names: &[(&str, &str)]| {
        let mut walk = ListingValidator::new(ObjectKey::from(""), true, &RangeCursor::unstarted());
        // Each version is on a separate page: the second one may arrive at any time.
        names.iter().try_for_each(|(key, version)| {
            let entries = vec![listed(key.as_bytes(), 1, Some(version))];
            walk.accept_page(None, &mut ListPage { entries, ..ListPage::default() }).map(drop)
        })
    };
    assert_eq!(walked(&[("a", "1"), ("a", "2"), ("a", "null"), ("b", "1"), ("b", "2")]), Ok(()));
    for twice in [[("a", "1"), ("a", "1"), ("b", "1")], [("a", "1"), ("a", "2"), ("a", "1")]] {
        assert_eq!(walked(&twice), Err("it lists version 1 of a twice".to_owned()), "{twice:?}");
    }
}

#[test]
fn markers_must_go_forward_and_empty_pages_end() {
    let mut walk = ListingValidator::new(ObjectKey::from(""), true, &RangeCursor::unstarted());
    let after = |key: &str| ListPosition::After { key: ObjectKey::from(key), version: None };
    let mut to = |from: Option<ListPosition>, key: &str| {
        let mut page = ListPage { next: Some(after(key)), ..ListPage::default() };
        walk.accept_page(from.as_ref(), &mut page)
    };
    assert_eq!(to(Some(after("a")), "b"), Ok(Some(after("b"))));
    assert!(to(Some(after("b")), "a").unwrap_err().contains("it went backwards: a after b"));
    let error = (0..=MAX_EMPTY_PAGES).find_map(|number| to(None, &format!("{number:06}")).err()).unwrap();
    assert!(error.contains("100000 pages in a row had no new names"), "{error}");
}

#[test]
fn rejects_unsupported_keys_unless_excluded() {
    let listing = || pages(vec![page(&[".", "x"], None)]);
    let error = refusal(listing(), source("", ListedVersions::Current), Filter::default());
    assert_eq!(
        error.to_string(),
        "the listing of b/ has 1 key that no request can name\n  entry 1: \".\": a URL cannot say it"
    );
    assert!(error.help().unwrap().contains("on_unlistable = \"report\""));
    let exclude = KeyGlobs::new([Glob::new(".").unwrap()]).ok();
    let filter = Filter { exclude, ..Filter::default() };
    let (_, found) = objects(listing(), source("", ListedVersions::Current), filter).unwrap();
    assert_eq!(keys(&found), ["x"]);
}

#[test]
fn retries_transient_errors_only() {
    let hiccups = store();
    hiccups.faults.lock().unwrap().extend([
        fault(FaultClass::Throttled, 503, "SlowDown"),
        fault(FaultClass::Transient, 500, "InternalError"),
        fault(FaultClass::Ambiguous, 504, "RequestTimeout"),
    ]);
    let (frozen, _) = objects(hiccups, source("p/", ListedVersions::Current), Filter::default()).unwrap();
    assert_eq!(frozen.rows(), 5);

    let denied = store();
    denied.faults.lock().unwrap().push_back(fault(FaultClass::Rejected, 403, "AccessDenied"));
    let error = refusal(denied, source("p/", ListedVersions::Current), Filter::default());
    assert_eq!(error.to_string(), "cannot list b/p/: 403 AccessDenied: no");
    assert!(error.help().unwrap().contains("permission to list"));
}

mod cursors;
mod models;
mod spread;
mod unlistable;
