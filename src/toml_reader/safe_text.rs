//! Makes the text of a file safe to display: it cannot drive the terminal, and no secret is echoed.

use std::ops::Range;

use batchplan_store::printable::affects_terminal;

/// Quotations longer than this, in characters, are cut.
const MAX_QUOTED_CHARS: usize = 60;

/// Words in the name of a key that mean that it holds a credential.
const SECRET_WORDS: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "credential",
    "accesskey",
    "privatekey",
    "sessiontoken",
    "securitytoken",
    "ststoken",
];

/// Returns a piece of the file, escaped and shortened for a message.
pub(crate) fn quote_for_message(text: &str) -> String {
    let mut quoted = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_QUOTED_CHARS {
            quoted.push('…');
            break;
        }
        if affects_terminal(c) {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted
}

/// Returns the text for excerpts: masked, escaped, and byte for byte as long as the original, so that every span stays
/// valid.
pub(crate) fn mask_for_excerpts(text: &str, secrets: &[Range<usize>]) -> String {
    let mut hidden = secrets.to_vec();
    hidden.extend(secret_spans(text));
    hidden.sort_by_key(|span| span.start);
    let mut hidden = hidden.into_iter().peekable();
    let mut end = 0;
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        while let Some(span) = hidden.next_if(|span| span.start <= at) {
            end = end.max(span.end);
        }
        let line_end = c == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n');
        if c == '\n' || line_end {
            out.push(c);
        } else if at < end {
            out.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else if affects_terminal(c) && c != '\t' {
            out.push_str(replacement(c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns a harmless character of the same length in bytes.
fn replacement(bytes: usize) -> &'static str {
    match bytes {
        1 => "?",
        2 => "·",
        _ => "\u{fffd}",
    }
}

/// Returns the text after `=` in lines that look like credentials, and before `@` in URLs. Works on the raw text,
/// because a file that is not TOML is shown as well.
fn secret_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some((key, value)) = line.split_once('=')
            && is_secret_name(key)
        {
            spans.push(start + key.len() + 1..start + key.len() + 1 + value.len());
        }
        if let Some(scheme) = line.find("://") {
            let rest = &line[scheme + 3..];
            let authority = &rest[..rest.find(['/', '"', '\'', ' ']).unwrap_or(rest.len())];
            if let Some(at) = authority.rfind('@') {
                spans.push(start + scheme + 3..start + scheme + 3 + at);
            }
        }
        start += line.len();
    }
    spans
}

/// Returns whether the name of a key means that it holds a credential.
pub(crate) fn is_secret_name(key: &str) -> bool {
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_WORDS.iter().any(|word| plain.contains(word))
}

/// Words of other tools and of products, and the names that stand for them in files of this program.
const OTHER_WORDS: &[(&str, &[&str])] = &[
    ("add_object_tagging", &["add_tags", "add_tag", "merge_tags", "tag", "tags"]),
    ("put_object_tagging", &["put_tags", "set_tags", "replace_tags", "set_object_tagging", "replace_object_tagging"]),
    ("delete_object_tagging", &["delete_tags", "remove_tags", "remove_tag", "untag", "clear_tags"]),
    ("put_object_acl", &["acl", "set_acl", "put_acl", "set_object_acl"]),
    ("restore_object", &["restore", "initiate_restore_object", "thaw"]),
    ("aws", &["amazon", "aws_s3", "amazon_s3"]),
    ("oss", &["aliyun", "alibaba", "alibaba_cloud", "alicloud"]),
    (
        "s3",
        &[
            "minio",
            "ceph",
            "rgw",
            "radosgw",
            "r2",
            "cloudflare",
            "wasabi",
            "b2",
            "backblaze",
            "spaces",
            "digitalocean",
            "seaweedfs",
            "garage",
            "s3_compatible",
            "generic",
        ],
    ),
    ("concurrency", &["parallelism", "threads", "workers", "jobs", "max_workers"]),
    ("requests_per_second", &["rps", "rate", "rate_limit", "max_rps"]),
    ("endpoint", &["endpoint_url", "host", "server"]),
    ("bucket", &["bucket_name"]),
];

/// Returns the known name that was probably meant: the name for a word of another tool, or the most similar one.
pub(crate) fn nearest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // The distance costs the product of both lengths, and a name this long is not a typo.
    if written.len() > 64 {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let known: Vec<_> = known.into_iter().collect();
    let mut meant = OTHER_WORDS.iter().filter(|(_, words)| words.contains(&written.as_str())).map(|(name, _)| *name);
    if let Some(name) = meant.find_map(|name| known.iter().find(|other| **other == name)) {
        return Some(name);
    }
    // The distance decides which names are close enough. The similarity picks one of them, because it does not penalize
    // a longer ending.
    known
        .into_iter()
        .filter(|name| strsim::osa_distance(&written, &plain(name)) <= (name.len().max(written.len()) / 3).max(1))
        .max_by(|a, b| strsim::jaro(&written, &plain(a)).total_cmp(&strsim::jaro(&written, &plain(b))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_keep_their_length_and_escape_control_characters() {
        let text = "a = \"\u{1b}[31m\"\r\n# \u{9b}2J \u{202e}x é\n";
        let out = mask_for_excerpts(text, &[]);
        assert_eq!(out, "a = \"?[31m\"\r\n# ·2J \u{fffd}x é\n");
        assert_eq!(out.len(), text.len());
    }

    #[test]
    fn excerpts_mask_secrets_in_invalid_toml() {
        let text = "access_key_id = \"AKIA\nendpoint = \"https://me:pw@host/\"\n# token\n";
        let token = text.len() - 6..text.len() - 1;
        let out = mask_for_excerpts(text, std::slice::from_ref(&token));
        assert_eq!(out, "access_key_id =******\nendpoint = \"https://*****@host/\"\n# *****\n");
    }

    #[test]
    fn suggests_only_similar_names() {
        let known = ["region", "endpoint", "provider"];
        assert_eq!(nearest("Regoin", known), Some("region"));
        let operations = ["put_object_tagging", "add_object_tagging", "restore_object"];
        assert_eq!(nearest("add_tags", operations), Some("add_object_tagging"));
        assert_eq!(nearest("Set-Tags", operations), Some("put_object_tagging"));
        assert_eq!(nearest("minio", ["aws", "oss", "s3", "sandbox"]), Some("s3"));
        assert_eq!(nearest("minio", known), None, "only a name that is known here");
        assert_eq!(nearest("end-point", known), Some("endpoint"));
        assert_eq!(nearest("failure_threshold", known), None);
        assert_eq!(nearest("x", known), None);
        let operations = ["put_object_tagging", "add_object_tagging", "put_object_acl"];
        assert_eq!(nearest("put_object_tags", operations), Some("put_object_tagging"));
    }

    #[test]
    fn a_credential_is_known_by_its_name() {
        for key in ["access_key", "AccessKeyId", "secret-access-key", "session_token", "password", "credentials"] {
            assert!(is_secret_name(key), "{key}");
        }
        for key in ["client_request_token", "key", "keys", "region", "profile"] {
            assert!(!is_secret_name(key), "{key}");
        }
    }
}
