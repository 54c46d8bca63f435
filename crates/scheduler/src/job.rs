//! What is asked of the scheduler, and what comes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Identity of an image: the BLAKE3 digest of its bytes.
pub type ImageDigest = [u8; 32];

/// Whom a job is counted to: an API key, or a connection where there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// The class of a job. Classes share an engine 64 : 8 : 1 while all of them have work waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody is waiting at a screen.
    High,
    /// The ordinary case.
    #[default]
    Normal,
    /// May wait: what engines do when nothing else is there.
    Low,
}

impl Priority {
    /// All classes, the most urgent one first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The class's part of an engine while every class has work waiting, in 73rds.
    pub const fn share(self) -> u64 {
        match self {
            Self::High => 64,
            Self::Normal => 8,
            Self::Low => 1,
        }
    }

    /// The class as a label of a metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// Where a flight is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// In the fair queue.
    Queued,
    /// Out of the order because its deadline cannot be met; computed only by an engine without other work.
    Infeasible,
    /// Part of a batch that failed, to be run again with fewer others.
    Retry,
    /// A row of a batch that runs.
    Running {
        /// Index of the engine.
        engine: usize,
        /// Index of the row.
        row: usize,
    },
}

impl JobStage {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Queued | Self::Infeasible | Self::Retry => "queued",
            Self::Running { .. } => "running",
        }
    }
}

/// One question about one image.
#[derive(Debug)]
pub struct Job<I, Q> {
    /// Whom it is counted to.
    pub client: ClientId,
    /// Its class.
    pub priority: Priority,
    /// The client's weight among the clients of the class; 0 counts as 1.
    pub weight: u32,
    /// When its answer is worthless. FinishedJob with [`DeadlineExceeded`](crate::JobError) at that moment.
    pub deadline: Option<Instant>,
    /// Identity of the image.
    pub image_digest: ImageDigest,
    /// The image.
    pub image: Arc<I>,
    /// What the image's payload takes in memory, in bytes; counted once while several jobs wait on it.
    pub image_bytes: usize,
    /// The question.
    pub question: Arc<Q>,
    /// Identity of the question's text and options. Jobs equal in this and in the image are computed once.
    pub question_key: [u8; 32],
    /// Length of the question in tokens.
    pub tokens: u32,
}

/// An answer, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion<A> {
    /// The engine's answer.
    pub answer: A,
    /// From submission to the start of the batch; zero for a job that joined a running row.
    pub queue: Duration,
    /// From the start of the batch (or from joining it) to this row's end.
    pub engine: Duration,
    /// Distinct images in the batch.
    pub batch_images: u32,
    /// Questions in the batch.
    pub batch_questions: u32,
    /// True when another job had asked for the same and this one was answered along with it.
    pub is_shared: bool,
}
