//! Whether tensors are what a kernel was compiled for.

use tch::{Device, Tensor};

use crate::{
    error::KernelError,
    source::{NormShape, VECTOR_BYTES},
};

/// What a kernel was compiled for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) shape: NormShape,
    pub(crate) device: Device,
}

impl Fit {
    /// How many rows `states` and `delta` have, both `[.., width]`.
    pub(crate) fn rows(&self, states: &Tensor, delta: &Tensor) -> Result<i64, KernelError> {
        let size = self.layout("the first summand", states)?;
        let other = self.layout("the second summand", delta)?;
        let width = self.shape.width();
        if size.last() != Some(&width) {
            return Err(unfit("the first summand", format!("{size:?}"), format!("[.., {width}]")));
        }
        if size != other {
            return Err(unfit("the second summand", format!("{other:?}"), format!("{size:?}")));
        }
        Ok(size.iter().rev().skip(1).product())
    }

    /// Whether a layer norm's weight or bias is `[width]`.
    pub(crate) fn parameter(&self, name: &'static str, tensor: &Tensor) -> Result<(), KernelError> {
        let (size, expected) = (self.layout(name, tensor)?, [self.shape.width()]);
        if size != expected {
            return Err(unfit(name, format!("{size:?}"), format!("{expected:?}")));
        }
        Ok(())
    }

    /// The size of a tensor that lies as kernels read it.
    fn layout(&self, name: &'static str, tensor: &Tensor) -> Result<Vec<i64>, KernelError> {
        let (device, kind) = (tensor.device(), tensor.kind());
        if (device, kind) != (self.device, self.shape.storage().kind()) {
            let expected = format!("{:?} on {:?}", self.shape.storage().kind(), self.device);
            return Err(unfit(name, format!("{kind:?} on {device:?}"), expected));
        }
        if !tensor.is_contiguous() {
            return Err(unfit(name, format!("strided by {:?}", tensor.stride()), "contiguous".to_owned()));
        }
        let address = tensor.data_ptr().addr();
        if !address.is_multiple_of(VECTOR_BYTES as usize) {
            return Err(unfit(name, format!("at {address:#x}"), format!("at a multiple of {VECTOR_BYTES}")));
        }
        Ok(tensor.size())
    }
}

fn unfit(tensor: &'static str, found: String, expected: String) -> KernelError {
    KernelError::Unfit { tensor, found, expected }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::source::Storage;

    const FIT: fn() -> Fit =
        || Fit { shape: NormShape::new(16, 1e-5, Storage::Half).unwrap(), device: Device::Cpu };

    fn tensor(size: &[i64]) -> Tensor {
        Tensor::zeros(size, (Kind::Half, Device::Cpu))
    }

    #[test]
    fn rows_are_all_dimensions_but_the_last() {
        let rows = |size: &[i64]| FIT().rows(&tensor(size), &tensor(size)).unwrap();
        assert_eq!([rows(&[16]), rows(&[3, 16]), rows(&[2, 5, 16]), rows(&[0, 16])], [1, 3, 10, 0]);
        // A part of a tensor, whole rows from one of them on.
        let part = tensor(&[5, 16]).narrow(0, 3, 2);
        assert_eq!(FIT().rows(&part, &part).unwrap(), 2);
    }

    #[test]
    fn what_the_kernel_was_not_compiled_for_is_refused_by_name() {
        let refused = |states: &Tensor, delta: &Tensor| FIT().rows(states, delta).unwrap_err().to_string();
        let fits = tensor(&[2, 16]);
        let narrow = tensor(&[4, 8]);
        assert_eq!(refused(&narrow, &narrow), "add_norm: the first summand is [4, 8], expected [.., 16]");
        assert_eq!(
            refused(&fits, &tensor(&[1, 16])),
            "add_norm: the second summand is [1, 16], expected [2, 16]"
        );
        let float = fits.to_kind(Kind::Float);
        assert_eq!(
            refused(&float, &fits),
            "add_norm: the first summand is Float on Cpu, expected Half on Cpu"
        );
        let strided = tensor(&[16, 2]).transpose(0, 1);
        assert_eq!(
            refused(&fits, &strided),
            "add_norm: the second summand is strided by [1, 2], expected contiguous"
        );
        let shifted = tensor(&[33]).narrow(0, 1, 32).view([2, 16]);
        assert!(refused(&shifted, &fits).ends_with("expected at a multiple of 16"));
        assert!(FIT().rows(&Tensor::zeros([0i64; 0], (Kind::Half, Device::Cpu)), &fits).is_err());
        let message = FIT().parameter("bias", &tensor(&[1, 16])).unwrap_err().to_string();
        assert_eq!(message, "add_norm: bias is [1, 16], expected [16]");
        assert!(FIT().parameter("weight", &tensor(&[16])).is_ok());
        let elsewhere = Fit { device: Device::Cuda(1), ..FIT() };
        assert!(elsewhere.parameter("weight", &tensor(&[16])).unwrap_err().to_string().contains("Cuda(1)"));
    }
}
