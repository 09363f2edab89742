//! Finds files of a crate that import each other, directly or through others.
//!
//! An import counts for the file that defines the item, not for the `mod.rs` that re-exports it: a map of a folder may
//! name all of its files. A file that uses an item of its parent does depend on the parent.

use std::collections::{BTreeMap, BTreeSet};

use crate::scan::{Named, Scan, module_of, scan};

/// Re-exports that lead on to others are followed this far.
const MOST_RE_EXPORTS: usize = 8;

/// The files of one crate by their modules.
struct Crate<'a> {
    files: BTreeMap<Vec<String>, (&'a str, Scan)>,
}

/// Returns each group of files that import each other, one line each, the files with what they import of the group.
/// The files are named relative to the crate's `src/`, and their texts are without tests.
pub(crate) fn circles(files: &[(String, &str)]) -> Vec<String> {
    let scanned = files.iter().map(|(name, text)| {
        let scan = scan(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (module_of(name), (name.as_str(), scan))
    });
    let ours = Crate { files: scanned.collect() };
    let imports: BTreeMap<&str, BTreeSet<&str>> =
        ours.files.iter().map(|(module, (name, scan))| (*name, ours.imports(module, name, scan))).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|name| (*name, reachable(name, &imports))).collect();
    let mut reported = BTreeSet::new();
    let mut found = Vec::new();
    for (name, all) in &reached {
        if !all.contains(name) || reported.contains(name) {
            continue;
        }
        let group: BTreeSet<&str> = all.iter().copied().filter(|other| reached[other].contains(name)).collect();
        let lines = group.iter().map(|file| {
            let within: Vec<&str> = imports[file].intersection(&group).copied().collect();
            format!("  {file} imports {}", within.join(", "))
        });
        found.push(format!("import each other:\n{}", lines.collect::<Vec<_>>().join("\n")));
        reported.extend(group);
    }
    found
}

impl<'a> Crate<'a> {
    /// The files that one imports, without itself and without what it only re-exports.
    fn imports(&self, module: &[String], name: &str, scan: &Scan) -> BTreeSet<&'a str> {
        let exported: Vec<&Named> = scan.exports.iter().map(|(_, path)| path).collect();
        let used = scan.paths.iter().filter(|path| !exported.contains(path));
        used.filter_map(|path| self.defining_file(&self.absolute(module, path)?, 0))
            .filter(|file| *file != name)
            .collect()
    }

    /// A path from the crate's root. One that begins with a module that the file declares leads there too.
    fn absolute(&self, module: &[String], path: &Named) -> Option<Vec<String>> {
        match path {
            Named::Ours(path) => Some(path.clone()),
            Named::Other(path) => {
                let child = [module, &path[..1]].concat();
                self.files.contains_key(&child).then(|| [module, path].concat())
            }
        }
    }

    /// The file that defines an item.
    fn defining_file(&self, path: &[String], re_exports: usize) -> Option<&'a str> {
        let at = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let (file, scan) = &self.files[&path[..at]];
        let re_export = path.get(at).and_then(|item| scan.exports.iter().find(|(name, _)| name == item));
        let led_on = re_export.filter(|_| re_exports < MOST_RE_EXPORTS).and_then(|(_, target)| {
            let target = self.absolute(&path[..at], target)?;
            self.defining_file(&[target.as_slice(), &path[at + 1..]].concat(), re_exports + 1)
        });
        led_on.or(Some(file))
    }
}

/// Every file that one reaches by at least one import.
fn reachable<'a>(from: &str, imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = imports[from].iter().copied().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(&imports[next]);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &'static str)]) -> Vec<String> {
        circles(&files.iter().map(|(name, text)| ((*name).to_owned(), *text)).collect::<Vec<_>>())
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let pair = [("a/b.rs", "use super::c::C;"), ("a/c.rs", "fn f() -> crate::a::b::B {}")];
        assert_eq!(found(&pair), ["import each other:\n  a/b.rs imports a/c.rs\n  a/c.rs imports a/b.rs"]);
        let far = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")];
        assert_eq!(found(&far).len(), 1);
    }

    #[test]
    fn a_map_that_re_exports_is_no_circle_but_one_that_imports_is() {
        let map = [("a/mod.rs", "mod b; pub use b::B; pub struct A;"), ("a/b.rs", "use super::A;")];
        assert!(found(&map).is_empty());
        let importer = [("a/mod.rs", "mod b; use b::B; pub struct A;"), ("a/b.rs", "use super::A;")];
        assert_eq!(found(&importer).len(), 1);
        let caller = [("a/mod.rs", "mod b; fn f() { b::g() } pub struct A;"), ("a/b.rs", "use super::A;")];
        assert_eq!(found(&caller).len(), 1);
    }

    #[test]
    fn a_re_exported_item_counts_for_the_file_that_defines_it() {
        let through = [
            ("lib.rs", "mod a; pub use a::B;"),
            ("a/mod.rs", "mod b; mod c; pub use self::b::B; pub use self::c::C;"),
            ("a/b.rs", "use super::C;"),
            ("a/c.rs", "use crate::B;"),
        ];
        assert_eq!(found(&through).len(), 1);
        let down = [("a/mod.rs", "mod b; mod c; pub use self::b::B;"), ("a/b.rs", ""), ("a/c.rs", "use super::B;")];
        assert!(found(&down).is_empty());
    }
}
