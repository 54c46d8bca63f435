//! Pixels on their way to the device.
//!
//! To a CUDA device they go through page-locked memory: such a copy does not block the thread that asks for it, so
//! the next images are gathered while the device still works on the ones before.

use tch::{Device, Kind, TchError, Tensor};

use crate::{preprocess::Pixels, stopwatch::synchronize};

#[derive(Debug)]
pub(crate) struct Upload {
    /// `[images, side, side, 3]` of u8 in page-locked memory; `None` where the model runs on the CPU.
    locked: Option<Tensor>,
    side: i64,
    device: Device,
}

impl Upload {
    /// Room for a whole batch, so that nothing is overwritten while a copy of the same batch is under way.
    pub(crate) fn new(batch_images: i64, side: i64, device: Device) -> Result<Self, TchError> {
        let locked = if device.is_cuda() {
            let empty = Tensor::f_empty([batch_images, side, side, 3], (Kind::Uint8, Device::Cpu))?;
            Some(empty.f_pin_memory(device)?)
        } else {
            None
        };
        Ok(Self { locked, side, device })
    }

    /// Brings `images` to the device as `[images, side, side, 3]` of u8.
    ///
    /// They take places `first..` of the batch, which begins at 0: then the device is waited for, which may not have read what
    /// lies there of the batch before. (It has, as a rule: somebody waited for its answers.)
    pub(crate) fn send(&mut self, first: i64, images: &[&Pixels]) -> Result<Tensor, TchError> {
        let (side, count) = (self.side, images.len() as i64);
        let Some(locked) = &self.locked else {
            let mut data = Vec::with_capacity(images.iter().map(|pixels| pixels.data().len()).sum());
            images.iter().for_each(|pixels| data.extend_from_slice(pixels.data()));
            return Tensor::f_from_slice(&data)?.f_view([count, side, side, 3]);
        };
        if let (0, Device::Cuda(index)) = (first, self.device) {
            synchronize(index);
        }
        for (place, pixels) in (first..).zip(images) {
            let pixels = Tensor::f_from_slice(pixels.data())?.f_view([1, side, side, 3])?;
            locked.f_narrow(0, place, 1)?.f_copy_(&pixels)?;
        }
        locked.f_narrow(0, first, count)?.f_to_device_(self.device, Kind::Uint8, true, true)
    }
}
