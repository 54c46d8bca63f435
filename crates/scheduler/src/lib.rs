//! Requests of all clients in, batches out.
//!
//! A [`Scheduler`] owns one OS thread for each [`Engine`]. [`Scheduler::submit`] takes a [`Job`], one
//! question about one image, and gives a [`Ticket`] to await; whenever an engine is free it is
//! handed the best [`Batch`] that exists at that moment. The crate knows neither the model, nor the
//! protocol, nor wall-clock time: its clock is tokio's.

mod scheduler;

mod batch_sizing;
mod config;
mod cost;
mod engine;
mod engine_state;
mod error;
mod job;
mod metrics;
mod planning;
mod queue;
mod runtime;
mod snapshot;
mod state;
pub mod state_machine;
mod ticket;

pub use self::metrics::{METRICS, Metric, MetricKind, describe_metrics};
pub use batch_sizing::{BatchSizing, BatchTime};
pub use config::{BatchLimits, QueueLimits, SchedulerConfig};
pub use cost::model::{Coefficients, ServiceModel, Shape};
pub use engine::{
    Batch, BatchImage, BatchQuestion, Engine, EngineError, EngineErrorKind, EngineFactory, Rows,
};
pub use engine_state::EngineState;
pub use error::{JobError, Refused};
pub use job::{ClientId, Done, ImageKey, Job, Priority};
pub use scheduler::Scheduler;
pub use snapshot::{EngineSnapshot, Snapshot};
pub use ticket::{JobId, Ticket};
