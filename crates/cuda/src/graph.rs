//! CUDA graphs: sequences of kernels that are captured once and launched with one call.
//!
//! A model of small matrices spends more time on kernel launches than on kernels. A graph removes
//! the launches. It always reads and writes the same memory: the caller copies inputs into the
//! tensors of the capture and reads outputs from the tensors that the captured work returned.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::TchError;

use crate::{
    error::CudaError,
    ffi::libtorch::{RawGraph, RawStream},
    stream::CudaStreams,
};

/// A captured sequence of kernels.
///
/// It is `None` only while it is dropped.
#[derive(Debug)]
pub struct Graph(Option<RawGraph>);

/// Returns the lock for captures and for the release of graphs.
///
/// LibTorch lists the graphs of a device with its random numbers, and takes no lock for the list.
fn lock_captures() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream on which an engine captures all its graphs.
///
/// LibTorch's libraries hold memory for each stream that they have seen.
#[derive(Debug)]
pub struct CaptureStream {
    streams: CudaStreams,
    device: usize,
    stream: RawStream,
}

impl CudaStreams {
    /// Takes a stream for captures on `device` from LibTorch's pool.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn capture_stream(self, device: usize) -> Result<CaptureStream, CudaError> {
        // CUDA does not capture the default stream.
        let stream = self.functions.capture_stream(device)?;
        Ok(CaptureStream { streams: self, device, stream })
    }
}

impl CaptureStream {
    /// Runs `work` on the device once without a capture, then captures a second run as a graph.
    ///
    /// `work` must not copy between host and device and must not read the values of a tensor. The
    /// tensors that it reads or returns must live as long as the graph.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`] if `work` fails or does something that cannot be captured.
    pub fn capture<T>(&self, mut work: impl FnMut() -> Result<T, TchError>) -> Result<(Graph, T), CudaError> {
        let (functions, device) = (self.streams.functions, self.device);
        let _lock = lock_captures();
        let graph = functions.new_graph(device)?;
        // The pool's stream does not wait for inputs that the current stream still computes.
        functions.synchronize(device)?;
        let captured = self.stream.run(|| {
            // The first run creates handles and workspaces, and selects algorithms.
            work()?;
            functions.synchronize(device)?;
            graph.begin()?;
            let result = work();
            // A capture that began must end, also if the work failed.
            let ended = graph.end();
            let result = result?;
            ended.map(|()| (graph, result))
        });
        // The lock is held, so no `Graph` may be dropped above.
        captured?.map(|(graph, result)| (Graph(Some(graph)), result))
    }
}

impl Graph {
    /// Launches the sequence on the current stream, without waiting for it.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn launch(&self) -> Result<(), CudaError> {
        self.0.as_ref().map_or(Ok(()), RawGraph::replay)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _lock = lock_captures();
        self.0 = None;
    }
}
