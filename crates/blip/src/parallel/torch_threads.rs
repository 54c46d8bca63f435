//! The threads of LibTorch.

/// LibTorch computes on the calling thread until this is dropped.
///
/// The native kernels divide nearly all work. What is left for LibTorch is small, and its threads
/// would wait by spinning.
#[derive(Debug)]
pub(crate) struct SingleTorchThread {
    before: i32,
}

impl SingleTorchThread {
    /// Sets the number of threads to 1.
    pub(crate) fn begin() -> Self {
        let before = tch::get_num_threads();
        set(before, 1);
        Self { before }
    }
}

impl Drop for SingleTorchThread {
    fn drop(&mut self) {
        set(1, self.before);
    }
}

/// Sets the number of threads of the calling thread's operations.
fn set(before: i32, threads: i32) {
    if before != threads {
        tch::set_num_threads(threads);
    }
}
