//! Secrets in what a server says, hidden in whichever way it writes them.
//!
//! A server, or a proxy in front of it, that repeats a request does so in its own writing: percent-encoded as in a URL, escaped
//! as in XML or JSON, wrapped into lines, or cut at either end. A secret that is turned into something else, as base64 does, is
//! not known again.

/// What stands in a secret's place.
const HIDDEN: &str = "[hidden]";

/// A piece of a secret that has at least this many bytes is hidden as well: a server may cut what it repeats.
const PIECE: usize = 16;

/// What every escape begins with.
const ESCAPES: [u8; 3] = *b"%&\\";

/// Escapes within escapes that are looked through, such as `%252B`.
const MAX_NESTED: usize = 8;

/// The most white space between two bytes of a secret that is wrapped into lines.
const MAX_FOLD: usize = 64;

/// The text without these secrets, up to about so many bytes of what is left of it.
pub(super) fn redacted(text: &str, secrets: &[&str], most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if out.len() >= most {
            break;
        }
        let lengths = secrets.iter().filter_map(|secret| repeated(rest.as_bytes(), secret.as_bytes()));
        if let Some(length) = lengths.max() {
            out.push_str(HIDDEN);
            rest = behind(rest, length);
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// What is behind so many bytes of a text, or a little more, so that it begins with a whole character.
fn behind(text: &str, bytes: usize) -> &str {
    (bytes..=text.len()).find_map(|end| text.get(end..)).unwrap_or_default()
}

/// How many bytes at the beginning of a text repeat this secret, or a piece of it.
fn repeated(text: &[u8], secret: &[u8]) -> Option<usize> {
    let begun = readings(text);
    let (first, later) = secret.split_first()?;
    if begun.iter().any(|reading| reading.byte == *first)
        && let Some((length, _)) = repeats(text, secret)
    {
        return Some(length);
    }
    let window = text.get(..PIECE)?;
    // Where words follow each other no piece begins: most of what a server says is not searched any further.
    if window.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    if !window.iter().any(|byte| ESCAPES.contains(byte)) {
        return longest_piece(text, later, memchr::memmem::find_iter(later, window));
    }
    longest_piece(text, later, begun.iter().flat_map(|reading| memchr::memchr_iter(reading.byte, later)))
}

/// How many bytes at the beginning of a text repeat a piece of these of a secret that begins at one of these places.
fn longest_piece(text: &[u8], secret: &[u8], starts: impl Iterator<Item = usize>) -> Option<usize> {
    let mut longest = None;
    for start in starts.filter(|start| secret.len() - start >= PIECE) {
        let Some((length, whole)) = repeats(text, &secret[start..]) else { continue };
        longest = longest.max(Some(length));
        if whole {
            break;
        }
    }
    longest
}

/// How many bytes at the beginning of a text repeat these of a secret, and whether all of them: those, or a piece of them from
/// the first on.
fn repeats(text: &[u8], secret: &[u8]) -> Option<(usize, bool)> {
    // Where the next byte of the secret may be: in one place, unless an escape may also be meant as it stands.
    let (mut places, mut next) = (vec![0], Vec::new());
    for (count, byte) in secret.iter().enumerate() {
        for place in &places {
            let folded = unfolded(text, *place).filter(|_| count > 0);
            for place in [Some(*place), folded].into_iter().flatten() {
                for reading in readings(&text[place..]) {
                    let end = place + reading.length;
                    if reading.byte == *byte && !next.contains(&end) {
                        next.push(end);
                    }
                }
            }
        }
        if next.is_empty() {
            return places.into_iter().max().filter(|_| count >= PIECE).map(|length| (length, false));
        }
        std::mem::swap(&mut places, &mut next);
        next.clear();
    }
    places.into_iter().max().map(|length| (length, true))
}

/// Where a text goes on behind the white space at this place; `None` where there is none.
fn unfolded(text: &[u8], place: usize) -> Option<usize> {
    let mut at = place;
    for _ in 0..MAX_FOLD {
        match readings(&text[at..]).into_iter().find(|reading| reading.byte.is_ascii_whitespace()) {
            Some(reading) => at += reading.length,
            None => break,
        }
    }
    (at > place).then_some(at)
}

/// A way to read the beginning of a text: this byte, written in so many bytes.
#[derive(Clone, Copy)]
struct Reading {
    byte: u8,
    length: usize,
}

/// Every way to read the beginning of a text.
fn readings(text: &[u8]) -> Vec<Reading> {
    let Some(first) = text.first() else { return Vec::new() };
    let mut readings = vec![Reading { byte: *first, length: 1 }];
    match first {
        // %2B, and %252B where it was encoded twice.
        b'%' => nested(text, b"25", |rest| Some((hex(rest, 2)?, 2)), &mut readings),
        // &#43;, &#x2B; and &amp;
        b'&' => nested(text, b"amp;", reference, &mut readings),
        // \u002b, \x2b, \n and \/
        b'\\' => nested(text, b"\\", escape, &mut readings),
        _ => {}
    }
    readings
}

/// Adds what an escape stands for that begins with one byte, and ends as `end` says: right behind it, and behind each repetition
/// of how that first byte itself is escaped.
fn nested(text: &[u8], repeated: &[u8], end: impl Fn(&[u8]) -> Option<(u32, usize)>, readings: &mut Vec<Reading>) {
    let mut at = 1;
    for _ in 0..MAX_NESTED {
        let rest = text.get(at..).unwrap_or_default();
        if let Some((number, length)) = end(rest)
            && let Ok(byte) = u8::try_from(number)
        {
            readings.push(Reading { byte, length: at + length });
        }
        if !rest.starts_with(repeated) {
            return;
        }
        at += repeated.len();
    }
}

/// The number that so many hexadecimal digits stand for.
fn hex(text: &[u8], digits: usize) -> Option<u32> {
    let text = std::str::from_utf8(text.get(..digits)?).ok()?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}

/// What an XML reference stands for, and its bytes behind its `&`.
fn reference(text: &[u8]) -> Option<(u32, usize)> {
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

/// What an escape of JSON, or of a log, stands for, and its bytes behind its backslash.
fn escape(text: &[u8]) -> Option<(u32, usize)> {
    let (first, rest) = text.split_first()?;
    match first {
        b'u' => Some((hex(rest, 4)?, 5)),
        b'x' => Some((hex(rest, 2)?, 3)),
        b'n' => Some((u32::from(b'\n'), 1)),
        b'r' => Some((u32::from(b'\r'), 1)),
        b't' => Some((u32::from(b'\t'), 1)),
        first => (!first.is_ascii_alphanumeric()).then_some((u32::from(*first), 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "IQoJb3JpZ2luX2VjEAoaCXVzLWVhc3Q+/x==&\"\\";

    /// Every character in this writing.
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
    fn a_secret_is_known_again_in_every_writing() {
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
            // One that is cut, at either end.
            TOKEN[..20].to_owned(),
            TOKEN[3..].to_owned(),
            TOKEN[5..24].to_owned(),
            written(&TOKEN[7..], |c| odd(c, |c| hex_of(c, "%", 2, true))),
            // One that is wrapped into lines.
            format!("{}\n{}", &TOKEN[..12], &TOKEN[12..]),
            format!("{}\r\n        {}", &TOKEN[..20], &TOKEN[20..]),
            format!("{}\\n{}", &TOKEN[..20], &TOKEN[20..]),
            format!("{}%0D%0A{}", &TOKEN[..20], &TOKEN[20..]),
            format!("{}&#10;\t{}", &TOKEN[3..20], &TOKEN[20..]),
        ] {
            let text = format!("denied: x-amz-security-token:{repeated} é");
            assert_eq!(
                redacted(&text, &["other", TOKEN], 1024),
                "denied: x-amz-security-token:[hidden] é",
                "{repeated}"
            );
        }
        assert_eq!(redacted(&TOKEN[..15], &[TOKEN], 1024), TOKEN[..15], "that little says nothing");
        assert_eq!(redacted("a%2", &["a+", ""], 1024), "a%2");
        let sentence = "The specified key does not exist, nor does IQoJb3Jp or any such thing.";
        assert_eq!(redacted(sentence, &[TOKEN], 1024), sentence);
        // A secret may hold what begins an escape.
        assert_eq!(redacted("<%2B%252B>", &["%2B"], 1024), "<[hidden][hidden]>");
    }

    #[test]
    fn no_server_has_it_compare_for_long() {
        let token = "T".repeat(4000);
        let near = format!("{}X", "T".repeat(3999)).repeat(16);
        let all = redacted(&near, &[&token], 1024);
        assert!(!all.contains("TTTT"), "{all}");
        // As many near misses as can be: each is looked at for no longer than what is kept of the text.
        let many = "TTTTTTTTTTTTTTX".repeat(5000);
        assert!(redacted(&many, &[&token], 1024).len() >= 1024);
    }

    proptest! {
        #[test]
        fn whatever_is_said_nothing_of_a_secret_is_left(
            before in "[ -~é]{0,20}", secret in "[!-~]{16,40}", after in "[ -~é]{0,20}", how in 0..4, cut in 0..20_usize,
        ) {
            let mut repeated = String::new();
            for c in secret.chars().skip(cut.min(secret.len() - PIECE)) {
                let _ = match how {
                    0 => write!(repeated, "{c}"),
                    1 => write!(repeated, "%{:02X}", u32::from(c)),
                    2 => write!(repeated, "&#{};", u32::from(c)),
                    _ => write!(repeated, "\\u{:04x}", u32::from(c)),
                };
            }
            let told = redacted(&format!("{before}{repeated}{after}"), &[&secret], 1 << 20);
            prop_assert!(!told.contains(&repeated), "{told}");
            prop_assert!(told.contains(HIDDEN), "{told}");
        }
    }
}
