//! Pixels on their way to the device.
//!
//! To a CUDA device they go through page-locked memory, and on a stream beside the one that computes: so the pixels of the next
//! images are gathered and copied while the device still works on those before.

use cuda::{CopyStream, CudaStreams};
use tch::{Device, Kind, TchError, Tensor};

use crate::{preprocess::Pixels, transfer::synchronize};

#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` where the model runs on the CPU.
    way: Option<Way>,
    side: i64,
}

/// The way to a CUDA device.
#[derive(Debug)]
struct Way {
    /// `[images, side, side, 3]` of u8 in page-locked memory, of the images that go together.
    locked: Tensor,
    /// The same on the device, of a whole batch: nothing is overwritten that a kernel of the same batch has yet to read.
    there: Tensor,
    /// Without it copies wait for the kernels before them.
    beside: Option<CopyStream>,
    cuda_index: usize,
}

impl Upload {
    /// For batches of up to `batch_images`, of which up to `pass_images` are sent together.
    pub(crate) fn new(
        [batch_images, pass_images]: [usize; 2],
        side: i64,
        device: Device,
    ) -> Result<Self, TchError> {
        let way = match device {
            Device::Cuda(cuda_index) => {
                let pixels = |images: usize, device| {
                    Tensor::f_empty([images as i64, side, side, 3], (Kind::Uint8, device))
                };
                let beside = CudaStreams::open().and_then(|streams| streams.copy_stream(cuda_index));
                if let Err(error) = &beside {
                    tracing::warn!(%error, "pixels go to the device between its kernels: batches will be slower");
                }
                Some(Way {
                    locked: pixels(pass_images, Device::Cpu)?.f_pin_memory(device)?,
                    there: pixels(batch_images, device)?,
                    beside: beside.ok(),
                    cuda_index,
                })
            }
            _ => None,
        };
        Ok(Self { way, side })
    }

    /// Brings `images` to the device as `[images, side, side, 3]` of u8.
    ///
    /// They take places `first..` of the batch, which begins at 0: then the device is waited for, which may not have read what
    /// lies there of the batch before. (It has, as a rule: somebody waited for its answers.)
    pub(crate) fn send(&mut self, first: usize, images: &[&Pixels]) -> Result<Tensor, TchError> {
        let (side, count) = (self.side, images.len() as i64);
        let Some(Way { locked, there, beside, cuda_index }) = &mut self.way else {
            let mut data = Vec::with_capacity(images.iter().map(|pixels| pixels.data().len()).sum());
            images.iter().for_each(|pixels| data.extend_from_slice(pixels.data()));
            return Tensor::f_from_slice(&data)?.f_view([count, side, side, 3]);
        };
        if first == 0 {
            synchronize(*cuda_index);
        }
        for (place, pixels) in (0..).zip(images) {
            let pixels = Tensor::f_from_slice(pixels.data())?.f_view([1, side, side, 3])?;
            locked.f_narrow(0, place, 1)?.f_copy_(&pixels)?;
        }
        let locked = locked.f_narrow(0, 0, count)?;
        let mut there = there.f_narrow(0, first as i64, count)?;
        // It waits for what is on its stream, so for itself alone.
        match beside {
            Some(beside) => beside.run(|| there.f_copy_(&locked))??,
            None => there.f_copy_(&locked)?,
        }
        Ok(there)
    }
}
