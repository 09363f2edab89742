//! The JSON Schema of the events of `--json=lines`.

use serde_json::{Map, Value as Json, json};

/// An event: its name, what it means, and its own fields.
struct EventSchema {
    name: &'static str,
    about: &'static str,
    fields: &'static [(&'static str, FieldType, &'static str)],
}

/// The type of a field.
#[derive(Clone, Copy)]
enum FieldType {
    Count,
    Number,
    OptionalNumber,
    Flag,
    Text,
    OptionalText,
    Object,
    OptionalObject,
}

impl FieldType {
    fn schema(self) -> Json {
        match self {
            Self::Count => json!({ "type": "integer", "minimum": 0 }),
            Self::Number => json!({ "type": "number", "minimum": 0 }),
            Self::OptionalNumber => json!({ "type": ["number", "null"], "minimum": 0 }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Text => json!({ "type": "string" }),
            Self::OptionalText => json!({ "type": ["string", "null"] }),
            Self::Object => json!({ "type": "object" }),
            Self::OptionalObject => json!({ "type": ["object", "null"] }),
        }
    }
}

use FieldType::{Count, Flag, Number, Object, OptionalNumber, OptionalObject, OptionalText, Text};

const EVENTS: &[EventSchema] = &[
    EventSchema {
        name: "started",
        about: "A job starts or is resumed.",
        fields: &[
            ("name", Text, "The name of the plan."),
            ("status", Text, "The status of the job."),
            ("total", Count, "The number of objects; 0 if the manifest is not resolved yet."),
            ("succeeded", Count, "The number of objects that have succeeded before."),
            ("failed", Count, "The number of objects that have failed before."),
            ("resumed", Flag, "Whether objects were processed before."),
        ],
    },
    EventSchema {
        name: "preparing",
        about: "The manifest is being resolved.",
        fields: &[("found", Count, "The number of objects found so far.")],
    },
    EventSchema {
        name: "waiting",
        about: "The job waits for its turn.",
        fields: &[("reason", Text, "What it waits for.")],
    },
    EventSchema { name: "note", about: "A note for people.", fields: &[("message", Text, "The text.")] },
    EventSchema {
        name: "progress",
        about: "Objects are being processed. Sent about every two seconds, also if nothing has changed.",
        fields: &[
            ("total", Count, "The number of objects."),
            ("succeeded", Count, "The number of objects that have succeeded."),
            ("unchanged", Count, "How many of them were right already."),
            ("failed", Count, "The number of objects that have failed."),
            ("finished_before", Count, "The number of objects that earlier runs had finished."),
            ("share", Number, "The share of the objects that are done, from 0 to 1."),
            ("objects_per_second", Number, "The rate over the last half minute; 0 if the run is stalled."),
            (
                "remaining_seconds",
                OptionalNumber,
                "The time until the last object is done at this rate; null if unknown.",
            ),
            ("elapsed_seconds", Number, "The time since this run began."),
            ("requests", Count, "The number of requests about objects that this run has sent."),
            ("retries", Count, "How many of them were sent again."),
            ("throttled_share", Number, "The share of requests that the server refused as too many, from 0 to 1."),
            ("in_flight", Count, "The number of objects that are being processed."),
            ("oldest_in_flight_seconds", OptionalNumber, "How long the oldest of them is being processed."),
            ("stalled_seconds", OptionalNumber, "How long no object was finished; null if the run is not stalled."),
            ("stopping", Flag, "Whether the run is stopping."),
        ],
    },
    EventSchema {
        name: "throttled",
        about: "The server refuses requests because too many are sent. Sent at most every 30 seconds.",
        fields: &[
            ("share", Number, "The share of such requests over the last half minute, from 0 to 1."),
            ("requests", Count, "The number of such requests in this run."),
        ],
    },
    EventSchema {
        name: "failure",
        about: "The first objects failed with an error code. Sent once for each code.",
        fields: &[
            ("code", Text, "The error code."),
            ("http", Count, "The HTTP status; 0 without a response."),
            ("count", Count, "The number of objects that have failed with it so far."),
            ("advice", OptionalText, "What to do about it."),
            ("example", OptionalObject, "One of them: bucket, key (URL-encoded), version and message."),
        ],
    },
    EventSchema {
        name: "checkpoint",
        about: "The outcomes up to here are recorded. They are kept if the process dies.",
        fields: &[
            ("total", Count, "The number of objects."),
            ("succeeded", Count, "The number of objects that have succeeded."),
            ("failed", Count, "The number of objects that have failed."),
            ("in_doubt", Count, "The number of objects that may have been changed without being recorded."),
            ("not_attempted", Count, "The number of objects that were certainly not attempted."),
        ],
    },
    EventSchema {
        name: "heartbeat",
        about: "The process is alive. Sent if there was no other event for ten seconds.",
        fields: &[],
    },
    EventSchema {
        name: "job_ended",
        about: "`run`: one of its jobs has stopped.",
        fields: &[("result", Object, "The job, as in the output of `--json`.")],
    },
    EventSchema {
        name: "ended",
        about: "The command has ended. This is always the last event.",
        fields: &[
            ("exit_code", Count, "The exit code."),
            ("result", OptionalObject, "What `--json` prints; null if the command has no result."),
            ("error", OptionalObject, "Why the command failed; null if it did not."),
        ],
    },
];

/// Returns the JSON Schema of one line.
pub(super) fn schema() -> Json {
    let events: Vec<_> = EVENTS.iter().map(event_schema).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "batchplan event",
        "description": "A line of `--json=lines`. New events and new fields may be added at any time.",
        "oneOf": events,
    })
}

fn event_schema(event: &EventSchema) -> Json {
    let common = [
        ("version", json!({ "const": 2 }), "The version of the format."),
        ("event", json!({ "const": event.name }), "The kind of event."),
        ("time", json!({ "type": "string" }), "When it happened, in UTC (RFC 3339)."),
        ("job_id", json!({ "type": ["string", "null"] }), "The job; null if the event is not about one job."),
    ];
    let own = event.fields.iter().map(|(name, kind, about)| (*name, kind.schema(), *about));
    let mut properties = Map::new();
    for (name, mut schema, about) in common.into_iter().chain(own) {
        schema["description"] = about.into();
        properties.insert(name.to_owned(), schema);
    }
    let required: Vec<_> = properties.keys().cloned().collect();
    let mut left_out = Count.schema();
    left_out["description"] = "How many events were left out before this one, because the reader was too slow.".into();
    properties.insert("left_out".to_owned(), left_out);
    json!({ "type": "object", "description": event.about, "properties": properties, "required": required })
}
