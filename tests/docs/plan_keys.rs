//! The references of plan files and of rules for plans, from their schemas.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value as Json;

use crate::generated::{compare, sentence};

#[test]
fn the_reference_of_plan_files_has_the_keys_of_the_schema() {
    let schema = Command::new(env!("CARGO_BIN_EXE_batchplan")).arg("schema").output().expect("the program");
    let schema: Json = serde_json::from_slice(&schema.stdout).expect("the schema");
    let mut page = String::new();
    let top = schema["properties"].as_object().expect("keys");
    page.push_str("\n## Top level\n");
    let (tables, keys): (Vec<_>, Vec<_>) = top.iter().partition(|(_, value)| is_table(value));
    rows(&schema, &keys.into_iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), &mut page);
    let order =
        ["store", "manifest", "operation", "report", "job", "limits", "prices", "state", "notify", "recurring", "undo"];
    assert_eq!(tables.len(), order.len(), "each table has its place in the page's order");
    for name in order {
        table(name, &schema["properties"][name], &mut page);
    }
    compare("docs/src/reference/plan-file.md", &page);
}

#[test]
fn the_reference_of_rules_has_the_keys_of_the_schema() {
    let schema =
        Command::new(env!("CARGO_BIN_EXE_batchplan")).args(["schema", "--rules"]).output().expect("the program");
    let schema: Json = serde_json::from_slice(&schema.stdout).expect("the schema");
    let keys: Vec<_> = schema["properties"].as_object().expect("keys").keys().map(String::as_str).collect();
    let mut page = String::new();
    rows(&schema, &keys, &mut page);
    compare("docs/src/reference/rules.md", &page);
}

fn is_table(value: &Json) -> bool {
    value["type"] == "object" || value["items"]["type"] == "object"
}

/// Keys whose values are tables of the user's own names.
fn is_open(value: &Json) -> bool {
    value["type"] == "object" && !value["properties"].is_object()
}

fn table(path: &str, value: &Json, page: &mut String) {
    let repeated = value["items"]["type"] == "object";
    let inside = if repeated { &value["items"] } else { value };
    let title = if repeated { format!("[[{path}]]") } else { format!("[{path}]") };
    let about = sentence(value["description"].as_str().expect("a text"));
    writeln!(page, "\n## `{title}`\n\n{about}{}", alternatives(path, inside)).expect("a string");
    let keys = inside["properties"].as_object().expect("keys");
    let own: Vec<_> =
        keys.iter().filter(|(_, value)| !is_table(value) || is_open(value)).map(|(name, _)| name.as_str()).collect();
    rows(inside, &own, page);
    for (name, value) in keys.iter().filter(|(_, value)| is_table(value) && !is_open(value)) {
        table(&format!("{path}.{name}"), value, page);
    }
}

/// Says which keys exclude each other. Tables have links.
fn alternatives(path: &str, table: &Json) -> String {
    let Some(sets) = table["oneOf"].as_array() else { return String::new() };
    let name = |key: &Json| {
        let key = key.as_str().expect("a key");
        if is_table(&table["properties"][key]) {
            format!("[`[{path}.{key}]`](#{}{key})", path.replace('.', ""))
        } else {
            format!("`{key}`")
        }
    };
    let sets: Vec<_> = sets
        .iter()
        .map(|set| set["required"].as_array().expect("keys").iter().map(name).collect::<Vec<_>>().join(" and "))
        .collect();
    format!(" Set exactly one of these: {}.", sets.join("; "))
}

fn rows(table: &Json, keys: &[&str], page: &mut String) {
    if keys.is_empty() {
        return;
    }
    page.push_str("\n| key | type | meaning |\n|---|---|---|\n");
    let required: Vec<_> = table["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    // Required keys come first.
    let (first, rest): (Vec<_>, Vec<_>) = keys.iter().partition(|key| required.contains(*key));
    for key in first.into_iter().chain(rest) {
        let value = &table["properties"][key];
        let needed = if required.contains(key) { " Required." } else { "" };
        let meaning = sentence(value["description"].as_str().expect("a text")).replace('|', "\\|");
        writeln!(page, "| `{key}` | {} | {meaning}{needed} |", kind(value)).expect("a string");
    }
}

fn kind(value: &Json) -> String {
    if let Some(values) = value["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let range = |least: &str, most: &str| match (value[least].as_f64(), value[most].as_f64()) {
        (Some(least), Some(most)) if most < 1e15 => format!(", {least} to {most}"),
        (Some(least), _) if least > 0.0 => format!(", at least {least}"),
        _ => String::new(),
    };
    match value["type"].as_str() {
        Some("integer") => format!("integer{}", range("minimum", "maximum")),
        Some("number") => format!("number{}", range("minimum", "maximum")),
        Some("array") => format!("list: {}", kind(&value["items"])),
        Some("object") => "table of strings".to_owned(),
        Some(name) => name.to_owned(),
        None if value["anyOf"][1]["type"] == "array" => "string or list".to_owned(),
        None if value["anyOf"].is_array() => "size".to_owned(),
        None => "value".to_owned(),
    }
}
