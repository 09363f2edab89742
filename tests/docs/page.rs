//! Pages of the documentation: their code blocks, links and headings, and the directives for the tests.
//!
//! A directive is an HTML comment, which readers do not see: `<!-- test: WORDS -->`, or with text on the lines below.
//! Directives in front of a block belong to that block.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd};

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What one HTML comment tells the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    /// The words behind `test:`.
    pub(crate) words: String,
    /// The lines below them.
    pub(crate) text: String,
}

impl Directive {
    fn parse(html: &str) -> Option<Self> {
        let inside = html.trim().strip_prefix("<!-- test:")?.strip_suffix("-->")?;
        let (words, text) = inside.split_once('\n').unwrap_or((inside, ""));
        Some(Self { words: words.trim().to_owned(), text: text.to_owned() })
    }

    /// Returns what follows this word, if the directive begins with it.
    pub(crate) fn after(&self, word: &str) -> Option<&str> {
        let rest = self.words.strip_prefix(word)?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim())
    }
}

/// A fenced block of code.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) directives: Vec<Directive>,
    /// The number of the line that opens the block.
    pub(crate) line: usize,
    /// Where the block's text is in the page.
    pub(crate) range: Range<usize>,
}

impl Block {
    /// Returns what follows this word in the first directive that begins with it.
    pub(crate) fn directive(&self, word: &str) -> Option<&str> {
        self.directives.iter().find_map(|directive| directive.after(word))
    }
}

/// A file of the documentation.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Its path in the repository, with `/`.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
    /// The targets of its links and pictures, with their lines.
    pub(crate) links: Vec<(String, usize)>,
    /// The words in the text that are set as code, with their lines.
    pub(crate) code: Vec<(String, usize)>,
    /// The anchors of its headings.
    pub(crate) anchors: Vec<String>,
}

impl Page {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.strip_prefix(root()).expect("a file of the repository").to_string_lossy().into_owned();
        Self::parse(name, text)
    }

    pub(crate) fn parse(name: String, text: String) -> Self {
        let mut page =
            Self { name, text, blocks: Vec::new(), links: Vec::new(), code: Vec::new(), anchors: Vec::new() };
        let text = page.text.clone();
        let line = |offset: usize| text[..offset].matches('\n').count() + 1;
        let (mut pending, mut html, mut heading) = (Vec::new(), String::new(), None::<String>);
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        for (event, range) in Parser::new_ext(&text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    page.blocks.push(Block {
                        language: info.to_string(),
                        text: String::new(),
                        directives: std::mem::take(&mut pending),
                        line: line(range.start),
                        range: 0..0,
                    });
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)) => {
                    panic!("{}:{}: an indented block of code: use a fence", page.name, line(range.start))
                }
                Event::Text(part) => add_text(&mut page, &part, range, heading.as_mut()),
                Event::Code(part) => {
                    page.code.push((part.to_string(), line(range.start)));
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::Start(Tag::HtmlBlock) => html.clear(),
                Event::Html(part) => html.push_str(&part),
                Event::End(TagEnd::HtmlBlock) => pending.extend(Directive::parse(&html)),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((dest_url.to_string(), line(range.start)));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.anchors.extend(heading.take().map(|title| anchor(&title))),
                _ => {}
            }
        }
        assert!(pending.is_empty(), "{}: no block follows the directive {pending:?}", page.name);
        page
    }
}

fn add_text(page: &mut Page, part: &CowStr<'_>, range: Range<usize>, heading: Option<&mut String>) {
    if let Some(heading) = heading {
        heading.push_str(part);
    } else if let Some(block) = page.blocks.last_mut()
        && range.start > block.range.end.max(1)
        && page.text[..range.start].lines().count() >= block.line
        && in_fence(&page.text, block, range.start)
    {
        block.text.push_str(part);
        block.range = if block.range.is_empty() { range } else { block.range.start..range.end };
    }
}

/// Returns whether an offset behind a block's opening line is in front of its closing fence.
fn in_fence(text: &str, block: &Block, offset: usize) -> bool {
    let opening: usize = text.split_inclusive('\n').take(block.line).map(str::len).sum();
    offset >= opening && !text[opening..offset].contains("```")
}

/// The anchor that mdBook and GitHub give a heading.
fn anchor(title: &str) -> String {
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The pages of the book, in alphabetical order, without its table of contents.
pub(crate) fn book() -> Vec<Page> {
    let mut files = Vec::new();
    collect(&root().join("docs/src"), &mut files);
    files.sort();
    files.iter().filter(|path| !path.ends_with("SUMMARY.md")).map(|path| Page::read(path)).collect()
}

/// README and the book.
pub(crate) fn all() -> Vec<Page> {
    let mut pages = vec![Page::read(&root().join("README.md"))];
    pages.extend(book());
    pages
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|kind| kind == "md") {
            files.push(entry);
        }
    }
}

#[test]
fn blocks_have_their_text_place_and_directives() {
    let text = "# A b: `c`\n\nSee [x](y.md#z).\n\n<!-- test: exit 3 -->\n\n```console\n$ a\nb\n```\n\nMore.\n\n```toml\n\
                c = 1\n```\n";
    let page = Page::parse("p.md".to_owned(), text.to_owned());
    let [first, second] = &page.blocks[..] else { panic!("{:?}", page.blocks) };
    assert_eq!((first.language.as_str(), first.text.as_str(), first.line), ("console", "$ a\nb\n", 7));
    assert_eq!((&text[first.range.clone()], first.directive("exit")), ("$ a\nb\n", Some("3")));
    assert_eq!((second.text.as_str(), second.directives.len()), ("c = 1\n", 0));
    assert_eq!(page.links, [("y.md#z".to_owned(), 3)]);
    assert_eq!(page.anchors, ["a-b-c"]);
}
