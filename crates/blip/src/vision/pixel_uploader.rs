//! Transfers pixels to the device.
//!
//! For CUDA, pixels go through page-locked memory and on a separate stream. Therefore the host
//! gathers and copies the next images while the device computes on the previous ones.

use cuda::{CopyStream, CudaStreams, PageLockedBuffer};
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
    /// The pixels of the images of one pass.
    page_locked: PageLockedBuffer,
    /// `[images, side, side, 3]` of u8 on the device, for all images of a batch.
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
                let shape = [batch_images as i64, side, side, 3];
                let pass_bytes = pass_images * bytes_of_image(side);
                let copy_stream = CudaStreams::open().and_then(|streams| streams.copy_stream(cuda_index));
                if let Err(error) = &copy_stream {
                    tracing::warn!(%error, "copy stream unavailable; batches are slower");
                }
                Some(CudaUpload {
                    page_locked: PageLockedBuffer::new(pass_bytes, device)?,
                    device_buffer: Tensor::f_empty(shape, (Kind::Uint8, device))?,
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
        let Some(CudaUpload { page_locked, device_buffer, copy_stream, cuda_index }) = &mut self.cuda else {
            let mut data = Vec::with_capacity(images.iter().map(|pixels| pixels.data().len()).sum());
            images.iter().for_each(|pixels| data.extend_from_slice(pixels.data()));
            return Tensor::f_from_slice(&data)?.f_view([count, side, side, 3]);
        };
        if first == 0 {
            synchronize(*cuda_index)?;
        }
        let image_bytes = bytes_of_image(side);
        for (position, pixels) in images.iter().enumerate() {
            page_locked.write(position * image_bytes, pixels.data())?;
        }
        let mut device_buffer = device_buffer.f_narrow(0, first as i64, count)?;
        // The host waits for the copy stream only, and the stream has only this copy.
        page_locked.copy_to(&mut device_buffer, copy_stream.as_ref())?;
        Ok(device_buffer)
    }
}

/// Returns the bytes of an image's pixels.
fn bytes_of_image(side: i64) -> usize {
    usize::try_from(side * side * 3).unwrap_or(0)
}
