//! Memory that a batch leaves to the next one.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use cpu_kernels::Int8Scratch;

/// Numbers that are written before they are read.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<f32>);

impl Buffer {
    /// So many of them, with whatever was there before.
    pub(super) fn take(&mut self, count: usize) -> &mut [f32] {
        if self.0.len() < count {
            self.0.resize(count, 0.0);
        }
        self.0.get_mut(..count).unwrap_or_default()
    }
}

/// Memory for what goes from one stage to the next.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Rc<RefCell<Vec<Vec<f32>>>>);

impl BufferPool {
    /// So many numbers, with whatever was there before. Their memory comes back by itself.
    pub(super) fn take(&self, count: usize) -> PooledBuffer {
        let mut numbers = self.0.borrow_mut().pop().unwrap_or_default();
        numbers.resize(count, 0.0);
        PooledBuffer { numbers, pool: Rc::clone(&self.0) }
    }
}

/// A scratch buffer that returns its memory to the pool when it is dropped.
#[derive(Debug)]
pub(super) struct PooledBuffer {
    numbers: Vec<f32>,
    pool: Rc<RefCell<Vec<Vec<f32>>>>,
}

impl Deref for PooledBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(std::mem::take(&mut self.numbers));
    }
}

/// What the layers of a tower need beside their states; none needs what another left there.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// `[rows, hidden]`.
    pub(super) normed: Buffer,
    /// Queries, keys and values, or a feed-forward's inner states.
    pub(super) wide: Buffer,
    /// `[rows, hidden]`: what attention gives.
    pub(super) context: Buffer,
    /// Keys and values as attention reads them.
    pub(super) packed: Buffer,
    /// Attention's own.
    pub(super) scores: Vec<f32>,
    /// Inputs in 8-bit integers.
    pub(super) rounded: Int8Scratch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_is_lent_again() {
        let pool = BufferPool::default();
        let (mut first, second) = (pool.take(3), pool.take(5));
        first.fill(7.0);
        drop((first, second));
        assert_eq!(pool.0.borrow().len(), 2);
        let again = pool.take(4);
        assert_eq!((again.len(), pool.0.borrow().len()), (4, 1));
    }
}
