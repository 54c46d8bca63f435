//! Kernels of our own for residual and norm, for a model on CUDA (`docs/decisions/fused-kernels.md`).

use std::rc::Rc;

use cuda::{AddNorm, CudaError, NormKernels, NormShape, Storage};
use tch::{Device, Kind, Tensor};

use crate::{config::BlipConfig, kernel_choice::CudaKernels};

/// The kernels of one model, for each width and epsilon of its towers.
#[derive(Debug)]
pub(crate) struct OwnNorms(Vec<Rc<NormKernels>>);

impl OwnNorms {
    /// Compiles them for `device`, if they are `wanted`, and tries each beside LibTorch's. If one cannot be had, or computes
    /// anything else, there are none and a warning says why: the model runs on LibTorch's.
    pub(crate) fn load(wanted: CudaKernels, config: &BlipConfig, device: Device, kind: Kind) -> Option<Self> {
        let (Device::Cuda(index), CudaKernels::Own) = (device, wanted) else { return None };
        match Self::compile(config, index, kind) {
            Ok(norms) => {
                tracing::info!(kernels = norms.0.len(), "CUDA kernels of our own compiled and checked");
                Some(norms)
            }
            Err(error) => {
                tracing::warn!(%error, "no CUDA kernels of our own: running on libtorch's");
                None
            }
        }
    }

    fn compile(config: &BlipConfig, index: usize, kind: Kind) -> Result<Self, CudaError> {
        let storage = Storage::of(kind)?;
        let (vision, text) = (&config.vision, &config.text);
        let mut towers =
            vec![(vision.hidden_size, vision.layer_norm_eps), (text.hidden_size, text.layer_norm_eps)];
        towers.dedup();
        let compile = |(width, eps)| {
            let kernels = Rc::new(NormKernels::compile(NormShape::new(width, eps, storage)?, index)?);
            kernels.check()?;
            Ok(kernels)
        };
        towers.into_iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The kernel of a layer norm with this `weight`, `bias`, both `[size]`, and epsilon.
    ///
    /// # Errors
    /// [`CudaError::TensorMismatch`] if they lie otherwise than kernels read them.
    pub(crate) fn kernel(
        &self,
        [weight, bias]: [&Tensor; 2],
        size: i64,
        eps: f64,
    ) -> Result<Option<AddNorm>, CudaError> {
        let mut all = self.0.iter();
        let fitting = all.find(|kernels| (kernels.shape().width(), kernels.shape().eps()) == (size, eps));
        fitting.map(|kernels| kernels.with(weight, bias)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::goldens::golden;

    /// A device that no machine has.
    const NOWHERE: usize = 1000;

    #[test]
    fn where_they_cannot_be_had_the_model_is_loaded_without() {
        let golden = golden("class_defaults");
        let config = golden.checkpoint.config();
        let load = |wanted, device| OwnNorms::load(wanted, config, device, Kind::Half);
        assert!(load(CudaKernels::Own, Device::Cuda(NOWHERE)).is_none());
        assert!(load(CudaKernels::LibTorch, Device::Cuda(0)).is_none());
        assert!(load(CudaKernels::Own, Device::Cpu).is_none());
        let reason = OwnNorms::compile(config, NOWHERE, Kind::Half).unwrap_err().to_string();
        assert!(
            reason.starts_with("NVIDIA driver missing") || reason.starts_with("CUDA driver"),
            "{reason}"
        );
        let reason = OwnNorms::compile(config, 0, Kind::BFloat16).unwrap_err().to_string();
        assert_eq!(reason, "unsupported number format: BFloat16, expected Half or Float");
    }
}
