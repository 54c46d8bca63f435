//! The NVIDIA driver: devices, and kernels that are loaded on them.

use std::{
    ffi::{CStr, c_void},
    sync::Arc,
};

use cudarc::driver::{self, CudaContext, DriverError};
use tch::Tensor;

use crate::error::CudaError;

/// A CUDA device, in the context that LibTorch uses too.
#[derive(Debug, Clone)]
pub(crate) struct DriverDevice(Arc<CudaContext>);

impl DriverDevice {
    pub(crate) fn open(index: usize) -> Result<Self, CudaError> {
        // SAFETY: opens libcuda, whose initialisers are safe in any program. `CudaContext::new`
        // panics without libcuda.
        match unsafe { driver::sys::is_culib_present() } {
            true => CudaContext::new(index).map(Self).map_err(failed),
            false => Err(CudaError::DriverMissing),
        }
    }

    /// Returns the real architecture of the device, such as `sm_90`.
    pub(crate) fn architecture(&self) -> Result<String, CudaError> {
        let (major, minor) = self.0.compute_capability().map_err(failed)?;
        Ok(format!("sm_{major}{minor}"))
    }

    /// Loads `cubin` and finds two kernels in it by name.
    ///
    /// The cubin is never unloaded: a captured graph may still refer to its kernels. It has a few
    /// tens of kilobytes.
    pub(crate) fn load(&self, cubin: &[u8], names: [&CStr; 2]) -> Result<[Kernel; 2], CudaError> {
        self.0.bind_to_thread().map_err(failed)?;
        // SAFETY: the image is complete. The driver copies it.
        let module = unsafe { driver::result::module::load_data(cubin.as_ptr().cast()) }.map_err(failed)?;
        let [first, second] = names.map(|name| {
            // SAFETY: the module stays loaded.
            unsafe { driver::result::module::get_function(module, name.to_owned()) }
                .map(|function| Kernel { function, device: self.clone() })
                .map_err(failed)
        });
        Ok([first?, second?])
    }
}

/// A kernel with the parameters of `add_norm.cu`: five addresses and a number of rows.
#[derive(Debug)]
pub(crate) struct Kernel {
    function: driver::sys::CUfunction,
    device: DriverDevice,
}

impl Kernel {
    /// Launches `blocks` of `threads` on `stream`, without waiting for them.
    ///
    /// The caller has checked with `TensorCheck` that the kernel was compiled for these tensors.
    pub(crate) fn launch(
        &self,
        (blocks, threads): (u32, u32),
        stream: *mut c_void,
        tensors: [&Tensor; 5],
        mut rows: i64,
    ) -> Result<(), CudaError> {
        self.device.0.bind_to_thread().map_err(failed)?;
        let mut addresses = tensors.map(Tensor::data_ptr);
        let [states, delta, weight, bias, normed] =
            addresses.each_mut().map(|address| (&raw mut *address).cast());
        let pointers = &mut [states, delta, weight, bias, normed, (&raw mut rows).cast()];
        let (grid, block) = ((blocks, 1, 1), (threads, 1, 1));
        // SAFETY: the arguments have the types of the kernel's parameters, and the driver copies
        // them before it returns. The addresses hold `rows` whole rows on this device. LibTorch
        // reuses their memory only for later work on the same stream, which is LibTorch's current
        // one. A stream of the CUDA runtime is a stream of the driver.
        unsafe { driver::result::launch_kernel(self.function, grid, block, 0, stream.cast(), pointers) }
            .map_err(failed)
    }
}

fn failed(error: DriverError) -> CudaError {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    CudaError::Driver(text.unwrap_or_else(|_| format!("{:?}", error.0)))
}
