//! Plans, jobs, amounts and commands as they are shown to the user: the summary that `apply` shows before it asks for
//! confirmation, and its parts; the next command for a job; and commands that are quoted for the shell, with the flag
//! that finds the same jobs.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use batchplan_store::StoreConfig;
use batchplan_store::printable::affects_terminal;
use indicatif::HumanCount;
use jiff::Timestamp;

use super::exit::failed_before_start;
use crate::engine::{INCONCLUSIVE, reason_says};
use crate::estimate::{BilledQuantity, PriceUnit, UnitPrice};
use crate::hint::{Hint, ShownCommand};
use crate::job::JobStatus;
use crate::jobs::{JobPresence, may_retry_succeed};
use crate::journal::{FailureCode, JobFolder, JobRecord, JobSource, PauseCause, ReportDelivery};
use crate::manifest::{FileLocation, InventorySelector, ListedVersions, Manifest, ManifestSource, ReportRowFilter};
use crate::money::Currency;
use crate::operation::Operation;
use crate::paths::show_path;
use crate::plan::Plan;
use crate::report::{FinishedReport, MANIFEST_NAME};
use crate::report_format::{ReportFormat, ReportScope};

/// Returns the summary, with one line for each part of the plan.
pub(crate) fn summary(plan: &Plan, manifest: &Manifest, file: &str, rows: u64) -> String {
    let mut text = format!("{} ({})\n", plan.name, one_line(file));
    if let Some(description) = &plan.description {
        // Further lines start with a bar, so that none of them can pass for a line of the summary.
        let _ = writeln!(text, "{}", description.trim_end().replace('\n', "\n| "));
    }
    let _ = writeln!(text, "  store      {}", one_line(&describe_store(&plan.store)));
    let _ = writeln!(text, "  manifest   {} {}", format_objects(rows), one_line(&describe_source(&manifest.source)));
    for operation in &plan.operations {
        let label = if plan.undo_mode.is_some() { "undo of  " } else { "operation" };
        let _ = writeln!(text, "  {label}  {}", one_line(&describe_operation(operation)));
    }
    let _ = write!(text, "  report     {}", one_line(&describe_report(plan)));
    text
}

/// Returns a value on one line, so that no part of it can pass for a line of the summary.
pub(crate) fn one_line(value: &str) -> String {
    value.replace('\n', "\\n")
}

