//! Errors and warnings of manifests, with messages that tell the user what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use batchplan_store::error::{
    SIGNATURE_HINT, hint, hint_without_job, is_about_signature, is_web_page, names_another_location,
};
use batchplan_store::object::{BucketName, ObjectKey};
use batchplan_store::task::{FaultClass, StoreError};
use thiserror::Error;

use crate::open_files;
use crate::paths::show_path;
use crate::thousands::Thousands;
pub(crate) use crate::thousands::counted;

/// How the description of a request for a listing begins.
const LISTING: &str = "list ";

/// The maximum number of bad rows that an error shows; all of them are counted.
pub(crate) const MAX_SHOWN_ROWS: usize = 20;

/// A row that names no valid object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The row number, counted in CSV records from 1.
    pub row: u64,
    /// The number of the line that the row starts on, from 1. Differs from `row` after a quoted field with a line
    /// break.
    pub line: u64,
    /// The reason, as shown to the user.
    pub why: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.row == self.line {
            write!(f, "row {}: {}", self.row, self.why)
        } else {
            write!(f, "row {} (line {}): {}", self.row, self.line, self.why)
        }
    }
}

/// An object in a listing that no request can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlistableKey {
    /// The number of the entry, counted from 1 in the order in which the entries arrived. Several workers list a large
    /// prefix at once.
    pub entry: u64,
    /// The key as far as it is known, safe to print.
    pub key: String,
    /// The reason, as shown to the user.
    pub why: String,
}

/// A problem with a manifest that does not prevent its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestWarning {
    /// What is wrong, and where.
    pub message: String,
    /// What the user can do about it.
    pub help: String,
}

