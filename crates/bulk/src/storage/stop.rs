//! Ends the requests of a run that is stopped.

use std::{cell::RefCell, sync::Arc};

use tokio::sync::watch;

thread_local! {
    static CURRENT: RefCell<Option<StopRequests>> = const { RefCell::new(None) };
}

/// Ends requests to stores. Without it, a caller waits for a server that does not answer.
///
/// It applies to the requests of threads. Libraries that read tar and Parquet files call readers,
/// and pass no parameter to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopRequests(Arc<watch::Sender<bool>>);

impl StopRequests {
    /// Returns that of this thread.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Calls a function, whose requests end at the stop.
    pub(crate) fn scope<T>(&self, function: impl FnOnce() -> T) -> T {
        /// Restores the earlier value, also after a panic.
        struct Restore(Option<StopRequests>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        function()
    }

    /// Ends all requests, now and later.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the stop.
    #[cfg(feature = "object_store")]
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|is_stopped| *is_stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_that_of_its_function_and_thread() {
        let requests = StopRequests::default();
        requests.scope(|| {
            assert!(!StopRequests::current().unwrap().is_stopped());
            requests.stop();
            assert!(StopRequests::current().unwrap().is_stopped());
            assert!(std::thread::spawn(|| StopRequests::current().is_none()).join().unwrap());
        });
        assert!(StopRequests::current().is_none());
    }
}
