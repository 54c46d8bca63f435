//! The fair queue: classes by their shares, and clients of a class by their weights.
//!
//! The queue applies start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels:
//!
//! - Each client with queued jobs has a start tag, the virtual time at which its next job may
//!   start. The client with the smallest tag is next. A started job advances the client's finish
//!   tag by its cost divided by the client's weight.
//! - A client that returns after a pause starts at the current virtual time. So a client neither
//!   saves up turns nor owes any.
//! - Classes share the engine in the same way, 64 : 8 : 1. Equal tags go to the higher class.
//!
//! The virtual time of a class advances with the work done, as in WF2Q+ (Bennett, Zhang 1996). If
//! only the served tags advanced it, an endless stream of new clients at the current virtual time
//! would starve clients that have had a turn. Equal tags are served in order of arrival.
//!
//! A client has a credit of about one request. Until it has used the credit, its start tag is its
//! arrival, and from then on its finish tag. This has three effects:
//!
//! - The questions of a request stay together.
//! - Clients with few jobs are served in order of arrival.
//! - A backlog waits behind clients with few jobs.
//!
//! Classes have the same credit in their virtual time. Costs are counted in questions
//! ([`JobCost`](crate::cost)). A tag stays within bounds around the current virtual time.
//! `docs/design/scheduler.md` states the resulting bounds.
//!
//! Jobs of one client are ordered by when they are due: at their deadline, but at most
//! `implicit_deadline` after submission. So a job without deadline is not starved.

pub(crate) mod fair_line;
pub(crate) mod contention;
mod selection;
mod client_jobs;
mod virtual_time;
#[cfg(test)]
mod tests;

pub(crate) use selection::LengthPreference;

use std::collections::{BTreeSet, HashMap};

use client_jobs::{ClientJobs, QueuedJob};
use virtual_time::{RESOLUTION, SortKey, TagBounds, VirtualTime, advance};

use crate::{
    ids::{JobIndex, QueuePosition},
    job::{ClientId, Priority},
};

/// The queued jobs of a client in one class.
#[derive(Debug, Default)]
struct ClientQueue {
    virtual_time: VirtualTime,
    jobs: ClientJobs,
}

/// The clients of a class.
#[derive(Debug, Default)]
struct ClassQueue {
    /// Virtual time of the class among the classes.
    virtual_time: VirtualTime,
    /// Current virtual time. No client with queued jobs has an earlier tag, except skipped clients.
    now: u64,
    /// The last stamp that was assigned.
    stamp: u64,
    /// Sum of the weights of clients with queued jobs.
    weights: u64,
    /// How far a client may be ahead of its share before others go first, in virtual time.
    credit: u64,
    clients: HashMap<ClientId, ClientQueue>,
    /// Clients with queued jobs.
    order: BTreeSet<SortKey>,
    /// Clients without queued jobs whose finish tag is later than the current virtual time.
    idle_ahead: BTreeSet<(u64, ClientId)>,
    jobs: usize,
}

/// The fair queue of all pending jobs in stage `Queued`.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    classes: [ClassQueue; 3],
    /// Current virtual time. No class with queued jobs has an earlier start tag.
    now: u64,
    /// How far a class may be ahead of its share, in virtual time. This is one request for the
    /// ordinary class and eight requests for the highest.
    credit: u64,
    stamp: u64,
}

impl ClassQueue {
    fn insert(&mut self, position: &QueuePosition, job: QueuedJob) {
        let client = self.clients.entry(position.client).or_default();
        let weight = position.weight.max(1);
        if client.jobs.is_empty() {
            self.idle_ahead.remove(&(client.virtual_time.finish_tag, position.client));
            client.virtual_time.arrive(self.now, self.credit, &mut self.stamp);
            self.order.insert(client.virtual_time.sort_key(position.client));
        } else {
            self.weights -= u64::from(client.virtual_time.weight);
        }
        client.virtual_time.weight = weight;
        self.weights += u64::from(weight);
        self.jobs += usize::from(client.jobs.insert(position.due_key(), job));
    }

