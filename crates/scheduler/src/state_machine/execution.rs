//! Events of an engine at work: it asks for a batch and reports rows and images.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Effects, StateMachine};
use crate::{
    cost::{BatchShape, JobCost, duration},
    engine::{Batch, BatchImage, BatchQuestion},
    ids::{ImageSlot, JobIndex},
    job::{ImageDigest, JobStage},
    state::engine_slot::{EnginePhase, RunningBatch},
};

/// Statistics of an answered job, as in [`Completion`](crate::Completion).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobStats {
    /// Time from submission to the start of the batch.
    pub queue: Duration,
    /// Time from the start of the batch, or from joining it, to the end of this row.
    pub engine: Duration,
    /// Distinct images in the batch.
    pub batch_images: u32,
    /// Questions in the batch.
    pub batch_questions: u32,
    /// Whether several jobs were answered by this row.
    pub is_shared: bool,
}

/// A job whose row is finished.
#[derive(Debug)]
pub struct FinishedJob<W> {
    /// The token of its submission.
    pub token: W,
    /// Its statistics.
    pub stats: JobStats,
}

impl<I, Q, W> StateMachine<I, Q, W> {
    /// Starts the best batch for a free engine. Returns none if the engine should wait for `wake`.
    pub fn next_batch(
        &mut self,
        now: Instant,
        engine: usize,
        effects: &mut Effects<W>,
    ) -> Option<Batch<I, Q>> {
        self.expire(now, effects);
        let slot = self.engines.get_mut(engine)?;
        if !slot.is_alive() {
            return None;
        }
        slot.hold_until = None;
        let max_rows = slot.limit.get().max_questions;
        let mut rows = if self.bisected_last { None } else { self.bisection.next(max_rows) };
        self.bisected_last = rows.is_some();
        if rows.is_none() {
            rows = self.plan(now, engine, effects);
        }
        if rows.is_none() {
            rows = self.bisection.next(max_rows);
            self.bisected_last = rows.is_some();
        }
        let batch = rows.and_then(|rows| self.start(now, engine, &rows));
        let stalls_at = now + self.config.stall_after;
        effects.rearm_timer |=
            batch.is_some() && self.deadlines.first().is_none_or(|(first, ..)| stalls_at < *first);
        if batch.is_none()
            && let Some(slot) = self.engines.get_mut(engine)
        {
            slot.phase = EnginePhase::Idle;
        }
        self.wake_other(engine, batch.is_some(), effects);
        batch
    }

    /// Asks the policy for a batch, and sets its infeasible jobs aside.
    fn plan(&mut self, now: Instant, engine: usize, effects: &mut Effects<W>) -> Option<Vec<JobIndex>> {
        let plan = self.view(now).plan_batch(engine, now, self.is_closing);
        for index in &plan.infeasible {
            self.leave_queue(*index);
            if let Some(job) = self.pending.get_mut(index.0 as usize) {
                self.metrics.infeasible.increment(1);
                job.stage = JobStage::Infeasible;
                self.infeasible.insert((job.position.due, *index));
            }
        }
        let slot = self.engines.get_mut(engine)?;
        slot.hold_until = plan.hold_until;
        effects.rearm_timer |= plan.hold_until.is_some();
        if plan.rows.is_empty() {
            return None;
        }
        slot.head_skips = if plan.is_head_skipped { slot.head_skips + 1 } else { 0 };
        Some(plan.rows)
    }

    /// Wakes another engine if jobs are left that it could take.
    fn wake_other(&mut self, engine: usize, has_batch: bool, effects: &mut Effects<W>) {
        if self.is_queue_empty() {
            return;
        }
        let idle: Vec<usize> = self
            .engines
            .iter()
            .enumerate()
            .filter(|(index, other)| *index != engine && other.phase == EnginePhase::Idle)
            .map(|(index, _)| index)
            .collect();
        let ready = idle.iter().copied().find(|index| self.images.ready(*index).next().is_some());
        // An engine that got no batch leaves images to the engines that have them cached.
        let chosen = ready.or_else(|| idle.first().copied().filter(|_| has_batch));
        self.wake(chosen, effects);
    }

