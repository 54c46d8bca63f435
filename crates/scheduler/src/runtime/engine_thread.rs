//! The thread of an engine: it takes a batch, runs it, and reports its rows, in a loop.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use super::inner::Inner;
use crate::{
    engine::{Batch, Engine, EngineError, EngineErrorKind, EngineFactory, RowSink},
    job::ImageDigest,
};

/// Builds the engine, reports the result to `ready`, and runs batches.
///
/// Returns when the scheduler is closed or the engine is dead.
pub(crate) fn serve<E: Engine>(
    inner: &Inner<E>,
    index: usize,
    mut factory: EngineFactory<E>,
    ready: oneshot::Sender<Result<(), EngineError>>,
) {
    let mut engine = match build(&mut factory) {
        Ok(engine) => engine,
        Err(error) => {
            report_death(inner, index, error.clone());
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
        let is_rebuilt = inner.apply(|machine, _, effects| machine.engine_panicked(index, &panic, effects));
        inner.publish_state();
        if !is_rebuilt {
            return;
        }
        // A panic can leave the engine in an invalid state, so the factory builds it again. If the
        // drop panics too, the engine is dead, and the jobs are settled nevertheless.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(engine)));
        match dropped
            .map_err(|panic| panic_error(&panic_message(panic.as_ref())))
            .and_then(|()| build(&mut factory))
        {
            Ok(built) => engine = built,
            Err(error) => return report_death(inner, index, error),
        }
        inner.apply(|machine, _, _| machine.engine_restarted(index));
    }
}

fn report_death<E: Engine>(inner: &Inner<E>, index: usize, error: EngineError) {
    tracing::error!(engine = index, %error, "engine died");
    inner.apply(|machine, _, effects| machine.engine_died(index, error, effects));
    inner.publish_state();
}

fn panic_error(panic: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Fatal, format!("engine panicked: {panic}"))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

fn build<E: Engine>(factory: &mut EngineFactory<E>) -> Result<E, EngineError> {
    catch_unwind(AssertUnwindSafe(factory))
        .unwrap_or_else(|panic| Err(panic_error(&panic_message(panic.as_ref()))))
}

/// Runs one batch.
///
/// # Errors
/// Returns the message if the engine panics. The state machine does not know of the batch's end
/// then.
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
        known_count: Cell::new(inner.rows_abandoned()),
        abandoned: RefCell::new(vec![false; batch.questions.len()]),
    };
    rows.refresh();
    let result = catch_unwind(AssertUnwindSafe(|| engine.run(batch, &mut rows)))
        .map_err(|panic| panic_message(panic.as_ref()))?;
    if let Err(error) = &result {
        tracing::warn!(engine = index, kind = ?error.kind, %error, rows = batch.questions.len(), "batch failed");
    }
    let steps = rows.steps;
    inner.apply(|machine, now, effects| machine.end_batch(now, index, result, steps, effects));
    inner.publish_state();
    Ok(())
}

/// The engine's view of the rows of its batch.
struct RunningRows<'a, E: Engine> {
    inner: &'a Inner<E>,
    engine: usize,
    steps: u32,
    /// The value of `Inner::rows_abandoned` at the last update of `abandoned`.
    known_count: Cell<u64>,
    abandoned: RefCell<Vec<bool>>,
}

impl<E: Engine> RunningRows<'_, E> {
    fn refresh(&self) {
        self.inner.inspect(|machine| {
            self.known_count.set(machine.rows_abandoned());
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
        // Takes the lock only if any engine's row was abandoned since.
        if self.inner.rows_abandoned() != self.known_count.get() {
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
