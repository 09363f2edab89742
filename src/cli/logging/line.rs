//! One event as a line: text for people, or JSON with the fields of `tracing-subscriber`'s JSON format.
//!
//! Values may be text of servers, files and names. In both formats, whatever would drive a terminal is escaped, so a
//! line has no line break and no control character.

use std::fmt::{self, Write as _};

use batchplan_store::printable::affects_terminal;
use clap::ValueEnum;
use jiff::Timestamp;
use tracing::Level;
use tracing::field::{Field, Visit};

use crate::diagnostics::escape_line;

/// The format of the log: one line of text or one JSON object per event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The name that `tracing` gives the message of an event.
const MESSAGE: &str = "message";

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
enum LogValue {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
}

/// The fields of an event or a span, in the order in which they are declared. A field that has no value is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct LogFields(Vec<(&'static str, LogValue)>);

impl LogFields {
    fn set(&mut self, field: &Field, value: LogValue) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }

    /// Drops all fields except the message.
    pub(super) fn keep_message(&mut self) {
        self.0.retain(|(name, _)| *name == MESSAGE);
    }

    fn message(&self) -> &str {
        let message = self.0.iter().find(|(name, _)| *name == MESSAGE);
        match message {
            Some((_, LogValue::Text(text))) => text,
            _ => "",
        }
    }
}

impl Visit for LogFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, LogValue::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, LogValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, LogValue::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, LogValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, LogValue::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, LogValue::Text(format!("{value:?}")));
    }
}

/// One event, with the spans that it is in, the outermost first.
pub(super) struct LogLine<'a> {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) spans: Vec<(&'static str, &'a LogFields)>,
    pub(super) fields: &'a LogFields,
}

impl LogLine<'_> {
    /// Returns the line as text: `TIME LEVEL SPAN{FIELD=VALUE}: TARGET: MESSAGE FIELD=VALUE`.
    pub(super) fn to_text(&self, coloured: bool) -> String {
        let mut line = format!("{:.6} ", self.time);
        let _ = if coloured {
            write!(line, "\u{1b}[{}m{:>5}\u{1b}[0m", colour_of(self.level), self.level)
        } else {
            write!(line, "{:>5}", self.level)
        };
        for (at, (name, fields)) in self.spans.iter().enumerate() {
            line.push_str(if at == 0 { " " } else { ":" });
            line.push_str(name);
            line.push('{');
            push_text_fields(&mut line, fields, "");
            line.push('}');
        }
        if !self.spans.is_empty() {
            line.push(':');
        }
        let _ = write!(line, " {}: {}", self.target, escape_line(self.fields.message()));
        push_text_fields(&mut line, self.fields, " ");
        line
    }

    /// Returns the line as a JSON object.
    pub(super) fn to_json(&self) -> String {
        let mut line = format!("{{\"timestamp\":\"{:.6}\",\"level\":\"{}\",\"fields\":{{", self.time, self.level);
        push_json_fields(&mut line, self.fields, "");
        line.push_str("},\"target\":");
        push_json_text(&mut line, self.target);
        line.push_str(",\"spans\":[");
        for (at, (name, fields)) in self.spans.iter().enumerate() {
            line.push_str(if at == 0 { "{\"name\":" } else { ",{\"name\":" });
            push_json_text(&mut line, name);
            push_json_fields(&mut line, fields, ",");
            line.push('}');
        }
        line.push_str("]}");
        line
    }
}

/// Returns the parameter of the escape sequence that selects the colour of a level.
fn colour_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// Adds all fields except the message, the first one behind `before`.
fn push_text_fields(line: &mut String, fields: &LogFields, before: &str) {
    let mut separator = before;
    for (name, value) in fields.0.iter().filter(|(name, _)| *name != MESSAGE) {
        line.push_str(separator);
        separator = " ";
        let _ = write!(line, "{name}=");
        let _ = match value {
            LogValue::Bool(value) => write!(line, "{value}"),
            LogValue::Signed(value) => write!(line, "{value}"),
            LogValue::Unsigned(value) => write!(line, "{value}"),
            LogValue::Float(value) => write!(line, "{value}"),
            LogValue::Text(text) if needs_quotes(text) => write!(line, "\"{}\"", escape_quoted(text)),
            LogValue::Text(text) => write!(line, "{text}"),
        };
    }
}

/// Returns whether a value could be taken for more than one value, or for the end of its span.
fn needs_quotes(text: &str) -> bool {
    let is_special = |c: char| c.is_whitespace() || matches!(c, '"' | '\\' | '{' | '}') || affects_terminal(c);
    text.is_empty() || text.contains(is_special)
}

