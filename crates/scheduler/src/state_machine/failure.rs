//! Batches that end, well or badly, and engines that die.

use tokio::time::Instant;

use super::{Effects, Machine};
use crate::{
    engine::{EngineError, EngineErrorKind},
    error::JobError,
    ids::FlightId,
    job::Stage,
    metrics,
    state::engine_slot::{Phase, RunningBatch},
};

impl<I, Q, W> Machine<I, Q, W> {
    /// An engine's batch has ended after so many decode steps. Rows that are still open share the error.
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
        self.telemetry.batch_ended(metrics::result_label(kind));
        self.failed_batches += u64::from(kind.is_some());
        let open: Vec<FlightId> = batch.rows.iter().flatten().copied().collect();
        match result {
            Ok(()) => {
                self.learn(now, &batch, steps);
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
            slot.phase = Phase::Called;
        }
        effects.rearm = true;
    }

    /// An engine panicked in its batch; it has to be built anew. False when it has panicked too
    /// often and is dead.
    pub fn engine_panicked(&mut self, engine: usize, message: &str, effects: &mut Effects<W>) -> bool {
        let error = EngineError::new(EngineErrorKind::Fatal, format!("engine panicked: {message}"));
        self.telemetry.batch_ended("panic");
        self.failed_batches += 1;
        if let Some(batch) = self.take_batch(engine) {
            let open: Vec<FlightId> = batch.rows.iter().flatten().copied().collect();
            self.fail(&open, &error, effects);
        }
        self.images.all_evicted(engine);
        let max_panics = self.config.max_panics;
        let Some(slot) = self.engines.get_mut(engine) else { return false };
        slot.panics += 1;
        slot.phase = Phase::Restarting;
        if slot.panics >= max_panics {
            self.engine_died(engine, error, effects);
            return false;
        }
        true
    }

    /// An engine will not work again. With the last one all jobs that wait have failed.
    pub fn engine_died(&mut self, engine: usize, error: EngineError, effects: &mut Effects<W>) {
        self.images.all_evicted(engine);
        if let Some(slot) = self.engines.get_mut(engine) {
            slot.phase = Phase::Dead;
            slot.hold_until = None;
        }
        let alive = self.engines.iter().filter(|slot| slot.is_alive()).count();
        if alive == 0 {
            let all: Vec<FlightId> = self.flights.iter().map(|(id, _)| FlightId(id as u32)).collect();
            self.fail(&all, &error, effects);
            self.dead = Some(error);
            effects.rearm = true;
        } else {
            // What it was called for is for another to do.
            self.call_anyone(effects);
        }
    }

    /// An engine has been built anew.
    pub fn engine_restarted(&mut self, engine: usize) {
        self.telemetry.restarts.increment(1);
        if let Some(slot) = self.engines.get_mut(engine) {
            slot.phase = Phase::Called;
        }
    }

    fn call_anyone(&mut self, effects: &mut Effects<W>) {
        let idle = self.engines.iter().position(|slot| slot.phase == Phase::Idle);
        self.call(idle, effects);
    }

    fn take_batch(&mut self, engine: usize) -> Option<RunningBatch> {
        let slot = self.engines.get_mut(engine)?;
        slot.stalled = false;
        let batch = slot.running.take()?;
        for image in &batch.images {
            self.images.encoding_ended(engine, *image);
        }
        Some(batch)
    }

    /// Of a batch that failed as a whole: a row that was alone is guilty, others are tried again in halves.
    fn fail_or_bisect(
        &mut self,
        open: Vec<FlightId>,
        batch_rows: usize,
        error: &EngineError,
        effects: &mut Effects<W>,
    ) {
        if batch_rows <= 1 {
            self.fail(&open, error, effects);
            return;
        }
        for id in &open {
            if let Some(flight) = self.flights.get_mut(id.0 as usize) {
                flight.stage = Stage::Retry;
            }
        }
        if !open.is_empty() {
            self.telemetry.bisected.increment(1);
            self.bisection.split(open);
            self.call_anyone(effects);
        }
    }

    /// Rows end with an error of their own; gives back those who waited. The batch goes on.
    pub fn fail_row(&mut self, engine: usize, row: usize, error: &EngineError, effects: &mut Effects<W>) {
        let Some(batch) = self.engines.get_mut(engine).and_then(|slot| slot.running.as_mut()) else { return };
        if let Some(id) = batch.rows.get_mut(row).and_then(Option::take) {
            batch.finished += 1;
            self.fail(&[id], error, effects);
        }
    }

    fn fail(&mut self, flights: &[FlightId], error: &EngineError, effects: &mut Effects<W>) {
        for id in flights {
            for waiter in self.land(*id) {
                self.settle(*id, &waiter);
                self.telemetry.failed(error.kind);
                effects.failed.push((waiter.token, JobError::Engine(error.clone())));
            }
        }
    }
}
