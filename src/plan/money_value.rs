//! Reads an amount of money in a plan, such as `"50 CNY"`.

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::parser::{PlanParser, PlanValue, RawField};
use crate::money::Money;

impl PlanValue for Money {
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]{1,15}(\\.[0-9]{1,12})? [A-Z]{3}$" })
    }

    fn example() -> String {
        "\"50 CNY\"".to_owned()
    }

    fn read(slot: &RawField<'_>, walk: &mut PlanParser) -> Option<Self> {
        let DeValue::String(text) = slot.value else {
            slot.report_type_mismatch("an amount with a currency, in quotes", &Self::example(), walk);
            return None;
        };
        let money = Self::parse(text);
        if money.is_none() {
            let help = "use a number, a space and an upper-case currency code, such as \"50 CNY\" or \"12.50 USD\"";
            slot.report_invalid("is not a valid amount of money", "cannot be parsed", help, walk);
        }
        money
    }
}
