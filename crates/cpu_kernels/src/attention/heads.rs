//! The layout of the attention heads in a row.

use bytemuck::{cast_slice, cast_slice_mut};

use super::matrix_rows::MatrixRows;
use crate::{
    epilogue::Epilogue,
    linear::{CpuLinear, layer_input::LayerInput, number_format::NumberFormat},
    tiles::kernel::Bf16Kernel,
};

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

    /// Returns the length of a row of `columns` numbers that [`Self::project`] writes, in units of
    /// f32.
    #[must_use]
    pub fn row_len(&self, columns: usize) -> usize {
        if self.kernel().is_some() { columns.div_ceil(2) } else { columns }
    }

    /// Computes queries, keys or values, rounded if the products of these heads are.
    ///
    /// `out` has [`Self::row_len`] numbers for each row of `input`. [`Self::rows`] returns the
    /// result.
    pub fn project(&self, linear: &CpuLinear, input: &LayerInput, out: &mut [f32]) {
        match self.kernel() {
            Some(kernel) => {
                let stride = 2 * self.row_len(linear.outputs());
                linear.forward_to_bf16(input, kernel, cast_slice_mut(out), stride);
            }
            None => linear.forward_input(input, out, Epilogue::Store),
        }
    }

    /// Returns what [`Self::project`] has written to `memory`, as rows of `columns` numbers.
    ///
    /// Only [`Self::pack`] and [`Self::attend`] of heads in this format read it.
    #[must_use]
    pub fn rows<'a>(&self, memory: &'a [f32], columns: usize) -> MatrixRows<'a> {
        match self.kernel() {
            Some(_) => MatrixRows::bf16(cast_slice(memory), 2 * self.row_len(columns)),
            None => MatrixRows::new(memory, columns),
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
