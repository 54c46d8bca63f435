//! Small things between the host and the device: token ids, places and masks that a batch needs there, and numbers that are
//! wanted here. (Pixels have a way of their own, and so have weights.)
#![expect(
    clippy::disallowed_methods,
    reason = "this is what is to be used in the place of LibTorch's own call"
)]

use tch::{Cuda, Device, Kind, TchError, Tensor, kind::Element};

/// Brings numbers to `device`, as a tensor of one dimension.
///
/// To a CUDA device they go through page-locked memory, which LibTorch keeps in stock and holds until the copy is done. So it
/// is the copy that waits for its turn, and not this thread. A plain copy waits here until the device has done all that it was
/// asked for before, and then leaves it idle while the kernels that follow are launched.
pub(crate) fn to_device<T: Element>(numbers: &[T], device: Device) -> Result<Tensor, TchError> {
    let tensor = Tensor::f_from_slice(numbers)?;
    match device {
        Device::Cuda(_) => tensor.f_pin_memory(device)?.f_to_device_(device, T::KIND, true, false),
        other => tensor.f_to_device(other),
    }
}

/// All numbers of a tensor, in f32; waits for the device.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let mut numbers = vec![0f32; tensor.numel()];
    let count = numbers.len();
    tensor
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?
        .f_copy_data(&mut numbers, count)?;
    Ok(numbers)
}

/// Waits until a CUDA device has done all that it was asked for.
pub(crate) fn synchronize(cuda_index: usize) {
    Cuda::synchronize(cuda_index as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_come_back() {
        let on_device = to_device(&[1i64, -2, 3], Device::Cpu).unwrap();
        assert_eq!((on_device.kind(), on_device.size()), (Kind::Int64, vec![3]));
        assert_eq!(to_host(&on_device).unwrap(), [1.0, -2.0, 3.0]);
        let table = on_device.to_kind(Kind::Half).view([3, 1]).expand([3, 2], false).transpose(0, 1);
        assert_eq!(to_host(&table).unwrap(), [1.0, -2.0, 3.0, 1.0, -2.0, 3.0]);
        assert!(to_host(&to_device::<f32>(&[], Device::Cpu).unwrap()).unwrap().is_empty());
    }
}
