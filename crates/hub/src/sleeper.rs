//! Waits between attempts, replaceable in tests.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;

/// A function that waits for a duration. Tests use one that returns at once.
#[derive(Clone)]
pub struct Sleeper(Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>);

impl Sleeper {
    /// Creates a sleeper that waits with `wait`.
    #[must_use]
    pub fn new(wait: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(wait))
    }

    /// Creates a sleeper that only yields to other tasks.
    #[cfg(test)]
    pub(crate) fn yielding() -> Self {
        Self::new(|_| Box::pin(tokio::task::yield_now()))
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        (self.0)(duration).await;
    }
}

impl Default for Sleeper {
    /// Waits for the full duration.
    fn default() -> Self {
        Self::new(|duration| Box::pin(tokio::time::sleep(duration)))
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pause")
    }
}
