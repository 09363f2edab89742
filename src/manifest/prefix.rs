//! The source `prefix`: everything that a listing names.

use super::draft::Mark;
use super::error::{BadRows, ManifestError, place};
use super::filter::{Facts, Row};
use super::input::blocking;
use super::patient::Patient;
use super::sink::Sink;
use super::spec::Versions;
use crate::object::{Bucket, Key, VersionId};
use crate::store::{ListMark, ListPage, ListRequest, Listed};

/// Pages without any object that are borne one behind the other: a million delete markers in a row make a thousand.
const EMPTY_PAGES: u32 = 100_000;

/// Lists everything below a prefix into the sink, from where an earlier attempt left off if there was one.
pub(super) async fn list(
    bucket: &Bucket,
    prefix: &Key,
    versions: Versions,
    patient: &Patient,
    mut sink: Sink,
) -> Result<Sink, ManifestError> {
    let all_versions = versions == Versions::All;
    let (from, last) = match sink.take_mark() {
        Some(Mark::Listing { from, last }) => (Some(from), last),
        Some(Mark::Inventory { .. }) | None => (None, None),
    };
    // Until the first answer, a token is one of an earlier attempt.
    let mut first = true;
    let mut request =
        ListRequest { bucket: bucket.clone(), prefix: prefix.clone(), all_versions, directories: false, from };
    let listing = place(bucket, prefix);
    let mut walk = Walk { prefix: prefix.clone(), all_versions, last, empty: 0 };
    let mut bad = BadRows::new();
    loop {
        let page = match patient.list(&request).await {
            Ok(page) => page,
            Err(error) if first => {
                let page = from_the_beginning(error, &request, patient).await?;
                sink = blocking(move || sink.start_over().map(|()| sink)).await?;
                (request.from, walk.last) = (None, None);
                page
            }
            Err(error) => {
                if let (Some(mark), true) = (walk.mark(request.from), bad.are_none()) {
                    // What cannot be kept now is listed again: the first error stands.
                    let _ = blocking(move || sink.keep_all(mark)).await;
                }
                return Err(error);
            }
        };
        first = false;
        let failed = |what| ManifestError::Listing { place: listing.clone(), what };
        walk.check_mark(request.from.as_ref(), &page).map_err(failed)?;
        walk.check_entries(&page.entries).map_err(failed)?;
        request.from = page.next;
        let mut entries = page.entries;
        if versions == Versions::Current {
            // Some servers name the current version; the plan means whichever is current when its turn comes.
            for entry in &mut entries {
                entry.version = None;
            }
        }
        let (name, mark) = (bucket.clone(), walk.mark(request.from.clone()));
        (sink, bad) = blocking(move || {
            take(&name, &entries, &mut sink, &mut bad)?;
            // With bad rows the listing will be refused, so that there is nothing to go on with.
            if let (Some(mark), true) = (mark, bad.are_none()) {
                sink.step(|| mark)?;
            }
            Ok((sink, bad))
        })
        .await?;
        if request.from.is_none() || bad.are_hopeless() {
            break;
        }
    }
    bad.verdict(&format!("the listing of {listing}"))?;
    sink.note_prefix(bucket.as_str(), prefix.as_bytes());
    Ok(sink)
}

/// The page that everything begins with, where the server refuses to go on from the token that it gave to an earlier
/// attempt: tokens are its own, and may age.
async fn from_the_beginning(
    error: ManifestError,
    request: &ListRequest,
    patient: &Patient,
) -> Result<ListPage, ManifestError> {
    let refused = matches!(&error, ManifestError::Store { fault, .. } if fault.status == Some(400));
    if !refused || !matches!(request.from, Some(ListMark::Token(_))) {
        return Err(error);
    }
    // Expired credentials are a 400 as well: what is frozen is given up only once the listing itself was answered.
    patient.list(&ListRequest { from: None, ..request.clone() }).await.map_err(|_| error)
}

fn take(bucket: &Bucket, entries: &[Listed], sink: &mut Sink, bad: &mut BadRows) -> Result<(), ManifestError> {
    for entry in entries {
        let facts = Facts { size: Some(entry.size), modified: Some(entry.modified), class: Some(entry.class.as_str()) };
        let row = Row {
            bucket: bucket.as_str(),
            key: entry.key.as_bytes(),
            version: entry.version.as_ref().map(VersionId::as_str),
            facts,
        };
        if let Err(why) = sink.push(&row)? {
            bad.push(sink.read(), sink.read(), why);
        }
    }
    Ok(())
}

/// Sees to it that a listing goes forward and ends: a server that repeats itself would be listed for ever, and each
/// object worked on again and again.
struct Walk {
    prefix: Key,
    all_versions: bool,
    last: Option<Key>,
    empty: u32,
}

impl Walk {
    /// Where an attempt that is interrupted now is to go on: nowhere, before the first page and behind the last.
    fn mark(&self, from: Option<ListMark>) -> Option<Mark> {
        from.map(|from| Mark::Listing { from, last: self.last.clone() })
    }

    fn check_mark(&mut self, from: Option<&ListMark>, page: &ListPage) -> Result<(), String> {
        self.empty = if page.entries.is_empty() { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_PAGES {
            return Err(format!("it sent {EMPTY_PAGES} empty pages one after the other"));
        }
        let Some(next) = &page.next else { return Ok(()) };
        if from == Some(next) {
            return Err("it goes on where it began, and would never end".to_owned());
        }
        match (from, next) {
            (Some(ListMark::After { key: before, .. }), ListMark::After { key, .. }) if key < before => {
                Err(format!("it goes on at {key}, which lies before {before}"))
            }
            _ => Ok(()),
        }
    }

    fn check_entries(&mut self, entries: &[Listed]) -> Result<(), String> {
        for entry in entries {
            if !entry.key.as_bytes().starts_with(self.prefix.as_bytes()) {
                return Err(format!("{} does not begin with {}", entry.key, self.prefix));
            }
            let forward = match &self.last {
                None => true,
                Some(last) if self.all_versions => entry.key >= *last,
                Some(last) => entry.key > *last,
            };
            if !forward {
                return Err(format!("{} comes behind {}", entry.key, self.last.as_ref().unwrap_or(&entry.key)));
            }
            self.last = Some(entry.key.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
