//! Commands that are shown to be copied: whatever stands in them reaches the shell as one word.

use std::path::Path;

/// A word of a shell command, quoted where the shell would read it as anything but itself.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as a word.
pub(super) fn path(path: &Path) -> String {
    word(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(word("plans/tag-2024.toml"), "plans/tag-2024.toml");
        assert_eq!(word("my plan.toml"), "'my plan.toml'");
        assert_eq!(word("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(word(""), "''");
    }
}
