//! Holds the house together: imports point down, each outside crate has its room, files stay short.
//!
//! The table below is the law; `src/lib.rs` explains it. A new room is added to both.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/dependencies.rs"]
mod dependencies;
#[path = "architecture/scan.rs"]
mod scan;
#[path = "architecture/words.rs"]
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use scan::{Named, module_of, scan};

/// Every room and its layer. A room may import from lower layers; rooms of layer 0 also from each other.
const LAYERS: &[(&str, u8)] = &[
    ("files", 0),
    ("money", 0),
    ("frontier", 0),
    ("connect", 0),
    ("failpoint", 0),
    ("job", 0),
    ("open_files", 0),
    ("paths", 0),
    ("diagnostics", 0),
    ("percent_decode", 0),
    ("hint", 0),
    ("varint", 0),
    ("thousands", 0),
    ("captures", 1),
    ("report_format", 1),
    ("toml_reader", 1),
    ("manifest", 2),
    ("operation", 2),
    ("provider", 3),
    ("journal", 3),
    ("report", 3),
    ("plan", 4),
    ("plan_rules", 5),
    ("estimate", 5),
    ("diff", 5),
    ("engine", 5),
    ("remote", 5),
    ("notify", 5),
    ("jobs", 6),
    ("cli", 7),
];

/// The crates beside the program.
const CRATES: [&str; 3] = ["crates/columnar", "crates/sandbox", "crates/store"];

/// What only some modules may name: the beginning of a path (`aws_*` stands for every name that begins so), and the
/// modules that may name it. A module includes its submodules.
const FENCES: &[(&[&str], &[&str])] = &[
    (&["aws_*"], &["crates/store"]),
    (&["s3s"], &["crates/sandbox"]),
    (&["rusqlite"], &["journal"]),
    (&["clap*"], &["cli"]),
    (&["toml"], &["toml_reader", "plan/tables", "estimate/price_book"]),
    (&["quick_xml"], &["plan", "jobs", "crates/store", "crates/sandbox"]),
    (&["tokio", "signal"], &["cli"]),
    (&["std", "env"], &["cli", "crates/store/credentials", "crates/store/web"]),
    (&["io", "stdout"], &["cli"]),
    (&["io", "stderr"], &["cli"]),
    (&["rustls*"], &["crates/store/web"]),
    (&["tokio_rustls"], &["crates/store/web"]),
    (&["tracing_subscriber"], &["cli/logging"]),
    // One mutex ignores poisoning, in each crate that needs one.
    (&["sync", "PoisonError"], &["crates/store/mutex", "crates/sandbox/store"]),
];

/// The macros that only cli/ may call.
const PRINTERS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// The files besides the profiles that may name a provider: a request of a managed service is for its provider, and the
/// scheme of a state URL selects one.
const NAME_PROVIDERS: &[&str] = &["src/plan/interchange/export.rs", "src/plan/url.rs"];

/// A file that is longer does more than one thing.
const MOST_LINES: usize = 1000;

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

