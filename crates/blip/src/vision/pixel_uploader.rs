//! Transfers pixels to the device.
//!
//! For CUDA, pixels go through page-locked memory and on a separate stream. Therefore the host
//! gathers and copies the next images while the device computes on the previous ones.

use cuda::{CopyStream, CudaStreams};
use tch::{Device, Kind, TchError, Tensor};

use crate::{device::transfer::synchronize, preprocess::Pixels};

/// Transfers pixels to the model's device.
#[derive(Debug)]
pub(crate) struct PixelUploader {
    /// `None` for a model on the CPU.
    cuda: Option<CudaUpload>,
    side: i64,
}

/// Buffers and stream of the transfer to a CUDA device.
#[derive(Debug)]
struct CudaUpload {
    /// `[images, side, side, 3]` of u8 in page-locked memory, for the images of one pass.
    pinned: Tensor,
    /// The same shape on the device, for all images of a batch.
    ///
    /// No pass overwrites pixels that a kernel of the same batch still reads.
    device_buffer: Tensor,
    /// Without a copy stream, transfers wait for the kernels before them.
    copy_stream: Option<CopyStream>,
    cuda_index: usize,
}

impl PixelUploader {
    /// Creates an uploader for batches of up to `batch_images` images, in passes of up to
    /// `pass_images`.
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
                let copy_stream = CudaStreams::open().and_then(|streams| streams.copy_stream(cuda_index));
                if let Err(error) = &copy_stream {
                    tracing::warn!(%error, "copy stream unavailable; batches are slower");
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

    /// Transfers `images` to the device. Returns `[images, side, side, 3]` of u8.
    ///
    /// The images take the positions from `first` of the batch. At position 0 the host waits for
    /// the device, which may still read the previous batch. In most cases the device is idle,
    /// because the previous batch's results were read.
    pub(crate) fn upload(&mut self, first: usize, images: &[&Pixels]) -> Result<Tensor, TchError> {
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
        // The host waits for the copy stream only, and the stream has only this copy.
        match copy_stream {
            Some(copy_stream) => copy_stream.run(|| device_buffer.f_copy_(&pinned))??,
            None => device_buffer.f_copy_(&pinned)?,
        }
        Ok(device_buffer)
    }
}
