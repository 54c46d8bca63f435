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
pub(super) struct Spares(Rc<RefCell<Vec<Vec<f32>>>>);

impl Spares {
    /// So many numbers, with whatever was there before. Their memory comes back by itself.
    pub(super) fn lend(&self, count: usize) -> Loan {
        let mut numbers = self.0.borrow_mut().pop().unwrap_or_default();
        numbers.resize(count, 0.0);
        Loan { numbers, home: Rc::clone(&self.0) }
    }
}

/// Numbers whose memory goes back to where it came from.
#[derive(Debug)]
pub(super) struct Loan {
    numbers: Vec<f32>,
    home: Rc<RefCell<Vec<Vec<f32>>>>,
}

impl Deref for Loan {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.home.borrow_mut().push(std::mem::take(&mut self.numbers));
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
        let spares = Spares::default();
        let (mut first, second) = (spares.lend(3), spares.lend(5));
        first.fill(7.0);
        drop((first, second));
        assert_eq!(spares.0.borrow().len(), 2);
        let again = spares.lend(4);
        assert_eq!((again.len(), spares.0.borrow().len()), (4, 1));
    }
}
