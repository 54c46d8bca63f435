//! Order of jobs and clients in sequences of events.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

struct QueueHarness {
    queue: FairQueue,
    start: Instant,
    sequence: u64,
    positions: HashMap<JobIndex, QueuePosition>,
}

impl QueueHarness {
    fn new() -> Self {
        Self { queue: FairQueue::default(), start: Instant::now(), sequence: 0, positions: HashMap::new() }
    }

    fn add(&mut self, class: Priority, client: u64, weight: u32, due_ms: u64) -> JobIndex {
        self.sequence += 1;
        let job = JobIndex(self.sequence as u32);
        let due = self.start + Duration::from_millis(due_ms);
        let position =
            QueuePosition { class, client: ClientId(client), weight, due, sequence: self.sequence };
        self.queue.insert(&position, job, 1);
        self.positions.insert(job, position);
        job
    }

    /// All questions of these tests have one token.
    fn any_length(&self) -> LengthPreference {
        LengthPreference { longest: 1, rows: 1, now: self.start }
    }

    /// Starts jobs one by one and returns their clients.
    fn serve(&mut self, count: usize) -> Vec<u64> {
        (0..count)
            .map_while(|_| {
                let job = self.queue.select().next(self.any_length())?;
                let position = self.positions[&job];
                self.queue.charge(&position, 1000);
                self.queue.remove(&position);
                Some(position.client.0)
            })
            .collect()
    }
}

#[test]
fn single_job_is_second_beside_backlog_of_other_client() {
    let mut harness = QueueHarness::new();
    for _ in 0..10_000 {
        harness.add(Priority::Normal, 1, 1, 0);
    }
    harness.serve(100);
    harness.add(Priority::Normal, 2, 1, 0);
    assert!(harness.serve(2).contains(&2));
}

#[test]
fn clients_are_served_in_proportion_to_weights() {
    let mut harness = QueueHarness::new();
    for _ in 0..400 {
        harness.add(Priority::Normal, 1, 1, 0);
        harness.add(Priority::Normal, 2, 3, 0);
    }
    let served = harness.serve(400);
    let heavy = served.iter().filter(|client| **client == 2).count();
    assert!((298..=302).contains(&heavy), "{heavy}");
}

#[test]
fn classes_share_64_to_8_to_1() {
    let mut harness = QueueHarness::new();
    for _ in 0..1000 {
        harness.add(Priority::High, 1, 1, 0);
        harness.add(Priority::Normal, 2, 1, 0);
        harness.add(Priority::Low, 3, 1, 0);
    }
    let served = harness.serve(730);
    let count = |client| served.iter().filter(|other| **other == client).count();
    assert!((638..=642).contains(&count(1)), "{}", count(1));
    assert!((9..=11).contains(&count(3)), "{}", count(3));
}

#[test]
fn high_class_job_precedes_backlog_of_lower_class() {
    let mut harness = QueueHarness::new();
    for _ in 0..50 {
        harness.add(Priority::Low, 1, 1, 0);
    }
    harness.serve(10);
    harness.add(Priority::High, 2, 1, 0);
    assert_eq!(harness.serve(1), [2]);
}

#[test]
fn client_after_pause_has_neither_saved_nor_owed_turns() {
    let mut harness = QueueHarness::new();
    for _ in 0..100 {
        harness.add(Priority::Normal, 1, 1, 0);
    }
    harness.serve(50);
    for _ in 0..20 {
        harness.add(Priority::Normal, 2, 1, 0);
    }
    let served = harness.serve(20);
    let incoming = served.iter().filter(|client| **client == 2).count();
    assert!((9..=11).contains(&incoming), "{served:?}");
}

#[test]
fn stream_of_new_clients_does_not_starve_served_client() {
    let mut harness = QueueHarness::new();
    harness.add(Priority::Normal, 1, 1, 0);
    harness.add(Priority::Normal, 1, 1, 0);
    for client in 100..110 {
        harness.add(Priority::Normal, client, 1, 0);
    }
    let mut served = Vec::new();
    for client in 1000..1040 {
        harness.add(Priority::Normal, client, 1, 0);
        served.extend(harness.serve(1));
    }
    assert_eq!(served.iter().filter(|client| **client == 1).count(), 2, "{served:?}");
}

#[test]
fn single_jobs_of_many_clients_are_served_in_arrival_order() {
    let mut harness = QueueHarness::new();
    let clients = [7, 3, 9, 1, 8, 2];
    for client in clients {
        harness.add(Priority::Normal, client, 1, 0);
    }
    assert_eq!(harness.serve(6), clients);
}

#[test]
fn client_with_one_job_at_a_time_is_charged_for_each() {
    let mut harness = QueueHarness::new();
    for _ in 0..100 {
        harness.add(Priority::Normal, 2, 1, 0);
    }
    let mut single = 0;
    for _ in 0..50 {
        if harness.queue.client_len(Priority::Normal, ClientId(1)) == 0 {
            harness.add(Priority::Normal, 1, 1, 0);
        }
        single += harness.serve(1).iter().filter(|client| **client == 1).count();
    }
    assert!((24..=26).contains(&single), "{single}");
}

#[test]
fn credit_lets_request_stay_together_but_not_backlog() {
    let mut harness = QueueHarness::new();
    harness.queue.set_credit(4000);
    for _ in 0..4 {
        harness.add(Priority::Normal, 1, 1, 0);
    }
    for _ in 0..100 {
        harness.add(Priority::Normal, 2, 1, 0);
    }
    for _ in 0..4 {
        harness.add(Priority::Normal, 3, 1, 0);
    }
    let served = harness.serve(20);
    assert_eq!(served[..4], [1; 4], "{served:?}");
    let third = served.iter().rposition(|client| *client == 3).unwrap();
    assert!(third <= 13, "{served:?}");
}

#[test]
fn jobs_of_client_are_served_by_due_time() {
    let mut harness = QueueHarness::new();
    let late = harness.add(Priority::Normal, 1, 1, 500);
    let soon = harness.add(Priority::Normal, 1, 1, 100);
    let between = harness.add(Priority::Normal, 1, 1, 300);
    let mut select = harness.queue.select();
    let selected: Vec<_> = std::iter::from_fn(|| select.next(harness.any_length())).collect();
    assert_eq!(selected, [soon, between, late]);
}

#[test]
fn charged_selection_equals_service_order() {
    let mut harness = QueueHarness::new();
    for n in 0..60 {
        harness.add(Priority::ALL[n % 3], n as u64 % 7, 1 + n as u32 % 4, n as u64);
    }
    let mut selected = Vec::new();
    let mut select = harness.queue.select();
    while let Some(job) = select.next(harness.any_length()) {
        select.charge(1000);
        selected.push(harness.positions[&job].client.0);
    }
    assert_eq!(selected, harness.serve(60));
}

#[test]
fn clients_without_jobs_are_removed() {
    let mut harness = QueueHarness::new();
    for client in 0..1000 {
        harness.add(Priority::Normal, client, 1, 0);
    }
    assert_eq!(harness.serve(1000).len(), 1000);
    harness.add(Priority::Normal, 5000, 1, 0);
    harness.add(Priority::Normal, 5000, 1, 0);
    harness.serve(2);
    assert!(harness.queue.classes[1].clients.len() <= 2, "{}", harness.queue.classes[1].clients.len());
}
