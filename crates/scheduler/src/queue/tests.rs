//! Whose turn it is, in sequences of jobs.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

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
        self.queue.insert(&place, flight, 1);
        self.places.insert(flight, place);
        flight
    }

    /// All questions of these tests have one token.
    fn any_length(&self) -> Like {
        Like { longest: 1, rows: 1, now: self.start }
    }

    /// Starts jobs one by one and says whose they were.
    fn serve(&mut self, count: usize) -> Vec<u64> {
        (0..count)
            .map_while(|_| {
                let flight = self.queue.walk().next(self.any_length())?;
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
    let mut walk = bench.queue.walk();
    let walked: Vec<_> = std::iter::from_fn(|| walk.next(bench.any_length())).collect();
    assert_eq!(walked, [soon, between, late]);
}

#[test]
fn a_walk_that_charges_gives_the_order_in_which_jobs_are_served() {
    let mut bench = Bench::new();
    for n in 0..60 {
        bench.add(Priority::ALL[n % 3], n as u64 % 7, 1 + n as u32 % 4, n as u64);
    }
    let mut walked = Vec::new();
    let mut walk = bench.queue.walk();
    while let Some(flight) = walk.next(bench.any_length()) {
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
