//! The memory of fetched files. It is taken for bytes that have arrived, by share of the caller.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use images::fetch::{BodyMemory, MemoryExhausted};
use scheduler::ClientId;
use tokio::sync::Notify;

use crate::fair_share::{Caller, FairShare, Share};

/// The memory of the fetched files of all callers.
#[derive(Debug)]
pub(super) struct BodyBudget {
    memory: FairShare,
    /// The largest sizes of the files that each caller reads, in bytes.
    expected: Mutex<HashMap<ClientId, usize>>,
    ended: Notify,
}

impl BodyBudget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { memory: FairShare::new(bytes), expected: Mutex::default(), ended: Notify::new() }
    }

    /// Waits until `caller` may read a file of at most `bytes`.
    ///
    /// A caller reads one file at any time. It reads more if their largest sizes fit into half of
    /// the memory, so that its files do not exclude each other when they are half read.
    pub(super) async fn begin(self: Arc<Self>, caller: Caller, bytes: usize) -> FileMemory {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.try_expect(caller, bytes) {
                let share = self.memory.share(caller);
                return FileMemory { budget: Arc::clone(&self), caller, share, expected: bytes };
            }
            ended.await;
        }
    }

    fn try_expect(&self, caller: Caller, bytes: usize) -> bool {
        let mut expected = self.expected();
        let own = expected.get(&caller.id).copied().unwrap_or_default();
        let fits = own.saturating_add(bytes) <= self.memory.capacity() / 2;
        if own > 0 && !fits {
            return false;
        }
        if bytes > 0 {
            *expected.entry(caller.id).or_default() += bytes;
        }
        true
    }

    fn end(&self, caller: Caller, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut expected = self.expected();
        if let Some(own) = expected.get_mut(&caller.id) {
            *own -= bytes;
            if *own == 0 {
                expected.remove(&caller.id);
            }
        }
        drop(expected);
        self.ended.notify_waiters();
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<ClientId, usize>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of one file, until it is dropped.
#[derive(Debug)]
pub(super) struct FileMemory {
    budget: Arc<BodyBudget>,
    caller: Caller,
    share: Share,
    /// The largest size of the file while it is read.
    expected: usize,
}

impl BodyMemory for FileMemory {
    fn grow(&mut self, more: usize) -> Result<(), MemoryExhausted> {
        self.share.grow(more).map_err(|_| MemoryExhausted)
    }

    fn complete(&mut self, bytes: usize) {
        self.share.shrink(self.share.units().saturating_sub(bytes));
        self.budget.end(self.caller, std::mem::take(&mut self.expected));
    }
}

impl Drop for FileMemory {
    fn drop(&mut self) {
        self.share.shrink(self.share.units());
        self.budget.end(self.caller, self.expected);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn caller(id: u64) -> Caller {
        Caller { id: ClientId(id), weight: 1 }
    }

    fn begin(budget: &Arc<BodyBudget>, id: u64, bytes: usize) -> Option<FileMemory> {
        Arc::clone(budget).begin(caller(id), bytes).now_or_never()
    }

    #[test]
    fn announced_file_occupies_no_memory_of_others() {
        let budget = Arc::new(BodyBudget::new(1000));
        let announced: Vec<_> = std::iter::from_fn(|| begin(&budget, 1, 100)).collect();
        assert_eq!(announced.len(), 5);
        let mut other = begin(&budget, 2, 1000).unwrap();
        assert_eq!(other.grow(1000), Ok(()));
    }

    #[test]
    fn caller_that_received_much_leaves_memory_for_others() {
        let budget = Arc::new(BodyBudget::new(10_000));
        let mut first = begin(&budget, 1, 100_000).unwrap();
        let grown = (0..).take_while(|_| first.grow(100).is_ok()).count() * 100;
        assert!((8000..9000).contains(&grown), "{grown}");
        assert_eq!(begin(&budget, 2, 1000).unwrap().grow(1000), Ok(()));
        drop(first);
        assert_eq!(begin(&budget, 1, 10_000).unwrap().grow(10_000), Ok(()));
    }

    #[test]
    fn one_file_is_always_read_whatever_its_size() {
        let budget = Arc::new(BodyBudget::new(100));
        let mut first = begin(&budget, 1, 100).unwrap();
        assert!(begin(&budget, 1, 1).is_none());
        assert_eq!(first.grow(100), Ok(()));
        first.complete(40);
        assert_eq!(first.share.units(), 40);
        assert!(begin(&budget, 1, 1).is_some());
        drop(first);
        assert!(budget.expected().is_empty());
    }

    #[tokio::test]
    async fn waiting_file_is_read_when_another_ends() {
        let budget = Arc::new(BodyBudget::new(100));
        let first = begin(&budget, 1, 60).unwrap();
        let mut second = pin!(Arc::clone(&budget).begin(caller(1), 60));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await;
    }
}
