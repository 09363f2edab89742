//! A cron expression: five fields, with the syntax that both crontab(5) and GitHub's workflows accept, and the same
//! times in words and as calendar events of systemd.

use std::ops::Range;

use crate::diagnostics::{FileProblem, FileProblems};

/// The names of months, from January.
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// The names of days, from Sunday.
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The names of days in calendar events, from Sunday.
const CALENDAR_DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The number of days of each month, in a leap year.
const MONTH_LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The shorthands that some cron implementations accept instead of five fields.
const SHORTHANDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CronExpression {
    minute: CronField,
    hour: CronField,
    /// The day of the month.
    day: CronField,
    month: CronField,
    /// From 0 (Sunday) to 6.
    weekday: CronField,
}

/// One field of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CronField {
    /// The field as it is written.
    text: String,
    /// The values that the field allows, in ascending order.
    values: Vec<u8>,
    /// Whether the field allows every value.
    all: bool,
}

/// What is allowed in a field.
struct CronFieldSpec {
    name: &'static str,
    min: u8,
    max: u8,
    names: &'static [&'static str],
}

const FIELD_SPECS: [CronFieldSpec; 5] = [
    CronFieldSpec { name: "minute", min: 0, max: 59, names: &[] },
    CronFieldSpec { name: "hour", min: 0, max: 23, names: &[] },
    CronFieldSpec { name: "day of the month", min: 1, max: 31, names: &[] },
    CronFieldSpec { name: "month", min: 1, max: 12, names: &MONTHS },
    CronFieldSpec { name: "day of the week", min: 0, max: 7, names: &DAYS },
];

/// Parses an expression. Adds everything that is wrong with it to `problems`.
pub(super) fn parse(text: &str, problems: &mut FileProblems) -> Option<CronExpression> {
    let words = word_ranges(text);
    if let Some(word) = words.first().filter(|word| text[(*word).clone()].starts_with('@')) {
        let name = &text[word.clone()];
        let known = SHORTHANDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let help = known.map_or_else(five_fields_help, |(_, fields)| format!("write it as \"{fields}\""));
        problems
            .push(FileProblem::new("a cron expression has five fields").label(word.clone(), "a shorthand").help(help));
        return None;
    }
    if words.len() != FIELD_SPECS.len() {
        let count = words.len();
        let (span, label) = match words.get(FIELD_SPECS.len()) {
            Some(extra) => (extra.start..words[count - 1].end, format!("there are {count}")),
            None => (0..text.len(), format!("there {} {count}", if count == 1 { "is" } else { "are" })),
        };
        problems
            .push(FileProblem::new("a cron expression has five fields").label(span, label).help(five_fields_help()));
        return None;
    }
    let fields: Vec<_> =
        words.iter().zip(&FIELD_SPECS).map(|(span, kind)| parse_field(text, span.clone(), kind, problems)).collect();
    let fields: Option<Vec<CronField>> = fields.into_iter().collect();
    let [minute, hour, day, month, weekday]: [CronField; 5] = fields?.try_into().ok()?;
    let cron = CronExpression { minute, hour, day, month, weekday };
    cron.check_days(&words, problems)?;
    Some(cron)
}

fn five_fields_help() -> String {
    "give minute, hour, day of the month, month and day of the week, as in \"17 3 * * *\"".to_owned()
}

/// Returns the byte range of each word in a text.
fn word_ranges(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut at = 0;
    for piece in text.split([' ', '\t']) {
        if !piece.is_empty() {
            words.push(at..at + piece.len());
        }
        at += piece.len() + 1;
    }
    words
}

fn parse_field(text: &str, span: Range<usize>, kind: &CronFieldSpec, problems: &mut FileProblems) -> Option<CronField> {
    let word = &text[span.clone()];
    let mut allowed = [false; 64];
    let (mut at, mut sound) = (span.start, true);
    for piece in word.split(',') {
        match parse_values(piece, kind) {
            Ok(values) => values.for_each(|value| allowed[usize::from(value)] = true),
            Err((problem, label, help)) => {
                sound = false;
                let place = if piece.is_empty() { span.clone() } else { at..at + piece.len() };
                problems.push(FileProblem::new(problem).label(place, label).help(help));
            }
        }
        at += piece.len() + 1;
    }
    // 0 and 7 are both Sunday.
    if kind.max == 7 && allowed[7] {
        (allowed[0], allowed[7]) = (true, false);
    }
    let most = if kind.max == 7 { 6 } else { kind.max };
    let values: Vec<u8> = (kind.min..=most).filter(|value| allowed[usize::from(*value)]).collect();
    let all = values.len() == usize::from(most - kind.min) + 1;
    sound.then(|| CronField { text: word.to_owned(), values, all })
}

