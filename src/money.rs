//! Exact amounts of money, as whole numbers of a trillionth of a currency unit. Sums and products do not round.

use std::fmt;

use crate::thousands::Thousands;

/// The number of parts in one unit of a currency. The cheapest billed request costs some ten-millionths of a unit.
pub const PARTS_PER_UNIT: u128 = 1_000_000_000_000;

/// The number of decimals of [`PARTS_PER_UNIT`].
const DECIMAL_PLACES: u32 = 12;

/// The maximum number of digits before the decimal point. A larger amount is a mistake.
const WHOLE_DIGITS: usize = 15;

/// A currency, by its code of three capital letters, as in ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Parses a code. Returns `None` unless it is three capital letters. Does not check that the currency exists.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// Returns the code of three capital letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A non-negative amount of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    parts: u128,
    currency: Currency,
}

impl Money {
    /// Creates an amount from trillionths of a unit.
    #[must_use]
    pub const fn new(parts: u128, currency: Currency) -> Self {
        Self { parts, currency }
    }

    /// Returns an amount of zero.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// Parses an amount, a space, and a currency, such as `50 CNY` or `0.25 USD`. Returns `None` if the text is not
    /// valid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (amount, currency) = text.split_once(' ')?;
        Some(Self::new(parse_parts(amount, DECIMAL_PLACES)?, Currency::parse(currency)?))
    }

    /// Returns the amount in trillionths of a unit.
    #[must_use]
    pub fn parts(&self) -> u128 {
        self.parts
    }

    /// Returns the currency of the amount.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Returns whether the amount is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.parts == 0
    }

    /// Returns the sum, or `None` if the currencies differ. The sum saturates at the maximum.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        (self.currency == other.currency).then(|| Self::new(self.parts.saturating_add(other.parts), self.currency))
    }

    /// Formats the amount for people, rounded up to cents, or to three significant digits below one unit. So an amount
    /// that exceeds a limit is shown as one that does.
    #[must_use]
    pub fn format_rounded_up(self) -> String {
        const SIGNIFICANT_DIGITS: u32 = 3;
        let digits = self.parts.checked_ilog10().map_or(0, |log| log + 1);
        let cents = DECIMAL_PLACES - 2;
        let dropped = digits.saturating_sub(SIGNIFICANT_DIGITS).min(cents);
        let unit = 10_u128.pow(if self.parts >= PARTS_PER_UNIT { cents } else { dropped });
        Self::new(self.parts.div_ceil(unit).saturating_mul(unit), self.currency).to_string()
    }

    /// Formats the amount for people, rounded to cents, half a cent up. An amount below one cent, but not zero, is
    /// shown as `less than 0.01`.
    #[must_use]
    pub fn format_rounded(self) -> String {
        const CENT: u128 = PARTS_PER_UNIT / 100;
        if 0 < self.parts && self.parts < CENT {
            return format!("less than 0.01 {}", self.currency);
        }
        let cents = self.parts / CENT + u128::from(self.parts % CENT >= CENT / 2);
        let whole = u64::try_from(cents / 100).unwrap_or(u64::MAX);
        format!("{}.{:02} {}", Thousands(whole), cents % 100, self.currency)
    }
}

/// The exact amount, with at least two decimals: `50.00 CNY`, `0.0000004 USD`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:012}", self.parts % PARTS_PER_UNIT);
        let shown = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{}.{} {}", self.parts / PARTS_PER_UNIT, &decimals[..shown], self.currency)
    }
}

/// Parses a plain decimal number, such as `0.005`, into trillionths. Accepts digits and at most `places` decimals after
/// a point. Signs and exponents are rejected, because an amount must not be ambiguous.
#[must_use]
pub fn parse_parts(text: &str, places: u32) -> Option<u128> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let decimal_count = u32::try_from(decimals.len()).ok()?;
    if !digits(whole) || !digits(decimals) || whole.len() > WHOLE_DIGITS || decimal_count > places.min(DECIMAL_PLACES) {
        return None;
    }
    let decimals = decimals.parse::<u128>().ok()? * 10_u128.pow(DECIMAL_PLACES - decimal_count);
    Some(whole.parse::<u128>().ok()? * PARTS_PER_UNIT + decimals)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        Money::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn amounts_above_a_limit_are_rounded_up() {
        for (exact, shown) in [
            ("1.323368333334 USD", "1.33 USD"),
            ("5.000005 USD", "5.01 USD"),
            ("34.225005 USD", "34.23 USD"),
            ("0.00001 USD", "0.00001 USD"),
            ("0.123456 USD", "0.124 USD"),
            ("0.000123456 CNY", "0.000124 CNY"),
            ("0.9999 USD", "1.00 USD"),
            ("0 USD", "0.00 USD"),
            ("20 USD", "20.00 USD"),
        ] {
            assert_eq!(money(exact).format_rounded_up(), shown);
        }
    }

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        for (text, shown) in [
            ("50 CNY", "50.00 CNY"),
            ("0 USD", "0.00 USD"),
            ("0.0000004 USD", "0.0000004 USD"),
            ("007.50 EUR", "7.50 EUR"),
            ("0.000000000001 USD", "0.000000000001 USD"),
            ("999999999999999 XXX", "999999999999999.00 XXX"),
        ] {
            assert_eq!(money(text).to_string(), shown);
        }
        for text in [
            "",
            " ",
            "50",
            "50CNY",
            "50  CNY",
            " 50 CNY",
            "50 CNY ",
            "CNY 50",
            "50 cny",
            "50 CN",
            "50 CNYX",
            "50 ¥",
            "-1 CNY",
            "+1 CNY",
            "1e3 CNY",
            "1,000 CNY",
            "1. CNY",
            ".5 CNY",
            "1.2.3 CNY",
            "inf CNY",
            "0x10 CNY",
            "1_000 CNY",
            "٣ CNY",
            "0.0000000000001 USD",
            "1000000000000000 USD",
            "50\tCNY",
            "50 C\u{1b}Y",
        ] {
            assert_eq!(Money::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn format_rounded_rounds_to_cents() {
        for (text, shown) in [
            ("0 USD", "0.00 USD"),
            ("0.0000004 USD", "less than 0.01 USD"),
            ("0.009999 USD", "less than 0.01 USD"),
            ("0.01 USD", "0.01 USD"),
            ("0.0149 USD", "0.01 USD"),
            ("0.015 USD", "0.02 USD"),
            ("0.995 USD", "1.00 USD"),
            ("5000 CNY", "5,000.00 CNY"),
        ] {
            assert_eq!(money(text).format_rounded(), shown, "{text}");
        }
    }

    #[test]
    fn sums_need_one_currency() {
        assert_eq!(money("0.1 USD").plus(money("0.2 USD")), Some(money("0.3 USD")));
        assert_eq!(money("1 USD").plus(money("1 CNY")), None);
        let most = Money::new(u128::MAX, money("1 USD").currency());
        assert_eq!(most.plus(money("1 USD")), Some(most));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_shown_is_read_again(parts in 0..PARTS_PER_UNIT * 1_000_000_000_000_000, code in "[A-Z]{3}") {
            let money = Money::new(parts, Currency::parse(&code).expect("a code"));
            prop_assert_eq!(Money::parse(&money.to_string()), Some(money));
        }

        #[test]
        fn no_text_breaks_it(text in ".{0,40}") {
            if let Some(money) = Money::parse(&text) {
                prop_assert_eq!(Money::parse(&money.to_string()), Some(money));
            }
        }
    }
}