/// Formats a number of objects, such as `1 object` or `1,204 objects`.
pub(crate) fn format_objects(count: u64) -> String {
    format!("{} object{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// Formats an instant in UTC, to the second.
pub(crate) fn format_instant(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns a path relative to the current folder if it is below it.
pub(crate) fn relative_path(path: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

/// Describes a store.
pub(crate) fn describe_store(store: &StoreConfig) -> String {
    let place = match (store.environment_endpoint(), &store.endpoint, &store.data, &store.region) {
        (Some(endpoint), ..) => format!("{} (from {})", endpoint.url, endpoint.setting),
        (None, Some(endpoint), _, _) => endpoint.clone(),
        (None, None, Some(data), _) => show_path(relative_path(data)).to_string(),
        (None, None, None, Some(region)) => region.clone(),
        (None, None, None, None) => match &store.aws_endpoints.region {
            Some(region) => format!("{} (from {})", region.name, region.setting),
            None => "the environment's region".to_owned(),
        },
    };
    let settings = &store.aws_endpoints;
    let variants = [("FIPS", &settings.fips), ("dual-stack", &settings.dual_stack)];
    let own = store.reads_aws_endpoints() && store.effective_endpoint().is_none();
    let variants = variants.into_iter().filter_map(|(name, setting)| Some((name, setting.as_ref().filter(|_| own)?)));
    let variants: Vec<_> = variants.map(|(name, setting)| format!(", {name} endpoint (from {setting})")).collect();
    let variants = variants.concat();
    let role = store.role_arn.as_ref().map_or_else(String::new, |role| {
        let sts = settings.sts.as_ref().filter(|_| store.reads_aws_endpoints());
        let sts = sts.map_or_else(String::new, |sts| format!(" of the STS at {} (from {})", sts.url, sts.setting));
        format!(", in the role {role}{sts}")
    });
    let payer = if store.requester_pays { ", requester pays" } else { "" };
    format!("{}, {place}{variants}{role}{payer}", store.provider.as_str())
}

/// Describes how many objects of a job are in doubt, if any.
pub(crate) fn describe_doubt(job: &JobRecord) -> Option<String> {
    let may = "may have been changed without being in the report";
    (job.in_doubt > 0).then(|| format!("{} {may}", format_objects(job.in_doubt)))
}

/// Describes where objects come from, in words that follow their number.
pub(crate) fn describe_source(source: &ManifestSource) -> String {
    match source {
        ManifestSource::Prefix { bucket, prefix, versions, .. } => {
            let versions = if *versions == ListedVersions::All { ", all versions" } else { "" };
            format!("below {bucket}/{prefix}{versions}")
        }
        ManifestSource::Csv { location: place, .. } => format!("in {}", describe_file(place)),
        ManifestSource::Inventory {
            bucket,
            selector: InventorySelector::Exact { key, .. } | InventorySelector::Distinct { key, .. },
            ..
        } => {
            format!("in the inventory {bucket}/{key}")
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Changed(changes), .. } => {
            format!("changed in the inventory {bucket}/{}", changes.key)
        }
        ManifestSource::Inventory { bucket, selector: InventorySelector::Latest { prefix }, .. } => {
            format!("in the latest inventory below {bucket}/{prefix}")
        }
        ManifestSource::Report { location: place, row_filter } => {
            format!("that failed{} in the report {}", describe_row_filter(row_filter), describe_file(place))
        }
        ManifestSource::Retry { unfinished: None, .. } => "that failed in the first job".to_owned(),
        ManifestSource::Retry { unfinished: Some(_), .. } => {
            "that failed or were not attempted in the first job".to_owned()
        }
        ManifestSource::Succeeded { .. } => "that the job reported as succeeded".to_owned(),
        ManifestSource::Undo(_) => "that the job changed".to_owned(),
    }
}

fn describe_file(place: &FileLocation) -> String {
    match place {
        FileLocation::Local(path) => show_path(relative_path(path)).to_string(),
        FileLocation::Object { bucket, key, .. } => format!("{bucket}/{key}"),
    }
}

/// Describes which failures of a report are selected. Returns an empty string for all of them.
fn describe_row_filter(filter: &ReportRowFilter) -> String {
    let statuses = filter.status.iter().flatten().map(u16::to_string).collect::<Vec<_>>();
    let codes = filter.code.iter().flatten().cloned().collect::<Vec<_>>();
    let conditions = [statuses.join(" or "), codes.join(" or ")];
    let conditions: Vec<_> = conditions.into_iter().filter(|condition| !condition.is_empty()).collect();
    if conditions.is_empty() { String::new() } else { format!(" with {}", conditions.join(" and ")) }
}

/// Describes an operation.
pub(crate) fn describe_operation(operation: &Operation) -> String {
    format!("{}  {}", operation.name(), operation.details().summary)
}

/// Describes where a plan's report goes.
pub(crate) fn describe_report(plan: &Plan) -> String {
    let spec = &plan.report;
    let scope = match spec.scope {
        ReportScope::AllTasks => "all tasks",
        ReportScope::FailedTasksOnly => "failed tasks only",
    };
    let format = match spec.format {
        ReportFormat::Oss => "OSS format",
        ReportFormat::Aws => "AWS format",
    };
    let place = match &spec.location {
        Some(place) => format!("{}://{}/{}", plan.store.provider.profile().url_scheme, place.bucket, place.prefix),
        None => "local only".to_owned(),
    };
    format!("{place} ({scope}, {format})")
}

/// Formats a quantity that is billed.
pub(crate) fn format_quantity(quantity: BilledQuantity) -> String {
    match quantity {
        BilledQuantity::Requests(count) | BilledQuantity::Objects(count) | BilledQuantity::Jobs(count) => {
            HumanCount(count).to_string()
        }
        BilledQuantity::Bytes(bytes) => format_gigabytes(bytes),
        BilledQuantity::Stored { bytes, days } => {
            format!("{} for {days} day{}", format_gigabytes(bytes), if days == 1 { "" } else { "s" })
        }
    }
}

/// Formats a size in GB of 2^30 bytes, as it is billed. A size that rounds to 0.00 GB is shown in bytes.
fn format_gigabytes(bytes: u128) -> String {
    const GB: u128 = 1 << 30;
    let hundredths = (bytes * 100 + GB / 2) / GB;
    if hundredths == 0 {
        return format!("{} bytes", HumanCount(u64::try_from(bytes).unwrap_or(u64::MAX)));
    }
    let whole = u64::try_from(hundredths / 100).unwrap_or(u64::MAX);
    format!("{}.{:02} GB", HumanCount(whole), hundredths % 100)
}

/// Formats a price, such as `0.005 USD per 1,000`.
pub(crate) fn format_price(price: &UnitPrice, currency: Currency) -> String {
    let unit = match price.unit() {
        PriceUnit::Each(1) => "each".to_owned(),
        PriceUnit::Each(count) => format!("per {}", HumanCount(u64::from(count))),
        unit => format!("per {unit}"),
    };
    format!("{} {unit}", price.amount(currency))
}

/// Formats a duration, such as `2 h 5 min` or `40 s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes, seconds) if minutes < 10 => format!("{minutes} min {seconds} s"),
        (0, 0, minutes, _) => format!("{minutes} min"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{} d {hours} h", HumanCount(days)),
    }
}

/// Formats a number of objects per second, such as `703/s` or `0.4/s`.
pub(crate) fn format_rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 {
        return format!("{:.1}/s", rate.max(0.1));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
    let rounded = rate.round() as u64;
    format!("{}/s", HumanCount(rounded))
}

/// Quotes a word for the shell if it contains a character that the shell would interpret. Bytes that are not UTF-8, and
/// characters that affect a terminal, are written as octal numbers, in the form `$'...'` of bash, ksh, zsh and
/// POSIX.1-2024: hexadecimal ones have no maximum length in all shells. So are quotes and backslashes: a shell without
/// this form, such as dash, takes `$'` for a dollar sign and an ordinary quoted word, which the next `'` ends.
pub(crate) fn quote(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_encoded_bytes();
    let plain = |c: char| c.is_alphanumeric() || "_-./=:@%+,".contains(c);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(plain) => return text.to_owned(),
        Ok(text) if !text.contains(affects_terminal) => return format!("'{}'", text.replace('\'', r"'\''")),
        _ => {}
    }
    let mut quoted = "$'".to_owned();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if affects_terminal(c) || matches!(c, '\'' | '\\') => {
                    push_octal(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                c => quoted.push(c),
            }
        }
        push_octal(&mut quoted, chunk.invalid());
    }
    quoted.push('\'');
    quoted
}

fn push_octal(quoted: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(quoted, "\\{byte:03o}");
    }
}

