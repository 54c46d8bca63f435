//! Pixels on their way to the device.
//!
//! To a CUDA device they go through page-locked memory, and on a stream beside the one that computes: so the pixels of the next
//! images are gathered and copied while the device still works on those before.

use cuda_stream::{CudaStreams, SideStream};
use tch::{Device, Kind, TchError, Tensor};

use crate::{device::transfer::synchronize, preprocess::Pixels};

#[derive(Debug)]
pub(crate) struct PixelUploader {
    /// `None` where the model runs on the CPU.
    cuda: Option<CudaUpload>,
    side: i64,
}

/// The way to a CUDA device.
#[derive(Debug)]
struct CudaUpload {
    /// `[images, side, side, 3]` of u8 in page-locked memory, of the images that go together.
    pinned: Tensor,
    /// The same on the device, of a whole batch: nothing is overwritten that a kernel of the same batch has yet to read.
    device_buffer: Tensor,
    /// Without it copies wait for the kernels before them.
    copy_stream: Option<SideStream>,
    cuda_index: usize,
}

impl PixelUploader {
    /// For batches of up to `batch_images`, of which up to `pass_images` are sent together.
    pub(crate) fn new(
        [batch_images, pass_images]: [usize; 2],
        side: i64,
        device: Device,
    ) -> Result<Self, TchError> {
        let cuda = match device {
            Device::Cuda(cuda_index) => {
                let pixels = |images: usize, device| {
                    Tensor::f_empty([images as i64, side, side, 3], (Kind::Uint8, device))
                };
                let copy_stream = CudaStreams::open().map_err(|error| error.to_string());
                let copy_stream = copy_stream.and_then(|streams| streams.side_stream(cuda_index));
                if let Err(error) = &copy_stream {
                    tracing::warn!(%error, "pixels go to the device between its kernels: batches will be slower");
                }
                Some(CudaUpload {
                    pinned: pixels(pass_images, Device::Cpu)?.f_pin_memory(device)?,
                    device_buffer: pixels(batch_images, device)?,
                    copy_stream: copy_stream.ok(),
                    cuda_index,
                })
            }
            _ => None,
        };
        Ok(Self { cuda, side })
    }

    /// Brings `images` to the device as `[images, side, side, 3]` of u8.
    ///
    /// They take places `first..` of the batch, which begins at 0: then the device is waited for, which may not have read what
    /// lies there of the batch before. (It has, as a rule: somebody waited for its answers.)
    pub(crate) fn send(&mut self, first: usize, images: &[&Pixels]) -> Result<Tensor, TchError> {
        let (side, count) = (self.side, images.len() as i64);
        let Some(CudaUpload { pinned, device_buffer, copy_stream, cuda_index }) = &mut self.cuda else {
            let mut data = Vec::with_capacity(images.iter().map(|pixels| pixels.data().len()).sum());
            images.iter().for_each(|pixels| data.extend_from_slice(pixels.data()));
            return Tensor::f_from_slice(&data)?.f_view([count, side, side, 3]);
        };
        if first == 0 {
            synchronize(*cuda_index);
        }
        for (position, pixels) in (0..).zip(images) {
            let pixels = Tensor::f_from_slice(pixels.data())?.f_view([1, side, side, 3])?;
            pinned.f_narrow(0, position, 1)?.f_copy_(&pixels)?;
        }
        let pinned = pinned.f_narrow(0, 0, count)?;
        let mut device_buffer = device_buffer.f_narrow(0, first as i64, count)?;
        // It waits for what is on its stream, so for itself alone.
        match copy_stream {
            Some(copy_stream) => {
                copy_stream.run(|| device_buffer.f_copy_(&pinned)).map_err(TchError::Torch)??
            }
            None => device_buffer.f_copy_(&pinned)?,
        }
        Ok(device_buffer)
    }
}
