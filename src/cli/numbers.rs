//! Parsers of the numbers and addresses on the command line. They say what is accepted.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

/// Returns a parser of whole numbers in a range.
pub(super) fn whole_number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match range.clone().into_inner() {
            (0, u64::MAX) => "must be a whole number".to_owned(),
            (least, most) => format!("must be a whole number from {least} to {most}"),
        })
    }
}

/// Parses a whole number of any size.
pub(super) fn any_number(text: &str) -> Result<u64, String> {
    whole_number(0..=u64::MAX)(text)
}

/// Parses a whole number above zero.
pub(super) fn positive_number(text: &str) -> Result<NonZeroU32, String> {
    let number = whole_number::<u32>(1..=u64::from(u32::MAX))(text)?;
    NonZeroU32::try_from(number).map_err(|error| error.to_string())
}

/// Parses the address and the port to listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:9000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_said() {
        let from_one = whole_number::<u32>(1..=100_000);
        assert_eq!((from_one("1"), from_one("100000")), (Ok(1), Ok(100_000)));
        for text in ["", "x", "0", "-1", "1.5", "100001", "99999999999999999999999"] {
            assert_eq!(from_one(text), Err("must be a whole number from 1 to 100000".to_owned()), "{text}");
        }
        assert_eq!(any_number("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(any_number("many"), Err("must be a whole number".to_owned()));
        assert_eq!(positive_number("0"), Err("must be a whole number from 1 to 4294967295".to_owned()));
        assert_eq!(listen_address("[::1]:0").map(|address| address.port()), Ok(0));
        for text in ["9000", "localhost:9000", "127.0.0.1"] {
            assert_eq!(listen_address(text), Err("write ADDRESS:PORT, such as 127.0.0.1:9000".to_owned()), "{text}");
        }
    }
}
