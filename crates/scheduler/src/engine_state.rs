//! Whether the engines can work.

use crate::engine::EngineError;

/// The state of all engines taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// Every engine works.
    Ready,
    /// Some engines are dead, the others do their work.
    Degraded {
        /// EngineSet that work.
        alive: usize,
        /// EngineSet that were started.
        total: usize,
    },
    /// An engine has been at one batch for longer than `stall_after`.
    Stalled,
    /// No engine is left; this is what ended the last one.
    Dead(EngineError),
}

impl EngineState {
    /// Whether jobs should be sent here.
    pub const fn is_serving(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded { .. })
    }
}