/// The title, the label and the help of a problem.
type CronProblem = (String, String, String);

/// Returns the values that one element of a list allows.
fn parse_values(
    piece: &str,
    kind: &CronFieldSpec,
) -> Result<std::iter::StepBy<std::ops::RangeInclusive<u8>>, CronProblem> {
    let name = kind.name;
    if piece.is_empty() {
        let title = format!("the {name} has an empty list item");
        return Err((title, "here".to_owned(), "add a value, or remove the comma".to_owned()));
    }
    let (range, step) = match piece.split_once('/') {
        None => (piece, 1),
        Some((range, step)) => {
            let found = parse_number(step).filter(|step| *step > 0 && *step <= kind.max - kind.min);
            let found = found.ok_or_else(|| {
                let most = kind.max - kind.min;
                (
                    format!("`{}` is not a valid step of the {name}", step.escape_debug()),
                    format!("from 1 to {most}"),
                    "a step is a number, as in */15".to_owned(),
                )
            })?;
            if range != "*" && !range.contains('-') {
                let help = format!("write it as {}-{}/{step}", range.escape_debug(), kind.max);
                return Err(("a step needs a range".to_owned(), "no range".to_owned(), help));
            }
            (range, found)
        }
    };
    let (first, last) = if range == "*" {
        (kind.min, if kind.max == 7 { 6 } else { kind.max })
    } else if let Some((first, last)) = range.split_once('-') {
        (parse_value(first, kind)?, parse_value(last, kind)?)
    } else {
        let only = parse_value(range, kind)?;
        (only, only)
    };
    if first > last {
        let title = format!("a range of the {name} ends before it starts");
        let help = format!("write two ranges: {first}-{most},{least}-{last}", most = kind.max, least = kind.min);
        return Err((title, "backwards".to_owned(), help));
    }
    Ok((first..=last).step_by(usize::from(step)))
}

