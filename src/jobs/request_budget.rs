//! Divides requests in flight and the request rate among the jobs of one process.

use std::sync::{Arc, MutexGuard};

use batchplan_store::Mutex;

use crate::engine::JobQuota;
use crate::open_files;
use crate::plan::JobLimits;

/// Files that a job keeps open: two report files, one upload, up to six manifest partitions, the lease, and a folder
/// that is being synced to disk.
const FILES_PER_JOB: u64 = 11;

/// The request budget that the jobs of one process share, per store. Clones share the same budget.
///
/// Together, the jobs of a store never exceed the limits of the most generous plan among them, in flight and per
/// second. Each job gets one share for itself and one for each job of lower priority. The division is best effort, and
/// no job starves.
///
/// All jobs together use no more sockets than the process may open, whatever their plans allow. Each job gets at least
/// one.
#[derive(Clone, Debug, Default)]
pub struct RequestBudget {
    entries: Arc<Mutex<Vec<BudgetEntry>>>,
    /// The number of files and sockets that may be open; `None` means no limit.
    descriptors: Option<u64>,
}

#[derive(Debug)]
struct BudgetEntry {
    number: u64,
    store: String,
    priority: u32,
    limits: ShareLimits,
    quota: JobQuota,
}

/// The request limits that a plan sets for one job.
#[derive(Clone, Copy, Debug)]
pub struct ShareLimits {
    /// The maximum number of objects in flight.
    pub concurrency: u32,
    /// The number of requests in flight up to which a job goes at once.
    pub start_concurrency: u32,
    /// The maximum number of requests per second; `None` means no limit.
    pub requests_per_second: Option<u32>,
}

impl ShareLimits {
    /// Returns the limits that a plan sets.
    #[must_use]
    pub fn of(limits: &JobLimits) -> Self {
        let JobLimits { max_concurrency, concurrency, requests_per_second, .. } = *limits;
        Self { concurrency: max_concurrency, start_concurrency: concurrency, requests_per_second }
    }
}

/// A job's share of the budget. Dropping it returns the share.
#[derive(Debug)]
pub struct BudgetShare {
    budget: RequestBudget,
    number: u64,
    quota: JobQuota,
}

impl RequestBudget {
    /// Returns the budget of this process, limited by the files and sockets that the system lets it open.
    #[must_use]
    pub fn for_process() -> Self {
        Self::with_descriptors(open_files::available())
    }

    fn with_descriptors(descriptors: Option<u64>) -> Self {
        Self { descriptors: descriptors.map(|left| left.saturating_sub(open_files::RESERVED)), ..Self::default() }
    }

    /// Returns how many of `wanted` jobs can run at once with the available files and sockets. At least one.
    #[must_use]
    pub fn max_jobs(&self, wanted: usize) -> usize {
        let fitting = self.descriptors.map_or(u64::MAX, |left| left / (FILES_PER_JOB + 1));
        usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
    }

    /// Returns how many objects each of `jobs` jobs may have in flight with the available sockets.
    fn sockets_per_job(&self, jobs: usize) -> u32 {
        let sockets = self.descriptors.map(|left| (left / jobs.max(1) as u64).saturating_sub(FILES_PER_JOB));
        sockets.map_or(u32::MAX, |sockets| u32::try_from(sockets).unwrap_or(u32::MAX).max(1))
    }

    /// Adds a job, and returns its share.
    #[must_use]
    pub fn add_job(&self, store: String, priority: u32, wanted: ShareLimits) -> BudgetShare {
        let quota = JobQuota::with_start(wanted.start_concurrency, wanted.concurrency, wanted.requests_per_second);
        let mut entries = self.entries();
        let number = entries.iter().map(|other| other.number).max().map_or(0, |last| last + 1);
        entries.push(BudgetEntry { number, store, priority, limits: wanted, quota: quota.clone() });
        self.divide(&entries);
        drop(entries);
        BudgetShare { budget: self.clone(), number, quota }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<BudgetEntry>> {
        self.entries.lock()
    }

    fn divide(&self, entries: &[BudgetEntry]) {
        divide(entries, self.sockets_per_job(entries.len()));
    }
}

impl BudgetShare {
    /// Returns the limits of this share. They change as jobs join and leave.
    #[must_use]
    pub fn quota(&self) -> JobQuota {
        self.quota.clone()
    }

    /// If files and sockets allow fewer than `wanted` objects in flight, returns how many they allow, and the open-file
    /// limit.
    #[must_use]
    pub fn descriptor_limit(&self, wanted: u32) -> Option<(u32, u64)> {
        let sockets = self.budget.sockets_per_job(self.budget.entries().len());
        open_files::limit().filter(|_| sockets < wanted).map(|limit| (sockets, limit))
    }

