//! Threads for requests, which synchronous callers wait for.

use std::{
    future::{Future, pending},
    io,
    pin::pin,
    sync::{LazyLock, mpsc},
    time::Duration,
};

use futures::future::{Either, select};
use tokio::runtime::{Builder, Runtime};

use crate::storage::stop::StopRequests;

/// Time for a request that writes after its run was stopped.
const STOPPED_WRITE_LIMIT: Duration = Duration::from_secs(5);

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
    /// Starts a request that reads. It ends when its run is stopped.
    pub(super) fn start(request: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
        Self::start_until(request, Duration::ZERO)
    }

    /// Starts a request that writes. It has some more seconds when its run is stopped, because the
    /// server may store what has arrived.
    pub(super) fn start_write(request: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
        Self::start_until(request, STOPPED_WRITE_LIMIT)
    }

    fn start_until(request: impl Future<Output = io::Result<T>> + Send + 'static, limit: Duration) -> Self {
        let requests = StopRequests::current();
        Self::spawn(async move {
            let stopped = async {
                match requests {
                    Some(requests) => requests.stopped().await,
                    None => pending().await,
                }
                tokio::time::sleep(limit).await;
            };
            match select(pin!(request), pin!(stopped)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(io::Error::other("the run was stopped")),
            }
        })
    }

    fn spawn(future: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
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
