//! The thread an engine lives on: take a batch, run it, hand back its rows, again.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::{
    Batch, BatchImage, BatchQuestion, Engine, EngineError, EngineErrorKind, EngineFactory, Rows,
};
use crate::error::JobError;
use crate::job::Done;
use crate::queue::Waiting;
use crate::scheduler::{Payload, Shared};
use crate::ticket::Reply;

type Row<E> = Waiting<Payload<E>, Reply<<E as Engine>::Answer>>;

/// Builds the engine, says how that went, and serves until the scheduler closes or the engine dies.
pub(crate) fn serve<E: Engine>(
    shared: &Shared<E>,
    mut factory: EngineFactory<E>,
    ready: oneshot::Sender<Result<(), EngineError>>,
) {
    let mut engine = match build(&mut factory) {
        Ok(engine) => engine,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Some(rows) = shared.wait_for_batch() {
        let fatal = run_batch(shared, &mut engine, rows);
        if let Some(error) = fatal {
            shared.declare_dead(error);
            return;
        }
    }
}

fn build<E: Engine>(factory: &mut EngineFactory<E>) -> Result<E, EngineError> {
    catch_unwind(AssertUnwindSafe(factory)).unwrap_or_else(|_| {
        Err(EngineError::new(EngineErrorKind::Fatal, "engine panicked while it was built"))
    })
}

/// Runs one batch; gives back the error that ended the engine, if one did.
fn run_batch<E: Engine>(shared: &Shared<E>, engine: &mut E, rows: Vec<Row<E>>) -> Option<EngineError> {
    let mut images: Vec<BatchImage<E::Image>> = Vec::new();
    let mut places = HashMap::new();
    let mut questions = Vec::new();
    let mut open = Vec::new();
    for row in rows {
        let image = *places.entry(row.spec.image).or_insert_with(|| {
            images.push(BatchImage { key: row.spec.image, payload: Arc::clone(&row.payload.image) });
            images.len() - 1
        });
        questions.push(BatchQuestion {
            image,
            payload: Arc::clone(&row.payload.question),
            tokens: row.spec.tokens,
        });
        open.push(Some(row));
    }
    let batch = Batch { images, questions };
    let mut running = Running {
        started: Instant::now(),
        images: batch.images.len() as u32,
        questions: batch.questions.len() as u32,
        rows: open,
    };
    let result = catch_unwind(AssertUnwindSafe(|| engine.run(&batch, &mut running)))
        .unwrap_or_else(|_| Err(EngineError::new(EngineErrorKind::Fatal, "engine panicked")));
    let unfinished = EngineError::new(EngineErrorKind::Batch, "engine left the row without an outcome");
    let error = result.err();
    for row in 0..running.rows.len() {
        running.finish(row, Err(error.clone().unwrap_or_else(|| unfinished.clone())));
    }
    shared.batch_ended();
    error.filter(|error| error.kind == EngineErrorKind::Fatal)
}

/// The rows of the batch that runs.
struct Running<E: Engine> {
    started: Instant,
    images: u32,
    questions: u32,
    rows: Vec<Option<Row<E>>>,
}

impl<E: Engine> Rows<E::Answer> for Running<E> {
    fn finish(&mut self, row: usize, outcome: Result<E::Answer, EngineError>) {
        let Some(row) = self.rows.get_mut(row).and_then(Option::take) else { return };
        let done = outcome.map(|answer| Done {
            answer,
            queue: self.started - row.submitted,
            engine: self.started.elapsed(),
            batch_images: self.images,
            batch_questions: self.questions,
            shared: false,
        });
        // Nobody listens when the asker has left meanwhile.
        drop(row.waiter.send(done.map_err(JobError::Engine)));
    }

    fn is_cancelled(&self, row: usize) -> bool {
        match self.rows.get(row) {
            Some(Some(row)) => {
                row.waiter.is_closed() || row.spec.deadline.is_some_and(|deadline| deadline <= Instant::now())
            }
            _ => true,
        }
    }
}
