//! Batches the jobs of all clients and runs the batches on engines.
//!
//! [`Scheduler::submit`] takes a [`Job`], one question about one image, and returns a [`Ticket`]
//! that resolves to a [`Completion`]. A job passes through these modules:
//!
//! 1. [`scheduler`] passes it to [`runtime`], which locks the [`state_machine`] and applies the
//!    event.
//! 2. [`planning`] admits the job or rejects it. [`state`] and [`queue`] store it.
//! 3. When an engine is free, [`planning`] chooses the next [`Batch`]. [`queue`] decides whose turn
//!    it is, and [`cost`] predicts the batch's time.
//! 4. [`runtime`] runs the batch on the engine's thread and sends each result to its ticket.
//!
//! The crate knows neither the model, nor the protocol, nor wall-clock time: it uses tokio's clock.
//!
//! Modules are listed from top to bottom. Each uses only modules below it.
#![allow(rustdoc::private_intra_doc_links, reason = "the guide to the modules is for their readers")]

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
pub use planning::allowance::Room;
pub use queue::{
    contention::Contention,
    fair_line::{FairLine, Flow},
};
pub use scheduler::Scheduler;
pub use snapshot::{EngineSnapshot, Snapshot};
pub use ticket::Ticket;
