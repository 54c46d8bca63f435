//! Native CUDA kernels that replace several of LibTorch's (`docs/decisions/fused-kernels.md`).

use std::rc::Rc;

use cuda::{AddNorm, ChoiceKernel, CudaError, Fp8Kernels, NormKernels, NormShape, Storage};
use tch::{Device, Kind, Tensor};

use crate::{
    checkpoint::config::BlipConfig,
    device::{kernel_backend::CudaKernels, torch_panics::return_torch_panics},
    dtype::{Dtype, PartDtype},
};

/// Native kernels of one model.
#[derive(Debug)]
pub(crate) struct FusedKernels {
    /// One for each width and epsilon of the model's networks.
    norms: Vec<Rc<NormKernels>>,
    choice: Rc<ChoiceKernel>,
    /// `None` if the images are not in FP8.
    fp8: Option<Rc<Fp8Kernels>>,
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
        vision_dtype: PartDtype,
    ) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        if !kernels.are_native(device, dtype) {
            return None;
        }
        match return_torch_panics(|| Self::compile(config, index, dtype.kind(), vision_dtype)) {
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

    fn compile(
        config: &BlipConfig,
        index: usize,
        kind: Kind,
        vision_dtype: PartDtype,
    ) -> Result<Self, CudaError> {
        let storage = Storage::of(kind)?;
        let (vision, text) = (&config.vision, &config.text);
        let is_fp8 = vision_dtype == PartDtype::Fp8;
        let mut of_images = NormShape::new(vision.hidden_size, vision.layer_norm_eps, storage)?;
        if is_fp8 {
            of_images = of_images.with_fp8_norms()?;
        }
        let of_texts = NormShape::new(text.hidden_size, text.layer_norm_eps, storage)?;
        let mut shapes = vec![of_images, of_texts];
        shapes.dedup_by_key(|shape| (shape.width(), shape.eps()));
        let compile = |shape| -> Result<_, CudaError> {
            let kernels = Rc::new(NormKernels::compile(shape, index)?);
            kernels.check()?;
            Ok(kernels)
        };
        let norms = shapes.into_iter().map(compile).collect::<Result<_, _>>()?;
        let compile_fp8 = || -> Result<_, CudaError> {
            let kernels = Fp8Kernels::compile(index)?;
            kernels.check()?;
            Ok(Rc::new(kernels))
        };
        let fp8 = is_fp8.then(compile_fp8).transpose()?;
        let choice = Rc::new(ChoiceKernel::compile(storage, index)?);
        choice.check(text.vocab_size)?;
        Ok(Self { norms, choice, fp8 })
    }

    /// Returns the kernel that finds the best token of each row.
    pub(crate) fn choice(&self) -> Rc<ChoiceKernel> {
        Rc::clone(&self.choice)
    }

    /// Returns the kernels that round to FP8, if the images are in FP8.
    pub(crate) fn fp8(&self) -> Option<Rc<Fp8Kernels>> {
        self.fp8.clone()
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
        let load =
            |kernels, device| FusedKernels::load(kernels, config, device, Dtype::F16, PartDtype::AsModel);
        assert!(load(CudaKernels::Native, Device::Cuda(MISSING_DEVICE)).is_none());
        assert!(load(CudaKernels::Auto, Device::Cuda(MISSING_DEVICE)).is_none());
        assert!(load(CudaKernels::LibTorch, Device::Cuda(0)).is_none());
        assert!(load(CudaKernels::Native, Device::Cpu).is_none());
        let compile = |index, kind| FusedKernels::compile(config, index, kind, PartDtype::AsModel);
        let reason = compile(MISSING_DEVICE, Kind::Half).unwrap_err().to_string();
        assert!(reason.starts_with("NVIDIA driver missing") || reason.starts_with("CUDA driver"), "{reason}");
        let reason = compile(0, Kind::BFloat16).unwrap_err().to_string();
        assert_eq!(reason, "unsupported number format: BFloat16, expected Half or Float");
    }
}
