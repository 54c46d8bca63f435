//! Whose turn it is: classes by their shares, clients of a class by their weights.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels. Every client with work waiting
//! has a tag, the virtual time at which its next job may start; the smallest tag is next, and a job
//! that is started moves its client's tag on by its cost over the client's weight. A client that
//! comes back after a pause starts at the present, so neither saves up turns nor owes any. Classes
//! share the engine among themselves in the same way, 64 : 8 : 1.
//!
//! Within a class the present moves on with the work done, as in WF2Q+ (Bennett, Zhang 1996), and not
//! only with the tags served: otherwise an endless stream of newcomers, who all start at the
//! present, would keep those away for ever who have had a turn. Equal tags go first come, first served.
//!
//! Equal turns of classes go to the higher one.
//!
//! A client is ranked by when it came until it has used up a credit (about one request), and by its tag from
//! then on. So the few questions of a request stay together, among clients that ask little it is first
//! come, first served, and a backlog stands behind whoever asks little. Classes have the same credit in
//! their own virtual time.
//!
//! Charges are counted in questions ([`turn_price`](crate::cost::job_cost)), and a tag is never moved from far behind the
//! present, nor far beyond it. The bounds that follow are stated in `docs/scheduler.md`.
//!
//! Within a client, jobs go by when they are due: the deadline, but no later than `patience` after
//! submission, so that a job without deadline is not passed over for ever.

mod selection;
mod client_jobs;
mod virtual_time;
#[cfg(test)]
mod tests;

pub(crate) use selection::Like;

use std::collections::{BTreeSet, HashMap};

use client_jobs::{ClientJobs, Queued};
use virtual_time::{Present, RESOLUTION, Rank, Standing, advance};

use crate::{
    ids::{FlightId, Place},
    job::{ClientId, Priority},
};

#[derive(Debug, Default)]
struct Client {
    standing: Standing,
    jobs: ClientJobs,
}

#[derive(Debug, Default)]
struct Class {
    /// Among the classes.
    standing: Standing,
    /// The present: no client with work waiting has a tag before it, but for one that was passed over.
    now: u64,
    /// Last stamp given.
    stamp: u64,
    /// Sum of the weights of clients with work waiting.
    weights: u64,
    /// How far a client may be ahead of its share before others go first, in virtual time.
    credit: u64,
    clients: HashMap<ClientId, Client>,
    /// Clients with work waiting.
    order: BTreeSet<Rank>,
    /// Clients without, whose tags are still ahead of the present.
    ahead: BTreeSet<(u64, ClientId)>,
    jobs: usize,
}

#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    classes: [Class; 3],
    /// The present: no class with work waiting has its turn before it.
    now: u64,
    /// How far a class may be ahead of its share; so much smaller than a client's that an ordinary
    /// class has it for one request and the highest for eight.
    credit: u64,
    stamp: u64,
}

impl Class {
    fn insert(&mut self, place: &Place, job: Queued) {
        let client = self.clients.entry(place.client).or_default();
        let weight = place.weight.max(1);
        if client.jobs.is_empty() {
            self.ahead.remove(&(client.standing.tag, place.client));
            client.standing.arrive(self.now, self.credit, &mut self.stamp);
            self.order.insert(client.standing.rank(place.client));
        } else {
            self.weights -= u64::from(client.standing.weight);
        }
        client.standing.weight = weight;
        self.weights += u64::from(weight);
        self.jobs += usize::from(client.jobs.insert(place.turn(), job));
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(client) = self.clients.get_mut(&place.client) else { return false };
        if !client.jobs.remove(&place.turn()) {
            return false;
        }
        self.jobs -= 1;
        if client.jobs.is_empty() {
            self.weights -= u64::from(client.standing.weight);
            self.order.remove(&client.standing.rank(place.client));
            self.ahead.insert((client.standing.tag, place.client));
            self.forget_the_past();
        }
        true
    }

    fn charge(&mut self, place: &Place, price: u64) {
        let client = self.clients.entry(place.client).or_insert_with(|| {
            let standing = Standing { tag: self.now, weight: place.weight.max(1), ..Standing::default() };
            Client { standing, ..Client::default() }
        });
        let before = client.standing;
        client.standing.charge(price, Present::around(self.now, self.credit), self.credit, &mut self.stamp);
        if client.jobs.is_empty() {
            self.ahead.remove(&(before.tag, place.client));
            self.ahead.insert((client.standing.tag, place.client));
        } else {
            self.order.remove(&before.rank(place.client));
            self.order.insert(client.standing.rank(place.client));
        }
        self.now = advance(self.now, price, self.weights.max(u64::from(before.weight)));
        let first = self.order.first().map_or(self.now, |(turn, ..)| *turn);
        self.now = self.now.max(first);
        self.forget_the_past();
    }

    /// Drops clients that have nothing waiting and owe nothing.
    fn forget_the_past(&mut self) {
        while let Some(&(tag, client)) = self.ahead.first()
            && tag <= self.now
        {
            self.ahead.pop_first();
            self.clients.remove(&client);
        }
    }
}

impl FairQueue {
    fn class(&mut self, class: Priority) -> &mut Class {
        let [high, normal, low] = &mut self.classes;
        match class {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        }
    }

    /// Puts a flight in, whose question has so many tokens.
    pub(crate) fn insert(&mut self, place: &Place, flight: FlightId, tokens: u32) {
        let (now, credit, mut stamp) = (self.now, self.credit, self.stamp);
        let class = self.class(place.class);
        if class.jobs == 0 {
            class.standing.arrive(now, credit, &mut stamp);
        }
        class.insert(place, Queued { flight, tokens });
        self.stamp = stamp;
    }

    /// Takes a flight out; false when it was not in.
    pub(crate) fn remove(&mut self, place: &Place) -> bool {
        self.class(place.class).remove(place)
    }

    /// Counts a job to a client and its class. Called before the job is taken out: a client
    /// that has nothing left and owes nothing is forgotten.
    pub(crate) fn charge(&mut self, place: &Place, price: u64) {
        let (now, credit, mut stamp) = (self.now, self.credit, self.stamp);
        let class = self.class(place.class);
        class.charge(place, price);
        class.standing.weight = place.class.share() as u32;
        class.standing.charge(price, Present::around(now, credit), credit, &mut stamp);
        let turns = self.classes.iter().filter(|class| class.jobs > 0).map(|class| class.standing.turn);
        self.now = turns.min().map_or(now, |first| now.max(first));
        self.stamp = stamp;
    }

    /// Sets the credit of a client, in the unit of prices.
    pub(crate) fn set_credit(&mut self, price: u64) {
        let credit = price.saturating_mul(RESOLUTION);
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
