//! Transfers of small tensors: token ids, slot indices and masks to the device, and results to the
//! host. Pixels and weights are transferred elsewhere.
#![expect(clippy::disallowed_methods, reason = "this module wraps the calls that other modules must not use")]

use cuda::CudaStreams;
use tch::{Cuda, Device, Kind, TchError, Tensor, kind::Element};

/// Copies values to `device`, as a tensor of one dimension.
///
/// A copy to a CUDA device uses page-locked memory, which LibTorch caches and holds until the copy
/// is complete. The copy waits in the device's queue, and this thread continues. A plain copy would
/// block this thread until the device has completed all earlier work. The device would then be idle
/// while the next kernels are launched.
pub(crate) fn to_device<T: Element>(values: &[T], device: Device) -> Result<Tensor, TchError> {
    let tensor = Tensor::f_from_slice(values)?;
    match device {
        // `f_pin_memory` with a device writes two warnings to standard error in each call.
        Device::Cuda(_) => tensor.f_internal_pin_memory(device)?.f_to_device_(device, T::KIND, true, false),
        other => tensor.f_to_device(other),
    }
}

/// Returns all values of a tensor in f32. Waits for the device.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let mut values = vec![0f32; tensor.numel()];
    let count = values.len();
    tensor
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?
        .f_copy_data(&mut values, count)?;
    Ok(values)
}

/// Waits until a CUDA device has completed the work of this thread.
///
/// # Errors
/// [`TchError`] if the device is lost.
pub(crate) fn synchronize(cuda_index: usize) -> Result<(), TchError> {
    match CudaStreams::open() {
        Ok(streams) => Ok(streams.synchronize(cuda_index)?),
        // LibTorch's own function panics if the device is lost.
        Err(_) => {
            Cuda::synchronize(cuda_index as i64);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_transfer_to_device_and_back() {
        let on_device = to_device(&[1i64, -2, 3], Device::Cpu).unwrap();
        assert_eq!((on_device.kind(), on_device.size()), (Kind::Int64, vec![3]));
        assert_eq!(to_host(&on_device).unwrap(), [1.0, -2.0, 3.0]);
        let table = on_device.to_kind(Kind::Half).view([3, 1]).expand([3, 2], false).transpose(0, 1);
        assert_eq!(to_host(&table).unwrap(), [1.0, -2.0, 3.0, 1.0, -2.0, 3.0]);
        assert!(to_host(&to_device::<f32>(&[], Device::Cpu).unwrap()).unwrap().is_empty());
    }
}
