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

    /// Loads `cubin` and finds kernels in it by name.
    ///
    /// The cubin is never unloaded: a captured graph may still refer to its kernels. It has a few
    /// tens of kilobytes.
    pub(crate) fn load<const N: usize>(
        &self,
        cubin: &[u8],
        names: [&CStr; N],
    ) -> Result<[Kernel; N], CudaError> {
        self.0.bind_to_thread().map_err(failed)?;
        // SAFETY: the image is complete. The driver copies it.
        let module = unsafe { driver::result::module::load_data(cubin.as_ptr().cast()) }.map_err(failed)?;
        // SAFETY: the module stays loaded.
        let find = |name: &CStr| unsafe { driver::result::module::get_function(module, name.to_owned()) };
        let mut functions = [std::ptr::null_mut(); N];
        for (function, name) in functions.iter_mut().zip(names) {
            *function = find(name).map_err(failed)?;
        }
        Ok(functions.map(|function| Kernel { function, device: self.clone() }))
    }
}

/// A kernel whose parameters are the addresses of tensors and a number of rows or columns.
#[derive(Debug)]
pub(crate) struct Kernel {
    function: driver::sys::CUfunction,
    device: DriverDevice,
}

impl Kernel {
    /// Launches `blocks` of `threads` on `stream`, without waiting for them.
    ///
    /// The caller has checked that the kernel has these parameters, and that it was compiled for
    /// these tensors.
    pub(crate) fn launch<const N: usize>(
        &self,
        (blocks, threads): (u32, u32),
        stream: *mut c_void,
        tensors: [&Tensor; N],
        mut count: i64,
    ) -> Result<(), CudaError> {
        self.device.0.bind_to_thread().map_err(failed)?;
        let mut addresses = tensors.map(Tensor::data_ptr);
        let mut pointers: Vec<*mut c_void> =
            addresses.iter_mut().map(|address| (&raw mut *address).cast()).collect();
        pointers.push((&raw mut count).cast());
        let (grid, block) = ((blocks, 1, 1), (threads, 1, 1));
        // SAFETY: the arguments have the types of the kernel's parameters, and the driver copies
        // them before it returns. The addresses hold the rows of these blocks on this device.
        // LibTorch reuses their memory only for later work on the same stream, which is LibTorch's
        // current one. A stream of the CUDA runtime is a stream of the driver.
        unsafe { driver::result::launch_kernel(self.function, grid, block, 0, stream.cast(), &mut pointers) }
            .map_err(failed)
    }
}

fn failed(error: DriverError) -> CudaError {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    CudaError::Driver(text.unwrap_or_else(|_| format!("{:?}", error.0)))
}
