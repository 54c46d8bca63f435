//! CUDA graphs: sequences of kernels that are captured once and launched with one call.
//!
//! A model of small matrices spends more time on kernel launches than on kernels. A graph removes
//! the launches. It always reads and writes the same memory: the caller copies inputs into the
//! tensors of the capture and reads outputs from the tensors that the captured work returned.

use std::mem::ManuallyDrop;

use tch::TchError;

use crate::{
    error::CudaError,
    ffi::libtorch::{RawGraph, RawStream},
    stream::CudaStreams,
};

/// A captured sequence of kernels.
#[derive(Debug)]
pub struct Graph(RawGraph);

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
        let graph = functions.new_graph(device)?;
        // The pool's stream does not wait for inputs that the current stream still computes.
        functions.synchronize(device)?;
        let captured = self.stream.run(|| {
            // The first run creates handles and workspaces, and selects algorithms.
            work()?;
            functions.synchronize(device)?;
            graph.begin()?;
            // LibTorch's allocator refers to the graph until the capture ends. A graph whose
            // capture does not end is never freed.
            let graph = ManuallyDrop::new(graph);
            let result = work();
            // A capture that began must end, also if the work failed.
            let ended = graph.end();
            let graph = ended.map(|()| Graph(ManuallyDrop::into_inner(graph)));
            let result = result?;
            graph.map(|graph| (graph, result))
        });
        captured?
    }
}

impl Graph {
    /// Launches the sequence on the current stream, without waiting for it.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn launch(&self) -> Result<(), CudaError> {
        self.0.replay()
    }
}
