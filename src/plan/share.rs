//! An exact share of all objects, and its notation in a plan.

use std::fmt;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::parser::{PlanParser, PlanValue, RawField};

/// A share of a whole, from 0 to 1, in steps of one millionth.
///
/// The value is stored in whole millionths, so that comparing counts with it is exact for any number of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactShare(u32);

/// Millionths in a whole.
const WHOLE: u32 = 1_000_000;

impl ExactShare {
    /// The whole: 100 %.
    pub const ALL: Self = Self(WHOLE);

    /// Returns a share of `percent` percent; values above 100 count as 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { WHOLE } else { percent as u32 * (WHOLE / 100) })
    }

    /// Returns whether `part` is more than this share of `whole`. [`ExactShare::ALL`] is never exceeded as long as
    /// `part` is at most `whole`.
    #[must_use]
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) > u128::from(whole) * u128::from(self.0)
    }

    /// Parses a number from 0 to 1 in decimal notation, as in TOML.
    fn parse(text: &str) -> Result<Self, ShareError> {
        let number: f64 = text.parse().map_err(|_| ShareError::OutOfRange)?;
        if !(0.0..=1.0).contains(&number) {
            return Err(ShareError::OutOfRange);
        }
        let rounded = format!("{:.6}", number.abs());
        if rounded.parse::<f64>().map(f64::to_bits) != Ok(number.abs().to_bits()) {
            return Err(ShareError::TooFine);
        }
        rounded.replace('.', "").parse().map(Self).map_err(|_| ShareError::OutOfRange)
    }
}

/// Why a number is not a valid share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShareError {
    OutOfRange,
    TooFine,
}

/// Formats the share in percent: `20 %`, `0.5 %`.
impl fmt::Display for ExactShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / (WHOLE / 100), self.0 % (WHOLE / 100));
        if rest == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{rest:04}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

impl PlanValue for ExactShare {
    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }

    fn example() -> String {
        "0.20".to_owned()
    }

    fn read(slot: &RawField<'_>, walk: &mut PlanParser) -> Option<Self> {
        let share = match slot.value {
            DeValue::Float(number) => Self::parse(number.as_str()),
            DeValue::Integer(digits) => match u32::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number @ 0..=1) => Ok(Self(number * WHOLE)),
                _ => Err(ShareError::OutOfRange),
            },
            _ => {
                slot.report_type_mismatch("a number from 0 to 1", &Self::example(), walk);
                return None;
            }
        };
        match share {
            Ok(share) => return Some(share),
            Err(ShareError::OutOfRange) => {
                slot.report_invalid("is out of range", "not from 0 to 1", "from 0 to 1: 0.20 means 20 %", walk);
            }
            Err(ShareError::TooFine) => {
                slot.report_invalid("has too many decimals", "more than six", "use at most six decimals", walk);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_exactly_or_refused() {
        for (text, millionths) in [
            ("0.20", 200_000),
            ("2e-1", 200_000),
            ("0.000001", 1),
            ("1.0", WHOLE),
            ("0.0", 0),
            ("-0.0", 0),
            ("0.07", 70_000),
        ] {
            assert_eq!(ExactShare::parse(text), Ok(ExactShare(millionths)), "{text}");
        }
        for text in ["1.000001", "-0.1", "inf", "nan", "-nan", "20", "", "x"] {
            assert_eq!(ExactShare::parse(text), Err(ShareError::OutOfRange), "{text}");
        }
        for text in ["0.0000001", "0.20000001", "1e-300"] {
            assert_eq!(ExactShare::parse(text), Err(ShareError::TooFine), "{text}");
        }
    }

    #[test]
    fn more_than_the_share_exceeds_it_and_the_share_itself_does_not() {
        let fifth = ExactShare::percent(20);
        assert!(!fifth.is_exceeded_by(2, 10) && fifth.is_exceeded_by(3, 10));
        assert!(!fifth.is_exceeded_by(0, 0) && fifth.is_exceeded_by(1, 4));
        assert!(!ExactShare::ALL.is_exceeded_by(u64::MAX, u64::MAX));
        assert!(
            ExactShare::percent(0).is_exceeded_by(1, u64::MAX) && !ExactShare::percent(0).is_exceeded_by(0, u64::MAX)
        );
        assert_eq!(ExactShare::percent(101), ExactShare::ALL);
    }

    #[test]
    fn displays_percent() {
        let shown = [ExactShare(200_000), ExactShare(5_000), ExactShare(1), ExactShare::ALL, ExactShare(0)]
            .map(|share| share.to_string());
        assert_eq!(shown, ["20 %", "0.5 %", "0.0001 %", "100 %", "0 %"]);
    }
}
