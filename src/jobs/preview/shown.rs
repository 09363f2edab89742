//! Which objects are worth showing: a few of each kind, and among those that change, changes that differ.

use std::collections::BTreeSet;

use crate::diff::{Fate, Prospect, lines};

/// Objects of each kind that are shown.
const CHANGED: usize = 5;
const STAYING: usize = 2;
const OPEN: usize = 3;

/// A few objects of each kind; those that would fail are with their reasons.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Objects that change, each in another way as far as there are others.
    pub changed: Vec<Prospect>,
    /// Objects that stay as they are.
    pub staying: Vec<Prospect>,
    /// Objects of which nobody can tell.
    pub open: Vec<Prospect>,
    /// Changes that are like one that is shown.
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

    /// Fills up with changes that are alike; three say enough.
    pub(super) fn finish(&mut self) {
        let room = 3_usize.saturating_sub(self.changed.len());
        self.changed.extend(self.alike.drain(..).take(room));
        self.seen.clear();
    }
}
