//! Threads for requests, which synchronous callers wait for.

use std::{
    future::Future,
    io,
    sync::{LazyLock, mpsc},
};

use tokio::runtime::{Builder, Runtime};

/// Number of threads. They only move bytes between sockets and buffers.
const THREADS: usize = 2;

static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(THREADS).thread_name("objects").enable_all().build();
    runtime.map_err(|error| error.to_string())
});

/// The result of a future that runs.
#[derive(Debug)]
pub(super) struct Pending<T>(mpsc::Receiver<io::Result<T>>);

impl<T: Send + 'static> Pending<T> {
    /// Starts a future.
    pub(super) fn start(future: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::sync_channel(1);
        match &*RUNTIME {
            // The caller can have lost its interest.
            Ok(runtime) => drop(runtime.spawn(async move { drop(sender.send(future.await)) })),
            Err(error) => drop(sender.send(Err(io::Error::other(error.clone())))),
        }
        Self(receiver)
    }

    /// Waits for the result.
    pub(super) fn wait(self) -> io::Result<T> {
        self.0.recv().unwrap_or_else(|_| Err(io::Error::other("the request has panicked")))
    }
}
