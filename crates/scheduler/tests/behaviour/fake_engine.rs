//! A fake engine that a test drives step by step, on paused time.
//!
//! The engine's thread stops at the start of each batch and executes the test's commands: finish a
//! row, fail, panic. Tokio advances a paused clock by itself unless a blocking task runs. So the
//! harness keeps a blocking task open, and only the test moves the clock.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;

use scheduler::{
    Batch, ClientId, Engine, EngineError, EngineErrorKind, EngineFactory, ImageDigest, Job, Priority,
    RowSink, Scheduler, SchedulerConfig, SubmitError, Ticket,
};
use tokio::sync::{mpsc, oneshot};

/// The content of a batch: image and question of each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchContents {
    pub(crate) engine: usize,
    pub(crate) images: Vec<u8>,
    pub(crate) rows: Vec<(u8, String)>,
}

impl BatchContents {
    pub(crate) fn questions(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, question)| question.as_str()).collect()
    }
}

type Command = Box<dyn FnOnce(&mut dyn RowSink<String>) -> Option<Result<(), EngineError>> + Send>;

/// The test's handle of a running batch.
pub(crate) struct RunningBatch {
    pub(crate) contents: BatchContents,
    commands: std_mpsc::Sender<Command>,
}

impl RunningBatch {
    /// Runs an action on the engine's thread and returns its result.
    pub(crate) async fn with_rows<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut dyn RowSink<String>) -> T + Send + 'static,
    ) -> T {
        let (done, is_done) = oneshot::channel();
        self.commands
            .send(Box::new(move |rows| {
                drop(done.send(action(rows)));
                None
            }))
            .unwrap();
        is_done.await.unwrap()
    }

    /// Finishes one row with its answer.
    pub(crate) async fn answer(&self, row: usize) {
        let answer = format!("answer to {}", self.contents.rows[row].1);
        self.with_rows(move |rows| rows.finish(row, Ok(answer))).await;
    }

    /// Finishes the batch: every open row gets its answer.
    pub(crate) fn complete(self) {
        let contents = self.contents.clone();
        self.end(move |rows| {
            for (row, (_, question)) in contents.rows.iter().enumerate() {
                if !rows.is_cancelled(row) {
                    rows.finish(row, Ok(format!("answer to {question}")));
                }
            }
            Ok(())
        });
    }

    /// Ends the batch with an error.
    pub(crate) fn fail(self, kind: EngineErrorKind) {
        self.end(move |_| Err(EngineError::new(kind, "made to fail")));
    }

    /// Ends the batch with the result of an action, which may panic.
    pub(crate) fn end(
        self,
        action: impl FnOnce(&mut dyn RowSink<String>) -> Result<(), EngineError> + Send + 'static,
    ) {
        self.commands.send(Box::new(move |rows| Some(action(rows)))).unwrap();
    }
}

/// The engine's side.
pub(crate) struct FakeEngine {
    index: usize,
    batches: mpsc::UnboundedSender<RunningBatch>,
}

impl Engine for FakeEngine {
    type Image = u8;
    type Question = String;
    type Answer = String;

    fn run(&mut self, batch: &Batch<u8, String>, rows: &mut dyn RowSink<String>) -> Result<(), EngineError> {
        let contents = BatchContents {
            engine: self.index,
            images: batch.images.iter().map(|image| *image.payload).collect(),
            rows: batch
                .questions
                .iter()
                .map(|question| (*batch.images[question.image].payload, question.payload.to_string()))
                .collect(),
        };
        let (commands, receiver) = std_mpsc::channel();
        drop(self.batches.send(RunningBatch { contents, commands }));
        while let Ok(command) = receiver.recv() {
            if let Some(result) = command(rows) {
                return result;
            }
        }
        Ok(())
    }
}

/// A scheduler with fake engines, on paused time.
pub(crate) struct Harness {
    pub(crate) scheduler: Scheduler<FakeEngine>,
    pub(crate) batches: mpsc::UnboundedReceiver<RunningBatch>,
    _paused_clock: std_mpsc::Sender<()>,
}

impl Harness {
    pub(crate) async fn with_engines(config: SchedulerConfig, engines: usize) -> Self {
        let (hold, held) = std_mpsc::channel::<()>();
        drop(tokio::task::spawn_blocking(move || held.recv()));
        let (sender, batches) = mpsc::unbounded_channel();
        let factories = (0..engines)
            .map(|index| {
                let batches = sender.clone();
                Box::new(move || Ok(FakeEngine { index, batches: batches.clone() }))
                    as EngineFactory<FakeEngine>
            })
            .collect();
        let scheduler = Scheduler::start(config, factories).await.unwrap();
        Self { scheduler, batches, _paused_clock: hold }
    }

    pub(crate) async fn new(config: SchedulerConfig) -> Self {
        Self::with_engines(config, 1).await
    }

    /// Returns the next batch that an engine starts.
    pub(crate) async fn batch(&mut self) -> RunningBatch {
        self.batches.recv().await.unwrap()
    }

    /// Checks that no batch starts at the current time.
    pub(crate) async fn nothing_starts(&mut self) {
        // A notified engine thread may not have run yet, so check several times.
        for _ in 0..50 {
            tokio::task::yield_now().await;
            std::thread::yield_now();
            assert!(self.batches.try_recv().is_err(), "batch was started");
        }
    }

    /// Drops the handle, and returns the batches that engines still start.
    pub(crate) fn into_batches(self) -> mpsc::UnboundedReceiver<RunningBatch> {
        self.batches
    }

    /// Submits a question about an image as client 1.
    pub(crate) fn ask(&self, image: u8, question: &str) -> Ticket<String> {
        self.submit(job(image, question)).unwrap()
    }

    pub(crate) fn submit(&self, job: Job<u8, String>) -> Result<Ticket<String>, SubmitError> {
        self.scheduler.submit(job)
    }
}

/// Returns the digest of a test image.
pub(crate) fn image_digest(image: u8) -> ImageDigest {
    [image; 32]
}

/// Returns a job of client 1 in the ordinary class, without deadline.
pub(crate) fn job(image: u8, question: &str) -> Job<u8, String> {
    let mut question_key = [0; 32];
    for (place, byte) in question_key.iter_mut().zip(question.bytes()) {
        *place = byte;
    }
    Job {
        client: ClientId(1),
        priority: Priority::Normal,
        weight: 1,
        deadline: None,
        image_digest: image_digest(image),
        image: Arc::new(image),
        image_bytes: 1000,
        question: Arc::new(question.to_owned()),
        question_key,
        tokens: 8,
        decode_steps: 0,
    }
}
