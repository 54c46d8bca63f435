//! Events at the end of a batch: success, failure, panic, and the death of an engine.

use tokio::time::Instant;

use super::{Effects, StateMachine};
use crate::{
    engine::{EngineError, EngineErrorKind},
    error::JobError,
    ids::JobIndex,
    job::JobStage,
    metrics,
    state::engine_slot::{EnginePhase, RunningBatch},
};

impl<I, Q, W> StateMachine<I, Q, W> {
    /// Ends an engine's batch, which took `steps` decode steps.
    ///
    /// An error applies to all rows that are still open.
    pub fn end_batch(
        &mut self,
        now: Instant,
        engine: usize,
        result: Result<(), EngineError>,
        steps: u32,
        effects: &mut Effects<W>,
    ) {
        self.expire(now, effects);
        let Some(batch) = self.take_batch(engine) else { return };
        let kind = result.as_ref().err().map(|error| error.kind);
        self.metrics.batch_ended(metrics::result_label(kind));
        self.failed_batches += u64::from(kind.is_some());
        let open: Vec<JobIndex> = batch.rows.iter().flatten().copied().collect();
        match result {
            Ok(()) => {
                self.observe_batch(now, &batch, steps);
                if let Some(slot) = self.engines.get_mut(engine) {
                    slot.limit.recover();
                    slot.panics = 0;
                }
                let error = EngineError::new(EngineErrorKind::Row, "engine left the row without an outcome");
                self.fail(&open, &error, effects);
            }
            Err(error) => match error.kind {
                EngineErrorKind::Row | EngineErrorKind::Batch => {
                    self.fail_or_bisect(open, batch.rows.len(), &error, effects);
                }
                EngineErrorKind::OutOfMemory => {
                    if let Some(slot) = self.engines.get_mut(engine) {
                        slot.limit.lower(batch.encoded, batch.rows.len(), batch.padded_tokens);
                    }
                    self.fail_or_bisect(open, batch.rows.len(), &error, effects);
                }
                EngineErrorKind::Fatal => {
                    self.fail(&open, &error, effects);
                    self.engine_died(engine, error, effects);
                }
            },
        }
        if let Some(slot) = self.engines.get_mut(engine)
            && slot.is_alive()
        {
            slot.phase = EnginePhase::Notified;
        }
        effects.rearm_timer = true;
    }

    /// Fails the rows of an engine that panicked. Returns whether the engine should be rebuilt.
    ///
    /// Returns false if it has reached the maximum number of panics. It is dead then.
    pub fn engine_panicked(&mut self, engine: usize, message: &str, effects: &mut Effects<W>) -> bool {
        let error = EngineError::new(EngineErrorKind::Fatal, format!("engine panicked: {message}"));
        self.metrics.batch_ended("panic");
        self.failed_batches += 1;
        if let Some(batch) = self.take_batch(engine) {
            let open: Vec<JobIndex> = batch.rows.iter().flatten().copied().collect();
            self.fail(&open, &error, effects);
        }
        self.images.all_evicted(engine);
        let max_panics = self.config.max_panics;
        let Some(slot) = self.engines.get_mut(engine) else { return false };
        slot.panics += 1;
        slot.phase = EnginePhase::Restarting;
        if slot.panics >= max_panics {
            self.engine_died(engine, error, effects);
            return false;
        }
        true
    }

    /// Marks an engine as dead. If it is the last one, all pending jobs fail.
    pub fn engine_died(&mut self, engine: usize, error: EngineError, effects: &mut Effects<W>) {
        self.images.all_evicted(engine);
        if let Some(slot) = self.engines.get_mut(engine) {
            slot.phase = EnginePhase::Dead;
            slot.hold_until = None;
        }
        let alive = self.engines.iter().filter(|slot| slot.is_alive()).count();
        if alive == 0 {
            let all: Vec<JobIndex> = self.pending.iter().map(|(index, _)| JobIndex(index as u32)).collect();
            self.fail(&all, &error, effects);
            self.dead = Some(error);
            effects.rearm_timer = true;
        } else {
            // Another engine takes the work that this one was woken for.
            self.wake_any(effects);
        }
    }

    /// Records that an engine was rebuilt.
    pub fn engine_restarted(&mut self, engine: usize) {
        self.metrics.restarts.increment(1);
        if let Some(slot) = self.engines.get_mut(engine) {
            slot.phase = EnginePhase::Notified;
        }
    }

    fn wake_any(&mut self, effects: &mut Effects<W>) {
        let idle = self.engines.iter().position(|slot| slot.phase == EnginePhase::Idle);
        self.wake(idle, effects);
    }

    fn take_batch(&mut self, engine: usize) -> Option<RunningBatch> {
        let slot = self.engines.get_mut(engine)?;
        slot.is_stalled = false;
        let batch = slot.running.take()?;
        for image in &batch.images {
            self.images.encoding_ended(engine, *image);
        }
        Some(batch)
    }

    /// Handles the open rows of a failed batch: a single row fails, several rows are bisected.
    fn fail_or_bisect(
        &mut self,
        open: Vec<JobIndex>,
        batch_rows: usize,
        error: &EngineError,
        effects: &mut Effects<W>,
    ) {
        if batch_rows <= 1 {
            self.fail(&open, error, effects);
            return;
        }
        for index in &open {
            if let Some(job) = self.pending.get_mut(index.0 as usize) {
                job.stage = JobStage::Retry;
            }
        }
        if !open.is_empty() {
            self.metrics.bisected.increment(1);
            self.bisection.split(open);
            self.wake_any(effects);
        }
    }

    /// Fails one row of a running batch. The batch continues.
    pub fn fail_row(&mut self, engine: usize, row: usize, error: &EngineError, effects: &mut Effects<W>) {
        let Some(batch) = self.engines.get_mut(engine).and_then(|slot| slot.running.as_mut()) else { return };
        if let Some(index) = batch.rows.get_mut(row).and_then(Option::take) {
            batch.finished += 1;
            self.fail(&[index], error, effects);
        }
    }

    fn fail(&mut self, jobs: &[JobIndex], error: &EngineError, effects: &mut Effects<W>) {
        for index in jobs {
            for waiter in self.complete(*index) {
                self.settle(*index, &waiter);
                self.metrics.failed(error.kind);
                effects.failed.push((waiter.token, JobError::Engine(error.clone())));
            }
        }
    }
}
