//! Divides requests in flight and the request rate among the jobs of one process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::descriptors;
use crate::engine::Allowance;

/// Files that a job keeps open: two report files, one upload, up to six manifest partitions, the lease, and a folder
/// that is being synced to disk.
const FILES_OF_A_JOB: u64 = 11;

/// The request budget that the jobs of one process share, per store. Clones share the same budget.
///
/// Together, the jobs of a store never exceed the limits of the most generous plan among them, in flight and per
/// second. Each job gets one share for itself and one for each job of lower priority. The division is best effort, and
/// no job starves.
///
/// All jobs together use no more sockets than the process may open, whatever their plans allow. Each job gets at least
/// one.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    seated: Arc<Mutex<Vec<Seated>>>,
    /// The number of files and sockets that may be open; `None` means no limit.
    descriptors: Option<u64>,
}

#[derive(Debug)]
struct Seated {
    number: u64,
    store: String,
    priority: u32,
    wanted: Wanted,
    allowance: Allowance,
}

/// The request limits that a plan sets for one job.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The maximum number of objects in flight.
    pub concurrency: u32,
    /// The maximum number of requests per second; `None` means no limit.
    pub requests_per_second: Option<u32>,
}

/// A job's share of the budget. Dropping it returns the share.
#[derive(Debug)]
pub struct Seat {
    budget: Budget,
    number: u64,
    allowance: Allowance,
}

impl Budget {
    /// Returns the budget of this process, limited by the files and sockets that the system lets it open.
    #[must_use]
    pub fn of_process() -> Self {
        Self::within(descriptors::left())
    }

    fn within(descriptors: Option<u64>) -> Self {
        Self { descriptors: descriptors.map(|left| left.saturating_sub(descriptors::SPARE)), ..Self::default() }
    }

    /// Returns how many of `wanted` jobs can run at once with the available files and sockets. At least one.
    #[must_use]
    pub fn slots(&self, wanted: usize) -> usize {
        let fitting = self.descriptors.map_or(u64::MAX, |left| left / (FILES_OF_A_JOB + 1));
        usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
    }

    /// Returns how many objects each of `jobs` jobs may have in flight with the available sockets.
    fn sockets(&self, jobs: usize) -> u32 {
        let sockets = self.descriptors.map(|left| (left / jobs.max(1) as u64).saturating_sub(FILES_OF_A_JOB));
        sockets.map_or(u32::MAX, |sockets| u32::try_from(sockets).unwrap_or(u32::MAX).max(1))
    }

    /// Adds a job, and returns its share.
    #[must_use]
    pub fn enter(&self, store: String, priority: u32, wanted: Wanted) -> Seat {
        let allowance = Allowance::new(wanted.concurrency, wanted.requests_per_second);
        let mut seated = self.seated();
        let seat = seated.iter().map(|other| other.number).max().map_or(0, |last| last + 1);
        seated.push(Seated { number: seat, store, priority, wanted, allowance: allowance.clone() });
        self.divide(&seated);
        drop(seated);
        Seat { budget: self.clone(), number: seat, allowance }
    }

    fn seated(&self) -> MutexGuard<'_, Vec<Seated>> {
        // The list is consistent at every moment, so a poisoned mutex is harmless.
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn divide(&self, seated: &[Seated]) {
        divide(seated, self.sockets(seated.len()));
    }
}

impl Seat {
    /// Returns the limits of this share. They change as jobs join and leave.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// If files and sockets allow fewer than `wanted` objects in flight, returns how many they allow, and the open-file
    /// limit.
    #[must_use]
    pub fn bounded_by_descriptors(&self, wanted: u32) -> Option<(u32, u64)> {
        let sockets = self.budget.sockets(self.budget.seated().len());
        descriptors::limit().filter(|_| sockets < wanted).map(|limit| (sockets, limit))
    }

    /// Changes the job's priority, and divides the budget again.
    pub fn set_priority(&self, priority: u32) {
        let mut seated = self.budget.seated();
        for other in seated.iter_mut().filter(|other| other.number == self.number) {
            other.priority = priority;
        }
        self.budget.divide(&seated);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = self.budget.seated();
        seated.retain(|other| other.number != self.number);
        self.budget.divide(&seated);
    }
}