fn parse_number(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn parse_value(text: &str, kind: &CronFieldSpec) -> Result<u8, CronProblem> {
    let by_name = kind.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let by_name = by_name.and_then(|place| u8::try_from(place).ok()).map(|place| place + kind.min);
    let found = by_name.or_else(|| parse_number(text)).filter(|value| (kind.min..=kind.max).contains(value));
    found.ok_or_else(|| {
        let or_names = match kind.names {
            [] => String::new(),
            [first, .., last] => format!(", or {first} to {last}"),
            [only] => format!(", or {only}"),
        };
        let CronFieldSpec { name, min: least, max: most, .. } = kind;
        (
            format!("`{}` is not a valid {name}", text.escape_debug()),
            format!("from {least} to {most}{or_names}"),
            "a field is *, a value, a range such as 1-5, a step such as */15, or a list of these with commas"
                .to_owned(),
        )
    })
}

impl CronExpression {
    /// Rejects expressions that never run, and those that cron implementations read differently.
    fn check_days(&self, words: &[Range<usize>], problems: &mut FileProblems) -> Option<()> {
        let Self { day, month, weekday, .. } = self;
        let longest = month.values.iter().map(|month| MONTH_LENGTHS[usize::from(*month) - 1]).max();
        if weekday.text == "*" && day.values.iter().all(|day| longest.is_some_and(|longest| *day > longest)) {
            problems.push(
                FileProblem::new("there is no such day")
                    .label(words[2].clone(), "too late for the month")
                    .label(words[3].clone(), "too short")
                    .help("the schedule would never run: choose a day that the month has"),
            );
            return None;
        }
        let begins = |field: &CronField| field.text.starts_with('*') && field.text != "*";
        if (begins(day) && weekday.text != "*") || (begins(weekday) && day.text != "*") {
            problems.push(
                FileProblem::new("cron implementations disagree about these days")
                    .label(words[2].clone(), "these")
                    .label(words[4].clone(), "together with these")
                    .help(
                        "set one of the two fields to *, or list the days: 1-31/2 instead of */2 matches either field",
                    ),
            );
            return None;
        }
        Some(())
    }

    /// Returns whether a day matches if either of its two fields does. Otherwise only one of them is restricted.
    fn matches_either_day(&self) -> bool {
        self.day.text != "*" && self.weekday.text != "*"
    }

    /// Returns the expression with one space between fields, and with Sunday as 0 because GitHub does not accept 7.
    pub(super) fn normalized(&self) -> String {
        let weekday = &self.weekday;
        let days = if weekday.text.contains('7') {
            weekday.values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
        } else {
            weekday.text.clone()
        };
        [&self.minute.text, &self.hour.text, &self.day.text, &self.month.text, &days].map(String::as_str).join(" ")
    }

    /// Returns the minimum number of minutes between two runs within an hour or across its end, at most 60.
    pub(super) fn min_interval_minutes(&self) -> u8 {
        let minutes = &self.minute.values;
        let within = minutes.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(60);
        // Runs can only follow each other across the end of an hour if the next hour is allowed as well.
        let next = |hour: &u8| self.hour.values.contains(&((hour + 1) % 24));
        let over = match (minutes.first(), minutes.last()) {
            (Some(first), Some(last)) if self.hour.values.iter().any(next) => first + 60 - last,
            _ => 60,
        };
        within.min(over)
    }
}

/// Describes when an expression runs.
pub(super) fn describe_times(cron: &CronExpression) -> String {
    let two = |value: Option<&u8>| format!("{:02}", value.copied().unwrap_or_default());
    let single = |field: &CronField| field.values.len() == 1;
    let every_day = cron.day.all && cron.month.all && cron.weekday.all;
    match (single(&cron.minute), single(&cron.hour)) {
        (true, true) => {
            let days = if every_day { "every day" } else { "on the given days" };
            format!("{days} at {}:{}", two(cron.hour.values.first()), two(cron.minute.values.first()))
        }
        (true, false) if cron.hour.all && every_day => {
            format!("every hour at minute {}", two(cron.minute.values.first()))
        }
        _ => "at the given times".to_owned(),
    }
}

/// Returns the calendar events of systemd of an expression. There are two if either of the two day fields may match.
pub(super) fn calendar_events(cron: &CronExpression) -> Vec<String> {
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
    format_ranges(&days, |day| CALENDAR_DAYS[usize::from(day % 7)].to_owned())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<CronExpression, Vec<String>> {
        let mut problems = FileProblems::new("--cron", text);
        let cron = parse(text, &mut problems);
        assert_eq!(cron.is_none(), problems.has_errors(), "{text}");
        cron.ok_or_else(|| problems.iter().map(|problem| problem.title().to_owned()).collect())
    }

    #[test]
    fn parses_values_names_lists_ranges_and_steps() {
        let cron = read("5,*/20 \t 1-3 1-31/10 jan,Mar-APR  MON-5,7").expect("an expression");
        assert_eq!(cron.minute.values, [0, 5, 20, 40]);
        assert_eq!(cron.hour.values, [1, 2, 3]);
        assert_eq!(cron.day.values, [1, 11, 21, 31]);
        assert_eq!(cron.month.values, [1, 3, 4]);
        assert_eq!(cron.weekday.values, [0, 1, 2, 3, 4, 5]);
        assert_eq!(cron.normalized(), "5,*/20 1-3 1-31/10 jan,Mar-APR 0,1,2,3,4,5");
        assert!(cron.matches_either_day());
        let daily = read("17 3 * * *").expect("an expression");
        assert!(
            daily.day.all && daily.month.all && daily.weekday.all && !daily.minute.all && !daily.matches_either_day()
        );
    }

    #[test]
    fn reports_all_problems_at_once() {
        let wrong = read("60 3-1 0 FOO */0").expect_err("nothing of it is right");
        assert_eq!(
            wrong,
            [
                "`60` is not a valid minute",
                "a range of the hour ends before it starts",
                "`0` is not a valid day of the month",
                "`FOO` is not a valid month",
                "`0` is not a valid step of the day of the week"
            ]
        );
        for (text, title) in [
            ("* * * *", "a cron expression has five fields"),
            ("", "a cron expression has five fields"),
            ("0 0 * * * *", "a cron expression has five fields"),
            ("@daily", "a cron expression has five fields"),
            ("1,,2 * * * *", "the minute has an empty list item"),
            ("5/10 * * * *", "a step needs a range"),
            ("*/60 * * * *", "`60` is not a valid step of the minute"),
            ("+5 * * * *", "`+5` is not a valid minute"),
            ("1- * * * *", "`` is not a valid minute"),
            ("999999999999 * * * *", "`999999999999` is not a valid minute"),
            ("* * L * *", "`L` is not a valid day of the month"),
            ("* * * * MON#1", "`MON#1` is not a valid day of the week"),
            ("* * ? * *", "`?` is not a valid day of the month"),
            ("0 0 30 2 *", "there is no such day"),
            ("0 0 31 4,6 *", "there is no such day"),
            ("0 0 */2 * MON", "cron implementations disagree about these days"),
            ("0 0 1 * */2", "cron implementations disagree about these days"),
        ] {
            assert_eq!(read(text).expect_err(text), [title], "{text}");
        }
        for text in ["0 0 29 2 *", "0 0 30 2 MON", "0 0 1-31/2 * MON", "0 0 * * */2", "0 0 * * 7"] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn min_interval_spans_the_end_of_an_hour() {
        let shortest = |text: &str| read(text).expect(text).min_interval_minutes();
        assert_eq!(shortest("*/15 * * * *"), 15);
        assert_eq!(shortest("1,58 * * * *"), 3);
        assert_eq!(shortest("1,58 3 * * *"), 57);
        assert_eq!(shortest("0 3 * * *"), 60);
    }

    proptest! {
        #[test]
        fn reports_junk_without_panicking(text in "[-0-9*/, @A-Z\u{e9}\t]{0,40}") {
            let mut problems = FileProblems::new("--cron", &text);
            let cron = parse(&text, &mut problems);
            prop_assert_eq!(cron.is_none(), problems.has_errors());
            for problem in problems.iter() {
                for (span, _) in problem.label_spans() {
                    prop_assert!(text.get(span.clone()).is_some(), "{text:?} {span:?}");
                }
            }
        }

        #[test]
        fn parses_written_out_values(
            minutes in proptest::collection::btree_set(0..60_u8, 1..60),
            hours in proptest::collection::btree_set(0..24_u8, 1..24),
            weekdays in proptest::collection::btree_set(0..7_u8, 1..7),
        ) {
            let list = |values: &std::collections::BTreeSet<u8>| {
                values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
            };
            let text = format!("{} {} * * {}", list(&minutes), list(&hours), list(&weekdays));
            let cron = read(&text).expect("an expression");
            prop_assert_eq!(cron.minute.values.iter().copied().collect::<std::collections::BTreeSet<_>>(), minutes);
            prop_assert_eq!(cron.hour.values.iter().copied().collect::<std::collections::BTreeSet<_>>(), hours);
            prop_assert_eq!(cron.weekday.values.iter().copied().collect::<std::collections::BTreeSet<_>>(), weekdays);
        }
    }

    fn events(text: &str) -> Vec<String> {
        let mut problems = FileProblems::new("--cron", text);
        calendar_events(&parse(text, &mut problems).expect("an expression"))
    }

    #[test]
    fn an_expression_becomes_calendar_events() {
        assert_eq!(events("17 3 * * *"), ["*-*-* 03:17:00"]);
        assert_eq!(events("*/15 * * * *"), ["*-*-* *:00,15,30,45:00"]);
        assert_eq!(events("0 9-17 * * MON-FRI"), ["Mon..Fri *-*-* 09..17:00:00"]);
        assert_eq!(events("0 0 * 1,6-8 SUN,sat,3"), ["Wed,Sat,Sun *-01,06..08-* 00:00:00"]);
        assert_eq!(events("0 0 * * 5-7"), ["Fri..Sun *-*-* 00:00:00"]);
        assert_eq!(events("0 0 1,15 * 1"), ["*-*-01,15 00:00:00", "Mon *-*-* 00:00:00"], "one of both");
        assert_eq!(events("* * * * *"), ["*-*-* *:*:00"]);
    }
}
