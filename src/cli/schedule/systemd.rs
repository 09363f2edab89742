//! A systemd service and its timer.

use std::fmt::Write as _;
use std::path::Path;

use super::cron::{CronExpression, CronField};
use super::{ScheduledCommand, describe_times};

/// The names of days in calendar events, from Sunday.
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Returns both units, each after a comment with its file name.
pub(super) fn units(
    job: &ScheduledCommand<'_>,
    cron: &CronExpression,
    text: &str,
    program: &Path,
    folder: &Path,
) -> String {
    let name = &job.slug;
    let command = [program.display().to_string()].into_iter().chain(job.arguments()).map(|word| quote_argument(&word));
    let command = command.collect::<Vec<_>>().join(" ");
    let mut out = format!(
        "# ~/.config/systemd/user/batchplan-{name}.service\n\
         [Unit]\n\
         Description=Apply the batchplan plan {title}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         WorkingDirectory={folder}\n\
         # Credentials, as NAME=value lines in a file that only you can read:\n\
         # EnvironmentFile=%h/.config/batchplan/{name}.env\n\
         ExecStart={command}\n\
         # The next run resumes an interrupted job.\n\
         KillSignal=SIGINT\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=60\n\
         \n\
         # ~/.config/systemd/user/batchplan-{name}.timer\n\
         [Unit]\n\
         Description=Schedule of the batchplan plan {title}\n\
         \n\
         [Timer]\n\
         # {when}, in this machine's time zone (cron: {text})\n",
        title = escape_specifiers(job.name),
        folder = escape_specifiers(&folder.display().to_string()),
        when = describe_times(cron),
    );
    for event in calendar_events(cron) {
        let _ = writeln!(out, "OnCalendar={event}");
    }
    out.push_str("# Catch up on a missed run.\nPersistent=true\n\n[Install]\nWantedBy=timers.target");
    out
}

/// Returns the calendar events of an expression. There are two if either of the two day fields may match.
fn calendar_events(cron: &CronExpression) -> Vec<String> {
    let CronExpression { minute, hour, day, month, weekday } = cron;
    let event = |day: Option<&CronField>, weekday: Option<&CronField>| {
        let two = |value: u8| format!("{value:02}");
        let days = weekday.filter(|it| !it.all).map_or_else(String::new, |it| format!("{} ", weekday_names(it)));
        let day = day.map_or_else(|| "*".to_owned(), |day| format_field(day, two));
        format!(
            "{days}*-{}-{day} {}:{}:00",
            format_field(month, two),
            format_field(hour, two),
            format_field(minute, two)
        )
    };
    if cron.matches_either_day() {
        return vec![event(Some(day), None), event(None, Some(weekday))];
    }
    vec![event(Some(day), Some(weekday))]
}

fn weekday_names(weekday: &CronField) -> String {
    // A week starts on Monday here, so Sunday comes last.
    let mut days: Vec<u8> = weekday.values.iter().map(|day| if *day == 0 { 7 } else { *day }).collect();
    days.sort_unstable();
    format_ranges(&days, |day| DAYS[usize::from(day % 7)].to_owned())
}

fn format_field(field: &CronField, show: impl Fn(u8) -> String) -> String {
    if field.all { "*".to_owned() } else { format_ranges(&field.values, show) }
}

/// Formats values as a comma-separated list. Three or more consecutive values become a range.
fn format_ranges(values: &[u8], show: impl Fn(u8) -> String) -> String {
    let mut parts = Vec::new();
    for run in values.chunk_by(|one, next| one + 1 == *next) {
        match run {
            [first, _, .., last] => parts.push(format!("{}..{}", show(*first), show(*last))),
            short => parts.extend(short.iter().map(|value| show(*value))),
        }
    }
    parts.join(",")
}

/// Escapes the specifiers of systemd in a text.
fn escape_specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// Quotes a word of a systemd command line.
fn quote_argument(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' | '$' => out.extend([c, c]),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::schedule::cron;
    use crate::diagnostics::FileProblems;

    fn of(text: &str) -> Vec<String> {
        let mut problems = FileProblems::new("--cron", text);
        calendar_events(&cron::parse(text, &mut problems).expect("an expression"))
    }

    #[test]
    fn an_expression_becomes_calendar_events() {
        assert_eq!(of("17 3 * * *"), ["*-*-* 03:17:00"]);
        assert_eq!(of("*/15 * * * *"), ["*-*-* *:00,15,30,45:00"]);
        assert_eq!(of("0 9-17 * * MON-FRI"), ["Mon..Fri *-*-* 09..17:00:00"]);
        assert_eq!(of("0 0 * 1,6-8 SUN,sat,3"), ["Wed,Sat,Sun *-01,06..08-* 00:00:00"]);
        assert_eq!(of("0 0 * * 5-7"), ["Fri..Sun *-*-* 00:00:00"]);
        assert_eq!(of("0 0 1,15 * 1"), ["*-*-01,15 00:00:00", "Mon *-*-* 00:00:00"], "one of both");
        assert_eq!(of("* * * * *"), ["*-*-* *:*:00"]);
    }

    #[test]
    fn quotes_arguments_for_systemd() {
        assert_eq!(quote_argument("plans/tag.toml"), "plans/tag.toml");
        assert_eq!(quote_argument("my \"plan\" 100% $HOME \\.toml"), r#""my \"plan\" 100%% $$HOME \\.toml""#);
        assert_eq!(quote_argument(";"), "\";\"");
        assert_eq!(quote_argument(""), "\"\"");
    }
}
