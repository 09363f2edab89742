//! Reads a source file as tokens and says which paths, macros and lint attributes it uses.
//!
//! Tokens rather than syntax trees, because a tree keeps the inside of macro calls closed and paths hide there too.
//! Comments and strings are gone before the scan begins, but for strings inside attributes (`#[serde(with = "…")]`).

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree};

/// A path as code names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// Something in this crate, from its root: `["store", "Store"]`.
    Ours(Vec<String>),
    /// Something of another crate, or relative to what is in scope.
    Other(Vec<String>),
}

/// What a file uses.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Every path of two segments or more, and everything imported.
    pub(crate) paths: Vec<Named>,
    /// Everything that the file re-exports, with the name that it has there. It is among the `paths` as well.
    pub(crate) exports: Vec<(String, Named)>,
    /// Every macro that is called, without its `!`.
    pub(crate) macros: Vec<String>,
    /// How many attributes switch a lint off.
    pub(crate) allows: usize,
    /// Every module that the file declares in another file.
    pub(crate) modules: Vec<String>,
}

/// Scans a file of `src/`, named relative to it (`plan/mod.rs`).
pub(crate) fn scan(file: &str, text: &str) -> Result<Scan, LexError> {
    let mut scan = Scan::default();
    scan.walk(&flat(text.parse()?), &module_of(file));
    Ok(scan)
}

/// The module that a file is, from the crate's root. By custom `x_tests.rs` is the module `x::tests`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if let Some(tested) = parts.last().and_then(|last| last.strip_suffix("_tests")).map(str::to_owned) {
        parts.pop();
        parts.extend([tested, "tests".to_owned()]);
    }
    let at_root = parts.len() == 1;
    parts.retain(|part| part != "mod" && !(at_root && (part == "lib" || part == "main")));
    parts
}

fn flat(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

impl Scan {
    fn walk(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            at += self.step(&tokens[at..], module);
        }
    }

    /// Takes in what begins here and returns how many tokens it was.
    fn step(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        match &tokens[0] {
            TokenTree::Ident(word) => self.word(&word.to_string(), tokens, module),
            TokenTree::Group(group) => {
                self.walk(&flat(group.stream()), module);
                1
            }
            TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(tokens, module),
            TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
        }
    }

    fn word(&mut self, word: &str, tokens: &[TokenTree], module: &[String]) -> usize {
        let next = ident(tokens.get(1));
        match (word, next) {
            ("pub", _) => self.export(tokens, module),
            ("use", _) if !is_punct(tokens.get(1), '<') => {
                let end = tokens.iter().position(|token| is_punct(Some(token), ';')).unwrap_or(tokens.len());
                self.import(&tokens[1..end], Vec::new(), module);
                end
            }
            ("mod", Some(name)) => {
                let Some(body) = group(tokens.get(2), Delimiter::Brace) else {
                    self.modules.push(name);
                    return 2;
                };
                self.walk(&flat(body.stream()), &[module, &[name]].concat());
                3
            }
            ("extern", Some(next)) if next == "crate" => {
                self.paths.extend(ident(tokens.get(2)).map(|name| Named::Other(vec![name])));
                3
            }
            _ => self.path(tokens, module),
        }
    }

    /// `pub`, and the import that it makes a re-export.
    fn export(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        let at = if group(tokens.get(1), Delimiter::Parenthesis).is_some() { 2 } else { 1 };
        if ident(tokens.get(at)).is_none_or(|word| word != "use") {
            return at;
        }
        let mut exported = Self::default();
        let length = exported.word("use", &tokens[at..], module);
        self.exports.extend(exported.paths.iter().filter_map(|path| {
            let (Named::Ours(segments) | Named::Other(segments)) = path;
            Some((segments.last()?.clone(), path.clone()))
        }));
        self.paths.append(&mut exported.paths);
        at + length
    }

    /// A path, or the name of a macro behind one.
    fn path(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        let mut segments = Vec::from_iter(ident(tokens.first()));
        let mut length = 1;
        while let (true, Some(segment)) = (is_colons(tokens, length), ident(tokens.get(length + 2))) {
            segments.push(segment);
            length += 3;
        }
        if is_punct(tokens.get(length), '!') && matches!(tokens.get(length + 1), Some(TokenTree::Group(_))) {
            self.macros.extend(segments.last().cloned());
        }
        if segments.len() > 1 {
            self.paths.push(resolve(segments, module));
        }
        length
    }

    fn import(&mut self, tokens: &[TokenTree], mut prefix: Vec<String>, module: &[String]) {
        // A leading `::`, or the `$` of a macro's `$crate`.
        let mut at = if is_colons(tokens, 0) { 2 } else { usize::from(is_punct(tokens.first(), '$')) };
        loop {
            if let Some(branches) = group(tokens.get(at), Delimiter::Brace) {
                for branch in flat(branches.stream()).split(|token| is_punct(Some(token), ',')) {
                    if !branch.is_empty() {
                        self.import(branch, prefix.clone(), module);
                    }
                }
                return;
            }
            let glob = is_punct(tokens.get(at), '*').then(|| "*".to_owned());
            let Some(name) = glob.or_else(|| ident(tokens.get(at))) else { return };
            prefix.push(name);
            if !is_colons(tokens, at + 1) {
                break;
            }
            at += 3;
        }
        if prefix.len() > 1 && prefix.last().is_some_and(|last| last == "self") {
            prefix.pop();
        }
        self.paths.push(resolve(prefix, module));
    }

    fn attribute(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        let at = if is_punct(tokens.get(1), '!') { 2 } else { 1 };
        let Some(body) = group(tokens.get(at), Delimiter::Bracket) else { return 1 };
        let body = flat(body.stream());
        if ident(body.first()).is_none_or(|name| name != "doc") {
            self.inside_attribute(&body, module);
        }
        at + 1
    }

    fn inside_attribute(&mut self, tokens: &[TokenTree], module: &[String]) {
        self.walk_flat(tokens, module);
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "allow" => {
                    self.allows += usize::from(group(tokens.get(at + 1), Delimiter::Parenthesis).is_some());
                }
                TokenTree::Group(group) => self.inside_attribute(&flat(group.stream()), module),
                TokenTree::Literal(literal) => self.quoted_path(&literal.to_string(), module),
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// A string that is nothing but a path may be the name of a function.
    fn quoted_path(&mut self, literal: &str, module: &[String]) {
        let Some(text) = literal.split('"').nth(1) else { return };
        if text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
            self.walk(&text.parse().map(flat).unwrap_or_default(), module);
        }
    }

    /// As [`walk`](Self::walk), groups left out.
    fn walk_flat(&mut self, tokens: &[TokenTree], module: &[String]) {
        for run in tokens.split(|token| matches!(token, TokenTree::Group(_))) {
            self.walk(run, module);
        }
    }
}

