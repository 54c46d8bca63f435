//! NVRTC, the CUDA compiler.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, c_char},
    fs,
    path::Path,
    sync::Once,
};

use cudarc::nvrtc::{result, sys};

use super::loader;
use crate::error::CudaError;

/// Compiles the source file `name` for a real architecture, such as `sm_90`, and returns the cubin.
///
/// `options` are additional options of the compiler. The function needs NVRTC, but no GPU.
pub(crate) fn compile(
    name: &CStr,
    source: &str,
    architecture: &str,
    options: &[String],
) -> Result<Vec<u8>, CudaError> {
    open()?;
    let source = CString::new(source).map_err(|error| CudaError::Nvrtc(error.to_string()))?;
    let program = Program(result::create_program(&source, Some(name)).map_err(failed)?);
    let mut all = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    all.extend_from_slice(options);
    // SAFETY: the program is alive.
    if let Err(error) = unsafe { result::compile_program(program.0, &all) } {
        return Err(CudaError::Nvrtc(format!("{error:?} for {architecture}: {}", program.log())));
    }
    program.cubin().map_err(failed)
}

/// Opens NVRTC once, and its builtins before their first use.
///
/// NVRTC opens its builtins library by name. That library may be outside the library path, even if
/// NVRTC itself was found.
fn open() -> Result<(), CudaError> {
    static OPENED: Once = Once::new();
    // SAFETY: opens libnvrtc, which has no initialisers except those of the C++ runtime.
    // `sys::culib` panics without libnvrtc.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NvrtcMissing);
    }
    OPENED.call_once(|| {
        // SAFETY: as above. The library stays open for the life of the process.
        let _library = unsafe { sys::culib() };
        open_builtins();
    });
    Ok(())
}

/// Opens the builtins in the folder of NVRTC. NVRTC reports missing builtins on its first use.
fn open_builtins() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.get(line.find('/')?..)).map(Path::new);
    let is_nvrtc =
        |path: &&Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libnvrtc."));
    // If the process has several versions of NVRTC, each has builtins of another name.
    let folders: BTreeSet<&Path> = paths.filter(is_nvrtc).filter_map(Path::parent).collect();
    for entry in folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"libnvrtc-builtins.so") {
            // SAFETY: the library holds data of NVRTC and has no initialisers of consequence.
            if let Ok(library) = unsafe { loader::open(entry.path()) } {
                // NVRTC finds an open library by its name.
                std::mem::forget(library);
            }
        }
    }
}

/// A program of NVRTC.
struct Program(sys::nvrtcProgram);

impl Program {
    fn log(&self) -> String {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(c_char::cast_unsigned).collect();
        let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        text.to_string_lossy().trim().to_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut size = 0;
        // SAFETY: the program is alive and was compiled for a real architecture.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }.result()?;
        let mut cubin = vec![0u8; size];
        // SAFETY: as above. The vector has the size of the cubin.
        unsafe { sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast()) }.result()?;
        Ok(cubin)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is destroyed once. A failure leaks it.
        let _outcome = unsafe { result::destroy_program(self.0) };
    }
}

fn failed(error: result::NvrtcError) -> CudaError {
    CudaError::Nvrtc(format!("{error:?}"))
}
