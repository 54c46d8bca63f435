//! The memory of a decode worker: what happens when none is left, and how it is returned.
#![expect(unsafe_code, reason = "mimalloc is a C library")]

use std::ffi::{c_int, c_void};

use libmimalloc_sys::{mi_collect, mi_register_error};

/// The code of a failed allocation, `ENOMEM`.
const OUT_OF_MEMORY: c_int = 12;

/// Ends this process when an allocation fails, so that the server learns of the reason.
///
/// Otherwise decoders in C report a failed allocation as an invalid file. Has no effect in a
/// program with another allocator than mimalloc.
pub(super) fn exit_when_out_of_memory() {
    // SAFETY: the function may be called at any time and from any thread. It uses no argument.
    unsafe { mi_register_error(Some(on_error), std::ptr::null_mut()) };
}

/// Returns freed memory to the system.
///
/// mimalloc does so after a delay, but only when it is called again. An idle worker would retain
/// the memory of its last image.
pub(super) fn return_free_memory() {
    // SAFETY: the function may be called at any time and from any thread.
    unsafe { mi_collect(true) };
}

/// Handles an error of mimalloc.
///
/// # Safety
/// None of the arguments is dereferenced.
unsafe extern "C" fn on_error(code: c_int, _: *mut c_void) {
    if code == OUT_OF_MEMORY {
        sandbox::exit_out_of_memory();
    }
}
