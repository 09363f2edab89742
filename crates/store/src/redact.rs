//! Removes secrets from text that a server sent, in whatever encoding they appear.
//!
//! A server or a proxy that repeats a request may encode it: percent-encoded as in a URL, escaped as in XML or JSON,
//! wrapped into lines, or truncated at either end. Therefore escapes are decoded, white space and punctuation that do
//! not occur in the secret are skipped, and the rest is searched for pieces of the secret. A secret in a transformed
//! form, such as base64, is not detected.

use std::ops::Range;

/// The replacement for a secret.
const HIDDEN: &str = "[hidden]";

/// The minimum length of a piece of a secret that is hidden, in bytes. A server may truncate what it repeats.
pub(crate) const MIN_PIECE: usize = 16;

/// The length of an anchor, in bytes. Every piece contains a complete anchor that starts at a multiple of this
/// length, so only those are searched for.
const ANCHOR_LENGTH: usize = MIN_PIECE / 2;

/// The maximum number of positions in a secret at which one anchor is tried. Only a secret that repeats itself has
/// more.
const MAX_ANCHOR_MATCHES: usize = 16;

/// The first bytes of all escapes.
const ESCAPE_STARTS: [u8; 3] = *b"%&\\";

/// The maximum depth of nested escapes that are decoded, such as `%252B`.
const MAX_ESCAPE_DEPTH: usize = 8;

/// The factor between the input that is scanned and the output limit, both in bytes. The rest of the input is
/// dropped.
const SCAN_FACTOR: usize = 16;

/// Returns the text with these secrets hidden, truncated to about `most` bytes.
pub(crate) fn redact(text: &str, secrets: &[&str], most: usize) -> String {
    let text = prefix_up_to(text, most.saturating_mul(SCAN_FACTOR));
    let mut hidden = Vec::new();
    for secret in secrets.iter().map(|secret| secret.as_bytes()).filter(|secret| !secret.is_empty()) {
        for depth in escape_depths(text).iter().copied() {
            UnescapedText::decode(text, secret, depth).find_secret(secret, &mut hidden);
        }
    }
    hidden.sort_by_key(|range| (range.start, range.end));
    let (mut out, mut at) = (String::with_capacity(text.len().min(most)), 0);
    for range in hidden {
        if out.len() >= most {
            break;
        }
        if range.end > at {
            out.push_str(prefix_up_to(text.get(at..range.start).unwrap_or_default(), most - out.len()));
            out.push_str(if range.start >= at { HIDDEN } else { "" });
            at = range.end;
        }
    }
    if out.len() < most {
        out.push_str(prefix_up_to(text.get(at..).unwrap_or_default(), most - out.len()));
    }
    out
}

/// Returns a prefix of at least this many bytes, extended to a character boundary, or the whole text if it is
/// shorter.
fn prefix_up_to(text: &str, bytes: usize) -> &str {
    (bytes..text.len()).find_map(|end| text.get(..end)).unwrap_or(text)
}

/// The escape depths to try: no decoding, one level, and all levels.
fn escape_depths(text: &str) -> &'static [usize] {
    if text.bytes().any(|byte| ESCAPE_STARTS.contains(&byte)) { &[0, 1, MAX_ESCAPE_DEPTH] } else { &[0] }
}

/// The bytes of a text that can be part of a secret, and the position of each in the text.
struct UnescapedText {
    bytes: Vec<u8>,
    positions: Vec<Range<usize>>,
}

impl UnescapedText {
    fn decode(text: &str, secret: &[u8], depth: usize) -> Self {
        let mut is_known = [false; 256];
        for byte in secret {
            is_known[usize::from(*byte)] = true;
        }
        let text = text.as_bytes();
        let (mut bytes, mut positions) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
        let mut at = 0;
        while at < text.len() {
            let read = decode_byte(&text[at..], depth);
            // The first byte of an escape can also be a plain character.
            let plain = DecodedByte { byte: text[at], length: 1 };
            let is_escape = is_known[usize::from(read.byte)] || read.byte.is_ascii_whitespace();
            let DecodedByte { byte, length } = if is_escape { read } else { plain };
            // A letter or digit that does not occur in the secret ends a piece of it. Other bytes may stand between
            // two bytes of the secret. A short secret is only found whole.
            if is_known[usize::from(byte)] || byte.is_ascii_alphanumeric() || secret.len() < MIN_PIECE {
                bytes.push(byte);
                positions.push(at..at + length);
            }
            at += length;
        }
        Self { bytes, positions }
    }

