//! Invariants under random arrivals, cancellations, deadlines, failures and engine counts.
//!
//! A checker drives the state machine event by event. It does not know the policy, only what must
//! hold: one outcome for each job, limits, and no computation of expired jobs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test helpers fail by panicking too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{
    Batch, BatchLimits, ClientId, EngineError, EngineErrorKind, JobError, JobId, Priority, QueueLimits,
    SchedulerConfig, SubmitError,
};
use tokio::time::Instant;

const LIMITS: BatchLimits = BatchLimits { max_images: 3, max_questions: 5, max_padded_tokens: 60 };
const QUEUE: QueueLimits = QueueLimits { max_jobs: 24, max_bytes: 500, max_jobs_per_client: 12 };
const IMAGE_BYTES: usize = 100;

#[derive(Clone, Debug)]
enum Event {
    Submit {
        client: u64,
        class: usize,
        weight: u32,
        image: u8,
        question: u8,
        tokens: u32,
        allowance_ms: Option<u64>,
    },
    Cancel {
        which: usize,
    },
    Advance {
        ms: u64,
    },
    Pull {
        engine: usize,
    },
    Finish {
        engine: usize,
        row: usize,
    },
    FailRow {
        engine: usize,
        row: usize,
    },
    End {
        engine: usize,
        how: Option<EngineErrorKind>,
        steps: u32,
    },
    Panic {
        engine: usize,
    },
    Cached {
        engine: usize,
        image: u8,
    },
    Evicted {
        engine: usize,
        image: u8,
    },
}

fn events() -> impl Strategy<Value = Event> {
    let kinds = prop_oneof![
        4 => Just(None),
        2 => Just(Some(EngineErrorKind::Batch)),
        1 => Just(Some(EngineErrorKind::OutOfMemory)),
        1 => Just(Some(EngineErrorKind::Row)),
    ];
    let submit = (0..4u64, 0..3usize, 0..4u32, 0..6u8, 0..4u8, 1..20u32, prop::option::of(0..200u64))
        .prop_map(|(client, class, weight, image, question, tokens, allowance_ms)| Event::Submit {
            client,
            class,
            weight,
            image,
            question,
            tokens,
            allowance_ms,
        });
    prop_oneof![
        12 => submit,
        2 => (0..100usize).prop_map(|which| Event::Cancel { which }),
        4 => (0..60u64).prop_map(|ms| Event::Advance { ms }),
        6 => (0..3usize).prop_map(|engine| Event::Pull { engine }),
        6 => (0..3usize, 0..5usize).prop_map(|(engine, row)| Event::Finish { engine, row }),
        1 => (0..3usize, 0..5usize).prop_map(|(engine, row)| Event::FailRow { engine, row }),
        5 => (0..3usize, kinds, 0..6u32).prop_map(|(engine, how, steps)| Event::End { engine, how, steps }),
        1 => (0..3usize).prop_map(|engine| Event::Panic { engine }),
        1 => (0..3usize, 0..6u8).prop_map(|(engine, image)| Event::Cached { engine, image }),
        1 => (0..3usize, 0..6u8).prop_map(|(engine, image)| Event::Evicted { engine, image }),
    ]
}

#[derive(Debug)]
struct Job {
    id: JobId,
    client: u64,
    image: u8,
    question: Question,
    deadline: Option<Instant>,
    outcome: Option<&'static str>,
}

/// Image and question of a row.
type Question = (u8, u8);

struct Checker {
    machine: StateMachine<u8, Question, usize>,
    now: Instant,
    jobs: Vec<Job>,
    running: BTreeMap<usize, Vec<Question>>,
    alive: BTreeSet<usize>,
}

impl Checker {
    fn new(engines: usize, max_batch_delay_ms: u64) -> Self {
        let config = SchedulerConfig {
            batch: LIMITS,
            queue: QUEUE,
            max_batch_delay: Duration::from_millis(max_batch_delay_ms),
            max_panics: 2,
            ..SchedulerConfig::default()
        };
        Self {
            machine: StateMachine::new(config, engines),
            now: Instant::now(),
            jobs: Vec::new(),
            running: BTreeMap::new(),
            alive: (0..engines).collect(),
        }
    }

    fn settle(&mut self, job: usize, outcome: &'static str) {
        let job = &mut self.jobs[job];
        assert_eq!(job.outcome, None, "second outcome {outcome} of {job:?}");
        job.outcome = Some(outcome);
    }

