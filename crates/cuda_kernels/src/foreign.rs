//! NVRTC and the driver: the one file of this crate that calls foreign functions.
#![expect(unsafe_code, reason = "calls C libraries through cudarc's bindings")]

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, c_char, c_void},
    fmt, fs,
    path::Path,
    sync::{Arc, Once},
};

use cudarc::{
    driver::{self, CudaContext, DriverError},
    nvrtc,
};
use libloading::Library;
use tch::Tensor;

use crate::{
    error::KernelError,
    source::{NormShape, SOURCE},
};

/// The kernels as a `cubin` for a real architecture, such as `sm_90`. Needs NVRTC, but no GPU.
///
/// # Errors
/// [`KernelError::NoCompiler`], or [`KernelError::Compiler`] with what NVRTC wrote.
pub fn compile(shape: NormShape, architecture: &str) -> Result<Vec<u8>, KernelError> {
    open_compiler()?;
    let source = CString::new(SOURCE).map_err(|error| KernelError::Compiler(error.to_string()))?;
    let refused = |error: nvrtc::result::NvrtcError| KernelError::Compiler(format!("{error:?}"));
    let program = Program(nvrtc::result::create_program(&source, Some(c"add_norm.cu")).map_err(refused)?);
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    options.extend(shape.definitions());
    // SAFETY: the program was made above and is destroyed by its drop.
    if let Err(error) = unsafe { nvrtc::result::compile_program(program.0, &options) } {
        return Err(KernelError::Compiler(format!("{error:?} for {architecture}: {}", program.log())));
    }
    program.cubin().map_err(refused)
}

/// Opens NVRTC once. It looks for a library of its own, its built-ins, by name alone, which need not be on the path by which it was
/// found itself: so the one beside it is opened first.
fn open_compiler() -> Result<(), KernelError> {
    static OPENED: Once = Once::new();
    // SAFETY: opens libnvrtc, whose initialisers are those of its C++ runtime. `culib` would panic where there is none.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(KernelError::NoCompiler);
    }
    OPENED.call_once(|| {
        // SAFETY: as above; cudarc keeps it open for the life of the process.
        let _compiler = unsafe { nvrtc::sys::culib() };
        open_builtins();
    });
    Ok(())
}

/// Opens NVRTC's built-ins from the folder that NVRTC is loaded from, if they are there; otherwise NVRTC says what it misses.
fn open_builtins() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.get(line.find('/')?..)).map(Path::new);
    let is_compiler =
        |path: &&Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libnvrtc."));
    // More than one where another version is loaded too: each has built-ins of its own name.
    let folders: BTreeSet<&Path> = paths.filter(is_compiler).filter_map(Path::parent).collect();
    for entry in folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"libnvrtc-builtins.so") {
            // SAFETY: NVRTC's own other half, data and no initialisers of consequence.
            if let Ok(library) = unsafe { Library::new(entry.path()) } {
                // NVRTC finds it by its name from now on.
                std::mem::forget(library);
            }
        }
    }
}

/// A program of NVRTC.
struct Program(nvrtc::sys::nvrtcProgram);

impl Program {
    fn log(&self) -> String {
        // SAFETY: the program is alive.
        let log = unsafe { nvrtc::result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(c_char::cast_unsigned).collect();
        let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        text.to_string_lossy().trim().to_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, nvrtc::result::NvrtcError> {
        let mut size = 0;
        // SAFETY: the program is alive, and was compiled for a real architecture.
        unsafe { nvrtc::sys::nvrtcGetCUBINSize(self.0, &raw mut size) }.result()?;
        let mut cubin = vec![0u8; size];
        // SAFETY: as above; the vector has the size that was asked for.
        unsafe { nvrtc::sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast()) }.result()?;
        Ok(cubin)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: destroyed once, here. A program that cannot be destroyed is a leak and no more.
        let _outcome = unsafe { nvrtc::result::destroy_program(self.0) };
    }
}

/// A CUDA device, by the context that LibTorch uses too.
#[derive(Clone)]
pub(crate) struct Device(Arc<CudaContext>);

impl Device {
    pub(crate) fn open(index: usize) -> Result<Self, KernelError> {
        // SAFETY: opens libcuda, which every CUDA program does. `CudaContext::new` would panic where there is none.
        match unsafe { driver::sys::is_culib_present() } {
            true => CudaContext::new(index).map(Self).map_err(refused),
            false => Err(KernelError::NoDriver),
        }
    }

