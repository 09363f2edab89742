//! Guesses at which keys the listing of a prefix can be split.

use batchplan_store::object::{MAX_KEY_BYTES, ObjectKey};

/// The number of depths after the prefix that are tracked.
const DEPTHS: usize = 64;

/// The number of digits in a middle: as many as a double can represent with the smallest digit sets.
const DIGITS: usize = 24;

/// Guesses where to split a range of keys that has not been listed yet, from the bytes that occur in keys at each depth
/// after the prefix.
///
/// Any key can be a split point, so a guess may be bad but never wrong. There are two methods, used in turn, starting
/// with the one that last succeeded. The first: the keys listed so far show which bytes occur at each depth;
/// interpreting these bytes as digits, a range has a middle. This works for hashes, numbers and dates. The second, for
/// a middle that lies after all keys: probe what lies after the directory (or word, or year) that the listing is
/// currently in, and halve the depth after each failure.
pub(super) struct KeyAlphabet {
    prefix: usize,
    seen: Vec<[bool; 256]>,
}

impl KeyAlphabet {
    /// Creates an alphabet without any key, for keys with this prefix.
    pub(super) fn new(prefix: &ObjectKey) -> Self {
        Self { prefix: prefix.as_bytes().len(), seen: Vec::new() }
    }

    /// Records the bytes of a key. A digit adds all ten digits; a letter adds the hexadecimal letters or all 26 letters
    /// of its case: future keys are likely to be similar.
    pub(super) fn record(&mut self, key: &ObjectKey) {
        let bytes = key.as_bytes().iter().skip(self.prefix).take(DEPTHS);
        for (depth, byte) in bytes.enumerate() {
            if self.seen.len() == depth {
                self.seen.push([false; 256]);
            }
            let seen = &mut self.seen[depth];
            if seen[usize::from(*byte)] {
                continue;
            }
            let like = match byte {
                b'0'..=b'9' => b'0'..=b'9',
                b'a'..=b'f' => b'a'..=b'f',
                b'g'..=b'z' => b'a'..=b'z',
                b'A'..=b'F' => b'A'..=b'F',
                b'G'..=b'Z' => b'A'..=b'Z',
                other => *other..=*other,
            };
            like.for_each(|byte| seen[usize::from(byte)] = true);
        }
    }

    /// Returns the digits at a position in a key; printable ASCII if no byte was recorded.
    fn digits(&self, place: usize) -> Vec<u8> {
        match place.checked_sub(self.prefix).and_then(|depth| self.seen.get(depth)) {
            Some(seen) => (0..=u8::MAX).filter(|byte| seen[usize::from(*byte)]).collect(),
            None => (b' '..=b'~').collect(),
        }
    }

    /// Returns the position of a key among all keys that share its first `start` bytes: from 0 to 1.
    fn relative_position(&self, key: &[u8], start: usize) -> f64 {
        let (mut share, mut unit) = (0.0, 1.0);
        for (place, byte) in key.iter().enumerate().skip(start).take(DIGITS) {
            let digits = self.digits(place);
            let rank = digits.partition_point(|digit| digit < byte);
            unit /= digit_to_f64(digits.len());
            share += digit_to_f64(rank) * unit;
            if digits.get(rank) != Some(byte) {
                break;
            }
        }
        share
    }

    /// Returns how much of the way from `first` to `end` remains at `last`, as a multiple of the way completed.
    pub(super) fn remaining_ratio(&self, first: &ObjectKey, last: &ObjectKey, end: Option<&ObjectKey>) -> f64 {
        let start = self.shared_with_end(first.as_bytes(), end);
        let [from, at] = [first, last].map(|key| self.relative_position(key.as_bytes(), start));
        let to = end.map_or(1.0, |end| self.relative_position(end.as_bytes(), start));
        // If the first digits show no difference, almost nothing is done.
        if at - from > 1e-12 { ((to - at) / (at - from)).max(0.0) } else { f64::INFINITY }
    }

    /// Returns the number of bytes that a key shares with the end of its range.
    fn shared_with_end(&self, key: &[u8], end: Option<&ObjectKey>) -> usize {
        end.map_or(self.prefix, |end| shared_prefix_len(key, end.as_bytes()))
    }

    /// Returns a key halfway between two keys.
    fn middle(&self, low: &ObjectKey, end: Option<&ObjectKey>) -> Option<ObjectKey> {
        let low = low.as_bytes();
        let start = self.shared_with_end(low, end);
        let from = self.relative_position(low, start);
        let to = end.map_or(1.0, |end| self.relative_position(end.as_bytes(), start));
        let (mut rest, mut unit) = (f64::midpoint(from, to), 1.0);
        let mut middle = low.get(..start)?.to_vec();
        for place in start..start + DIGITS {
            let digits = self.digits(place);
            let size = digit_to_f64(digits.len());
            let digit = to_digit(rest * size).min(digits.len() - 1);
            middle.push(digits[digit]);
            rest = (rest * size - digit_to_f64(digit)).clamp(0.0, 1.0);
            unit /= size;
            if unit * 16.0 < to - from {
                break;
            }
        }
        let valid = middle.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
        middle.truncate(valid);
        Some(ObjectKey::new(middle))
    }

    /// Returns a split point after `low` and before `end` (`None` is the end of the prefix). Returns `None` if no guess
    /// lies there. `turn` is the number of bytes that the keys of a page share; `middle_first` selects the method to
    /// try first.
    pub(super) fn split_point(
        &self,
        low: &ObjectKey,
        end: Option<&ObjectKey>,
        turn: usize,
        middle_first: bool,
    ) -> Option<ObjectKey> {
        let inside = |key: &ObjectKey| {
            key > low
                && end.is_none_or(|end| key < end)
                && (self.prefix + 1..=MAX_KEY_BYTES).contains(&key.as_bytes().len())
        };
        let shared = self.shared_with_end(low.as_bytes(), end);
        let middle = || self.middle(low, end).filter(inside);
        let after = || key_after(low, usize::midpoint(shared, turn.max(shared))).filter(inside);
        if middle_first { middle().or_else(after) } else { after().or_else(middle) }
    }
}

/// Returns a key after all keys that share with `key` the character at this position and everything before it.
fn key_after(key: &ObjectKey, place: usize) -> Option<ObjectKey> {
    let text = key.as_str().ok()?;
    let start = text.floor_char_boundary(place);
    let char = text.get(start..)?.chars().next()?;
    // Control characters are legal in keys but not in XML documents: never request one.
    let next = (char..=char::MAX).skip(1).find(|next| !next.is_control())?;
    Some(ObjectKey::from(format!("{}{next}", &text[..start]).as_str()))
}

/// Returns the number of bytes that two keys share.
pub(super) fn shared_prefix_len(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn digit_to_f64(digit: usize) -> f64 {
    u32::try_from(digit).map_or(f64::MAX, f64::from)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 256")]
fn to_digit(number: f64) -> usize {
    number.clamp(0.0, 256.0) as usize
}

#[cfg(test)]
#[path = "split_point_tests.rs"]
mod tests;