/// Returns what a file does that its module may not do, one sentence each. The file is named from the repository's
/// root: `src/plan/mod.rs`, `crates/store/src/xml.rs`.
fn offences(path: &str, text: &str) -> Vec<String> {
    let (home, file) = path.split_once("src/").expect("a source file");
    let scan = scan(file, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let place = format!("{home}{}", module_of(file).join("/"));
    let mut found = Vec::new();
    for path in &scan.paths {
        found.extend(match path {
            Named::Ours(path) if home.is_empty() => wrong_way(&place, path),
            // The compiler holds what a crate may name.
            Named::Ours(_) => None,
            Named::Other(path) => fenced(&place, path),
        });
    }
    for name in scan.macros.iter().filter(|name| PRINTERS.contains(&name.as_str())) {
        if !within(&place, "cli") {
            found.push(format!("calls {name}!, which only cli/ may"));
        }
    }
    found
}

/// Why a path of this crate may not be named here. The root (`lib.rs`, `main.rs`) sees every room.
fn wrong_way(place: &str, path: &[String]) -> Option<String> {
    let room = place.split('/').next().filter(|room| !room.is_empty())?;
    let target = path.first().map_or("*", String::as_str);
    if target == room {
        return None;
    }
    let shown = path.join("::");
    match (layer(room), layer(target)) {
        (Some(from), Some(to)) if to < from || (from, to) == (0, 0) => None,
        (Some(from), Some(to)) => Some(format!("in layer {from} names crate::{shown} of layer {to}")),
        (Some(_), None) => Some(format!("names crate::{shown}, which is in no room of the table")),
        (None, _) => Some(format!("is in {room}, which is no room of the table")),
    }
}

/// Why a path of another crate may not be named here.
fn fenced(place: &str, path: &[String]) -> Option<String> {
    let (fence, _) = FENCES.iter().find(|(fence, rooms)| {
        let inside = rooms.iter().any(|room| within(place, room));
        !inside && (opens(fence, path) || swallows(fence, path))
    })?;
    Some(format!("names {}, but {} has its own room", path.join("::"), fence.join("::")))
}

fn within(place: &str, room: &str) -> bool {
    place.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the path goes through the fence. A crate stands first; a module may be reached from further up.
fn opens(fence: &[&str], path: &[String]) -> bool {
    let fits = |window: &[String]| window.iter().zip(fence).all(|(name, wanted)| fits(name, wanted));
    match fence {
        [_] => fits(&path[..1]),
        _ => path.windows(fence.len()).any(fits),
    }
}

fn fits(name: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == wanted,
    }
}

/// Whether the path is a glob that takes the fenced module along.
fn swallows(fence: &[&str], path: &[String]) -> bool {
    let Some((last, front)) = path.split_last() else { return false };
    last == "*"
        && fence.len() > 1
        && front.ends_with(&fence[..fence.len() - 1].iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// What is wrong between the modules that `lib.rs` declares, the table in its documentation and [`LAYERS`].
fn map_offences(lib: &str) -> Vec<String> {
    let declared = scan("lib.rs", lib).unwrap_or_else(|error| panic!("src/lib.rs: {error}")).modules;
    let explained = explained_rooms(lib);
    let mut found = Vec::new();
    for room in &declared {
        let Some(layer) = layer(room) else {
            found.push(format!("{room} is missing in the table of tests/architecture.rs"));
            continue;
        };
        match explained.iter().find(|(name, _)| name == room) {
            None => found.push(format!("{room} is missing in the table of src/lib.rs")),
            Some((_, told)) if *told != layer.to_string() => {
                found.push(format!("{room} is of layer {layer}, but src/lib.rs says {told}"));
            }
            Some(_) => {}
        }
    }
    let unknown = explained.iter().filter(|(name, _)| !declared.contains(name));
    found.extend(unknown.map(|(name, _)| format!("{name} is explained in src/lib.rs, but there is no such room")));
    found
}

/// Name and layer of each row ``//! | 2 | [`manifest`] | … |``.
fn explained_rooms(lib: &str) -> Vec<(String, String)> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! |"));
    rows.filter_map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let (layer, room) = (cells.next()?, cells.next()?);
        let room = room.strip_prefix("[`")?.strip_suffix("`]")?;
        Some((room.to_owned(), layer.to_owned()))
    })
    .collect()
}

/// What is wrong with any file, wherever it lies.
fn manners(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        found.push(format!("has {lines} lines, more than {MOST_LINES}"));
    }
    let allows = scan("lib.rs", text).unwrap_or_else(|error| panic!("{error}")).allows;
    if allows > 0 {
        found.push("switches a lint off with allow: use expect, with a reason".to_owned());
    }
    found
}

/// Every Rust file below a folder of the repository, with its name relative to it, in order.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    collect(&root, &mut found);
    let named = |path: PathBuf| {
        let relative = path.strip_prefix(&root).expect("it was found there").to_string_lossy().replace('\\', "/");
        (relative, fs::read_to_string(&path).expect("source files are readable"))
    };
    let mut files: Vec<_> = found.into_iter().map(named).collect();
    files.sort();
    files
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("source folders are readable") {
        let path = entry.expect("source folders are readable").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Checks every file below a folder. The check is given the file's path from the repository's root.
fn all(folder: &str, check: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let files = rust_files(folder);
    assert!(!files.is_empty(), "no Rust file in {folder}/");
    let checked = |(file, text): &(String, String)| {
        let path = format!("{folder}/{file}");
        check(&path, text).into_iter().map(|what| format!("{path} {what}")).collect::<Vec<_>>()
    };
    files.iter().flat_map(checked).collect()
}

/// Checks every file of the program and of the crates beside it.
fn sources(check: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let crates = CRATES.iter().flat_map(|home| all(&format!("{home}/src"), &check));
    all("src", &check).into_iter().chain(crates).collect()
}

#[test]
fn imports_point_down_and_crates_stay_in_their_rooms() {
    assert_none(&sources(offences));
}

/// No file is needed by one that it needs: each can be read, and tested, without the other.
#[test]
fn no_files_import_each_other() {
    for folder in ["src".to_owned()].into_iter().chain(CRATES.iter().map(|home| format!("{home}/src"))) {
        let files = rust_files(&folder);
        let texts = files.iter().map(|(name, text)| (name.clone(), without_tests(name, text)));
        let found = circles::circles(&texts.collect::<Vec<_>>());
        assert_none(&found.iter().map(|what| format!("files of {folder}/ {what}")).collect::<Vec<_>>());
    }
}

#[test]
fn every_room_is_on_the_map() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    assert_none(&map_offences(&fs::read_to_string(lib).unwrap()));
}

