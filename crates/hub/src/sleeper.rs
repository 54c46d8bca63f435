//! How this crate waits.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;

/// How this crate waits. Tests give one that does not.
#[derive(Clone)]
pub struct Sleeper(Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>);

impl Sleeper {
    /// Waits as `wait` does.
    #[must_use]
    pub fn new(wait: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(wait))
    }

    /// Gives others their turn, and no more.
    #[cfg(test)]
    pub(crate) fn yielding() -> Self {
        Self::new(|_| Box::pin(tokio::task::yield_now()))
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        (self.0)(duration).await;
    }
}

impl Default for Sleeper {
    /// Waits by the clock.
    fn default() -> Self {
        Self::new(|duration| Box::pin(tokio::time::sleep(duration)))
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pause")
    }
}
