//! Going through the waiting jobs in their order without changing anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::btree_set::Iter;
use std::iter::Peekable;

use tokio::time::Instant;

use super::{
    Class, FairQueue, Queued,
    client_jobs::JobsInOrder,
    virtual_time::{Present, Rank, Standing},
};
use crate::{
    ids::FlightId,
    job::{ClientId, Priority},
};

/// Jobs of one client that a walk may pass over before it leaves that client aside.
const PASSED_OVER: u32 = 8;

/// Jobs of one client among which a walk chooses one of like length.
const CHOICE: usize = 32;

/// A batch to which questions of like length are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Like {
    /// Tokens of the longest question in it.
    pub(crate) longest: usize,
    /// Questions in it.
    pub(crate) rows: usize,
    /// When it is formed.
    pub(crate) now: Instant,
}

impl Like {
    /// Tokens of padding that a question of this length adds: its own, or that of all the others.
    const fn padding(&self, tokens: u32) -> usize {
        let tokens = tokens as usize;
        if tokens <= self.longest { self.longest - tokens } else { (tokens - self.longest) * self.rows }
    }
}

/// A client that a walk has come by.
struct Visited<'a> {
    client: ClientId,
    standing: Standing,
    passed_over: u32,
    /// Its next jobs, read ahead to choose among.
    ahead: Vec<(Instant, Queued)>,
    rest: JobsInOrder<'a>,
}

impl Visited<'_> {
    fn read(&mut self) -> Option<(Instant, Queued)> {
        self.rest.next().map(|((due, _), job)| (due, job))
    }

    /// The client's next job.
    fn next(&mut self) -> Option<FlightId> {
        if self.ahead.is_empty() { self.read() } else { Some(self.ahead.remove(0)) }
            .map(|(_, job)| job.flight)
    }

    /// Of the client's next jobs the one that adds the least padding. The first is passed over only for one that is
    /// due hardly later: by an eighth of the time that the first still has.
    fn next_like(&mut self, batch: Like) -> Option<FlightId> {
        while self.ahead.len() < CHOICE
            && let Some(job) = self.read()
        {
            self.ahead.push(job);
        }
        let (due, _) = *self.ahead.first()?;
        let latest = due + due.saturating_duration_since(batch.now) / 8;
        let choice = self.ahead.iter().take_while(|(due, _)| *due <= latest).enumerate();
        let (best, _) = choice.min_by_key(|(_, (_, job))| batch.padding(job.tokens))?;
        Some(self.ahead.remove(best).1.flight)
    }

    fn has_more(&self) -> bool {
        !self.ahead.is_empty() || !self.rest.is_empty()
    }
}

impl PartialEq for Visited<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Visited<'_> {}
impl PartialOrd for Visited<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Visited<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.standing.rank(self.client).cmp(&other.standing.rank(other.client))
    }
}

struct ClassWalk<'a> {
    class: &'a Class,
    standing: Standing,
    fresh: Peekable<Iter<'a, Rank>>,
    again: BinaryHeap<Reverse<Visited<'a>>>,
    stamp: u64,
}

impl<'a> ClassWalk<'a> {
    fn is_empty(&mut self) -> bool {
        self.fresh.peek().is_none() && self.again.is_empty()
    }

    /// The client whose turn it is, and whether the walk comes by it for the first time.
    fn pop(&mut self) -> Option<(Visited<'a>, bool)> {
        let fresh = self.fresh.peek().copied();
        let again = self.again.peek().map(|Reverse(visited)| visited.standing.rank(visited.client));
        match (fresh, again) {
            (Some(fresh), Some(again)) if again < *fresh => {
                self.again.pop().map(|Reverse(visited)| (visited, false))
            }
            (Some(&rank), _) => {
                self.fresh.next();
                let waiting = self.class.clients.get(&rank.2)?;
                let visited = Visited {
                    client: rank.2,
                    standing: waiting.standing,
                    passed_over: 0,
                    ahead: Vec::new(),
                    rest: waiting.jobs.iter(),
                };
                Some((visited, true))
            }
            (None, _) => self.again.pop().map(|Reverse(visited)| (visited, false)),
        }
    }
}

/// Waiting jobs in the order of their turns, as it would be if the jobs charged so far were started.
pub(crate) struct Walk<'a> {
    classes: [ClassWalk<'a>; 3],
    now: u64,
    credit: u64,
    stamp: u64,
    /// The class and client of the job that was given out last.
    in_hand: Option<(usize, Visited<'a>)>,
}

impl Walk<'_> {
    /// Says that the job given out last is taken, at this price. Without a word it is passed over.
    pub(crate) fn charge(&mut self, price: u64) {
        if let Some((class, visited)) = &mut self.in_hand
            && let (Some(walk), Some(priority)) = (self.classes.get_mut(*class), Priority::ALL.get(*class))
        {
            visited.standing.charge(
                price,
                Present::in_walk(walk.class.now),
                walk.class.credit,
                &mut walk.stamp,
            );
            visited.passed_over = 0;
            walk.standing.weight = priority.share() as u32;
            walk.standing.charge(price, Present::in_walk(self.now), self.credit, &mut self.stamp);
        }
    }
}

impl Walk<'_> {
    /// The next job. The first of each client is the one whose turn it is within the client; of the further ones,
    /// one that is like the batch in length. So a job that was passed over is in the next batch that its
    /// client has a part in, and no client's turn is changed.
    pub(crate) fn next(&mut self, batch: Like) -> Option<FlightId> {
        if let Some((class, visited)) = self.in_hand.take()
            && visited.passed_over <= PASSED_OVER
            && visited.has_more()
            && let Some(walk) = self.classes.get_mut(class)
        {
            walk.again.push(Reverse(visited));
        }
        let (index, walk) = self
            .classes
            .iter_mut()
            .enumerate()
            .filter_map(|(index, walk)| (!walk.is_empty()).then_some((index, walk)))
            .min_by_key(|(index, walk)| (walk.standing.turn, *index))?;
        let (mut visited, is_first) = walk.pop()?;
        let flight = if is_first { visited.next() } else { visited.next_like(batch) }?;
        visited.passed_over += 1;
        self.in_hand = Some((index, visited));
        Some(flight)
    }
}

impl FairQueue {
    /// Goes through the waiting jobs in their order without changing anything.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk {
            now: self.now,
            credit: self.credit,
            stamp: self.stamp,
            classes: self.classes.each_ref().map(|class| ClassWalk {
                class,
                standing: class.standing,
                fresh: class.order.iter().peekable(),
                again: BinaryHeap::new(),
                stamp: class.stamp,
            }),
            in_hand: None,
        }
    }
}
