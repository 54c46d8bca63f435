//! The combined state of the engines.

use crate::engine::EngineError;

/// The combined state of all engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// All engines work.
    Ready,
    /// Some engines are dead. The others take over their work.
    Degraded {
        /// Engines that work.
        alive: usize,
        /// Engines that were started.
        total: usize,
    },
    /// A batch of an engine has run for longer than `stall_after`.
    Stalled,
    /// All engines are dead. The error is that of the last one.
    Dead(EngineError),
}

impl EngineState {
    /// Returns whether the engines accept jobs.
    pub const fn is_serving(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded { .. })
    }
}
