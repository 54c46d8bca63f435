//! Page-locked memory, from which a device copies without the help of the host.

use tch::{Device, Kind, TchError, Tensor};

use crate::{error::CudaError, ffi::bytes};

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
        let pageable = Tensor::f_empty([length(bytes)?], (Kind::Uint8, Device::Cpu))?;
        // `f_pin_memory` with a device writes warnings to standard error.
        Ok(Self(pageable.f_internal_pin_memory(device)?))
    }

    /// Copies `data` to the buffer, beginning at `offset`.
    ///
    /// The caller has waited for earlier copies from these bytes to a device.
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

    /// Returns the first `bytes` bytes as a tensor `[bytes]` of u8.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`] if the buffer is shorter.
    pub fn first(&self, bytes: usize) -> Result<Tensor, CudaError> {
        Ok(self.0.f_narrow(0, 0, length(bytes)?)?)
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
        assert_eq!(Vec::<u8>::try_from(buffer.first(6).unwrap()).unwrap(), [0, 0, 7, 8, 0, 9]);
        assert_eq!(Vec::<u8>::try_from(buffer.first(3).unwrap()).unwrap(), [0, 0, 7]);
    }

    #[test]
    fn data_beyond_the_end_is_an_error_with_sizes() {
        let mut buffer = PageLockedBuffer(Tensor::zeros([4], (Kind::Uint8, Device::Cpu)));
        for offset in [3, 4, usize::MAX] {
            let message = buffer.write(offset, &[1, 2]).unwrap_err().to_string();
            assert!(message.contains(&format!("2 bytes at {offset}, buffer has 4")), "{message}");
        }
        assert!(buffer.first(5).is_err());
    }
}
