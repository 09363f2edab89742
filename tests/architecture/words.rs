//! The names of types, modules and functions, and the words of texts and comments.

/// Names of types that say too little, and what to say instead.
pub(crate) const BANNED_TYPES: &[(&str, &str)] = &[
    ("Allowance", "JobQuota"),
    ("Ask", "HttpRequest"),
    ("Book", "OutcomeSink, or PriceBook"),
    ("Cabinet", "Store"),
    ("Call", "ObjectRequest"),
    ("Carry", "JobSession"),
    ("Census", "ClassStats"),
    ("Clerk", "DatabaseThread"),
    ("Desk", "JobRequest"),
    ("Draft", "FreezeCheckpoint"),
    ("Ear", "EventListener"),
    ("Errand", "StsClient, or a command"),
    ("Fate", "Effect"),
    ("Gate", "Admission"),
    ("Given", "PlanInput"),
    ("Glance", "PeekCollector"),
    ("Governor", "CongestionController"),
    ("Halt", "RequestAbort"),
    ("Held", "JobLease"),
    ("Judge", "Predictor"),
    ("Kept", "JournalHandle"),
    ("Lane", "Connection, or Partition"),
    ("Learned", "ResponseData"),
    ("Ledger", "JobRecorder"),
    ("Letter", "WebhookMessage"),
    ("Mark", "a cursor"),
    ("Outbox", "MessageSender"),
    ("Pace", "RateLimiter"),
    ("Patience", "Timeouts"),
    ("Patient", "RetryingStore"),
    ("Pile", "a sorted run"),
    ("Place", "a location"),
    ("Pledge", "ManifestFingerprint"),
    ("Prospect", "Prediction"),
    ("Reach", "KeyRanges"),
    ("Rhythm", "CheckpointPolicy"),
    ("Seal", "MessageSignature"),
    ("Seat", "a share"),
    ("Sink", "RowWriter"),
    ("Site", "StoreEndpoint"),
    ("Stretch", "PartitionWriter"),
    ("Submission", "JobRequest"),
    ("Survey", "SamplingPass"),
    ("Tempo", "a configuration"),
    ("Tenure", "LeaseKeeper"),
    ("Turns", "InterleavedTasks"),
    ("Twin", "DeferredDuplicate"),
    ("Visit", "ObjectContext"),
    ("Wire", "HttpClient"),
];

/// Modules that a newcomer cannot find, and what to call them.
pub(crate) const BANNED_MODULES: &[(&str, &str)] = &[
    ("advice", "hints"),
    ("allowance", "quota"),
    ("begin", "freeze_start"),
    ("cabinet", "conditional_put"),
    ("carrier", "delivery"),
    ("carry", "job_session"),
    ("cautions", "warnings"),
    ("census", "class_stats"),
    ("desk", "job_request"),
    ("door", "prefix_store"),
    ("draft", "checkpoint"),
    ("enter", "open"),
    ("errand", "sts_client"),
    ("given", "plan_input"),
    ("glance", "peek"),
    ("governor", "congestion"),
    ("judge", "predictor"),
    ("kept", "journal_handle"),
    ("lane", "connection"),
    ("leaf", "value_types"),
    ("ledger", "recorder"),
    ("letter", "message"),
    ("orders", "commands"),
    ("outbox", "sender"),
    ("outlived", "retention"),
    ("pace", "rate_limiter"),
    ("patient", "retrying_store"),
    ("pile", "comparison_sorter"),
    ("pledge", "fingerprint"),
    ("reach", "key_ranges"),
    ("seal", "signature"),
    ("sheet", "toml_writer"),
    ("sink", "row_writer"),
    ("site", "endpoint"),
    ("stretch", "partition"),
    ("survey", "sampling"),
    ("tenure", "lease"),
    ("turns", "interleaved_tasks"),
    ("vault", "store"),
    ("walk", "parser"),
    ("wire", "http_client"),
];

/// Functions named by the project's own idioms, and the field's verbs for them.
pub(crate) const BANNED_FUNCTIONS: &[(&str, &str)] = &[
    ("carry", "run"),
    ("carry_on", "resume"),
    ("carry_out", "execute"),
    ("farewell", "shutdown"),
    ("foresee", "check_estimate"),
    ("go", "run"),
    ("go_on", "resume"),
    ("hear", "listen, or receive"),
    ("in_words", "describe"),
    ("keep_house", "apply_retention"),
    ("let_go", "release"),
    ("look", "read, or inspect"),
    ("say", "print, or report"),
    ("tell", "notify, or report"),
    ("told", "reported"),
];

/// Phrases that read like a translation, and plain ones.
pub(crate) const BANNED_PHRASES: &[(&str, &str)] = &[
    ("as it is where", "unchanged if"),
    ("gone on with", "resumed"),
    ("is told of", "is notified of"),
    ("keep house", "apply the retention"),
    ("nobody", "no one, or name what is missing"),
    ("somebody", "another process, or name it"),
    ("therein", "in it"),
    ("there is nobody to ask", "there is no terminal to ask on"),
    ("wants to be confirmed", "needs confirmation"),
    ("what it comes to", "the total"),
    ("whoever", "the user, the caller, or name them"),
];

/// Returns the name of each struct, enum, trait and type alias that a file defines at its top level, outside its tests.
pub(crate) fn types(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    defined(code.lines().filter(|line| !line.starts_with(' ')), &["struct ", "enum ", "trait ", "type "])
}

/// Returns the name of each function of a file, methods and tests included.
pub(crate) fn functions(text: &str) -> Vec<String> {
    defined(text.lines(), &["fn ", "async fn ", "const fn "])
}

/// Returns the name of each module that a file declares.
pub(crate) fn modules(text: &str) -> Vec<String> {
    defined(text.lines(), &["mod "])
}

fn defined<'a>(lines: impl Iterator<Item = &'a str>, keywords: &[&str]) -> Vec<String> {
    let name = |line: &str| -> Option<String> {
        let item = line.trim_start();
        let item = match item.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
            Some(rest) => rest.trim_start(),
            None => item,
        };
        let rest = keywords.iter().find_map(|keyword| item.strip_prefix(keyword))?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some(rest[..end].to_owned()).filter(|name| !name.is_empty())
    };
    lines.filter_map(name).collect()
}

/// Whether a name in camel case is a single word.
pub(crate) fn is_one_word(name: &str) -> bool {
    name.chars().filter(char::is_ascii_uppercase).count() < 2
}

/// Returns what is wrong with the names that a file defines.
pub(crate) fn banned_names(text: &str) -> Vec<String> {
    let kinds = [
        ("type", types(text), BANNED_TYPES),
        ("module", modules(text), BANNED_MODULES),
        ("function", functions(text), BANNED_FUNCTIONS),
    ];
    let banned = |(kind, names, banned): (&str, Vec<String>, &[(&str, &str)])| {
        let of = |name: &String| banned.iter().find(|(word, _)| word == name).copied();
        let found = names.iter().filter_map(of);
        found.map(|(word, better)| format!("has a {kind} `{word}`: say {better}")).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(banned).collect()
}

/// Returns the banned phrases in a text, with the lines they are in.
pub(crate) fn banned_phrases(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        let has = |phrase: &str| {
            line.match_indices(phrase).any(|(at, _)| {
                let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + phrase.len()..].chars().next())
            })
        };
        let phrases = BANNED_PHRASES.iter().filter(|(phrase, _)| has(phrase));
        found.extend(phrases.map(|(phrase, better)| format!("line {}: \"{phrase}\": say {better}", number + 1)));
    }
    found
}
