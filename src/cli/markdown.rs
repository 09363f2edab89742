//! Markdown as GitHub reads it. Names and values are untrusted text: they are formatted as code and cannot break out of
//! it.

use super::terminal::escape_line;

/// The text that replaces what was left out.
const OMITTED: &str = "... (truncated)";

/// Formats a text as code on one line, with as many backticks around it as needed. A bar is escaped, because it would
/// end a table cell.
pub(super) fn code(text: &str) -> String {
    let text = escape_line(text).replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Escapes a line of a fenced block, so that it cannot end the block: a line that starts with three backticks would.
fn block_line(text: &str) -> String {
    let text = escape_line(text);
    if text.trim_start().starts_with("```") { format!("  \\{}", text.trim_start()) } else { text }
}

/// A section that is folded away: its heading, and the lines of a fenced block.
pub(super) struct FoldedBlock {
    /// The visible heading. It must not contain untrusted text.
    heading: String,
    /// The language that the block is highlighted as, empty for plain text.
    language: &'static str,
    /// The lines of the block, escaped.
    lines: Vec<String>,
}

impl FoldedBlock {
    pub(super) fn new(heading: impl Into<String>, language: &'static str, lines: Vec<String>) -> Self {
        let lines = lines.into_iter().map(|line| block_line(&line)).collect();
        Self { heading: heading.into(), language, lines }
    }

    /// Returns the section with as many lines as fit in `room` characters. Returns an empty string if there are no
    /// lines or there is too little room.
    pub(super) fn render(&self, room: usize) -> String {
        let Self { heading, language, lines } = self;
        let open = format!("\n<details><summary>{heading}</summary>\n\n```{language}\n");
        let close = "```\n\n</details>\n";
        let overhead = open.chars().count() + close.len() + OMITTED.len() + 1;
        let Some(mut room) = room.checked_sub(overhead).filter(|_| !lines.is_empty()) else { return String::new() };
        let mut text = open;
        for line in lines {
            let taken = line.chars().count() + 1;
            if taken > room {
                text.push_str(OMITTED);
                text.push('\n');
                break;
            }
            room -= taken;
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(close);
        text
    }
}

/// Cuts a text after as many whole lines as fit in `most`, as counted by `measure`. Closes the blocks and sections
/// that are open at the cut, and adds a line that says that something was left out.
pub(super) fn truncate_markdown(text: &str, most: usize, measure: impl Fn(&str) -> usize) -> String {
    if measure(text) <= most {
        return text.to_owned();
    }
    let mut taken = 0;
    let (mut end, mut best) = (0, OpenElements::default());
    let mut open = OpenElements::default();
    for line in text.split_inclusive('\n') {
        taken += measure(line);
        open.read_line(line);
        if taken + measure(&open.closing_text()) > most {
            break;
        }
        end += line.len();
        best = open;
    }
    format!("{}{}", &text[..end], best.closing_text())
}

/// The elements that are open at a position in a text.
#[derive(Clone, Copy, Debug, Default)]
struct OpenElements {
    in_block: bool,
    open_details: usize,
}

impl OpenElements {
    fn read_line(&mut self, line: &str) {
        if line.starts_with("```") {
            self.in_block = !self.in_block;
        } else if !self.in_block {
            self.open_details += usize::from(line.starts_with("<details>"));
            self.open_details = self.open_details.saturating_sub(usize::from(line.starts_with("</details>")));
        }
    }

    /// Returns the text that closes all open elements and says that something was left out.
    fn closing_text(self) -> String {
        let block = if self.in_block { "```\n" } else { "" };
        format!("{block}{}\n{OMITTED}\n", "\n</details>\n".repeat(self.open_details))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn untrusted_text_stays_code() {
        assert_eq!(code("plain"), "`plain`");
        assert_eq!(code("a`b|c"), "``a`b\\|c``");
        assert_eq!(code("``"), "``` `` ```");
        assert_eq!(code("a\nb"), "`a\\nb`");
        assert_eq!(code("a\u{202e}b"), "`a\\u{202e}b`");
        assert_eq!(block_line("``` x"), "  \\``` x");
    }

    #[test]
    fn folded_block_is_truncated_to_fit() {
        let part = FoldedBlock { heading: "x".to_owned(), language: "diff", lines: vec!["y".repeat(50); 100] };
        let text = part.render(1000);
        assert!(text.len() <= 1000 && text.ends_with("```\n\n</details>\n"), "{}", text.len());
        assert!(text.contains("... (truncated)"));
        assert_eq!(part.render(10), "");
        assert_eq!(FoldedBlock { lines: Vec::new(), ..part }.render(1000), "");
    }

    #[test]
    fn truncation_closes_open_elements() {
        let text =
            format!("head\n\n<details><summary>x</summary>\n\n```\n{}```\n\n</details>\n", "é é é\n".repeat(100));
        let cut = truncate_markdown(&text, 300, str::len);
        assert!(cut.len() <= 300, "{}", cut.len());
        assert!(cut.ends_with("é é é\n```\n\n</details>\n\n... (truncated)\n"), "{cut}");
        assert_eq!(truncate_markdown("short", 5, str::len), "short");
    }

    /// Parses Markdown. Returns the names of its elements, and the text of each piece of inline code.
    fn read(markdown: &str) -> (Vec<String>, Vec<String>) {
        use pulldown_cmark::{Event, Options, Parser, Tag};

        let (mut elements, mut codes) = (Vec::new(), Vec::new());
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::TableCell) => elements.push("cell".to_owned()),
                Event::Start(Tag::CodeBlock(_)) => elements.push("block".to_owned()),
                Event::Code(text) => codes.push(text.into_string()),
                Event::End(_) | Event::Text(_) | Event::Start(Tag::Table(_) | Tag::TableHead | Tag::TableRow) => {}
                other => elements.push(format!("{other:?}")),
            }
        }
        (elements, codes)
    }

    /// Text as a hostile author who knows Markdown writes it.
    const TEXTS: &str =
        "([`|\\\\<>&\\[\\]()!*_~#@:\n\r\t -]|</details>|<script>|```|~~~|https://a\\.b|[a-z0-9é😀\u{202e}]){0,30}";

    proptest! {
        /// Any text in a table cell stays one piece of code in one cell.
        #[test]
        fn no_text_leaves_its_cell(text in TEXTS, other in TEXTS) {
            let row = format!("| {} | {} | end |\n", code(&text), code(&other));
            let (elements, codes) = read(&format!("| a | b | c |\n|---|---|---|\n{row}"));
            prop_assert_eq!(elements, ["cell"; 6], "{}", row);
            let expected = [&text, &other].map(|text| escape_line(text));
            // A reader strips spaces at both ends.
            let stripped = |text: &str| text.trim_matches(' ').to_owned();
            let codes: Vec<_> = codes.iter().map(|code| stripped(code)).collect();
            prop_assert_eq!(codes, expected.map(|text| stripped(&text)), "{}", row);
        }

        /// A block ends where it should, with any text in it.
        #[test]
        fn no_text_leaves_its_block(texts in proptest::collection::vec(TEXTS, 1..5)) {
            let folded = FoldedBlock::new("x", "", texts).render(10_000);
            let (elements, codes) = read(&folded);
            let blocks = elements.iter().filter(|element| *element == "block").count();
            prop_assert_eq!((blocks, codes.len()), (1, 0), "{}", folded);
            let html: Vec<_> = elements.iter().filter(|element| element.starts_with("Html")).collect();
            prop_assert_eq!(html.len(), 2, "{}: {:?}", folded, elements);
        }

        /// A cut text fits, consists of whole lines of the original, and leaves nothing open.
        #[test]
        fn truncated_text_fits_and_closes_all_elements(
            lines in proptest::collection::vec("(```|```diff|<details>|</details>|[a-zé😀]{0,40})", 0..40),
            most in 60_usize..400,
        ) {
            let text = lines.join("\n") + "\n";
            for measure in [str::len as fn(&str) -> usize, |text: &str| text.encode_utf16().count()] {
                let cut = truncate_markdown(&text, most, measure);
                let mut open = OpenElements::default();
                cut.lines().for_each(|line| open.read_line(line));
                prop_assert!(measure(&cut) <= most, "{cut}");
                prop_assert!(cut == text || (!open.in_block && open.open_details == 0), "{cut}");
            }
        }
    }
}
