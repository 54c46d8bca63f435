//! The C face of `graph.cpp`: the one file of this crate that calls foreign functions.
#![expect(unsafe_code, reason = "calls a C library through its symbols")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::OnceLock,
};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

#[cfg(with_graphs)]
const IMAGE: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/libblip_cuda_graph.so")));
#[cfg(not(with_graphs))]
const IMAGE: Option<&[u8]> = None;

/// Why there are no graphs in this process.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The program was built against a LibTorch without the headers for it.
    #[error("this program was built without CUDA graphs")]
    NotBuilt,
    /// The library does not open; most often because LibTorch's CUDA half is not open.
    #[error("the CUDA graph library does not open: {0}")]
    Load(String),
}

pub(crate) type Pointer = *mut c_void;

/// The symbols of `graph.cpp`.
#[derive(Debug)]
pub(crate) struct Library {
    error: unsafe extern "C" fn() -> *const c_char,
    new: unsafe extern "C" fn(c_int) -> Pointer,
    free: unsafe extern "C" fn(Pointer),
    current_stream: unsafe extern "C" fn(c_int, *mut Pointer) -> c_int,
    enter: unsafe extern "C" fn(Pointer) -> c_int,
    leave: unsafe extern "C" fn(Pointer) -> c_int,
    begin: unsafe extern "C" fn(Pointer) -> c_int,
    end: unsafe extern "C" fn(Pointer) -> c_int,
    replay: unsafe extern "C" fn(Pointer) -> c_int,
    event_record: unsafe extern "C" fn(c_int) -> Pointer,
    event_free: unsafe extern "C" fn(Pointer),
    event_milliseconds: unsafe extern "C" fn(Pointer, Pointer, *mut f64) -> c_int,
}

impl Library {
    pub(crate) fn open() -> Result<&'static Self, OpenError> {
        static LIBRARY: OnceLock<Result<Library, OpenError>> = OnceLock::new();
        LIBRARY.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, OpenError> {
        let image = IMAGE.ok_or(OpenError::NotBuilt)?;
        let failed = |error: &dyn ToString| OpenError::Load(error.to_string());
        // A file in memory: the file system may be read-only.
        let file = rustix::fs::memfd_create("libblip_cuda_graph.so", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|error| failed(&error))?;
        let mut left = image;
        while !left.is_empty() {
            let written = rustix::io::write(&file, left).map_err(|error| failed(&error))?;
            left = left.get(written..).unwrap_or_default();
        }
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        // SAFETY: the library is this crate's own; it has no initialisers beyond those of its C++ runtime.
        let handle =
            unsafe { Handle::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| failed(&error))?;
        // SAFETY: names and signatures are those of graph.cpp, compiled with this crate.
        let library = unsafe {
            Self {
                error: *handle.get(b"blip_graph_error").map_err(|error| failed(&error))?,
                new: *handle.get(b"blip_graph_new").map_err(|error| failed(&error))?,
                free: *handle.get(b"blip_graph_free").map_err(|error| failed(&error))?,
                current_stream: *handle.get(b"blip_graph_current_stream").map_err(|error| failed(&error))?,
                enter: *handle.get(b"blip_graph_enter").map_err(|error| failed(&error))?,
                leave: *handle.get(b"blip_graph_leave").map_err(|error| failed(&error))?,
                begin: *handle.get(b"blip_graph_begin").map_err(|error| failed(&error))?,
                end: *handle.get(b"blip_graph_end").map_err(|error| failed(&error))?,
                replay: *handle.get(b"blip_graph_replay").map_err(|error| failed(&error))?,
                event_record: *handle.get(b"blip_event_record").map_err(|error| failed(&error))?,
                event_free: *handle.get(b"blip_event_free").map_err(|error| failed(&error))?,
                event_milliseconds: *handle
                    .get(b"blip_event_milliseconds")
                    .map_err(|error| failed(&error))?,
            }
        };
        // Its functions stay in use for the life of the process.
        std::mem::forget(handle);
        Ok(library)
    }

    fn last_error(&self) -> String {
        // SAFETY: the library returns a string of this thread that lives until its next failing call here.
        unsafe { CStr::from_ptr((self.error)()) }.to_string_lossy().into_owned()
    }

    pub(crate) fn new_graph(&'static self, device: usize) -> Result<RawGraph, String> {
        let device = c_int::try_from(device).map_err(|error| error.to_string())?;
        // SAFETY: takes a number; returns null on failure.
        let pointer = unsafe { (self.new)(device) };
        if pointer.is_null() { Err(self.last_error()) } else { Ok(RawGraph { library: self, pointer }) }
    }

    pub(crate) fn record_event(&'static self, device: usize) -> Result<RawEvent, String> {
        let device = c_int::try_from(device).map_err(|error| error.to_string())?;
        // SAFETY: takes a number; returns null on failure.
        let pointer = unsafe { (self.event_record)(device) };
        if pointer.is_null() { Err(self.last_error()) } else { Ok(RawEvent { library: self, pointer }) }
    }

    pub(crate) fn current_stream(&self, device: usize) -> Result<Pointer, String> {
        let device = c_int::try_from(device).map_err(|error| error.to_string())?;
        let mut stream = std::ptr::null_mut();
        // SAFETY: takes a number, and a place for a pointer that outlives the call.
        match unsafe { (self.current_stream)(device, &raw mut stream) } {
            0 => Ok(stream),
            _ => Err(self.last_error()),
        }
    }
}

/// A graph of the library; freed when dropped. Not `Send`: its streams belong to the thread that made it.
pub(crate) struct RawGraph {
    library: &'static Library,
    pointer: Pointer,
}

impl RawGraph {
    pub(crate) fn enter(&self) -> Result<(), String> {
        self.call(self.library.enter)
    }

    pub(crate) fn leave(&self) -> Result<(), String> {
        self.call(self.library.leave)
    }

    pub(crate) fn begin(&self) -> Result<(), String> {
        self.call(self.library.begin)
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        self.call(self.library.end)
    }

    pub(crate) fn replay(&self) -> Result<(), String> {
        self.call(self.library.replay)
    }

    fn call(&self, function: unsafe extern "C" fn(Pointer) -> c_int) -> Result<(), String> {
        // SAFETY: the pointer came from the library and is freed only by `drop`.
        match unsafe { function(self.pointer) } {
            0 => Ok(()),
            _ => Err(self.library.last_error()),
        }
    }
}

impl Drop for RawGraph {
    fn drop(&mut self) {
        // SAFETY: freed once, here.
        unsafe { (self.library.free)(self.pointer) }
    }
}

/// An event of the library; freed when dropped.
pub(crate) struct RawEvent {
    library: &'static Library,
    pointer: Pointer,
}

impl RawEvent {
    pub(crate) fn milliseconds_since(&self, earlier: &Self) -> Result<f64, String> {
        let mut milliseconds = 0.0;
        // SAFETY: both pointers came from the library and are freed only by `drop`; the number outlives the call.
        let failed = unsafe {
            (self.library.event_milliseconds)(earlier.pointer, self.pointer, &raw mut milliseconds)
        };
        match failed {
            0 => Ok(milliseconds),
            _ => Err(self.library.last_error()),
        }
    }
}

impl Drop for RawEvent {
    fn drop(&mut self) {
        // SAFETY: freed once, here.
        unsafe { (self.library.event_free)(self.pointer) }
    }
}
