//! Expressions as workflows have them (`${{ ... }}`, and what stands behind `if:`), as far as this project's own need
//! them. <https://docs.github.com/en/actions/reference/workflows-and-actions/expressions>
//!
//! What is not known here fails the test: a value that is quietly empty would prove nothing.

use serde_json::{Map, Value as Json, json};

/// What expressions see.
#[derive(Clone, Default)]
pub(crate) struct Contexts {
    /// `github`, `inputs`, `steps` and so on.
    pub(crate) roots: Map<String, Json>,
    /// What became of the steps so far.
    pub(crate) status: Status,
}

/// What became of the steps so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    #[default]
    Success,
    Failure,
    Cancelled,
}

/// Contexts in which nobody need have set a value: it is empty then.
const OPEN: [&str; 3] = ["env", "vars", "secrets"];

impl Contexts {
    /// A text with all its expressions replaced by what they come to.
    pub(crate) fn text(&self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, from)) = rest.split_once("${{") {
            let (expression, after) =
                from.split_once("}}").unwrap_or_else(|| panic!("no end of ${{{{ in {template:?}"));
            out.push_str(before);
            out.push_str(&text_of(&self.value(expression)));
            rest = after;
        }
        out + rest
    }

    /// Whether a step with this condition is run. Without a word about the steps before it, all of them must have
    /// succeeded.
    pub(crate) fn holds(&self, condition: Option<&str>) -> bool {
        let condition = condition.unwrap_or("success()").trim();
        let inner = condition.strip_prefix("${{").and_then(|inner| inner.strip_suffix("}}")).unwrap_or(condition);
        let asks =
            ["success()", "failure()", "always()", "cancelled()"].iter().any(|function| inner.contains(function));
        (asks || self.status == Status::Success) && is_true(&self.value(inner))
    }

    /// What an expression comes to.
    pub(crate) fn value(&self, expression: &str) -> Json {
        let tokens = tokens(expression);
        let mut parser = Parser { contexts: self, tokens: &tokens, at: 0 };
        let value = parser.or();
        assert_eq!(parser.at, tokens.len(), "{expression:?} goes on after its end");
        value
    }

    fn call(&self, name: &str, args: &[Json]) -> Json {
        let lower = |value: &Json| text_of(value).to_lowercase();
        match (name, args) {
            ("success", []) => json!(self.status == Status::Success),
            ("failure", []) => json!(self.status == Status::Failure),
            ("cancelled", []) => json!(self.status == Status::Cancelled),
            ("always", []) => json!(true),
            ("contains", [Json::Array(all), item]) => json!(all.iter().any(|one| equal(one, item))),
            ("contains", [text, part]) => json!(lower(text).contains(&lower(part))),
            ("startsWith", [text, part]) => json!(lower(text).starts_with(&lower(part))),
            ("endsWith", [text, part]) => json!(lower(text).ends_with(&lower(part))),
            ("format", [template, values @ ..]) => {
                let mut text = text_of(template);
                for (number, value) in values.iter().enumerate() {
                    text = text.replace(&format!("{{{number}}}"), &text_of(value));
                }
                json!(text)
            }
            ("toJSON", [value]) => json!(format!("{value:#}")),
            ("fromJSON", [text]) => serde_json::from_str(&text_of(text)).expect("JSON"),
            _ => panic!("the harness does not know the function {name} of {} arguments", args.len()),
        }
    }
}

/// A value as text.
pub(crate) fn text_of(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::Array(_) | Json::Object(_) => panic!("{value} is no text"),
    }
}

fn is_true(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(_) | Json::Object(_) => true,
    }
}

/// Texts are equal in any case; values of two kinds are compared as numbers.
fn equal(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::String(one), Json::String(other)) => one.to_lowercase() == other.to_lowercase(),
        (Json::Bool(one), Json::Bool(other)) => one == other,
        (Json::Null, Json::Null) => true,
        _ => matches!((number(one), number(other)), (Some(one), Some(other)) if (one - other).abs() < f64::EPSILON),
    }
}

