//! Going through the waiting jobs in their order without changing anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::btree_map::Range;
use std::collections::btree_set::Iter;
use std::iter::Peekable;

use super::standing::{Present, Rank, Standing};
use super::{Class, FairQueue, Turn};
use crate::flight::FlightId;
use crate::job::{ClientId, Priority};

/// Jobs of one client that a walk may pass over before it leaves that client aside.
const PASSED_OVER: u32 = 8;

/// A client that a walk has come by.
struct Visited<'a> {
    client: ClientId,
    standing: Standing,
    passed_over: u32,
    rest: Range<'a, Turn, FlightId>,
}

impl Visited<'_> {
    /// The client's next job.
    fn next(&mut self) -> Option<FlightId> {
        let ((client, ..), flight) = self.rest.next()?;
        (*client == self.client).then_some(*flight)
    }

    fn has_more(&self) -> bool {
        self.rest.clone().next().is_some_and(|((client, ..), _)| *client == self.client)
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

    /// The client whose turn it is.
    fn pop(&mut self) -> Option<Visited<'a>> {
        let fresh = self.fresh.peek().copied();
        let again = self.again.peek().map(|Reverse(visited)| visited.standing.rank(visited.client));
        match (fresh, again) {
            (Some(fresh), Some(again)) if again < *fresh => self.again.pop().map(|Reverse(visited)| visited),
            (Some(&rank), _) => {
                self.fresh.next();
                let waiting = self.class.clients.get(&rank.2)?;
                let rest = self.class.turns.range((rank.2, None, 0)..);
                Some(Visited { client: rank.2, standing: waiting.standing, passed_over: 0, rest })
            }
            (None, _) => self.again.pop().map(|Reverse(visited)| visited),
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

impl Iterator for Walk<'_> {
    type Item = FlightId;

    fn next(&mut self) -> Option<FlightId> {
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
        let mut visited = walk.pop()?;
        let flight = visited.next()?;
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
