//! The C face of `stream.cpp`: the one file of this crate that calls foreign functions.
#![expect(unsafe_code, reason = "calls a C library through its symbols")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::OnceLock,
};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

#[cfg(with_library)]
const IMAGE: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/libblip_cuda_stream.so")));
#[cfg(not(with_library))]
const IMAGE: Option<&[u8]> = None;

/// Why there are no streams, events and graphs to be had in this process.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The program was built against a LibTorch without the headers for it.
    #[error("this program was built without its library for CUDA streams")]
    NotBuilt,
    /// The library does not open; most often because LibTorch's CUDA half is not open.
    #[error("the library for CUDA streams does not open: {0}")]
    Load(String),
}

type Pointer = *mut c_void;
type Make = unsafe extern "C" fn(c_int) -> Pointer;
type Free = unsafe extern "C" fn(Pointer);
type Act = unsafe extern "C" fn(Pointer) -> c_int;

/// The symbols of `stream.cpp`.
#[derive(Debug)]
pub(crate) struct Library {
    last_error: unsafe extern "C" fn() -> *const c_char,
    current_stream: unsafe extern "C" fn(c_int, *mut Pointer) -> c_int,
    synchronize: unsafe extern "C" fn(c_int) -> c_int,
    side_new: Make,
    side_free: Free,
    side_enter: Act,
    side_leave: Act,
    event_record: Make,
    event_free: Free,
    event_milliseconds: unsafe extern "C" fn(Pointer, Pointer, *mut f64) -> c_int,
    graph_new: unsafe extern "C" fn() -> Pointer,
    graph_free: Free,
    graph_begin: Act,
    graph_end: Act,
    graph_replay: Act,
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
        let file = rustix::fs::memfd_create("libblip_cuda_stream.so", rustix::fs::MemfdFlags::CLOEXEC)
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
        // SAFETY: names and signatures are those of stream.cpp, compiled with this crate.
        let library = unsafe {
            Self {
                last_error: symbol(&handle, "blip_last_error")?,
                current_stream: symbol(&handle, "blip_current_stream")?,
                synchronize: symbol(&handle, "blip_synchronize")?,
                side_new: symbol(&handle, "blip_side_new")?,
                side_free: symbol(&handle, "blip_side_free")?,
                side_enter: symbol(&handle, "blip_side_enter")?,
                side_leave: symbol(&handle, "blip_side_leave")?,
                event_record: symbol(&handle, "blip_event_record")?,
                event_free: symbol(&handle, "blip_event_free")?,
                event_milliseconds: symbol(&handle, "blip_event_milliseconds")?,
                graph_new: symbol(&handle, "blip_graph_new")?,
                graph_free: symbol(&handle, "blip_graph_free")?,
                graph_begin: symbol(&handle, "blip_graph_begin")?,
                graph_end: symbol(&handle, "blip_graph_end")?,
                graph_replay: symbol(&handle, "blip_graph_replay")?,
            }
        };
        // Its functions stay in use for the life of the process.
        std::mem::forget(handle);
        Ok(library)
    }

    pub(crate) fn current_stream(&self, device: usize) -> Result<Pointer, String> {
        let device = number(device)?;
        let mut stream = std::ptr::null_mut();
        // SAFETY: takes a number, and a place for a pointer that outlives the call.
        self.done(unsafe { (self.current_stream)(device, &raw mut stream) }).map(|()| stream)
    }

    pub(crate) fn synchronize(&self, device: usize) -> Result<(), String> {
        let device = number(device)?;
        // SAFETY: takes a number.
        self.done(unsafe { (self.synchronize)(device) })
    }

    pub(crate) fn side_stream(&'static self, device: usize) -> Result<RawSide, String> {
        let device = number(device)?;
        // SAFETY: takes a number; returns null on failure.
        self.made(unsafe { (self.side_new)(device) }, self.side_free).map(RawSide)
    }

    pub(crate) fn record_event(&'static self, device: usize) -> Result<RawEvent, String> {
        let device = number(device)?;
        // SAFETY: takes a number; returns null on failure.
        self.made(unsafe { (self.event_record)(device) }, self.event_free).map(RawEvent)
    }

    pub(crate) fn graph(&'static self) -> Result<RawGraph, String> {
        // SAFETY: returns null on failure.
        self.made(unsafe { (self.graph_new)() }, self.graph_free).map(RawGraph)
    }

    fn made(&'static self, pointer: Pointer, free: Free) -> Result<Object, String> {
        if pointer.is_null() {
            return Err(self.last_error());
        }
        Ok(Object { library: self, pointer, free })
    }

    fn done(&self, failed: c_int) -> Result<(), String> {
        if failed == 0 { Ok(()) } else { Err(self.last_error()) }
    }

    fn last_error(&self) -> String {
        // SAFETY: the library returns a string of this thread that lives until its next failing call here.
        unsafe { CStr::from_ptr((self.last_error)()) }.to_string_lossy().into_owned()
    }
}

/// # Safety
/// `F` is the signature that the library's function of this name has.
unsafe fn symbol<F: Copy>(handle: &Handle, name: &str) -> Result<F, OpenError> {
    // SAFETY: the caller's word.
    unsafe { handle.get::<F>(name.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|error| OpenError::Load(error.to_string()))
}

fn number(device: usize) -> Result<c_int, String> {
    c_int::try_from(device).map_err(|error| error.to_string())
}

/// Something of the library's; freed when dropped. Not `Send`: streams are those of the thread that asks.
struct Object {
    library: &'static Library,
    pointer: Pointer,
    free: Free,
}

impl Object {
    fn act(&self, function: Act) -> Result<(), String> {
        // SAFETY: the pointer came from the library, which made it for functions of this kind, and is freed only by `drop`.
        self.library.done(unsafe { function(self.pointer) })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: freed once, here, by the function that belongs to what it is.
        unsafe { (self.free)(self.pointer) }
    }
}

/// A stream beside the current one.
pub(crate) struct RawSide(Object);

impl RawSide {
    pub(crate) fn enter(&self) -> Result<(), String> {
        self.0.act(self.0.library.side_enter)
    }

    pub(crate) fn leave(&self) -> Result<(), String> {
        self.0.act(self.0.library.side_leave)
    }
}

/// An event that was recorded.
pub(crate) struct RawEvent(Object);

impl RawEvent {
    pub(crate) fn milliseconds_since(&self, earlier: &Self) -> Result<f64, String> {
        let Self(Object { library, pointer, .. }) = self;
        let mut milliseconds = 0.0;
        // SAFETY: both pointers came from the library as events and are freed only by `drop`; the number outlives the call.
        library.done(unsafe {
            (library.event_milliseconds)(earlier.0.pointer, *pointer, &raw mut milliseconds)
        })?;
        Ok(milliseconds)
    }
}

/// A graph, captured or to be.
pub(crate) struct RawGraph(Object);

impl RawGraph {
    pub(crate) fn begin(&self) -> Result<(), String> {
        self.0.act(self.0.library.graph_begin)
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        self.0.act(self.0.library.graph_end)
    }

    pub(crate) fn replay(&self) -> Result<(), String> {
        self.0.act(self.0.library.graph_replay)
    }
}