fn number(value: &Json) -> Option<f64> {
    match value {
        Json::Null => Some(0.0),
        Json::Bool(value) => Some(f64::from(u8::from(*value))),
        Json::Number(number) => number.as_f64(),
        Json::String(text) if text.is_empty() => Some(0.0),
        Json::String(text) => text.parse().ok(),
        Json::Array(_) | Json::Object(_) => None,
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    Value(Json),
    Sign(&'static str),
}

const SIGNS: [&str; 14] = ["==", "!=", "&&", "||", "!", "(", ")", ".", ",", "[", "]", "<", ">", "*"];

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let of = |part: &dyn Fn(char) -> bool| rest.find(|c| !part(c)).unwrap_or(rest.len());
        let taken = if let Some(quoted) = rest.strip_prefix('\'') {
            let mut end = 0;
            // Two quotes are one.
            loop {
                end += quoted[end..].find('\'').unwrap_or_else(|| panic!("a quote does not end: {rest:?}"));
                if !quoted[end + 1..].starts_with('\'') {
                    break;
                }
                end += 2;
            }
            found.push(Token::Value(json!(quoted[..end].replace("''", "'"))));
            end + 2
        } else if rest.starts_with(|c: char| c.is_ascii_digit()) {
            let end = of(&|c| c.is_ascii_digit() || c == '.');
            found.push(Token::Value(rest[..end].parse().unwrap_or_else(|_| panic!("{rest:?} is no number"))));
            end
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let end = of(&|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            found.push(match &rest[..end] {
                "true" => Token::Value(json!(true)),
                "false" => Token::Value(json!(false)),
                "null" => Token::Value(Json::Null),
                name => Token::Name(name.to_owned()),
            });
            end
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.unwrap_or_else(|| panic!("the harness does not know what {rest:?} begins with"));
            found.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[taken..].trim_start();
    }
    found
}

struct Parser<'a> {
    contexts: &'a Contexts,
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Json {
        let mut value = self.and();
        while self.takes("||") {
            let other = self.and();
            value = if is_true(&value) { value } else { other };
        }
        value
    }

    fn and(&mut self) -> Json {
        let mut value = self.comparison();
        while self.takes("&&") {
            let other = self.comparison();
            value = if is_true(&value) { other } else { value };
        }
        value
    }

    fn comparison(&mut self) -> Json {
        let value = self.one();
        if self.takes("==") {
            return json!(equal(&value, &self.one()));
        }
        if self.takes("!=") {
            return json!(!equal(&value, &self.one()));
        }
        value
    }

    fn one(&mut self) -> Json {
        if self.takes("!") {
            return json!(!is_true(&self.one()));
        }
        if self.takes("(") {
            let value = self.or();
            assert!(self.takes(")"), "a bracket is not closed");
            return value;
        }
        let token = self.tokens.get(self.at).unwrap_or_else(|| panic!("an expression ends too early"));
        self.at += 1;
        match token {
            Token::Value(value) => value.clone(),
            Token::Sign(sign) => panic!("the harness does not know {sign} here"),
            Token::Name(name) if self.takes("(") => {
                let mut args = Vec::new();
                while !self.takes(")") {
                    args.push(self.or());
                    assert!(
                        self.takes(",") || matches!(self.tokens.get(self.at), Some(Token::Sign(")"))),
                        "{name}(..."
                    );
                }
                self.contexts.call(name, &args)
            }
            Token::Name(name) => self.path(name),
        }
    }

    fn path(&mut self, root: &str) -> Json {
        let mut value =
            self.contexts.roots.get(root).unwrap_or_else(|| panic!("there is no context {root} here")).clone();
        let mut way = root.to_owned();
        loop {
            let name = if self.takes(".") {
                let Some(Token::Name(name)) = self.tokens.get(self.at) else { panic!("{way}. names nothing") };
                self.at += 1;
                name.clone()
            } else if self.takes("[") {
                let name = text_of(&self.or());
                assert!(self.takes("]"), "a bracket is not closed");
                name
            } else {
                return value;
            };
            // What a step did not set, and what an event does not have, is empty; a step that is not there is a
            // mistake.
            let lenient = OPEN.contains(&root) || way.ends_with(".outputs") || way.starts_with("github.event");
            value = match value.get(&name) {
                Some(inner) => inner.clone(),
                None if lenient || value.is_null() => Json::Null,
                None => panic!("{way} has no {name}: {value}"),
            };
            way = format!("{way}.{name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let roots = json!({
            "inputs": { "comment": "true", "plan": "it's" },
            "github": { "token": "secret", "event": { "number": 7 } },
            "steps": { "how": { "outputs": { "key": "k" } } },
            "env": {},
        });
        Contexts { roots: roots.as_object().expect("an object").clone(), status: Status::Success }
    }

    #[test]
    fn values_come_out_as_github_has_them() {
        let contexts = contexts();
        for (template, expected) in [
            ("${{ inputs.comment == 'TRUE' && github.token || '' }}", "secret"),
            ("${{ inputs.comment == 'false' && github.token || '' }}", ""),
            ("a ${{ inputs.plan }} b ${{ steps.how.outputs.key }}", "a it's b k"),
            ("${{ steps.how.outputs.nothing }}${{ env.NOTHING }}${{ github.event.pull_request.number }}", ""),
            ("${{ github.event['number'] != 8 }}", "true"),
            ("${{ format('{0}-{1}', 'it''s', 2) }}", "it's-2"),
            ("${{ !(true && (false || null)) }}", "true"),
            ("${{ contains('Hello', 'ELL') && startsWith('abc', 'a') }}", "true"),
        ] {
            assert_eq!(contexts.text(template), expected, "{template}");
        }
    }

    #[test]
    fn a_condition_wants_success_unless_it_says_otherwise() {
        let mut contexts = contexts();
        assert!(contexts.holds(None) && contexts.holds(Some("inputs.comment == 'true'")));
        contexts.status = Status::Failure;
        assert!(!contexts.holds(None) && !contexts.holds(Some("inputs.comment == 'true'")));
        assert!(
            contexts.holds(Some("always() && inputs.comment == 'true'")) && contexts.holds(Some("${{ failure() }}"))
        );
        contexts.status = Status::Cancelled;
        assert!(contexts.holds(Some("cancelled()")) && !contexts.holds(Some("failure()")));
    }

    #[test]
    fn what_is_not_known_fails() {
        for expression in ["inputs.nothing", "steps.other.outputs.x", "nothing.x", "hashFiles('x')", "1 2", "a b", "'x"]
        {
            let contexts = contexts();
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| contexts.value(expression)));
            assert!(failed.is_err(), "{expression}");
        }
    }
}
