//! Secrets in what a server says, hidden in whichever way it writes them.
//!
//! A server, or a proxy in front of it, that repeats a request does so in its own writing: percent-encoded as in a URL, escaped
//! as in XML or JSON, or cut short. A secret that is turned into something else, as base64 does, is not known again.

/// What stands in a secret's place.
const HIDDEN: &str = "[hidden]";

/// So much of a secret's beginning, in bytes, is hidden as well, whatever follows: a server may cut what it repeats.
const BEGINNING: usize = 16;

/// Escapes within escapes that are looked through, such as `%252B`.
const MAX_NESTED: usize = 8;

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

/// How many bytes at the beginning of a text repeat this secret, or enough of its beginning.
fn repeated(text: &[u8], secret: &[u8]) -> Option<usize> {
    if secret.is_empty() {
        return None;
    }
    // Where the next byte of the secret may be: in one place, unless an escape may also be meant as it stands.
    let mut places = vec![0];
    for (count, byte) in secret.iter().enumerate() {
        let mut next: Vec<usize> = Vec::new();
        for place in &places {
            lengths(text.get(*place..).unwrap_or_default(), *byte, |length| {
                if !next.contains(&(place + length)) {
                    next.push(place + length);
                }
            });
        }
        if next.is_empty() {
            return places.into_iter().max().filter(|_| count >= BEGINNING);
        }
        places = next;
    }
    places.into_iter().max()
}

/// Tells of each way to read the beginning of a text as this byte how many bytes of the text it takes.
fn lengths(text: &[u8], byte: u8, mut tell: impl FnMut(usize)) {
    let Some(first) = text.first() else { return };
    if *first == byte {
        tell(1);
    }
    match first {
        // %2B, and %252B where it was encoded twice.
        b'%' => nested(text, b"25", |rest| (hex(rest, 2) == Some(u32::from(byte))).then_some(2), tell),
        // &#43;, &#x2B; and &amp;
        b'&' => nested(text, b"amp;", |rest| reference(rest, byte), tell),
        // \u002b, \x2b and \/
        b'\\' => nested(text, b"\\", |rest| escape(rest, byte), tell),
        _ => {}
    }
}

/// Tells how long an escape is that begins with one byte, and ends as `end` says: right behind it, and behind each repetition
/// of how that first byte itself is escaped.
fn nested(text: &[u8], repeated: &[u8], end: impl Fn(&[u8]) -> Option<usize>, mut tell: impl FnMut(usize)) {
    let mut at = 1;
    for _ in 0..MAX_NESTED {
        let rest = text.get(at..).unwrap_or_default();
        if let Some(length) = end(rest) {
            tell(at + length);
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

/// The bytes of an XML reference to this character, behind its `&`.
fn reference(text: &[u8], byte: u8) -> Option<usize> {
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
    (meant == u32::from(byte)).then_some(end + 1)
}

/// The bytes of an escape of JSON, or of a log, for this character, behind its backslash.
fn escape(text: &[u8], byte: u8) -> Option<usize> {
    let wanted = Some(u32::from(byte));
    match text.first()? {
        b'u' if hex(&text[1..], 4) == wanted => Some(5),
        b'x' if hex(&text[1..], 2) == wanted => Some(3),
        first if *first == byte && !byte.is_ascii_alphanumeric() => Some(1),
        _ => None,
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
            // One that is cut.
            TOKEN[..20].to_owned(),
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
        let begun = std::time::Instant::now();
        assert!(redacted(&many, &[&token], 1024).len() >= 1024);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn whatever_is_said_nothing_of_a_secret_is_left(
            before in "[ -~é]{0,20}", secret in "[!-~]{16,40}", after in "[ -~é]{0,20}", how in 0..4,
        ) {
            let mut repeated = String::new();
            for c in secret.chars() {
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
