//! Requests of all clients in, batches out.
//!
//! A [`Scheduler`] owns one OS thread for each [`Engine`]. [`Scheduler::submit`] takes a [`Job`], one
//! question about one image, and gives a [`Ticket`] to await; whenever an engine is free it is
//! handed the best [`Batch`] that exists at that moment. The crate knows neither the model, nor the
//! protocol, nor wall-clock time: its clock is tokio's.
//!
//! From the outside in:
//! - [`engine`], [`job`], [`error`], [`ticket`], [`config`], [`health`], [`snapshot`]: what users see;
//! - [`scheduler`], [`shared`], [`engine_thread`], [`gate`]: the handle, the threads, where they meet;
//! - [`machine`]: everything that happens, as calls on one state, without threads and clock;
//! - [`policy`], with [`draft`] and [`deadline_cut`]: which batch is next, a pure function;
//! - [`fair_queue`]: whose turn it is; [`turn_price`]: what a turn is charged; [`admission`]: what is refused; [`service_model`]: how long
//!   things take; [`flight`]: single flight; [`image_index`]: images, riders, affinity;
//!   [`bisection`], [`memory_limit`]: failures; [`engine_slot`]: what is known of an engine;
//! - [`batch_sizing`]: limits of a batch from what batches take; [`telemetry`]: the metrics.
#![allow(rustdoc::private_intra_doc_links, reason = "a map of the inside, for its readers")]

mod admission;
mod batch_sizing;
mod bisection;
mod config;
mod deadline_cut;
mod draft;
mod engine;
mod engine_slot;
mod engine_thread;
mod error;
mod fair_queue;
mod flight;
mod gate;
mod health;
mod image_index;
#[cfg(test)]
mod interleavings;
mod job;
pub mod machine;
mod memory_limit;
mod policy;
mod scheduler;
mod service_model;
mod shared;
mod snapshot;
mod telemetry;
mod ticket;
mod turn_price;

/// The lock and the bell of [`gate`].
mod sync {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    pub(crate) use std::thread::yield_now;
}

pub use batch_sizing::{BatchSizing, BatchTime};
pub use config::{BatchLimits, QueueLimits, SchedulerConfig};
pub use engine::{
    Batch, BatchImage, BatchQuestion, Engine, EngineError, EngineErrorKind, EngineFactory, Rows,
};
pub use error::{JobError, Refused};
pub use health::EngineState;
pub use job::{ClientId, Done, ImageKey, Job, Priority};
pub use scheduler::Scheduler;
pub use service_model::{Coefficients, ServiceModel, Shape};
pub use snapshot::{EngineSnapshot, Snapshot};
pub use telemetry::{METRICS, Metric, MetricKind, describe_metrics};
pub use ticket::{JobId, Ticket};