#[test]
fn files_are_short_and_no_lint_is_switched_off() {
    assert_none(&sources(|_, text| manners(text)));
    assert_none(&all("tests", |_, text| manners(text)));
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut homes: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for folder in ["src", "crates"] {
        for (file, text) in rust_files(folder) {
            let path = format!("{folder}/{file}");
            // Test files may have a `Scene` each.
            if path.contains("test") || !path.contains("src/") || path.contains("/target/") {
                continue;
            }
            let package = CRATES.into_iter().find(|home| path.starts_with(home)).unwrap_or("src");
            for name in words::types(&text) {
                homes.entry((package, name)).or_default().push(path.clone());
            }
        }
    }
    let shared = homes.iter().filter(|((_, name), homes)| homes.len() > 1 && name != "Error");
    assert_none(&shared.map(|((_, name), homes)| format!("{name} is in {}", homes.join(" and "))).collect::<Vec<_>>());
    let single = homes.keys().filter(|(_, name)| words::is_one_word(name)).count();
    assert!(homes.len() > 500 && single * 5 < homes.len(), "{single} of {} types have names of one word", homes.len());
}

#[test]
fn names_are_the_fields_own() {
    assert_none(&sources(|_, text| words::banned_names(text)));
}

/// Tests may say what they like: only their authors read them.
fn without_tests<'a>(path: &str, text: &'a str) -> &'a str {
    if path.contains("test") { "" } else { text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text) }
}

