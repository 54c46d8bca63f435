//! A job comes, leaves, or expires.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Effects, StateMachine};
use crate::{
    error::{JobError, SubmitError},
    ids::{ImageSlot, JobId, JobIndex},
    job::{ClientId, ImageDigest, JobStage, Priority},
    planning::admission::{self, IncomingJob},
    state::{
        engine_slot::EnginePhase,
        pending_job::{PendingJob, Waiter},
    },
};

/// What the machine must know of a job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Whom it is counted to.
    pub client: ClientId,
    /// Its class.
    pub priority: Priority,
    /// The client's weight.
    pub weight: u32,
    /// When its answer is worthless.
    pub deadline: Option<Instant>,
    /// Identity of its image.
    pub image_digest: ImageDigest,
    /// What the image takes in memory, in bytes.
    pub image_bytes: usize,
    /// Identity of its question and options.
    pub question_key: [u8; 32],
    /// Length of the question in tokens.
    pub tokens: u32,
}

impl<I, Q, W> StateMachine<I, Q, W> {
    /// Takes a job or refuses it.
    ///
    /// # Errors
    /// See [`SubmitError`]. Nothing has changed then.
    pub fn submit(
        &mut self,
        now: Instant,
        spec: &JobSpec,
        image: Arc<I>,
        question: Arc<Q>,
        token: W,
        effects: &mut Effects<W>,
    ) -> Result<JobId, SubmitError> {
        let joins = self
            .images
            .find(&spec.image_digest)
            .and_then(|slot| self.by_question.get(&(slot, spec.question_key)).copied());
        if let Err(refused) = self.admit(now, spec, joins.is_some()) {
            self.metrics.refused(&refused);
            return Err(refused);
        }
        self.metrics.admitted(spec.priority);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let waiter = Waiter {
            sequence,
            client: spec.client,
            class: spec.priority,
            weight: spec.weight,
            deadline: spec.deadline,
            submitted: now,
            token,
        };
        let job = match joins {
            Some(job) => {
                self.metrics.shared.increment(1);
                self.join(job, waiter);
                job
            }
            None => self.enqueue(spec, waiter, image, question, effects),
        };
        self.open_jobs += 1;
        *self.clients.entry(spec.client).or_default() += 1;
        if let Some(deadline) = spec.deadline {
            effects.rearm_timer |= self.deadlines.first().is_none_or(|(first, ..)| deadline < *first);
            self.deadlines.insert((deadline, sequence, job));
        }
        Ok(JobId { sequence, index: job })
    }

