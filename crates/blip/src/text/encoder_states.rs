//! What the decoder's cross-attention reads: the question's states, or the image's features.

use tch::{TchError, Tensor};

use crate::device::transfer::to_device;

/// One memory a row.
#[derive(Debug)]
pub(crate) struct EncoderStates {
    /// `[rows, longest, memory dim]`.
    pub(crate) states: Tensor,
    /// `[rows, 1, 1, longest]`: hides the padding of shorter ones; `None` if there is none.
    pub(crate) padding: Option<Tensor>,
}

impl EncoderStates {
    /// The memories at `rows`, in that order; nothing is copied if these are all of them as they are.
    pub(crate) fn select(&self, rows: &[i64]) -> Result<Self, TchError> {
        let padding = self.padding.as_ref();
        if rows.len() as i64 == self.states.size3()?.0 && rows.iter().copied().eq(0..rows.len() as i64) {
            let padding = padding.map(Tensor::shallow_clone);
            return Ok(Self { states: self.states.shallow_clone(), padding });
        }
        let rows = to_device(rows, self.states.device())?;
        Ok(Self {
            states: self.states.f_index_select(0, &rows)?,
            padding: padding.map(|padding| padding.f_index_select(0, &rows)).transpose()?,
        })
    }
}
