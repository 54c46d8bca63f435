//! What the handle, the engine threads and the timer share: the machine behind its gate.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::engine_waiters::Gate;
use crate::{
    engine::{Batch, Engine, EngineError},
    engine_state::EngineState,
    error::JobError,
    ids::JobId,
    job::Done,
    state_machine::{Answered, Effects, Machine},
    ticket::{Cancel, Reply},
};

pub(crate) type Asker<E> = Reply<<E as Engine>::Answer>;
pub(crate) type MachineOf<E> = Machine<<E as Engine>::Image, <E as Engine>::Question, Asker<E>>;

pub(crate) struct Shared<E: Engine> {
    gate: Gate<MachineOf<E>>,
    /// Copy of the machine's count, to be looked at without the lock.
    rows_abandoned: AtomicU64,
    pub(crate) timer: Notify,
    pub(crate) health: watch::Sender<EngineState>,
}

impl<E: Engine> Shared<E> {
    pub(crate) fn new(machine: MachineOf<E>, engines: usize) -> Self {
        Self {
            gate: Gate::new(machine, engines),
            rows_abandoned: AtomicU64::new(0),
            timer: Notify::new(),
            health: watch::channel(EngineState::Ready).0,
        }
    }

    /// Tells the machine of an event and carries out what follows from it, outside of the lock.
    pub(crate) fn event<T>(
        &self,
        event: impl FnOnce(&mut MachineOf<E>, Instant, &mut Effects<Asker<E>>) -> T,
    ) -> T {
        let mut effects = Effects::default();
        let result = {
            let mut machine = self.gate.lock();
            let result = event(&mut machine, Instant::now(), &mut effects);
            self.rows_abandoned.store(machine.rows_abandoned(), Ordering::Release);
            result
        };
        self.carry_out(effects);
        result
    }

    /// Looks at the machine.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&MachineOf<E>) -> T) -> T {
        look(&self.gate.lock())
    }

    fn carry_out(&self, effects: Effects<Asker<E>>) {
        for engine in effects.wake {
            self.gate.ring(engine);
        }
        for (asker, error) in effects.failed {
            answer::<E>(asker, Err(error));
        }
        if effects.rearm {
            self.timer.notify_one();
        }
    }

    /// Blocks an engine's thread until there is a batch for it; none when it should end.
    pub(crate) fn wait_for_batch(&self, engine: usize) -> Option<Batch<E::Image, E::Question>> {
        loop {
            let (batch, effects, over) = self.gate.wait_until(engine, |machine| {
                let mut effects = Effects::default();
                let batch = machine.next_batch(Instant::now(), engine, &mut effects);
                self.rows_abandoned.store(machine.rows_abandoned(), Ordering::Release);
                let over = batch.is_none() && machine.is_over();
                let found = batch.is_some() || over || !effects.is_empty();
                found.then_some((batch, effects, over))
            })?;
            self.carry_out(effects);
            if batch.is_some() || over {
                return batch;
            }
        }
    }

    pub(crate) fn finish_row(&self, engine: usize, row: usize, outcome: Result<E::Answer, EngineError>) {
        match outcome {
            Ok(value) => {
                let answered = self.event(|machine, now, _| machine.finish_row(now, engine, row));
                for Answered { token, ledger } in answered {
                    let done = Done {
                        answer: value.clone(),
                        queue: ledger.queue,
                        engine: ledger.engine,
                        batch_images: ledger.batch_images,
                        batch_questions: ledger.batch_questions,
                        shared: ledger.shared,
                    };
                    answer::<E>(token, Ok(done));
                }
            }
            Err(error) => {
                self.event(|machine, _, effects| machine.fail_row(engine, row, &error, effects));
            }
        }
    }

    /// Grows whenever a row that runs is abandoned.
    pub(crate) fn rows_abandoned(&self) -> u64 {
        self.rows_abandoned.load(Ordering::Acquire)
    }

    pub(crate) fn report_health(&self) {
        let state = self.look(MachineOf::<E>::health);
        self.health.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        });
    }

    pub(crate) fn close(&self) {
        self.event(|machine, _, effects| machine.close(effects));
    }
}

/// Sends an outcome. Nobody listens when the asker left a moment ago, and that is fine.
fn answer<E: Engine>(asker: Asker<E>, outcome: Result<Done<E::Answer>, JobError>) {
    drop(asker.send(outcome));
}

impl<E: Engine> Cancel for Shared<E> {
    fn cancel(&self, job: JobId) {
        drop(self.event(|machine, _, _| machine.cancel(job)));
    }
}
