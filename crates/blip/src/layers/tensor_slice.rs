//! Access to a tensor's values as a slice, without a copy.
#![expect(unsafe_code, reason = "the memory belongs to LibTorch")]

use std::slice;

use tch::{Device, Kind, TchError, Tensor};

/// A type of values of which all bit patterns are valid.
trait Value {
    const KIND: Kind;
}

impl Value for f32 {
    const KIND: Kind = Kind::Float;
}

/// The bits of a number in bf16.
impl Value for u16 {
    const KIND: Kind = Kind::BFloat16;
}

/// Returns the values of a tensor in f32 on the CPU, in the order of its dimensions.
///
/// The holder of another handle of the tensor must not write to it during the borrow.
///
/// # Errors
/// [`TchError`] if the tensor has another kind or device, is empty or is not contiguous.
pub(crate) fn as_slice(tensor: &Tensor) -> Result<&[f32], TchError> {
    values(tensor)
}

/// Returns the bits of a tensor in bf16 on the CPU, see [`as_slice`].
///
/// # Errors
/// As [`as_slice`].
pub(crate) fn as_bf16_slice(tensor: &Tensor) -> Result<&[u16], TchError> {
    values(tensor)
}

fn values<T: Value>(tensor: &Tensor) -> Result<&[T], TchError> {
    if (tensor.kind(), tensor.device(), tensor.is_contiguous()) != (T::KIND, Device::Cpu, true) {
        let kind = T::KIND;
        return Err(TchError::Kind(format!("tensor is {tensor:?}, expected contiguous {kind:?} on the cpu")));
    }
    let count = tensor.numel();
    // An empty tensor may have a null pointer, which a slice must not have.
    if count == 0 {
        return Err(TchError::Shape(format!("tensor is {tensor:?}, expected at least one value")));
    }
    // SAFETY: the tensor has `count` contiguous values of type `T`, which live as long as the
    // tensor. All bit patterns are valid. A model stays on one thread, where no code writes to the
    // tensor during the borrow.
    Ok(unsafe { slice::from_raw_parts(tensor.data_ptr().cast::<T>(), count) })
}

/// Returns the values of a tensor in f32 on the CPU for writing. Those of a new tensor are
/// unspecified.
///
/// The holder of another handle of the tensor must neither read nor write it during the borrow.
///
/// # Errors
/// As [`as_slice`].
fn as_mut_slice(tensor: &mut Tensor) -> Result<&mut [f32], TchError> {
    let count = as_slice(tensor)?.len();
    // SAFETY: `as_slice` has checked the tensor. It has `count` contiguous f32, which live as long
    // as the tensor. LibTorch has allocated them, and all bit patterns are valid. A model stays on
    // one thread, where no other code uses the tensor during the borrow.
    Ok(unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), count) })
}

/// Returns a new tensor in f32 on the CPU, whose values `fill` writes. They are unspecified before.
///
/// `fill` is not called for a tensor without values.
///
/// # Errors
/// [`TchError`] if the tensor cannot be allocated, and the error of `fill`.
pub(crate) fn filled(
    shape: &[i64],
    fill: impl FnOnce(&mut [f32]) -> Result<(), TchError>,
) -> Result<Tensor, TchError> {
    let mut tensor = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    if tensor.numel() > 0 {
        fill(as_mut_slice(&mut tensor)?)?;
    }
    Ok(tensor)
}

/// Converts a size of a tensor or of the configuration, which is already checked.
pub(crate) fn size(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_place() {
        let tensor = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let slice = as_slice(&tensor).unwrap();
        assert_eq!(slice, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(slice.as_ptr().cast(), tensor.data_ptr().cast_const());
    }

    #[test]
    fn values_are_written_in_place() {
        let square = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]);
        as_mut_slice(&mut square.get(1)).unwrap().copy_from_slice(&[5.0, 6.0]);
        assert_eq!(square, Tensor::from_slice(&[1.0f32, 2.0, 5.0, 6.0]).view([2, 2]));
        assert!(as_mut_slice(&mut square.narrow(1, 0, 1)).is_err());
    }

    #[test]
    fn new_tensor_has_the_written_values() {
        let fill = |values: &mut [f32]| {
            values.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
            Ok(())
        };
        let tensor = filled(&[2, 2], fill).unwrap();
        assert_eq!(tensor, Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]));
        assert_eq!(filled(&[0, 2], fill).unwrap().size(), [0, 2]);
        assert!(filled(&[1], |_| Err(TchError::Shape("no".into()))).is_err());
    }

    #[test]
    fn other_kind_strided_or_empty_tensor_is_rejected() {
        let square = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
        for tensor in [square.to_kind(Kind::Half), square.narrow(1, 0, 1), square.narrow(0, 0, 0)] {
            assert!(as_slice(&tensor).is_err(), "{tensor:?}");
        }
    }
}
