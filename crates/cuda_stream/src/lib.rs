//! What tch has no call for of CUDA's streams: work on a stream beside the current one, events, which tell when the device came
//! to a place in its work, and graphs, sequences of kernels captured once and launched as one.
//!
//! A model of small matrices spends its time launching kernels, not running them. A graph is launched with one call. It
//! always reads and writes the same memory: inputs are copied into the tensors that were there at the capture, outputs are
//! read from those that the captured work returned.

mod library;

use std::{ffi::c_void, fmt, time::Duration};

use library::Library;

pub use library::OpenError;

/// The door to CUDA's streams in this process.
#[derive(Debug, Clone, Copy)]
pub struct CudaStreams {
    library: &'static Library,
}

/// Why work could not be captured.
#[derive(Debug, thiserror::Error)]
pub enum GraphError<E> {
    /// CUDA or LibTorch refused.
    #[error("cuda graph: {0}")]
    Cuda(String),
    /// The work itself failed.
    #[error(transparent)]
    Work(E),
}

impl CudaStreams {
    /// Opens the library behind this crate; LibTorch's CUDA half must be open already.
    ///
    /// # Errors
    /// [`OpenError`] if this build has no such library or it does not open.
    pub fn open() -> Result<Self, OpenError> {
        Library::open().map(|library| Self { library })
    }

    /// The `cudaStream_t` that LibTorch's work of this thread on a device goes to: null for the default stream, another where
    /// this thread is on a side stream.
    ///
    /// # Errors
    /// What LibTorch said, as text.
    pub fn current_stream(self, device: usize) -> Result<*mut c_void, String> {
        self.library.current_stream(device)
    }

    /// A stream of CUDA device `device` beside the current one.
    ///
    /// # Errors
    /// What LibTorch said, as text.
    pub fn side_stream(self, device: usize) -> Result<SideStream, String> {
        self.library.side_stream(device).map(SideStream)
    }

    /// An event behind all that this thread has given CUDA device `device` to do; does not wait for it. Not while a graph is
    /// captured, which would take the event for its own.
    ///
    /// # Errors
    /// What LibTorch said, as text.
    pub fn record_event(self, device: usize) -> Result<Event, String> {
        self.library.record_event(device).map(Event)
    }

    /// Runs `work` on CUDA device `device` once as it is, then once more while recording it.
    ///
    /// `work` must not copy between host and device, nor read a tensor's values. The tensors that it returns, and those
    /// that it reads from outside, must live as long as the graph: keep them beside it.
    ///
    /// # Errors
    /// [`GraphError`] if the work failed or did something that cannot be captured.
    pub fn capture<T, E>(
        self,
        device: usize,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<(Graph, T), GraphError<E>> {
        let synchronize = || self.library.synchronize(device).map_err(GraphError::Cuda);
        let graph = self.library.graph().map_err(GraphError::Cuda)?;
        // The default stream cannot be captured.
        let side = self.side_stream(device).map_err(GraphError::Cuda)?;
        // What the work reads is on its way on the current stream, which the side stream knows nothing of.
        synchronize()?;
        let captured = side.run(|| {
            // The first run makes what is made once: handles, workspaces, chosen algorithms.
            work().map(drop).map_err(GraphError::Work)?;
            synchronize()?;
            graph.begin().map_err(GraphError::Cuda)?;
            let result = work();
            let ended = graph.end().map_err(GraphError::Cuda);
            let result = result.map_err(GraphError::Work)?;
            ended.map(|()| result)
        });
        let result = captured.map_err(GraphError::Cuda)??;
        Ok((Graph(graph), result))
    }
}

/// A stream of a device beside the current one.
pub struct SideStream(library::RawSide);

impl SideStream {
    /// Does `work` with this as the current stream of this thread, whose work then neither waits for that on the stream before
    /// nor is waited for by it.
    ///
    /// # Errors
    /// What CUDA said, as text.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        self.0.enter()?;
        let left = Leave(&self.0);
        let result = work();
        std::mem::forget(left);
        self.0.leave().map(|()| result)
    }
}

/// Leaves a side stream even if the work on it panics.
struct Leave<'a>(&'a library::RawSide);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        // The panic goes on, and says more.
        drop(self.0.leave());
    }
}

impl fmt::Debug for SideStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SideStream")
    }
}

/// A place in a device's work.
pub struct Event(library::RawEvent);

impl Event {
    /// How long the device took to come here from `earlier`, an event of the same device; waits until it is here.
    ///
    /// # Errors
    /// What CUDA said, as text.
    pub fn since(&self, earlier: &Self) -> Result<Duration, String> {
        let milliseconds = self.0.milliseconds_since(&earlier.0)?;
        Duration::try_from_secs_f64(milliseconds / 1e3).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Event")
    }
}

/// A captured sequence of kernels.
pub struct Graph(library::RawGraph);

impl Graph {
    /// Launches the whole sequence on the current stream; returns before it has run.
    ///
    /// # Errors
    /// What CUDA said, as text.
    pub fn launch(&self) -> Result<(), String> {
        self.0.replay()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Graph")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_libtorchs_cuda_half_there_are_no_streams_and_no_crash() {
        let error = CudaStreams::open().unwrap_err();
        assert!(matches!(error, OpenError::NotBuilt | OpenError::Load(_)), "{error}");
    }
}