impl fmt::Display for ManifestWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a manifest cannot be frozen or read. No object has been changed when one of these is returned.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The stop token was cancelled.
    #[error("stopped before the end of the manifest")]
    Stopped,
    /// The source does not have the `ETag` that the plan pins.
    #[error("{place} has changed: the plan expects ETag {wanted}, {}", found_etag(found.as_deref()))]
    Changed {
        /// The name of the file.
        place: String,
        /// The `ETag` in the plan.
        wanted: String,
        /// The current `ETag`, if the server sent one.
        found: Option<String>,
    },
    /// A request to the store failed. Transient errors have been retried.
    #[error("cannot {doing}: {fault}")]
    Store {
        /// The request, as a verb with its object.
        doing: String,
        /// The error that the store returned.
        fault: Box<StoreError>,
    },
    /// Reading the source failed.
    #[error("cannot read {place}: {cause}")]
    Read {
        /// The name of the file.
        place: String,
        /// The underlying error.
        cause: io::Error,
    },
    /// A file in the job's folder cannot be written or read.
    #[error("{}", disk(doing, path, cause))]
    Disk {
        /// The operation, as a verb.
        doing: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The underlying error.
        cause: io::Error,
    },
    /// The frozen manifest would exceed `max_disk`.
    #[error(
        "the frozen manifest exceeds max_disk ({} bytes): its first {} take {} bytes",
        Thousands(*limit),
        counted(*rows, "object"),
        Thousands(*used)
    )]
    TooLarge {
        /// The size of the parts so far, in bytes.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
        /// The number of objects in those parts.
        rows: u64,
    },
    /// The frozen manifest of an inventory would probably exceed `max_disk`. Returned before any data file is read.
    #[error(
        "freezing {place} may exceed max_disk ({} bytes): its data files have {} bytes",
        Thousands(*limit),
        Thousands(*estimate)
    )]
    ProbablyTooLarge {
        /// The name of the inventory's `manifest.json`.
        place: String,
        /// The total size of the data files, in bytes.
        estimate: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// There is not enough room for a data file that must be on disk while it is read.
    #[error(
        "reading {place} would exceed max_disk ({} bytes): its temporary copy takes {} bytes, and the frozen manifest {} \
         bytes",
        Thousands(*limit),
        Thousands(*size),
        Thousands(*used)
    )]
    NoRoomForDataFile {
        /// The name of the data file.
        place: String,
        /// The size of the data file, in bytes.
        size: u64,
        /// The size of the frozen names so far, in bytes.
        used: u64,
        /// The limit for both together, in bytes.
        limit: u64,
    },
    /// Comparing two inventories would exceed `max_disk`.
    #[error(
        "comparing the inventories exceeds max_disk ({} bytes): their first {} take {} bytes",
        Thousands(*limit),
        counted(*rows, "row"),
        Thousands(*used)
    )]
    ComparisonTooLarge {
        /// The size of the sort files so far, in bytes.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
        /// The number of rows in those files.
        rows: u64,
    },
    /// The manifest has more objects than `max_objects`.
    #[error("{}", too_many_objects(*limit, *found))]
    TooManyObjects {
        /// The limit.
        limit: u64,
        /// The number of objects in the manifest; `None` if counting stopped at the limit.
        found: Option<u64>,
    },
    /// The source has rows that name no valid object.
    #[error("{}", bad_rows(place, *total, first))]
    BadRows {
        /// The name of the file.
        place: String,
        /// The number of bad rows.
        total: u64,
        /// The first bad rows, at most twenty.
        first: Vec<BadRow>,
    },
    /// A listing has objects that no request can name.
    #[error("{}", unlistable_keys(place, *total, first))]
    UnlistableKeys {
        /// Bucket and prefix.
        place: String,
        /// The number of such objects.
        total: u64,
        /// The first of them, at most twenty: the number of the entry in the listing, the key as far as it is known,
        /// and the reason.
        first: Vec<UnlistableKey>,
    },
    /// The source as a whole has the wrong format.
    #[error("{place}: {what}")]
    Malformed {
        /// The name of the file.
        place: String,
        /// What is wrong, with the row number if there is one.
        what: String,
        /// How to fix it.
        help: String,
    },
    /// A CSV manifest names no object at all.
    #[error("{place} contains no objects")]
    Empty {
        /// The name of the file.
        place: String,
    },
    /// The filter needs a fact that the source does not report.
    #[error("{what}")]
    MissingFact {
        /// The condition and the missing fact.
        what: String,
        /// How to get that fact.
        help: String,
    },
    /// The server's listing is inconsistent.
    #[error("the listing of {place} is inconsistent: {what}")]
    InconsistentListing {
        /// Bucket and prefix.
        place: String,
        /// What is wrong with the listing.
        what: String,
        /// What to use instead of this listing.
        help: &'static str,
    },
    /// A file of the frozen manifest is missing.
    #[error("{} is missing: the frozen manifest is incomplete", show_path(file))]
    Missing {
        /// The path of the file.
        file: PathBuf,
    },
    /// A newer batchplan wrote a file of the frozen manifest.
    #[error(
        "{} was written by a newer batchplan: it has format {found}; this batchplan supports formats up to {known}",
        show_path(file)
    )]
    NewerFormat {
        /// The path of the file.
        file: PathBuf,
        /// The format version of the file.
        found: u32,
        /// The newest format version that this program knows.
        known: u32,
    },
    /// A file of the frozen manifest is damaged.
    #[error("{} is damaged: {what}", show_path(file))]
    Corrupt {
        /// The path of the file.
        file: PathBuf,
        /// What is wrong with the file.
        what: String,
    },
}

