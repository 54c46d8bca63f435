//! Requests of all clients in, batches out.
//!
//! A [`Scheduler`] owns one OS thread for each [`Engine`]. [`Scheduler::submit`] takes a [`Job`], one
//! question about one image, and gives a [`Ticket`] to await; whenever an engine is free it is
//! handed the best [`Batch`] that exists at that moment. The crate knows neither the model, nor the
//! protocol, nor wall-clock time: its clock is tokio's.

mod scheduler;
mod batch_sizing;
mod runtime;
pub mod state_machine;
mod planning;
mod queue;
mod state;
mod metrics;
mod snapshot;
mod config;
mod cost;
mod ticket;
mod engine_state;
mod error;
mod engine;
mod ids;
mod job;
mod limits;

pub use self::metrics::{METRICS, MetricKind, MetricSpec, describe_metrics};
pub use batch_sizing::{BatchSizing, BatchTime};
pub use config::SchedulerConfig;
pub use cost::{BatchShape, CostCoefficients, CostModel};
pub use engine::{
    Batch, BatchImage, BatchQuestion, Engine, EngineError, EngineErrorKind, EngineFactory, RowSink,
};
pub use engine_state::EngineState;
pub use error::{JobError, SubmitError};
pub use ids::JobId;
pub use job::{ClientId, Completion, ImageDigest, Job, Priority};
pub use limits::{BatchLimits, QueueLimits};
pub use scheduler::Scheduler;
pub use snapshot::{EngineSnapshot, Snapshot};
pub use ticket::Ticket;
