//! The functions of the C++ sources in this folder, and the objects that they create.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::OnceLock,
};

use tch::{TchError, Tensor};
// LibTorch's symbols stay undefined in the embedded library: the program must link to LibTorch.
use torch_sys::C_tensor;

use super::loader;
use crate::error::CudaError;

type Pointer = *mut c_void;
type Get = unsafe extern "C" fn(c_int, *mut Pointer) -> c_int;
/// Answers a question about a device: 0 for no.
type Ask = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
type Free = unsafe extern "C" fn(Pointer);
type Act = unsafe extern "C" fn(Pointer) -> c_int;
/// Makes a tensor of three others.
type OfThreeTensors =
    unsafe extern "C" fn(*const C_tensor, *const C_tensor, *const C_tensor, *mut *mut C_tensor) -> c_int;

/// Makes a tensor of three others, three tensors of ranges and two sizes.
type OfRanges = unsafe extern "C" fn(
    *const *const C_tensor,
    *const *const C_tensor,
    *const i64,
    *mut *mut C_tensor,
) -> c_int;

loader::functions! {
    /// The functions of `memory.cpp`.
    struct MemoryFunctions {
        memory_devices: unsafe extern "C" fn() -> c_int,
        memory_read: unsafe extern "C" fn(c_int, *mut i64) -> bool,
    }
}

loader::functions! {
    /// The functions of `stream.cpp`, `attention.cpp` and `linear.cpp`.
    pub(crate) struct StreamFunctions {
        last_error: unsafe extern "C" fn() -> *const c_char,
        current_stream: Get,
        synchronize: unsafe extern "C" fn(c_int) -> c_int,
        use_engine_stream: unsafe extern "C" fn(c_int) -> c_int,
        copy_stream_new: Get,
        capture_stream_new: Get,
        stream_free: Free,
        stream_enter: Act,
        stream_leave: Act,
        event_new: Get,
        event_free: Free,
        event_milliseconds: unsafe extern "C" fn(Pointer, Pointer, *mut f64) -> c_int,
        graph_new: Get,
        graph_free: Free,
        graph_begin: Act,
        graph_end: Act,
        graph_replay: Act,
        attention_prefers_cudnn: Ask,
        attention_has_flash: Ask,
        attention_exclude_cudnn: unsafe extern "C" fn() -> c_int,
        attention_cudnn: OfThreeTensors,
        attention_ranges: OfRanges,
        linear_gelu: OfThreeTensors,
    }
}

/// The embedded library.
#[derive(Debug)]
pub(crate) struct Library {
    memory: MemoryFunctions,
    /// `None` if the build had no headers of LibTorch's CUDA library.
    streams: Option<StreamFunctions>,
}

impl Library {
    /// Opens the library once. A failed call has no effect: LibTorch's CUDA library may open later.
    pub(crate) fn open() -> Result<&'static Self, CudaError> {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        match LIBRARY.get() {
            Some(library) => Ok(library),
            None => Self::load().map(|library| LIBRARY.get_or_init(|| library)),
        }
    }

    fn load() -> Result<Self, CudaError> {
        let library = loader::open_embedded()?;
        // SAFETY: names and signatures are those of the sources, which this crate compiles.
        let (memory, streams) = unsafe {
            let streams = cfg!(with_streams).then(|| StreamFunctions::find(&library));
            (MemoryFunctions::find(&library)?, streams.transpose()?)
        };
        // The functions stay in use for the life of the process.
        std::mem::forget(library);
        Ok(Self { memory, streams })
    }

    pub(crate) fn streams(&self) -> Result<&StreamFunctions, CudaError> {
        self.streams.as_ref().ok_or(CudaError::NotBuilt)
    }

    /// Returns the number of devices that LibTorch's CUDA allocator knows, 0 if it has not started.
    pub(crate) fn memory_devices(&self) -> c_int {
        // SAFETY: the function has no arguments.
        unsafe { (self.memory.memory_devices)() }
    }

    /// Returns allocated, peak allocated, reserved and peak reserved bytes, and the retries.
    pub(crate) fn memory(&self, device: c_int) -> Option<[i64; 5]> {
        let mut statistics = [0; 5];
        // SAFETY: the function writes five numbers to an array that outlives the call.
        unsafe { (self.memory.memory_read)(device, statistics.as_mut_ptr()) }.then_some(statistics)
    }
}

