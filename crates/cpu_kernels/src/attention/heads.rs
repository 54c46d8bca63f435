//! The layout of the attention heads in a row.

use crate::{linear::number_format::NumberFormat, tiles::kernel::Bf16Kernel};

/// A number of attention heads, their size and their number format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) format: NumberFormat,
}

impl Heads {
    /// Creates a layout of `heads` heads of size `head_dim`. Both must be at least 1.
    #[must_use]
    pub fn new(heads: usize, head_dim: usize) -> Self {
        Self { heads: heads.max(1), head_dim: head_dim.max(1), format: NumberFormat::F32 }
    }

    /// Returns the layout for attention whose products are in `format`.
    ///
    /// In bf16 and int8, queries, keys, values and weights are rounded to bf16, if the processor
    /// has such products. The softmax is in f32.
    #[must_use]
    pub fn with_format(self, format: NumberFormat) -> Self {
        Self { format, ..self }
    }

    /// Returns the kernel of rounded products, if these heads use one.
    pub(super) fn kernel(&self) -> Option<Bf16Kernel> {
        match self.format {
            NumberFormat::F32 => None,
            NumberFormat::Bf16 | NumberFormat::Int8 => Bf16Kernel::new(),
        }
    }

    /// Returns the layout of one of the heads.
    #[must_use]
    pub fn one(self) -> Self {
        Self { heads: 1, ..self }
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
