//! Compares two plan files.

use similar::TextDiff;

/// The number of unchanged lines that are shown around a change.
const CONTEXT: usize = 2;

/// Returns the unified diff of two texts without its header, or an empty string if they are equal.
#[must_use]
pub fn unified_diff(old: &str, new: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_only_changes_with_context() {
        let old = "a\nb\nc\nd\ne\nf\n";
        assert_eq!(unified_diff(old, old), "");
        assert_eq!(unified_diff(old, &old.replace("e\n", "E\n")), "@@ -3,4 +3,4 @@\n c\n d\n-e\n+E\n f\n");
    }
}
