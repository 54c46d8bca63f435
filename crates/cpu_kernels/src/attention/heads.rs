//! How a row is cut into heads.

/// How a row is cut into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
}

impl Heads {
    /// So many heads of so many numbers, both at least 1.
    #[must_use]
    pub fn new(heads: usize, head_dim: usize) -> Self {
        Self { heads: heads.max(1), head_dim: head_dim.max(1) }
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.heads
    }

    /// Numbers of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}
