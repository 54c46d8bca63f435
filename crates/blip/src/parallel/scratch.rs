//! Scratch memory that later tasks reuse.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cpu_kernels::{AlignedNumbers, LayerInput};

/// A growing buffer whose numbers are written before they are read.
pub(crate) type Buffer = AlignedNumbers;

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
    pub(super) scores: Buffer,
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
