//! What a source without rows, or without rows that the filter includes, means: an error, a likely mistake, or nothing to
//! do.

use batchplan_store::ListRequest;
use batchplan_store::object::{BucketName, ObjectKey};

use super::error::{ManifestError, ManifestWarning, counted};
use super::retrying_store::RetryingStore;
use super::spec::{InventorySelector, ManifestSource};

impl ManifestSource {
    /// Returns an error if a source must have rows: a CSV file that someone wrote for this job. The other sources say
    /// which objects exist, or which are left to do, and that may be none.
    pub(super) fn reject_empty(&self, rows_read: u64) -> Result<(), ManifestError> {
        if rows_read > 0 || !matches!(self, Self::Csv { .. }) {
            return Ok(());
        }
        Err(ManifestError::Empty { place: self.name() })
    }
}

/// Returns a warning about a source without rows if it usually has some. For a prefix, sends one listing request to find
/// out what the plan may have meant.
pub(super) async fn warning(source: &ManifestSource, retrying: &RetryingStore) -> Option<ManifestWarning> {
    let help = match source {
        ManifestSource::Prefix { bucket, prefix, .. } => suggestion(bucket, prefix, retrying).await,
        ManifestSource::Inventory { .. } => "check that this is the inventory of the right bucket and day".to_owned(),
        ManifestSource::Csv { .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. }
        | ManifestSource::Succeeded { .. }
        | ManifestSource::Undo(_) => return None,
    };
    Some(ManifestWarning { message: format!("{} contains no objects: there is nothing to do", source.name()), help })
}

/// Returns a warning about a source of which the filter includes none of this many rows. The changes of a recurring job
/// and what an earlier job left over are often none.
pub(super) fn selection_warning(source: &ManifestSource, rows_read: u64) -> Option<ManifestWarning> {
    match source {
        ManifestSource::Inventory { selector: InventorySelector::Changed(_), .. }
        | ManifestSource::Report { .. }
        | ManifestSource::Retry { .. }
        | ManifestSource::Succeeded { .. }
        | ManifestSource::Undo(_) => None,
        ManifestSource::Prefix { .. } | ManifestSource::Csv { .. } | ManifestSource::Inventory { .. } => {
            Some(ManifestWarning {
                message: format!(
                    "none of the {} in {} match [manifest.filter]: there is nothing to do",
                    counted(rows_read, "object"),
                    source.name()
                ),
                help: "check the conditions in [manifest.filter]: `include` and `exclude` apply to the whole key, and \
                       case matters"
                    .to_owned(),
            })
        }
    }
}

/// Returns what to do about a prefix without objects. Without permission to list the whole bucket, only the usual
/// mistakes are known.
async fn suggestion(bucket: &BucketName, prefix: &ObjectKey, retrying: &RetryingStore) -> String {
    const USUAL: &str = "check the prefix: its case matters, and keys usually have no slash at their start";
    const EMPTY_BUCKET: &str = "the bucket is empty; check its name";
    if let Some(help) = wildcard_help(prefix.as_bytes()) {
        return help;
    }
    if prefix.as_bytes().is_empty() {
        return EMPTY_BUCKET.to_owned();
    }
    let top = ListRequest {
        bucket: bucket.clone(),
        prefix: ObjectKey::from(""),
        all_versions: false,
        group_by_directory: true,
        from: None,
    };
    let Ok(page) = retrying.probe(&top).await else { return USUAL.to_owned() };
    let names = page.common_prefixes.iter().chain(page.entries.iter().map(|entry| &entry.key));
    let names: Vec<&[u8]> = names.map(ObjectKey::as_bytes).collect();
    if names.is_empty() && page.next.is_none() {
        return EMPTY_BUCKET.to_owned();
    }
    match near_prefix(prefix.as_bytes(), &names) {
        Some(NearPrefix { prefix, mistake }) => {
            format!("the bucket has keys that begin with `{}`: {mistake}", ObjectKey::new(prefix))
        }
        None => USUAL.to_owned(),
    }
}

/// Returns what to write in place of a prefix with wildcards. `None` if it has none.
fn wildcard_help(prefix: &[u8]) -> Option<String> {
    let start = prefix.iter().position(|byte| matches!(byte, b'*' | b'?'))?;
    let literal = ObjectKey::new(&prefix[..start]);
    if &prefix[start..] == b"*" {
        return Some(format!("a prefix has no wildcards: use prefix = \"{literal}\""));
    }
    let all = ObjectKey::new(prefix);
    Some(format!(
        "a prefix has no wildcards: use prefix = \"{literal}\", and include = [\"{all}\"] in [manifest.filter]"
    ))
}