fn escape_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.extend(['\\', c]);
        } else if affects_terminal(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Adds all fields, the message included, the first one behind `before`.
fn push_json_fields(line: &mut String, fields: &LogFields, before: &str) {
    let mut separator = before;
    for (name, value) in &fields.0 {
        line.push_str(separator);
        separator = ",";
        push_json_text(line, name);
        line.push(':');
        let _ = match value {
            LogValue::Bool(value) => write!(line, "{value}"),
            LogValue::Signed(value) => write!(line, "{value}"),
            LogValue::Unsigned(value) => write!(line, "{value}"),
            LogValue::Float(value) if value.is_finite() => write!(line, "{value}"),
            LogValue::Float(_) => write!(line, "null"),
            LogValue::Text(text) => {
                push_json_text(line, text);
                Ok(())
            }
        };
    }
}

fn push_json_text(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            line.extend(['\\', c]);
        } else if affects_terminal(c) {
            // All of these have at most 16 bits.
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, LogValue)]) -> LogFields {
        LogFields(pairs.to_vec())
    }

    fn text(value: &str) -> LogValue {
        LogValue::Text(value.to_owned())
    }

    /// Returns an event in two spans as text and as JSON.
    fn lines(event: &LogFields, object: &LogFields) -> (String, String) {
        let job = fields(&[("id", text("7f"))]);
        let line = LogLine {
            time: "2026-03-08T11:59:59.123456789Z".parse().expect("a time"),
            level: Level::INFO,
            target: "batchplan::engine",
            spans: vec![("job", &job), ("object", object)],
            fields: event,
        };
        (line.to_text(false), line.to_json())
    }

    #[test]
    fn a_line_has_the_time_the_level_the_spans_the_target_the_message_and_the_fields() {
        let event = fields(&[
            (MESSAGE, text("checkpoint recorded")),
            ("rows", LogValue::Unsigned(3)),
            ("skew", LogValue::Signed(-1)),
            ("ratio", LogValue::Float(0.5)),
            ("late", LogValue::Bool(true)),
            ("code", text("Slow Down")),
        ]);
        let (line, json) = lines(&event, &fields(&[("key", text("a/b.txt"))]));
        assert_eq!(
            line,
            "2026-03-08T11:59:59.123456Z  INFO job{id=7f}:object{key=a/b.txt}: batchplan::engine: checkpoint recorded rows=3 \
             skew=-1 ratio=0.5 late=true code=\"Slow Down\""
        );
        assert_eq!(
            json,
            "{\"timestamp\":\"2026-03-08T11:59:59.123456Z\",\"level\":\"INFO\",\"fields\":{\"message\":\"checkpoint \
             recorded\",\"rows\":3,\"skew\":-1,\"ratio\":0.5,\"late\":true,\"code\":\"Slow Down\"},\"target\":\
             \"batchplan::engine\",\"spans\":[{\"name\":\"job\",\"id\":\"7f\"},{\"name\":\"object\",\"key\":\"a/b.txt\"}]}"
        );
    }

    #[test]
    fn a_hostile_value_stays_one_value_in_one_line_and_drives_no_terminal() {
        let hostile = "a\u{1b}[2J\r\nb\u{9b}\u{202e}\u{2028}\t\"=} \\é";
        let event = fields(&[(MESSAGE, text(hostile)), ("empty", text(""))]);
        let (line, json) = lines(&event, &fields(&[("key", text(hostile))]));
        for line in [&line, &json] {
            assert!(!line.contains(affects_terminal), "{line}");
        }
        assert!(line.contains(r#"key="a\u{1b}[2J\r\nb\u{9b}\u{202e}\u{2028}\t\"=} \\é""#), "{line}");
        assert!(line.ends_with(" empty=\"\""), "{line}");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["fields"][MESSAGE], hostile);
        assert_eq!(json["spans"][1]["key"], hostile);
    }

    #[test]
    fn numbers_that_json_does_not_have_are_null() {
        let (_, json) = lines(&fields(&[("ratio", LogValue::Float(f64::NAN))]), &LogFields::default());
        assert!(json.contains("\"ratio\":null"), "{json}");
    }

    #[test]
    fn only_the_level_is_coloured() {
        let line = LogLine {
            time: Timestamp::UNIX_EPOCH,
            level: Level::WARN,
            target: "batchplan",
            spans: Vec::new(),
            fields: &fields(&[(MESSAGE, text("late"))]),
        };
        assert_eq!(line.to_text(true), "1970-01-01T00:00:00.000000Z \u{1b}[33m WARN\u{1b}[0m batchplan: late");
        assert_eq!(line.to_text(false), "1970-01-01T00:00:00.000000Z  WARN batchplan: late");
    }
}
