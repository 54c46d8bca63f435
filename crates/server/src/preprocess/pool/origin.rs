//! Where a piece of work comes from.

use scheduler::Flow;
use tokio::time::Instant;

/// Where a piece of work comes from, which decides when its turn is.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client, its weight and the class of the work.
    pub flow: Flow,
    /// When the result is of no use any more.
    pub deadline: Option<Instant>,
}