/// A prefix that the plan may have meant.
#[derive(Debug, PartialEq, Eq)]
struct NearPrefix {
    prefix: Vec<u8>,
    /// How the plan's prefix differs, as advice.
    mistake: &'static str,
}

/// Finds a prefix with objects that differs from `wanted` by a usual mistake. `names` are the keys and the folders at
/// the top of the bucket, at least the first thousand.
fn near_prefix(wanted: &[u8], names: &[&[u8]]) -> Option<NearPrefix> {
    let near = |prefix: &[u8], mistake| Some(NearPrefix { prefix: prefix.to_vec(), mistake });
    let bare = &wanted[wanted.iter().position(|byte| *byte != b'/').unwrap_or(wanted.len())..];
    let top_end = bare.iter().position(|byte| *byte == b'/').map_or(bare.len(), |at| at + 1);
    let top = &bare[..top_end];
    if top.is_empty() {
        return None;
    }
    if bare.len() < wanted.len() && names.iter().any(|name| name.starts_with(top)) {
        return near(top, "remove the slash at the start of the prefix");
    }
    if bare.len() == wanted.len() && names.contains(&&b"/"[..]) {
        return near(b"/", "the prefix may need a slash at its start");
    }
    let other_case = |name: &&&[u8]| {
        let start = name.get(..top.len());
        start.is_some_and(|start| start != top && start.eq_ignore_ascii_case(top))
    };
    if let Some(name) = names.iter().find(other_case) {
        return near(&name[..top.len()], "keys are case-sensitive");
    }
    let without_slash = wanted.strip_suffix(b"/").filter(|rest| !rest.is_empty() && !rest.contains(&b'/'))?;
    let found = names.iter().any(|name| name.starts_with(without_slash));
    if found { near(without_slash, "remove the slash at the end of the prefix") } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(wanted: &str, names: &[&str]) -> Option<(String, &'static str)> {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        near_prefix(wanted.as_bytes(), &names)
            .map(|found| (String::from_utf8(found.prefix).expect("UTF-8"), found.mistake))
    }

    #[test]
    fn finds_what_the_plan_may_have_meant() {
        for (wanted, names, prefix, mistake) in [
            ("/docs/2024/", &["docs/", "a"][..], "docs/", "remove the slash at the start"),
            ("//docs", &["docs.pdf"], "docs", "remove the slash at the start"),
            ("docs/", &["/", "a"], "/", "may need a slash at its start"),
            ("docs/2024/", &["a", "Docs/"], "Docs/", "case-sensitive"),
            ("DOC", &["docs/"], "doc", "case-sensitive"),
            ("docs/", &["docs-2024.pdf"], "docs", "remove the slash at the end"),
            ("docs/", &["docs"], "docs", "remove the slash at the end"),
        ] {
            let (found, why) = near(wanted, names).unwrap_or_else(|| panic!("{wanted}"));
            assert!(found == prefix && why.contains(mistake), "{wanted}: {found} {why}");
        }
        for (wanted, names) in [
            ("docs/2024/", &["docs/", "a"][..]),
            ("docs/", &[]),
            ("/", &["a"]),
            ("docs/2024/", &["docs"]),
            ("x", &["é"]),
        ] {
            assert_eq!(near(wanted, names), None, "{wanted}");
        }
    }

    #[test]
    fn a_prefix_with_wildcards_is_answered_with_a_prefix_and_a_filter() {
        assert_eq!(wildcard_help(b"documents/"), None);
        for (prefix, help) in [
            ("documents/*", "use prefix = \"documents/\""),
            ("d/*.pdf", "use prefix = \"d/\", and include = [\"d/*.pdf\"] in [manifest.filter]"),
            ("?/", "use prefix = \"\", and include = [\"?/\"] in [manifest.filter]"),
        ] {
            let expected = format!("a prefix has no wildcards: {help}");
            assert_eq!(wildcard_help(prefix.as_bytes()), Some(expected), "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_there(wanted in "[/aA-]{1,6}", names in proptest::collection::vec("[/aA-]{1,6}", 0..6)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if let Some((found, _)) = near(&wanted, &names) {
                prop_assert!(names.iter().any(|name| name.starts_with(&found)), "{found}");
            }
        }
    }
}
