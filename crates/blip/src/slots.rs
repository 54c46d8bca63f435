//! A tensor of slots: what is kept of several images lies in one piece of memory that is taken once, so that it is bounded
//! from the start, nothing fragments, and a batch gathers its images with one product.

use tch::{TchError, Tensor};

/// What is kept of images, `[slots, ..]`.
#[derive(Debug)]
pub(crate) struct Slots(pub(crate) Tensor);

impl Slots {
    /// Writes `values` `[slots.len(), ..]` into `slots`.
    pub(crate) fn store(&mut self, slots: &[i64], values: &Tensor) -> Result<(), TchError> {
        let index = self.index(slots)?;
        self.0.f_index_copy_(0, &index, values).map(drop)
    }

    /// What is in `slots`, `[slots.len(), ..]`.
    pub(crate) fn gather(&self, slots: &[i64]) -> Result<Tensor, TchError> {
        match slots {
            [only] => self.0.f_narrow(0, *only, 1),
            _ => self.0.f_index_select(0, &self.index(slots)?),
        }
    }

    fn index(&self, slots: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(slots)?.f_to_device(self.0.device())
    }
}
