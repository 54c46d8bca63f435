//! Checks that tensors are what a kernel was compiled for.

use tch::{Device, Tensor};

use super::source::{NormShape, VECTOR_BYTES};
use crate::error::CudaError;

/// The properties of tensors for which a kernel was compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorCheck {
    pub(crate) shape: NormShape,
    pub(crate) device: Device,
}

impl TensorCheck {
    /// Returns the number of rows of `states` and `delta`, both `[.., width]`.
    pub(crate) fn row_count(&self, states: &Tensor, delta: &Tensor) -> Result<i64, CudaError> {
        let size = self.size("first summand", states)?;
        let other = self.size("second summand", delta)?;
        let width = self.shape.width();
        if size.last() != Some(&width) {
            return Err(mismatch("first summand", format!("{size:?}"), format!("[.., {width}]")));
        }
        if size != other {
            return Err(mismatch("second summand", format!("{other:?}"), format!("{size:?}")));
        }
        Ok(size.iter().rev().skip(1).product())
    }

    /// Checks that the weight or bias of a layer norm is `[width]`.
    pub(crate) fn parameter(&self, name: &'static str, tensor: &Tensor) -> Result<(), CudaError> {
        let (size, expected) = (self.size(name, tensor)?, [self.shape.width()]);
        if size != expected {
            return Err(mismatch(name, format!("{size:?}"), format!("{expected:?}")));
        }
        Ok(())
    }

    /// Returns the size of a tensor after checks of its device, number format and memory layout.
    fn size(&self, name: &'static str, tensor: &Tensor) -> Result<Vec<i64>, CudaError> {
        let (device, kind) = (tensor.device(), tensor.kind());
        if (device, kind) != (self.device, self.shape.storage().kind()) {
            let expected = format!("{:?} on {:?}", self.shape.storage().kind(), self.device);
            return Err(mismatch(name, format!("{kind:?} on {device:?}"), expected));
        }
        if !tensor.is_contiguous() {
            return Err(mismatch(name, format!("strides {:?}", tensor.stride()), "contiguous".to_owned()));
        }
        let address = tensor.data_ptr().addr();
        if !address.is_multiple_of(VECTOR_BYTES as usize) {
            let expected = format!("a multiple of {VECTOR_BYTES}");
            return Err(mismatch(name, format!("address {address:#x}"), expected));
        }
        Ok(tensor.size())
    }
}

fn mismatch(tensor: &'static str, found: String, expected: String) -> CudaError {
    CudaError::TensorMismatch { kernel: "add_norm", tensor, found, expected }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::storage::Storage;

    fn check() -> TensorCheck {
        TensorCheck { shape: NormShape::new(16, 1e-5, Storage::Half).unwrap(), device: Device::Cpu }
    }

    fn tensor(size: &[i64]) -> Tensor {
        Tensor::zeros(size, (Kind::Half, Device::Cpu))
    }

    #[test]
    fn row_count_is_product_of_leading_dimensions() {
        let rows = |size: &[i64]| check().row_count(&tensor(size), &tensor(size)).unwrap();
        assert_eq!([rows(&[16]), rows(&[3, 16]), rows(&[2, 5, 16]), rows(&[0, 16])], [1, 3, 10, 0]);
        // Whole rows in the middle of a tensor.
        let part = tensor(&[5, 16]).narrow(0, 3, 2);
        assert_eq!(check().row_count(&part, &part).unwrap(), 2);
    }

    #[test]
    fn mismatched_summand_error_names_argument() {
        let error = |states: &Tensor, delta: &Tensor| {
            let message = check().row_count(states, delta).unwrap_err().to_string();
            message.replace(" of add_norm does not match", "")
        };
        let right = tensor(&[2, 16]);
        let narrow = tensor(&[4, 8]);
        assert_eq!(error(&narrow, &narrow), "first summand: [4, 8], expected [.., 16]");
        assert_eq!(error(&right, &tensor(&[1, 16])), "second summand: [1, 16], expected [2, 16]");
        let float = right.to_kind(Kind::Float);
        assert_eq!(error(&float, &right), "first summand: Float on Cpu, expected Half on Cpu");
        let strided = tensor(&[16, 2]).transpose(0, 1);
        assert_eq!(error(&right, &strided), "second summand: strides [1, 2], expected contiguous");
        let shifted = tensor(&[33]).narrow(0, 1, 32).view([2, 16]);
        assert!(error(&shifted, &right).ends_with("expected a multiple of 16"));
        let scalar = Tensor::zeros([0i64; 0], (Kind::Half, Device::Cpu));
        assert!(check().row_count(&scalar, &right).is_err());
    }

    #[test]
    fn parameter_of_other_shape_or_device_is_rejected() {
        let parameter = |check: TensorCheck, size: &[i64]| {
            check.parameter("bias", &tensor(size)).map_err(|error| error.to_string())
        };
        assert_eq!(parameter(check(), &[16]), Ok(()));
        let error = parameter(check(), &[1, 16]).unwrap_err();
        assert_eq!(error, "bias of add_norm does not match: [1, 16], expected [16]");
        let other_device = TensorCheck { device: Device::Cuda(1), ..check() };
        assert!(parameter(other_device, &[16]).unwrap_err().contains("Cuda(1)"));
    }
}
