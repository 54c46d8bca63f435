//! The kernels of `quantize.cu` on tensors.

use tch::{Device, Kind, Tensor};

use crate::{
    error::CudaError,
    ffi::{
        driver::{DriverDevice, Kernel},
        nvrtc,
    },
    storage::STORAGE_SOURCE,
    stream::CudaStreams,
};

/// Threads of a block.
const THREADS: u32 = 256;

/// Numbers that a thread computes.
const VECTOR: usize = 16;

/// Bytes of which addresses are multiples.
const ALIGNMENT: usize = 16;

/// The kernels that round f16 to FP8, loaded on one device.
///
/// They run on LibTorch's current stream, like LibTorch's operators.
#[derive(Debug)]
pub struct Fp8Kernels {
    quantize: Kernel,
    gelu_quantize: Kernel,
    streams: CudaStreams,
    device: Device,
    device_index: usize,
}

impl Fp8Kernels {
    /// Compiles the kernels for CUDA device `index` and loads them on it.
    ///
    /// # Errors
    /// [`CudaError`] if the device has no FP8, or the driver, NVRTC or LibTorch's CUDA library is
    /// missing or fails.
    pub fn compile(index: usize) -> Result<Self, CudaError> {
        let architecture = DriverDevice::open(index)?.architecture()?;
        Self::load(Device::Cuda(index), &Self::compile_for(&architecture)?)
    }

    /// Compiles the kernels to a cubin for a real architecture, such as `sm_90`, without a GPU.
    ///
    /// # Errors
    /// [`CudaError::NvrtcMissing`], or [`CudaError::Nvrtc`] with the log of NVRTC. Architectures
    /// before `sm_89` have no FP8.
    pub fn compile_for(architecture: &str) -> Result<Vec<u8>, CudaError> {
        let source = [STORAGE_SOURCE, include_str!("quantize.cu")].concat();
        nvrtc::compile(c"quantize.cu", &source, architecture, &Self::definitions())
    }

    /// Returns the macros of the source as `-D` options of a compiler.
    pub fn definitions() -> [String; 1] {
        [format!("-DTHREADS={THREADS}")]
    }

    /// Loads compiled kernels for tensors on `device`.
    ///
    /// [`Device::Cpu`] is for the fake driver of the tests. Its device 0 computes in host memory.
    ///
    /// # Errors
    /// [`CudaError`] if the driver or LibTorch's CUDA library is missing or fails.
    #[doc(hidden)]
    pub fn load(device: Device, cubin: &[u8]) -> Result<Self, CudaError> {
        let device_index = if let Device::Cuda(index) = device { index } else { 0 };
        let streams = CudaStreams::open()?;
        let [quantize, gelu_quantize] =
            DriverDevice::open(device_index)?.load(cubin, [c"quantize", c"gelu_quantize"])?;
        Ok(Self { quantize, gelu_quantize, streams, device, device_index })
    }

    /// Returns the device of the tensors.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Returns `numbers` in FP8, of the same size. Numbers above 448 become 448.
    ///
    /// # Errors
    /// [`CudaError`] if the tensor is not in f16 or has another memory layout, or a call fails.
    pub fn quantize(&self, numbers: &Tensor) -> Result<Tensor, CudaError> {
        self.launch("quantize", &self.quantize, numbers)
    }

    /// Returns the exact GELU of `numbers` in FP8, of the same size.
    ///
    /// # Errors
    /// As [`Self::quantize`].
    pub fn gelu_quantize(&self, numbers: &Tensor) -> Result<Tensor, CudaError> {
        self.launch("gelu_quantize", &self.gelu_quantize, numbers)
    }

    fn launch(&self, name: &'static str, kernel: &Kernel, numbers: &Tensor) -> Result<Tensor, CudaError> {
        let vectors = self.vectors(name, numbers)?;
        let result = Tensor::f_empty(numbers.size(), (Kind::Float8e4m3fn, self.device))?;
        let blocks = u32::try_from(vectors.div_ceil(THREADS as usize));
        let blocks = blocks.map_err(|error| CudaError::Driver(error.to_string()))?;
        if blocks > 0 {
            let stream = self.streams.current_stream(self.device_index)?;
            kernel.launch((blocks, THREADS), stream, [numbers, &result], vectors as i64)?;
        }
        Ok(result)
    }

    /// Returns the vectors of a tensor that the kernels can read.
    fn vectors(&self, kernel: &'static str, numbers: &Tensor) -> Result<usize, CudaError> {
        let mismatch = |found: String, expected: String| {
            Err(CudaError::TensorMismatch { kernel, tensor: "input", found, expected })
        };
        let (device, kind) = (numbers.device(), numbers.kind());
        if (device, kind) != (self.device, Kind::Half) {
            return mismatch(format!("{kind:?} on {device:?}"), format!("Half on {:?}", self.device));
        }
        if !numbers.is_contiguous() {
            return mismatch(format!("strides {:?}", numbers.stride()), "contiguous".to_owned());
        }
        let (count, address) = (numbers.numel(), numbers.data_ptr().addr());
        if !count.is_multiple_of(VECTOR) {
            return mismatch(format!("{count} numbers"), format!("a multiple of {VECTOR}"));
        }
        if !address.is_multiple_of(ALIGNMENT) {
            return mismatch(format!("address {address:#x}"), format!("a multiple of {ALIGNMENT}"));
        }
        Ok(count / VECTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compile_without_cuda_names_what_is_missing() {
        // No machine has a device with this index.
        let error = Fp8Kernels::compile(1000).unwrap_err();
        assert!(matches!(error, CudaError::DriverMissing | CudaError::Driver(_)), "{error}");
    }
}
