//! The bounds of fairness that `docs/scheduler.md` states, over random traffic and whatever the service
//! model believes. Prices are in questions: a question is 1, one with its image at most 16.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{
    BatchLimits, ClientId, EngineError, EngineErrorKind, ImageDigest, Priority, QueueLimits, SchedulerConfig,
};
use tokio::time::Instant;

/// Most that a job is charged.
const MAX_COST: u64 = 16;
/// Most that a client may have before others go first: ten questions about one image at the dearest.
const CREDIT: u64 = MAX_COST + 9;

/// A number as a digest.
fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

/// One who asks.
#[derive(Clone, Debug)]
struct Client {
    id: u64,
    class: Priority,
    weight: u32,
    /// Asks about so many images in turn, the same as others, whose features are soon cached; if none, about a
    /// new one each time.
    images: u64,
}

impl Client {
    const fn new(id: u64, images: u64) -> Self {
        Self { id, class: Priority::Normal, weight: 1, images }
    }
}

/// How long a batch takes that finds all its images in the cache, and one that does not.
#[derive(Clone, Copy, Debug)]
struct Pace {
    cached: Duration,
    encoding: Duration,
}

const STEADY: Pace = Pace { cached: Duration::from_millis(10), encoding: Duration::from_millis(10) };

/// A machine with one engine that caches every image, and the clock in the test's hand.
struct Line {
    machine: StateMachine<(), u64, usize>,
    now: Instant,
    asked: u64,
    waiting: BTreeMap<u64, u64>,
    cached: BTreeSet<ImageDigest>,
    /// Whether the model learns from the batches that run.
    learns: bool,
}

impl Line {
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
            asked: 0,
            waiting: BTreeMap::new(),
            cached: BTreeSet::new(),
            learns: true,
        }
    }

    fn ask(&mut self, client: &Client) {
        self.asked += 1;
        let image = match client.images {
            0 => 1_000_000 + self.asked,
            images => self.asked % images,
        };
        let spec = JobSpec {
            client: ClientId(client.id),
            priority: client.class,
            weight: client.weight,
            deadline: None,
            image_digest: key(image),
            image_bytes: 1,
            question_key: key(self.asked),
            tokens: 8,
        };
        let mut effects = Effects::default();
        self.machine.submit(self.now, &spec, Arc::new(()), Arc::new(client.id), 0, &mut effects).unwrap();
        *self.waiting.entry(client.id).or_default() += 1;
    }

    /// Sees to it that so many of a client's jobs wait.
    fn keep(&mut self, client: &Client, jobs: u64) {
        while self.waiting.get(&client.id).is_none_or(|waiting| *waiting < jobs) {
            self.ask(client);
        }
    }

    /// Runs the next batch and says whose questions were in it.
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
        let after_the_last_row = EngineError::new(EngineErrorKind::Batch, "after the last row");
        let result = if self.learns { Ok(()) } else { Err(after_the_last_row) };
        self.machine.end_batch(self.now, 0, result, 3, &mut effects);
        let served: Vec<u64> = batch.questions.iter().map(|row| *row.payload).collect();
        for client in &served {
            *self.waiting.get_mut(client).unwrap() -= 1;
        }
        served
    }

    /// Batches that run before one with a question of this client, while the rivals never run dry.
    fn batches_before(&mut self, client: u64, rivals: &[Client], paces: &[Pace]) -> u64 {
        for batch in 0..100_000 {
            rivals.iter().for_each(|rival| self.keep(rival, 70));
            if self.serve(paces[batch % paces.len()]).contains(&client) {
                return batch as u64;
            }
        }
        u64::MAX
    }
}

