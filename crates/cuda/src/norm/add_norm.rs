//! The kernels of `add_norm.cu` on tensors.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{
    source::{NormShape, ROWS_PER_BLOCK},
    tensor_check::TensorCheck,
};
use crate::{
    error::CudaError,
    ffi::driver::{DriverDevice, Kernel},
    stream::CudaStreams,
};

/// Threads in a warp.
const WARP: u32 = 32;

/// The kernels for one width and epsilon, loaded on one device.
#[derive(Debug)]
pub struct NormKernels {
    tensor_check: TensorCheck,
    streams: CudaStreams,
    device_index: usize,
    pre_norm: Kernel,
    post_norm: Kernel,
    /// As `pre_norm`, with norms in FP8, if the shape has them.
    pre_norm_fp8: Option<Kernel>,
}

impl NormKernels {
    /// Compiles the kernels for CUDA device `index` and loads them on it.
    ///
    /// # Errors
    /// [`CudaError`] if the driver, NVRTC or LibTorch's CUDA library is missing or fails.
    pub fn compile(shape: NormShape, index: usize) -> Result<Self, CudaError> {
        let device = DriverDevice::open(index)?;
        let cubin = shape.compile(&device.architecture()?)?;
        Self::load(shape, Device::Cuda(index), &cubin)
    }

    /// Loads compiled kernels for tensors on `device`.
    ///
    /// [`Device::Cpu`] is for the fake driver of the tests. Its device 0 computes in host memory.
    ///
    /// # Errors
    /// [`CudaError`] if the driver or LibTorch's CUDA library is missing or fails.
    #[doc(hidden)]
    pub fn load(shape: NormShape, device: Device, cubin: &[u8]) -> Result<Self, CudaError> {
        let device_index = if let Device::Cuda(index) = device { index } else { 0 };
        let streams = CudaStreams::open()?;
        let driver = DriverDevice::open(device_index)?;
        let [pre_norm, post_norm] = driver.load(cubin, [c"pre_norm", c"post_norm"])?;
        let load_fp8 = || driver.load(cubin, [c"pre_norm_fp8"]).map(|[kernel]| kernel);
        let pre_norm_fp8 = shape.has_fp8_norms().then(load_fp8).transpose()?;
        let tensor_check = TensorCheck { shape, device };
        Ok(Self { tensor_check, streams, device_index, pre_norm, post_norm, pre_norm_fp8 })
    }

    /// Returns the shape for which the kernels were compiled.
    pub fn shape(&self) -> NormShape {
        self.tensor_check.shape
    }

    /// Returns the device of the tensors.
    pub(super) fn device(&self) -> Device {
        self.tensor_check.device
    }

    /// Creates the layer norm with this `weight` and `bias`, both `[width]`.
    ///
    /// # Errors
    /// [`CudaError::TensorMismatch`] if the kernels were not compiled for these tensors.
    pub fn with(self: &Rc<Self>, weight: &Tensor, bias: &Tensor) -> Result<AddNorm, CudaError> {
        self.tensor_check.parameter("weight", weight)?;
        self.tensor_check.parameter("bias", bias)?;
        let (kernels, [weight, bias]) = (Rc::clone(self), [weight, bias].map(Tensor::shallow_clone));
        Ok(AddNorm { kernels, weight, bias, has_fp8_norms: false })
    }
}

/// The layer norm of a sum, in one kernel.
///
/// The kernel runs on LibTorch's current stream, like LibTorch's operators. LibTorch's allocator
/// therefore reuses memory in the right order, and a capture records the kernel.
#[derive(Debug)]
pub struct AddNorm {
    kernels: Rc<NormKernels>,
    weight: Tensor,
    bias: Tensor,
    has_fp8_norms: bool,
}

impl AddNorm {
    /// Lets [`Self::add_then_norm`] return norms in FP8, if the kernels were compiled with them.
    #[must_use]
    pub fn with_fp8_norms(self) -> Self {
        Self { has_fp8_norms: true, ..self }
    }

    /// Adds `delta` to `states` in place, both `[.., width]`. Returns the norm of the sum.
    ///
    /// # Errors
    /// [`CudaError`] if a tensor does not match or a call fails.
    pub fn add_then_norm(&self, states: &mut Tensor, delta: &Tensor) -> Result<Tensor, CudaError> {
        let rows = self.kernels.tensor_check.row_count(states, delta)?;
        let (kernel, kind) = match &self.kernels.pre_norm_fp8 {
            Some(kernel) if self.has_fp8_norms => (kernel, Kind::Float8e4m3fn),
            _ => (&self.kernels.pre_norm, states.kind()),
        };
        let normed = Tensor::f_empty(states.size(), (kind, states.device()))?;
        self.launch(kernel, [states, delta, &normed], rows)?;
        Ok(normed)
    }

    /// Returns the norm of `output + residual`, both `[.., width]`, in the memory of `output`.
    ///
    /// # Errors
    /// As [`Self::add_then_norm`].
    pub fn norm_of_sum(&self, output: Tensor, residual: &Tensor) -> Result<Tensor, CudaError> {
        let rows = self.kernels.tensor_check.row_count(&output, residual)?;
        self.launch(&self.kernels.post_norm, [&output, residual, &output], rows)?;
        Ok(output)
    }

    fn launch(
        &self,
        kernel: &Kernel,
        [states, delta, normed]: [&Tensor; 3],
        rows: i64,
    ) -> Result<(), CudaError> {
        let blocks = u32::try_from(rows.unsigned_abs().div_ceil(u64::from(ROWS_PER_BLOCK)));
        let blocks = blocks.map_err(|error| CudaError::Driver(error.to_string()))?;
        if blocks == 0 {
            return Ok(());
        }
        let stream = self.kernels.streams.current_stream(self.kernels.device_index)?;
        let tensors = [states, delta, &self.weight, &self.bias, normed];
        kernel.launch((blocks, ROWS_PER_BLOCK * WARP), stream, tensors, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    #[test]
    fn compile_without_cuda_names_what_is_missing() {
        let shape = NormShape::new(768, 1e-5, Storage::Half).unwrap();
        // No machine has a device with this index.
        let error = NormKernels::compile(shape, 1000).unwrap_err();
        assert!(matches!(error, CudaError::DriverMissing | CudaError::Driver(_)), "{error}");
    }
}