    fn carry_out(&mut self, effects: Effects<usize>) {
        for (job, error) in effects.failed {
            if error == JobError::DeadlineExceeded {
                let deadline = self.jobs[job].deadline.expect("a job without deadline cannot exceed it");
                assert!(deadline <= self.now, "expired before its deadline");
                self.settle(job, "expired");
            } else {
                self.settle(job, "failed");
            }
        }
        self.check_bounds();
    }

    fn check_bounds(&self) {
        let open: Vec<_> = self.jobs.iter().filter(|job| job.outcome.is_none()).collect();
        let snapshot = self.machine.snapshot(self.now);
        assert_eq!(snapshot.jobs, open.len(), "number of open jobs differs");
        assert!(open.len() <= QUEUE.max_jobs);
        for client in 0..4 {
            let own = open.iter().filter(|job| job.client == client).count();
            assert!(own <= QUEUE.max_jobs_per_client);
        }
        let images: BTreeSet<_> = open.iter().map(|job| job.image).collect();
        assert_eq!(snapshot.image_bytes, images.len() * IMAGE_BYTES);
        assert!(snapshot.image_bytes <= QUEUE.max_bytes);
    }

    fn submit(&mut self, spec: JobSpec, image: u8, question: u8) {
        let token = self.jobs.len();
        let mut effects = Effects::default();
        let deadline = spec.deadline;
        let open = self.jobs.iter().filter(|job| job.outcome.is_none()).count();
        match self.machine.submit(
            self.now,
            &spec,
            Arc::new(image),
            Arc::new((image, question)),
            token,
            &mut effects,
        ) {
            Ok(id) => {
                assert!(deadline.is_none_or(|deadline| deadline > self.now), "accepted although expired");
                let question = (image, question);
                self.jobs.push(Job { id, client: spec.client.0, image, question, deadline, outcome: None });
            }
            Err(SubmitError::QueueFull { .. }) => assert!(open >= QUEUE.max_jobs),
            Err(SubmitError::TooLate { .. }) => assert!(deadline.is_some()),
            Err(SubmitError::EngineDead(_)) => assert!(self.alive.is_empty()),
            Err(SubmitError::ClientShare { .. } | SubmitError::BytesFull { .. }) => {}
            Err(SubmitError::ShuttingDown) => panic!("scheduler is not closed"),
        }
        self.carry_out(effects);
    }

    fn pull(&mut self, engine: usize) {
        if self.running.contains_key(&engine) || !self.alive.contains(&engine) {
            return;
        }
        let mut effects = Effects::default();
        let batch = self.machine.next_batch(self.now, engine, &mut effects);
        self.carry_out(effects);
        let Some(batch) = batch else { return };
        let rows = self.check_batch(&batch);
        self.running.insert(engine, rows);
    }

    /// Checks a batch: it is within its limits, has no image or question twice, and no job that is
    /// expired, cancelled, answered or running on another engine.
    fn check_batch(&self, batch: &Batch<u8, Question>) -> Vec<Question> {
        let rows: Vec<Question> = batch.questions.iter().map(|row| *row.payload).collect();
        assert!(!rows.is_empty() && rows.len() <= LIMITS.max_questions);
        let images: BTreeSet<_> = batch.images.iter().map(|image| image.digest).collect();
        assert_eq!(images.len(), batch.images.len(), "image occurs twice in a batch");
        let longest = batch.questions.iter().map(|row| row.tokens as usize).max().unwrap();
        assert!(rows.len() == 1 || longest * rows.len() <= LIMITS.max_padded_tokens);
        for row in &batch.questions {
            assert_eq!(*batch.images[row.image].payload, row.payload.0, "question has a wrong image");
        }
        for (other, running) in &self.running {
            for (row, question) in running.iter().enumerate() {
                let is_computed = !self.machine.is_abandoned(*other, row);
                assert!(!(is_computed && rows.contains(question)), "question runs on two engines");
            }
        }
        for question in &rows {
            let mut waiting =
                self.jobs.iter().filter(|job| job.outcome.is_none() && job.question == *question);
            assert!(
                waiting.any(|job| job.deadline.is_none_or(|deadline| deadline > self.now)),
                "computed although no client waits for it"
            );
        }
        assert_eq!(
            rows.iter().collect::<BTreeSet<_>>().len(),
            rows.len(),
            "question occurs twice in a batch"
        );
        rows
    }

