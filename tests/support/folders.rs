//! Folders of the repository, for tests that must not write into it.

use std::fs;
use std::path::Path;

/// Copies a folder, leaving out what begins with a dot: an earlier run's state.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
