//! Breaks text into lines that fit the terminal. Numbers stay whole, with their units.

/// Breaks a text at spaces, so that no line is longer than `width`. All lines but the first start with `indent`
/// spaces, which are not counted. A single word that is too long gets a line of its own: paths, commands and keys can
/// then be copied. Lines that are there stay.
pub(super) fn wrap_words(text: &str, width: usize, indent: usize) -> String {
    let margin = format!("\n{:indent$}", "");
    let lines: Vec<_> = text.split('\n').flat_map(|line| wrap_line(line, width)).collect();
    lines.join(&margin)
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut columns = 0;
    for word in units(line) {
        let length = visible_width(word);
        match lines.last_mut() {
            Some(current) if columns + 1 + length <= width => {
                current.push(' ');
                current.push_str(word);
                columns += 1 + length;
            }
            _ => {
                lines.push(word.to_owned());
                columns = length;
            }
        }
    }
    lines
}

/// Splits a line into words. A number and the word behind it are one, such as `12 min`, `95 %` and `5,000 objects`.
fn units(line: &str) -> Vec<&str> {
    let mut units: Vec<&str> = Vec::new();
    let mut start = 0;
    let mut ends_with_number = false;
    let mut at = 0;
    for word in line.split(' ') {
        let end = at + word.len();
        let joins = ends_with_number && !word.is_empty();
        if at == 0 || !joins {
            start = at;
            units.push(&line[start..end]);
        } else if let Some(last) = units.last_mut() {
            *last = &line[start..end];
        }
        ends_with_number = !joins && is_number(word);
        at = end + 1;
    }
    units
}

fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(['(', '~']);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || ",.".contains(c))
        && digits.ends_with(|c: char| c.is_ascii_digit())
}

/// The number of columns of a text without its colour sequences.
pub(super) fn visible_width(text: &str) -> usize {
    let mut columns = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().take_while(|c| *c != 'm').for_each(drop);
        } else {
            columns += 1;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_at_spaces_and_never_inside_a_number() {
        let text = "from a random sample of 200 (seed 0), with 95 % confidence: 1,357 to 1,608 to change";
        assert_eq!(
            wrap_words(text, 40, 2),
            "from a random sample of 200 (seed 0),\n  with 95 % confidence: 1,357 to 1,608 to\n  change"
        );
        assert_eq!(wrap_words("takes about 12 min or more", 14, 0), "takes about\n12 min or more");
        assert_eq!(
            wrap_words("see /a/very/long/path/that/is/one/word now", 10, 1),
            "see\n /a/very/long/path/that/is/one/word\n now"
        );
        assert_eq!(wrap_words("a\nb", 10, 2), "a\n  b");
        assert_eq!(wrap_words("", 10, 2), "");
    }

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(visible_width("\u{1b}[1;32mok\u{1b}[0m!"), 3);
        assert_eq!(wrap_words("\u{1b}[31mabc\u{1b}[0m def", 7, 0), "\u{1b}[31mabc\u{1b}[0m def");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_only_long_words_are_wider(text in "([a-z]{1,12}|[0-9]{1,4}| ){0,40}", width in 8..60_usize) {
            let wrapped = wrap_words(&text, width, 0);
            prop_assert_eq!(wrapped.replace('\n', " "), text.clone());
            for line in wrapped.lines().filter(|line| line.chars().count() > width) {
                prop_assert_eq!(units(line).len(), 1, "{}", line);
            }
        }
    }
}
