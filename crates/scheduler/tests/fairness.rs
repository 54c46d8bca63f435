//! The fairness bounds of `docs/design/scheduler.md`, over random traffic and any cost model.
//!
//! Costs are in questions: a question costs 1, and one with a new image at most 16.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers fail by panicking too")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{
    BatchLimits, ClientId, EngineError, EngineErrorKind, ImageDigest, Priority, QueueLimits, SchedulerConfig,
};
use tokio::time::Instant;

/// Maximum cost of a job.
const MAX_COST: u64 = 16;
/// Maximum credit of a client: ten questions about one new image, at maximum cost.
const CREDIT: u64 = MAX_COST + 9;

/// Returns a number as a digest.
fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

/// A client of the simulation.
#[derive(Clone, Debug)]
struct Client {
    id: u64,
    class: Priority,
    weight: u32,
    /// Number of images that the client asks about in turn. They are shared with other clients, and
    /// soon cached. If 0, each question has a new image.
    images: u64,
}

impl Client {
    const fn new(id: u64, images: u64) -> Self {
        Self { id, class: Priority::Normal, weight: 1, images }
    }
}

/// Times of a batch whose images are all cached, and of any other batch.
#[derive(Clone, Copy, Debug)]
struct Pace {
    cached: Duration,
    encoding: Duration,
}

const STEADY: Pace = Pace { cached: Duration::from_millis(10), encoding: Duration::from_millis(10) };

/// A state machine with one engine that caches every image, and a simulated clock.
struct Simulation {
    machine: StateMachine<(), u64, usize>,
    now: Instant,
    submitted: u64,
    waiting: BTreeMap<u64, u64>,
    cached: BTreeSet<ImageDigest>,
    /// Whether the cost model is updated with each batch.
    updates_model: bool,
}

impl Simulation {
    fn new(max_images: usize, max_questions: usize) -> Self {
        let limit = usize::MAX;
        let config = SchedulerConfig {
            batch: BatchLimits { max_images, max_questions, ..BatchLimits::default() },
            queue: QueueLimits { max_jobs: limit, max_jobs_per_client: limit, max_bytes: limit },
            ..SchedulerConfig::default()
        };
        Self {
            machine: StateMachine::new(config, 1),
            now: Instant::now(),
            submitted: 0,
            waiting: BTreeMap::new(),
            cached: BTreeSet::new(),
            updates_model: true,
        }
    }

    fn submit(&mut self, client: &Client) {
        self.submitted += 1;
        let image = match client.images {
            0 => 1_000_000 + self.submitted,
            images => self.submitted % images,
        };
        let spec = JobSpec {
            client: ClientId(client.id),
            priority: client.class,
            weight: client.weight,
            deadline: None,
            image_digest: key(image),
            image_bytes: 1,
            question_key: key(self.submitted),
            tokens: 8,
            decode_steps: 0,
        };
        let mut effects = Effects::default();
        self.machine.submit(self.now, &spec, Arc::new(()), Arc::new(client.id), 0, &mut effects).unwrap();
        *self.waiting.entry(client.id).or_default() += 1;
    }

    /// Submits jobs until the client has `jobs` waiting.
    fn top_up(&mut self, client: &Client, jobs: u64) {
        while self.waiting.get(&client.id).is_none_or(|waiting| *waiting < jobs) {
            self.submit(client);
        }
    }

    /// Runs the next batch and returns the clients of its rows.
    fn serve(&mut self, pace: Pace) -> Vec<u64> {
        let mut effects = Effects::default();
        let Some(batch) = self.machine.next_batch(self.now, 0, &mut effects) else { return Vec::new() };
        let mut all_cached = true;
        for image in &batch.images {
            all_cached &= !self.cached.insert(image.digest);
            self.machine.image_cached(0, image.digest);
        }
        self.now += if all_cached { pace.cached } else { pace.encoding };
        for row in 0..batch.questions.len() {
            self.machine.finish_row(self.now, 0, row);
        }
        let late_error = EngineError::new(EngineErrorKind::Batch, "after the last row");
        let result = if self.updates_model { Ok(()) } else { Err(late_error) };
        self.machine.end_batch(self.now, 0, result, 3, &mut effects);
        let served: Vec<u64> = batch.questions.iter().map(|row| *row.payload).collect();
        for client in &served {
            *self.waiting.get_mut(client).unwrap() -= 1;
        }
        served
    }

