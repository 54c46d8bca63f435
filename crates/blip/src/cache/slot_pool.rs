//! A tensor of slots: what is kept of several images lies in one piece of memory that is taken once, so that it is bounded
//! from the start, nothing fragments, and a batch gathers its images with one product.

use tch::{Device, TchError, Tensor};

use crate::device::transfer::to_device;

/// On the CPU larger slots are not copied. At 3.4 MiB reading each where it lies was measured to be quicker
/// (docs/decisions/cross-attention.md), at a small model's 65 KiB it was not measured.
const LARGEST_COPIED_BYTES: usize = 1 << 20;

/// Some of the slots, in an order.
#[derive(Debug)]
pub(crate) struct SlotIndices {
    slots: Vec<i64>,
    /// The same, `[slots.len()]` of i64 on the slots' device.
    index: Tensor,
}

impl SlotIndices {
    pub(crate) fn new(slots: Vec<i64>, device: Device) -> Result<Self, TchError> {
        let index = to_device(&slots, device)?;
        Ok(Self { slots, index })
    }
}

/// What is kept of images, `[slots, ..]`.
#[derive(Debug)]
pub(crate) struct SlotPool(pub(crate) Tensor);

impl SlotPool {
    /// Writes `values`, one for each of the `indices`, `[indices, ..]`.
    pub(crate) fn store(&mut self, indices: &SlotIndices, values: &Tensor) -> Result<(), TchError> {
        self.0.f_index_copy_(0, &indices.index, values).map(drop)
    }

    /// What is at the `indices`, `[indices, ..]`.
    pub(crate) fn gather(&self, indices: &SlotIndices) -> Result<Tensor, TchError> {
        match *indices.slots {
            [only] => self.0.f_narrow(0, only, 1),
            _ => self.0.f_index_select(0, &indices.index),
        }
    }

    /// What is at the `indices`, in their order, in pieces `[some of them, ..]`: copied side by side or, where large ones lie in
    /// the CPU's memory, each as it lies there.
    pub(crate) fn read(&self, indices: &SlotIndices) -> Result<Vec<Tensor>, TchError> {
        match self.0.device() == Device::Cpu && self.slot_bytes() > LARGEST_COPIED_BYTES {
            true => indices.slots.iter().map(|&slot| self.0.f_narrow(0, slot, 1)).collect(),
            false => Ok(vec![self.gather(indices)?]),
        }
    }

    /// Size of a slot.
    pub(crate) fn slot_bytes(&self) -> usize {
        let numbers: i64 = self.0.size().iter().skip(1).product();
        usize::try_from(numbers).unwrap_or(0) * self.0.kind().elt_size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::random_layers;

    #[test]
    fn large_slots_are_read_where_they_lie_and_small_ones_side_by_side() {
        for (numbers, pieces) in
            [(LARGEST_COPIED_BYTES as i64 / 4, 1), (LARGEST_COPIED_BYTES as i64 / 4 + 1, 3)]
        {
            let slots = SlotPool(random_layers::tensor(&[4, numbers]));
            let indices = SlotIndices::new(vec![2, 0, 3], Device::Cpu).unwrap();
            let read = slots.read(&indices).unwrap();
            assert_eq!(read.len(), pieces);
            assert_eq!(Tensor::cat(&read, 0), slots.gather(&indices).unwrap());
        }
    }
}