impl ManifestError {
    /// Returns the error of the store, if it caused this error.
    #[must_use]
    pub fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store { fault, .. } => Some(fault),
            Self::Read { cause, .. } => cause.get_ref()?.downcast_ref::<ResumeReadError>().map(|broken| &broken.fault),
            _ => None,
        }
    }

    /// Returns whether the store rejected the credentials, and may accept other ones.
    pub(crate) fn needs_other_credentials(&self) -> bool {
        self.fault().is_some_and(|fault| fault.class == FaultClass::Credentials && !is_about_signature(&fault.code))
    }

    /// Returns whether the store could not be read for a reason that is not about the source: the network, the server, the
    /// credentials, or the region and the endpoint, which the environment may set.
    pub(crate) fn is_about_access(&self) -> bool {
        self.fault().is_some_and(|fault| {
            fault.class == FaultClass::Credentials
                || fault.is_retryable()
                || fault.is_redirect()
                || names_another_location(fault)
        })
    }

    /// Returns one line that says what to do about the error.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Changed { .. } => {
                "check the file, then set `etag` in the plan to the current ETag, or remove `etag`".to_owned()
            }
            Self::Store { doing, fault } => return store_help(doing, fault),
            Self::Read { cause, .. } => match self.fault() {
                Some(fault) => return store_help("read", fault),
                None => read_help(cause)?.to_owned(),
            },
            Self::BadRows { first, .. } if first.iter().all(|bad| bad.why == field_count_problem(2, 1)) => {
                "each row needs a bucket and a key: sed 's/^/my-bucket,/' keys.txt > objects.csv".to_owned()
            }
            Self::BadRows { .. } => "nothing was changed; fix these rows and run the same command again".to_owned(),
            Self::UnlistableKeys { .. } => {
                "nothing was changed; set `on_unlistable = \"report\"` in [manifest.prefix] to process all other objects \
                 and report these as failed, or use [manifest.inventory]"
                    .to_owned()
            }
            Self::Malformed { help, .. } | Self::MissingFact { help, .. } => help.clone(),
            Self::Empty { .. } => {
                "check the plan's [manifest], and the program that wrote the file".to_owned()
            }
            Self::InconsistentListing { help, .. } => format!("this is a fault of the server; {help}"),
            Self::Missing { .. } | Self::Corrupt { .. } => {
                "restore the file from a backup, or apply the plan with --new to start over in a new job"
                    .to_owned()
            }
            Self::NewerFormat { .. } => "update batchplan, and run the same command again".to_owned(),
            Self::TooLarge { .. }
            | Self::ProbablyTooLarge { .. }
            | Self::NoRoomForDataFile { .. }
            | Self::ComparisonTooLarge { .. }
            | Self::TooManyObjects { .. } => self.limit_help().to_owned(),
            Self::Disk { path, cause, .. } if *path == tempfile::env::temp_dir() && !is_no_room(cause) => {
                "nothing was changed; set TMPDIR to a writable folder for temporary files"
                    .to_owned()
            }
            Self::Disk { cause, .. } => disk_help(cause).to_owned(),
            Self::Stopped => return None,
        })
    }

    /// Returns the help for a limit of the plan that was exceeded.
    fn limit_help(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits] to resume preparing from the last \
                 checkpoint, or narrow the filter"
            }
            Self::ProbablyTooLarge { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits]: the frozen manifest is usually smaller \
                 than the data files"
            }
            Self::NoRoomForDataFile { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits] to resume preparing from the last \
                 checkpoint"
            }
            Self::ComparisonTooLarge { .. } => {
                "nothing was changed; raise `max_disk` in the plan's [limits] and run the same command again: the \
                 space is freed before the first object is changed"
            }
            Self::TooManyObjects { .. } => {
                "nothing was changed; if the number is right, raise `max_objects` in the plan's [limits] to resume \
                 preparing; otherwise narrow the filter"
            }
            _ => "",
        }
    }

    /// Returns the error of the store if a request was refused, and whether the request was a listing (not a read).
    #[must_use]
    pub fn refused_request(&self) -> Option<(&StoreError, bool)> {
        match self {
            Self::Store { doing, fault } => Some((fault, doing.starts_with(LISTING))),
            _ => None,
        }
    }

    /// Returns whether another attempt may succeed, so that the files of this attempt are kept.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Stopped
            | Self::Store { .. }
            | Self::Read { .. }
            | Self::Disk { .. }
            | Self::TooLarge { .. }
            | Self::NoRoomForDataFile { .. }
            | Self::TooManyObjects { .. } => true,
            Self::Changed { .. }
            | Self::ProbablyTooLarge { .. }
            | Self::ComparisonTooLarge { .. }
            | Self::BadRows { .. }
            | Self::UnlistableKeys { .. }
            | Self::Malformed { .. }
            | Self::Empty { .. }
            | Self::MissingFact { .. }
            | Self::InconsistentListing { .. }
            | Self::Missing { .. }
            | Self::NewerFormat { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// Creates the error for a part that cannot be opened.
    pub(crate) fn unopened_part(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing { file: path.to_owned() },
            _ => Self::disk("open", path, cause),
        }
    }

    pub(crate) fn disk(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Disk { doing, path: path.to_owned(), cause }
    }

    pub(crate) fn corrupt(file: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), what: what.into() }
    }

    pub(crate) fn malformed(place: &str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Malformed { place: place.to_owned(), what: what.into(), help: help.into() }
    }
}

