//! Links lead to pages, headings and files that exist, and every page is in the table of contents.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::page::{self, Page, root};

/// Documents beside README and the book whose links are checked, too.
const OTHERS: [&str; 5] =
    ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benches/README.md", "crates/sandbox/README.md"];

/// Returns a path without `.` and `..`, or nothing if it leads out of the repository.
fn resolve(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ if path.pop() => {}
            _ => return None,
        }
    }
    Some(path)
}

/// What is wrong with a link of a page. All pages that were read need not be read again.
fn broken(page: &Page, target: &str, all: &[Page]) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(&page.name).parent().expect("a folder");
    let Some(path) = (if file.is_empty() { Some(PathBuf::from(&page.name)) } else { resolve(folder, file) }) else {
        return Some("leads out of the repository".to_owned());
    };
    // The book is also read where the repository is not.
    if page.name.starts_with("docs/src/") && !path.starts_with("docs/src") {
        return Some("leads out of the book".to_owned());
    }
    let full = root().join(&path);
    if !full.exists() {
        return Some(format!("{} does not exist", path.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let known = all.iter().find(|page| Path::new(&page.name) == path);
    let anchors = known.map_or_else(|| Page::read(&full).anchors, |page| page.anchors.clone());
    (!anchors.iter().any(|known| known == anchor)).then(|| format!("{} has no heading #{anchor}", path.display()))
}

fn every_document() -> Vec<Page> {
    let mut pages = page::all();
    pages.push(Page::read(&root().join("docs/src/SUMMARY.md")));
    pages.extend(OTHERS.iter().map(|name| Page::read(&root().join(name))));
    pages
}

#[test]
fn files_and_tests_that_documents_name_exist() {
    const FOLDERS: [&str; 6] = ["src/", "crates/", "tests/", "plans/", "docs/", ".ci/"];
    let (mut count, mut problems) = (0, Vec::new());
    for page in every_document() {
        for (text, line) in &page.code {
            let path = FOLDERS.iter().any(|folder| text.starts_with(folder)) && !text.contains([' ', '*']);
            let test = text.split("--test ").skip(1).filter_map(|rest| rest.split(' ').next());
            let tests = test.filter(|name| {
                let test = root().join("tests").join(name);
                !test.join("main.rs").exists() && !test.with_extension("rs").exists()
            });
            problems.extend(tests.map(|name| format!("{}:{line}: there is no test {name}", page.name)));
            count += usize::from(path);
            if path && !root().join(text).exists() {
                problems.push(format!("{}:{line}: {text} does not exist", page.name));
            }
        }
    }
    assert!(count > 10, "{count} paths");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let pages = every_document();
    let (mut count, mut problems) = (0, Vec::new());
    for page in &pages {
        for (target, line) in &page.links {
            count += 1;
            problems.extend(broken(page, target, &pages).map(|what| format!("{}:{line}: {target} {what}", page.name)));
        }
    }
    assert!(count > 100, "{count} links");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_table_of_contents_lists_every_page_once() {
    let summary = Page::read(&root().join("docs/src/SUMMARY.md"));
    let listed: Vec<_> = summary.links.iter().map(|(target, _)| format!("docs/src/{target}")).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "{listed:?}");
    let pages: BTreeSet<_> = page::book().into_iter().map(|page| page.name).collect();
    assert_eq!(unique, pages);
}

#[test]
fn readme_is_short_and_pages_have_one_title() {
    let readme = Page::read(&root().join("README.md"));
    assert!(readme.text.len() <= 9 * 1024, "README.md has {} bytes", readme.text.len());
    for page in page::book() {
        assert!(page.text.starts_with("# "), "{} begins with its title", page.name);
    }
}

#[test]
fn broken_links_are_noticed() {
    let page = |name: &str| Page::parse(name.to_owned(), "# A\n".to_owned());
    let readme = page("README.md");
    assert_eq!(broken(&readme, "LICENSE-MIT", &[]), None);
    assert!(broken(&readme, "no-such-file", &[]).is_some() && broken(&readme, "../x", &[]).is_some());
    assert!(broken(&readme, "CHANGELOG.md#no-such-heading", &[]).is_some());
    assert!(broken(&page("docs/src/a.md"), "../../LICENSE-MIT", &[]).is_some());
}