/// Quotes a path for the shell.
pub(crate) fn quote_path(path: &Path) -> String {
    quote(path)
}

/// Returns the next command for a job, or `None` if there is none that would work. `flag` is the ` --state` flag it
/// needs, or empty. `failures` are the error codes of the objects that failed in it.
pub(crate) fn next_command<'a>(
    job: &JobRecord,
    presence: &JobPresence,
    failures: impl IntoIterator<Item = &'a FailureCode>,
    folder: &JobFolder,
    flag: &str,
) -> Option<String> {
    use JobStatus::{
        Active, Cancelled, Cancelling, Cleaned, Cleaning, Complete, Failed, Failing, New, Paused, Pausing, Preparing,
        Ready, Suspended,
    };
    let command = |name: &str| Some(format!("batchplan {name} {}{flag}", job.id));
    let held = matches!(presence, JobPresence::HeldBy(_));
    match job.status {
        Complete | Cancelled | Failed if job.report_delivery == ReportDelivery::Due => command("publish"),
        Complete if job.progress.failed > 0 => may_retry_succeed(job, failures).then(|| command("retry"))?,
        // There is no complete manifest, so there is nothing to retry.
        Failed if failed_before_start(job) => repeat_command(job, flag),
        Cancelled | Failed if job.progress.failed + job.progress.remaining() > 0 => {
            may_retry_succeed(job, failures).then(|| command("retry"))?
        }
        Complete | Cancelled | Failed => {
            // A report of failures only lists no file if there are none.
            let report = folder.report_folder();
            let lists_files = FinishedReport::load(&report).is_ok_and(|report| !report.segments().is_empty());
            let listing = report.join(MANIFEST_NAME);
            (lists_files && listing.exists()).then(|| format!("cat {}", quote_path(&listing)))
        }
        Suspended => command("confirm"),
        Ready if !held => Some(format!("batchplan run{flag}")),
        New | Preparing | Ready | Active | Pausing | Cancelling | Failing if held => {
            command("show").map(|command| format!("{command} --watch"))
        }
        // Resuming would be refused, or would find the server unchanged, unless the check was inconclusive.
        Paused if job.pause_cause == Some(PauseCause::Server) => {
            let unclear = job.reason.as_ref().is_some_and(|why| reason_says(why, INCONCLUSIVE));
            command(if unclear { "resume" } else { "cancel" })
        }
        New | Preparing | Ready | Active | Pausing | Paused | Cancelling | Failing => command("resume"),
        Cleaning | Cleaned => None,
    }
}

