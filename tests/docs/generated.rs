//! Pages, or parts of them, that are made from the program itself. A part is between `<!-- generated -->` and
//! `<!-- end of generated -->`.

use std::fs;

use crate::page::root;

const BEGIN: &str = "<!-- generated -->\n";
const END: &str = "<!-- end of generated -->\n";

/// Compares the generated part of a page with what it should be, or rewrites it.
pub(crate) fn compare(name: &str, expected: &str) {
    let path = root().join(name);
    let actual = fs::read_to_string(&path).expect("the page");
    let (before, rest) = actual.split_once(BEGIN).expect("the part's beginning");
    let (part, after) = rest.split_once(END).expect("the part's end");
    let expected = format!("\n{}\n\n", expected.trim());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, [before, BEGIN, &expected, END, after].concat()).expect("written");
    } else if part != expected {
        let same = part.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
        panic!(
            "{name} is out of date from line {} on: run this test with UPDATE_EXPECTED=1",
            before.lines().count() + same + 2
        );
    }
}

/// Returns a text in Markdown in which only the marks of code count.
pub(crate) fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(index, part)| {
        let code = index % 2 == 1;
        if code { format!("`{part}`") } else { part.replace('<', "\\<").replace('*', "\\*").replace('[', "\\[") }
    });
    parts.collect::<String>().replace('\n', " ").trim().to_owned()
}

/// Returns a text in Markdown that ends with a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let text = prose(text);
    if text.is_empty() || text.ends_with(['.', ']', ':', '!']) { text } else { text + "." }
}
