//! Numbers in messages for people, with a comma between groups of three digits.

use std::fmt;

/// Formats a number with thousands separators, such as `1,204,331`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thousands(pub u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

/// Returns a number with its noun, in the plural unless the number is 1: `1 object`, `1,204 objects`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", Thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_three_digits_are_separated() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_204_331, "1,204,331"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(Thousands(number).to_string(), text);
        }
        assert_eq!(format!("{:>6}", Thousands(1000)), " 1,000");
        assert_eq!((counted(1, "object"), counted(2000, "row")), ("1 object".to_owned(), "2,000 rows".to_owned()));
    }
}
