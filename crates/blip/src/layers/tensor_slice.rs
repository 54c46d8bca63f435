//! A tensor's numbers as a slice, where it lies.
#![expect(unsafe_code, reason = "the memory is LibTorch's")]

use std::slice;

use tch::{Device, Kind, TchError, Tensor};

/// The numbers of a tensor in f32 on the CPU, in the order of its dimensions.
///
/// Whoever holds another handle to the same tensor must not write to it meanwhile.
///
/// # Errors
/// If it is of another kind, on another device, empty, or does not lie in one piece.
pub(crate) fn as_slice(tensor: &Tensor) -> Result<&[f32], TchError> {
    if (tensor.kind(), tensor.device(), tensor.is_contiguous()) != (Kind::Float, Device::Cpu, true) {
        return Err(TchError::Kind(format!("expected f32 in one piece on the cpu, found {tensor:?}")));
    }
    let count = tensor.numel();
    // An empty tensor may point nowhere, and a slice must not.
    if count == 0 {
        return Err(TchError::Shape(format!("expected numbers, found {tensor:?}")));
    }
    // SAFETY: so many f32 lie there, in one piece, for as long as the tensor lives; any bits are an f32. Models stay on one
    // thread, where nothing writes to the tensor while this borrow lasts.
    Ok(unsafe { slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_they_lie() {
        let tensor = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let slice = as_slice(&tensor).unwrap();
        assert_eq!(slice, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(slice.as_ptr().cast(), tensor.data_ptr().cast_const());
    }

    #[test]
    fn a_tensor_of_another_kind_or_in_pieces_or_without_numbers_is_refused() {
        let square = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
        for tensor in [square.to_kind(Kind::Half), square.narrow(1, 0, 1), square.narrow(0, 0, 0)] {
            assert!(as_slice(&tensor).is_err(), "{tensor:?}");
        }
    }
}
