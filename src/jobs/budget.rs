//! What several jobs of one process may have in flight together, and who gets how much of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::descriptors;
use crate::engine::Allowance;

/// Files that a job has open: two of its report, one on its way to its bucket, a lane of its manifest each, its lease, and a
/// folder whose names are brought to the disk.
const FILES_OF_A_JOB: u64 = 11;

/// The requests that jobs of one process share, store by store. Clones are the same budget.
///
/// Together, the jobs of a store have no more in flight, and send no more a second, than the most generous of their plans
/// allows one alone. Each has one part of that for itself and one for every job of lower priority: best effort, and none
/// starves.
///
/// All jobs together have no more in flight than there are sockets for, whatever their plans allow; each has one.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    seated: Arc<Mutex<Vec<Seated>>>,
    /// Files and sockets that may be opened; `None` is as many as anybody wants.
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

/// What a plan allows one job.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Objects in flight.
    pub concurrency: u32,
    /// Requests a second; `None` is no cap.
    pub requests_per_second: Option<u32>,
}

/// A job's part of the budget, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    budget: Budget,
    number: u64,
    allowance: Allowance,
}

impl Budget {
    /// The budget of this process, which may open no more files and sockets than the system lets it.
    #[must_use]
    pub fn of_process() -> Self {
        Self::within(descriptors::left())
    }

    fn within(descriptors: Option<u64>) -> Self {
        Self { descriptors: descriptors.map(|left| left.saturating_sub(descriptors::SPARE)), ..Self::default() }
    }

    /// How many of so many jobs there are files and sockets for at once; one in any case.
    #[must_use]
    pub fn slots(&self, wanted: usize) -> usize {
        let fitting = self.descriptors.map_or(u64::MAX, |left| left / (FILES_OF_A_JOB + 1));
        usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
    }

    /// How many objects each of so many jobs may have in flight, by the sockets that there are for them.
    fn sockets(&self, jobs: usize) -> u32 {
        let sockets = self.descriptors.map(|left| (left / jobs.max(1) as u64).saturating_sub(FILES_OF_A_JOB));
        sockets.map_or(u32::MAX, |sockets| u32::try_from(sockets).unwrap_or(u32::MAX).max(1))
    }

    /// Takes a job in.
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
        // What is behind the lock is whole at every moment.
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn divide(&self, seated: &[Seated]) {
        divide(seated, self.sockets(seated.len()));
    }
}

impl Seat {
    /// The part.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// How many objects it may have in flight where the files and sockets that may be open allow fewer than its plan does,
    /// and how many those are.
    #[must_use]
    pub fn bounded_by_descriptors(&self, wanted: u32) -> Option<(u32, u64)> {
        let sockets = self.budget.sockets(self.budget.seated().len());
        descriptors::limit().filter(|_| sockets < wanted).map(|limit| (sockets, limit))
    }

    /// Gives the job another priority.
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
        // One plan without a cap lifts nobody else's.
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
