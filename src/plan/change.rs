//! One value that differs between two plans, formatted for messages.

use std::fmt;

use super::safe_text::{escape_for_terminal, quote_for_message};

/// Texts longer than this, in characters, are shown from the first difference on.
const MAX_FULL_CHARS: usize = 60;

/// The number of characters shown before the first difference, for context.
const CONTEXT_CHARS: usize = 20;

/// One value that differs between two plans. `Display` escapes control characters and shortens long values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    /// The dotted path of the value, such as `operation.put_object_tagging.tags.Team`.
    pub path: String,
    /// The full old value; `None` if the older plan did not set it, or set it to the default.
    pub before: Option<String>,
    /// The full new value; `None` if the newer plan does not set it, or sets it to the default.
    pub after: Option<String>,
}

impl fmt::Display for PlanChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", escape_for_terminal(&self.path))?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                let skipped = shared_prefix_to_skip(before, after);
                write!(f, "`{}` is now `{}`", excerpt_from(before, skipped), excerpt_from(after, skipped))
            }
            (None, Some(after)) => write!(f, "was not set, is now `{}`", quote_for_message(after)),
            (Some(before), None) => write!(f, "was `{}`, is not set now", quote_for_message(before)),
            (None, None) => f.write_str("is not set"),
        }
    }
}

/// Returns the number of leading characters that both texts share and that need not be shown.
fn shared_prefix_to_skip(one: &str, other: &str) -> usize {
    if one.chars().count().max(other.chars().count()) <= MAX_FULL_CHARS {
        return 0;
    }
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    same.saturating_sub(CONTEXT_CHARS)
}

fn excerpt_from(text: &str, skipped: usize) -> String {
    let rest: String = text.chars().skip(skipped).collect();
    format!("{}{}", if skipped > 0 { "…" } else { "" }, quote_for_message(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(before: Option<&str>, after: Option<&str>) -> String {
        let path = "operation.put_object_tagging.tags.Team".to_owned();
        let change = PlanChange { path, before: before.map(str::to_owned), after: after.map(str::to_owned) };
        change.to_string().strip_prefix("operation.put_object_tagging.tags.Team: ").expect("the path").to_owned()
    }

    #[test]
    fn a_change_is_told_in_one_sentence() {
        assert_eq!(described(Some("DataOps"), Some("Data")), "`DataOps` is now `Data`");
        assert_eq!(described(None, Some("Data")), "was not set, is now `Data`");
        assert_eq!(described(Some("DataOps"), None), "was `DataOps`, is not set now");
        assert_eq!(described(Some(""), Some("x\u{1b}[2J")), "`` is now `x\\u{1b}[2J`");
    }

    #[test]
    fn a_long_value_is_cut_and_its_difference_is_shown() {
        let long = "x".repeat(100);
        assert_eq!(described(None, Some(&long)), format!("was not set, is now `{}…`", "x".repeat(60)));
        let lead = "x".repeat(20);
        assert_eq!(
            described(Some(&format!("{long}old")), Some(&format!("{long}new"))),
            format!("`…{lead}old` is now `…{lead}new`")
        );
        assert_eq!(described(Some(&long), Some("y")), format!("`{}…` is now `y`", "x".repeat(60)));
        assert_eq!(described(Some(&long), Some(&long[..70])), format!("`…{}` is now `…{lead}`", "x".repeat(50)));
    }
}
