//! Scratch memory that later batches reuse.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use cpu_kernels::LayerInput;

pub(super) use crate::parallel::scratch::Buffer;

/// Buffers that outlive one stage of a batch.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Rc<RefCell<Vec<Buffer>>>);

impl BufferPool {
    /// Returns a buffer of `count` numbers with unspecified values. Its memory returns to the pool
    /// on drop.
    pub(super) fn take(&self, count: usize) -> PooledBuffer {
        let mut numbers = self.0.borrow_mut().pop().unwrap_or_default();
        numbers.take(count);
        PooledBuffer { numbers, count, pool: Rc::clone(&self.0) }
    }
}

/// A scratch buffer that returns its memory to the pool when it is dropped.
#[derive(Debug)]
pub(super) struct PooledBuffer {
    numbers: Buffer,
    count: usize,
    pool: Rc<RefCell<Vec<Buffer>>>,
}

impl Deref for PooledBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.numbers.as_slice().get(..self.count).unwrap_or_default()
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.numbers.take(self.count)
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(std::mem::take(&mut self.numbers));
    }
}

/// Scratch memory of the vision encoder's layers. No layer reads what another one left.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Normalized states, `[rows, hidden]`.
    pub(super) normed: LayerInput,
    /// Inner states of a feed-forward block.
    pub(super) inner: LayerInput,
    /// Patches of an image.
    pub(super) patches: Buffer,
    /// Output of attention, `[rows, hidden]`.
    pub(super) context: Buffer,
    /// Scratch memory of attention.
    pub(super) scores: Buffer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_buffer_is_reused_by_the_pool() {
        let pool = BufferPool::default();
        let (mut first, second) = (pool.take(3), pool.take(5));
        first.fill(7.0);
        drop((first, second));
        assert_eq!(pool.0.borrow().len(), 2);
        let again = pool.take(4);
        assert_eq!((again.len(), pool.0.borrow().len()), (4, 1));
    }
}
