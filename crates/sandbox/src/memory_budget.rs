//! A limit on the memory that the calls of all workers reserve.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::event::{PollFd, PollFlags, poll};

use crate::cancellation::Cancellation;

/// A number of bytes that the calls of all workers share. Waiting calls are served in order.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reserved: u64,
    waiting: VecDeque<Arc<Cancellation>>,
}

/// Reserved bytes of a budget. They are released on drop.
#[derive(Debug)]
#[must_use]
pub struct Reservation<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// Creates a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Blocks until `bytes` are free and reserves them. A call that needs more than all is served
    /// when nothing else is reserved.
    ///
    /// Returns `None` if the call is cancelled first.
    pub fn reserve(&self, bytes: u64, cancellation: &Arc<Cancellation>) -> Option<Reservation<'_>> {
        let bytes = bytes.min(self.limit);
        let mut state = self.state();
        if state.waiting.is_empty() && state.reserved + bytes <= self.limit {
            state.reserved += bytes;
            return Some(Reservation { budget: self, bytes });
        }
        state.waiting.push_back(Arc::clone(cancellation));
        loop {
            let is_cancelled = cancellation.is_cancelled();
            let is_first = state.waiting.front().is_some_and(|first| Arc::ptr_eq(first, cancellation));
            if is_cancelled || is_first && state.reserved + bytes <= self.limit {
                state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, cancellation));
                // The next in line may fit, too.
                state.wake_first();
                if is_cancelled {
                    return None;
                }
                state.reserved += bytes;
                return Some(Reservation { budget: self, bytes });
            }
            drop(state);
            // An interrupted wait is repeated.
            let _ = poll(&mut [PollFd::new(cancellation, PollFlags::IN)], None);
            cancellation.clear();
            state = self.state();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.wake();
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.reserved -= self.bytes;
        state.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    fn cancellation() -> Arc<Cancellation> {
        Arc::new(Cancellation::new().unwrap())
    }

    #[test]
    fn reservations_wait_in_order_for_released_memory() {
        let budget = MemoryBudget::new(10);
        let (sender, order) = mpsc::channel();
        thread::scope(|scope| {
            let first = budget.reserve(10, &cancellation()).unwrap();
            // No two of them fit together.
            for bytes in [8, 9, 10] {
                let (sender, waiting) = (sender.clone(), budget.state().waiting.len());
                let budget = &budget;
                scope.spawn(move || {
                    let reservation = budget.reserve(bytes, &cancellation()).unwrap();
                    sender.send(bytes).unwrap();
                    drop(reservation);
                });
                while budget.state().waiting.len() == waiting {
                    thread::yield_now();
                }
            }
            assert!(order.try_recv().is_err());
            drop(first);
        });
        let served: Vec<u64> = order.try_iter().collect();
        assert_eq!((served, budget.state().reserved), (vec![8, 9, 10], 0));
    }

    #[test]
    fn reservation_beyond_the_limit_takes_all() {
        let budget = MemoryBudget::new(10);
        let reservation = budget.reserve(100, &cancellation()).unwrap();
        assert_eq!(budget.state().reserved, 10);
        drop(reservation);
    }

    #[test]
    fn cancelled_wait_ends_and_lets_the_next_in() {
        let budget = MemoryBudget::new(10);
        let held = budget.reserve(5, &cancellation()).unwrap();
        let large = cancellation();
        thread::scope(|scope| {
            let wait = scope.spawn(|| budget.reserve(10, &large).is_none());
            while budget.state().waiting.is_empty() {
                thread::yield_now();
            }
            let small = scope.spawn(|| budget.reserve(5, &cancellation()).is_some());
            while budget.state().waiting.len() < 2 {
                thread::yield_now();
            }
            large.abandon();
            assert!(wait.join().unwrap() && small.join().unwrap());
        });
        drop(held);
    }
}
