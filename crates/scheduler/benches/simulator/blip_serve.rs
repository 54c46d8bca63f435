//! The policy of this crate, with default settings and without knowledge of the device.

use std::sync::Arc;
use std::time::Duration;

use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{BatchLimits, ClientId, Priority, QueueLimits, SchedulerConfig};
use tokio::time::Instant;

use crate::{
    device::BatchRun,
    fifo::{MAX_IMAGES, MAX_QUESTIONS, MAX_WAITING},
    simulation::{Next, Policy},
    traffic::Arrival,
};

/// The state machine, whose times are counted from `origin`.
pub(crate) struct BlipServe<'a> {
    trace: &'a [Arrival],
    machine: StateMachine<(), usize, usize>,
    origin: Instant,
    effects: Effects<usize>,
}

/// Returns a number as a digest.
fn digest(number: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    for (target, byte) in digest.iter_mut().zip(number.to_le_bytes()) {
        *target = byte;
    }
    digest
}

impl<'a> BlipServe<'a> {
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
        let machine = StateMachine::new(config, 1);
        Self { trace, machine, origin: Instant::now(), effects: Effects::default() }
    }
}

impl Policy for BlipServe<'_> {
    fn arrive(&mut self, now: Duration, job: usize) -> bool {
        let Some(arrival) = self.trace.get(job) else { return false };
        let spec = JobSpec {
            client: ClientId(arrival.client),
            priority: Priority::Normal,
            weight: 1,
            deadline: arrival.deadline.map(|deadline| self.origin + deadline),
            image_digest: digest(arrival.image),
            image_bytes: 1,
            question_key: digest(arrival.question),
            tokens: arrival.tokens,
            decode_steps: 0,
        };
        let submitted = self.machine.submit(
            self.origin + now,
            &spec,
            Arc::new(()),
            Arc::new(job),
            job,
            &mut self.effects,
        );
        submitted.is_ok()
    }

    fn next(&mut self, now: Duration) -> Next {
        let batch = self.machine.next_batch(self.origin + now, 0, &mut self.effects);
        batch.map_or(Next::Nothing, |batch| {
            Next::Batch(batch.questions.iter().map(|question| *question.payload).collect())
        })
    }

    fn row_finished(&mut self, now: Duration, row: usize, _job: usize) -> Vec<usize> {
        let finished = self.machine.finish_row(self.origin + now, 0, row);
        finished.into_iter().map(|job| job.token).collect()
    }

    fn batch_finished(&mut self, now: Duration, run: &BatchRun) {
        for image in &run.encoded {
            self.machine.image_cached(0, digest(*image));
        }
        for image in &run.evicted {
            self.machine.image_evicted(0, digest(*image));
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