    fn finish(&mut self, engine: usize, row: usize) {
        let Some(rows) = self.running.get(&engine) else { return };
        let question = rows.get(row).copied();
        let abandoned = self.machine.is_abandoned(engine, row);
        let answered = self.machine.finish_row(self.now, engine, row);
        assert_eq!(abandoned, answered.is_empty(), "exactly the abandoned rows settle no job");
        for answered in answered {
            assert_eq!(self.jobs[answered.token].image, question.unwrap().0);
            self.settle(answered.token, "answered");
        }
        self.check_bounds();
    }

    fn end(&mut self, engine: usize, how: Option<EngineErrorKind>, steps: u32) {
        let Some(rows) = self.running.get(&engine).map(Vec::len) else { return };
        if how.is_none() {
            for row in 0..rows {
                self.finish(engine, row);
            }
        }
        self.running.remove(&engine);
        let mut effects = Effects::default();
        let result = how.map_or(Ok(()), |kind| Err(EngineError::new(kind, "made to fail")));
        self.machine.end_batch(self.now, engine, result, steps, &mut effects);
        self.carry_out(effects);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Submit { client, class, weight, image, question, tokens, allowance_ms } => {
                let spec = JobSpec {
                    client: ClientId(client),
                    priority: Priority::ALL[class],
                    weight,
                    deadline: allowance_ms.map(|ms| self.now + Duration::from_millis(ms)),
                    image_digest: [image; 32],
                    image_bytes: IMAGE_BYTES,
                    question_key: [question; 32],
                    tokens,
                    decode_steps: 0,
                };
                self.submit(spec, image, question);
            }
            Event::Cancel { which } => {
                if let Some(job) = self.jobs.get(which) {
                    let token = self.machine.cancel(job.id);
                    assert_eq!(token.is_some(), job.outcome.is_none(), "exactly open jobs can be cancelled");
                    if token.is_some() {
                        assert_eq!(token, Some(which));
                        self.settle(which, "cancelled");
                    }
                }
                self.check_bounds();
            }
            Event::Advance { ms } => {
                self.now += Duration::from_millis(ms);
                let mut effects = Effects::default();
                self.machine.tick(self.now, &mut effects);
                self.carry_out(effects);
                let late = self.jobs.iter().any(|job| {
                    job.outcome.is_none() && job.deadline.is_some_and(|deadline| deadline <= self.now)
                });
                assert!(!late, "expired job was not failed on time");
            }
            Event::Pull { engine } => self.pull(engine),
            Event::Finish { engine, row } => self.finish(engine, row),
            Event::FailRow { engine, row } => {
                let mut effects = Effects::default();
                let error = EngineError::new(EngineErrorKind::Row, "made to fail");
                self.machine.fail_row(engine, row, &error, &mut effects);
                self.carry_out(effects);
            }
            Event::End { engine, how, steps } => {
                self.now += Duration::from_millis(5);
                self.end(engine, how, steps);
            }
            Event::Panic { engine } => {
                if self.running.remove(&engine).is_some() {
                    let mut effects = Effects::default();
                    if self.machine.engine_panicked(engine, "made to panic", &mut effects) {
                        self.machine.engine_restarted(engine);
                    } else {
                        self.alive.remove(&engine);
                    }
                    self.carry_out(effects);
                }
            }
            Event::Cached { engine, image } => self.machine.image_cached(engine, [image; 32]),
            Event::Evicted { engine, image } => self.machine.image_evicted(engine, [image; 32]),
        }
    }

    /// Runs every engine until no job is left.
    fn drain(&mut self) {
        let mut effects = Effects::default();
        self.machine.close(&mut effects);
        self.carry_out(effects);
        for _ in 0..1000 {
            if self.machine.is_drained() {
                return;
            }
            for engine in self.alive.clone() {
                self.pull(engine);
                self.end(engine, None, 3);
            }
            self.now += Duration::from_millis(1);
        }
        panic!("not drained after 1000 rounds: {:?}", self.machine.snapshot(self.now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn every_job_has_one_outcome_and_limits_hold(
        engines in 1..4usize,
        max_batch_delay_ms in prop_oneof![3 => Just(0u64), 1 => 1..30u64],
        events in prop::collection::vec(events(), 1..220),
    ) {
        let mut checker = Checker::new(engines, max_batch_delay_ms);
        for event in events {
            checker.apply(event);
        }
        checker.drain();
        prop_assert!(checker.jobs.iter().all(|job| job.outcome.is_some()));
    }
}