/// Returns the problem of a row of a CSV manifest with too few or too many fields.
pub(super) fn field_count_problem(expected: usize, found: usize) -> String {
    format!("expected {expected} fields, found {found}")
}

/// Returns what to do about a request that the store did not answer as it should. `doing` is the request, as a verb with
/// its object. Returns `None` if nothing is known that the message does not say.
fn store_help(doing: &str, fault: &StoreError) -> Option<String> {
    let code = fault.code.as_str();
    Some(match (fault.class, fault.status) {
        // The message says what to do.
        _ if code == "UnknownHost" => unknown_host_help(&fault.request_line),
        _ if fault.needs_correction() && code != "ProxyRefused" => return None,
        _ if code == "ProxyAuthenticationRequired" => return None,
        _ if fault.needs_correction() => hint(code, fault.status)?.to_owned(),
        _ if is_web_page(fault) => {
            "check HTTPS_PROXY and NO_PROXY, and that `endpoint` in [store] is the store's URL".to_owned()
        }
        (FaultClass::Credentials, _) if is_about_signature(code) => SIGNATURE_HINT.to_owned(),
        // The caller adds the command, if there is a job.
        (FaultClass::Credentials, status) => hint_without_job(code, status)?,
        (FaultClass::Throttled, _) => {
            "the store throttles the requests: run the same command again later, or lower `concurrency` in [limits]"
                .to_owned()
        }
        (_, Some(404)) if code == "NoSuchBucket" || doing.starts_with(LISTING) => format!(
            "check `bucket` in the plan's [manifest], and `endpoint` and `region` in [store] or the environment{}",
            destination(&fault.request_line)
        ),
        (_, Some(404)) => "check the bucket and the key in the plan's [manifest]".to_owned(),
        (_, Some(403)) => "grant the credentials permission to list the bucket and read the object".to_owned(),
        (_, Some(500..=599)) if !fault.is_unsupported() => {
            "the server failed: run the same command again later".to_owned()
        }
        (_, Some(_)) if fault.is_redirect() || fault.is_unsupported() || is_unusable_answer(code) => {
            hint(code, fault.status)?.to_owned()
        }
        (_, None) if fault.message.contains(" through the proxy ") => {
            "check HTTPS_PROXY and NO_PROXY, and that the proxy allows connections to this host".to_owned()
        }
        (_, None) if matches!(code, "ConnectionError" | "RequestTimeout") => {
            "check the network and `endpoint` in [store], then run the same command again".to_owned()
        }
        _ => return None,
    })
}

/// Returns whether this is the client's own code for a response that is no listing and no object.
fn is_unusable_answer(code: &str) -> bool {
    matches!(code, "UnexpectedDocument" | "InvalidListing")
}

/// Returns what to do about a host that does not exist. A host of AWS has the name of the region in it.
fn unknown_host_help(request_line: &str) -> String {
    let url = request_line.split_whitespace().nth(1).unwrap_or_default();
    let host = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', ':']).next().unwrap_or_default());
    let labels: Vec<_> = host.split('.').collect();
    let region = match labels.iter().position(|label| *label == "amazonaws") {
        Some(at @ 1..) => Some(labels[at - 1]).filter(|label| label.contains('-') && !label.starts_with("s3")),
        _ => labels.first().and_then(|label| label.strip_prefix("oss-")),
    };
    match region {
        Some(region) => {
            format!("check the region `{region}` in [store] or the environment: there is no host {host}")
        }
        None => format!("check `endpoint` in [store]: there is no host {host}"),
    }
}

