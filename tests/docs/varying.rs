//! What differs from run to run in the output of commands: a few named rules. Both the page and the output are
//! normalised by them, so that a page shows real values.

use std::sync::LazyLock;

use regex_lite::Regex;

/// The rules in the order in which they are applied, each with what it puts in place.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // Where a long line is broken depends on the numbers in it.
        (r"\n {11,}", " "),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
        (r"\b[0-9a-f]{32,64}\b", "<digest>"),
        (r"remote/[0-9a-f]{16}", "remote/<state>"),
        (r"\b[\d,]+(\.\d+)? (objects|requests)/s", "<rate> $2/s"),
        (r"\b\d[\d,]*(\.\d+)? (ms|s|min|h|d)\b( \d+ (s|min|h)\b)?", "<duration>"),
        (r"\b[\d,]+ bytes\b", "<size>"),
        (r"\bprocess \d+", "process <number>"),
        (r"\bana@[\w.-]+", "ana@<host>"),
        (r"\bpush \d+", "push <number>"),
        (r#""(elapsed|active)_seconds":\s?[\d.]+"#, "<seconds>"),
        (r#""objects_per_second":\s?[\d.]+"#, "<rate>"),
        (r#""latency_ms":\s?[\d.]+"#, "<latency>"),
        (r"127\.0\.0\.1:\d+", "<address>"),
        // A server may be checked by several workers at once.
        (r"(?m)^  requests  [\d,]+.*$", "  requests  <number>"),
        // A column is as wide as what it shows.
        (r" {2,}", "  "),
    ]
    .into_iter()
    .map(|(pattern, name)| (Regex::new(pattern).expect("a pattern"), name))
    .collect()
});

/// IDs of jobs are hexadecimal digits in Base64, in full or the first eight characters.
static JOB_ID: LazyLock<Regex> = LazyLock::new(|| {
    let group = "[MNOYZ][DGTWjmz2][A-Za-l][w-z0-5h-m]";
    Regex::new(&format!("(?:{group}){{2,}}(?:[MNOYZ][DGTWjmz2][A-Za-l]=)?")).expect("a pattern")
});

const SHORT_ID: usize = 8;

/// The jobs of a page, or of a run of it, in the order in which they appear.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobIds(Vec<String>);

impl JobIds {
    /// Notes the jobs that a text names.
    pub(crate) fn learn(&mut self, text: &str) {
        for found in JOB_ID.find_iter(text) {
            let known = self.0.iter_mut().find(|id| id[..SHORT_ID] == found.as_str()[..SHORT_ID]);
            match known {
                Some(id) if id.len() >= found.len() => {}
                Some(id) => found.as_str().clone_into(id),
                None => self.0.push(found.as_str().to_owned()),
            }
        }
    }

    /// Puts the jobs of another list in the place of those of this list, for which they stand.
    pub(crate) fn translate(&self, text: &str, other: &Self) -> String {
        let replaced = JOB_ID.replace_all(text, |found: &regex_lite::Captures<'_>| {
            let id = &found[0];
            let index = self.0.iter().position(|known| known[..SHORT_ID] == id[..SHORT_ID]);
            let Some(other) = index.and_then(|index| other.0.get(index)) else { return id.to_owned() };
            // If only the beginning of the other one is known, the rest of this one serves.
            if id.len() <= other.len() { other[..id.len()].to_owned() } else { other.clone() + &id[other.len()..] }
        });
        replaced.into_owned()
    }

    fn normalise(&self, text: &str) -> String {
        let replaced = JOB_ID.replace_all(text, |found: &regex_lite::Captures<'_>| {
            let index = self.0.iter().position(|known| known[..SHORT_ID] == found[0][..SHORT_ID]);
            format!("<job {}>", index.map_or_else(|| "?".to_owned(), |index| index.to_string()))
        });
        replaced.into_owned()
    }
}

/// The beginnings of lines that appear only if something takes a while.
const SLOW: [&str; 3] = ["pushing progress to the state", "waiting for ", "the state is held by "];

/// Returns a text with everything replaced that differs from run to run.
pub(crate) fn normalise(text: &str, jobs: &JobIds) -> String {
    let is_kept = |line: &&str| !SLOW.iter().any(|start| line.starts_with(start));
    let text: Vec<_> = text.lines().filter(is_kept).collect();
    let text = jobs.normalise(&text.join("\n"));
    RULES.iter().fold(text, |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

/// Returns whether the output is what the page shows. A line `...` stands for any number of lines.
pub(crate) fn matches(shown: &[&str], output: &[&str]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((&"...", rest)) => (0..=output.len()).any(|skipped| matches(rest, &output[skipped..])),
        Some((line, rest)) => output.first() == Some(line) && matches(rest, &output[1..]),
    }
}

#[test]
fn values_that_differ_from_run_to_run_match_and_others_do_not() {
    let mut page = JobIds::default();
    page.learn("job YmEzZWU2 is Complete");
    let mut run = JobIds::default();
    run.learn("job ODRiZWQ5 is Complete");
    let (page_text, run_text) = ("job YmEzZWU2, 12 s, 3 failed", "job ODRiZWQ5, 1 min 2 s, 3 failed");
    assert_eq!(normalise(page_text, &page), normalise(run_text, &run));
    assert_ne!(normalise("job YmEzZWU2, 12 s, 4 failed", &page), normalise(run_text, &run));
    assert_ne!(normalise("job ODRiZWQ5, 12 s, 3 failed", &page), normalise(run_text, &run));
    assert_eq!(page.translate("batchplan show YmEzZWU2", &run), "batchplan show ODRiZWQ5");
    assert!(matches(&["a", "...", "d"], &["a", "b", "c", "d"]) && matches(&["..."], &[]));
    assert!(!matches(&["a", "..."], &["b"]) && !matches(&["a"], &["a", "b"]));
}