    fn remove(&mut self, position: &QueuePosition) -> bool {
        let Some(client) = self.clients.get_mut(&position.client) else { return false };
        if !client.jobs.remove(&position.due_key()) {
            return false;
        }
        self.jobs -= 1;
        if client.jobs.is_empty() {
            self.weights -= u64::from(client.virtual_time.weight);
            self.order.remove(&client.virtual_time.sort_key(position.client));
            self.idle_ahead.insert((client.virtual_time.finish_tag, position.client));
            self.remove_settled_clients();
        }
        true
    }

    fn charge(&mut self, position: &QueuePosition, cost: u64) {
        let client = self.clients.entry(position.client).or_insert_with(|| {
            let virtual_time = VirtualTime {
                finish_tag: self.now,
                weight: position.weight.max(1),
                ..VirtualTime::default()
            };
            ClientQueue { virtual_time, ..ClientQueue::default() }
        });
        let before = client.virtual_time;
        client.virtual_time.charge(
            cost,
            TagBounds::around(self.now, self.credit),
            self.credit,
            &mut self.stamp,
        );
        if client.jobs.is_empty() {
            self.idle_ahead.remove(&(before.finish_tag, position.client));
            self.idle_ahead.insert((client.virtual_time.finish_tag, position.client));
        } else {
            self.order.remove(&before.sort_key(position.client));
            self.order.insert(client.virtual_time.sort_key(position.client));
        }
        self.now = advance(self.now, cost, self.weights.max(u64::from(before.weight)));
        let first = self.order.first().map_or(self.now, |(start_tag, ..)| *start_tag);
        self.now = self.now.max(first);
        self.remove_settled_clients();
    }

    /// Removes clients without queued jobs that are not ahead of their share.
    fn remove_settled_clients(&mut self) {
        while let Some(&(finish_tag, client)) = self.idle_ahead.first()
            && finish_tag <= self.now
        {
            self.idle_ahead.pop_first();
            self.clients.remove(&client);
        }
    }
}

impl FairQueue {
    fn class(&mut self, class: Priority) -> &mut ClassQueue {
        let [high, normal, low] = &mut self.classes;
        match class {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        }
    }

    /// Inserts a job whose question has `tokens` tokens.
    pub(crate) fn insert(&mut self, position: &QueuePosition, index: JobIndex, tokens: u32) {
        let (now, credit, mut stamp) = (self.now, self.credit, self.stamp);
        let class = self.class(position.class);
        if class.jobs == 0 {
            class.virtual_time.arrive(now, credit, &mut stamp);
        }
        class.insert(position, QueuedJob { index, tokens });
        self.stamp = stamp;
    }

    /// Removes a job. Returns false if it is not in the queue.
    pub(crate) fn remove(&mut self, position: &QueuePosition) -> bool {
        self.class(position.class).remove(position)
    }

    /// Charges a job to its client and class. Must be called before the job is removed, because the
    /// removal can remove the client.
    pub(crate) fn charge(&mut self, position: &QueuePosition, cost: u64) {
        let (now, credit, mut stamp) = (self.now, self.credit, self.stamp);
        let class = self.class(position.class);
        class.charge(position, cost);
        class.virtual_time.weight = position.class.share() as u32;
        class.virtual_time.charge(cost, TagBounds::around(now, credit), credit, &mut stamp);
        let turns =
            self.classes.iter().filter(|class| class.jobs > 0).map(|class| class.virtual_time.start_tag);
        self.now = turns.min().map_or(now, |first| now.max(first));
        self.stamp = stamp;
    }

    /// Sets the credit of a client, in units of cost.
    pub(crate) fn set_credit(&mut self, cost: u64) {
        let credit = cost.saturating_mul(RESOLUTION);
        self.credit = credit / Priority::Normal.share();
        for class in &mut self.classes {
            class.credit = credit;
        }
    }

    /// Returns the number of jobs in all classes.
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.jobs).sum()
    }

    /// Returns for each class: its jobs, and the clients that have any.
    pub(crate) fn lengths(&self) -> [(usize, usize); 3] {
        self.classes.each_ref().map(|class| (class.jobs, class.order.len()))
    }

    /// Returns the number of jobs of a client in a class.
    pub(crate) fn client_len(&self, class: Priority, client: ClientId) -> usize {
        self.classes
            .get(class as usize)
            .and_then(|class| class.clients.get(&client))
            .map_or(0, |client| client.jobs.len())
    }
}
