//! Values that many objects share, so that each distinct one is stored only once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// The number of values in a pool below which unused ones are not removed.
const MIN_SWEEP_VALUES: usize = 1024;

/// Each distinct value that is in use, once.
#[derive(Debug)]
pub(crate) struct SharedPool<T> {
    values: HashSet<Arc<T>>,
    /// The number of values at which unused ones are removed.
    sweep_at: usize,
}

impl<T> Default for SharedPool<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: 0 }
    }
}

impl<T: Eq + Hash> SharedPool<T> {
    /// Returns the shared copy of this value.
    pub(crate) fn share(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return Arc::clone(known);
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(MIN_SWEEP_VALUES);
        }
        self.values.insert(Arc::clone(&value));
        value
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}