impl StreamFunctions {
    pub(crate) fn current_stream(&self, device: usize) -> Result<Pointer, CudaError> {
        self.get(self.current_stream, device)
    }

    /// Waits for the current stream of this thread on `device`.
    pub(crate) fn synchronize(&self, device: usize) -> Result<(), CudaError> {
        let device = index(device)?;
        // SAFETY: the argument is a number.
        self.check(unsafe { (self.synchronize)(device) })
    }

    /// Makes a stream for engines the current one of this thread on `device`.
    pub(crate) fn use_engine_stream(&self, device: usize) -> Result<(), CudaError> {
        let device = index(device)?;
        // SAFETY: the argument is a number.
        self.check(unsafe { (self.use_engine_stream)(device) })
    }

    pub(crate) fn copy_stream(&'static self, device: usize) -> Result<RawStream, CudaError> {
        self.object(self.copy_stream_new, self.stream_free, device).map(RawStream)
    }

    pub(crate) fn capture_stream(&'static self, device: usize) -> Result<RawStream, CudaError> {
        self.object(self.capture_stream_new, self.stream_free, device).map(RawStream)
    }

    pub(crate) fn record_event(&'static self, device: usize) -> Result<RawEvent, CudaError> {
        self.object(self.event_new, self.event_free, device).map(RawEvent)
    }

    pub(crate) fn new_graph(&'static self, device: usize) -> Result<RawGraph, CudaError> {
        self.object(self.graph_new, self.graph_free, device).map(RawGraph)
    }

    /// Returns whether LibTorch prefers cuDNN for attention on `device`.
    pub(crate) fn attention_prefers_cudnn(&self, device: usize) -> Result<bool, CudaError> {
        self.is(self.attention_prefers_cudnn, device)
    }

    /// Returns whether LibTorch has flash attention for `device`.
    pub(crate) fn attention_has_flash(&self, device: usize) -> Result<bool, CudaError> {
        self.is(self.attention_has_flash, device)
    }

    /// Removes cuDNN from the attention kernels that LibTorch chooses from.
    pub(crate) fn attention_exclude_cudnn(&self) -> Result<(), CudaError> {
        // SAFETY: the function has no arguments.
        self.check(unsafe { (self.attention_exclude_cudnn)() })
    }

    /// Returns the attention of query, key and value.
    pub(crate) fn attention_cudnn(&self, tensors: [&Tensor; 3]) -> Result<Tensor, CudaError> {
        self.tensor(self.attention_cudnn, tensors)
    }

    /// Returns the attention of query, key and value to `ranges`, see `attention.cpp`. `sizes` are
    /// the most queries of a row, and the tokens of a range.
    pub(crate) fn attention_ranges(
        &self,
        tensors: [&Tensor; 3],
        ranges: [&Tensor; 3],
        sizes: [i64; 2],
    ) -> Result<Tensor, CudaError> {
        let [tensors, ranges] = [tensors, ranges].map(|tensors| tensors.map(Tensor::as_ptr));
        let mut result = std::ptr::null_mut();
        // SAFETY: the arrays have the lengths that the function reads. They and their tensors
        // outlive the call. The function writes one pointer to a variable that outlives it, too.
        let status = unsafe {
            (self.attention_ranges)(tensors.as_ptr(), ranges.as_ptr(), sizes.as_ptr(), &raw mut result)
        };
        self.check(status)?;
        // SAFETY: the function made this tensor for its caller.
        Ok(unsafe { Tensor::from_ptr(result) })
    }

    /// Returns the GELU of a linear layer, of its input, weight and bias.
    pub(crate) fn linear_gelu(&self, tensors: [&Tensor; 3]) -> Result<Tensor, CudaError> {
        self.tensor(self.linear_gelu, tensors)
    }

    fn tensor(
        &self,
        function: OfThreeTensors,
        [first, second, third]: [&Tensor; 3],
    ) -> Result<Tensor, CudaError> {
        let mut result = std::ptr::null_mut();
        // SAFETY: the tensors outlive the call. The function writes one pointer to a variable that
        // outlives the call, too.
        let status = unsafe { function(first.as_ptr(), second.as_ptr(), third.as_ptr(), &raw mut result) };
        self.check(status)?;
        // SAFETY: the function made this tensor for its caller.
        Ok(unsafe { Tensor::from_ptr(result) })
    }

