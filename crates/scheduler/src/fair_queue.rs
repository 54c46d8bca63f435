//! Whose turn it is: classes by their shares, clients of a class by their weights.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels. Every client with work waiting
//! has a tag, the virtual time at which its next job may start; the smallest tag is next, and a job
//! that is started moves its client's tag on by its cost over the client's weight. A client that
//! comes back after a pause starts at the present, so neither saves up turns nor owes any. Classes
//! share the engine among themselves in the same way, 64 : 8 : 1.
//!
//! The bound that follows: while a class has work waiting it gets at least its share (the lowest
//! class 1/73) of the engine time charged, and within it a client at least its weight over the sum of the
//! weights of clients with work waiting, each short of it by at most one job a competitor.
//!
//! Within a client, jobs go by when they are due: the deadline, but no later than `patience` after
//! submission, so that a job without deadline is not passed over for ever.

use std::cmp::Reverse;
use std::collections::btree_map::Range;
use std::collections::btree_set::Iter;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::iter::Peekable;

use tokio::time::Instant;

use crate::flight::FlightId;
use crate::job::{ClientId, Priority};

/// Where in the order a flight stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) class: Priority,
    pub(crate) client: ClientId,
    pub(crate) weight: u32,
    pub(crate) due: Instant,
    pub(crate) sequence: u64,
}

/// Order within a client.
type Turn = (Instant, u64);

/// Virtual time a nanosecond of engine time moves a tag at weight 1.
const RESOLUTION: u64 = 16;

/// Jobs of one client that a walk may pass over before it leaves that client aside.
const PASSED_OVER: u32 = 8;

#[derive(Debug, Default)]
struct Client {
    tag: u64,
    weight: u32,
    jobs: BTreeMap<Turn, FlightId>,
}

#[derive(Debug, Default)]
struct Class {
    tag: u64,
    /// Tag of the client that was served last.
    now: u64,
    clients: HashMap<ClientId, Client>,
    /// Clients with work waiting.
    order: BTreeSet<(u64, ClientId)>,
    /// Clients without, whose tags are still ahead of the present.
    ahead: BTreeSet<(u64, ClientId)>,
    jobs: usize,
}

#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    classes: [Class; 3],
    /// Tag of the class that was served last.
    now: u64,
}

fn advance(tag: u64, nanoseconds: u64, weight: u32) -> u64 {
    tag.saturating_add((nanoseconds.saturating_mul(RESOLUTION) / u64::from(weight.max(1))).max(1))
}

impl Class {
    fn insert(&mut self, place: &Place, flight: FlightId) {
        let client = self.clients.entry(place.client).or_default();
        client.weight = place.weight;
        if client.jobs.is_empty() {
            self.ahead.remove(&(client.tag, place.client));
            client.tag = client.tag.max(self.now);
            self.order.insert((client.tag, place.client));
        }
        if client.jobs.insert((place.due, place.sequence), flight).is_none() {
            self.jobs += 1;
        }
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(client) = self.clients.get_mut(&place.client) else { return false };
        if client.jobs.remove(&(place.due, place.sequence)).is_none() {
            return false;
        }
        self.jobs -= 1;
        if client.jobs.is_empty() {
            self.order.remove(&(client.tag, place.client));
            self.ahead.insert((client.tag, place.client));
            self.forget_the_past();
        }
        true
    }

    fn charge(&mut self, client_id: ClientId, nanoseconds: u64) {
        let Some(client) = self.clients.get_mut(&client_id) else { return };
        let before = client.tag;
        client.tag = advance(before, nanoseconds, client.weight);
        let set = if client.jobs.is_empty() { &mut self.ahead } else { &mut self.order };
        set.remove(&(before, client_id));
        set.insert((client.tag, client_id));
        self.now = self.now.max(before);
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

    pub(crate) fn insert(&mut self, place: &Place, flight: FlightId) {
        let now = self.now;
        let class = self.class(place.class);
        if class.jobs == 0 {
            class.tag = class.tag.max(now);
        }
        class.insert(place, flight);
    }

    /// Takes a flight out; false when it was not in.
    pub(crate) fn remove(&mut self, place: &Place) -> bool {
        self.class(place.class).remove(place)
    }

    /// Counts engine time to a client and its class. Called while its job is still in or just out.
    pub(crate) fn charge(&mut self, place: &Place, nanoseconds: u64) {
        let class = self.class(place.class);
        class.charge(place.client, nanoseconds);
        let before = class.tag;
        class.tag = advance(before, nanoseconds, place.class.share() as u32);
        self.now = self.now.max(before);
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

    /// Goes through the waiting jobs in their order without changing anything.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk {
            classes: self.classes.each_ref().map(|class| ClassWalk {
                class,
                tag: class.tag,
                fresh: class.order.iter().peekable(),
                again: BinaryHeap::new(),
            }),
            in_hand: None,
        }
    }
}

