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
//! The bound that follows: while a class has work waiting it gets at least its share (the lowest
//! class 1/73) of the engine time charged, and within it a client at least its weight over the sum of the
//! weights of clients with work waiting, each short of it by at most one job and one credit a competitor. A
//! class's credit is one request for the ordinary class, eight for the highest, an eighth for the lowest.
//!
//! A client is ranked by its tag less a small credit (about one request), but never before the moment
//! it came. So the few questions of a request stay together, and among clients that ask little it
//! is first come, first served; who asks much has used up the credit and is ranked by the tag.
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

/// Order within a client; none is before everything.
type Turn = (ClientId, Option<Instant>, u64);

/// Virtual time a nanosecond of engine time moves a tag at weight 1.
const RESOLUTION: u64 = 16;

/// Jobs of one client that a walk may pass over before it leaves that client aside.
const PASSED_OVER: u32 = 8;

/// A client's place among the clients of its class: when its turn is in virtual time, then who came first.
type Rank = (u64, u64, ClientId);

/// What decides over a client's rank.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Virtual time up to which the client has had its share.
    tag: u64,
    /// The present when its first waiting job came.
    since: u64,
    /// When its turn is.
    turn: u64,
    /// Counts arrivals and turns: whoever has waited longest goes first among equals.
    stamp: u64,
    weight: u32,
}

impl Standing {
    const fn rank(&self, client: ClientId) -> Rank {
        (self.turn, self.stamp, client)
    }

    /// Comes back to the queue after a pause.
    fn arrive(&mut self, now: u64, credit: u64, stamp: &mut u64) {
        self.since = now;
        self.tag = self.tag.max(now);
        self.turn = now.max(self.tag.saturating_sub(credit));
        *stamp += 1;
        self.stamp = *stamp;
    }

    fn charge(&mut self, nanoseconds: u64, credit: u64, stamp: &mut u64) {
        self.tag = advance(self.tag, nanoseconds, u64::from(self.weight));
        let turn = self.since.max(self.tag.saturating_sub(credit));
        if turn != self.turn {
            self.turn = turn;
            *stamp += 1;
            self.stamp = *stamp;
        }
    }
}

#[derive(Debug, Default)]
struct Client {
    standing: Standing,
    jobs: usize,
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
    /// Jobs of all clients in one tree: many clients have one job, and a tree for each would take more
    /// than the rest of it.
    turns: BTreeMap<Turn, FlightId>,
    /// Clients with work waiting.
    order: BTreeSet<Rank>,
    /// Clients without, whose tags are still ahead of the present.
    ahead: BTreeSet<(u64, ClientId)>,
    jobs: usize,
}

#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    classes: [Class; 3],
    /// Turn of the class that was served last.
    now: u64,
    /// How far a class may be ahead of its share; so much smaller than a client's that an ordinary
    /// class has it for one request and the highest for eight.
    credit: u64,
    stamp: u64,
}

fn advance(tag: u64, nanoseconds: u64, weight: u64) -> u64 {
    tag.saturating_add((nanoseconds.saturating_mul(RESOLUTION) / weight.max(1)).max(1))
}

impl Class {
    fn insert(&mut self, place: &Place, flight: FlightId) {
        let client = self.clients.entry(place.client).or_default();
        let weight = place.weight.max(1);
        if client.jobs == 0 {
            self.ahead.remove(&(client.standing.tag, place.client));
            client.standing.arrive(self.now, self.credit, &mut self.stamp);
            self.order.insert(client.standing.rank(place.client));
        } else {
            self.weights -= u64::from(client.standing.weight);
        }
        client.standing.weight = weight;
        self.weights += u64::from(weight);
        if self.turns.insert((place.client, Some(place.due), place.sequence), flight).is_none() {
            client.jobs += 1;
            self.jobs += 1;
        }
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(client) = self.clients.get_mut(&place.client) else { return false };
        if self.turns.remove(&(place.client, Some(place.due), place.sequence)).is_none() {
            return false;
        }
        self.jobs -= 1;
        client.jobs -= 1;
        if client.jobs == 0 {
            self.weights -= u64::from(client.standing.weight);
            self.order.remove(&client.standing.rank(place.client));
            self.ahead.insert((client.standing.tag, place.client));
            self.forget_the_past();
        }
        true
    }

