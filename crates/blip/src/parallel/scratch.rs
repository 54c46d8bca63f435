//! Scratch memory of tasks, which later tasks reuse.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The scratch memory of a task. The contents are unspecified.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Queries of one head.
    pub(super) queries: Vec<f32>,
    /// Keys and values in the layout that attention reads.
    pub(super) packed: Vec<f32>,
    /// Results of attention.
    pub(super) context: Vec<f32>,
    /// Scores of attention.
    pub(super) scores: Vec<f32>,
}

/// Scratch memory that no task uses at present.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    /// Runs `work` with memory that no other task uses meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.idle().pop().unwrap_or_default();
        let result = work(&mut scratch);
        self.idle().push(scratch);
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the first `len` numbers of `buffer`, which grows if it is shorter.
pub(super) fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    buffer.get_mut(..len).unwrap_or_default()
}
