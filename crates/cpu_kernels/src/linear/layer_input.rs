//! The input of a linear layer, in the form that the layer reads.

use crate::tiles::rounded_rows::RoundedRows;

/// Rows in the form that a linear layer reads. The memory is reused.
#[derive(Debug, Default)]
pub struct LayerInput {
    /// `[rows, inputs]`, for a layer whose products are in f32.
    pub(super) numbers: Vec<f32>,
    /// For a layer whose inputs are rounded.
    pub(super) rounded: RoundedRows,
}
