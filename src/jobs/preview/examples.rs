//! Selects examples to show: a few objects of each kind, and if possible different changes.

use std::collections::BTreeSet;

use crate::diff::{Effect, Prediction, compare_states};

/// The number of examples of each kind.
const MAX_CHANGED: usize = 5;
const MAX_UNCHANGED: usize = 2;
const MAX_UNKNOWN: usize = 3;

/// A few objects of each kind. Objects that would fail are shown with their reasons instead.
#[derive(Clone, Debug, Default)]
pub struct ExampleSet {
    /// Objects that change, each in a different way if possible.
    pub changed: Vec<Prediction>,
    /// Objects that stay as they are.
    pub unchanged: Vec<Prediction>,
    /// Objects whose outcome is unknown.
    pub unknown: Vec<Prediction>,
    /// Objects whose change is like one that is already shown.
    similar: Vec<Prediction>,
    seen_changes: BTreeSet<Vec<(char, String)>>,
}

impl ExampleSet {
    pub(super) fn add(&mut self, prospect: &Prediction) {
        match &prospect.effect {
            Effect::Changes(after) => {
                if self.changed.len() >= MAX_CHANGED {
                    return;
                }
                let signed =
                    compare_states(&prospect.before, after).into_iter().map(|line| (line.change.sign(), line.text));
                let change = signed.collect::<Vec<_>>();
                if self.seen_changes.insert(change) {
                    self.changed.push(prospect.clone());
                } else if self.similar.len() < MAX_CHANGED {
                    self.similar.push(prospect.clone());
                }
            }
            Effect::Unchanged if self.unchanged.len() < MAX_UNCHANGED => self.unchanged.push(prospect.clone()),
            Effect::Unknown(_) if self.unknown.len() < MAX_UNKNOWN => self.unknown.push(prospect.clone()),
            Effect::Unchanged | Effect::Unknown(_) | Effect::Fails(_) => {}
        }
    }

    /// Fills up with similar changes, to three examples.
    pub(super) fn finish(&mut self) {
        let room = 3_usize.saturating_sub(self.changed.len());
        self.changed.extend(self.similar.drain(..).take(room));
        self.seen_changes.clear();
    }
}
