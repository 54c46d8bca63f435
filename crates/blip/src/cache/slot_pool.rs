//! A tensor of slots, each for one image.
//!
//! The cache allocates this memory once. It is therefore bounded from the start and does not
//! fragment, and one operator can gather the images of a batch.

use tch::{Device, TchError, Tensor};

use crate::device::transfer::to_device;

/// Largest slot that is copied on the CPU, in bytes. A batch reads larger slots in place. This was
/// measured to be faster for slots of 3.4 MiB (`docs/decisions/cross-attention.md`). It was not
/// measured for the 65 KiB of a small model.
const LARGEST_COPIED_BYTES: usize = 1 << 20;

/// Indices of slots, in the order of a batch.
#[derive(Debug)]
pub(crate) struct SlotIndices {
    slots: Vec<i64>,
    /// `slots` as a tensor `[slots.len()]` of i64 on the device of the pool. `None` if each slot
    /// follows the one before it.
    index: Option<Tensor>,
}

impl SlotIndices {
    pub(crate) fn new(slots: Vec<i64>, device: Device) -> Result<Self, TchError> {
        let is_run = slots.iter().zip(slots.iter().skip(1)).all(|(slot, next)| slot + 1 == *next);
        let index = if is_run { None } else { Some(to_device(&slots, device)?) };
        Ok(Self { slots, index })
    }
}

/// Tensor of slots, `[slots, ..]`.
#[derive(Debug)]
pub(crate) struct SlotPool(pub(crate) Tensor);

impl SlotPool {
    /// Writes `values` `[indices, ..]` into the slots at `indices`.
    pub(crate) fn store(&mut self, indices: &SlotIndices, values: &Tensor) -> Result<(), TchError> {
        let (found, expected) = (values.size().first().copied(), indices.slots.len() as i64);
        if found != Some(expected) {
            // A copy to adjacent slots would repeat the values of one.
            return Err(TchError::Shape(format!("values of {found:?} slots, expected {expected}")));
        }
        match &indices.index {
            Some(index) => self.0.f_index_copy_(0, index, values).map(drop),
            None => self.run(indices)?.f_copy_(values).map(drop),
        }
    }

    /// Returns the slots at `indices`, `[indices, ..]`. Adjacent slots are a view.
    pub(crate) fn gather(&self, indices: &SlotIndices) -> Result<Tensor, TchError> {
        match &indices.index {
            Some(index) => self.0.f_index_select(0, index),
            None => self.run(indices),
        }
    }

    /// Returns a view of adjacent slots.
    fn run(&self, indices: &SlotIndices) -> Result<Tensor, TchError> {
        let first = indices.slots.first().copied().unwrap_or(0);
        self.0.f_narrow(0, first, indices.slots.len() as i64)
    }

    /// Returns the slots at `indices`, in this order, as one or more tensors `[part of indices,
    /// ..]`.
    ///
    /// Large slots in the CPU's memory are views. Other slots are copied into one tensor.
    pub(crate) fn read(&self, indices: &SlotIndices) -> Result<Vec<Tensor>, TchError> {
        match self.0.device() == Device::Cpu && self.slot_bytes() > LARGEST_COPIED_BYTES {
            true => indices.slots.iter().map(|&slot| self.0.f_narrow(0, slot, 1)).collect(),
            false => Ok(vec![self.gather(indices)?]),
        }
    }

    /// Returns the size of a slot, in bytes.
    pub(crate) fn slot_bytes(&self) -> usize {
        let numbers: i64 = self.0.size().iter().skip(1).product();
        usize::try_from(numbers).unwrap_or(0) * self.0.kind().elt_size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::random_layers;

    proptest! {
        #[test]
        fn gathered_slots_are_those_that_were_stored(
            slots in prop_oneof![
                prop::collection::hash_set(0i64..6, 0..6).prop_map(|slots| slots.into_iter().collect()),
                (0i64..6).prop_flat_map(|first| (first..=6).prop_map(move |end| (first..end).collect::<Vec<_>>())),
            ],
        ) {
            let before = random_layers::tensor(&[6, 3]);
            let mut pool = SlotPool(before.copy());
            let values = random_layers::tensor(&[slots.len() as i64, 3]);
            let indices = SlotIndices::new(slots.clone(), Device::Cpu).unwrap();
            pool.store(&indices, &values).unwrap();
            let gathered = pool.gather(&indices).unwrap();
            prop_assert_eq!(&gathered, &values);
            if let Some(&first) = slots.first() {
                let is_run = (first..).zip(&slots).all(|(expected, &slot)| slot == expected);
                prop_assert_eq!(gathered.data_ptr() == pool.0.get(first).data_ptr(), is_run);
            }
            let more = random_layers::tensor(&[slots.len() as i64 + 1, 3]);
            prop_assert!(pool.store(&indices, &more).is_err());
            for slot in (0..6).filter(|slot| !slots.contains(slot)) {
                prop_assert_eq!(pool.0.get(slot), before.get(slot));
            }
        }
    }

    #[test]
    fn large_slots_are_read_in_place_and_small_slots_are_copied() {
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
