//! The threads of LibTorch.

/// LibTorch computes on the calling thread until this is dropped.
///
/// The native kernels divide nearly all work. What is left for LibTorch is small, and its threads
/// would wait by spinning.
#[derive(Debug)]
pub(crate) struct SingleTorchThread {
    after: usize,
}

impl SingleTorchThread {
    /// Sets the number of threads to 1. It will be `after` when this is dropped.
    pub(crate) fn begin(after: usize) -> Self {
        set(after, 1);
        Self { after }
    }
}

impl Drop for SingleTorchThread {
    fn drop(&mut self) {
        set(1, self.after);
    }
}

/// Changes the number of threads of the calling thread's operations.
fn set(before: usize, threads: usize) {
    if before != threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
}
