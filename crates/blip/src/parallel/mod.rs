//! Kernels of `cpu_kernels` whose work is divided among the compute threads of an engine.
//!
//! The CPU implementation and the layers on LibTorch use them. LibTorch's own threads wait by
//! spinning, so they lose much time when another process uses a core
//! (`docs/decisions/native-cpu-kernels.md`).
//!
//! A number is summed in the same order however the work is divided. So results do not depend on
//! the number of threads.

pub(crate) mod image_attention;
pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod torch_threads;
mod columns;
pub(crate) mod scratch;
pub(crate) mod worker_pool;

use std::sync::{Arc, Mutex};

use cpu_kernels::{LayerInput, NumberFormat};
use rayon::ThreadPoolBuildError;

use crate::parallel::{
    scratch::{Buffer, Scratch, ScratchPool},
    worker_pool::WorkerPool,
};

/// The least number of rows of a part, if a thread has several parts.
const PART_ROWS: usize = 72;

/// The largest number of parts for each thread. With several, a thread that another process
/// interrupts does not delay the others by its whole share.
const PARTS_PER_THREAD: usize = 4;

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
    /// The context of attention, head by head, before it is copied to its places.
    contexts: Arc<ScratchPool<Buffer>>,
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
            contexts: Arc::default(),
            key_values: Arc::default(),
            number_format,
        })
    }

    /// Returns kernels that compute on the calling thread. Threads may share them.
    pub(crate) fn on_one_thread(&self) -> Self {
        Self { workers: Arc::new(WorkerPool::of_calling_thread()), ..self.clone() }
    }

    /// Returns the number of parts into which `rows` rows are divided, so that each thread computes
    /// several parts on its own. With too few rows it is 1.
    pub(crate) fn parts(&self, rows: usize) -> usize {
        let threads = self.workers.threads();
        match self.divides_rows(rows) {
            true => (rows / PART_ROWS / threads).clamp(1, PARTS_PER_THREAD) * threads,
            false => 1,
        }
    }
}
