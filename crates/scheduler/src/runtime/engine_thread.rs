//! The thread an engine lives on: take a batch, run it, hand back its rows, again.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use super::inner::Inner;
use crate::{
    engine::{Batch, Engine, EngineError, EngineErrorKind, EngineFactory, RowSink},
    job::ImageDigest,
};

/// Builds the engine, says how that went, and serves until the scheduler closes or the engine dies.
pub(crate) fn serve<E: Engine>(
    inner: &Inner<E>,
    index: usize,
    mut factory: EngineFactory<E>,
    ready: oneshot::Sender<Result<(), EngineError>>,
) {
    let mut engine = match build(&mut factory) {
        Ok(engine) => engine,
        Err(error) => {
            died(inner, index, error.clone());
            return drop(ready.send(Err(error)));
        }
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Some(batch) = inner.wait_for_batch(index) {
        let Err(panic) = run(inner, index, &mut engine, &batch) else {
            if inner.inspect(|machine| !machine.is_alive(index)) {
                return;
            }
            continue;
        };
        tracing::error!(engine = index, %panic, "engine panicked");
        let restart = inner.apply(|machine, _, effects| machine.engine_panicked(index, &panic, effects));
        inner.publish_state();
        if !restart {
            return;
        }
        // What a panic left behind is not to be trusted: the engine is built anew. One that panics
        // again while it is dropped is past saving, and not worth leaking the others' jobs for.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(engine)));
        match dropped.map_err(|panic| fatal(&message(panic.as_ref()))).and_then(|()| build(&mut factory)) {
            Ok(built) => engine = built,
            Err(error) => return died(inner, index, error),
        }
        inner.apply(|machine, _, _| machine.engine_restarted(index));
    }
}

fn died<E: Engine>(inner: &Inner<E>, index: usize, error: EngineError) {
    tracing::error!(engine = index, %error, "engine is dead");
    inner.apply(|machine, _, effects| machine.engine_died(index, error, effects));
    inner.publish_state();
}

fn fatal(panic: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Fatal, format!("engine panicked: {panic}"))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

fn build<E: Engine>(factory: &mut EngineFactory<E>) -> Result<E, EngineError> {
    catch_unwind(AssertUnwindSafe(factory)).unwrap_or_else(|panic| Err(fatal(&message(panic.as_ref()))))
}

/// Runs one batch.
///
/// # Errors
/// The message of the panic that ended it; the machine has not been told of the batch's end then.
fn run<E: Engine>(
    inner: &Inner<E>,
    index: usize,
    engine: &mut E,
    batch: &Batch<E::Image, E::Question>,
) -> Result<(), String> {
    let mut rows = RunningRows {
        inner,
        engine: index,
        steps: 0,
        seen: Cell::new(inner.rows_abandoned()),
        abandoned: RefCell::new(vec![false; batch.questions.len()]),
    };
    rows.refresh();
    let result = catch_unwind(AssertUnwindSafe(|| engine.run(batch, &mut rows)))
        .map_err(|panic| message(panic.as_ref()))?;
    if let Err(error) = &result {
        tracing::warn!(engine = index, kind = ?error.kind, %error, rows = batch.questions.len(), "batch failed");
    }
    let steps = rows.steps;
    inner.apply(|machine, now, effects| machine.end_batch(now, index, result, steps, effects));
    inner.publish_state();
    Ok(())
}

/// The rows of the batch that runs, as the engine sees them.
struct RunningRows<'a, E: Engine> {
    inner: &'a Inner<E>,
    engine: usize,
    steps: u32,
    /// The count of abandoned rows at which `abandoned` was true.
    seen: Cell<u64>,
    abandoned: RefCell<Vec<bool>>,
}

impl<E: Engine> RunningRows<'_, E> {
    fn refresh(&self) {
        self.inner.inspect(|machine| {
            self.seen.set(machine.rows_abandoned());
            for (row, abandoned) in self.abandoned.borrow_mut().iter_mut().enumerate() {
                *abandoned = machine.is_abandoned(self.engine, row);
            }
        });
    }
}

impl<E: Engine> RowSink<E::Answer> for RunningRows<'_, E> {
    fn finish(&mut self, row: usize, outcome: Result<E::Answer, EngineError>) {
        self.inner.finish_row(self.engine, row, outcome);
        if let Some(abandoned) = self.abandoned.borrow_mut().get_mut(row) {
            *abandoned = true;
        }
    }

    fn is_cancelled(&self, row: usize) -> bool {
        // The lock is taken only when some row somewhere was abandoned since.
        if self.inner.rows_abandoned() != self.seen.get() {
            self.refresh();
        }
        self.abandoned.borrow().get(row).copied().unwrap_or(true)
    }

    fn image_cached(&mut self, digest: ImageDigest, _bytes: usize) {
        self.inner.apply(|machine, _, _| machine.image_cached(self.engine, digest));
    }

    fn image_evicted(&mut self, digest: ImageDigest) {
        self.inner.apply(|machine, _, _| machine.image_evicted(self.engine, digest));
    }

    fn decode_steps(&mut self, steps: u32) {
        self.steps = steps;
    }
}