    /// Its real architecture, such as `sm_90`.
    pub(crate) fn architecture(&self) -> Result<String, KernelError> {
        let (major, minor) = self.0.compute_capability().map_err(refused)?;
        Ok(format!("sm_{major}{minor}"))
    }

    /// Loads `cubin` and looks its functions up by name.
    ///
    /// Never unloaded: a graph that was captured may still hold what is in it, and it is a few tens of kilobytes.
    pub(crate) fn load<const N: usize>(
        &self,
        cubin: &[u8],
        names: [&CStr; N],
    ) -> Result<[Function; N], KernelError> {
        self.0.bind_to_thread().map_err(refused)?;
        // SAFETY: an image as NVRTC made it, whole; the driver copies what it keeps.
        let module = unsafe { driver::result::module::load_data(cubin.as_ptr().cast()) }.map_err(refused)?;
        let mut functions = Vec::with_capacity(N);
        for name in names {
            // SAFETY: the module was loaded above and stays so.
            let function = unsafe { driver::result::module::get_function(module, name.to_owned()) };
            functions.push(Function { function: function.map_err(refused)?, device: self.clone() });
        }
        functions.try_into().map_err(|_| KernelError::Driver("functions were lost".to_owned()))
    }
}

/// A kernel with the arguments of `add_norm.cu`.
pub(crate) struct Function {
    function: driver::sys::CUfunction,
    device: Device,
}

/// What a kernel of `add_norm.cu` is given: tensors that fit it, and how many rows they have.
pub(crate) struct Arguments<'a> {
    pub(crate) states: &'a Tensor,
    pub(crate) delta: &'a Tensor,
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: &'a Tensor,
    pub(crate) normed: &'a Tensor,
    pub(crate) rows: i64,
}

impl Function {
    /// Launches `blocks` of `threads` on LibTorch's current `stream` and returns before they have run. What tensors are given has
    /// been checked by [`crate::fit::Fit`].
    pub(crate) fn launch(
        &self,
        (blocks, threads): (u32, u32),
        stream: *mut c_void,
        arguments: &Arguments<'_>,
    ) -> Result<(), KernelError> {
        self.device.0.bind_to_thread().map_err(refused)?;
        let Arguments { states, delta, weight, bias, normed, rows } = arguments;
        let mut addresses = [states, delta, weight, bias, normed].map(|tensor| tensor.data_ptr());
        let [states, delta, weight, bias, normed] =
            addresses.each_mut().map(|address| (&raw mut *address).cast());
        let mut rows = *rows;
        let pointers = &mut [states, delta, weight, bias, normed, (&raw mut rows).cast()];
        // SAFETY: the arguments have the types of the kernel's parameters, and the driver copies them before it returns. Addresses
        // are of whole rows on this device, as the kernel was compiled for. LibTorch gives their memory away only to what comes
        // later on the same stream. The runtime's streams are the driver's.
        let launched = unsafe {
            driver::result::launch_kernel(
                self.function,
                (blocks, 1, 1),
                (threads, 1, 1),
                0,
                stream.cast(),
                pointers,
            )
        };
        launched.map_err(refused)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Function")
    }
}

fn refused(error: DriverError) -> KernelError {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    KernelError::Driver(text.unwrap_or_else(|_| format!("{:?}", error.0)))
}
