//! Kernels of `cpu_kernels` whose work is divided among the compute threads of an engine.
//!
//! The layers on LibTorch use them for f32 on the CPU. LibTorch's own threads wait by spinning, so
//! they lose much time when another process uses a core
//! (`docs/decisions/native-cpu-kernels.md`).
//!
//! A number is summed in the same order however the work is divided. So results do not depend on
//! the number of threads.

pub(crate) mod absorbed;
pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod torch_threads;
pub(crate) mod scratch;
pub(crate) mod worker_pool;

use std::sync::{Arc, Mutex};

use cpu_kernels::{LayerInput, NumberFormat};
use rayon::ThreadPoolBuildError;

use crate::parallel::{
    scratch::{Buffer, Scratch, ScratchPool},
    worker_pool::WorkerPool,
};

/// The compute threads of an engine, and their scratch memory.
#[derive(Clone, Debug)]
pub(crate) struct ParallelKernels {
    pub(crate) workers: Arc<WorkerPool>,
    scratch: Arc<ScratchPool<Scratch>>,
    /// The input of a product whose columns are divided.
    layer_input: Arc<Mutex<LayerInput>>,
    /// Blocks of columns of a product, before they are copied to their places.
    column_blocks: Arc<Mutex<Buffer>>,
    /// The inner numbers of a feed-forward block whose columns are divided.
    inner: Arc<Mutex<Buffer>>,
    /// Keys and values before they are packed.
    key_values: Arc<Mutex<Buffer>>,
    /// The number format in which the linear layers of texts keep their weights.
    pub(crate) number_format: NumberFormat,
}

impl ParallelKernels {
    /// Starts `threads` threads.
    pub(crate) fn new(threads: usize, number_format: NumberFormat) -> Result<Self, ThreadPoolBuildError> {
        let workers = WorkerPool::with_current_thread(threads)?;
        Ok(Self {
            workers,
            scratch: Arc::default(),
            layer_input: Arc::default(),
            column_blocks: Arc::default(),
            inner: Arc::default(),
            key_values: Arc::default(),
            number_format,
        })
    }
}
