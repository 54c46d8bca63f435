//! The work that waits for a thread, in fair order.

use std::time::Duration;

use scheduler::{Contention, FairLine, Flow};
use tokio::time::Instant;

use crate::{
    fair_share::{Caller, FairShare, Share},
    preprocess::pool::{
        cost::{CostCorrection, microseconds},
        error::PoolError,
        job::Work,
        origin::Origin,
    },
};

/// The cost of an ordinary request, in microseconds: ten photographs.
const CREDIT: u64 = 50_000;

/// The estimate from which work is long. It is not corrected, so work of one client does not make
/// that of others long.
const LONG: Duration = Duration::from_millis(50);

/// Work that waits for a thread.
///
/// While several clients send work, one of several threads takes no long work. So short work of a
/// client does not wait for long work of others.
pub(super) struct WaitingLine<W> {
    line: FairLine<Waiting<W>>,
    contention: Contention,
    /// Pieces of long work that run.
    long: usize,
    /// The number of threads that may run long work while several clients send work.
    max_long: usize,
    correction: CostCorrection,
    places: FairShare,
    /// Threads that wait for work.
    pub(super) idle: usize,
    pub(super) is_closed: bool,
}

/// A piece of work with its place in the line. Work for which a thread waits needs none.
pub(super) struct Waiting<W> {
    pub(super) work: Box<dyn Work<W>>,
    pub(super) charge: Charge,
    _place: Option<Share>,
}

/// What a piece of work costs its client when it leaves the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    flow: Flow,
    estimate: Duration,
    cost: u64,
}

impl Charge {
    fn is_long(self) -> bool {
        self.estimate >= LONG
    }
}

impl<W> WaitingLine<W> {
    pub(super) fn new(threads: usize, limit: usize) -> Self {
        Self {
            line: FairLine::new(CREDIT),
            contention: Contention::default(),
            long: 0,
            max_long: threads.saturating_sub(1).max(1),
            correction: CostCorrection::default(),
            places: FairShare::new(limit),
            idle: 0,
            is_closed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// Inserts work. Clients share the places.
    pub(super) fn push(
        &mut self,
        work: Box<dyn Work<W>>,
        Origin { flow, deadline }: Origin,
        estimate: Duration,
    ) -> Result<(), PoolError> {
        let place = if self.line.len() < self.idle {
            None
        } else {
            let caller = Caller { id: flow.client, weight: flow.weight };
            let full = |_| PoolError::QueueFull { limit: self.places.capacity() };
            Some(self.places.reserve(caller, 1).map_err(full)?)
        };
        self.contention.submitted(Instant::now(), flow.client);
        let cost = self.correction.cost(estimate);
        let charge = Charge { flow, estimate, cost };
        self.line.push(flow, deadline, cost, Waiting { work, charge, _place: place });
        Ok(())
    }

    /// Returns whether `flow` gets no further place.
    pub(super) fn is_full_for(&self, flow: Flow) -> bool {
        let caller = Caller { id: flow.client, weight: flow.weight };
        self.line.len() >= self.idle && self.places.reserve(caller, 1).is_err()
    }

    /// Removes the next work, whose cost is charged to its client. [`Self::end`] ends it.
    pub(super) fn pop(&mut self) -> Option<Waiting<W>> {
        let takes_long = self.long < self.max_long || !self.contention.is_contended(Instant::now());
        let waiting = self.line.pop_where(|waiting| takes_long || !waiting.charge.is_long())?;
        self.long += usize::from(waiting.charge.is_long());
        // Its place is free from now on.
        Some(Waiting { _place: None, ..waiting })
    }

    /// Records that work does not run any more. Returns whether a thread that waits may take other
    /// work.
    pub(super) fn end(&mut self, charge: Charge) -> bool {
        self.long -= usize::from(charge.is_long());
        self.idle > 0 && !self.line.is_empty()
    }

    /// Removes the work of callers that have left, and returns its number.
    pub(super) fn remove_abandoned(&mut self) -> usize {
        let before = self.line.len();
        self.line.retain(|waiting| !waiting.work.slot().is_abandoned());
        before - self.line.len()
    }

    /// Corrects the cost of work that has ended.
    pub(super) fn settle(&mut self, Charge { flow, estimate, cost }: Charge, measured: Duration) {
        self.correction.learn(estimate, measured);
        let excess = microseconds(measured).saturating_sub(cost);
        if excess > 0 {
            self.line.charge(flow, excess);
        }
    }

    /// Closes the line and removes all work.
    pub(super) fn close(&mut self) -> Vec<Waiting<W>> {
        self.is_closed = true;
        std::iter::from_fn(|| self.line.pop()).collect()
    }
}
