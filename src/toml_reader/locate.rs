//! Finds where a value is written in a file, for messages about a file that was accepted earlier.

use toml::de::{DeTable, DeValue};

use super::reader::TextSpan;

/// Returns the span of the value at a path of keys; for a table, that of its header. Returns `None` if the file does not
/// set it, or is not TOML.
pub(crate) fn locate(text: &str, path: &[&str]) -> Option<TextSpan> {
    let root = DeTable::parse(text).ok()?;
    let (last, tables) = path.split_last()?;
    let mut table = root.get_ref();
    for name in tables {
        let DeValue::Table(inner) = table.get(*name)?.get_ref() else { return None };
        table = inner;
    }
    table.get(*last).map(toml::Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_and_headers() {
        let text = "name = \"é\"\n[store]\nprovider = \"aws\"\n[operation.put_object_acl]\nacl = \"private\"\n";
        let at = |path: &[&str]| locate(text, path).map(|span| &text[span]);
        assert_eq!(at(&["name"]), Some("\"é\""));
        assert_eq!(at(&["store", "provider"]), Some("\"aws\""));
        assert_eq!(at(&["store"]), Some("[store]"));
        assert_eq!(at(&["operation", "put_object_acl"]), Some("[operation.put_object_acl]"));
        assert_eq!(at(&["operation", "put_object_acl", "acl"]), Some("\"private\""));
        for missing in [&["region"][..], &["store", "region"], &["name", "first"], &["store", "provider", "x"], &[]] {
            assert_eq!(at(missing), None, "{missing:?}");
        }
        assert_eq!(locate("name =", &["name"]), None);
    }
}
