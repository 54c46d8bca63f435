//! Scratch memory that later tasks reuse.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cpu_kernels::LayerInput;

/// A growing buffer whose numbers are written before they are read.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// Returns `count` numbers with unspecified values.
    pub(crate) fn take(&mut self, count: usize) -> &mut [f32] {
        if self.0.len() < count {
            self.0.resize(count, 0.0);
        }
        self.0.get_mut(..count).unwrap_or_default()
    }
}

/// The scratch memory of a task.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The input of a feed-forward block.
    pub(super) rows: LayerInput,
    /// The input of its second layer.
    pub(super) inner: LayerInput,
    /// Queries of one head.
    pub(super) queries: Buffer,
    /// Keys and values in the layout that attention reads.
    pub(super) packed: Buffer,
    /// Results of attention.
    pub(super) context: Buffer,
    /// Scores of attention.
    pub(super) scores: Vec<f32>,
}

/// Scratch memory that no task uses at present.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool<T>(Mutex<Vec<T>>);

impl<T: Default> ScratchPool<T> {
    /// Runs `work` with memory that no other task uses meanwhile.
    pub(crate) fn with(&self, work: impl FnOnce(&mut T)) {
        let mut scratch = self.idle().pop().unwrap_or_default();
        work(&mut scratch);
        self.idle().push(scratch);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