/// Follows `crate`, `self` and `super` to the crate's root.
fn resolve(path: Vec<String>, module: &[String]) -> Named {
    let mut here = match path[0].as_str() {
        "crate" | "batchplan" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => return Named::Other(path),
    };
    for (at, segment) in path.into_iter().enumerate() {
        match segment.as_str() {
            "super" => {
                here.pop();
            }
            "crate" | "batchplan" | "self" if at == 0 => {}
            _ => here.push(segment),
        }
    }
    Named::Ours(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(file: &str, text: &str) -> Vec<String> {
        let shown = |path: &Named| match path {
            Named::Ours(path) => format!("crate::{}", path.join("::")),
            Named::Other(path) => path.join("::"),
        };
        scan(file, text).unwrap().paths.iter().map(shown).collect()
    }

    #[test]
    fn an_import_tree_is_taken_apart() {
        let text = "use crate::{store::{self, Store as S}, task::*}; pub use ::std::env; use clap;";
        let expected = ["crate::store", "crate::store::Store", "crate::task::*", "std::env", "clap"];
        assert_eq!(paths("plan/mod.rs", text), expected);
    }

    #[test]
    fn super_is_followed_through_files_and_inline_modules() {
        assert_eq!(paths("plan/validate/store.rs", "use super::super::super::store::X;"), ["crate::store::X"]);
        assert_eq!(paths("plan/mod.rs", "mod tests { use super::*; }"), ["crate::plan::*"]);
        assert_eq!(paths("plan/mod.rs", "mod a { mod b { fn f() { self::g::h() } } }"), ["crate::plan::a::b::g::h"]);
        assert_eq!(paths("object_tests.rs", "use super::*;"), ["crate::object::*"]);
    }

    #[test]
    fn a_path_is_found_wherever_it_hides() {
        let hidden = [
            "fn f() -> ::rusqlite::Result<()> { }",
            "fn f() { let _ = matches!(x, rusqlite::Result::Ok(_)); }",
            "#[derive(rusqlite::Row)] struct S;",
            "#[serde(with = \"rusqlite::Row\")] struct S;",
            "fn f<T: Into<Vec<rusqlite::Row>>>() {}",
            "macro_rules! m { () => { use $crate::x; use $y::z; rusqlite::Row } }",
            "macro_rules! m { () => { $crate::x::y; rusqlite::Row } }",
        ];
        for text in hidden {
            assert!(paths("plan/mod.rs", text).iter().any(|path| path.starts_with("rusqlite::R")), "{text}");
        }
    }

    #[test]
    fn a_re_export_is_an_import_that_begins_with_pub() {
        let scan =
            scan("plan/mod.rs", "pub use self::a::{B, C}; pub(crate) use d::E; use f::G; pub fn h() {}").unwrap();
        let names: Vec<&str> = scan.exports.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, scan.paths.len()), (vec!["B", "C", "E"], 4), "{scan:?}");
    }

    #[test]
    fn words_in_comments_and_strings_are_not_code() {
        let text = r##"
            //! use crate::store::X;
            /* use crate::store::X; /* print!() */ */
            /// [`X`](crate::store::X)
            const A: &str = "use crate::store::X; #[allow(x)]";
            const B: &str = r#"print!("crate::store")"#;
            #[arg(help = "see crate::store")]
            const C: char = '"';
            fn f<'a>(x: &'a u8) -> impl Sized + use<'a> { x != x }
        "##;
        let scan = scan("plan/mod.rs", text).unwrap();
        assert_eq!((scan.paths.len(), scan.macros.len(), scan.allows), (0, 0, 0), "{scan:?}");
    }
}
