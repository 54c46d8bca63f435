//! Opens shared libraries and finds functions in them.

use std::{error::Error, os::fd::AsRawFd};

use libloading::{
    AsFilename,
    os::unix::{Library, RTLD_LOCAL, RTLD_NOW},
};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::CudaError;

/// The library that `build.rs` compiles.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libblip_cuda.so"));

/// Opens the embedded library from a file in memory, since the file system may be read-only.
pub(super) fn open_embedded() -> Result<Library, CudaError> {
    let file = memfd_create("libblip_cuda.so", MemfdFlags::CLOEXEC).map_err(failed)?;
    let mut rest = EMBEDDED;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).map_err(failed)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    // SAFETY: the library has no initialisers except those of the C++ runtime.
    unsafe { open(format!("/proc/self/fd/{}", file.as_raw_fd())) }
}

/// # Safety
/// The initialisers of the library at `path` must be safe to run.
pub(super) unsafe fn open(path: impl AsFilename) -> Result<Library, CudaError> {
    // SAFETY: guaranteed by the caller.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)
}

/// # Safety
/// `F` must be the signature of the function `name` in `library`.
pub(super) unsafe fn find<F: Copy>(library: &Library, name: &str) -> Result<F, CudaError> {
    // SAFETY: guaranteed by the caller.
    unsafe { library.get::<F>(name.as_bytes()) }.map(|symbol| *symbol).map_err(failed)
}

fn failed(error: impl Error) -> CudaError {
    // An error of libloading itself names only the function that failed.
    CudaError::Load(error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

/// Declares a struct of functions and a constructor that finds them.
///
/// The name of a function is `blip_` and the name of the field.
macro_rules! functions {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident { $($field:ident: $signature:ty,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug)]
        $visibility struct $name { $($field: $signature,)+ }

        impl $name {
            /// # Safety
            /// The fields must have the signatures of the functions in `library`.
            unsafe fn find(library: &libloading::os::unix::Library) -> Result<Self, CudaError> {
                // SAFETY: guaranteed by the caller.
                unsafe { Ok(Self { $($field: loader::find(library, concat!("blip_", stringify!($field)))?,)+ }) }
            }
        }
    };
}
pub(super) use functions;
