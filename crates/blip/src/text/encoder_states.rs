//! The encoder states that the decoder's cross-attention reads.

use tch::{TchError, Tensor};

use crate::device::transfer::to_device;

/// The question's states or the image's features of each row.
#[derive(Debug)]
pub(crate) struct EncoderStates {
    /// `[rows, longest, encoder dim]`.
    pub(crate) states: Tensor,
    /// Mask of shorter rows' padding, `[rows, 1, 1, mask width]`. `None` without padding.
    pub(crate) padding: Option<Tensor>,
}

impl EncoderStates {
    /// Returns the states of `rows`, in this order. All rows in their order are not copied.
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
