//! Collects the events and spans of the whole program, and writes each event as one line.

use jiff::Timestamp;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::destination::LogDestination;
use super::levels::{LogLevels, is_own};
use super::line::{LogFields, LogFormat, LogLine};

/// Writes the log.
pub(super) struct LogLayer {
    levels: LogLevels,
    format: LogFormat,
    destination: LogDestination,
}

impl LogLayer {
    pub(super) fn new(levels: LogLevels, format: LogFormat, destination: LogDestination) -> Self {
        Self { levels, format, destination }
    }

    fn render(&self, line: &LogLine<'_>) -> String {
        match self.format {
            LogFormat::Text => line.to_text(self.destination.is_coloured()),
            LogFormat::Json => line.to_json(),
        }
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.levels.allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.levels.allows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.levels.max_level())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = LogFields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<LogFields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = LogFields::default();
        event.record(&mut fields);
        if !is_own(event.metadata().target()) {
            fields.keep_message();
        }
        let scope: Vec<_> = context.event_scope(event).into_iter().flat_map(Scope::from_root).collect();
        // The guards of the spans' fields must outlive the line.
        let spans: Vec<_> = scope.iter().map(|span| (span.name(), span.extensions())).collect();
        let line = LogLine {
            time: Timestamp::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            spans: spans.iter().filter_map(|(name, fields)| Some((*name, fields.get::<LogFields>()?))).collect(),
            fields: &fields,
        };
        self.destination.write(self.render(&line));
    }
}
