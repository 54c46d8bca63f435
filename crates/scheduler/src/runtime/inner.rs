//! The state that the public handle, the engine threads and the timer share.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::engine_waiters::EngineWaiters;
use crate::{
    engine::{Batch, Engine, EngineError},
    engine_state::EngineState,
    error::JobError,
    ids::JobId,
    job::Completion,
    state_machine::{Effects, FinishedJob, StateMachine},
    ticket::{Cancel, CompletionSender},
};

pub(crate) type CompletionSenderOf<E> = CompletionSender<<E as Engine>::Answer>;
pub(crate) type StateMachineOf<E> =
    StateMachine<<E as Engine>::Image, <E as Engine>::Question, CompletionSenderOf<E>>;

/// The state machine with its lock, and the channels of timer and engine state.
pub(crate) struct Inner<E: Engine> {
    waiters: EngineWaiters<StateMachineOf<E>>,
    /// Copy of the state machine's count, readable without the lock.
    rows_abandoned: AtomicU64,
    pub(crate) timer: Notify,
    pub(crate) engine_state: watch::Sender<EngineState>,
}

impl<E: Engine> Inner<E> {
    pub(crate) fn new(machine: StateMachineOf<E>, engines: usize) -> Self {
        Self {
            waiters: EngineWaiters::new(machine, engines),
            rows_abandoned: AtomicU64::new(0),
            timer: Notify::new(),
            engine_state: watch::channel(EngineState::Ready).0,
        }
    }

    /// Applies an event to the state machine, then carries out its effects without the lock.
    pub(crate) fn apply<T>(
        &self,
        event: impl FnOnce(&mut StateMachineOf<E>, Instant, &mut Effects<CompletionSenderOf<E>>) -> T,
    ) -> T {
        let mut effects = Effects::default();
        let result = {
            let mut machine = self.waiters.lock();
            let result = event(&mut machine, Instant::now(), &mut effects);
            self.rows_abandoned.store(machine.rows_abandoned(), Ordering::Release);
            result
        };
        self.carry_out(effects);
        result
    }

    /// Reads the state machine.
    pub(crate) fn inspect<T>(&self, read: impl FnOnce(&StateMachineOf<E>) -> T) -> T {
        read(&self.waiters.lock())
    }

    fn carry_out(&self, effects: Effects<CompletionSenderOf<E>>) {
        for engine in effects.wake {
            self.waiters.notify(engine);
        }
        for (sender, error) in effects.failed {
            send::<E>(sender, Err(error));
        }
        if effects.rearm_timer {
            self.timer.notify_one();
        }
    }

    /// Blocks an engine's thread until a batch is ready. Returns none if the engine should stop.
    pub(crate) fn wait_for_batch(&self, engine: usize) -> Option<Batch<E::Image, E::Question>> {
        loop {
            let (batch, effects, is_finished) = self.waiters.wait_until(engine, |machine| {
                let mut effects = Effects::default();
                let batch = machine.next_batch(Instant::now(), engine, &mut effects);
                self.rows_abandoned.store(machine.rows_abandoned(), Ordering::Release);
                let is_finished = batch.is_none() && machine.is_finished();
                let found = batch.is_some() || is_finished || !effects.is_empty();
                found.then_some((batch, effects, is_finished))
            })?;
            self.carry_out(effects);
            if batch.is_some() || is_finished {
                return batch;
            }
        }
    }

    pub(crate) fn finish_row(&self, engine: usize, row: usize, outcome: Result<E::Answer, EngineError>) {
        match outcome {
            Ok(value) => {
                let finished = self.apply(|machine, now, _| machine.finish_row(now, engine, row));
                for FinishedJob { token, stats } in finished {
                    let completion = Completion {
                        answer: value.clone(),
                        queue: stats.queue,
                        engine: stats.engine,
                        batch_images: stats.batch_images,
                        batch_questions: stats.batch_questions,
                        is_shared: stats.is_shared,
                    };
                    send::<E>(token, Ok(completion));
                }
            }
            Err(error) => {
                self.apply(|machine, _, effects| machine.fail_row(engine, row, &error, effects));
            }
        }
    }

    /// A count that grows when a running row is abandoned.
    pub(crate) fn rows_abandoned(&self) -> u64 {
        self.rows_abandoned.load(Ordering::Acquire)
    }

    pub(crate) fn publish_state(&self) {
        let state = self.inspect(StateMachineOf::<E>::engine_state);
        self.engine_state.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        });
    }

    pub(crate) fn close(&self) {
        self.apply(|machine, _, effects| machine.close(effects));
    }
}

/// Sends a result. Ignores that the client may have dropped its ticket.
fn send<E: Engine>(sender: CompletionSenderOf<E>, outcome: Result<Completion<E::Answer>, JobError>) {
    drop(sender.send(outcome));
}

impl<E: Engine> Cancel for Inner<E> {
    fn cancel(&self, job: JobId) {
        drop(self.apply(|machine, _, _| machine.cancel(job)));
    }
}
