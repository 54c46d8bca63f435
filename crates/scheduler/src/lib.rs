//! Requests of all clients in, batches out.
//!
//! A [`Scheduler`] owns one OS thread for each [`Engine`]. [`Scheduler::submit`] takes a [`Job`], one
//! question about one image, and gives a [`Ticket`] to await; whenever an engine is free it is
//! handed the best [`Batch`] that exists at that moment. The crate knows neither the model, nor the
//! protocol, nor wall-clock time: its clock is tokio's.

mod config;
mod engine;
mod engine_thread;
mod error;
mod health;
mod job;
mod queue;
mod scheduler;
mod snapshot;
mod ticket;

pub use config::{BatchLimits, QueueLimits, SchedulerConfig};
pub use engine::{
    Batch, BatchImage, BatchQuestion, Engine, EngineError, EngineErrorKind, EngineFactory, Rows,
};
pub use error::{JobError, Refused};
pub use health::EngineState;
pub use job::{ClientId, Done, ImageKey, Job, Priority};
pub use scheduler::Scheduler;
pub use snapshot::Snapshot;
pub use ticket::{JobId, Ticket};
