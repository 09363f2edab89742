//! Which characters are safe to show on a terminal. The program escapes the others: messages in its `diagnostics.rs`,
//! data in its `cli/terminal.rs`.

/// Returns whether a character can affect a terminal other than by being displayed: control characters, including line
/// ends and tabs, and characters that change the text direction or break lines.
#[must_use]
pub fn affects_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
