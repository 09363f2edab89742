//! Computes which objects may have been changed without an outcome when a run ends or dies.

use crate::job::Progress;

/// What earlier runs left in doubt, and how many rows were finished before this run.
///
/// Rows are always started in the same order. So the rows that an earlier run may have started and not finished are
/// the first of the remaining rows. Each row that this run starts is one of them until they are used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct EarlierInDoubt {
    pub(super) in_doubt: u64,
    pub(super) maybe_started: u64,
    pub(super) finished: u64,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunCounters {
    /// Rows that this run has started.
    pub(super) started: u64,
    /// Of these, the rows for which a write was sent and that have no outcome.
    pub(super) abandoned: u64,
    pub(super) progress: Progress,
}

impl EarlierInDoubt {
    /// Returns how many of the first remaining rows may have been started, if `more` rows may start from here on
    /// without a record.
    pub(super) fn maybe_started(self, run: RunCounters, more: u64) -> u64 {
        let beyond = self.maybe_started.saturating_sub(run.started);
        self.unfinished(run).saturating_add(beyond).saturating_add(more).min(run.progress.remaining())
    }

    /// Returns how many objects are in doubt once nothing is in flight.
    pub(super) fn in_doubt(self, run: RunCounters) -> u64 {
        // Rows that this run started without sending a request are still in the state that the earlier run left.
        let not_begun = self.unfinished(run).saturating_sub(run.abandoned).min(self.maybe_started);
        let beyond = self.maybe_started.saturating_sub(run.started);
        let earlier = self.in_doubt.min(beyond.saturating_add(not_begun));
        run.abandoned.saturating_add(earlier).min(run.progress.remaining())
    }

    /// Rows that this run has started and not finished.
    fn unfinished(self, run: RunCounters) -> u64 {
        run.started.saturating_sub(run.progress.finished().saturating_sub(self.finished))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What happens to a row that a run starts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Row {
        Settled,
        Abandoned,
        NotBegun,
        /// Changed, but the process died before it was recorded.
        Lost,
    }

    fn any_row() -> impl Strategy<Value = Row> {
        prop_oneof![4 => Just(Row::Settled), 1 => Just(Row::Abandoned), 1 => Just(Row::NotBegun), 2 => Just(Row::Lost)]
    }

    proptest! {
        /// Compares with a model that knows for each row whether it was changed and whether that was recorded. It
        /// covers several runs; some are killed, and then the last checkpoint counts.
        #[test]
        fn never_underestimates_objects_in_doubt(
            total in 1..40_usize,
            runs in prop::collection::vec((prop::collection::vec(any_row(), 0..20), any::<bool>(), 0..8_usize), 1..6),
        ) {
            let leave = 8;
            let (mut settled, mut changed) = (BTreeSet::new(), BTreeSet::new());
            let (mut in_doubt, mut reach) = (0, 0);
            for (rows, killed, recorded) in runs {
                let earlier = EarlierInDoubt { in_doubt, maybe_started: reach, finished: settled.len() as u64 };
                let stream: Vec<usize> = (0..total).filter(|row| !settled.contains(row)).collect();
                let taken: Vec<(usize, Row)> = stream.into_iter().zip(rows).collect();
                // The last checkpoint of a killed run was `recorded` rows before its end.
                let recorded = if killed { taken.len().saturating_sub(recorded) } else { taken.len() };
                let mut abandoned = 0;
                for (place, (row, fate)) in taken.iter().enumerate() {
                    let counts = place < recorded;
                    match fate {
                        Row::Settled if counts => {
                            settled.insert(*row);
                            changed.remove(row);
                        }
                        Row::NotBegun => {}
                        _ => {
                            changed.insert(*row);
                            abandoned += u64::from(counts && !killed);
                        }
                    }
                }
                let progress =
                    Progress { total: total as u64, succeeded: settled.len() as u64, failed: 0 };
                let run = RunCounters { started: recorded as u64, abandoned, progress };
                reach = earlier.maybe_started(run, if killed { leave } else { 0 });
                in_doubt = if killed { reach } else { earlier.in_doubt(run) };
                let lost = changed.iter().filter(|row| !settled.contains(row)).count() as u64;
                prop_assert!(in_doubt >= lost, "{in_doubt} {lost}");
                prop_assert!(reach >= in_doubt && in_doubt <= progress.remaining());
                let first: BTreeSet<usize> =
                    (0..total).filter(|row| !settled.contains(row)).take(usize::try_from(reach).expect("small")).collect();
                prop_assert!(changed.iter().all(|row| settled.contains(row) || first.contains(row)));
            }
        }
    }
}
