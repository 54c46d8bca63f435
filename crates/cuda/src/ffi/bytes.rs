//! The memory of a tensor as bytes.

use std::slice;

use tch::{Device, Kind, TchError, Tensor};

/// Returns the values of a tensor of u8 on the CPU, for writing.
///
/// # Errors
/// [`TchError`] if the tensor has another kind or device, is empty or is not contiguous.
pub(crate) fn of_tensor(tensor: &mut Tensor) -> Result<&mut [u8], TchError> {
    if (tensor.kind(), tensor.device(), tensor.is_contiguous()) != (Kind::Uint8, Device::Cpu, true) {
        return Err(TchError::Kind(format!("tensor is {tensor:?}, expected contiguous u8 on the cpu")));
    }
    let bytes = tensor.numel();
    // An empty tensor may have a null pointer, which a slice must not have.
    if bytes == 0 {
        return Err(TchError::Shape(format!("tensor is {tensor:?}, expected at least one value")));
    }
    // SAFETY: the tensor has `bytes` contiguous, initialized bytes, which live as long as the
    // tensor. The borrow excludes other uses of this handle. The owner of the buffer has no other
    // handles: its views end with the copies that they are made for.
    Ok(unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kind_or_empty_tensor_is_rejected() {
        let bytes = Tensor::zeros([2, 2], (Kind::Uint8, Device::Cpu));
        for mut tensor in [bytes.to_kind(Kind::Half), bytes.narrow(1, 0, 1), bytes.narrow(0, 0, 0)] {
            assert!(of_tensor(&mut tensor).is_err(), "{tensor:?}");
        }
    }
}
