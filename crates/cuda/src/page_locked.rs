//! Page-locked memory, from which a device copies without the help of the host.

use tch::{Device, Kind, TchError, Tensor};

use crate::{error::CudaError, ffi::bytes, stream::CopyStream};

/// A buffer of bytes in page-locked memory.
///
/// The host writes slices to it. No thread team of LibTorch takes part: a team is slow if other
/// threads use the CPUs.
#[derive(Debug)]
pub struct PageLockedBuffer(Tensor);

impl PageLockedBuffer {
    /// Allocates a buffer for copies to `device`.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`] if there is no such memory.
    pub fn new(bytes: usize, device: Device) -> Result<Self, CudaError> {
        let pageable = Tensor::f_zeros([length(bytes)?], (Kind::Uint8, Device::Cpu))?;
        // `f_pin_memory` with a device writes warnings to standard error.
        Ok(Self(pageable.f_internal_pin_memory(device)?))
    }

    /// Copies `data` to the buffer, beginning at `offset`.
    ///
    /// # Errors
    /// [`CudaError::BufferTooSmall`].
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Result<(), CudaError> {
        let buffer = bytes::of_tensor(&mut self.0)?;
        let capacity = buffer.len();
        let end = offset.checked_add(data.len());
        match end.and_then(|end| buffer.get_mut(offset..end)) {
            Some(target) => {
                target.copy_from_slice(data);
                Ok(())
            }
            None => Err(CudaError::BufferTooSmall { offset, bytes: data.len(), capacity }),
        }
    }

    /// Copies the first bytes of the buffer to `target`, a tensor of u8, and waits for the end of
    /// the copy. It runs on `stream`, or on the current stream.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`] if the buffer is shorter or the copy fails.
    pub fn copy_to(&mut self, target: &mut Tensor, stream: Option<&CopyStream>) -> Result<(), CudaError> {
        let source = self.0.f_narrow(0, 0, length(target.numel())?)?.f_view(target.size().as_slice())?;
        // A copy that blocks leaves no view of the buffer in use.
        match stream {
            Some(stream) => drop(stream.run(|| target.f_copy_(&source))??),
            None => drop(target.f_copy_(&source)?),
        }
        Ok(())
    }
}

fn length(bytes: usize) -> Result<i64, TchError> {
    i64::try_from(bytes).map_err(|error| TchError::Convert(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bytes_are_read_at_their_offset() {
        // Ordinary memory, since page-locked memory needs a device.
        let mut buffer = PageLockedBuffer(Tensor::zeros([6], (Kind::Uint8, Device::Cpu)));
        buffer.write(2, &[7, 8]).unwrap();
        buffer.write(5, &[9]).unwrap();
        buffer.write(6, &[]).unwrap();
        for bytes in [6, 3] {
            let mut target = Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu));
            buffer.copy_to(&mut target, None).unwrap();
            let expected = [0, 0, 7, 8, 0, 9].into_iter().take(bytes as usize).collect::<Vec<u8>>();
            assert_eq!(Vec::<u8>::try_from(target).unwrap(), expected);
        }
    }

    #[test]
    fn data_beyond_the_end_is_an_error_with_sizes() {
        let mut buffer = PageLockedBuffer(Tensor::zeros([4], (Kind::Uint8, Device::Cpu)));
        for offset in [3, 4, usize::MAX] {
            let message = buffer.write(offset, &[1, 2]).unwrap_err().to_string();
            assert!(message.contains(&format!("2 bytes at {offset}, buffer has 4")), "{message}");
        }
        let mut target = Tensor::zeros([5], (Kind::Uint8, Device::Cpu));
        assert!(buffer.copy_to(&mut target, None).is_err());
    }
}