    fn object(&'static self, new: Get, free: Free, device: usize) -> Result<Object, CudaError> {
        Ok(Object { functions: self, pointer: self.get(new, device)?, free })
    }

    fn is(&self, function: Ask, device: usize) -> Result<bool, CudaError> {
        let device = index(device)?;
        let mut answer = 0;
        // SAFETY: the function writes one number to a variable that outlives the call.
        self.check(unsafe { function(device, &raw mut answer) })?;
        Ok(answer != 0)
    }

    fn get(&self, function: Get, device: usize) -> Result<Pointer, CudaError> {
        let device = index(device)?;
        let mut pointer = std::ptr::null_mut();
        // SAFETY: the function writes one pointer to a variable that outlives the call.
        self.check(unsafe { function(device, &raw mut pointer) }).map(|()| pointer)
    }

    fn check(&self, status: c_int) -> Result<(), CudaError> {
        if status == 0 { Ok(()) } else { Err(self.error()) }
    }

    fn error(&self) -> CudaError {
        // SAFETY: the string belongs to this thread and lives until the thread's next failing call.
        let text = unsafe { CStr::from_ptr((self.last_error)()) };
        // A backtrace and general advice follow in further lines.
        let reason = text.to_string_lossy().lines().next().unwrap_or_default().to_owned();
        TchError::Torch(reason).into()
    }
}

fn index(device: usize) -> Result<c_int, CudaError> {
    c_int::try_from(device).map_err(|error| TchError::Convert(error.to_string()).into())
}

/// An object of `stream.cpp`. It is not `Send`, since a current stream belongs to a thread.
#[derive(Debug)]
struct Object {
    functions: &'static StreamFunctions,
    pointer: Pointer,
    free: Free,
}

impl Object {
    fn act(&self, function: Act) -> Result<(), CudaError> {
        // SAFETY: the callers pass functions for this kind of object, which lives until its drop.
        self.functions.check(unsafe { function(self.pointer) })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: `free` belongs to this kind of object and is called once.
        unsafe { (self.free)(self.pointer) }
    }
}

/// A stream of LibTorch's pool.
#[derive(Debug)]
pub(crate) struct RawStream(Object);

impl RawStream {
    /// Runs `work` with this stream as the current one of the thread.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, CudaError> {
        self.0.act(self.0.functions.stream_enter)?;
        let guard = LeaveOnPanic(self);
        let result = work();
        std::mem::forget(guard);
        self.leave().map(|()| result)
    }

    fn leave(&self) -> Result<(), CudaError> {
        self.0.act(self.0.functions.stream_leave)
    }
}

struct LeaveOnPanic<'a>(&'a RawStream);

impl Drop for LeaveOnPanic<'_> {
    fn drop(&mut self) {
        // The panic continues and says more than an error of this call.
        drop(self.0.leave());
    }
}

/// An event that was recorded.
#[derive(Debug)]
pub(crate) struct RawEvent(Object);

impl RawEvent {
    pub(crate) fn milliseconds_since(&self, earlier: &Self) -> Result<f64, CudaError> {
        let (Self(end), Self(begin)) = (self, earlier);
        let mut milliseconds = 0.0;
        // SAFETY: both are live events. The function writes one number, which outlives the call.
        let status =
            unsafe { (end.functions.event_milliseconds)(begin.pointer, end.pointer, &raw mut milliseconds) };
        end.functions.check(status).map(|()| milliseconds)
    }
}

/// A graph, before or after its capture.
#[derive(Debug)]
pub(crate) struct RawGraph(Object);

impl RawGraph {
    pub(crate) fn begin(&self) -> Result<(), CudaError> {
        self.0.act(self.0.functions.graph_begin)
    }

    pub(crate) fn end(&self) -> Result<(), CudaError> {
        self.0.act(self.0.functions.graph_end)
    }

    pub(crate) fn replay(&self) -> Result<(), CudaError> {
        self.0.act(self.0.functions.graph_replay)
    }
}
