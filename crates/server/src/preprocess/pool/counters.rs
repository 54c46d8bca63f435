//! The number of closures by outcome.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of closures by outcome since the pool was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Closures that returned.
    pub finished: u64,
    /// Closures that never ran because their callers had left.
    pub skipped: u64,
    /// Closures that panicked.
    pub panicked: u64,
    /// Closures that were rejected because the queue was full.
    pub refused: u64,
    /// Closures that are waiting now.
    pub queued: u64,
}

/// The counters of a running pool.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) finished: Counter,
    pub(super) skipped: Counter,
    pub(super) panicked: Counter,
    pub(super) refused: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self, queued: usize) -> PoolCounters {
        let Self { finished, skipped, panicked, refused } = self;
        PoolCounters {
            finished: finished.read(),
            skipped: skipped.read(),
            panicked: panicked.read(),
            refused: refused.read(),
            queued: queued as u64,
        }
    }
}
