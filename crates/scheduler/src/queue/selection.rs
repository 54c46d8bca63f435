//! Iterates over queued jobs in fair order, without changing the queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::btree_set::Iter;
use std::iter::Peekable;

use tokio::time::Instant;

use super::{
    ClassQueue, FairQueue, QueuedJob,
    client_jobs::JobsInOrder,
    virtual_time::{SortKey, TagBounds, VirtualTime},
};
use crate::{
    ids::JobIndex,
    job::{ClientId, Priority},
};

/// Jobs of one client that may be skipped before the selection leaves the client out.
const MAX_SKIPS: u32 = 8;

/// Jobs of one client among which the selection compares lengths.
const LENGTH_CHOICES: usize = 32;

/// The batch to which further questions should be similar in length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LengthPreference {
    /// Tokens of its longest question.
    pub(crate) longest: usize,
    /// Number of its questions.
    pub(crate) rows: usize,
    /// Time at which it is built.
    pub(crate) now: Instant,
}

impl LengthPreference {
    /// Returns the padding tokens that a question adds: its padding, or that of all other rows.
    const fn padding(&self, tokens: u32) -> usize {
        let tokens = tokens as usize;
        if tokens <= self.longest { self.longest - tokens } else { (tokens - self.longest) * self.rows }
    }
}

/// A client during a selection.
struct ClientCursor<'a> {
    client: ClientId,
    virtual_time: VirtualTime,
    skips: u32,
    /// Jobs that were read ahead, to compare lengths.
    read_ahead: Vec<(Instant, QueuedJob)>,
    rest: JobsInOrder<'a>,
}

impl ClientCursor<'_> {
    fn read(&mut self) -> Option<(Instant, QueuedJob)> {
        self.rest.next().map(|((due, _), job)| (due, job))
    }

    /// Returns the client's next job.
    fn next(&mut self) -> Option<JobIndex> {
        if self.read_ahead.is_empty() { self.read() } else { Some(self.read_ahead.remove(0)) }
            .map(|(_, job)| job.index)
    }

    /// Returns the job that adds the least padding among the client's next jobs.
    ///
    /// The first job is skipped only for one that is due at most an eighth of its remaining time
    /// later.
    fn next_preferred(&mut self, preference: LengthPreference) -> Option<JobIndex> {
        while self.read_ahead.len() < LENGTH_CHOICES
            && let Some(job) = self.read()
        {
            self.read_ahead.push(job);
        }
        let (due, _) = *self.read_ahead.first()?;
        let latest = due + due.saturating_duration_since(preference.now) / 8;
        let choice = self.read_ahead.iter().take_while(|(due, _)| *due <= latest).enumerate();
        let (best, _) = choice.min_by_key(|(_, (_, job))| preference.padding(job.tokens))?;
        Some(self.read_ahead.remove(best).1.index)
    }

    fn has_more(&self) -> bool {
        !self.read_ahead.is_empty() || !self.rest.is_empty()
    }
}

impl PartialEq for ClientCursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for ClientCursor<'_> {}
impl PartialOrd for ClientCursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ClientCursor<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.virtual_time.sort_key(self.client).cmp(&other.virtual_time.sort_key(other.client))
    }
}

/// A class during a selection.
struct ClassSelection<'a> {
    class: &'a ClassQueue,
    virtual_time: VirtualTime,
    unvisited: Peekable<Iter<'a, SortKey>>,
    /// Clients that were visited and have more jobs.
    visited: BinaryHeap<Reverse<ClientCursor<'a>>>,
    stamp: u64,
}

impl<'a> ClassSelection<'a> {
    fn is_empty(&mut self) -> bool {
        self.unvisited.peek().is_none() && self.visited.is_empty()
    }

    /// Returns the next client, and whether it is visited for the first time.
    fn pop(&mut self) -> Option<(ClientCursor<'a>, bool)> {
        let unvisited = self.unvisited.peek().copied();
        let visited = self.visited.peek().map(|Reverse(cursor)| cursor.virtual_time.sort_key(cursor.client));
        match (unvisited, visited) {
            (Some(unvisited), Some(visited)) if visited < *unvisited => {
                self.visited.pop().map(|Reverse(cursor)| (cursor, false))
            }
            (Some(&sort_key), _) => {
                self.unvisited.next();
                let waiting = self.class.clients.get(&sort_key.2)?;
                let cursor = ClientCursor {
                    client: sort_key.2,
                    virtual_time: waiting.virtual_time,
                    skips: 0,
                    read_ahead: Vec::new(),
                    rest: waiting.jobs.iter(),
                };
                Some((cursor, true))
            }
            (None, _) => self.visited.pop().map(|Reverse(cursor)| (cursor, false)),
        }
    }
}

/// Queued jobs in fair order, as if the jobs charged so far were started.
pub(crate) struct Selection<'a> {
    classes: [ClassSelection<'a>; 3],
    now: u64,
    credit: u64,
    stamp: u64,
    /// Class and client of the job that was returned last.
    current: Option<(usize, ClientCursor<'a>)>,
}

impl Selection<'_> {
    /// Charges the job that was returned last. Without this call the job counts as skipped.
    pub(crate) fn charge(&mut self, cost: u64) {
        if let Some((class, cursor)) = &mut self.current
            && let (Some(selection), Some(priority)) =
                (self.classes.get_mut(*class), Priority::ALL.get(*class))
        {
            cursor.virtual_time.charge(
                cost,
                TagBounds::during_selection(selection.class.now),
                selection.class.credit,
                &mut selection.stamp,
            );
            cursor.skips = 0;
            selection.virtual_time.weight = priority.share() as u32;
            selection.virtual_time.charge(
                cost,
                TagBounds::during_selection(self.now),
                self.credit,
                &mut self.stamp,
            );
        }
    }

    /// Returns the next job.
    ///
    /// The first job of each client is the one that is due first. Further ones are chosen by
    /// length. So the client's first job is in every batch that the client has a turn in, and no
    /// client's turn changes.
    pub(crate) fn next(&mut self, preference: LengthPreference) -> Option<JobIndex> {
        if let Some((class, cursor)) = self.current.take()
            && cursor.skips <= MAX_SKIPS
            && cursor.has_more()
            && let Some(selection) = self.classes.get_mut(class)
        {
            selection.visited.push(Reverse(cursor));
        }
        let (class, selection) = self
            .classes
            .iter_mut()
            .enumerate()
            .filter_map(|(class, selection)| (!selection.is_empty()).then_some((class, selection)))
            .min_by_key(|(class, selection)| (selection.virtual_time.start_tag, *class))?;
        let (mut cursor, is_first) = selection.pop()?;
        let job = if is_first { cursor.next() } else { cursor.next_preferred(preference) }?;
        cursor.skips += 1;
        self.current = Some((class, cursor));
        Some(job)
    }
}

impl FairQueue {
    /// Starts a selection.
    pub(crate) fn select(&self) -> Selection<'_> {
        Selection {
            now: self.now,
            credit: self.credit,
            stamp: self.stamp,
            classes: self.classes.each_ref().map(|class| ClassSelection {
                class,
                virtual_time: class.virtual_time,
                unvisited: class.order.iter().peekable(),
                visited: BinaryHeap::new(),
                stamp: class.stamp,
            }),
            current: None,
        }
    }
}