    fn admit(&self, now: Instant, spec: &JobSpec, joins: bool) -> Result<(), SubmitError> {
        if let Some(error) = &self.dead {
            return Err(SubmitError::EngineDead(error.clone()));
        }
        if self.is_closing {
            return Err(SubmitError::ShuttingDown);
        }
        if spec.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(SubmitError::TooLate { retry_after: Duration::ZERO });
        }
        let limits = self.config.queue;
        if self.open_jobs >= limits.max_jobs {
            return Err(SubmitError::QueueFull { limit: limits.max_jobs, retry_after: self.room_after(now) });
        }
        if self.clients.get(&spec.client).is_some_and(|jobs| *jobs >= limits.max_jobs_per_client) {
            let limit = limits.max_jobs_per_client;
            return Err(SubmitError::ClientShare { limit, retry_after: self.room_after(now) });
        }
        let bytes =
            self.images.bytes().saturating_add(self.images.added_bytes(&spec.image_digest, spec.image_bytes));
        if bytes > limits.max_bytes {
            return Err(SubmitError::BytesFull {
                limit: limits.max_bytes,
                retry_after: self.room_after(now),
            });
        }
        if joins { Ok(()) } else { self.admit_by_deadline(now, spec) }
    }

    fn admit_by_deadline(&self, now: Instant, spec: &JobSpec) -> Result<(), SubmitError> {
        let Some(deadline) = spec.deadline else { return Ok(()) };
        // An engine without work may as well try: it is also how a wrong model is corrected.
        let idle = self.open_jobs == 0;
        if idle || !self.config.reject_late_jobs || !self.model.is_calibrated() {
            return Ok(());
        }
        let slot = self.images.find(&spec.image_digest);
        let incoming = IncomingJob {
            class: spec.priority,
            client_jobs: self.queue.client_len(spec.priority, spec.client),
            encodes: slot.is_none_or(|slot| {
                self.images.warm(slot).is_empty() && self.images.waiting(slot).next().is_none()
            }),
        };
        let answered = now + self.load(now).time_to_answer(&self.model, &incoming);
        if answered > deadline {
            return Err(SubmitError::TooLate { retry_after: admission::retry_after(answered, deadline) });
        }
        Ok(())
    }

    /// When the first jobs will have left: after the batches that run, or after the next one.
    fn room_after(&self, now: Instant) -> Duration {
        if !self.model.is_calibrated() {
            return Duration::from_secs(1);
        }
        let limits = self.config.batch;
        let batch =
            self.model.predict(limits.max_images.min(self.images.cold_waiting()), limits.max_questions);
        let running = self.engines.iter().filter(|engine| engine.phase == EnginePhase::Running);
        let until_free = running.filter_map(|engine| engine.remaining(now)).min();
        until_free.unwrap_or(batch).max(Duration::from_millis(1))
    }

    /// One more waits for a job that exists.
    fn join(&mut self, index: JobIndex, waiter: Waiter<W>) {
        let Some(job) = self.pending.get_mut(index.0 as usize) else { return };
        job.is_shared = true;
        job.waiters.push(waiter);
        self.update_position(index);
    }

    /// A new job enters the queue.
    fn enqueue(
        &mut self,
        spec: &JobSpec,
        waiter: Waiter<W>,
        image: Arc<I>,
        question: Arc<Q>,
        effects: &mut Effects<W>,
    ) -> JobIndex {
        let slot = self.images.acquire(spec.image_digest, image, spec.image_bytes);
        let position = waiter.position(self.config.implicit_deadline);
        let index = JobIndex(self.pending.insert(PendingJob {
            image: slot,
            question,
            question_key: spec.question_key,
            tokens: spec.tokens,
            stage: JobStage::Queued,
            position,
            waiters: vec![waiter],
            is_shared: false,
        }) as u32);
        self.by_question.insert((slot, spec.question_key), index);
        self.queue.insert(&position, index, spec.tokens);
        self.images.start_waiting(slot, position.class, position.sequence, index);
        self.wake_for(slot, effects);
        index
    }

    /// Wakes the engine that should look at a new job: an idle one that has the image, else any idle one.
    fn wake_for(&mut self, slot: ImageSlot, effects: &mut Effects<W>) {
        let warm = self.images.warm(slot);
        let idle = |engine: &usize| {
            self.engines.get(*engine).is_some_and(|engine| engine.phase == EnginePhase::Idle)
        };
        let chosen = warm.iter().find(idle).or_else(|| (0..self.engines.len()).find(idle));
        self.wake(chosen, effects);
    }

    pub(super) fn wake(&mut self, engine: Option<usize>, effects: &mut Effects<W>) {
        if let Some(index) = engine
            && let Some(engine) = self.engines.get_mut(index)
        {
            engine.phase = EnginePhase::Notified;
            effects.wake.push(index);
        }
    }

    /// Takes a job back. Its token is given back to be dropped where no lock is held.
    pub fn cancel(&mut self, job: JobId) -> Option<W> {
        let stage = self.pending.get(job.index.0 as usize)?.stage;
        let waiter = self.take_waiter(job.index, job.sequence)?;
        self.metrics.cancelled(stage);
        Some(waiter.token)
    }

    /// Answers everything whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects<W>) {
        while let Some(&(deadline, sequence, job)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(stage) = self.pending.get(job.0 as usize).map(|job| job.stage) else {
                continue;
            };
            if let Some(waiter) = self.take_waiter(job, sequence) {
                self.metrics.expired(stage);
                effects.failed.push((waiter.token, JobError::DeadlineExceeded));
            }
        }
    }

    /// Takes one waiter off a job; the job ends with its last one.
    fn take_waiter(&mut self, index: JobIndex, sequence: u64) -> Option<Waiter<W>> {
        let job = self.pending.get_mut(index.0 as usize)?;
        let position = job.waiters.iter().position(|waiter| waiter.sequence == sequence)?;
        let waiter = job.waiters.swap_remove(position);
        let is_last = job.waiters.is_empty();
        self.settle(index, &waiter);
        if is_last {
            self.complete(index);
        } else {
            self.update_position(index);
        }
        Some(waiter)
    }

    /// A job has its outcome: it no longer counts.
    pub(super) fn settle(&mut self, job: JobIndex, waiter: &Waiter<W>) {
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, waiter.sequence, job));
        }
        self.open_jobs -= 1;
        if let Some(jobs) = self.clients.get_mut(&waiter.client) {
            *jobs -= 1;
            if *jobs == 0 {
                self.clients.remove(&waiter.client);
            }
        }
    }

    /// Takes a job out of every table, whatever its stage. Gives back those who still wait for it.
    pub(super) fn complete(&mut self, index: JobIndex) -> Vec<Waiter<W>> {
        self.leave_queue(index);
        let Some(job) = self.pending.try_remove(index.0 as usize) else { return Vec::new() };
        if let JobStage::Running { engine, row } = job.stage
            && let Some(batch) = self.engines.get_mut(engine).and_then(|engine| engine.running.as_mut())
            && batch.rows.get_mut(row).and_then(Option::take).is_some()
        {
            self.rows_abandoned += 1;
        }
        self.by_question.remove(&(job.image, job.question_key));
        drop(self.images.release(job.image));
        job.waiters
    }

    /// Takes a job out of whatever it waits in.
    pub(super) fn leave_queue(&mut self, index: JobIndex) {
        let Some(job) = self.pending.get(index.0 as usize) else { return };
        match job.stage {
            JobStage::Queued => {
                self.queue.remove(&job.position);
                self.images.stop_waiting(job.image, job.position.class, job.position.sequence, index);
            }
            JobStage::Infeasible => drop(self.infeasible.remove(&(job.position.due, index))),
            JobStage::Retry => self.bisection.remove(index),
            JobStage::Running { .. } => {}
        }
    }

    /// Moves a job to the best position that its waiters have now.
    fn update_position(&mut self, index: JobIndex) {
        let implicit_deadline = self.config.implicit_deadline;
        let Some(job) = self.pending.get(index.0 as usize) else { return };
        let Some(best) = job.best_position(implicit_deadline) else { return };
        let stays = match job.stage {
            JobStage::Queued => best == job.position,
            JobStage::Infeasible => false,
            JobStage::Retry | JobStage::Running { .. } => true,
        };
        if stays {
            return;
        }
        self.leave_queue(index);
        let Some(job) = self.pending.get_mut(index.0 as usize) else { return };
        job.position = best;
        // Whoever joined may have the time that the others had not.
        job.stage = JobStage::Queued;
        self.queue.insert(&best, index, job.tokens);
        self.images.start_waiting(job.image, best.class, best.sequence, index);
    }
}
