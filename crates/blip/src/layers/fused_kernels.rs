//! Native CUDA kernels that replace several of LibTorch's (`docs/decisions/fused-kernels.md`).

use std::rc::Rc;

use cuda::{AddNorm, ChoiceKernel, CudaError, NormKernels, NormShape, Storage};
use tch::{Device, Kind, Tensor};

use crate::{checkpoint::config::BlipConfig, device::kernel_backend::CudaKernels, dtype::Dtype};

/// Native kernels of one model.
#[derive(Debug)]
pub(crate) struct FusedKernels {
    /// One for each width and epsilon of the model's networks.
    norms: Vec<Rc<NormKernels>>,
    choice: Rc<ChoiceKernel>,
}

impl FusedKernels {
    /// Compiles the `kernels` of a model for `device` if they are native, and compares each with
    /// LibTorch's.
    ///
    /// If a kernel does not compile or computes another result, logs a warning and returns `None`.
    /// The model then uses LibTorch's kernels.
    pub(crate) fn load(
        kernels: CudaKernels,
        config: &BlipConfig,
        device: Device,
        dtype: Dtype,
    ) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        if !kernels.are_native(device, dtype) {
            return None;
        }
        match Self::compile(config, index, dtype.kind()) {
            Ok(kernels) => {
                tracing::info!(norms = kernels.norms.len(), "native CUDA kernels compiled and checked");
                Some(kernels)
            }
            Err(error) => {
                tracing::warn!(%error, "native CUDA kernels not available, LibTorch kernels used");
                None
            }
        }
    }

    fn compile(config: &BlipConfig, index: usize, kind: Kind) -> Result<Self, CudaError> {
        let storage = Storage::of(kind)?;
        let (vision, text) = (&config.vision, &config.text);
        let mut networks =
            vec![(vision.hidden_size, vision.layer_norm_eps), (text.hidden_size, text.layer_norm_eps)];
        networks.dedup();
        let compile = |(width, eps)| -> Result<_, CudaError> {
            let kernels = Rc::new(NormKernels::compile(NormShape::new(width, eps, storage)?, index)?);
            kernels.check()?;
            Ok(kernels)
        };
        let norms = networks.into_iter().map(compile).collect::<Result<_, _>>()?;
        let choice = Rc::new(ChoiceKernel::compile(storage, index)?);
        choice.check(text.vocab_size)?;
        Ok(Self { norms, choice })
    }

    /// Returns the kernel that finds the best token of each row.
    pub(crate) fn choice(&self) -> Rc<ChoiceKernel> {
        Rc::clone(&self.choice)
    }

    /// Returns the kernel of a layer norm with this `weight` and `bias`, both `[size]`, and
    /// epsilon.
    ///
    /// # Errors
    /// [`CudaError::TensorMismatch`] if the kernel cannot read their memory layout.
    pub(crate) fn norm(
        &self,
        [weight, bias]: [&Tensor; 2],
        size: i64,
        eps: f64,
    ) -> Result<Option<AddNorm>, CudaError> {
        let mut all = self.norms.iter();
        let fitting = all.find(|kernels| (kernels.shape().width(), kernels.shape().eps()) == (size, eps));
        fitting.map(|kernels| kernels.with(weight, bias)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::golden_files::golden;

    /// Index of a device that no machine has.
    const MISSING_DEVICE: usize = 1000;

    #[test]
    fn unavailable_kernels_are_left_out() {
        let golden = golden("class_defaults");
        let config = golden.checkpoint.config();
        let load = |kernels, device| FusedKernels::load(kernels, config, device, Dtype::F16);
        assert!(load(CudaKernels::Native, Device::Cuda(MISSING_DEVICE)).is_none());
        assert!(load(CudaKernels::Auto, Device::Cuda(MISSING_DEVICE)).is_none());
        assert!(load(CudaKernels::LibTorch, Device::Cuda(0)).is_none());
        assert!(load(CudaKernels::Native, Device::Cpu).is_none());
        let reason = FusedKernels::compile(config, MISSING_DEVICE, Kind::Half).unwrap_err().to_string();
        assert!(reason.starts_with("NVIDIA driver missing") || reason.starts_with("CUDA driver"), "{reason}");
        let reason = FusedKernels::compile(config, 0, Kind::BFloat16).unwrap_err().to_string();
        assert_eq!(reason, "unsupported number format: BFloat16, expected Half or Float");
    }
}
