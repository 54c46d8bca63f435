//! The layout of the attention heads in a row.

/// A number of attention heads and their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
}

impl Heads {
    /// Creates a layout of `heads` heads of size `head_dim`. Both must be at least 1.
    #[must_use]
    pub fn new(heads: usize, head_dim: usize) -> Self {
        Self { heads: heads.max(1), head_dim: head_dim.max(1) }
    }

    /// Returns the number of heads.
    #[must_use]
    pub fn count(&self) -> usize {
        self.heads
    }

    /// Returns the length of a row: the number of heads times their size.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}