    /// Builds a batch of pending jobs and marks them as running.
    fn start(&mut self, now: Instant, engine: usize, rows: &[JobIndex]) -> Option<Batch<I, Q>> {
        let mut batch = Batch { images: Vec::new(), questions: Vec::with_capacity(rows.len()) };
        let mut slots: Vec<ImageSlot> = Vec::new();
        let mut started = Vec::with_capacity(rows.len());
        let (mut encoded, mut longest, mut tokens, mut decode_steps) = (0, 0, 0, 0);
        for index in rows {
            let Some(job) = self.pending.get(index.0 as usize) else { continue };
            let known_images = slots.len();
            let image = match slots.iter().position(|slot| *slot == job.image) {
                Some(image) => image,
                None => {
                    let (Some(digest), Some(payload)) =
                        (self.images.digest(job.image), self.images.payload(job.image))
                    else {
                        continue;
                    };
                    if !self.images.is_cached(job.image, engine) {
                        encoded += 1;
                        let elsewhere = !self.images.warm(job.image).is_empty();
                        self.metrics.stolen.increment(u64::from(elsewhere));
                    }
                    slots.push(job.image);
                    batch.images.push(BatchImage { digest, payload });
                    slots.len() - 1
                }
            };
            let is_new = slots.len() > known_images;
            let encodes = is_new && !self.images.is_cached(job.image, engine);
            self.queue.charge(&job.position, self.job_cost.of_job(encodes));
            batch.questions.push(BatchQuestion {
                image,
                payload: Arc::clone(&job.question),
                tokens: job.tokens,
            });
            decode_steps += u64::from(job.decode_steps);
            longest = longest.max(job.tokens as usize);
            tokens += job.tokens as usize;
            for waiter in &job.waiters {
                self.metrics.queue_wait.record(now.saturating_duration_since(waiter.submitted));
            }
            self.leave_queue(*index);
            if let Some(job) = self.pending.get_mut(index.0 as usize) {
                job.stage = JobStage::Running { engine, row: started.len() };
            }
            started.push(Some(*index));
        }
        if started.is_empty() {
            return None;
        }
        for slot in &slots {
            self.images.encoding_started(engine, *slot);
        }
        let padded_tokens = longest * started.len();
        self.metrics.batch_images.record(slots.len() as f64);
        self.metrics.batch_encoded.record(encoded as f64);
        self.metrics.batch_questions.record(started.len() as f64);
        let most = self.engines.get(engine).map_or(1, |slot| slot.limit.get().max_questions.max(1));
        self.metrics.batch_fill.record(started.len() as f64 / most as f64);
        self.metrics.batch_padding.record(1.0 - tokens as f64 / padded_tokens.max(1) as f64);
        let predicted = self.model.is_calibrated().then(|| now + self.model.predict(encoded, started.len()));
        let slot = self.engines.get_mut(engine)?;
        slot.phase = EnginePhase::Running;
        slot.running = Some(RunningBatch {
            rows: started,
            images: slots,
            encoded,
            padded_tokens,
            decode_steps,
            finished: 0,
            started: now,
            predicted_end: predicted,
        });
        Some(batch)
    }

    /// Returns whether no client waits for a row.
    pub fn is_abandoned(&self, engine: usize, row: usize) -> bool {
        let running = self.engines.get(engine).and_then(|engine| engine.running.as_ref());
        running.and_then(|batch| batch.rows.get(row)).is_none_or(Option::is_none)
    }

    /// Settles the jobs of a row that has its answer, and returns them. Empty if none waits.
    pub fn finish_row(&mut self, now: Instant, engine: usize, row: usize) -> Vec<FinishedJob<W>> {
        let Some(batch) = self.engines.get_mut(engine).and_then(|engine| engine.running.as_mut()) else {
            return Vec::new();
        };
        let Some(index) = batch.rows.get_mut(row).and_then(Option::take) else { return Vec::new() };
        batch.finished += 1;
        let (started, images, questions) = (batch.started, batch.images.len(), batch.rows.len());
        let shared = self.pending.get(index.0 as usize).is_some_and(|job| job.is_shared);
        let waiters = self.complete(index);
        self.metrics.answered.increment(waiters.len() as u64);
        self.answered += waiters.len() as u64;
        waiters
            .into_iter()
            .map(|waiter| {
                self.settle(index, &waiter);
                let stats = JobStats {
                    queue: started.saturating_duration_since(waiter.submitted),
                    engine: now.saturating_duration_since(started.max(waiter.submitted)),
                    batch_images: images as u32,
                    batch_questions: questions as u32,
                    is_shared: shared,
                };
                FinishedJob { token: waiter.token, stats }
            })
            .collect()
    }

    /// Records that an engine has cached the features of an image.
    pub fn image_cached(&mut self, engine: usize, digest: ImageDigest) {
        let share = self.config.engines_share_features;
        for (index, slot) in self.engines.iter_mut().enumerate() {
            slot.reports_cached_images |= share || index == engine;
        }
        self.images.cached(engine, digest);
    }

    /// Records that an engine has evicted the features of an image.
    pub fn image_evicted(&mut self, engine: usize, digest: ImageDigest) {
        self.images.evicted(engine, digest);
    }

    /// Updates cost model, job cost and credit after a successful batch.
    pub(super) fn observe_batch(&mut self, now: Instant, batch: &RunningBatch, steps: u32) {
        let took = now.saturating_duration_since(batch.started);
        self.metrics.batch_time.record(took);
        let overdue = batch.predicted_end.is_some_and(|end| now > end);
        // Abandoned rows shorten a batch, so its time is ignored. A batch that is late nevertheless
        // is not ignored: otherwise nothing would correct a model that predicts too short times.
        if batch.finished < batch.rows.len() && !overdue {
            return;
        }
        if let Some(end) = batch.predicted_end {
            let predicted = end.saturating_duration_since(batch.started).as_secs_f64();
            self.metrics.prediction.record(took.as_secs_f64() / predicted.max(1e-9));
        }
        let shape = BatchShape {
            images: batch.encoded as f64,
            questions: batch.rows.len() as f64,
            steps: f64::from(steps),
        };
        let encoding = duration(self.model.coefficients().image * batch.encoded as f64);
        let target = self.config.max_shared_decode;
        self.decode_limit.observe(batch.decode_steps, took, encoding, target);
        self.model.observe(shape, took);
        self.job_cost = JobCost::from_model(&self.model, self.config.batch);
        self.queue.set_credit(self.job_cost.of_request());
    }
}