    /// Adds the ranges of the text that contain this secret, or a piece of it.
    fn find_secret(&self, secret: &[u8], found: &mut Vec<Range<usize>>) {
        let mut hide =
            |range: Range<usize>| found.push(self.positions[range.start].start..self.positions[range.end - 1].end);
        if secret.len() < MIN_PIECE {
            memchr::memmem::find_iter(&self.bytes, secret).for_each(|at| hide(at..at + secret.len()));
            return;
        }
        let mut at = 0;
        while let Some(anchor) = self.bytes.get(at..at + ANCHOR_LENGTH) {
            let places = memchr::memmem::find_iter(secret, anchor).take(MAX_ANCHOR_MATCHES);
            let longest = places.map(|place| self.extend_match(at, secret, place)).max_by_key(ExactSizeIterator::len);
            match longest.filter(|range| range.len() >= MIN_PIECE) {
                Some(range) => {
                    at = (range.end / ANCHOR_LENGTH).max(at / ANCHOR_LENGTH + 1) * ANCHOR_LENGTH;
                    hide(range);
                }
                None => at += ANCHOR_LENGTH,
            }
        }
    }

    /// Returns the longest match around an anchor that starts at `at` in the text and at `place` in the secret.
    fn extend_match(&self, at: usize, secret: &[u8], place: usize) -> Range<usize> {
        let alike = |(one, other): &(&u8, &u8)| one == other;
        let before = self.bytes[..at].iter().rev().zip(secret[..place].iter().rev()).take_while(alike).count();
        let behind = self.bytes[at..].iter().zip(&secret[place..]).take_while(alike).count();
        at - before..at + behind
    }
}

/// One decoded byte, and the number of bytes that encode it.
#[derive(Clone, Copy)]
struct DecodedByte {
    byte: u8,
    length: usize,
}

/// Decodes the first byte of a text. Escapes may be nested up to this depth.
fn decode_byte(text: &[u8], depth: usize) -> DecodedByte {
    let plain = DecodedByte { byte: text[0], length: 1 };
    let escaped = match text[0] {
        _ if depth == 0 => None,
        // %2B, or %252B if it was encoded twice.
        b'%' => decode_nested(text, b"25", depth, |rest| Some((parse_hex(rest, 2)?, 2))),
        // &#43;, &#x2B; and &amp;
        b'&' => decode_nested(text, b"amp;", depth, parse_xml_reference),
        // \u002b, \x2b, \n and \/
        b'\\' => decode_nested(text, b"\\", depth, parse_backslash_escape),
        _ => None,
    };
    escaped.unwrap_or(plain)
}

/// Decodes an escape that starts with one byte. `end` parses the rest, directly after that byte or after repetitions
/// of `repeated`, which is the escaped form of the first byte.
fn decode_nested(
    text: &[u8],
    repeated: &[u8],
    depth: usize,
    end: impl Fn(&[u8]) -> Option<(u32, usize)>,
) -> Option<DecodedByte> {
    let (mut at, mut deepest) = (1, None);
    for _ in 0..depth {
        let rest = text.get(at..).unwrap_or_default();
        if let Some((number, length)) = end(rest)
            && let Ok(byte) = u8::try_from(number)
        {
            deepest = Some(DecodedByte { byte, length: at + length });
        }
        if !rest.starts_with(repeated) {
            break;
        }
        at += repeated.len();
    }
    deepest
}

/// Parses this many hexadecimal digits.
fn parse_hex(text: &[u8], digits: usize) -> Option<u32> {
    let text = std::str::from_utf8(text.get(..digits)?).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}

/// Parses an XML reference after its `&`. Returns its code point and its length without the `&`.
fn parse_xml_reference(text: &[u8]) -> Option<(u32, usize)> {
    let end = text.iter().take(12).position(|it| *it == b';')?;
    let name = std::str::from_utf8(&text[..end]).ok()?;
    let meant = match name {
        "amp" => u32::from(b'&'),
        "lt" => u32::from(b'<'),
        "gt" => u32::from(b'>'),
        "quot" => u32::from(b'"'),
        "apos" => u32::from(b'\''),
        _ => {
            let number = name.strip_prefix('#')?;
            match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            }
        }
    };
    Some((meant, end + 1))
}