/// Returns the command that does again what created a job whose manifest could not be read. Returns `None` for a saved
/// plan, because only its plan file is known, and for a retry from a report.
fn repeat_command(job: &JobRecord, flag: &str) -> Option<String> {
    match &job.source {
        JobSource::Plan if job.manifest_fingerprint.is_none() => {
            Some(format!("batchplan apply {}{flag}", quote_path(relative_path(&job.plan_file))))
        }
        JobSource::Retry { of, .. } => Some(format!("batchplan retry {of}{flag}")),
        JobSource::Undo(undo) => Some(format!("batchplan undo {}{flag}", undo.of)),
        JobSource::Plan | JobSource::Report(_) => None,
    }
}

/// Returns the text of a hint. `flag` is the ` --state` flag that its commands need to find the same jobs, or empty; it
/// is added to each command that accepts it.
pub(crate) fn render_hint(hint: &Hint, flag: &str) -> String {
    hint.render(|command| render_command(command, flag))
}

fn render_command(command: &ShownCommand, flag: &str) -> String {
    let flag = if command.accepts_state() { flag } else { "" };
    let mut words = vec![format!("batchplan {}{flag}", command.name())];
    words.extend(command.args().iter().map(quote));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use batchplan_store::object::TagSet;

    use super::*;
    use crate::hint::{command, hint};
    use crate::job::JobId;
    use crate::jobs::JobError;
    use crate::journal::JournalError;
    use crate::remote::RemoteError;

    #[test]
    fn values_stay_on_one_line() {
        let tags: TagSet = [("a", "x\n  operation  none")].into_iter().collect();
        let described = one_line(&describe_operation(&Operation::PutTagging(tags)));
        assert_eq!(described, r"put_object_tagging  a=x\n  operation  none");
    }

    #[test]
    fn quotes_words_for_the_shell() {
        assert_eq!(quote("plans/tag-2024.toml"), "plans/tag-2024.toml");
        assert_eq!(quote("my plan.toml"), "'my plan.toml'");
        assert_eq!(quote("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a'b\\\n\u{202e}"), r"$'a\047b\134\012\342\200\256'");
    }

    #[cfg(unix)]
    #[test]
    fn the_shell_reads_a_quoted_word_as_what_it_was() {
        use std::os::unix::ffi::OsStrExt as _;

        for word in [&b"a b"[..], b"st\xff1ate", b"it's\\ \x01\x80", "größe\n7".as_bytes(), b"$HOME `x`\xc3"] {
            let quoted = quote(OsStr::from_bytes(word));
            let output = std::process::Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output();
            assert_eq!(output.expect("it runs").stdout, word, "{quoted}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_quoted_word_is_one_inert_word_in_every_shell() {
        use std::os::unix::ffi::OsStrExt as _;

        let words =
            [&b"\x01';echo hush;'"[..], b"\x01\\';echo hush #", b"it's \xff$(echo hush)`echo hush`\n;echo hush"];
        for shell in ["sh", "dash", "bash"] {
            for word in words {
                let quoted = quote(OsStr::from_bytes(word));
                let script = format!("set -- {quoted}; echo $#");
                let output = std::process::Command::new(shell).args(["-c", &script]).output();
                // Not every system has dash.
                let Ok(output) = output else { continue };
                assert_eq!(output.stdout, b"1\n", "{shell}: {quoted}");
            }
        }
    }

    #[test]
    fn shown_commands_get_the_state_flag() {
        let rendered = |hint: Hint| render_hint(&hint, " --state 'my dir'");
        assert_eq!(
            rendered(hint!("{}; or {}", command!("show", "A"), command!("run"))),
            "batchplan show --state 'my dir' A; or batchplan run --state 'my dir'"
        );
        assert_eq!(
            rendered(hint!("if so: {}", command!("state unlock", "--auto-approve"))),
            "if so: batchplan state unlock --state 'my dir' --auto-approve"
        );
        assert_eq!(
            rendered(hint!("use {}, or the batchplan that made it", command!("validate", "plan.toml"))),
            "use batchplan validate plan.toml, or the batchplan that made it"
        );
        assert_eq!(render_hint(&command!("show", "A").into(), ""), "batchplan show A");
    }

    #[test]
    fn texts_get_no_state_flag() {
        for text in ["batchplan publish A --state 'my dir'", "`t`: `batchplan run` is now `batchplan list`"] {
            assert_eq!(render_hint(&text.into(), " --state other"), text);
        }
    }

    #[test]
    fn arguments_of_shown_commands_are_quoted() {
        let hint = hint!("apply its plan again: {}", command!("apply", "my plan.toml"));
        assert_eq!(render_hint(&hint, " --state x"), "apply its plan again: batchplan apply --state x 'my plan.toml'");
    }

    #[test]
    fn hints_of_errors_are_shown_with_the_state() {
        let shown = |help: Option<Hint>| render_hint(&help.expect("a hint"), " --state x");
        assert_eq!(
            shown(JournalError::NoSuchJob("A".to_owned()).help()),
            "list the jobs with batchplan list --state x; to use another state, set --state or BATCHPLAN_STATE"
        );
        assert_eq!(
            shown(JournalError::QueueFull(3).help()),
            "batchplan run --state x runs them; batchplan cancel --state x JOB cancels one"
        );
        assert_eq!(
            shown(RemoteError::Diverged("it".to_owned()).help()),
            "batchplan state show --state x shows the state in the bucket; batchplan state push --state x --force replaces \
             it with this machine's copy"
        );
        let job = JobId::random();
        let changed = JobError::PlanChanged { job: job.clone(), changes: Vec::new(), token: false, running: false };
        assert_eq!(
            shown(changed.help()),
            format!(
                "resume with the stored plan (batchplan resume --state x {job} --stored-plan), cancel the job (batchplan \
                 cancel --state x {job}), or leave it and create another one (batchplan apply --state x PLAN --new)"
            )
        );
    }

    #[test]
    fn formats_durations_in_two_units() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (120, "2 min"), (125, "2 min 5 s"), (1199, "19 min"), (7500, "2 h 5 min")];
        for (seconds, text) in cases {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_duration(Duration::from_hours(25)), "1 d 1 h");
    }

    #[test]
    fn formats_rates() {
        let cases =
            [(0.0, "0/s"), (0.01, "0.1/s"), (0.44, "0.4/s"), (9.94, "9.9/s"), (9.96, "10/s"), (28_717.4, "28,717/s")];
        for (rate, text) in cases {
            assert_eq!(format_rate(rate), text);
        }
    }

    #[test]
    fn formats_billed_sizes() {
        assert_eq!(format_quantity(BilledQuantity::Bytes(1 << 30)), "1.00 GB");
        assert_eq!(format_quantity(BilledQuantity::Bytes(1000)), "1,000 bytes");
        assert_eq!(format_quantity(BilledQuantity::Stored { bytes: 5 << 40, days: 1 }), "5,120.00 GB for 1 day");
    }
}
