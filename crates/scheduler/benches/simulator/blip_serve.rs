//! The crate's own machine, with its default configuration and without knowing the service curve.

use std::sync::Arc;
use std::time::Duration;

use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{BatchLimits, ClientId, ImageDigest, Priority, QueueLimits, SchedulerConfig};
use tokio::time::Instant;

use crate::device::Run;
use crate::peers::{MAX_IMAGES, MAX_QUESTIONS, MAX_WAITING};
use crate::simulation::{Next, Policy};
use crate::trace::Arrival;

pub(crate) struct Ours<'a> {
    trace: &'a [Arrival],
    machine: StateMachine<(), usize, usize>,
    origin: Instant,
    effects: Effects<usize>,
}

fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    for (place, byte) in key.iter_mut().zip(number.to_le_bytes()) {
        *place = byte;
    }
    key
}

impl<'a> Ours<'a> {
    pub(crate) fn new(trace: &'a [Arrival]) -> Self {
        let config = SchedulerConfig {
            batch: BatchLimits {
                max_images: MAX_IMAGES,
                max_questions: MAX_QUESTIONS,
                ..BatchLimits::default()
            },
            queue: QueueLimits {
                max_jobs: MAX_WAITING + MAX_QUESTIONS,
                max_jobs_per_client: MAX_WAITING + MAX_QUESTIONS,
                ..QueueLimits::default()
            },
            ..SchedulerConfig::default()
        };
        Self {
            trace,
            machine: StateMachine::new(config, 1),
            origin: Instant::now(),
            effects: Effects::default(),
        }
    }
}

impl Policy for Ours<'_> {
    fn arrive(&mut self, now: Duration, job: usize) -> bool {
        let Some(arrival) = self.trace.get(job) else { return false };
        let spec = JobSpec {
            client: ClientId(arrival.client),
            priority: Priority::Normal,
            weight: 1,
            deadline: arrival.deadline.map(|deadline| self.origin + deadline),
            image_digest: key(arrival.image),
            image_bytes: 1,
            question_key: key(arrival.question),
            tokens: arrival.tokens,
        };
        let taken = self.machine.submit(
            self.origin + now,
            &spec,
            Arc::new(()),
            Arc::new(job),
            job,
            &mut self.effects,
        );
        taken.is_ok()
    }

    fn next(&mut self, now: Duration) -> Next {
        let batch = self.machine.next_batch(self.origin + now, 0, &mut self.effects);
        batch.map_or(Next::Nothing, |batch| {
            Next::Batch(batch.questions.iter().map(|question| *question.payload).collect())
        })
    }

    fn row_finished(&mut self, now: Duration, row: usize, _job: usize) -> Vec<usize> {
        let answered = self.machine.finish_row(self.origin + now, 0, row);
        answered.into_iter().map(|answered| answered.token).collect()
    }

    fn batch_finished(&mut self, now: Duration, run: &Run) {
        for image in &run.encoded {
            self.machine.image_cached(0, key(*image));
        }
        for image in &run.evicted {
            self.machine.image_evicted(0, key(*image));
        }
        self.machine.end_batch(self.origin + now, 0, Ok(()), run.steps, &mut self.effects);
    }

    fn timer(&self) -> Option<Duration> {
        self.machine.next_timer().map(|when| when - self.origin)
    }

    fn tick(&mut self, now: Duration) {
        self.machine.tick(self.origin + now, &mut self.effects);
        self.effects = Effects::default();
    }
}