/// Returns where a request went, for the end of a help text.
fn destination(request_line: &str) -> String {
    let url = request_line.split_whitespace().nth(1).unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            format!(" (the request went to {scheme}://{})", rest.split(['/', '?']).next().unwrap_or_default())
        }
        None => String::new(),
    }
}

/// Returns what to do about a file that cannot be read.
fn read_help(cause: &io::Error) -> Option<&'static str> {
    match cause.kind() {
        io::ErrorKind::NotFound => Some("check the path in the plan's [manifest]"),
        io::ErrorKind::PermissionDenied => Some("change the file's permissions, so that you may read it"),
        io::ErrorKind::TimedOut => Some("nothing was changed; run the same command again"),
        _ => None,
    }
}

/// Formats the name of an object for messages.
pub(crate) fn object_path(bucket: &BucketName, key: &ObjectKey) -> String {
    format!("{bucket}/{key}")
}

/// The error that broke a body off, and the reason why reading could not resume.
#[derive(Debug, Error)]
#[error("{why}; resuming failed too: {fault}")]
pub(crate) struct ResumeReadError {
    pub(crate) why: io::Error,
    pub(crate) fault: StoreError,
}

/// The number of bad rows after which reading stops: such a file is not a manifest, and a small gzip file may hold
/// billions of bad rows.
pub(crate) const MAX_BAD_ROWS: u64 = 100_000;

/// Returns whether the disk is full, or a quota or a file size limit is reached.
fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn disk_help(cause: &io::Error) -> &'static str {
    if is_no_room(cause) {
        "nothing was changed; free space there, and preparing resumes from the last checkpoint"
    } else if open_files::is_exhausted(cause) {
        open_files::HELP
    } else {
        "nothing was changed; check the disk and run the same command again"
    }
}

fn disk(doing: &str, path: &Path, cause: &io::Error) -> String {
    let full = if is_no_room(cause) { "no space left on the disk: " } else { "" };
    format!("{full}cannot {doing} {}: {cause}", show_path(path))
}

fn too_many_objects(limit: u64, found: Option<u64>) -> String {
    match found {
        Some(found) => {
            format!("the manifest names {}, but max_objects is {}", counted(found, "object"), Thousands(limit))
        }
        None => format!("the manifest names more objects than max_objects ({})", Thousands(limit)),
    }
}

fn found_etag(found: Option<&str>) -> String {
    match found {
        Some(etag) => format!("but it is now {etag}"),
        None => "but it is now different".to_owned(),
    }
}

fn bad_rows(place: &str, total: u64, first: &[BadRow]) -> String {
    let lines = first.iter().map(BadRow::to_string);
    list_first(format!("{place} has {}", counted(total, "bad row")), total, lines)
}

fn unlistable_keys(place: &str, total: u64, first: &[UnlistableKey]) -> String {
    let lines = first.iter().map(|UnlistableKey { entry, key, why }| format!("entry {entry}: \"{key}\": {why}"));
    list_first(format!("the listing of {place} has {} that no request can name", counted(total, "key")), total, lines)
}

