//! Quotes shown commands, so that each argument reaches the shell as one word.

use std::path::Path;

/// Quotes a word for the shell if it contains a character that the shell would interpret.
pub(super) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Quotes a path for the shell.
pub(super) fn quote_path(path: &Path) -> String {
    quote(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_words_for_the_shell() {
        assert_eq!(quote("plans/tag-2024.toml"), "plans/tag-2024.toml");
        assert_eq!(quote("my plan.toml"), "'my plan.toml'");
        assert_eq!(quote("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(quote(""), "''");
    }
}
