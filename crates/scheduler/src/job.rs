//! Jobs and their results.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// BLAKE3 digest of an image's bytes.
pub type ImageDigest = [u8; 32];

/// Who a job is charged to: an API key, or the network of a peer if keys are not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// The class of a job. Classes with work share an engine 64 : 8 : 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Interactive use.
    High,
    /// The default.
    #[default]
    Normal,
    /// Background work. Runs mostly when the other classes have none.
    Low,
}

impl Priority {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Returns the class's share of an engine in 73rds, while all classes have work.
    pub const fn share(self) -> u64 {
        match self {
            Self::High => 64,
            Self::Normal => 8,
            Self::Low => 1,
        }
    }

    /// Returns the class as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// The stage of a pending job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// In the fair queue.
    Queued,
    /// Cannot meet its deadline. Only an engine without other work computes it.
    Infeasible,
    /// Part of a failed batch, to be retried with fewer rows.
    Retry,
    /// A row of a running batch.
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
    /// Who the job is charged to.
    pub client: ClientId,
    /// The class.
    pub priority: Priority,
    /// The client's weight among the clients of the class. 0 counts as 1.
    pub weight: u32,
    /// When the job fails with [`DeadlineExceeded`](crate::JobError).
    pub deadline: Option<Instant>,
    /// Identifies the image.
    pub image_digest: ImageDigest,
    /// The image.
    pub image: Arc<I>,
    /// Memory of the image in bytes. Jobs that share an image count it once.
    pub image_bytes: usize,
    /// The question.
    pub question: Arc<Q>,
    /// Identifies the question's text and options. Jobs with equal keys and images run once.
    pub question_key: [u8; 32],
    /// Length of the question in tokens.
    pub tokens: u32,
    /// Decoder steps of all its hypotheses together, at most.
    pub decode_steps: u32,
}

/// The result of a job, with its statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion<A> {
    /// The engine's answer.
    pub answer: A,
    /// Time from submission to the start of the batch. Zero for a job that joined a running row.
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
