//! The kernel of `choose.cu` on tensors.

use tch::{Device, Kind, Tensor};

use crate::{
    error::CudaError,
    ffi::{
        driver::{DriverDevice, Kernel},
        nvrtc,
    },
    storage::{STORAGE_SOURCE, Storage},
    stream::CudaStreams,
};

/// Numbers in a row of the table.
const COLUMNS: i64 = 4;

/// Threads of a block, which computes one row.
const THREADS: u32 = 1024;

/// Token ids up to this number are exact in f32.
const MAX_WIDTH: i64 = 1 << 24;

/// The kernel for logits in one number format, loaded on one device.
///
/// It runs on LibTorch's current stream, like LibTorch's operators.
#[derive(Debug)]
pub struct ChoiceKernel {
    kernel: Kernel,
    streams: CudaStreams,
    storage: Storage,
    device: Device,
    device_index: usize,
}

impl ChoiceKernel {
    /// Compiles the kernel for CUDA device `index` and loads it on that device.
    ///
    /// # Errors
    /// [`CudaError`] if the driver, NVRTC or LibTorch's CUDA library is missing or fails.
    pub fn compile(storage: Storage, index: usize) -> Result<Self, CudaError> {
        let architecture = DriverDevice::open(index)?.architecture()?;
        Self::load(storage, Device::Cuda(index), &Self::compile_for(storage, &architecture)?)
    }

    /// Compiles the kernel to a cubin for a real architecture, such as `sm_90`, without a GPU.
    ///
    /// # Errors
    /// [`CudaError::NvrtcMissing`], or [`CudaError::Nvrtc`] with the log of NVRTC.
    pub fn compile_for(storage: Storage, architecture: &str) -> Result<Vec<u8>, CudaError> {
        let source = [STORAGE_SOURCE, include_str!("choose.cu")].concat();
        nvrtc::compile(c"choose.cu", &source, architecture, &Self::definitions(storage))
    }

    /// Returns the macros of the source as `-D` options of a compiler.
    pub fn definitions(storage: Storage) -> [String; 2] {
        [format!("-DSTORAGE={storage:?}"), format!("-DTHREADS={THREADS}")]
    }

    /// Loads a compiled kernel for tensors on `device`.
    ///
    /// [`Device::Cpu`] is for the fake driver of the tests. Its device 0 computes in host memory.
    ///
    /// # Errors
    /// [`CudaError`] if the driver or LibTorch's CUDA library is missing or fails.
    #[doc(hidden)]
    pub fn load(storage: Storage, device: Device, cubin: &[u8]) -> Result<Self, CudaError> {
        let device_index = if let Device::Cuda(index) = device { index } else { 0 };
        let streams = CudaStreams::open()?;
        let [kernel] = DriverDevice::open(device_index)?.load(cubin, [c"choose"])?;
        Ok(Self { kernel, streams, storage, device, device_index })
    }

    /// Returns the number format of the logits.
    pub(super) fn storage(&self) -> Storage {
        self.storage
    }

    /// Returns the device of the tensors.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Returns a table `[rows, 4]` in f32 of the best tokens of `logits` `[rows, vocabulary]`.
    ///
    /// The columns are best logit, second-best logit, token id and log of the summed exponentials.
    ///
    /// # Errors
    /// [`CudaError`] if the tensor does not match or a call fails.
    pub fn choose(&self, logits: &Tensor) -> Result<Tensor, CudaError> {
        let (rows, width) = self.check_logits(logits)?;
        let table = Tensor::f_empty([rows, COLUMNS], (Kind::Float, self.device))?;
        let blocks = u32::try_from(rows).map_err(|error| CudaError::Driver(error.to_string()))?;
        if blocks > 0 {
            let stream = self.streams.current_stream(self.device_index)?;
            self.kernel.launch((blocks, THREADS), stream, [logits, &table], width)?;
        }
        Ok(table)
    }

    /// Returns rows and width of logits that the kernel can read.
    fn check_logits(&self, logits: &Tensor) -> Result<(i64, i64), CudaError> {
        let mismatch = |found: String, expected: String| {
            Err(CudaError::TensorMismatch { kernel: "choose", tensor: "logits", found, expected })
        };
        let (device, kind) = (logits.device(), logits.kind());
        if (device, kind) != (self.device, self.storage.kind()) {
            let expected = format!("{:?} on {:?}", self.storage.kind(), self.device);
            return mismatch(format!("{kind:?} on {device:?}"), expected);
        }
        if !logits.is_contiguous() {
            return mismatch(format!("strides {:?}", logits.stride()), "contiguous".to_owned());
        }
        match logits.size().as_slice() {
            &[rows, width @ 1..=MAX_WIDTH] => Ok((rows, width)),
            other => mismatch(format!("{other:?}"), format!("[rows, 1 to {MAX_WIDTH}]")),
        }
    }
}