/// A client whose turn has been looked at before in this walk.
struct Standing<'a> {
    tag: u64,
    client: ClientId,
    weight: u32,
    passed_over: u32,
    rest: Range<'a, Turn, FlightId>,
}

impl PartialEq for Standing<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.tag, self.client) == (other.tag, other.client)
    }
}
impl Eq for Standing<'_> {}
impl PartialOrd for Standing<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Standing<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.tag, self.client).cmp(&(other.tag, other.client))
    }
}

struct ClassWalk<'a> {
    class: &'a Class,
    tag: u64,
    fresh: Peekable<Iter<'a, (u64, ClientId)>>,
    again: BinaryHeap<Reverse<Standing<'a>>>,
}

impl<'a> ClassWalk<'a> {
    fn is_empty(&mut self) -> bool {
        self.fresh.peek().is_none() && self.again.is_empty()
    }

    /// The client whose turn it is.
    fn pop(&mut self) -> Option<Standing<'a>> {
        let fresh = self.fresh.peek().copied();
        let again = self.again.peek().map(|Reverse(standing)| (standing.tag, standing.client));
        match (fresh, again) {
            (Some(fresh), Some(again)) if again < *fresh => {
                self.again.pop().map(|Reverse(standing)| standing)
            }
            (Some(&(tag, client)), _) => {
                self.fresh.next();
                let waiting = self.class.clients.get(&client)?;
                let rest = waiting.jobs.range::<Turn, _>(..);
                Some(Standing { tag, client, weight: waiting.weight, passed_over: 0, rest })
            }
            (None, _) => self.again.pop().map(|Reverse(standing)| standing),
        }
    }
}

