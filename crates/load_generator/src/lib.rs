//! Questions about pictures, asked of a server at a chosen pace, and what became of them.
//!
//! It knows no protocol: whoever has one implements [`Target`]. Read in this order: [`workload`] (what is asked),
//! [`arrivals`] (when), [`closed`] and [`open`] (asking), [`report`] (what became of it), [`plot`] and [`compare`].
//!
//! Latency is counted from the moment at which a request *should* have been sent: a client that a slow server keeps from
//! sending would otherwise leave out just those waits that matter, which is called coordinated omission.

pub mod compare;
pub mod arrivals;
pub mod synthetic_images;
pub mod plot;
pub mod report;
mod run;
pub mod workload;

use std::future::Future;

pub use arrivals::Pace;
pub use report::Report;
pub use run::{NOT_SENT, Plan, Recording, Sample, closed, open};
pub use workload::{Ask, Traffic};

/// A server that can be asked, by whatever protocol. Clones of what it needs are its own affair: it is shared.
pub trait Target: Send + Sync + 'static {
    /// Asks, and waits until every question has its answer or its error.
    fn ask(&self, ask: Ask) -> impl Future<Output = Reply> + Send;
}

/// What became of the questions of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Questions that were answered.
    pub answered: u32,
    /// Why others were not: a short, stable reason for each.
    pub errors: Vec<String>,
}
