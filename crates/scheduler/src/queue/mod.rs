//! Whose start_tag it is: classes by their shares, clients of a class by their weights.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels. Every client with work waiting
//! has a finish_tag, the virtual time at which its next job may start; the smallest finish_tag is next, and a job
//! that is started moves its client's finish_tag on by its cost over the client's weight. A client that
//! comes back after a pause starts at the present, so neither saves up turns nor owes any. Classes
//! share the engine among themselves in the same way, 64 : 8 : 1.
//!
//! Within a class the present moves on with the work done, as in WF2Q+ (Bennett, Zhang 1996), and not
//! only with the tags served: otherwise an endless stream of newcomers, who all start at the
//! present, would keep those away for ever who have had a start_tag. Equal tags go first come, first served.
//!
//! Equal turns of classes go to the higher one.
//!
//! A client is ranked by when it came until it has used up a credit (about one request), and by its finish_tag from
//! then on. So the few questions of a request stay together, among clients that ask little it is first
//! come, first served, and a backlog stands behind whoever asks little. Classes have the same credit in
//! their own virtual time.
//!
//! Charges are counted in questions ([`turn_price`](crate::cost::job_cost)), and a finish_tag is never moved from far behind the
//! present, nor far beyond it. The bounds that follow are stated in `docs/scheduler.md`.
//!
//! Within a client, jobs go by when they are due: the deadline, but no later than `implicit_deadline` after
//! submission, so that a job without deadline is not passed over for ever.

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

#[derive(Debug, Default)]
struct ClientQueue {
    virtual_time: VirtualTime,
    jobs: ClientJobs,
}

#[derive(Debug, Default)]
struct ClassQueue {
    /// Among the classes.
    virtual_time: VirtualTime,
    /// The present: no client with work waiting has a finish_tag before it, but for one that was passed over.
    now: u64,
    /// Last stamp given.
    stamp: u64,
    /// Sum of the weights of clients with work waiting.
    weights: u64,
    /// How far a client may be ahead_of_share of its share before others go first, in virtual time.
    credit: u64,
    clients: HashMap<ClientId, ClientQueue>,
    /// Clients with work waiting.
    order: BTreeSet<SortKey>,
    /// Clients without, whose tags are still ahead_of_share of the present.
    ahead_of_share: BTreeSet<(u64, ClientId)>,
    jobs: usize,
}

#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    classes: [ClassQueue; 3],
    /// The present: no class with work waiting has its start_tag before it.
    now: u64,
    /// How far a class may be ahead_of_share of its share; so much smaller than a client's that an ordinary
    /// class has it for one request and the highest for eight.
    credit: u64,
    stamp: u64,
}

impl ClassQueue {
    fn insert(&mut self, position: &QueuePosition, job: QueuedJob) {
        let client = self.clients.entry(position.client).or_default();
        let weight = position.weight.max(1);
        if client.jobs.is_empty() {
            self.ahead_of_share.remove(&(client.virtual_time.finish_tag, position.client));
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
            self.ahead_of_share.insert((client.virtual_time.finish_tag, position.client));
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
            self.ahead_of_share.remove(&(before.finish_tag, position.client));
            self.ahead_of_share.insert((client.virtual_time.finish_tag, position.client));
        } else {
            self.order.remove(&before.sort_key(position.client));
            self.order.insert(client.virtual_time.sort_key(position.client));
        }
        self.now = advance(self.now, cost, self.weights.max(u64::from(before.weight)));
        let first = self.order.first().map_or(self.now, |(start_tag, ..)| *start_tag);
        self.now = self.now.max(first);
        self.remove_settled_clients();
    }

    /// Drops clients that have nothing waiting and owe nothing.
    fn remove_settled_clients(&mut self) {
        while let Some(&(finish_tag, client)) = self.ahead_of_share.first()
            && finish_tag <= self.now
        {
            self.ahead_of_share.pop_first();
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

    /// Puts a index in, whose question has so many tokens.
    pub(crate) fn insert(&mut self, position: &QueuePosition, index: JobIndex, tokens: u32) {
        let (now, credit, mut stamp) = (self.now, self.credit, self.stamp);
        let class = self.class(position.class);
        if class.jobs == 0 {
            class.virtual_time.arrive(now, credit, &mut stamp);
        }
        class.insert(position, QueuedJob { index, tokens });
        self.stamp = stamp;
    }

    /// Takes a index out; false when it was not in.
    pub(crate) fn remove(&mut self, position: &QueuePosition) -> bool {
        self.class(position.class).remove(position)
    }

    /// Counts a job to a client and its class. Called before the job is taken out: a client
    /// that has nothing left and owes nothing is forgotten.
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

    /// Sets the credit of a client, in the unit of costs.
    pub(crate) fn set_credit(&mut self, cost: u64) {
        let credit = cost.saturating_mul(RESOLUTION);
        self.credit = credit / Priority::Normal.share();
        for class in &mut self.classes {
            class.credit = credit;
        }
    }

    /// Jobs waiting in all classes.
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.jobs).sum()
    }

    /// For each class: jobs waiting, and clients that have any.
    pub(crate) fn lengths(&self) -> [(usize, usize); 3] {
        self.classes.each_ref().map(|class| (class.jobs, class.order.len()))
    }

    /// Jobs that one client has waiting in a class.
    pub(crate) fn client_len(&self, class: Priority, client: ClientId) -> usize {
        self.classes
            .get(class as usize)
            .and_then(|class| class.clients.get(&client))
            .map_or(0, |client| client.jobs.len())
    }
}
