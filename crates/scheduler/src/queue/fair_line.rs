//! A queue in fair order, for work other than that of engines.

use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::{
    ids::{JobIndex, QueuePosition},
    job::{ClientId, Priority},
    queue::{FairQueue, LengthPreference},
};

/// The wait after which work without a deadline is due.
const IMPLICIT_DEADLINE: Duration = Duration::from_secs(60);

/// A flow of fair queueing: the items of one client in one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client.
    pub client: ClientId,
    /// The class of the work.
    pub priority: Priority,
    /// The client's weight among the clients of the class. 0 counts as 1.
    pub weight: u32,
}

/// A queue of `T` in the order of the scheduler's queue: classes by their shares, and clients of a
/// class by their weights.
///
/// Costs are in units that the user chooses.
#[derive(Debug)]
pub struct FairLine<T> {
    queue: FairQueue,
    entries: Slab<Entry<T>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    position: QueuePosition,
    cost: u64,
    item: T,
}

impl<T> FairLine<T> {
    /// Creates an empty line. A client may be ahead of its share by `credit`, the cost of an
    /// ordinary request.
    #[must_use]
    pub fn new(credit: u64) -> Self {
        let mut queue = FairQueue::default();
        queue.set_credit(credit);
        Self { queue, entries: Slab::new(), sequence: 0 }
    }

    /// Inserts an item of this cost. A client's items leave by deadline, then in order of arrival.
    pub fn push(&mut self, flow: Flow, deadline: Option<Instant>, cost: u64, item: T) {
        self.sequence += 1;
        let latest = Instant::now() + IMPLICIT_DEADLINE;
        let Flow { client, priority, weight } = flow;
        let position = QueuePosition {
            class: priority,
            client,
            weight,
            due: deadline.map_or(latest, |deadline| deadline.min(latest)),
            sequence: self.sequence,
        };
        let index = self.entries.insert(Entry { position, cost, item });
        // A line is never as long as 2^32 items.
        self.queue.insert(&position, JobIndex(u32::try_from(index).unwrap_or(u32::MAX)), 1);
    }

    /// Removes the next item and charges its cost to its client.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_where(|_| true)
    }

    /// Removes the next item that `fits`, and charges its cost to its client. The others keep their
    /// turns. If none of the next few items of a client fits, the client is left out.
    pub fn pop_where(&mut self, mut fits: impl FnMut(&T) -> bool) -> Option<T> {
        let any_length = LengthPreference { longest: 1, rows: 1, now: Instant::now() };
        let mut selection = self.queue.select();
        let index = loop {
            let JobIndex(index) = selection.next(any_length)?;
            if self.entries.get(index as usize).is_some_and(|entry| fits(&entry.item)) {
                break index;
            }
        };
        let Entry { position, cost, item } = self.entries.try_remove(index as usize)?;
        self.queue.charge(&position, cost);
        self.queue.remove(&position);
        Some(item)
    }

    /// Charges further cost to a client, for an item that took more than its cost.
    pub fn charge(&mut self, flow: Flow, cost: u64) {
        let Flow { client, priority, weight } = flow;
        let position =
            QueuePosition { class: priority, client, weight, due: Instant::now(), sequence: self.sequence };
        self.queue.charge(&position, cost);
    }

    /// Removes the items for which `keep` returns false. They cost nothing.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let queue = &mut self.queue;
        self.entries.retain(|_, entry| {
            let stays = keep(&entry.item);
            if !stays {
                queue.remove(&entry.position);
            }
            stays
        });
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the line has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(client: u64, priority: Priority, weight: u32) -> Flow {
        Flow { client: ClientId(client), priority, weight }
    }

    fn pop_all(line: &mut FairLine<u64>, count: usize) -> Vec<u64> {
        (0..count).map_while(|_| line.pop()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn single_item_is_early_beside_backlog_of_other_client() {
        let mut line = FairLine::new(4);
        for _ in 0..1000 {
            line.push(flow(1, Priority::Normal, 1), None, 1, 1);
        }
        pop_all(&mut line, 100);
        line.push(flow(2, Priority::Normal, 1), None, 1, 2);
        assert!(pop_all(&mut line, 3).contains(&2));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_served_by_weight_and_cost() {
        let mut line = FairLine::new(0);
        for _ in 0..400 {
            line.push(flow(1, Priority::Normal, 1), None, 1000, 1);
            line.push(flow(2, Priority::Normal, 3), None, 1000, 2);
            line.push(flow(3, Priority::Normal, 3), None, 3000, 3);
        }
        let served = pop_all(&mut line, 500);
        let count = |client| served.iter().filter(|served| **served == client).count();
        assert!((98..=102).contains(&count(1)), "{}", count(1));
        assert!((98..=102).contains(&count(3)), "{}", count(3));
    }

    #[tokio::test(start_paused = true)]
    async fn client_whose_items_cost_more_is_charged_for_it() {
        let mut line = FairLine::new(0);
        for _ in 0..400 {
            line.push(flow(1, Priority::Normal, 1), None, 1000, 1);
            line.push(flow(2, Priority::Normal, 1), None, 1000, 2);
        }
        let mut served = [0, 0];
        for _ in 0..400 {
            let client = line.pop().unwrap();
            served[client as usize - 1] += 1;
            if client == 2 {
                line.charge(flow(2, Priority::Normal, 1), 2000);
            }
        }
        assert!((298..=302).contains(&served[0]), "{served:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn removed_items_leave_the_others_in_order() {
        let mut line = FairLine::new(10);
        for item in 0..10 {
            line.push(flow(item % 2, Priority::Normal, 1), None, 1, item);
        }
        line.retain(|item| item % 3 == 0);
        assert_eq!(line.len(), 4);
        let mut rest = pop_all(&mut line, 10);
        rest.sort_unstable();
        assert_eq!(rest, [0, 3, 6, 9]);
        assert!(line.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn items_that_do_not_fit_keep_their_turns() {
        let mut line = FairLine::new(10);
        for item in 0..100 {
            line.push(flow(1, Priority::Normal, 1), None, 1, item);
        }
        line.push(flow(2, Priority::Normal, 1), None, 1, 100);
        assert_eq!(line.pop_where(|item| *item >= 100), Some(100));
        assert_eq!(line.pop_where(|item| *item >= 100), None);
        assert_eq!(line.len(), 100);
        assert_eq!(line.pop(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn higher_class_goes_first() {
        let mut line = FairLine::new(10);
        for _ in 0..50 {
            line.push(flow(1, Priority::Low, 1), None, 10, 1);
        }
        pop_all(&mut line, 10);
        line.push(flow(2, Priority::High, 1), None, 10, 2);
        assert_eq!(line.pop(), Some(2));
    }
}