/// Parses an escape of JSON or of a log after its backslash. Returns its code point and its length without the
/// backslash.
fn parse_backslash_escape(text: &[u8]) -> Option<(u32, usize)> {
    let (first, rest) = text.split_first()?;
    match first {
        b'u' => Some((parse_hex(rest, 4)?, 5)),
        b'x' => Some((parse_hex(rest, 2)?, 3)),
        b'n' => Some((u32::from(b'\n'), 1)),
        b'r' => Some((u32::from(b'\r'), 1)),
        b't' => Some((u32::from(b'\t'), 1)),
        first => matches!(first, b'"' | b'\\' | b'/' | b'\'').then_some((u32::from(*first), 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "IQoJb3JpZ2luX2VjEAoaCXVzLWVhc3Q+/x==&\"\\";

    /// Encodes every character with `how`.
    fn written(secret: &str, how: impl Fn(char) -> String) -> String {
        secret.chars().map(how).collect()
    }

    fn hex_of(c: char, before: &str, digits: usize, upper: bool) -> String {
        let code = u32::from(c);
        if upper { format!("{before}{code:0digits$X}") } else { format!("{before}{code:0digits$x}") }
    }

    fn odd(c: char, how: impl Fn(char) -> String) -> String {
        if c.is_ascii_alphanumeric() { c.to_string() } else { how(c) }
    }

    #[test]
    fn finds_a_secret_in_every_encoding() {
        let xml = |c: char| match c {
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            c => c.to_string(),
        };
        let json = serde_json::to_string(TOKEN).expect("JSON");
        let bare = json[1..json.len() - 1].to_owned();
        for repeated in [
            TOKEN.to_owned(),
            written(TOKEN, |c| odd(c, |c| hex_of(c, "%", 2, true))),
            written(TOKEN, |c| odd(c, |c| hex_of(c, "%", 2, false))),
            written(TOKEN, |c| odd(c, |c| hex_of(c, "%25", 2, true))),
            written(TOKEN, |c| odd(c, |c| hex_of(c, "%2525", 2, true))),
            written(TOKEN, |c| hex_of(c, "%", 2, true)),
            written(TOKEN, xml),
            written(TOKEN, |c| xml(c).replace('&', "&amp;")),
            written(TOKEN, |c| format!("&#{};", u32::from(c))),
            written(TOKEN, |c| format!("&#x{:X};", u32::from(c))),
            bare.clone(),
            bare.replace('/', "\\/"),
            bare.replace('\\', "\\\\"),
            written(TOKEN, |c| hex_of(c, "\\u", 4, true)),
            written(TOKEN, |c| odd(c, |c| hex_of(c, "\\x", 2, false))),
            // Truncated at either end.
            TOKEN[..20].to_owned(),
            TOKEN[3..].to_owned(),
            TOKEN[5..24].to_owned(),
            written(&TOKEN[7..], |c| odd(c, |c| hex_of(c, "%", 2, true))),
            // Wrapped into lines.
            format!("{}\n{}", &TOKEN[..12], &TOKEN[12..]),
            format!("{}\r\n        {}", &TOKEN[..20], &TOKEN[20..]),
            format!("{}\\n{}", &TOKEN[..20], &TOKEN[20..]),
            format!("{}%0D%0A{}", &TOKEN[..20], &TOKEN[20..]),
            format!("{}&#10;\t{}", &TOKEN[3..20], &TOKEN[20..]),
            // Both, and other characters between its bytes.
            TOKEN[1..].chars().map(String::from).collect::<Vec<_>>().join(" "),
            format!("{}\u{200b}{}|{}", &TOKEN[1..12], &TOKEN[12..20], &TOKEN[20..]),
            format!("{}{}{}", &TOKEN[1..10], " ".repeat(300), &TOKEN[10..]),
        ] {
            let text = format!("denied: x-amz-security-token:{repeated} é");
            assert_eq!(redact(&text, &["other", TOKEN], 1024), "denied: x-amz-security-token:[hidden] é", "{repeated}");
        }
        assert_eq!(redact(&TOKEN[..15], &[TOKEN], 1024), TOKEN[..15], "that little says nothing");
        assert_eq!(redact("a%2", &["a+", ""], 1024), "a%2");
        let sentence = "The specified key does not exist, nor does IQoJb3Jp or any such thing.";
        assert_eq!(redact(sentence, &[TOKEN], 1024), sentence);
        // A secret can contain the first byte of an escape.
        assert_eq!(redact("<%2B%252B>", &["%2B"], 1024), "<[hidden][hidden]>");
    }

    #[test]
    fn takes_linear_time_for_hostile_text() {
        let token = "T".repeat(4000);
        let near = format!("{}X", "T".repeat(3999)).repeat(16);
        let all = redact(&near, &[&token], 1024);
        assert!(!all.contains("TTTT"), "{all}");
        // The maximum number of near misses. Each is compared for at most as long as the kept part of the text.
        let many = "TTTTTTTTTTTTTTX".repeat(5000);
        assert!(redact(&many, &[&token], 1024).len() >= 1024);
        let other = format!("{}U", "T".repeat(3999));
        assert!(redact(&"TTTTTTTTTTTTTTX".repeat(5000), &[&other], 1024).len() < 2048);
    }

    proptest! {
        #[test]
        fn never_leaves_a_piece_of_a_secret(
            before in "[ -~é]{0,20}", secret in "[!-~]{16,40}", after in "[ -~é]{0,20}", how in 0..4, cut in 0..20_usize,
        ) {
            let mut repeated = String::new();
            for c in secret.chars().skip(cut.min(secret.len() - MIN_PIECE)) {
                let _ = match how {
                    0 => write!(repeated, "{c}"),
                    1 => write!(repeated, "%{:02X}", u32::from(c)),
                    2 => write!(repeated, "&#{};", u32::from(c)),
                    _ => write!(repeated, "\\u{:04x}", u32::from(c)),
                };
            }
            let told = redact(&format!("{before}{repeated}{after}"), &[&secret], 1 << 20);
            prop_assert!(!told.contains(&repeated), "{told}");
            prop_assert!(told.contains(HIDDEN), "{told}");
        }
    }
}