    /// Changes the job's priority, and divides the budget again.
    pub fn set_priority(&self, priority: u32) {
        let mut entries = self.budget.entries();
        for other in entries.iter_mut().filter(|other| other.number == self.number) {
            other.priority = priority;
        }
        self.budget.divide(&entries);
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        let mut entries = self.budget.entries();
        entries.retain(|other| other.number != self.number);
        self.budget.divide(&entries);
    }
}

fn divide(entries: &[BudgetEntry], sockets: u32) {
    for job in entries {
        let same_store = || entries.iter().filter(|other| other.store == job.store);
        let parts = |of: &BudgetEntry| 1 + same_store().filter(|other| other.priority < of.priority).count() as u64;
        let (mine, all) = (parts(job), same_store().map(parts).sum::<u64>().max(1));
        let part = |whole: u32| u32::try_from(u64::from(whole) * mine / all).unwrap_or(whole).max(1);
        let concurrency = same_store().map(|other| other.limits.concurrency).max().unwrap_or(1);
        // A plan without a rate limit does not raise the limit of other plans.
        let rate = job.limits.requests_per_second.map(|own| {
            let most = same_store().filter_map(|other| other.limits.requests_per_second).max().unwrap_or(own);
            part(most).min(own)
        });
        job.quota.set(part(concurrency).min(job.limits.concurrency).min(sockets), rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(concurrency: u32) -> ShareLimits {
        ShareLimits { concurrency, start_concurrency: concurrency, requests_per_second: Some(1000) }
    }

    #[test]
    fn one_alone_has_all_and_two_alike_have_half() {
        let budget = RequestBudget::default();
        let one = budget.add_job("s3".to_owned(), 5, wanted(64));
        assert_eq!((one.quota().max_in_flight(), one.quota().requests_per_second()), (64, Some(1000)));
        let other = budget.add_job("s3".to_owned(), 5, wanted(64));
        assert_eq!((one.quota().max_in_flight(), other.quota().max_in_flight()), (32, 32));
        assert_eq!(other.quota().requests_per_second(), Some(500));
        let elsewhere = budget.add_job("oss".to_owned(), 0, wanted(64));
        assert_eq!(elsewhere.quota().max_in_flight(), 64);
        drop(other);
        assert_eq!(one.quota().max_in_flight(), 64);
    }

    #[test]
    fn higher_priorities_have_more_and_none_starves() {
        let budget = RequestBudget::default();
        let shares: Vec<_> = [0, 1, 1000].map(|priority| budget.add_job("s3".to_owned(), priority, wanted(60))).into();
        let objects = || shares.iter().map(|share| share.quota().max_in_flight()).collect::<Vec<_>>();
        assert_eq!(objects(), [10, 20, 30]);
        shares[0].set_priority(2000);
        assert_eq!(objects(), [30, 10, 20]);
        let many: Vec<_> = (0..100).map(|n| budget.add_job("s3".to_owned(), n, wanted(2))).collect();
        assert!(many.iter().all(|share| share.quota().max_in_flight() >= 1));
    }

    #[test]
    fn no_more_is_in_flight_than_there_are_sockets_for() {
        let budget = RequestBudget::with_descriptors(Some(40));
        assert_eq!(
            (
                budget.max_jobs(6),
                RequestBudget::default().max_jobs(6),
                RequestBudget::with_descriptors(Some(0)).max_jobs(6)
            ),
            (2, 6, 1)
        );
        let one = budget.add_job("s3".to_owned(), 5, wanted(64));
        assert_eq!(one.quota().max_in_flight(), 17);
        let other = budget.add_job("oss".to_owned(), 5, wanted(64));
        assert_eq!((one.quota().max_in_flight(), other.quota().max_in_flight()), (3, 3));
        let more: Vec<_> = (0..9).map(|n| budget.add_job("oss".to_owned(), n, wanted(64))).collect();
        assert!(more.iter().all(|share| share.quota().max_in_flight() == 1));
        drop((more, other));
        assert_eq!(one.quota().max_in_flight(), 17);
        assert_eq!(
            RequestBudget::with_descriptors(Some(4096)).add_job("s3".to_owned(), 5, wanted(64)).quota().max_in_flight(),
            64
        );
    }

    #[test]
    fn no_job_exceeds_the_limits_of_its_plan() {
        let budget = RequestBudget::default();
        let small = budget.add_job("s3".to_owned(), 9, ShareLimits { requests_per_second: Some(10), ..wanted(2) });
        let large = budget.add_job("s3".to_owned(), 0, ShareLimits { requests_per_second: None, ..wanted(90) });
        assert_eq!((small.quota().max_in_flight(), small.quota().requests_per_second()), (2, Some(6)));
        assert_eq!((large.quota().max_in_flight(), large.quota().requests_per_second()), (30, None));
    }
}
