//! Was the promise kept? What a job should have come to, against what it came to.

use std::collections::{BTreeMap, BTreeSet};

use batchplan_store::object::ObjectKey;
use serde_json::Value as Json;

use crate::bucket::Count;
use crate::report::Report;

/// What the job should do, and how much it may do twice.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The bucket of all rows.
    pub(crate) bucket: &'static str,
    /// The manifest's rows, and whether the object is there.
    pub(crate) rows: Vec<(ObjectKey, bool)>,
    /// Whether an object that is as it should be is not written.
    pub(crate) skips: bool,
    /// Objects in flight at once.
    pub(crate) concurrency: u64,
    /// Objects that are settled between two checkpoints.
    pub(crate) checkpoint_every: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// The exit code of the last run, which ended by itself.
    pub(crate) exit: Option<i32>,
    /// What the last run printed.
    pub(crate) result: Json,
    pub(crate) report: Result<Report, String>,
    /// Objects that are not in the state that they should be in.
    pub(crate) wrong: Vec<String>,
    /// How often the job was killed.
    pub(crate) kills: u64,
    /// Requests for tags, in all runs.
    pub(crate) gets: Count,
    /// Requests that write tags, in all runs.
    pub(crate) puts: Count,
}

/// Everything that is not as promised; nothing where all is well.
pub(crate) fn complaints(expected: &Expected, observed: &Observed) -> Vec<String> {
    let mut found: Vec<String> = observed.wrong.iter().map(|object| format!("{object} has a wrong state")).collect();
    found.extend(expected.about_result(observed));
    match &observed.report {
        Ok(report) => found.extend(expected.about_report(report)),
        Err(why) => found.push(format!("the report: {why}")),
    }
    found.extend(expected.about_requests(observed));
    found
}

impl Expected {
    fn failing(&self) -> usize {
        self.rows.iter().filter(|(_, there)| !there).count()
    }

    /// The exit code and the counters.
    fn about_result(&self, observed: &Observed) -> Vec<String> {
        let failing = self.failing();
        let exit = if failing == 0 { 0 } else { 3 };
        let wanted = [
            ("status", Json::from("Complete")),
            ("total", self.rows.len().into()),
            ("succeeded", (self.rows.len() - failing).into()),
            ("failed", failing.into()),
        ];
        let mut found = Vec::new();
        if observed.exit != Some(exit) {
            found.push(format!("the exit code is {:?}, not {exit}", observed.exit));
        }
        for (name, wanted) in wanted {
            let got = &observed.result[name];
            if *got != wanted {
                found.push(format!("{name} is {got}, not {wanted}"));
            }
        }
        found
    }

    /// Each row of the manifest once, as what it came to.
    fn about_report(&self, report: &Report) -> Vec<String> {
        let mut balance: BTreeMap<(&str, &ObjectKey, bool), i64> = BTreeMap::new();
        for (key, there) in &self.rows {
            *balance.entry((self.bucket, key, *there)).or_default() -= 1;
        }
        for row in &report.rows {
            *balance.entry((&row.bucket, &row.key, row.succeeded)).or_default() += 1;
        }
        let told = |succeeded: bool| if succeeded { "success" } else { "failure" };
        let off = balance.into_iter().filter(|(_, surplus)| *surplus != 0);
        let mut found: Vec<_> = off
            .map(|((bucket, key, succeeded), surplus)| {
                let what = told(succeeded);
                format!("the report lists {bucket}/{key} as a {what} {surplus:+} times against the manifest")
            })
            .collect();
        for row in report.rows.iter().filter(|row| row.status != Some(if row.succeeded { 200 } else { 404 })) {
            found.push(format!("the report gives {} the status {:?}", row.key, row.status));
        }
        found
    }

    /// How much was done: everything once, and again only what a kill can have cost.
    ///
    /// A kill costs the objects that were in flight, and those that were settled and not yet in a checkpoint. Requests
    /// that met an injected fault do not count: the repeat that they gave reason to does.
    fn about_requests(&self, observed: &Observed) -> Vec<String> {
        let rows = self.rows.len() as u64;
        let again = observed.kills * (self.concurrency + self.checkpoint_every);
        let there: BTreeSet<_> = self.rows.iter().filter(|(_, there)| *there).map(|(key, _)| key).collect();
        // Each row is read before it is written, if only to capture the object.
        let (first, second) = (observed.gets, observed.puts);
        let mut found = Vec::new();
        if first.served < rows {
            found.push(format!("{} requests were served for {rows} rows", first.served));
        }
        if first.served > rows + again {
            found.push(format!(
                "{} requests were served for {rows} rows, and {} kills explain {again} more",
                first.served, observed.kills
            ));
        }
        // Who skips what is done writes each object once, however many rows name it.
        let writes = if self.skips { there.len() } else { self.rows.iter().filter(|(_, there)| *there).count() } as u64;
        if second.served > writes + again {
            found.push(format!(
                "{} writes were served for {writes} objects, and {} kills explain {again} more",
                second.served, observed.kills
            ));
        }
        found
    }
}
