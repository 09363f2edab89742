use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

/// Converts a tree to the usual JSON type, which cannot hold repeated keys.
fn as_json(content: &NodeContent) -> Json {
    let pairs =
        |members: &[DocumentNode]| members.iter().map(|node| (node.name.clone(), as_json(&node.content))).collect();
    match content {
        NodeContent::XmlText(text) | NodeContent::Text(text) => Json::from(text.as_str()),
        NodeContent::Bool(value) => Json::from(*value),
        NodeContent::Number(digits) => serde_json::from_str(digits).expect("a number"),
        NodeContent::Null => Json::Null,
        NodeContent::Members(members) => Json::Object(pairs(members)),
        NodeContent::Items(items) => items.iter().map(|item| as_json(&item.content)).collect(),
    }
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e9..1e9).prop_map(|number: f64| Json::from(number)),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Json::from_iter),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parses_json_like_serde_json(value in json(), indented in any::<bool>()) {
        let text = if indented { format!("{value:#}") } else { value.to_string() };
        let node = read_json(&text, "root").expect("JSON");
        // Not the value itself: the usual parser rounds some numbers.
        prop_assert_eq!(as_json(&node.content), serde_json::from_str::<Json>(&text).expect("JSON"));
    }

    #[test]
    fn rejects_invalid_json(text in "[{}\\[\\]\",:\\\\tu0-9a-e.+ -]{0,20}") {
        let usual = serde_json::from_str::<Json>(&text);
        let deep = text.matches(['{', '[']).count() >= MAX_DEPTH;
        match read_json(&text, "root") {
            Ok(_) => prop_assert!(usual.is_ok(), "{:?}", text),
            Err(_) => prop_assert!(usual.is_err() || deep, "{:?}", text),
        }
    }
}