    /// Returns the number of batches before the first one with a row of this client, while the
    /// competitors always have jobs waiting.
    fn batches_before(&mut self, client: u64, competitors: &[Client], paces: &[Pace]) -> u64 {
        for batch in 0..100_000 {
            competitors.iter().for_each(|competitor| self.top_up(competitor, 70));
            if self.serve(paces[batch % paces.len()]).contains(&client) {
                return batch as u64;
            }
        }
        u64::MAX
    }
}

fn competitors(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Client>> {
    let competitor = (1..4u32, 0..3u64);
    prop::collection::vec(competitor, count).prop_map(|competitors| {
        let numbered = competitors.into_iter().zip(1..);
        numbered.map(|((weight, images), id)| Client { weight, ..Client::new(id, images) }).collect()
    })
}

/// Batch times from 10 µs to 10 s: either constant, or different for each batch.
fn paces() -> impl Strategy<Value = Vec<Pace>> {
    let time = || (1.0..7.0f64).prop_map(|power| Duration::from_micros(10f64.powf(power) as u64));
    let pace = move || (time(), time()).prop_map(|(cached, encoding)| Pace { cached, encoding });
    prop_oneof![prop::collection::vec(pace(), 1), prop::collection::vec(pace(), 2..20)]
}

/// The client whose wait a test measures.
const OBSERVED: u64 = 500;

/// Maximum number of clients in a queue under endless overload.
const MAX_CROWD: usize = 60;

#[test]
fn slow_first_batch_does_not_delay_single_job() {
    let mut simulation = Simulation::new(16, 1);
    (0..1000).for_each(|_| simulation.submit(&Client::new(1, 1)));
    // The device warms up: the first image takes seconds, later ones a few milliseconds.
    let slow = Duration::from_secs(2);
    simulation.serve(Pace { cached: slow, encoding: slow });
    (0..60).for_each(|_| drop(simulation.serve(STEADY)));
    simulation.submit(&Client::new(OBSERVED, 0));
    let before = simulation.batches_before(OBSERVED, &[], &[STEADY]);
    assert!(before <= 1, "{before} jobs of the other client were first");
}

#[test]
fn skipped_client_saves_no_turns_against_new_client() {
    // Each batch fits one new image and many questions about a cached one. So the first competitor
    // is served far beyond its turns, and the second falls behind its share with each batch.
    let mut simulation = Simulation::new(1, 64);
    let competitors = [Client::new(1, 1), Client::new(2, 0)];
    for _ in 0..500 {
        competitors.iter().for_each(|competitor| simulation.top_up(competitor, 70));
        simulation.serve(STEADY);
    }
    simulation.submit(&Client::new(OBSERVED, 0));
    let before = simulation.batches_before(OBSERVED, &competitors, &[STEADY]);
    assert!(before <= 4, "{before} batches were first");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn single_job_wait_is_bounded_for_any_cost_model(
        competitors in competitors(1..6),
        from_the_start in 0..6usize,
        warm_up in 0..60usize,
        paces in paces(),
        max_images in 1..4usize,
        max_questions in prop_oneof![1..6usize, Just(64usize)],
        images in 0..2u64,
    ) {
        let mut simulation = Simulation::new(max_images, max_questions);
        let early = &competitors[..from_the_start.min(competitors.len())];
        let other = Client::new(OBSERVED - 1, 2);
        for batch in 0..warm_up {
            early.iter().for_each(|competitor| simulation.top_up(competitor, 70));
            simulation.submit(&other);
            simulation.serve(paces[batch % paces.len()]);
        }
        // The other competitors arrive just before, so none of them has used its credit.
        competitors.iter().for_each(|competitor| simulation.top_up(competitor, 70));
        simulation.submit(&Client::new(OBSERVED, images));
        let before = simulation.batches_before(OBSERVED, &competitors, &paces);
        // At least one job of each batch is served by turn.
        let weights: u64 = competitors.iter().map(|competitor| u64::from(competitor.weight)).sum();
        let bound = (CREDIT + MAX_COST) * (weights + 1) + competitors.len() as u64 + 1;
        prop_assert!(before <= bound, "{before} batches, bound {bound}");
    }

    #[test]
    fn endless_new_clients_do_not_starve_client_over_share(
        arrivals in prop::collection::vec((0..4usize, 0..2u64), 1..20),
        paces in paces(),
        crowd in 0..30u64,
        backlog in 1..80u64,
        max_questions in 1..5usize,
    ) {
        let mut simulation = Simulation::new(2, max_questions);
        let observed = Client::new(OBSERVED, 1);
        let mut last_id = 1000;
        let mut arrive = |simulation: &mut Simulation, images| {
            last_id += 1;
            simulation.submit(&Client::new(last_id, images));
        };
        (0..backlog).for_each(|_| simulation.submit(&observed));
        (0..crowd).for_each(|_| arrive(&mut simulation, 0));
        let (mut batches, mut max_crowd) = (0, 0);
        // Each of the client's jobs costs 1 and waits for the ones before it.
        while simulation.waiting[&OBSERVED] > 0 {
            // An endless overload fills the queue, which then rejects jobs. A batch may fit fewer
            // new images than arrive. The bound is proportional to the crowd, so the crowd is
            // limited.
            simulation.waiting.retain(|id, jobs| *id == OBSERVED || *jobs > 0);
            let (count, images) = arrivals[batches as usize % arrivals.len()];
            let room = MAX_CROWD.saturating_sub(simulation.waiting.len());
            (0..count.min(max_questions).min(room)).for_each(|_| arrive(&mut simulation, images));
            max_crowd = max_crowd.max(simulation.waiting.len() as u64);
            let bound = (backlog + CREDIT + MAX_COST) * max_crowd;
            prop_assert!(batches <= bound, "{batches} batches, bound {bound}");
            simulation.serve(paces[batches as usize % paces.len()]);
            batches += 1;
        }
    }

    #[test]
    fn backlogged_clients_are_served_by_weight_within_bound(
        competitors in competitors(2..6),
        max_questions in 1..9usize,
        batches in 5..60usize,
    ) {
        // All jobs have new images, so they cost the same.
        let with_new_images = |competitor| Client { images: 0, ..competitor };
        let competitors: Vec<_> = competitors.into_iter().map(with_new_images).collect();
        let mut simulation = Simulation::new(100, max_questions);
        // The test counts jobs and not costs, so the cost of a job must stay constant.
        simulation.updates_model = false;
        let mut served = BTreeMap::new();
        for _ in 0..batches {
            competitors.iter().for_each(|competitor| simulation.top_up(competitor, 70));
            for client in simulation.serve(STEADY) {
                *served.entry(client).or_insert(0u64) += 1;
            }
        }
        let share = |client: &Client| {
            served.get(&client.id).copied().unwrap_or(0) as f64 / f64::from(client.weight)
        };
        for a in &competitors {
            for b in &competitors {
                // One job of each client, and the credit, which is at most ten jobs with new
                // images.
                let bound = 2.0 / f64::from(a.weight.min(b.weight)) + 10.0;
                prop_assert!((share(a) - share(b)).abs() <= bound, "{served:?} by {competitors:?}");
            }
        }
    }

    #[test]
    fn lowest_class_job_starts_within_its_bound(
        competitors in 1..20u64,
        max_questions in 1..9usize,
    ) {
        let mut simulation = Simulation::new(100, max_questions);
        simulation.updates_model = false;
        let low = Client { class: Priority::Low, ..Client::new(OBSERVED, 0) };
        let competitors: Vec<_> = (1..=competitors)
            .flat_map(|id| {
                [Priority::High, Priority::Normal]
                    .map(|class| Client { class, ..Client::new(2 * id + class as u64, 0) })
            })
            .collect();
        // The lowest class has just had a turn. Then the two higher ones always have jobs.
        simulation.submit(&low);
        simulation.serve(STEADY);
        simulation.submit(&low);
        let before = simulation.batches_before(OBSERVED, &competitors, &[STEADY]);
        // Two jobs of the class at 1/73 of the charges, and the credits of the higher classes: one
        // request for the ordinary class and eight for the highest, of at most ten jobs each.
        let bound = 2 * 73 + 9 * 10;
        prop_assert!(before <= bound, "{before} batches, bound {bound}");
    }
}