    fn charge(&mut self, place: &Place, nanoseconds: u64) {
        let client = self.clients.entry(place.client).or_insert_with(|| {
            let standing = Standing { tag: self.now, weight: place.weight.max(1), ..Standing::default() };
            Client { standing, ..Client::default() }
        });
        let before = client.standing;
        client.standing.charge(nanoseconds, self.credit, &mut self.stamp);
        if client.jobs == 0 {
            self.ahead.remove(&(before.tag, place.client));
            self.ahead.insert((client.standing.tag, place.client));
        } else {
            self.order.remove(&before.rank(place.client));
            self.order.insert(client.standing.rank(place.client));
        }
        self.now = advance(self.now, nanoseconds, self.weights.max(u64::from(before.weight)));
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

    pub(crate) fn insert(&mut self, place: &Place, flight: FlightId) {
        let (now, credit, mut stamp) = (self.now, self.credit, self.stamp);
        let class = self.class(place.class);
        if class.jobs == 0 {
            class.standing.arrive(now, credit, &mut stamp);
        }
        class.insert(place, flight);
        self.stamp = stamp;
    }

    /// Takes a flight out; false when it was not in.
    pub(crate) fn remove(&mut self, place: &Place) -> bool {
        self.class(place.class).remove(place)
    }

    /// Counts engine time to a client and its class. Called before the job is taken out: a client
    /// that has nothing left and owes nothing is forgotten.
    pub(crate) fn charge(&mut self, place: &Place, nanoseconds: u64) {
        let (credit, mut stamp) = (self.credit, self.stamp);
        let class = self.class(place.class);
        class.charge(place, nanoseconds);
        let before = class.standing.turn;
        class.standing.weight = place.class.share() as u32;
        class.standing.charge(nanoseconds, credit, &mut stamp);
        self.now = self.now.max(before);
        self.stamp = stamp;
    }

    /// Sets the credit of a client, in nanoseconds of engine time.
    pub(crate) fn set_credit(&mut self, nanoseconds: u64) {
        let credit = nanoseconds.saturating_mul(RESOLUTION);
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
            .map_or(0, |client| client.jobs)
    }

    /// Goes through the waiting jobs in their order without changing anything.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk {
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
    credit: u64,
    stamp: u64,
    /// The class and client of the job that was given out last.
    in_hand: Option<(usize, Visited<'a>)>,
}

impl Walk<'_> {
    /// Says that the job given out last is taken, at this cost. Without a word it is passed over.
    pub(crate) fn charge(&mut self, nanoseconds: u64) {
        if let Some((class, visited)) = &mut self.in_hand
            && let (Some(walk), Some(priority)) = (self.classes.get_mut(*class), Priority::ALL.get(*class))
        {
            visited.standing.charge(nanoseconds, walk.class.credit, &mut walk.stamp);
            visited.passed_over = 0;
            walk.standing.weight = priority.share() as u32;
            walk.standing.charge(nanoseconds, self.credit, &mut self.stamp);
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
                    self.queue.charge(&place, 1000);
                    self.queue.remove(&place);
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
    fn newcomers_without_end_do_not_keep_away_a_client_that_had_its_turn() {
        let mut bench = Bench::new();
        bench.add(Priority::Normal, 1, 1, 0);
        bench.add(Priority::Normal, 1, 1, 0);
        for client in 100..110 {
            bench.add(Priority::Normal, client, 1, 0);
        }
        let mut served = Vec::new();
        for client in 1000..1040 {
            bench.add(Priority::Normal, client, 1, 0);
            served.extend(bench.serve(1));
        }
        assert_eq!(served.iter().filter(|client| **client == 1).count(), 2, "{served:?}");
    }

    #[test]
    fn single_jobs_of_many_clients_go_first_come_first_served() {
        let mut bench = Bench::new();
        let clients = [7, 3, 9, 1, 8, 2];
        for client in clients {
            bench.add(Priority::Normal, client, 1, 0);
        }
        assert_eq!(bench.serve(6), clients);
    }

    #[test]
    fn a_client_that_asks_one_by_one_is_charged_for_each() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.add(Priority::Normal, 2, 1, 0);
        }
        let mut single = 0;
        for _ in 0..50 {
            if bench.queue.client_len(Priority::Normal, ClientId(1)) == 0 {
                bench.add(Priority::Normal, 1, 1, 0);
            }
            single += bench.serve(1).iter().filter(|client| **client == 1).count();
        }
        assert!((24..=26).contains(&single), "{single}");
    }

    #[test]
    fn with_credit_the_questions_of_a_request_stay_together_and_a_flood_does_not() {
        let mut bench = Bench::new();
        bench.queue.set_credit(4000);
        for _ in 0..4 {
            bench.add(Priority::Normal, 1, 1, 0);
        }
        for _ in 0..100 {
            bench.add(Priority::Normal, 2, 1, 0);
        }
        for _ in 0..4 {
            bench.add(Priority::Normal, 3, 1, 0);
        }
        let served = bench.serve(20);
        assert_eq!(served[..4], [1; 4], "{served:?}");
        let third = served.iter().rposition(|client| *client == 3).unwrap();
        assert!(third <= 13, "{served:?}");
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
