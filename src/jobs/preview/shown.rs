//! Selects examples to show: a few objects of each kind, and if possible different changes.

use std::collections::BTreeSet;

use crate::diff::{Fate, Prospect, lines};

/// The number of examples of each kind.
const CHANGED: usize = 5;
const STAYING: usize = 2;
const OPEN: usize = 3;

/// A few objects of each kind. Objects that would fail are shown with their reasons instead.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Objects that change, each in a different way if possible.
    pub changed: Vec<Prospect>,
    /// Objects that stay as they are.
    pub staying: Vec<Prospect>,
    /// Objects whose outcome is unknown.
    pub open: Vec<Prospect>,
    /// Objects whose change is like one that is already shown.
    alike: Vec<Prospect>,
    seen: BTreeSet<Vec<(char, String)>>,
}

impl Shown {
    pub(super) fn add(&mut self, prospect: &Prospect) {
        match &prospect.fate {
            Fate::Changes(after) => {
                if self.changed.len() >= CHANGED {
                    return;
                }
                let signed = lines(&prospect.before, after).into_iter().map(|line| (line.mark.sign(), line.text));
                let change = signed.collect::<Vec<_>>();
                if self.seen.insert(change) {
                    self.changed.push(prospect.clone());
                } else if self.alike.len() < CHANGED {
                    self.alike.push(prospect.clone());
                }
            }
            Fate::Stays if self.staying.len() < STAYING => self.staying.push(prospect.clone()),
            Fate::Open(_) if self.open.len() < OPEN => self.open.push(prospect.clone()),
            Fate::Stays | Fate::Open(_) | Fate::Fails(_) => {}
        }
    }

    /// Fills up with similar changes, to three examples.
    pub(super) fn finish(&mut self) {
        let room = 3_usize.saturating_sub(self.changed.len());
        self.changed.extend(self.alike.drain(..).take(room));
        self.seen.clear();
    }
}