fn divide(seated: &[Seated], sockets: u32) {
    for job in seated {
        let there = || seated.iter().filter(|other| other.store == job.store);
        let parts = |of: &Seated| 1 + there().filter(|other| other.priority < of.priority).count() as u64;
        let (mine, all) = (parts(job), there().map(parts).sum::<u64>().max(1));
        let part = |whole: u32| u32::try_from(u64::from(whole) * mine / all).unwrap_or(whole).max(1);
        let concurrency = there().map(|other| other.wanted.concurrency).max().unwrap_or(1);
        // A plan without a rate limit does not raise the limit of other plans.
        let rate = job.wanted.requests_per_second.map(|own| {
            let most = there().filter_map(|other| other.wanted.requests_per_second).max().unwrap_or(own);
            part(most).min(own)
        });
        job.allowance.set(part(concurrency).min(job.wanted.concurrency).min(sockets), rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(concurrency: u32) -> Wanted {
        Wanted { concurrency, requests_per_second: Some(1000) }
    }

    #[test]
    fn one_alone_has_all_and_two_alike_have_half() {
        let budget = Budget::default();
        let one = budget.enter("s3".to_owned(), 5, wanted(64));
        assert_eq!((one.allowance().objects(), one.allowance().requests_per_second()), (64, Some(1000)));
        let other = budget.enter("s3".to_owned(), 5, wanted(64));
        assert_eq!((one.allowance().objects(), other.allowance().objects()), (32, 32));
        assert_eq!(other.allowance().requests_per_second(), Some(500));
        let elsewhere = budget.enter("oss".to_owned(), 0, wanted(64));
        assert_eq!(elsewhere.allowance().objects(), 64);
        drop(other);
        assert_eq!(one.allowance().objects(), 64);
    }

    #[test]
    fn higher_priorities_have_more_and_none_starves() {
        let budget = Budget::default();
        let seats: Vec<_> = [0, 1, 1000].map(|priority| budget.enter("s3".to_owned(), priority, wanted(60))).into();
        let objects = || seats.iter().map(|seat| seat.allowance().objects()).collect::<Vec<_>>();
        assert_eq!(objects(), [10, 20, 30]);
        seats[0].set_priority(2000);
        assert_eq!(objects(), [30, 10, 20]);
        let many: Vec<_> = (0..100).map(|n| budget.enter("s3".to_owned(), n, wanted(2))).collect();
        assert!(many.iter().all(|seat| seat.allowance().objects() >= 1));
    }

    #[test]
    fn no_more_is_in_flight_than_there_are_sockets_for() {
        let budget = Budget::within(Some(40));
        assert_eq!((budget.slots(6), Budget::default().slots(6), Budget::within(Some(0)).slots(6)), (2, 6, 1));
        let one = budget.enter("s3".to_owned(), 5, wanted(64));
        assert_eq!(one.allowance().objects(), 17);
        let other = budget.enter("oss".to_owned(), 5, wanted(64));
        assert_eq!((one.allowance().objects(), other.allowance().objects()), (3, 3));
        let more: Vec<_> = (0..9).map(|n| budget.enter("oss".to_owned(), n, wanted(64))).collect();
        assert!(more.iter().all(|seat| seat.allowance().objects() == 1));
        drop((more, other));
        assert_eq!(one.allowance().objects(), 17);
        assert_eq!(Budget::within(Some(4096)).enter("s3".to_owned(), 5, wanted(64)).allowance().objects(), 64);
    }

    #[test]
    fn nobody_gets_more_than_its_own_plan_allows() {
        let budget = Budget::default();
        let small = budget.enter("s3".to_owned(), 9, Wanted { concurrency: 2, requests_per_second: Some(10) });
        let large = budget.enter("s3".to_owned(), 0, Wanted { concurrency: 90, requests_per_second: None });
        assert_eq!((small.allowance().objects(), small.allowance().requests_per_second()), (2, Some(6)));
        assert_eq!((large.allowance().objects(), large.allowance().requests_per_second()), (30, None));
    }
}