#[test]
fn texts_and_comments_are_plain() {
    assert_none(&sources(|path, text| words::banned_phrases(without_tests(path, text))));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "benches/README.md",
        "fuzz/README.md",
        "action.yml",
    ]
    .map(|name| root.join(name))
    .to_vec();
    for folder in ["docs/src", "docs/src/howto", "docs/src/reference"] {
        let entries = fs::read_dir(root.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    for document in documents {
        let (text, name) = (fs::read_to_string(&document).expect("a document"), document.display());
        assert_none(&words::banned_phrases(&text).iter().map(|what| format!("{name} {what}")).collect::<Vec<_>>());
    }
}

/// The providers that a file names although it may not. What it knows about one belongs in that provider's file.
fn named_providers(path: &str, text: &str) -> Vec<String> {
    if NAME_PROVIDERS.contains(&path) || path.contains("src/provider/") {
        return Vec::new();
    }
    let code = without_tests(path, text);
    code.split("StoreProvider::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .filter(|name| name.starts_with(char::is_uppercase) && !["ALL", "NAMES"].contains(name))
        .map(|name| format!("names StoreProvider::{name}: ask its profile or its rules"))
        .collect()
}

#[test]
fn only_the_files_of_providers_name_one() {
    assert_none(&sources(named_providers));
}

/// The module of `manifest` that a module path leads into.
fn manifest_module(path: &[String]) -> Option<&str> {
    let (room, rest) = path.split_first()?;
    if room == "manifest" { rest.first().map(String::as_str) } else { None }
}

/// Sources pass their rows to a visitor, and do not know what becomes of them.
#[test]
fn manifest_sources_know_nothing_of_freezing() {
    const SOURCES: [&str; 6] = ["changes", "csv", "inventory", "prefix", "report", "retry"];
    const FREEZING: [&str; 3] = ["freeze", "freeze_checkpoint", "part"];
    let named = |path: &str, text: &str| -> Vec<String> {
        let file = path.strip_prefix("src/").expect("a file of the program");
        let scan = scan(file, without_tests(path, text)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let ours = scan.paths.into_iter().filter_map(|path| match path {
            Named::Ours(path) => manifest_module(&path).map(str::to_owned),
            Named::Other(_) => None,
        });
        ours.filter(|module| FREEZING.contains(&module.as_str())).map(|module| format!("names {module}")).collect()
    };
    let is_source = |path: &str| {
        let module = module_of(path.strip_prefix("src/").expect("a file of the program"));
        manifest_module(&module).is_some_and(|module| SOURCES.contains(&module))
    };
    assert_none(&all("src/manifest", |path, text| if is_source(path) { named(path, text) } else { Vec::new() }));
    let writer = all("src/manifest", |path, text| if path.ends_with("freeze.rs") { named(path, text) } else { vec![] });
    assert!(!writer.is_empty(), "the check itself must be able to fail");
}

/// `fuzz/` compiles the fuzz targets of the tests into a package of its own, which no other test builds.
#[test]
fn the_coverage_fuzzers_have_every_crate_that_their_targets_use() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = |manifest: &str, tables: &[&str]| -> Vec<String> {
        let text = fs::read_to_string(root.join(manifest)).expect("a manifest");
        let parsed: toml::Table = text.parse().expect("TOML");
        let tables = tables.iter().map(|name| parsed[*name].as_table().expect("a table"));
        tables.flat_map(|table| table.keys().cloned()).collect()
    };
    let ours = crates("Cargo.toml", &["dependencies", "dev-dependencies"]);
    let theirs = crates("fuzz/Cargo.toml", &["dependencies"]);
    let shared = ["tests/fuzz/targets", "tests/support/inventory"].map(rust_files).concat();
    let mut used = 0;
    for name in ours {
        // The library of `md-5` has another name.
        let path = if name == "md-5" { "md5::".to_owned() } else { format!("{}::", name.replace('-', "_")) };
        let mentions =
            |(_, text): &&(String, String)| [" ", "("].iter().any(|before| text.contains(&format!("{before}{path}")));
        if let Some((file, _)) = shared.iter().find(mentions) {
            used += 1;
            assert!(theirs.contains(&name), "{file} uses {name}, and fuzz/Cargo.toml does not have it");
        }
    }
    assert!(used >= 5, "{used} crates are found to be used: the search fails");
}

/// The checks themselves: each must be able to fail.
mod the_checks {
    use super::*;

    fn refused(file: &str, text: &str) {
        assert_ne!(offences(&path(file), text), Vec::<String>::new(), "{file}: {text}");
    }

    fn accepted(file: &str, text: &str) {
        assert_eq!(offences(&path(file), text), Vec::<String>::new(), "{file}: {text}");
    }

    /// Takes a file for one of the program's, unless it says which crate it is in.
    fn path(file: &str) -> String {
        if file.starts_with("crates/") { file.to_owned() } else { format!("src/{file}") }
    }

    #[test]
    fn an_import_that_points_up_or_sideways_is_refused() {
        refused("report_format/mod.rs", "use crate::plan::Plan;");
        refused("report_format/decode/mod.rs", "use super::super::engine::Engine;");
        refused("manifest/csv.rs", "use crate::operation::Operation;");
        refused("report/publish.rs", "fn f(_: &crate::plan::Plan) {}");
        refused("report/publish.rs", "fn f() { assert!(crate::cli::yes()); }");
        refused("report/publish.rs", "mod tests { use super::super::super::cli::*; }");
        refused("files.rs", "use crate::report_format::RowEncoder;");
        refused("report_format/mod.rs", "use crate::*;");
        refused("report_format/mod.rs", "use crate::attic::Thing;");
        refused("attic/mod.rs", "use crate::files::lock;");
    }

    #[test]
    fn an_import_that_points_down_or_stays_at_home_is_accepted() {
        accepted("files.rs", "use crate::money::Money;");
        accepted("report/publish.rs", "use crate::{report_format::Naming, report::Report, files::lock}; use super::x;");
        accepted("cli/apply.rs", "use crate::engine::run; use crate::plan::Plan;");
        accepted("lib.rs", "pub use crate::cli::main; mod cli;");
        accepted("main.rs", "fn main() { batchplan::cli::main() }");
        accepted("report_format/mod.rs", "/// [`Plan`](crate::plan::Plan)\nconst A: &str = \"crate::plan\";");
    }

    #[test]
    fn a_crate_outside_its_room_is_refused() {
        for (home, text) in [
            ("crates/store/src/s3.rs", "use aws_sdk_s3::Client;"),
            ("crates/store/src/s3.rs", "fn f() -> ::aws_config::SdkConfig {}"),
            ("crates/sandbox/src/lib.rs", "use s3s::S3;"),
            ("journal/mod.rs", "use rusqlite;"),
            ("journal/mod.rs", "extern crate rusqlite;"),
            ("cli/apply.rs", "#[derive(clap::Args)] struct A;"),
            ("cli/completions.rs", "use clap_complete::Shell;"),
            ("toml_reader/reader.rs", "use toml::Spanned;"),
            ("plan/tables.rs", "use toml::de::DeValue;"),
            ("plan/xml.rs", "use quick_xml::Writer;"),
            ("jobs/describe.rs", "fn f(_: quick_xml::Writer<Vec<u8>>) {}"),
            ("crates/store/src/xml.rs", "use quick_xml::events::Event;"),
            ("crates/store/src/web/connector.rs", "use tokio_rustls::TlsConnector;"),
            ("cli/signals.rs", "use tokio::{fs, signal::ctrl_c};"),
            ("cli/terminal.rs", "use std::{env, fs};"),
            ("cli/terminal.rs", "use std::*;"),
            ("crates/store/src/credentials/mod.rs", "fn f() { std::env::var(\"X\"); }"),
            ("crates/store/src/credentials/oss.rs", "use std::env::var;"),
            ("cli/terminal.rs", "use std::io; fn f() { io::stdout(); }"),
            ("cli/terminal.rs", "use tokio::io::stderr;"),
            ("cli/terminal.rs", "fn f() { println!(\"{}\", 1) }"),
            ("cli/terminal.rs", "fn f() { std::dbg!(1); }"),
        ] {
            accepted(home, text);
            refused("engine/mod.rs", text);
        }
        refused("crates/store/src/credentials_cache.rs", "use std::env;");
        refused("crates/sandbox/src/server.rs", "fn f() { println!(\"{}\", 1) }");
        accepted("engine/mod.rs", "use tokio::sync; use std::fs; const V: &str = env!(\"CARGO_PKG_VERSION\");");
    }

    #[test]
    fn a_room_that_is_forgotten_or_misplaced_is_told() {
        let fine = "//! | layer | room | what |\n//! |---|---|---|\n//! | 0 | [`files`] | x |\npub mod files;";
        assert_eq!(map_offences(fine), Vec::<String>::new());
        for (lib, expected) in [
            ("pub mod files;", "files is missing in the table of src/lib.rs"),
            ("mod attic;", "attic is missing in the table of tests/architecture.rs"),
            ("//! | 1 | [`files`] | x |\nmod files;", "files is of layer 0, but src/lib.rs says 1"),
            ("//! | 0 | [`files`] | x |", "files is explained in src/lib.rs, but there is no such room"),
        ] {
            assert_eq!(map_offences(lib), [expected]);
        }
    }

    #[test]
    fn a_provider_that_is_named_is_found() {
        let named = |text| named_providers("src/jobs/mod.rs", text).len();
        assert_eq!(named("if x == StoreProvider::Oss {} match x { StoreProvider::S3 => {} }"), 2);
        assert_eq!(named("use batchplan_store::StoreProvider; StoreProvider::ALL.len(); StoreProvider::NAMES"), 0);
        assert_eq!(named("#[cfg(test)]\nmod tests {\n    const A: StoreProvider = StoreProvider::Aws;\n}"), 0);
        assert_eq!(named_providers("src/provider/mod.rs", "StoreProvider::Aws"), Vec::<String>::new());
    }

    #[test]
    fn a_banned_name_is_found() {
        for text in ["struct Lane {", "pub(crate) enum Place {", "    pub async fn carry(self) {}", "pub mod desk;"] {
            assert_eq!(words::banned_names(text).len(), 1, "{text}");
        }
        for text in ["struct LaneId;", "// struct Lane", "fn going() {}", "use desk::Lane;", "let lane = Lane::new();"]
        {
            assert_eq!(words::banned_names(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(words::types("pub trait A {\ntype B = u8;\n    struct C;\n"), ["A", "B"]);
        assert!(words::is_one_word("Plan") && !words::is_one_word("PlanHash"));
    }

    #[test]
    fn a_banned_phrase_is_found() {
        assert_eq!(words::banned_phrases("fine\n// Whoever reads it, is told of it.").len(), 2);
        assert_eq!(words::banned_phrases("anybody, nobodyhood, it_is_told of"), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_and_a_switched_off_lint_are_told() {
        assert_eq!(manners(&"\n".repeat(MOST_LINES)).len(), 0);
        assert_eq!(manners(&"\n".repeat(MOST_LINES + 1)).len(), 1);
        for text in [
            "#[allow(dead_code)] fn f() {}",
            "#![allow(x)]",
            "#[cfg_attr(test, allow(x))] fn f() {}",
            "#[ allow (x)] fn f() {}",
        ] {
            assert_eq!(manners(text).len(), 1, "{text}");
        }
        assert_eq!(manners("#[expect(dead_code, reason = \"x\")] fn allow(x: u8) { allow(x) }").len(), 0);
    }
}