/// Waiting jobs in the order of their turns, as it would be if the jobs charged so far were started.
pub(crate) struct Walk<'a> {
    classes: [ClassWalk<'a>; 3],
    /// The class and client of the job that was given out last.
    in_hand: Option<(usize, Standing<'a>)>,
}

impl Walk<'_> {
    /// Says that the job given out last is taken, at this cost. Without a word it is passed over.
    pub(crate) fn charge(&mut self, nanoseconds: u64) {
        if let Some((class, standing)) = &mut self.in_hand
            && let (Some(walk), Some(priority)) = (self.classes.get_mut(*class), Priority::ALL.get(*class))
        {
            standing.tag = advance(standing.tag, nanoseconds, standing.weight);
            standing.passed_over = 0;
            walk.tag = advance(walk.tag, nanoseconds, priority.share() as u32);
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = FlightId;

    fn next(&mut self) -> Option<FlightId> {
        if let Some((class, standing)) = self.in_hand.take()
            && standing.passed_over <= PASSED_OVER
            && standing.rest.clone().next().is_some()
            && let Some(walk) = self.classes.get_mut(class)
        {
            walk.again.push(Reverse(standing));
        }
        let (index, walk) = self
            .classes
            .iter_mut()
            .enumerate()
            .filter_map(|(index, walk)| (!walk.is_empty()).then_some((index, walk)))
            .min_by_key(|(index, walk)| (walk.tag, *index))?;
        let mut standing = walk.pop()?;
        let (_, flight) = standing.rest.next()?;
        standing.passed_over += 1;
        self.in_hand = Some((index, standing));
        Some(*flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Bench {
        queue: FairQueue,
        start: Instant,
        sequence: u64,
        places: HashMap<FlightId, Place>,
    }

    impl Bench {
        fn new() -> Self {
            Self { queue: FairQueue::default(), start: Instant::now(), sequence: 0, places: HashMap::new() }
        }

        fn add(&mut self, class: Priority, client: u64, weight: u32, due_ms: u64) -> FlightId {
            self.sequence += 1;
            let flight = FlightId(self.sequence as u32);
            let due = self.start + Duration::from_millis(due_ms);
            let place = Place { class, client: ClientId(client), weight, due, sequence: self.sequence };
            self.queue.insert(&place, flight);
            self.places.insert(flight, place);
            flight
        }

        /// Starts jobs one by one and says whose they were.
        fn serve(&mut self, count: usize) -> Vec<u64> {
            (0..count)
                .map_while(|_| {
                    let flight = self.queue.walk().next()?;
                    let place = self.places[&flight];
                    self.queue.remove(&place);
                    self.queue.charge(&place, 1000);
                    Some(place.client.0)
                })
                .collect()
        }
    }

    #[test]
    fn a_single_question_is_next_but_one_beside_ten_thousand_of_another_client() {
        let mut bench = Bench::new();
        for _ in 0..10_000 {
            bench.add(Priority::Normal, 1, 1, 0);
        }
        bench.serve(100);
        bench.add(Priority::Normal, 2, 1, 0);
        assert!(bench.serve(2).contains(&2));
    }

    #[test]
    fn clients_are_served_in_proportion_to_their_weights() {
        let mut bench = Bench::new();
        for _ in 0..400 {
            bench.add(Priority::Normal, 1, 1, 0);
            bench.add(Priority::Normal, 2, 3, 0);
        }
        let served = bench.serve(400);
        let heavy = served.iter().filter(|client| **client == 2).count();
        assert!((298..=302).contains(&heavy), "{heavy}");
    }

    #[test]
    fn classes_share_sixty_four_to_eight_to_one() {
        let mut bench = Bench::new();
        for _ in 0..1000 {
            bench.add(Priority::High, 1, 1, 0);
            bench.add(Priority::Normal, 2, 1, 0);
            bench.add(Priority::Low, 3, 1, 0);
        }
        let served = bench.serve(730);
        let count = |client| served.iter().filter(|other| **other == client).count();
        assert!((638..=642).contains(&count(1)), "{}", count(1));
        assert!((9..=11).contains(&count(3)), "{}", count(3));
    }

    #[test]
    fn an_urgent_job_goes_before_a_backlog_of_a_lower_class() {
        let mut bench = Bench::new();
        for _ in 0..50 {
            bench.add(Priority::Low, 1, 1, 0);
        }
        bench.serve(10);
        bench.add(Priority::High, 2, 1, 0);
        assert_eq!(bench.serve(1), [2]);
    }

    #[test]
    fn a_client_that_paused_neither_saved_up_turns_nor_owes_any() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.add(Priority::Normal, 1, 1, 0);
        }
        bench.serve(50);
        for _ in 0..20 {
            bench.add(Priority::Normal, 2, 1, 0);
        }
        let served = bench.serve(20);
        let newcomer = served.iter().filter(|client| **client == 2).count();
        assert!((9..=11).contains(&newcomer), "{served:?}");
    }

    #[test]
    fn jobs_of_a_client_go_by_when_they_are_due() {
        let mut bench = Bench::new();
        let late = bench.add(Priority::Normal, 1, 1, 500);
        let soon = bench.add(Priority::Normal, 1, 1, 100);
        let between = bench.add(Priority::Normal, 1, 1, 300);
        assert_eq!(bench.queue.walk().collect::<Vec<_>>(), [soon, between, late]);
    }

    #[test]
    fn a_walk_that_charges_gives_the_order_in_which_jobs_are_served() {
        let mut bench = Bench::new();
        for n in 0..60 {
            bench.add(Priority::ALL[n % 3], n as u64 % 7, 1 + n as u32 % 4, n as u64);
        }
        let mut walked = Vec::new();
        let mut walk = bench.queue.walk();
        while let Some(flight) = walk.next() {
            walk.charge(1000);
            walked.push(bench.places[&flight].client.0);
        }
        assert_eq!(walked, bench.serve(60));
    }

    #[test]
    fn clients_that_left_are_forgotten() {
        let mut bench = Bench::new();
        for client in 0..1000 {
            bench.add(Priority::Normal, client, 1, 0);
        }
        assert_eq!(bench.serve(1000).len(), 1000);
        bench.add(Priority::Normal, 5000, 1, 0);
        bench.add(Priority::Normal, 5000, 1, 0);
        bench.serve(2);
        assert!(bench.queue.classes[1].clients.len() <= 2, "{}", bench.queue.classes[1].clients.len());
    }
}
