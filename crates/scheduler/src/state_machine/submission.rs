//! Events of a job: it arrives, is cancelled, or expires.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Effects, StateMachine};
use crate::{
    error::{JobError, SubmitError},
    ids::{ImageSlot, JobId, JobIndex},
    job::{ClientId, ImageDigest, JobStage, Priority},
    planning::{
        admission::{self, IncomingJob},
        queue_room::QueueRoom,
    },
    state::{
        engine_slot::EnginePhase,
        pending_job::{PendingJob, Waiter},
    },
};

/// A job without its payloads. The fields are those of [`Job`](crate::Job).
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Who the job is charged to.
    pub client: ClientId,
    /// The class.
    pub priority: Priority,
    /// The client's weight among the clients of the class.
    pub weight: u32,
    /// When the job expires.
    pub deadline: Option<Instant>,
    /// Identifies the image.
    pub image_digest: ImageDigest,
    /// Memory of the image in bytes.
    pub image_bytes: usize,
    /// Identifies the question's text and options.
    pub question_key: [u8; 32],
    /// Length of the question in tokens.
    pub tokens: u32,
    /// Decoder steps of all its hypotheses together, at most.
    pub decode_steps: u32,
}

impl<I, Q, W> StateMachine<I, Q, W> {
    /// Accepts a job or rejects it. The outcome is returned later with `token`.
    ///
    /// # Errors
    /// See [`SubmitError`]. The state does not change then.
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
        let image_bytes = self.images.added_bytes(&spec.image_digest, spec.image_bytes);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let waiter = Waiter {
            sequence,
            client: spec.client,
            class: spec.priority,
            weight: spec.weight,
            deadline: spec.deadline,
            submitted: now,
            image_bytes,
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
        self.clients.add(spec.client, image_bytes);
        self.contention.submitted(now, spec.client);
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
        let room = QueueRoom { limits: self.config.queue, jobs: self.open_jobs, bytes: self.images.bytes() };
        let client = self.clients.get(spec.client);
        let more_bytes = self.images.added_bytes(&spec.image_digest, spec.image_bytes);
        room.admit(spec.weight, client, more_bytes, || self.time_until_space(now))?;
        if joins { Ok(()) } else { self.admit_by_deadline(now, spec) }
    }

    fn admit_by_deadline(&self, now: Instant, spec: &JobSpec) -> Result<(), SubmitError> {
        let Some(deadline) = spec.deadline else { return Ok(()) };
        // An idle engine may try: this also corrects a model that is wrong.
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

    /// Expected time until the first jobs have left: the end of the running or of the next batch.
    fn time_until_space(&self, now: Instant) -> Duration {
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

    /// Adds a waiter to a pending job.
    fn join(&mut self, index: JobIndex, waiter: Waiter<W>) {
        let Some(job) = self.pending.get_mut(index.0 as usize) else { return };
        job.is_shared = true;
        job.waiters.push(waiter);
        self.update_position(index);
    }

    /// Creates a pending job and queues it.
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
            decode_steps: spec.decode_steps,
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

    /// Wakes an idle engine for a new job, preferably one that has the image cached.
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

    /// Cancels a job and returns its token, for the caller to drop without a lock.
    pub fn cancel(&mut self, job: JobId) -> Option<W> {
        let stage = self.pending.get(job.index.0 as usize)?.stage;
        let waiter = self.take_waiter(job.index, job.sequence)?;
        self.metrics.cancelled(stage);
        Some(waiter.token)
    }

    /// Fails all jobs whose deadline has passed.
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

    /// Removes one waiter from a pending job. Without waiters, the pending job is removed.
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

    /// Removes a settled job from the counts.
    pub(super) fn settle(&mut self, job: JobIndex, waiter: &Waiter<W>) {
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, waiter.sequence, job));
        }
        self.open_jobs -= 1;
        self.clients.remove(waiter.client, waiter.image_bytes);
    }

    /// Removes a pending job from every table, whatever its stage. Returns its waiters.
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

    /// Removes a pending job from the queue of its stage.
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

    /// Moves a pending job to the best position of its current waiters.
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
        // A waiter that joined may have more time than the others.
        job.stage = JobStage::Queued;
        self.queue.insert(&best, index, job.tokens);
        self.images.start_waiting(job.image, best.class, best.sequence, index);
    }
}