fn rivals(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Client>> {
    let rival = (1..4u32, 0..3u64);
    prop::collection::vec(rival, count).prop_map(|rivals| {
        let numbered = rivals.into_iter().zip(1..);
        numbered.map(|((weight, images), id)| Client { weight, ..Client::new(id, images) }).collect()
    })
}

/// How long batches take, in turn: anything from a hundredth of a millisecond to ten seconds, the same throughout
/// or different each time.
fn paces() -> impl Strategy<Value = Vec<Pace>> {
    let time = || (1.0..7.0f64).prop_map(|power| Duration::from_micros(10f64.powf(power) as u64));
    let pace = move || (time(), time()).prop_map(|(cached, encoding)| Pace { cached, encoding });
    prop_oneof![prop::collection::vec(pace(), 1), prop::collection::vec(pace(), 2..20)]
}

const FRESH: u64 = 500;

/// Clients at most that a queue without end has room for.
const ROOM: usize = 60;

#[test]
fn a_slow_first_batch_does_not_keep_a_single_question_behind_anothers_thousand() {
    let mut line = Line::new(16, 1);
    (0..1000).for_each(|_| line.ask(&Client::new(1, 1)));
    // The device warms up: the first image takes seconds, all that follows a few milliseconds.
    let slow = Duration::from_secs(2);
    line.serve(Pace { cached: slow, encoding: slow });
    (0..60).for_each(|_| drop(line.serve(STEADY)));
    line.ask(&Client::new(FRESH, 0));
    let before = line.batches_before(FRESH, &[], &[STEADY]);
    assert!(before <= 1, "{before} questions of the other went first");
}

#[test]
fn a_client_whose_jobs_found_no_room_does_not_save_up_turns_against_one_that_comes() {
    // Each batch has room for one new image and for many questions about one that is cached, so the first
    // rival is served far beyond its turns, and the second falls further behind its share with each batch.
    let mut line = Line::new(1, 64);
    let rivals = [Client::new(1, 1), Client::new(2, 0)];
    for _ in 0..500 {
        rivals.iter().for_each(|rival| line.keep(rival, 70));
        line.serve(STEADY);
    }
    line.ask(&Client::new(FRESH, 0));
    let before = line.batches_before(FRESH, &rivals, &[STEADY]);
    assert!(before <= 4, "{before} batches went first");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_model_believes_a_single_question_waits_for_a_stated_number_of_each_rivals(
        rivals in rivals(1..6),
        from_the_start in 0..6usize,
        warm_up in 0..60usize,
        paces in paces(),
        max_images in 1..4usize,
        max_questions in prop_oneof![1..6usize, Just(64usize)],
        images in 0..2u64,
    ) {
        let mut line = Line::new(max_images, max_questions);
        let early = &rivals[..from_the_start.min(rivals.len())];
        let someone = Client::new(FRESH - 1, 2);
        for batch in 0..warm_up {
            early.iter().for_each(|rival| line.keep(rival, 70));
            line.ask(&someone);
            line.serve(paces[batch % paces.len()]);
        }
        // The other rivals come a moment before, so that none of them has used up any credit.
        rivals.iter().for_each(|rival| line.keep(rival, 70));
        line.ask(&Client::new(FRESH, images));
        let before = line.batches_before(FRESH, &rivals, &paces);
        // One job at least of every batch is there by turn.
        let weights: u64 = rivals.iter().map(|rival| u64::from(rival.weight)).sum();
        let bound = (CREDIT + MAX_COST) * (weights + 1) + rivals.len() as u64 + 1;
        prop_assert!(before <= bound, "{before} batches, bound {bound}");
    }

    #[test]
    fn newcomers_without_end_do_not_starve_a_client_that_has_had_more_than_its_share(
        arrivals in prop::collection::vec((0..4usize, 0..2u64), 1..20),
        paces in paces(),
        crowd in 0..30u64,
        own in 1..80u64,
        max_questions in 1..5usize,
    ) {
        let mut line = Line::new(2, max_questions);
        let waits = Client::new(FRESH, 1);
        let mut newcomer = 1000;
        let mut come = |line: &mut Line, images| {
            newcomer += 1;
            line.ask(&Client::new(newcomer, images));
        };
        (0..own).for_each(|_| line.ask(&waits));
        (0..crowd).for_each(|_| come(&mut line, 0));
        let (mut batches, mut crowd_at_most) = (0, 0);
        // Its own questions are 1 each, and all of them wait for one another.
        while line.waiting[&FRESH] > 0 {
            // An overload without end fills the queue, and is refused there. A batch may have room for fewer new images than
            // come, so a crowd without a limit could outgrow the bound, which is in proportion to it, for ever.
            line.waiting.retain(|id, jobs| *id == FRESH || *jobs > 0);
            let (count, images) = arrivals[batches as usize % arrivals.len()];
            let room = ROOM.saturating_sub(line.waiting.len());
            (0..count.min(max_questions).min(room)).for_each(|_| come(&mut line, images));
            crowd_at_most = crowd_at_most.max(line.waiting.len() as u64);
            let bound = (own + CREDIT + MAX_COST) * crowd_at_most;
            prop_assert!(batches <= bound, "{batches} batches, bound {bound}");
            line.serve(paces[batches as usize % paces.len()]);
            batches += 1;
        }
    }

    #[test]
    fn clients_with_a_backlog_are_served_by_weight_within_the_stated_bound(
        rivals in rivals(2..6),
        max_questions in 1..9usize,
        batches in 5..60usize,
    ) {
        // All ask about new images, so that a job of one costs what a job of the other does.
        let rivals: Vec<_> = rivals.into_iter().map(|rival| Client { images: 0, ..rival }).collect();
        let mut line = Line::new(100, max_questions);
        // Jobs are counted here and not what they are charged, so a job has to be charged the same throughout.
        line.learns = false;
        let mut served = BTreeMap::new();
        for _ in 0..batches {
            rivals.iter().for_each(|rival| line.keep(rival, 70));
            for client in line.serve(STEADY) {
                *served.entry(client).or_insert(0u64) += 1;
            }
        }
        let share = |rival: &Client| served.get(&rival.id).copied().unwrap_or(0) as f64 / f64::from(rival.weight);
        for a in &rivals {
            for b in &rivals {
                // One job of each, and the credit, which is at most ten jobs that all need an image.
                let bound = 2.0 / f64::from(a.weight.min(b.weight)) + 10.0;
                prop_assert!((share(a) - share(b)).abs() <= bound, "{served:?} by {rivals:?}");
            }
        }
    }

    #[test]
    fn a_job_of_the_lowest_class_starts_within_the_stated_share_of_work(
        rivals in 1..20u64,
        max_questions in 1..9usize,
    ) {
        let mut line = Line::new(100, max_questions);
        line.learns = false;
        let low = Client { class: Priority::Low, ..Client::new(FRESH, 0) };
        let rivals: Vec<_> = (1..=rivals)
            .flat_map(|id| {
                [Priority::High, Priority::Normal]
                    .map(|class| Client { class, ..Client::new(2 * id + class as u64, 0) })
            })
            .collect();
        // The lowest class has had a turn a moment ago; then the two higher ones never run dry.
        line.ask(&low);
        line.serve(STEADY);
        line.ask(&low);
        let before = line.batches_before(FRESH, &rivals, &[STEADY]);
        // Two of its jobs at a 73rd of what is charged, and the credit of those above: one request for the ordinary
        // class and eight for the highest, each at most ten jobs that all need an image.
        let bound = 2 * 73 + 9 * 10;
        prop_assert!(before <= bound, "{before} batches, bound {bound}");
    }
}