/// Appends the first of `total` problems to a text, one per line, and how many more there are.
fn list_first(mut text: String, total: u64, first: impl ExactSizeIterator<Item = String>) -> String {
    let shown = u64::try_from(first.len()).unwrap_or(u64::MAX);
    for line in first {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    if total >= MAX_BAD_ROWS {
        text.push_str("\n  and more; the rest was not read");
        return text;
    }
    let more = total.saturating_sub(shown);
    if more > 0 {
        text.push_str("\n  and ");
        text.push_str(&more.to_string());
        text.push_str(" more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_the_folder_for_temporary_files_is_named() {
        let help = |path: &Path, cause: io::ErrorKind| ManifestError::disk("sort in", path, cause.into()).help();
        let (temporary, other) = (tempfile::env::temp_dir(), Path::new("/elsewhere"));
        assert!(help(&temporary, io::ErrorKind::NotFound).is_some_and(|help| help.contains("set TMPDIR")));
        assert!(help(&temporary, io::ErrorKind::StorageFull).is_some_and(|help| help.contains("free space")));
        assert!(help(other, io::ErrorKind::NotFound).is_some_and(|help| !help.contains("TMPDIR")));
    }

    fn help_for(doing: &str, class: FaultClass, status: Option<u16>, code: &str, message: &str) -> String {
        let line = "GET https://bkt.s3.example:9/?list-type=2".to_owned();
        let fault = StoreError { status, ..StoreError::without_response(class, code, message, line) };
        ManifestError::Store { doing: doing.to_owned(), fault: Box::new(fault) }.help().unwrap_or_default()
    }

    #[test]
    fn a_region_that_does_not_exist_is_named() {
        for (host, named) in [
            ("bkt.s3.us-esat-1.amazonaws.com", "check the region `us-esat-1` in [store] or the environment"),
            ("s3.cn-norht-1.amazonaws.com.cn", "check the region `cn-norht-1` in [store]"),
            ("bkt.s3.dualstack.eu-wset-1.amazonaws.com", "check the region `eu-wset-1`"),
            ("s3.amazonaws.com", "check `endpoint` in [store]: there is no host s3.amazonaws.com"),
            ("oss-cn-hangzuo.aliyuncs.com", "check the region `cn-hangzuo`"),
            ("minio.example", "check `endpoint` in [store]: there is no host minio.example"),
        ] {
            let help = unknown_host_help(&format!("GET https://{host}/bkt?list-type=2"));
            assert!(help.starts_with(named) && help.ends_with(&format!("there is no host {host}")), "{help}");
        }
    }

    #[test]
    fn a_request_that_failed_gets_the_help_of_its_own_cause() {
        use FaultClass::{Ambiguous, Credentials, Rejected, Throttled, Transient};

        let page = "the response is a web page, perhaps from a proxy or a login page";
        for (class, status, code, message, expected) in [
            (Credentials, Some(400), "ExpiredToken", "", "the credentials have expired: renew them"),
            (Credentials, Some(403), "SignatureDoesNotMatch", "", "the secret key does not match the access key"),
            (Credentials, Some(403), "InvalidAccessKeyId", "", "the server does not know this access key"),
            (Credentials, Some(403), "RequestTimeTooSkewed", "", "this machine's clock differs"),
            (Transient, None, "ProxyRefused", "", "have it allow the host"),
            (Credentials, Some(400), "AuthorizationHeaderMalformed", "", SIGNATURE_HINT),
            (Rejected, Some(403), "AccessDenied", "", "grant the credentials permission"),
            (Rejected, Some(403), "AccessDenied", page, "check HTTPS_PROXY and NO_PROXY"),
            (Rejected, Some(200), "UnexpectedDocument", page, "`endpoint` in [store] is the store's URL"),
            (Throttled, Some(503), "SlowDown", "", "lower `concurrency`"),
            (Ambiguous, Some(502), "InternalError", "", "run the same command again later"),
            (Rejected, Some(501), "NotImplemented", "", "use another server"),
            (Transient, None, "ConnectionError", "https://h: connection refused", "check the network and `endpoint`"),
            (Transient, None, "ConnectionError", "https://h through the proxy http://p: 403", "the proxy allows"),
            (Rejected, Some(404), "NoSuchBucket", "", "(the request went to https://bkt.s3.example:9)"),
        ] {
            let help = help_for("list bkt", class, status, code, message);
            assert!(help.contains(expected), "{code} {message}: {help}");
            assert!(!help.contains("resume"), "{help}");
        }
        // These messages say what to do.
        for (class, code) in [(Transient, "InvalidCertificate"), (Credentials, "ProxyAuthenticationRequired")] {
            assert_eq!(help_for("list bkt", class, None, code, "m"), "");
        }
        assert!(help_for("read bkt/k", Rejected, Some(404), "NoSuchKey", "").contains("the bucket and the key"));
        assert!(help_for("read bkt/k", Rejected, Some(404), "NoSuchBucket", "").contains("`endpoint` and `region`"));
    }
}
